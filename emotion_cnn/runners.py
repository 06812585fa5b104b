"""One runner per mode: the only code that knows the order of the stages."""

import dataclasses
import hashlib
import importlib.util
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emotion_cnn.config import CurvesConfig, EvaluateConfig, ResumeConfig, TrainConfig
from emotion_cnn.data.batches import targets
from emotion_cnn.data.classes import BOTH_LABELS, LABELS
from emotion_cnn.data.drawn_faces import sample_splits
from emotion_cnn.data.folders import read_splits, read_test
from emotion_cnn.data.near_duplicates import (
    AUDIT_FILE,
    KnownNearDuplicates,
    read_known_near_duplicates,
)
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.data.splits import (
    Dataset,
    Split,
    class_counts,
    official_parts,
    split_dataset,
)
from emotion_cnn.data.vote_smoothing import smooth_labels
from emotion_cnn.data.votes import (
    VOTES_NAME,
    Votes,
    add_votes,
    find_votes,
    over_half_of_all_votes,
    relabel,
)
from emotion_cnn.errors import (
    ConfigError,
    DataError,
    ModelError,
    RunError,
    RunInterruptedError,
    TrainingError,
)
from emotion_cnn.evaluation.calibration import TEMPERATURES, fit_temperature
from emotion_cnn.evaluation.metrics import Metrics, compute_metrics
from emotion_cnn.evaluation.output import write_evaluation
from emotion_cnn.evaluation.plotting import (
    confusion_matrix_figure,
    loss_curves_figure,
    mistakes_figure,
    reliability_figure,
)
from emotion_cnn.evaluation.report import format_report
from emotion_cnn.files import (
    create_folder,
    first_line,
    open_output,
    write_figure,
    write_json,
)
from emotion_cnn.inference.prediction import BATCH_SIZE, predict
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.pair import WEIGHTS_NAME, publish_pair, read_pair, write_pair
from emotion_cnn.models.weights import divide_logits, start_from
from emotion_cnn.settings import ROOT
from emotion_cnn.training.augmentation import with_augmentation
from emotion_cnn.training.environment import describe_environment
from emotion_cnn.training.fitting import (
    compile_model,
    computing_with,
    fit,
    fix_randomness,
    re_estimate_statistics,
)
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.run_folder import (
    RunFolder,
    create_run,
    find_run,
    find_runs,
    read_history,
)

_INITIAL_WEIGHTS = "initial_weights_sha256"
LABEL_NAMES = {
    "original": "original labels",
    "ferplus": "FER+ majority labels",
    BOTH_LABELS: "original labels and FER+ votes",
}


def train(config: TrainConfig) -> RunFolder:
    """Trains a network, from random weights or from given ones.

    Args:
        config: What to train on, how, and where results go.

    Returns:
        The folder of the finished run.

    Raises:
        EmotionCnnError: Something the user can fix; what is done is kept.
    """
    source = find_source(config.data)
    drawn_faces = source == SAMPLE_DATA
    recipe = config.resolve_recipe(drawn_faces=drawn_faces)
    _check_resolution(recipe)
    if not drawn_faces:
        _check_writable(Path(config.publish))
    for package in ("tensorflow", "tensorboard") if config.tensorboard else ():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--tensorboard needs the package {package}, which is not installed, "
                f"whatever the backend. Install it (pip install {package}) or leave "
                "the flag out."
            )
    initial_weights, start = None, {}
    if config.weights is not None:
        run_to_start_from = _run_of_weights(config.weights, Path(config.runs))
        folder = run_to_start_from.path if run_to_start_from else Path(config.weights)
        config = dataclasses.replace(config, weights=str(folder))
        initial_weights, digest = _read_initial_weights(folder, config, recipe)
        start = {_INITIAL_WEIGHTS: digest}
    data, near_duplicates = _read_data(config, source)
    name = config.recipe_name(drawn_faces=drawn_faces)
    config = dataclasses.replace(
        config, data=source, recipe=name, settings=dataclasses.asdict(recipe)
    )
    run = create_run(Path(config.runs), name)
    write_json(run.config, dataclasses.asdict(_with_whole_paths(config)))
    environment = describe_environment() | start | {"data": _describe(data)}
    write_json(run.environment, environment)
    return _fit_and_evaluate(run, config, data, near_duplicates, initial_weights)


