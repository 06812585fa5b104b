"""Every setting of the tool: its default, its help text and its checks.

The command line derives its flags from these dataclasses, so a setting is
added here and nowhere else. A `Recipe` says how a network is trained and has
a name; a `TrainConfig` or `EvaluateConfig` says what on, and where to.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion_cnn.emotions import EMOTIONS, LEFT_OUT_CLASSES, emotion_from_name
from emotion_cnn.errors import ConfigError

SAMPLE_DATA = "sample"
"""The value of `--data` that stands for the built-in drawn faces."""

LABELS = ("original", "ferplus")
"""Label sets; a network that answers for both does so in this order."""

BOTH_LABELS = "both"
LABEL_MODES = ("majority", "distribution")
TEST_TIME_AUGMENTATIONS = ("none", "flip", "ten-crop")
BACKENDS = ("tensorflow", "jax", "torch")
_BACKEND = os.environ.get("KERAS_BACKEND") or "tensorflow"
MODELS = ("baseline", "compact", "residual")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("plateau", "cosine", "one-cycle")
PRECISIONS = ("float32", "bfloat16", "float16")

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
ROOT = _PACKAGE_PARENT if (_PACKAGE_PARENT / "main.py").is_file() else Path.cwd()
"""The clone this package runs from; the working folder once it is installed."""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    metavar: str | None = None,
) -> Any:
    """Declares a dataclass field that is also a command-line flag.

    Args:
        default: Value without the flag; its type is the flag's type.
        help: One sentence for `--help`.
        choices: The names that are allowed, if only some are.
        minimum: Least number allowed, itself included.
        maximum: Greatest number allowed, itself included.
        metavar: What `--help` calls the value.

    Returns:
        A `dataclasses.field`.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "metavar": metavar,
        },
    )


