"""Every setting of the tool: its default, its help text and its checks.

The command line derives its flags from these dataclasses, so a setting is
added here and nowhere else. A `Recipe` says how a network is trained and has
a name; a `TrainConfig` or `EvaluateConfig` says what on, and where to.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emotion_cnn.data.classes import (
    BOTH_LABELS,
    EMOTIONS,
    LABEL_MODES,
    LABELS,
    LEFT_OUT_CLASSES,
    emotion_from_name,
)
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.settings import ROOT, check_settings, setting
from emotion_cnn.training.recipes import RECIPES, Recipe

TEST_TIME_AUGMENTATIONS = tuple(VIEWS)
BACKENDS = ("tensorflow", "jax", "torch")
_BACKEND = os.environ.get("KERAS_BACKEND") or "tensorflow"

_DATA_HELP = (
    "folder with train/ and test/, each with a folder per emotion; "
    f"'{SAMPLE_DATA}' for the built-in drawn faces"
)
_SKIP_BAD_HELP = "leave damaged images out instead of stopping at them"
_BACKEND_HELP = "Keras backend"

_PUBLISH_HELP = (
    "folder whose model.json and model_weights.h5 a finished run on real images "
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
        "named settings to start from; without it, 'default' on images and "
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
        "folder with the model.json and model_weights.h5 to evaluate (a run, or a "
        "name below --runs); without it the shipped pair, on drawn faces the "
        "last run on them",
        metavar="FOLDER",
    )
    output: str | None = setting(
        None,
        "new folder for metrics, predictions and images; without it one in the run "
        "that is evaluated, or below --runs",
        metavar="PATH",
    )
    labels: str = setting("original", _LABELS_HELP, choices=LABELS)
    tta: str = setting(
        "none",
        "test-time augmentation: average the probabilities of each image and its "
        "horizontal flip, or of ten crops",
        choices=TEST_TIME_AUGMENTATIONS,
    )
    skip_bad: bool = setting(False, _SKIP_BAD_HELP)
    audit: str | None = setting(
        None,
        "audit.json of this data: report the figures on the part of test/ without a "
        "near-duplicate in train/ too; without it, an audit.json in the data folder is "
        "taken",
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
        "what to import: a table of pixels such as fer2013.csv, images in class "
        "folders, Parquet files; a file, a folder, or an archive of them",
        metavar="PATH",
    )
    data: str | None = setting(
        None, "data folder to write; without it the clone", metavar="FOLDER"
    )
    export: str | None = setting(
        None,
        "write the images to this new CSV file, in the format of fer2013.csv, "
        "instead of a data folder",
        metavar="FILE",
    )
    replace: bool = setting(
        False,
        "replace all of train/ and test/ in a data folder that holds images "
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
        "FER+'s fer2013new.csv: keep its ten votes per image in votes.csv",
        metavar="FILE",
    )
    ferplus_rows: str | None = setting(
        None,
        "CSV file with the columns image and row: which row of --ferplus each "
        "image is, where names do not say",
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
        if self.ferplus is None and self.ferplus_rows:
            raise ConfigError(
                "--ferplus-rows says whose votes are whose; add --ferplus "
                "fer2013new.csv."
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