def resume(config: ResumeConfig) -> RunFolder:
    """Continues an interrupted run with the settings it was started with.

    Args:
        config: Which run, and where its data are now if they have moved.

    Returns:
        The folder of the finished run.

    Raises:
        EmotionCnnError: The run is finished or damaged, or its data changed.
    """
    run = find_run(config.resume, Path(config.runs))
    if run.finished:
        raise RunError(
            f"Expected an interrupted run, but {run.path} ended well: there is "
            "nothing to resume. Train again for another run."
        )
    started, environment = _read_run(run)
    source = find_source(config.data or started.data)
    started = dataclasses.replace(
        started, data=source, publish=config.publish or started.publish
    )
    if source != SAMPLE_DATA:
        _check_writable(Path(started.publish))
    initial_weights = None
    # Where no epoch was finished, there is no state to go on from yet.
    if started.weights is not None and not run.state.exists():
        recipe = started.resolve_recipe(drawn_faces=source == SAMPLE_DATA)
        folder = Path(started.weights)
        initial_weights, digest = _read_initial_weights(folder, started, recipe)
        if digest != environment.get(_INITIAL_WEIGHTS):
            raise RunError(
                f"Expected the weights that {run.path} was started from, found others "
                f"in {folder}. Bring them back, or train anew."
            )
    data, near_duplicates = _read_data(started, source)
    before = environment["data"]["fingerprint"]
    if data.fingerprint != before:
        raise RunError(
            f"Expected the images that {run.path} was started with (fingerprint "
            f"{before[:12]}), found others in {source} ({data.fingerprint[:12]}). "
            "Bring them back, name their folder with --data, or train anew."
        )
    resumed = [*environment.get("resumed", []), describe_environment()]
    write_json(run.environment, environment | {"resumed": resumed})
    return _fit_and_evaluate(run, started, data, near_duplicates, initial_weights)


def evaluate(config: EvaluateConfig) -> Path:
    """Evaluates a network on the images of `test/`.

    Args:
        config: Which network, which images, and where results go.

    Returns:
        The folder with the results.

    Raises:
        EmotionCnnError: Images or network are missing or damaged.
    """
    source = find_source(config.data)
    run = _run_to_evaluate(config, drawn_faces=source == SAMPLE_DATA)
    folder = run.path if run else Path(config.weights or ROOT)
    network = read_pair(folder)
    if run and _is_drawn(run) and source != SAMPLE_DATA:
        print("Mind that this network has seen drawn faces only, no photographs.")
    if source == SAMPLE_DATA:
        test = sample_splits()[1]
    else:
        test, notes = read_test(Path(source), skip_bad=config.skip_bad)
        for note in notes:
            print(note)
    near_duplicates = _near_duplicates_at_hand(config.audit, source, test=test)
    if config.labels == "ferplus":
        (test,), notes = _relabelled(source, {"test": test}, distribution=False)
        for note in notes:
            print(note)
    if config.output:
        output = open_output(Path(config.output))
    else:
        now = f"{datetime.now():%Y%m%d-%H%M%S}"
        output = (
            create_folder(run.path, f"evaluation-{now}")
            if run
            else create_folder(Path(config.runs), f"{now}-evaluation")
        )
    print(
        f"Evaluating {folder} on {len(test):,} images ({source_name(source)}), "
        f"test-time augmentation: {config.tta}."
    )
    record = {
        "data": source,
        "labels": config.labels,
        "tta": config.tta,
        "weights": str(folder),
    }
    _evaluate(network, test, output, record, near_duplicates)
    return output


def curves(config: CurvesConfig) -> Path:
    """Draws the loss curves of a run again from its history.

    Args:
        config: Which run, and where the image goes.

    Returns:
        The PNG.

    Raises:
        RunError: There is no such run, or it has no history yet.
    """
    run = find_run(config.run, Path(config.runs))
    output = Path(config.output) if config.output else run.loss_curves
    write_figure(output, loss_curves_figure(read_history(run.history)))
    print(f"Loss curves: {output}")
    return output