def flag_name(field_name: str) -> str:
    """Returns the command-line flag of a field: `batch_size` is `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def check_settings(config: Any) -> None:
    """Checks every field of a config against its declared choices and range.

    Args:
        config: An instance of a dataclass of this module.

    Raises:
        ConfigError: A value is outside what its field allows; names the flag.
    """
    for declared in dataclasses.fields(config):
        rules = declared.metadata
        if not rules:
            continue
        value, flag = getattr(config, declared.name), flag_name(declared.name)
        kind = type(declared.default)
        if declared.default is None and value == "":
            raise ConfigError(
                f"{flag} is given, but empty; fill it in or leave it out."
            )
        if declared.default is not None and not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise ConfigError(f"{flag} is of type {kind.__name__}; found {value!r}.")
        if rules["choices"] and value is not None and value not in rules["choices"]:
            raise ConfigError(
                f"{flag} is one of {', '.join(rules['choices'])}; found {value!r}."
            )
        low, high = rules["minimum"], rules["maximum"]
        if low is not None and not low <= value <= high:
            raise ConfigError(
                f"{flag} is a number from {low:.10g} to {high:.10g}; found {value}."
            )


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; `RECIPES` holds the named ones."""

    model: str = setting("baseline", "network to train", choices=MODELS)
    epochs: int = setting(15, "passes over train/", minimum=1, maximum=100_000)
    batch_size: int = setting(64, "pictures per step", minimum=2, maximum=65_536)
    optimizer: str = setting(
        "adam",
        "Adam, AdamW, or SGD with Nesterov momentum",
        choices=OPTIMIZERS,
    )
    learning_rate: float = setting(
        5e-4,
        "learning rate at the start; of a cosine or one-cycle schedule, the highest",
        minimum=1e-9,
        maximum=10,
    )
    momentum: float = setting(0.9, "momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(
        0.0,
        "share of the weights, times the learning rate, that AdamW and SGD take off "
        "at every step; not off biases and batch normalisation",
        minimum=0,
        maximum=1,
    )
    schedule: str = setting(
        "plateau",
        "how the learning rate goes: down when the validation loss stops falling "
        "(ReduceLROnPlateau), down a cosine, or straight up and straight down "
        "(one-cycle)",
        choices=SCHEDULES,
    )
    warmup_epochs: float = setting(
        0.0,
        "with --schedule cosine or one-cycle: epochs in which the learning rate rises "
        "from 0",
        minimum=0,
        maximum=99_999,
    )
    plateau_factor: float = setting(
        0.1,
        "what ReduceLROnPlateau multiplies the learning rate by when the "
        "validation loss stops falling",
        minimum=1e-6,
        maximum=0.999,
    )
    plateau_patience: int = setting(
        2, "epochs without a lower validation loss before that", minimum=1, maximum=1000
    )
    minimum_learning_rate: float = setting(
        1e-5, "no schedule goes lower, but for a warm-up", minimum=0, maximum=10
    )
    early_stopping: int = setting(
        0,
        "stop after so many epochs without a better validation accuracy; 0: never",
        minimum=0,
        maximum=100_000,
    )
    average_weights: float = setting(
        0.0,
        "momentum of an exponential moving average of the weights over steps, which "
        "takes their place where the network is judged; in the end it gets "
        "batch-normalisation statistics of its own; 0: none",
        minimum=0,
        maximum=0.99999,
    )
    precision: str = setting(
        "float32",
        "numbers to compute with while training; weights stay float32. bfloat16 is "
        "half as fast again where the processor knows it (AVX-512, recent GPUs)",
        choices=PRECISIONS,
    )
    flip: bool = setting(True, "mirror training pictures at random")
    rotation: float = setting(
        0.0, "turn them by up to so many degrees", minimum=0, maximum=180
    )
    shift: float = setting(
        0.0, "move them by up to this share of their side", minimum=0, maximum=0.5
    )
    zoom: float = setting(
        0.0, "enlarge or shrink them by up to this share", minimum=0, maximum=0.5
    )
    brightness: float = setting(
        0.0, "lighten or darken them by up to this share of white", minimum=0, maximum=1
    )
    contrast: float = setting(
        0.0, "change their contrast by up to this share", minimum=0, maximum=1
    )
    erasing: float = setting(
        0.0, "chance that a rectangle of a picture is made gray", minimum=0, maximum=1
    )
    mixup: float = setting(
        0.0,
        "alpha of mixup, which blends pairs of pictures and their labels; 0: none",
        minimum=0,
        maximum=10,
    )
    cutmix: float = setting(
        0.0,
        "alpha of CutMix, which pastes a part of one picture into another; 0: none; "
        "with mixup, batches take turns at random",
        minimum=0,
        maximum=10,
    )
    label_smoothing: float = setting(
        0.0,
        "share of a label that is spread over all emotions; votes that differ stay as "
        "they are",
        minimum=0,
        maximum=0.9,
    )
    vote_smoothing: float = setting(
        0.0,
        f"with --labels {BOTH_LABELS}: share of every original label that is replaced "
        "by the labels that the picture's votes let expect, by a logistic regression "
        "on the training pictures; takes the place of label smoothing there",
        minimum=0,
        maximum=1,
    )
    balance: float = setting(
        0.0,
        "from 0, every picture once an epoch, to 1, pictures drawn so that every "
        "emotion comes as often as the others",
        minimum=0,
        maximum=1,
    )
    low_resolution: int = setting(
        32, "side in pixels of the pictures in those epochs", minimum=16, maximum=47
    )
    low_resolution_epochs: int = setting(
        0,
        "epochs at the beginning that train on smaller pictures, for speed; needs a "
        "network that averages: residual",
        minimum=0,
        maximum=99_999,
    )
    calibrate: bool = setting(
        False,
        "scale the finished network's logits by the temperature that suits the "
        "validation pictures best, so that it is right as often as it is sure",
    )

    def __post_init__(self) -> None:
        """Checks ranges, and the settings that must agree."""
        check_settings(self)
        if self.minimum_learning_rate > self.learning_rate:
            raise ConfigError(
                f"--minimum-learning-rate ({self.minimum_learning_rate:g}) is above "
                f"--learning-rate ({self.learning_rate:g}); lower the one or raise "
                "the other."
            )
        if self.weight_decay and self.optimizer == "adam":
            raise ConfigError(
                "--weight-decay is for --optimizer adamw or sgd; choose one of them, "
                "or leave it out."
            )
        if self.warmup_epochs and self.schedule == "plateau":
            raise ConfigError(
                "--warmup-epochs is for --schedule cosine or one-cycle; choose one of "
                "them, or leave it out."
            )
        for flag, epochs in (
            ("--warmup-epochs", self.warmup_epochs),
            ("--low-resolution-epochs", self.low_resolution_epochs),
        ):
            if epochs and epochs >= self.epochs:
                raise ConfigError(
                    f"{flag} ({epochs:g}) is the beginning of --epochs "
                    f"({self.epochs}); lower the one or raise the other."
                )


