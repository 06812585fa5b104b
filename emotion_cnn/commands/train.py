"""Train a network on train/, choose its epoch on validation, evaluate on test/.

A finished run on real images replaces model.json and model_weights.h5 in
--publish. An interrupted run continues with --resume RUN. --recipe chooses a
named set of settings; each of them can be given by itself, too.

Examples of settings:
  --recipe quick
  --model compact --epochs 30
  --data FOLDER --labels both --leave-out audit.json --recipe foundation
  --resume runs/20261125-120000-default
"""

import dataclasses
import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.backend import use_backend
from emotion_cnn.commands.train_settings import (
    CacheSettings,
    ResumeSettings,
    TrainSettings,
    check_places,
    read_started,
)
from emotion_cnn.data.source import SAMPLE_DATA, find_source
from emotion_cnn.errors import (
    ConfigError,
    ResumableError,
    RunError,
    RunInterruptedError,
)
from emotion_cnn.extras import check_installed
from emotion_cnn.files import locked, shown
from emotion_cnn.models.pair_files import check_publishable
from emotion_cnn.processes import check_same, is_chief, join, own_copy, own_results
from emotion_cnn.settings import (
    from_keywords,
    settings_of,
    takes_settings,
)
from emotion_cnn.training.recipes import Recipe

if TYPE_CHECKING:
    from emotion_cnn.data.annotations import Annotations
    from emotion_cnn.data.cache import ImageCache
    from emotion_cnn.data.splits import Dataset
    from emotion_cnn.training.experiment import TrainingRun
    from emotion_cnn.training.run_folder import RunFolder

_log = logging.getLogger(__name__)

_TRAINING = "a training"
_TURN = threading.RLock()
"""Held by the training of this process: of Python's, NumPy's and Keras' random
generators it has one each, and no seed would fix what two trainings draw from them."""
SETTINGS = (TrainSettings, Recipe, ResumeSettings, CacheSettings)
SWITCHES = tuple(settings_of(Recipe))
"""Settings that may be switched off where a recipe has switched them on."""


def run(**keywords: Any) -> None:
    """Trains as `train` does, and prints the figures."""
    result = train(**keywords)
    print(f"{result.report}\nResults: {result.folder}")


@takes_settings(SETTINGS)
def train(**keywords: Any) -> "TrainingRun":
    """Trains a network, or continues an interrupted run.

    Args:
        **keywords: The settings of `TrainSettings` and `Recipe`, or of
            `ResumeSettings`, and in both cases of `CacheSettings`; `emotion-cnn train
            --help` explains each. Paths may be `pathlib.Path`.

    Returns:
        The finished run. With `distributed`, processes other than the first end when
        training does: this function returns in that one alone. Of several threads, one
        trains after the other.

    Raises:
        EmotionCnnError: Something the user can fix; what is done is kept.
    """
    given = from_keywords(SETTINGS, keywords)
    cache = CacheSettings(
        **{
            name: given.pop(name)
            for name in settings_of(CacheSettings)
            if name in given
        }
    )
    if "resume" in given:
        if strange := sorted(set(given) - set(settings_of(ResumeSettings))):
            raise ConfigError(
                "`resume` continues a run with the settings it was started with; "
                f"leave out {', '.join(f'`{name}`' for name in strange)}."
            )
        to_be_given = ("runs", "data", "publish", "distributed")
        with _alone(), _to_be_given_again(given, *to_be_given):
            return _resume(ResumeSettings(**given), cache.open())
    single = {name: given.pop(name) for name in settings_of(Recipe) if name in given}
    with _alone(), _to_be_given_again(given, "runs", "distributed"):
        settings = TrainSettings(**given, settings=single)
        return _start(settings, cache.open())


@contextmanager
def _alone() -> Iterator[None]:
    """Waits until no other thread of this process trains."""
    if not _TURN.acquire(blocking=False):
        _log.info("Waiting for the training of another thread to end.")
        _TURN.acquire()
    try:
        yield
    finally:
        _TURN.release()