def _with_whole_paths(config: TrainConfig) -> TrainConfig:
    """Returns the config as it is kept: a run may be resumed from another folder."""
    names = ["runs", "publish"]
    names += ["data"] if config.data != SAMPLE_DATA else []
    names += [name for name in ("leave_out", "weights") if getattr(config, name)]
    whole: dict[str, Any] = {
        name: str(Path(getattr(config, name)).resolve()) for name in names
    }
    return dataclasses.replace(config, **whole)


def _near_duplicates_at_hand(
    named: str | None, source: str, **splits: Split
) -> KnownNearDuplicates | None:
    """Returns the near-duplicates by the audit that is named or in the data folder.

    Raises:
        DataError: The one that is named is damaged, or is of other images. One
            that merely lies there may be old: it is left alone, and this is said.
    """
    if named:
        near_duplicates = read_known_near_duplicates(Path(named))
        near_duplicates.check(**splits)
        return near_duplicates
    beside = Path(source) / AUDIT_FILE
    if source == SAMPLE_DATA or not beside.is_file():
        return None
    try:
        near_duplicates = read_known_near_duplicates(beside)
        near_duplicates.check(**splits)
    except DataError as error:
        print(f"{beside} is not made use of. {error}")
        return None
    return near_duplicates


def _read_data(
    config: TrainConfig, source: str
) -> tuple[Dataset, KnownNearDuplicates | None]:
    notes: tuple[str, ...] = ()
    if source == SAMPLE_DATA:
        train, test = sample_splits()
    else:
        train, test, notes = read_splits(Path(source), skip_bad=config.skip_bad)
    near_duplicates = _near_duplicates_at_hand(
        config.leave_out, source, train=train, test=test
    )
    if config.labels == "ferplus":
        (train, test), left_out = _relabelled(
            source,
            {"train": train, "test": test},
            distribution=config.label_mode == "distribution",
        )
        notes += left_out
    elif config.labels == BOTH_LABELS:
        votes = _votes_of(source, config.labels)
        train, of_train = add_votes(train, votes)
        test, of_test = add_votes(test, votes)
        notes += (
            f"FER+ votes on {of_train:,} of {len(train):,} images of train/, "
            f"{of_test:,} of {len(test):,} of test/",
        )
    if near_duplicates and config.leave_out:
        count = len(train)
        train = near_duplicates.left_of(train)
        notes += (
            f"left out of train: {count - len(train):,} of {count:,} images, which "
            f"stand in test too ({near_duplicates.path})",
        )
    data = split_dataset(
        train,
        test,
        validation_share=config.validation_share,
        seed=config.seed,
        notes=notes,
    )
    recipe = config.resolve_recipe(drawn_faces=source == SAMPLE_DATA)
    if share := recipe.vote_smoothing:
        # After the split: what is held out is neither smoothed nor learnt from.
        votes = _votes_of(source, config.labels)
        note = f"labels of train/: {share:.0%} soft labels predicted from the votes"
        data = dataclasses.replace(
            data,
            train=smooth_labels(data.train, votes, share=share),
            notes=(*data.notes, note),
        )
    print(f"Data: {source_name(source)}, {LABEL_NAMES[config.labels]}")
    for note in data.notes:
        print(f"  {note}")
    print(
        f"  {len(data.train):,} images to train on, {len(data.test):,} to test on\n"
        f"  validation: {data.validation_source}"
    )
    return data, near_duplicates


def _relabelled(
    source: str, splits: Mapping[str, Split], *, distribution: bool
) -> tuple[list[Split], tuple[str, ...]]:
    """Returns the images with the crowd's labels, and what was left out, in words.

    Raises:
        DataError: There are no votes, or none for an emotion in `train`.
    """
    votes = _votes_of(source, "ferplus")
    relabelled, notes = [], []
    for part, split in splits.items():
        kept, left_out = relabel(split, votes, distribution=distribution)
        missing = [name for name, count in class_counts(kept).items() if not count]
        if not len(kept) or (part == "train" and missing):
            raise DataError(
                f"Expected votes for every emotion in {part}/, found no image that "
                f"the crowd sees {' or '.join(missing)} in. Go by --labels original, "
                "or add images and votes."
            )
        reasons = ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n)
        notes.append(
            f"FER+ labels: {len(kept):,} of {len(split):,} images of {part}/; left "
            f"out: {reasons or 'none'}"
        )
        relabelled.append(kept)
    return relabelled, tuple(notes)