# The first of the two runs behind the shipped weights.
_FOUNDATION = Recipe(
    model="residual",
    epochs=60,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-3,
    schedule="one-cycle",
    warmup_epochs=12,
    average_weights=0.998,
    precision="bfloat16",
    rotation=12,
    shift=0.1,
    zoom=0.12,
    brightness=0.15,
    contrast=0.3,
    erasing=0.3,
    label_smoothing=0.1,
    vote_smoothing=0.5,
    low_resolution_epochs=33,
    calibrate=True,
)

RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(),
    # Learns the drawn faces within minutes on two CPU cores. They are few: small
    # batches give batch normalisation the hundreds of steps it takes to settle,
    # and until then the validation loss says nothing, hence the patience.
    "sample": Recipe(
        model="compact",
        epochs=10,
        batch_size=16,
        learning_rate=1e-3,
        plateau_patience=4,
    ),
    # The shortest way to a useful network on two CPU cores.
    "quick": Recipe(
        model="compact",
        epochs=12,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=2e-3,
        schedule="one-cycle",
        warmup_epochs=3,
        precision="bfloat16",
    ),
    "foundation": _FOUNDATION,
    # Goes on from the foundation's weights (--weights) to the shipped ones;
    # docs/experiments.md says what led here.
    "best": dataclasses.replace(
        _FOUNDATION,
        epochs=71,
        learning_rate=0.07,
        warmup_epochs=5,
        vote_smoothing=0.3,
        low_resolution_epochs=24,
    ),
}

_DATA_HELP = (
    "folder with train/ and test/, each with a folder per emotion; "
    f"'{SAMPLE_DATA}' for the built-in drawn faces"
)
_SKIP_BAD_HELP = "leave damaged pictures out instead of stopping at them"
_BACKEND_HELP = "Keras backend"
_PUBLISH_HELP = (
    "folder whose model.json and model_weights.h5 a finished run on real pictures "
    "replaces"
)
_LABELS_HELP = (
    "labels to go by: those of the folders, or what the crowd of FER+ sees, by the "
    "votes.csv that --mode prepare --ferplus writes"
)


@dataclass(frozen=True)
class TrainConfig:
    """What `--mode train` works on.

    `settings` are those of the recipe that were given one by one, by field name.
    """

    data: str = setting(str(ROOT), _DATA_HELP, metavar="FOLDER")
    recipe: str | None = setting(
        None,
        "named settings to start from; without it, 'default' on pictures and "
        "'sample' on drawn faces; 'best' goes on, with --weights, from what "
        "'foundation' trained",
        choices=tuple(RECIPES),
    )
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = setting(
        None,
        "start from the network in this folder (a run, or a name below --runs; a "
        "clone holds the shipped one, of --model residual) instead of from random "
        "weights",
        metavar="FOLDER",
    )
    labels: str = setting(
        "original",
        f"{_LABELS_HELP}; {BOTH_LABELS}: a network that answers for either, so that "
        "evaluate chooses",
        choices=(*LABELS, BOTH_LABELS),
    )
    label_mode: str = setting(
        "majority",
        "with --labels ferplus: train on the emotion that most see, or on the "
        "distribution of the votes",
        choices=LABEL_MODES,
    )
    skip_bad: bool = setting(False, _SKIP_BAD_HELP)
    leave_out: str | None = setting(
        None,
        "audit.json of this data: leave out of train/ what stands in test/ too",
        metavar="FILE",
    )
    validation_share: float = setting(
        0.1,
        "share of train/ held out for validation where the file names do not "
        "carry FER2013's PublicTest",
        minimum=0.01,
        maximum=0.5,
    )
    seed: int = setting(42, "fixes every random choice", minimum=0, maximum=2**31 - 1)
    backend: str = setting(_BACKEND, _BACKEND_HELP, choices=BACKENDS)
    runs: str = setting(
        str(ROOT / "runs"), "folder that gets a folder per run", metavar="FOLDER"
    )
    publish: str = setting(
        str(ROOT),
        _PUBLISH_HELP,
        metavar="FOLDER",
    )
    tensorboard: bool = setting(False, "write TensorBoard logs into the run folder")

    def __post_init__(self) -> None:
        """Checks ranges, choices and the recipe with its single settings."""
        check_settings(self)
        self.resolve_recipe(drawn_faces=self.data == SAMPLE_DATA)
        if self.label_mode == "distribution" and self.labels != "ferplus":
            raise ConfigError(
                "--label-mode distribution is for --labels ferplus, found --labels "
                f"{self.labels}; choose ferplus, or leave it out ({BOTH_LABELS} means "
                "the distribution anyway)."
            )
        if self.recipe == "best" and self.weights is None:
            raise ConfigError(
                "--recipe best goes on from what --recipe foundation trained; name "
                "that run, or the folder of its weights, with --weights."
            )
        if self.settings.get("vote_smoothing") and self.labels != BOTH_LABELS:
            raise ConfigError(
                f"--vote-smoothing is for --labels {BOTH_LABELS}, found --labels "
                f"{self.labels}; choose {BOTH_LABELS}, or leave it out."
            )

    def recipe_name(self, *, drawn_faces: bool) -> str:
        """Returns the recipe asked for, or the one that suits the data."""
        return self.recipe or ("sample" if drawn_faces else "default")

    def resolve_recipe(self, *, drawn_faces: bool) -> Recipe:
        """Returns the recipe to train with, single settings applied.

        Args:
            drawn_faces: Whether the data are the built-in drawn faces.

        Raises:
            ConfigError: The settings together are outside what is allowed.
        """
        named = RECIPES[self.recipe_name(drawn_faces=drawn_faces)]
        if self.labels != BOTH_LABELS:
            named = dataclasses.replace(named, vote_smoothing=0)
        return dataclasses.replace(named, **self.settings)