@contextmanager
def _to_be_given_again(given: Mapping[str, Any], *names: str) -> Iterator[None]:
    """Adds what was given to the settings that continue a run that is stopped.

    Without them, a run would say itself what is read and where is published, and it may
    be a stranger's.
    """
    try:
        yield
    except (ResumableError, RunInterruptedError) as stopped:
        stopped.settings |= {name: given[name] for name in names if given.get(name)}
        raise


def _join_if(distributed: bool) -> None:
    """Joins other processes before anything asks which of them this one is."""
    if distributed:
        use_backend("jax", quiet=True)
        join()


def _start(settings: TrainSettings, cache: "ImageCache | None") -> "TrainingRun":
    settings = dataclasses.replace(settings, data=find_source(settings.data))
    drawn_faces = settings.data == SAMPLE_DATA
    recipe = settings.resolve_recipe(drawn_faces=drawn_faces)
    _join_if(settings.distributed)
    _check_possible(settings)
    # What is wrong with the data is said before a backend takes seconds to be imported.
    from emotion_cnn.data.loading import classes_to_train

    classes = classes_to_train(settings.data, settings.classes)
    settings = dataclasses.replace(
        settings,
        recipe=settings.recipe_name(drawn_faces=drawn_faces),
        settings=dataclasses.asdict(recipe),
        backend=use_backend(settings.backend, quiet=True),
    )
    from emotion_cnn.training.environment import describe_environment
    from emotion_cnn.training.experiment import read_initial_weights
    from emotion_cnn.training.run_folder import (
        INITIAL_WEIGHTS,
        create_run,
        run_or_folder,
    )

    start, environment = None, {}
    if settings.weights is not None:
        folder = run_or_folder(settings.weights, Path(settings.runs))
        settings = dataclasses.replace(settings, weights=str(folder))
        start = read_initial_weights(folder, recipe, settings.label_sets, classes)
        environment = {INITIAL_WEIGHTS: start.sha256}
    data, annotations = _read_data(settings, recipe, classes, cache)
    with own_results(Path(settings.runs)) as runs:
        run = create_run(
            runs,
            str(settings.recipe),
            config=dataclasses.asdict(settings.with_whole_paths()),
            environment=describe_environment() | environment | {"data": data.summary()},
        )
        with locked(run.path, _TRAINING):
            return _fit_and_evaluate(run, settings, recipe, data, annotations, start)


def _resume(given: ResumeSettings, cache: "ImageCache | None") -> "TrainingRun":
    from emotion_cnn.training.run_folder import RunFolder, find_run

    found = find_run(given.resume, Path(given.runs))
    _join_if(given.distributed)
    with own_copy(found.path, found.resumed_from) as folder:
        run = RunFolder(folder)
        # Two commands that continue one run would destroy it.
        with locked(run.path, _TRAINING):
            return _continue(run, given, found, cache)


