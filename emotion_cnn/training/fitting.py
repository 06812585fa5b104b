"""Compile, fit, and continue where an interrupted run stopped."""

import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from emotion_cnn.ctrl_c import CtrlC, noticing_ctrl_c
from emotion_cnn.data.batches import BatchesInOrder, TrainingBatches
from emotion_cnn.data.rows import exceed_memory
from emotion_cnn.data.splits import Split
from emotion_cnn.errors import ModelError, RunError
from emotion_cnn.files import first_line, shown
from emotion_cnn.models.untrusted.weights import load_kept_weights
from emotion_cnn.processes import is_chief
from emotion_cnn.training.callbacks import (
    EpochLog,
    LearningRateLog,
    ProgressiveSizes,
    StopAtNonFiniteLoss,
)
from emotion_cnn.training.data_parallel import (
    OwnRows,
    OwnWeightedRows,
    is_data_parallel,
)
from emotion_cnn.training.device_loop import loop_on_device
from emotion_cnn.training.live_chart import LiveChart
from emotion_cnn.training.losses import (
    accuracy_of_first_labels,
    crossentropy_of_label_sets,
)
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.resuming import TrainingState
from emotion_cnn.training.run_folder import History, RunFolder
from emotion_cnn.training.schedules import WarmUpAndDecay

_log = logging.getLogger(__name__)

VALIDATION_BATCH_SIZE = 256