@dataclass(frozen=True)
class ResumeConfig:
    """What `--mode train --resume RUN` works on; the rest stands in the run."""

    resume: str = setting(
        "",
        "continue this interrupted run (a folder, or a name below --runs) with "
        "the settings it was started with",
        metavar="RUN",
    )
    data: str | None = setting(None, _DATA_HELP, metavar="FOLDER")
    publish: str | None = setting(None, _PUBLISH_HELP, metavar="FOLDER")
    runs: str = setting(
        str(ROOT / "runs"), "folder that gets a folder per run", metavar="FOLDER"
    )


@dataclass(frozen=True)
class EvaluateConfig:
    """What `--mode evaluate` works on."""

    data: str = setting(str(ROOT), _DATA_HELP, metavar="FOLDER")
    weights: str | None = setting(
        None,
        "folder with the model.json and model_weights.h5 to judge (a run, or a "
        "name below --runs); without it the shipped pair, on drawn faces the "
        "last run on them",
        metavar="FOLDER",
    )
    output: str | None = setting(
        None,
        "new folder for metrics, predictions and pictures; without it one in the run "
        "that is judged, or below --runs",
        metavar="PATH",
    )
    labels: str = setting("original", _LABELS_HELP, choices=LABELS)
    tta: str = setting(
        "none",
        "test-time augmentation: average the probabilities of each picture and its "
        "mirror image, or of ten crops",
        choices=TEST_TIME_AUGMENTATIONS,
    )
    skip_bad: bool = setting(False, _SKIP_BAD_HELP)
    audit: str | None = setting(
        None,
        "audit.json of this data: report the figures on the part of test/ without a "
        "twin in train/ too; without it, an audit.json in the data folder is taken",
        metavar="FILE",
    )
    backend: str = setting(_BACKEND, _BACKEND_HELP, choices=BACKENDS)
    runs: str = setting(
        str(ROOT / "runs"), "folder that gets a folder per run", metavar="FOLDER"
    )

    def __post_init__(self) -> None:
        """Checks choices."""
        check_settings(self)


@dataclass(frozen=True)
class AuditConfig:
    """What `--mode audit` works on."""

    data: str = setting(str(ROOT), _DATA_HELP, metavar="FOLDER")
    output: str | None = setting(
        None,
        "new folder for audit.json, audit.txt and audit.html; without it one below "
        "--runs",
        metavar="PATH",
    )
    runs: str = setting(
        str(ROOT / "runs"), "folder that gets a folder per run", metavar="FOLDER"
    )