def _continue(
    run: "RunFolder",
    given: ResumeSettings,
    found: "RunFolder",
    cache: "ImageCache | None",
) -> "TrainingRun":
    if run.finished:
        raise RunError(
            f"Expected an interrupted run, but {shown(str(run.path))} is finished: "
            "there is nothing to resume. To train its network further, start a new run "
            f"from it: `weights={shown(str(run.path))}`."
        )
    settings, environment = read_started(run)
    check_places(found, settings, given)
    run.remove_half_written()
    source = find_source(given.data or settings.data)
    settings = dataclasses.replace(
        settings,
        data=source,
        publish=given.publish or settings.publish,
        distributed=given.distributed,
    )
    recipe = settings.resolve_recipe(drawn_faces=source == SAMPLE_DATA)
    _check_possible(settings)
    from emotion_cnn.data.loading import classes_to_train

    classes = classes_to_train(source, settings.classes)
    use_backend(settings.backend, quiet=True)
    from emotion_cnn.files import write_json
    from emotion_cnn.training.environment import describe_environment
    from emotion_cnn.training.experiment import read_initial_weights
    from emotion_cnn.training.run_folder import INITIAL_WEIGHTS

    start = None
    # Where no epoch was finished, there is no state to continue from yet.
    if settings.weights is not None and not run.state.exists():
        folder = Path(settings.weights)
        start = read_initial_weights(folder, recipe, settings.label_sets, classes)
        if start.sha256 != environment.get(INITIAL_WEIGHTS):
            raise RunError(
                f"Expected the weights that {shown(str(run.path))} was started from, "
                f"found others in {shown(str(folder))}. Restore them, or start a new "
                "run."
            )
    data, annotations = _read_data(settings, recipe, classes, cache)
    before = environment["data"]["fingerprint"]
    if data.fingerprint != before:
        raise RunError(
            f"Expected the images and targets that {shown(str(run.path))} was started "
            f"with (fingerprint {shown(before[:12])}), found others in "
            f"{shown(source)} ({data.fingerprint[:12]}). Restore them, name their "
            "folder with `data`, or start a new run."
        )
    resumed = [*environment.get("resumed", []), describe_environment()]
    write_json(run.environment, environment | {"resumed": resumed})
    return _fit_and_evaluate(run, settings, recipe, data, annotations, start)


def _read_data(
    settings: TrainSettings,
    recipe: Recipe,
    classes: tuple[str, ...],
    cache: "ImageCache | None",
) -> "tuple[Dataset, Annotations]":
    from emotion_cnn.data.loading import load_training_data
    from emotion_cnn.training.out_of_fold import read_teachers

    folder = settings.soft_labels
    return load_training_data(
        settings.data,
        labels=settings.labels,
        distribution=settings.label_mode == "distribution",
        leave_out=settings.leave_out,
        skip_bad=settings.skip_bad,
        validation_share=settings.validation_share,
        seed=settings.seed,
        vote_smoothing=recipe.vote_smoothing,
        classes=classes,
        fold=settings.fold,
        teachers=read_teachers(Path(folder)) if folder is not None else None,
        soft_share=recipe.soft_share,
        cache=cache,
    )


def _fit_and_evaluate(
    run: "RunFolder",
    settings: TrainSettings,
    recipe: Recipe,
    data: "Dataset",
    annotations: "Annotations",
    start: Any,
) -> "TrainingRun":
    from emotion_cnn.training.experiment import fit_and_evaluate

    _check_same_everywhere(run, settings, recipe, data, start)
    return fit_and_evaluate(
        run,
        data,
        recipe,
        label_sets=settings.label_sets,
        seed=settings.seed,
        source=settings.data,
        initial_weights=start,
        annotations=annotations,
        publish=Path(settings.publish) if settings.publishes else None,
        fold=settings.fold,
        tensorboard=settings.tensorboard,
        distributed=settings.distributed,
    )


def _check_same_everywhere(
    run: "RunFolder",
    settings: TrainSettings,
    recipe: Recipe,
    data: "Dataset",
    start: Any,
) -> None:
    """Compares with the other processes all that a network depends on."""
    from emotion_cnn.data.rows import exceed_memory

    if settings.distributed:
        state = run.state.read_bytes() if run.state.exists() else b""
        everything = (
            # The order of the images depends on the memory.
            exceed_memory(data.train.images),
            recipe,
            settings.seed,
            settings.label_sets,
            data.fingerprint,
            start and start.sha256,
            hashlib.sha256(state).hexdigest(),
        )
        digest = hashlib.sha256(repr(everything).encode()).digest()
        check_same(
            "data, settings, state of the run, and order of the images (which depends "
            "on the memory)",
            digest,
        )


def _check_possible(settings: TrainSettings) -> None:
    """Finds out before hours of training what would stop it at the end."""
    if settings.tensorboard:
        for package in ("tensorflow", "tensorboard"):
            check_installed(package, extra="tensorboard")
    if settings.publishes and is_chief():
        check_publishable(Path(settings.publish))