def fix_randomness(seed: int) -> None:
    """Makes all that follows reproducible, on a CPU bit by bit.

    Args:
        seed: Seed of Python, NumPy and the Keras backend.
    """
    keras.utils.set_random_seed(seed)
    # Without this, threads add in an order that varies.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def computing_with(precision: str) -> Iterator[None]:
    """Sets the precision that networks are built with; their weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(
        precision if precision == "float32" else f"mixed_{precision}"
    )
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compile_model(
    model: keras.Model, recipe: Recipe, *, images: int, steps_per_execution: int = 1
) -> None:
    """Gives a network its loss, its metric and its optimiser.

    Args:
        model: A network built for training, with or without augmentation in front.
        recipe: How to train it.
        images: Number of training images, from which schedules derive their steps.
        steps_per_execution: Training steps in a call of the device; more than one on
            JAX alone.
    """
    learning_rate: Any = recipe.learning_rate
    if recipe.schedule != "plateau":
        batches = math.ceil(images / recipe.batch_size)
        learning_rate = WarmUpAndDecay(recipe, batches)
    options: dict[str, Any] = {"learning_rate": learning_rate}
    if recipe.average_weights:
        options |= {"use_ema": True, "ema_momentum": recipe.average_weights}
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(**options)
    elif recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=recipe.weight_decay, **options)
    else:
        optimizer = keras.optimizers.SGD(
            momentum=float(recipe.momentum),
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay or None,
            **options,
        )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer=optimizer,
        loss=crossentropy_of_label_sets,
        # Weighted, as validation on several devices has rows without a weight.
        weighted_metrics=[
            keras.metrics.MeanMetricWrapper(accuracy_of_first_labels, name="accuracy")
        ],
        steps_per_execution=steps_per_execution,
    )
    if steps_per_execution > 1:
        loop_on_device(model)
    model.optimizer.build(model.trainable_variables)


def training_batches(
    split: Split, recipe: Recipe, *, seed: int, one_shape: bool = False
) -> TrainingBatches:
    """Returns the batches that a recipe trains on."""
    by_blocks = exceed_memory(split.images)
    if by_blocks:
        _log.info(
            "The images exceed this machine's memory: they are shuffled by blocks, in "
            "another order than where there is more."
        )
    return TrainingBatches(
        split,
        seed=seed,
        batch_size=recipe.batch_size,
        flip=recipe.flip,
        balance=recipe.balance,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        one_shape=one_shape,
        by_blocks=by_blocks,
    )


def fit(
    model: keras.Model,
    train: Split,
    validation: Split,
    *,
    recipe: Recipe,
    seed: int,
    run: RunFolder,
    tensorboard: bool,
) -> History:
    """Trains a compiled network, from where the run's state says.

    Ends with the weights in the network that the recipe keeps: those of the epoch of
    the best validation accuracy, or of the last one.

    Args:
        model: A compiled network.
        train: Images to learn from.
        validation: Images that choose the best epoch and, with `schedule=plateau`, the
            learning rate.
        recipe: How to train.
        seed: Seed of the order and the flipping of the images.
        run: Folder of the run; a training state in it is continued.
        tensorboard: Whether to write TensorBoard logs too.

    Returns:
        The history of all epochs, those before an interruption included.

    Raises:
        TrainingError: The loss is no longer a number.
        RunError: The state in the run folder is damaged or does not fit.
    """
    plateau = None
    if recipe.schedule == "plateau":
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            factor=recipe.plateau_factor,
            patience=recipe.plateau_patience,
            min_lr=recipe.minimum_learning_rate,
        )
    state = TrainingState(model, run, recipe, plateau)
    if run.state.exists():
        state.restore()
        # An error now is better than one after hours; `fit` restores the rest.
        _load_kept_weights(model, run, state)
    batches = training_batches(
        train, recipe, seed=seed, one_shape=model.steps_per_execution > 1
    )
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch)
        ),
        ProgressiveSizes(recipe),
        StopAtNonFiniteLoss(),
        plateau or LearningRateLog(),
        state.checkpoint,
        # After the two callbacks whose counters it saves.
        state,
    ]
    if is_chief():
        callbacks.append(LiveChart(run.live_chart, state.history))
    if recipe.average_weights:
        averages = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        # The averages are in the network when its weights are saved, and the last
        # step's weights again when the training state is.
        callbacks.insert(callbacks.index(state.checkpoint), averages)
        callbacks.insert(
            callbacks.index(state),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: averages.on_epoch_begin(epoch)
            ),
        )
    if tensorboard and is_chief():
        _check_no_links(run.tensorboard)
        callbacks.append(keras.callbacks.TensorBoard(run.tensorboard))
    shows_bar = sys.stdout.isatty() and _log.isEnabledFor(logging.INFO)
    if not shows_bar:
        callbacks.append(EpochLog(recipe.epochs))
    if not state.done:
        with noticing_ctrl_c() as ctrl_c:
            model.fit(
                OwnRows(batches) if is_data_parallel() else batches,
                validation_data=_validation_batches(validation),
                epochs=recipe.epochs,
                initial_epoch=state.epochs_done,
                callbacks=[_stop_where(ctrl_c), *callbacks],
                # The batches are shuffled already. Keras would shuffle them again
                # with a random state that a resumed run does not have.
                shuffle=False,
                verbose=1 if shows_bar else 0,
            )
    _load_kept_weights(model, run, state)
    return state.history


def _validation_batches(split: Split) -> keras.utils.PyDataset:
    """Returns what `fit` validates on."""
    batches = BatchesInOrder(split, batch_size=VALIDATION_BATCH_SIZE)
    if not is_data_parallel():
        return batches
    return OwnWeightedRows(batches, images=len(split), batch_size=VALIDATION_BATCH_SIZE)


def _stop_where(ctrl_c: CtrlC) -> keras.callbacks.Callback:
    """Returns a callback that ends training at a batch after Ctrl-C."""

    def stop(batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if ctrl_c.is_pressed:
            raise KeyboardInterrupt

    return keras.callbacks.LambdaCallback(on_train_batch_end=stop)


def _check_no_links(folder: Path) -> None:
    """Makes sure that logs are written into this folder, which TensorBoard does not."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise RunError(
                f"Expected files and folders in {shown(str(folder))}, found the link "
                f"{shown(path.name)}. Remove it, and continue."
            )


def _load_kept_weights(
    model: keras.Model, run: RunFolder, state: "TrainingState"
) -> None:
    try:
        load_kept_weights(
            model, run.kept_weights(state.kept_epoch), state.checkpoint.sha256
        )
    except ModelError as error:
        raise RunError(
            f"Expected the weights of epoch {state.kept_epoch} in "
            f"{shown(str(run.path))} as they were written, but they cannot be read "
            f"({shown(first_line(error))}), so this run cannot be continued. Start a "
            "new one."
        ) from error
