"""The settings of a training, and those of one that continues."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.backend import BACKENDS
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import (
    BOTH_LABELS,
    LABEL_MODES,
    LABELS,
    parse_classes,
)
from emotion_cnn.data.folds import parse_fold
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError, RunError
from emotion_cnn.files import first_line, shown
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.settings import check_settings, setting
from emotion_cnn.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from emotion_cnn.data.cache import ImageCache
    from emotion_cnn.training.run_folder import RunFolder

_PUBLISH_HELP = (
    "folder whose model.json and model_weights.h5 a finished run on real images "
    "replaces"
)
_DISTRIBUTED_HELP = (
    "with `backend=jax`: train on all devices of this process, and of those that srun, "
    "mpirun or KERAS_DISTRIBUTION_* variables name; see docs/scale.md"
)
_CONTINUED = {"best": "foundation", "branch": "student"}
"""Recipes that are not for random weights, and what trains those that they want."""
_PLACES = ("leave_out", "soft_labels", "weights")
"""Settings that name what is read besides the data."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train on, and where results go; `settings` override the recipe's."""

    data: str = setting(".", shared.DATA_HELP, metavar="FOLDER", group="data")
    classes: str | None = setting(
        None, shared.CLASSES_HELP, metavar="NAMES", is_path=False
    )
    labels: str = setting(
        "original",
        f"{shared.LABELS_HELP}; {BOTH_LABELS}: a network that predicts either, so that "
        "evaluate chooses",
        choices=(*LABELS, BOTH_LABELS),
    )
    label_mode: str = setting(
        "majority",
        "with --labels ferplus: train on the emotion that most votes are for, or on "
        "the distribution of the votes",
        choices=LABEL_MODES,
    )
    leave_out: str | None = setting(
        None,
        "audit.json of this data: leave out of train/ what has a near-duplicate in "
        "test/",
        metavar="FILE",
    )
    validation_share: float = shared.validation_share()
    fold: str | None = setting(
        None,
        "with --leave-out: train on the other N-1 of N folds of train/, which keep "
        "near-duplicates together, and validate on this one, from 1; its predictions "
        "are written to out_of_fold.npz, and nothing is published",
        metavar="K/N",
    )
    soft_labels: str | None = setting(
        None,
        "folder of runs with --fold, all N of them for each of their seeds: mix what "
        "they predict for the fold that they have not seen into the labels",
        metavar="FOLDER",
    )
    skip_bad: bool = setting(False, shared.SKIP_BAD_HELP)
    recipe: str | None = setting(
        None,
        "named settings to start from; without it 'default', or 'sample' on drawn "
        "faces (the defaults below are those of 'default'); with --weights, 'best' "
        "continues what 'foundation' trained, and 'branch' what 'student' did",
        choices=tuple(RECIPES),
        group="run",
    )
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = setting(
        None,
        "start from the network in this folder (a run, or a name below --runs) "
        "instead of from random weights",
        metavar="FOLDER",
    )
    seed: int = shared.seed()
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    distributed: bool = setting(False, _DISTRIBUTED_HELP)
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")
    publish: str = setting(".", _PUBLISH_HELP, metavar="FOLDER")
    tensorboard: bool = setting(False, "write TensorBoard logs into the run folder")

    def __post_init__(self) -> None:
        """Checks ranges, choices and the recipe with its single settings."""
        check_settings(self)
        if self.classes is not None:
            parse_classes(self.classes)
        self.resolve_recipe(drawn_faces=self.data == SAMPLE_DATA)
        if self.label_mode == "distribution" and self.labels != "ferplus":
            raise ConfigError(
                "`label_mode=distribution` is for `labels=ferplus`, found "
                f"`labels={self.labels}`; choose ferplus, or leave it out "
                f"({BOTH_LABELS} means the distribution anyway)."
            )
        if self.distributed and self.backend != "jax":
            raise ConfigError(
                "`distributed` needs `backend=jax`, found "
                f"{f'`backend={self.backend}`' if self.backend else 'none named'}; "
                "choose jax, or leave `distributed` out."
            )
        before = _CONTINUED.get(self.recipe or "")
        if before and self.weights is None:
            raise ConfigError(
                f"`recipe={self.recipe}` continues what `recipe={before}` trained; "
                "name that run, or the folder of its weights, with `weights`."
            )
        if self.fold is not None:
            parse_fold(self.fold)
            if self.leave_out is None:
                raise ConfigError(
                    "`fold` needs the audit of the data, as near-duplicates are in one "
                    "fold; name its audit.json with `leave_out`."
                )
            if self.soft_labels is not None:
                raise ConfigError(
                    "`fold` and `soft_labels` exclude each other: most of the networks "
                    "behind the soft labels were trained on the fold to be held out."
                )
        if self.soft_labels is not None and self.labels == "ferplus":
            raise ConfigError(
                "`soft_labels` take the place of original labels and of missing votes, "
                f"and change nothing with `labels=ferplus`; choose {BOTH_LABELS} or "
                "original, or leave them out."
            )
        if self.settings.get("vote_smoothing") and self.labels != BOTH_LABELS:
            raise ConfigError(
                f"`vote_smoothing` is for `labels={BOTH_LABELS}`, found "
                f"`labels={self.labels}`; choose {BOTH_LABELS}, or leave it out."
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
        if self.labels != BOTH_LABELS or self.soft_labels is not None:
            named = dataclasses.replace(named, vote_smoothing=0)
        recipe = dataclasses.replace(named, **self.settings)
        self._check_used(named, recipe)
        if recipe.changes_size and not ARCHITECTURES[recipe.model].average:
            able = [name for name, each in ARCHITECTURES.items() if each.average]
            raise ConfigError(
                "`progressive_sizes` needs a network that takes images of any size; "
                f"found `model={recipe.model}`. Choose {', '.join(able)}, or "
                "`progressive_sizes=False`."
            )
        return recipe

    def _check_used(self, named: Recipe, recipe: Recipe) -> None:
        """Checks that what was changed of a named recipe changes the training.

        Raises:
            ConfigError: A setting is for another optimiser or schedule, or for soft
                labels, and would be ignored.
        """
        falls_by_loss = recipe.schedule == "plateau"
        for name, is_used, use in (
            ("momentum", recipe.optimizer == "sgd", "optimizer=sgd"),
            ("plateau_factor", falls_by_loss, "schedule=plateau"),
            ("plateau_patience", falls_by_loss, "schedule=plateau"),
            ("soft_share", self.soft_labels is not None, "soft_labels"),
        ):
            if not is_used and getattr(recipe, name) != getattr(named, name):
                raise ConfigError(
                    f"`{name}` is for `{use}`, and changes nothing without; choose "
                    "that, or leave it out."
                )

    @property
    def label_sets(self) -> tuple[str, ...]:
        """The label sets that the network predicts."""
        return LABELS if self.labels == BOTH_LABELS else (self.labels,)

    @property
    def publishes(self) -> bool:
        """Whether the finished network replaces the one in `publish`."""
        return self.data != SAMPLE_DATA and self.fold is None

    def with_whole_paths(self) -> "TrainSettings":
        """Returns the settings as a run keeps them: it may be resumed elsewhere."""
        names = ["runs", "publish"]
        names += ["data"] if self.data != SAMPLE_DATA else []
        names += [name for name in _PLACES if getattr(self, name)]
        whole: dict[str, Any] = {
            name: str(Path(getattr(self, name)).resolve()) for name in names
        }
        return dataclasses.replace(self, **whole)


@dataclass(frozen=True)
class CacheSettings:
    """Where decoded images are kept; not a run's, as it changes no result."""

    cache: str | None = shared.cache()
    no_cache: bool = shared.no_cache()

    def __post_init__(self) -> None:
        """Checks types."""
        check_settings(self)

    def open(self) -> "ImageCache | None":
        """Returns the cache; None for none."""
        return shared.image_cache(self.cache, self.no_cache)


@dataclass(frozen=True)
class ResumeSettings:
    """What continues an interrupted run; the rest is read from its folder."""

    resume: str = setting(
        "",
        "continue this interrupted run (a folder, or a name below --runs) with "
        "the settings it was started with; --data, --publish, --runs and "
        "--distributed can go with it",
        metavar="RUN",
        group="an interrupted run",
    )
    data: str | None = setting(None, shared.DATA_HELP, metavar="FOLDER")
    publish: str | None = setting(None, _PUBLISH_HELP, metavar="FOLDER")
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")
    distributed: bool = setting(False, _DISTRIBUTED_HELP)

    def __post_init__(self) -> None:
        """Checks types."""
        check_settings(self)
        if not self.resume:
            raise ConfigError(
                "`resume` is given, but empty; fill it in or leave it out."
            )


def read_started(run: "RunFolder") -> tuple[TrainSettings, dict[str, Any]]:
    """Returns what a run was started with, and its environment.

    Raises:
        RunError: Its files are missing or damaged.
    """
    environment, config = run.read_json(run.environment), run.read_json(run.config)
    try:
        # Runs that were started before there was this setting do not have it.
        config = {"distributed": False} | config
        names = {declared.name for declared in dataclasses.fields(TrainSettings)}
        if config.keys() != names:
            raise TypeError("expected the settings of a run, found other names")
        settings = TrainSettings(**config)
        if not isinstance(environment["data"]["fingerprint"], str) or not isinstance(
            environment.get("resumed", []), list
        ):
            raise TypeError("fingerprint or resumed is of another type")
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(
            f"{shown(str(run.config))} or {run.environment.name} is damaged "
            f"({shown(first_line(error))}), so this run cannot be continued. Start a "
            "new one."
        ) from error
    return settings, environment


def check_places(
    run: "RunFolder", settings: TrainSettings, given: ResumeSettings
) -> None:
    """Lets a run say what is read and written only where the user's own runs are.

    Raises:
        RunError: It is elsewhere, and names places that the user does not name.
    """
    if run.path.resolve().parent == Path(given.runs).resolve():
        return
    named = {
        "data": given.data is None and settings.data != SAMPLE_DATA,
        "publish": given.publish is None and settings.publishes,
        **{name: getattr(settings, name) is not None for name in _PLACES},
    }
    if any(named.values()):
        names = " and ".join(f"`{name}`" for name in named if named[name])
        raise RunError(
            f"Expected a run in {shown(given.runs)}, found {shown(str(run.path))}, "
            f"which may be a stranger's: its config.json says {names}. If the run is "
            "yours, name the folder that it is in with `runs`. If not, name `data` and "
            "`publish` yourself; other places are not read."
        )
