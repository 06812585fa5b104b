"""Evaluate a network on test/: figures, predictions and plots.

Without --weights, it is the network in the working folder, or the shipped one.

Examples of settings:
  --data FOLDER --tta flip
  --data FOLDER --labels ferplus --audit audit.json
  --weights runs/20261125-120000-default
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.backend import BACKENDS
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import LABELS, parse_classes
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.errors import ModelError, RunError
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.settings import (
    check_settings,
    from_keywords,
    setting,
    takes_settings,
)

if TYPE_CHECKING:
    from emotion_cnn.evaluation.evaluator import Evaluation
    from emotion_cnn.inference.backends import Backend

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateSettings:
    """Which network to evaluate on what, and where results go."""

    data: str = setting(".", shared.DATA_HELP, metavar="FOLDER", group="data")
    labels: str = setting("original", shared.LABELS_HELP, choices=LABELS)
    audit: str | None = setting(
        None,
        "audit.json of this data: report the figures on the part of test/ without a "
        "near-duplicate in train/ too; without it, an audit.json in the data folder "
        "is taken",
        metavar="FILE",
    )
    skip_bad: bool = setting(False, shared.SKIP_BAD_HELP)
    cache: str | None = shared.cache()
    no_cache: bool = shared.no_cache()
    weights: str | None = setting(
        None,
        f"{shared.NETWORK_HELP}; without it the pair in the working folder, else the "
        "shipped one; on drawn faces that of the last run on them",
        metavar="PATH",
        group="network",
    )
    class_order: str | None = shared.class_order()
    input_range: str | None = shared.input_range()
    tta: str = setting(
        "none",
        "test-time augmentation: average the probabilities of each image and its "
        "horizontal flip, or of ten crops",
        choices=tuple(VIEWS),
    )
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    output: str | None = setting(
        None,
        "new folder for metrics, predictions and plots; without it one in the run "
        "that is evaluated, or below --runs",
        metavar="PATH",
        group="results",
    )
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")

    def __post_init__(self) -> None:
        """Checks choices and names."""
        check_settings(self)
        if self.class_order is not None:
            parse_classes(self.class_order, setting="class_order")


SETTINGS = (EvaluateSettings,)


def run(**keywords: Any) -> None:
    """Evaluates as `evaluate` does, and prints the figures."""
    result = evaluate(**keywords)
    print(f"{result.report}\nResults: {result.folder}")


@takes_settings(SETTINGS)
def evaluate(**keywords: Any) -> "Evaluation":
    """Evaluates a network on the images of `test/`, and writes the results.

    Args:
        **keywords: The settings of `EvaluateSettings`; `emotion-cnn evaluate --help`
            explains each. Paths may be `pathlib.Path`.

    Returns:
        The figures, the plots and the folder with the files.

    Raises:
        EmotionCnnError: Images or network are missing or damaged.
    """
    settings = EvaluateSettings(**from_keywords(SETTINGS, keywords))
    cache = shared.image_cache(settings.cache, settings.no_cache)
    source = find_source(settings.data)
    shared.choose_backend(settings.weights, settings.backend)
    from emotion_cnn.data.loading import load_test_data
    from emotion_cnn.evaluation.assumptions import doubt_assumptions
    from emotion_cnn.evaluation.evaluator import evaluate_network
    from emotion_cnn.files import removed_if_empty
    from emotion_cnn.inference.backends.keras_network import KerasNetwork

    path, is_run = _find_network(settings, drawn_faces=source == SAMPLE_DATA)
    network = _read_network(path, settings)
    test, annotations = load_test_data(
        source,
        labels=settings.labels,
        audit=settings.audit,
        skip_bad=settings.skip_bad,
        classes=network.description.classes,
        size=network.description.input_size,
        cache=cache,
    )
    if isinstance(network, KerasNetwork) and not network.is_described:
        doubt = doubt_assumptions(network.network, test, labels=settings.labels)
        if doubt:
            _log.warning("%s", doubt)
    with removed_if_empty(_output_folder(settings, path if is_run else None)) as output:
        _log.info(
            "Evaluating %s on %s images (%s), test-time augmentation: %s.",
            path,
            f"{len(test):,}",
            source_name(source),
            settings.tta,
        )
        evaluation = evaluate_network(
            network,
            test,
            labels=settings.labels,
            tta=settings.tta,
            data=source,
            weights=str(path),
            folder=output,
            annotations=annotations,
        )
        evaluation.write()
    return evaluation


def _read_network(path: Path, settings: EvaluateSettings) -> "Backend":
    from emotion_cnn.inference.backends import read_network

    order, name = settings.class_order, settings.input_range
    return read_network(
        path,
        classes=None if order is None else parse_classes(order, setting="class_order"),
        input_range=None if name is None else INPUT_RANGES[name],
    )


def _find_network(
    settings: EvaluateSettings, *, drawn_faces: bool
) -> tuple[Path, bool]:
    """Returns where the network to evaluate is, and whether that is a run."""
    from emotion_cnn.inference.backends import KERAS, kind_of
    from emotion_cnn.models.shipped import default_folder
    from emotion_cnn.training.run_folder import RunFolder, find_runs

    runs = Path(settings.runs)
    if settings.weights is None:
        if not drawn_faces:
            return default_folder(), False
        finished = [run for run in find_runs(runs) if run.finished and _is_drawn(run)]
        if not finished:
            raise RunError(
                "Expected a network trained on the drawn faces, found no such run "
                f"below {runs}. Train one first: `emotion-cnn train`. (The shipped "
                "weights learned from photographs; to evaluate them on drawings would "
                "say nothing.)"
            )
        return finished[-1].path, True
    path = shared.find_network(settings.weights, settings.runs)
    if kind_of(path) != KERAS:
        if drawn_faces:
            _log.warning(
                "Whether this network was trained on drawn faces, an exported file "
                "does not say."
            )
        return path, False
    run = RunFolder(path)
    is_run = run.config.is_file()
    if drawn_faces and not _is_drawn(run):
        raise ModelError(
            f"Expected, for the drawn faces, a run that was trained on them; "
            f"{settings.weights} is none. Name a folder of images with `data`."
        )
    if not drawn_faces and _is_drawn(run):
        _log.warning("This network was trained on drawn faces, not on photographs.")
    return run.path, is_run


def _is_drawn(run: Any) -> bool:
    try:
        return bool(run.read_json(run.config).get("data") == SAMPLE_DATA)
    except RunError:
        return False


def _output_folder(settings: EvaluateSettings, run: Path | None) -> Path:
    from emotion_cnn.files import create_folder, open_output

    if settings.output:
        return open_output(Path(settings.output))
    now = f"{datetime.now():%Y%m%d-%H%M%S}"
    if run:
        return create_folder(run, f"evaluation-{now}", setting="output")
    return create_folder(Path(settings.runs), f"{now}-evaluation", setting="runs")