def _votes_of(source: str, labels: str) -> dict[str, Votes]:
    votes = None if source == SAMPLE_DATA else find_votes(Path(source))
    if votes is None:
        raise DataError(
            f"--labels {labels} expects votes in {source_name(source)}, found no "
            f"{VOTES_NAME}. Add them: --mode prepare --ferplus fer2013new.csv."
        )
    return votes


def _describe(data: Dataset) -> dict[str, Any]:
    return {
        "fingerprint": data.fingerprint,
        "validation_source": data.validation_source,
        "notes": data.notes,
        "counts": {
            "train": class_counts(data.train),
            "validation": class_counts(data.validation),
            "test": class_counts(data.test),
        },
    }


def _check_resolution(recipe: Recipe) -> None:
    if recipe.low_resolution_epochs and not ARCHITECTURES[recipe.model].average:
        able = ", ".join(name for name, each in ARCHITECTURES.items() if each.average)
        raise ConfigError(
            f"--low-resolution-epochs expects a network that takes images of any "
            f"size; found --model {recipe.model}. Choose {able}, or leave it out."
        )


def _check_writable(folder: Path) -> None:
    """Finds out before hours of training whether the pair can be written."""
    probe = folder / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"Expected a folder for the finished model.json and model_weights.h5, but "
            f"{folder} cannot be written to: {error.strerror}. Choose another with "
            "--publish."
        ) from error


@contextmanager
def _resumable(run: RunFolder) -> Iterator[None]:
    """Turns what stops a run into a message that says how to go on."""
    program = sys.argv[0]
    start = f"python {program}" if Path(program).name == "main.py" else "emotion-cnn"
    command = f"{start} --mode train --resume {shlex.quote(str(run.path))}"
    how = f"Continue with: {command}"
    try:
        yield
    except KeyboardInterrupt:
        message = f"\nStopped; finished epochs are kept. {how}"
        raise RunInterruptedError(message) from None
    except (OSError, RuntimeError) as error:
        # HDF5 meets a full disk with a RuntimeError when it closes its file.
        origin = traceback.extract_tb(error.__traceback__)[-1].filename
        if isinstance(error, RuntimeError) and "h5py" not in origin:
            raise
        place = getattr(error, "filename", None) or run.path
        reason = getattr(error, "strerror", None) or first_line(error)
        raise RunError(
            f"Writing to {place} failed: {reason}. Finished epochs are kept. Make room "
            f"or fix it. {how}"
        ) from error


def _read_run(run: RunFolder) -> tuple[TrainConfig, dict[str, Any]]:
    """Returns what a run was started with, and its environment.

    Raises:
        RunError: Its files are missing or damaged.
    """
    environment = run.read_json(run.environment)
    try:
        config = TrainConfig(**run.read_json(run.config))
        environment["data"]["fingerprint"]
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(
            f"{run.config} or {run.environment} is damaged ({first_line(error)}), so "
            "this run cannot be continued. Start it anew."
        ) from error
    return config, environment


def _fit_and_evaluate(
    run: RunFolder,
    config: TrainConfig,
    data: Dataset,
    near_duplicates: KnownNearDuplicates | None,
    initial_weights: list[np.ndarray] | None,
) -> RunFolder:
    drawn_faces = config.data == SAMPLE_DATA
    recipe = config.resolve_recipe(drawn_faces=drawn_faces)
    fix_randomness(config.seed)
    description = NetworkDescription(
        classes=data.train.classes,
        label_sets=_label_sets(config),
        input_size=data.train.images.shape[1],
    )
    finished = Network(
        build_model(ARCHITECTURES[recipe.model], description), description
    )
    with computing_with(recipe.precision):
        network = build_model(
            ARCHITECTURES[recipe.model], description, for_training=True
        )
        model = with_augmentation(network, recipe, image_size=description.input_size)
    compile_model(model, recipe, images=len(data.train))
    if initial_weights:
        network.set_weights(initial_weights)
    _check_one_batch(model, data.train.images[: recipe.batch_size])
    print(
        f"Network: {recipe.model}, {network.count_params():,} parameters, on "
        f"{keras.backend.backend()}\nRun: {run.path}"
    )
    with _resumable(run):
        history = fit(
            model,
            data.train,
            data.validation,
            recipe=recipe,
            seed=config.seed,
            run=run,
            tensorboard=config.tensorboard,
        )
        write_figure(run.loss_curves, loss_curves_figure(history))
        finished.model.set_weights(network.get_weights())
        if recipe.average_weights:
            _re_estimate_statistics(finished, config, recipe, data.train.images)
        if recipe.calibrate:
            finished = _calibrate(finished, data.validation)
        write_pair(run.path, finished)
        record: dict[str, Any] = {
            "data": config.data,
            "labels": "original" if config.labels == BOTH_LABELS else config.labels,
            "tta": "none",
            "weights": str(run.path),
        }
        if recipe.calibrate:
            record["temperatures"] = finished.description.temperatures
        _evaluate(finished, data.test, run.path, record, near_duplicates)
        if not drawn_faces:
            publish_pair(run.path, Path(config.publish))
            print(f"Published: model.json, model_weights.h5 in {config.publish}")
        # Without its state the run counts as finished: the rest is tidying up.
        run.state.unlink()
        run.remove_other_best_weights(None)
    return run