@dataclass(frozen=True)
class CurvesConfig:
    """What `--mode curves` works on."""

    run: str = setting(
        "", "run whose loss curves are drawn from its history.csv", metavar="RUN"
    )
    output: str | None = setting(
        None,
        "PNG to write; without it loss_curves.png in the run",
        metavar="PATH",
    )
    runs: str = setting(
        str(ROOT / "runs"), "folder that gets a folder per run", metavar="FOLDER"
    )

    def __post_init__(self) -> None:
        """Checks the output."""
        check_settings(self)
        if self.output and not self.output.lower().endswith(".png"):
            raise ConfigError(
                "--output is the PNG to write, a name that ends in .png; found "
                f"{self.output!r}."
            )


@dataclass(frozen=True)
class PrepareConfig:
    """What `--mode prepare` works on."""

    source: str = setting(
        "",
        "what to import: a table of pixels such as fer2013.csv, pictures in class "
        "folders, Parquet files; a file, a folder, or an archive of them",
        metavar="PATH",
    )
    data: str | None = setting(
        None, "data folder to write; without it the clone", metavar="FOLDER"
    )
    export: str | None = setting(
        None,
        "write the pictures to this new CSV file, in the format of fer2013.csv, "
        "instead of a data folder",
        metavar="FILE",
    )
    replace: bool = setting(
        False,
        "replace all of train/ and test/ in a data folder that holds pictures "
        "(files directly in them stay), or the file of --export",
    )
    classes: str | None = setting(
        None,
        "what names or numbers of classes stand for, such as 1=surprise,2=fear; "
        "contempt is left out and counted",
        metavar="NAME=EMOTION,...",
    )
    test_share: float = setting(
        0.2,
        "share of every class that becomes test/ where the source has no split",
        minimum=0.01,
        maximum=0.9,
    )
    seed: int = setting(42, "fixes every random choice", minimum=0, maximum=2**31 - 1)
    skip_bad: bool = setting(False, _SKIP_BAD_HELP)
    ferplus: str | None = setting(
        None,
        "FER+'s fer2013new.csv: keep its ten votes per picture in votes.csv",
        metavar="FILE",
    )
    ferplus_rows: str | None = setting(
        None,
        "CSV file with the columns image and row: which row of --ferplus each "
        "picture is, where names do not say",
        metavar="FILE",
    )
    match: str | None = setting(
        None,
        "fer2013.csv: find each picture's row of --ferplus by its pixels",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        """Checks ranges, classes, and the settings that must agree."""
        check_settings(self)
        self.class_names()
        if not self.source:
            raise ConfigError("--mode prepare needs --source PATH: what to import.")
        if self.export is not None and self.data is not None:
            raise ConfigError(
                "--export writes a file and --data a folder; leave one of them out."
            )
        if self.data == SAMPLE_DATA:
            raise ConfigError(
                f"--data {SAMPLE_DATA} stands for the built-in drawn faces; name a "
                f"folder to write to (./{SAMPLE_DATA} for one of that name)."
            )
        if self.ferplus_rows is not None and self.match is not None:
            raise ConfigError(
                "--ferplus-rows and --match are two ways to the same; leave one out."
            )
        if self.ferplus is None and (self.ferplus_rows or self.match):
            flag = "--ferplus-rows" if self.ferplus_rows else "--match"
            raise ConfigError(
                f"{flag} says whose votes are whose; add --ferplus fer2013new.csv."
            )

    def class_names(self) -> dict[str, str]:
        """Returns what `classes` says: names to emotions or `LEFT_OUT_CLASSES`.

        Raises:
            ConfigError: It is no list of that kind, or an emotion is unknown.
        """
        names: dict[str, str] = {}
        for pair in self.classes.split(",") if self.classes else ():
            name, _, given = (part.strip() for part in pair.partition("="))
            emotion = emotion_from_name(given)
            if given.lower() in LEFT_OUT_CLASSES:
                emotion = given.lower()
            if not name or emotion is None:
                raise ConfigError(
                    "--classes is a list such as 1=surprise,2=fear of "
                    f"{', '.join((*EMOTIONS, *LEFT_OUT_CLASSES))}; found {pair!r}."
                )
            if names.setdefault(name.lower(), emotion) != emotion:
                raise ConfigError(
                    f"--classes gives {name!r} two meanings, {names[name.lower()]} and "
                    f"{emotion}; leave one out."
                )
        return names
