"""The order of the stages: build, fit, calibrate, evaluate, publish."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from emotion_cnn.data.annotations import Annotations
from emotion_cnn.data.splits import Dataset
from emotion_cnn.errors import (
    FolderError,
    ResumableError,
    RunError,
    RunInterruptedError,
    TrainingError,
)
from emotion_cnn.evaluation.evaluator import Evaluation, evaluate_network
from emotion_cnn.evaluation.plotting import loss_curves_figure
from emotion_cnn.files import first_line, shown, write_figure
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.pair import publish_pair, read_pair, write_pair
from emotion_cnn.models.weights import start_from
from emotion_cnn.processes import (
    HEARTBEAT_SECONDS,
    is_chief,
    leave,
    processes,
    tells_of_a_lost_process,
)
from emotion_cnn.training.augmentation import with_augmentation
from emotion_cnn.training.data_parallel import describe_devices, over_all_devices
from emotion_cnn.training.device_loop import steps_per_execution
from emotion_cnn.training.finishing import calibrate, re_estimate_statistics
from emotion_cnn.training.fitting import (
    compile_model,
    computing_with,
    fit,
    fix_randomness,
)
from emotion_cnn.training.out_of_fold import predict_out_of_fold, write_out_of_fold
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.run_folder import History, RunFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A finished training.

    Attributes:
        folder: The run folder, with the network and all other files.
        history: Loss, accuracy and learning rate of each epoch.
        evaluation: What the network reaches on test, or on the fold held out.
    """

    folder: Path
    history: History
    evaluation: Evaluation

    @property
    def report(self) -> str:
        """The figures as text."""
        return self.evaluation.report

    def plot(self) -> Figure:
        """Returns the loss curves."""
        return loss_curves_figure(self.history)


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights to start from.

    Attributes:
        arrays: In the order of the network to be trained; without those of the last
            layer where the network that they are from is of other classes.
        sha256: Of the file they are from, which may be replaced, by this very run if
            it publishes there.
    """

    arrays: list[np.ndarray]
    sha256: str


def read_initial_weights(
    folder: Path, recipe: Recipe, label_sets: Sequence[str], classes: Sequence[str]
) -> InitialWeights:
    """Reads the weights of a trained network for a network to be trained.

    Args:
        folder: Folder of the trained network.
        recipe: Names the architecture of the network to be trained.
        label_sets: Its label sets.
        classes: Its classes.

    Raises:
        ModelError: There is no network, or one with weights of other shapes.
    """
    description = NetworkDescription(tuple(classes), label_sets=tuple(label_sets))
    network = _untrained(recipe, description)
    trained = read_pair(folder)
    start_from(network, trained)
    arrays = network.model.get_weights()
    if description.classes != trained.description.classes:
        _log.info(
            "Weights: all layers but the last from %s, which is of other classes (%s)",
            shown(str(folder)),
            ", ".join(trained.description.classes),
        )
        arrays = arrays[: -len(network.model.get_layer("emotions").weights)]
    return InitialWeights(arrays, trained.weights_sha256)


def fit_and_evaluate(
    run: RunFolder,
    data: Dataset,
    recipe: Recipe,
    *,
    label_sets: Sequence[str],
    seed: int,
    source: str,
    initial_weights: InitialWeights | None = None,
    annotations: Annotations,
    publish: Path | None = None,
    fold: str | None = None,
    tensorboard: bool = False,
    distributed: bool = False,
) -> TrainingRun:
    """Trains a network, or continues its training, and evaluates it.

    Args:
        run: Folder of the run; a training state in it is continued.
        data: The data.
        recipe: How to train.
        label_sets: The label sets that the network predicts.
        seed: Fixes every random choice.
        source: Where the data are from, for the record.
        initial_weights: What to start from; None for random weights.
        annotations: Of the data.
        publish: Folder whose network the finished one replaces.
        fold: The fold that `data.validation` is, such as `1/4`: the network is
            evaluated on it in place of test, and its predictions are written too.
        tensorboard: Whether to write TensorBoard logs.
        distributed: Whether to train on all devices of all processes that have joined.

    Returns:
        The finished run. Processes other than the chief end when training does.

    Raises:
        RunInterruptedError: Ctrl-C; finished epochs are kept.
        RunError: A file cannot be written; finished epochs are kept.
        TrainingError: The loss is no longer a number.
        SystemExit: In processes other than the chief, once training is done.
    """
    with _resumable(run):
        fix_randomness(seed)
        description = NetworkDescription(
            classes=data.train.classes,
            label_sets=tuple(label_sets),
            input_size=data.train.images.shape[1],
        )
        finished = _untrained(recipe, description)
        over_devices = (
            over_all_devices(batch_size=recipe.batch_size)
            if distributed
            else nullcontext()
        )
        with over_devices:
            history, weights = _train(
                run,
                data,
                recipe,
                description,
                seed=seed,
                initial_weights=initial_weights,
                tensorboard=tensorboard,
            )
        leave()
        if not is_chief():
            # What is left to do needs one process, and one device.
            sys.exit()
        write_figure(run.loss_curves, loss_curves_figure(history))
        finished.model.set_weights(weights)
        if recipe.average_weights:
            re_estimate_statistics(finished.model, data.train.images, seed=seed)
        if recipe.calibrate:
            finished = calibrate(finished, data.validation)
        write_pair(run.path, finished)
        if fold:
            predictions = predict_out_of_fold(finished, data, fold=fold, seed=seed)
            write_out_of_fold(run.out_of_fold, predictions)
        evaluation = evaluate_network(
            KerasNetwork(finished),
            # Test waits for the network that the teachers of all folds lead to.
            data.validation if fold else data.test,
            part=f"held-out fold {fold}" if fold else "test",
            labels=label_sets[0],
            tta="none",
            data=source,
            weights=str(run.path),
            folder=run.path,
            # Near-duplicates of test say nothing about a fold of train.
            annotations=dataclasses.replace(annotations, near_duplicates=None)
            if fold
            else annotations,
        )
        evaluation.write()
        if publish and publish.resolve() != run.path.resolve():
            publish_pair(publish, finished)
            _log.info("Published: model.json, model_weights.h5 in %s", publish)
        # Without its state the run counts as finished: the rest is tidying up.
        run.state.unlink()
        run.remove_other_weights(None)
    return TrainingRun(run.path, history, evaluation)


def _train(
    run: RunFolder,
    data: Dataset,
    recipe: Recipe,
    description: NetworkDescription,
    *,
    seed: int,
    initial_weights: InitialWeights | None,
    tensorboard: bool,
) -> tuple[History, list[np.ndarray]]:
    """Returns the history of training, and the weights that it ends with."""
    if keras.backend.backend() == "jax":
        _log.info(
            "Compiling, once for each size of images: this can take minutes. "
            'Should XLA report a "very slow compile", that is no error.'
        )
    with computing_with(recipe.precision):
        network = build_model(
            ARCHITECTURES[recipe.model], description, for_training=True
        )
        model = with_augmentation(network, recipe, image_size=description.input_size)
    compile_model(
        model,
        recipe,
        images=len(data.train),
        steps_per_execution=steps_per_execution(),
    )
    if initial_weights:
        arrays = initial_weights.arrays
        network.set_weights([*arrays, *network.get_weights()[len(arrays) :]])
    _check_one_batch(model, data.train.images[: recipe.batch_size])
    _log.info(
        "Network: %s, %s parameters, on %s\nRun: %s",
        recipe.model,
        f"{network.count_params():,}",
        keras.backend.backend() + describe_devices(),
        run.path,
    )
    if processes().count > 1:
        _log.info(
            "If one process ends, the others end within %d seconds. Then start all of "
            "them with `resume=%s` and `distributed=True`.",
            HEARTBEAT_SECONDS,
            run.path,
        )
    history = fit(
        model,
        data.train,
        data.validation,
        recipe=recipe,
        seed=seed,
        run=run,
        tensorboard=tensorboard,
    )
    return history, network.get_weights()


@contextmanager
def _resumable(run: RunFolder) -> Iterator[None]:
    """Turns what stops a run into an error that says whether it can be continued."""
    try:
        yield
    except KeyboardInterrupt:
        if run.finished or run.is_gone or not is_chief():
            raise
        raise RunInterruptedError(f"Stopped; {run.kept}.", run.path) from None
    except FolderError as error:
        raise _to_be_continued(str(error), run) from error
    # JAX's errors are of both kinds.
    except (ValueError, RuntimeError) as error:
        if not tells_of_a_lost_process(error):
            raise
        fact = "Another process of this training has ended, or cannot be reached"
        fact += f" ({shown(first_line(error))}). {run.kept.capitalize()}."
        raise _to_be_continued(fact, run) from error
    except OSError as error:
        if run.finished:
            raise
        place = shown(str(error.filename or run.path))
        fact = f"Writing to {place} failed: {first_line(error)}."
        if run.is_gone:
            raise RunError(
                f"{fact} The folder of the run, {shown(str(run.path))}, is gone, with "
                "the finished epochs. Train again."
            ) from error
        fact += f" {run.kept.capitalize()}. Make room or fix it."
        raise _to_be_continued(fact, run) from error


def _to_be_continued(fact: str, run: RunFolder) -> RunError:
    """Returns the error of a run that can be continued: the chief knows which it is."""
    if is_chief():
        return ResumableError(fact, run.path)
    return RunError(f"{fact} Process 0 says how to continue.")


def _untrained(recipe: Recipe, description: NetworkDescription) -> Network:
    """Returns the network as it will be saved, untrained."""
    return Network(build_model(ARCHITECTURES[recipe.model], description), description)


def _check_one_batch(model: keras.Model, images: np.ndarray) -> None:
    """Finds out before the first epoch whether the network takes these images."""
    if not np.isfinite(model.predict_on_batch(images)).all():
        raise TrainingError(
            "Expected finite outputs of the network before training, found others. "
            "Start from other weights."
        )