def _label_sets(config: TrainConfig) -> tuple[str, ...]:
    return LABELS if config.labels == BOTH_LABELS else (config.labels,)


def _read_initial_weights(
    folder: Path, config: TrainConfig, recipe: Recipe
) -> tuple[list[np.ndarray], str]:
    """Returns the weights to start from, and the SHA-256 of their file.

    The latter is kept: what lies there may be replaced, by this very run if it is
    the clone.
    """
    description = NetworkDescription(label_sets=_label_sets(config))
    network = Network(
        build_model(ARCHITECTURES[recipe.model], description), description
    )
    start_from(network, read_pair(folder))
    digest = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()
    return network.model.get_weights(), digest


def _re_estimate_statistics(
    network: Network, config: TrainConfig, recipe: Recipe, images: np.ndarray
) -> None:
    """Gives batch normalisation statistics of the weights as they are now."""
    # Statistics are taken in training mode alone, in which dropout would drop.
    architecture = dataclasses.replace(
        ARCHITECTURES[recipe.model], dropout=0.0, dense_dropout=0.0
    )
    without_dropout = build_model(architecture, network.description)
    without_dropout.set_weights(network.model.get_weights())
    re_estimate_statistics(without_dropout, images, seed=config.seed)
    network.model.set_weights(without_dropout.get_weights())
    print("Batch normalisation: statistics re-estimated from training images")


def _calibrate(network: Network, validation: Split) -> Network:
    """Fits a temperature for each label set on validation, and builds it in."""
    y_true = targets(validation)
    temperatures = {}
    for head, labels in enumerate(network.description.label_sets):
        # An image has a label where one class has more than half of it.
        labelled = np.flatnonzero(y_true[:, head].max(axis=1) > 0.5)
        if not len(labelled):
            print(f"Not calibrated for {LABEL_NAMES[labels]}: validation has none.")
            temperatures[labels] = 1.0
            continue
        probabilities = predict(network, validation.images[labelled], labels=labels)
        temperatures[labels] = fit_temperature(
            y_true[labelled, head].argmax(axis=1), probabilities
        )
        print(
            f"Temperature for {LABEL_NAMES[labels]}: {temperatures[labels]:.3f}, "
            f"fitted on {len(labelled):,} validation images"
        )
        if not 1.01 * TEMPERATURES[0] < temperatures[labels] < 0.99 * TEMPERATURES[1]:
            print("  That is as far as it goes: the network may have learned nothing.")
    return divide_logits(network, temperatures)


def _check_one_batch(model: keras.Model, images: np.ndarray) -> None:
    """Finds out before the first epoch whether the network takes these images."""
    if not np.isfinite(model.predict_on_batch(images)).all():
        raise TrainingError("The network's outputs are no numbers before training.")


