"""Export a network to the files of other runtimes, each compared with it.

Without --weights, it is the network in the working folder, or the shipped one.

Examples of settings:
  --data FOLDER --format onnx,litert
  --data FOLDER --format all --quantize int8
  --weights runs/20261125-120000-default --output exported
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.commands import shared
from emotion_cnn.data.classes import EMOTIONS, parse_classes
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.errors import ConfigError, ModelError
from emotion_cnn.models.export_formats import FORMATS, LONGEST_TEXT, QUANTIZATIONS
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.settings import (
    check_settings,
    from_keywords,
    setting,
    takes_settings,
)

if TYPE_CHECKING:
    from emotion_cnn.exporting.exports import Exported
    from emotion_cnn.models.description import Network

ALL = "all"


@dataclass(frozen=True)
class ExportSettings:
    """Which network to export to what, and on which images to compare."""

    weights: str | None = setting(
        None,
        "folder with the model.json and model_weights.h5 to export (a run, or a name "
        "below --runs); without it those in the working folder, else the shipped ones",
        metavar="FOLDER",
        group="network",
    )
    class_order: str | None = shared.class_order()
    input_range: str | None = shared.input_range()
    format: str = setting(
        "onnx",
        f"formats, separated by commas: {', '.join(FORMATS)}; {ALL} for every format "
        "that has the quantisation (torch only where it is installed)",
        metavar="NAMES",
        group="files",
    )
    quantize: str = setting(
        "none",
        "how numbers are stored: none (float32); float16 or int8-weights (smaller "
        "files); int8, of weights and activations (faster, too; needs --data)",
        choices=QUANTIZATIONS,
    )
    license: str | None = setting(
        None,
        "licence of the weights, to be written into the files; without it that of the "
        "shipped weights, if they are exported, else 'not stated'",
        metavar="NAME",
        is_path=False,
    )
    output: str = setting(
        "exported",
        "folder for the files and parity.json; what was exported there before is "
        "replaced",
        metavar="PATH",
    )
    data: str = setting(
        ".",
        "folder with train/ and test/, each with a folder per class: validation images "
        "compare files and network, training images give the ranges for int8; "
        f"'{SAMPLE_DATA}' for the built-in drawn faces",
        metavar="FOLDER",
        group="data",
    )
    skip_bad: bool = setting(False, shared.SKIP_BAD_HELP)
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")

    def __post_init__(self) -> None:
        """Checks choices and names."""
        check_settings(self)
        if self.class_order is not None:
            parse_classes(self.class_order, setting="class_order")
        license = self.license or ""
        if not license.isprintable() or len(license) > LONGEST_TEXT:
            raise ConfigError(
                f"`license` is a text of at most {LONGEST_TEXT} characters on one "
                f"line; found {license[:100]!a}."
            )
        unknown = [name for name in self.formats if name not in (*FORMATS, ALL)]
        if unknown or (ALL in self.formats and len(self.formats) > 1):
            raise ConfigError(
                f"`format` names {', '.join(FORMATS)}, separated by commas, or is "
                f"{ALL}; found {self.format[:100]!a}."
            )

    @property
    def formats(self) -> tuple[str, ...]:
        """The names in `format`."""
        return tuple(name.strip() for name in self.format.split(","))


SETTINGS = (ExportSettings,)


def run(**keywords: Any) -> None:
    """Exports as `export` does, and prints where the files are."""
    files = export(**keywords)
    print(f"Results: {files[0].path.parent}")


@takes_settings(SETTINGS)
def export(**keywords: Any) -> "list[Exported]":
    """Exports a network to the files of other runtimes, each compared with it.

    Args:
        **keywords: The settings of `ExportSettings`; `emotion-cnn export --help`
            explains each. Paths may be `pathlib.Path`, `format` several names.

    Returns:
        The files, with what was found of each.

    Raises:
        EmotionCnnError: Images or network are missing or damaged; a file does not
            answer as the network does, and was not kept.
    """
    settings = ExportSettings(**from_keywords(SETTINGS, keywords))
    source = find_source(settings.data)
    from emotion_cnn.backend import use_backend
    from emotion_cnn.exporting.exports import export_network, formats_of

    formats = formats_of(settings.formats, settings.quantize)
    if settings.quantize == "int8" and source != settings.data:
        raise ConfigError(
            "`quantize=int8` measures ranges on training images, found none. Name "
            f"their folder with `data`; `data={SAMPLE_DATA}` takes the drawn faces, "
            "which fits networks that were trained on them."
        )
    backend = use_backend(quiet=True)
    # For Torch another process does it.
    if backend != "tensorflow" and set(formats) != {"torch"}:
        raise ConfigError(
            "Expected Keras to run on TensorFlow, which exports, found it on "
            f"{backend}. Set the environment variable KERAS_BACKEND to tensorflow."
        )
    from emotion_cnn.data.loading import load_training_data

    network = _read_network(settings)
    description = network.description
    if source == SAMPLE_DATA and description.classes != EMOTIONS:
        raise ModelError(
            f"Expected a network of {', '.join(EMOTIONS)}, which the drawn faces show; "
            f"found one of {', '.join(description.classes)}. Name a folder of images "
            "of these classes with `data`."
        )
    data, _ = load_training_data(
        source,
        labels="original",
        distribution=False,
        leave_out=None,
        skip_bad=settings.skip_bad,
        validation_share=shared.VALIDATION_SHARE,
        seed=shared.SEED,
        vote_smoothing=0,
        classes=description.classes,
        size=description.input_size,
    )
    return export_network(
        network,
        formats=formats,
        quantize=settings.quantize,
        license=settings.license or _license_of(network),
        train=data.train,
        images=data.validation,
        images_name=f"{source_name(source)}: {data.validation_source}",
        output=Path(settings.output),
    )


def _read_network(settings: ExportSettings) -> "Network":
    from emotion_cnn.models.pair import read_pair
    from emotion_cnn.models.shipped import default_folder
    from emotion_cnn.training.run_folder import run_or_folder

    order, name = settings.class_order, settings.input_range
    return read_pair(
        default_folder()
        if settings.weights is None
        else run_or_folder(settings.weights, Path(settings.runs)),
        classes=None if order is None else parse_classes(order, setting="class_order"),
        input_range=None if name is None else INPUT_RANGES[name],
    )


def _license_of(network: "Network") -> str:
    from emotion_cnn.models.pair_files import open_pair
    from emotion_cnn.models.shipped import shipped_folder

    with open_pair(shipped_folder()) as shipped:
        return "MIT" if network.weights_sha256 == shipped.digest else "not stated"