def _run_to_evaluate(config: EvaluateConfig, *, drawn_faces: bool) -> RunFolder | None:
    """Returns the run that `--weights` names, or that suits the drawn faces."""
    runs = Path(config.runs)
    if config.weights is None:
        if not drawn_faces:
            return None
        finished = [run for run in find_runs(runs) if run.finished and _is_drawn(run)]
        if not finished:
            raise RunError(
                "Expected a network trained on the drawn faces, found no such run "
                f"below {runs}. Train one first: python main.py --mode train. (The "
                "shipped weights learned from photographs; to evaluate them on "
                "drawings would say nothing.)"
            )
        return finished[-1]
    run = _run_of_weights(config.weights, runs)
    if drawn_faces and not (run and _is_drawn(run)):
        raise ModelError(
            f"Expected, for the drawn faces, a run that was trained on them; "
            f"{config.weights} is none. Name images with --data."
        )
    return run


def _run_of_weights(weights: str, runs: Path) -> RunFolder | None:
    """Returns the run that `--weights` names; None where it names another folder.

    Raises:
        RunError: There is neither.
    """
    try:
        return find_run(weights, runs)
    except RunError:
        if not Path(weights).is_dir():
            raise
        return None


def _is_drawn(run: RunFolder) -> bool:
    try:
        return run.read_json(run.config).get("data") == SAMPLE_DATA
    except RunError:
        return False


def _evaluate(
    network: Network,
    test: Split,
    folder: Path,
    record: Mapping[str, Any],
    near_duplicates: KnownNearDuplicates | None,
) -> None:
    """Predicts every image, prints the report and writes all of it."""
    options = {"labels": record["labels"], "tta": record["tta"]}
    # The first batch is when Keras builds its function, which is no speed.
    predict(network, test.images[:BATCH_SIZE], **options)
    start = time.perf_counter()
    probabilities = predict(network, test.images, **options)
    rate = len(test) / (time.perf_counter() - start)
    labels = LABEL_NAMES[record["labels"]]
    parts = {"test": np.arange(len(test))} | official_parts(test)
    # FER2013's figures are published on PrivateTest: the images show that.
    shown_part = list(parts)[-1]
    if record["labels"] == "ferplus":
        # Training and evaluation both come here, with relabelled images alone.
        votes = find_votes(Path(record["data"])) or {}
        agreed = np.flatnonzero(over_half_of_all_votes(test.names, votes))
        parts |= _narrowed(parts, agreed, ", over half of all votes")
    if near_duplicates:
        record = {**record, "audit": str(near_duplicates.path)}
        without = near_duplicates.places_without(test)
        parts |= _narrowed(parts, without, " without near-duplicates in train")
    metrics = {
        name: compute_metrics(
            test.labels[places], probabilities[places], network.description.classes
        )
        for name, places in parts.items()
    }
    report = (
        f"{record['weights']}, evaluated on {source_name(record['data'])},\n"
        f"{labels}, test-time augmentation: {record['tta']}\n\n"
        f"{format_report(metrics)}\n\n{rate:,.0f} images per second\n"
    )
    print(report)
    places = parts[shown_part]
    write_evaluation(
        folder,
        metrics={
            **record,
            "images_per_second": rate,
            "parts": {name: dataclasses.asdict(m) for name, m in metrics.items()},
        },
        report=report,
        classes=network.description.classes,
        names=test.names,
        labels=test.labels,
        probabilities=probabilities,
        figures=_figures(
            f"{shown_part}, {labels}",
            metrics[shown_part],
            test.select(places),
            probabilities[places],
            network.description.classes,
        ),
    )
    print(f"Results: {folder}")


def _narrowed(
    parts: Mapping[str, np.ndarray], to: np.ndarray, added_name: str
) -> dict[str, np.ndarray]:
    """Returns what of each part is among some images, where there is any."""
    left = {
        name + added_name: np.intersect1d(places, to) for name, places in parts.items()
    }
    return {name: places for name, places in left.items() if len(places)}


def _figures(
    name: str,
    metrics: Metrics,
    images: Split,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> dict[str, Any]:
    matrix = metrics.confusion_matrix
    return {
        "confusion_matrix": confusion_matrix_figure(
            matrix, classes, shares=False, title=name
        ),
        "confusion_matrix_shares": confusion_matrix_figure(
            matrix, classes, shares=True, title=name
        ),
        "reliability": reliability_figure(
            metrics.reliability, metrics.expected_calibration_error, title=name
        ),
        "mistakes": mistakes_figure(
            images.images, images.labels, probabilities, classes, title=name
        ),
    }
