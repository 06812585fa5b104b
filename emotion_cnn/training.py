"""Compile, fit, and continue where an interrupted run stopped."""

import math
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import clear_output
from livelossplot.inputs.keras import PlotLossesCallback
from livelossplot.outputs import MatplotlibPlot
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from emotion_cnn.artifacts import (
    HISTORY_COLUMNS,
    History,
    RunFolder,
    first_line,
    force_to_disk,
    read_training_state,
    write_figure,
    write_history,
    write_training_state,
)
from emotion_cnn.augmentation import Resolution
from emotion_cnn.config import Recipe
from emotion_cnn.dataset import IMAGE_SIZE, Split
from emotion_cnn.errors import RunError, TrainingError
from emotion_cnn.loader import TrainingBatches, targets

VALIDATION_BATCH_SIZE = 256
STATISTICS_PICTURES = 8192
STATISTICS_BATCH_SIZE = 128
_TORCH_RANDOM_STATE = "torch_random_state"


def fix_randomness(seed: int) -> None:
    """Makes all that follows the same for the same seed, on a CPU bit by bit.

    Args:
        seed: Seed of Python, NumPy and the Keras backend.
    """
    keras.utils.set_random_seed(seed)
    # Without this, sums run over threads in an order that varies.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def computing_with(precision: str) -> Iterator[None]:
    """Builds networks that compute with such numbers; their weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(
        precision if precision == "float32" else f"mixed_{precision}"
    )
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class WarmUpAndFall(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises evenly from 0 to its peak, then falls.

    Sources: I. Loshchilov and F. Hutter, "SGDR", ICLR 2017 (arXiv 1608.03983), for
    the cosine; L. N. Smith and N. Topin, "Super-Convergence" (arXiv 1708.07120), for
    one cycle, here without its last phase.
    """

    def __init__(self, recipe: Recipe, batches: int) -> None:
        """Lays out the whole run.

        Args:
            recipe: Its schedule is `cosine` or `one-cycle`.
            batches: Steps in an epoch.
        """
        self._peak = recipe.learning_rate
        self._least = recipe.minimum_learning_rate
        self._is_cosine = recipe.schedule == "cosine"
        self._rise = recipe.warmup_epochs * batches
        self._fall = recipe.epochs * batches - self._rise

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        left = 1 - keras.ops.clip((step - self._rise) / self._fall, 0, 1)
        if self._is_cosine:
            left = (1 - keras.ops.cos(math.pi * left)) / 2
        falling = keras.ops.maximum(self._peak * left, self._least)
        rising = self._peak * (step + 1) / (self._rise + 1)
        return keras.ops.where(step < self._rise, rising, falling)


def accuracy_of_first_labels(wanted: Any, answers: Any) -> Any:
    """Returns for each picture whether a network of several label sets is right.

    Args:
        wanted: Targets (batch, label sets, 7).
        answers: Probabilities of the same shape.
    """
    return keras.metrics.categorical_accuracy(wanted[:, 0], answers[:, 0])


def crossentropy_of_label_sets(wanted: Any, answers: Any) -> Any:
    """Returns the categorical cross-entropy of each picture in each label set.

    Targets that sum to less than 1 count for so much less, those of zeros not at
    all. That is what the cross-entropy is anyway, but TensorFlow's gradient of it
    after a softmax takes for granted that targets sum to 1.

    Args:
        wanted: Targets (batch, label sets, 7).
        answers: Probabilities of the same shape.
    """
    weight = keras.ops.sum(wanted, axis=-1, keepdims=True)
    distributions = wanted / keras.ops.maximum(weight, keras.config.epsilon())
    loss = keras.losses.categorical_crossentropy(distributions, answers)
    return weight[..., 0] * loss


def compile_model(model: keras.Model, recipe: Recipe, *, pictures: int) -> None:
    """Gives a network its loss, its metric and its optimiser.

    Args:
        model: A network, with or without augmentation in front.
        recipe: How to train it.
        pictures: Number of pictures to train on; schedules go by it.
    """
    learning_rate: Any = recipe.learning_rate
    if recipe.schedule != "plateau":
        batches = math.ceil(pictures / recipe.batch_size)
        learning_rate = WarmUpAndFall(recipe, batches)
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
    several = len(model.output_shape) == 3
    model.compile(
        optimizer=optimizer,
        loss=crossentropy_of_label_sets if several else "categorical_crossentropy",
        metrics=[
            keras.metrics.MeanMetricWrapper(accuracy_of_first_labels, name="accuracy")
            if several
            else "accuracy"
        ],
    )
    model.optimizer.build(model.trainable_variables)


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

    Ends with the best weights, by validation accuracy, in the network.

    Args:
        model: A compiled network.
        train: Pictures to learn from.
        validation: Pictures that choose the best epoch and the learning rate.
        recipe: How to train.
        seed: Seed of the order and the mirroring of the pictures.
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
        # Found out now, not after hours of training; `fit` restores the rest.
        _load_best_weights(model, run, state)
    batches = TrainingBatches(train, recipe=recipe, seed=seed)
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch)
        ),
        LowResolutionFirst(recipe),
        StopAtLossThatIsNoNumber(),
        plateau or LearningRateLog(),
        state.checkpoint,
        # After the two callbacks whose counters it keeps.
        state,
        LiveChart(run.live_chart, state.history),
    ]
    if recipe.average_weights:
        averages = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        # In place when the weights are kept, and gone when the state is.
        callbacks.insert(callbacks.index(state.checkpoint), averages)
        callbacks.insert(
            callbacks.index(state),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: averages.on_epoch_begin(epoch)
            ),
        )
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(run.tensorboard))
    if not state.done:
        with _noticing_ctrl_c() as stop_after_ctrl_c:
            model.fit(
                batches,
                validation_data=(validation.images, targets(validation)),
                validation_batch_size=VALIDATION_BATCH_SIZE,
                epochs=recipe.epochs,
                initial_epoch=state.epochs_done,
                callbacks=[stop_after_ctrl_c, *callbacks],
                # The batches are shuffled already. Keras would shuffle them once
                # more with a random state that a resumed run does not have.
                shuffle=False,
                # A bar where there is a terminal, else one line an epoch.
                verbose=1 if sys.stdout.isatty() else 2,
            )
    _load_best_weights(model, run, state)
    return state.history


def take_statistics_anew(
    network: keras.Model, images: np.ndarray, *, seed: int
) -> None:
    """Takes the statistics of batch normalisation from pictures as they are.

    Those that training leaves belong to its last weights, not to their average
    (Izmailov et al. 2018, arXiv 1803.05407, section 3.2), and to pictures that
    augmentation and dropout have changed (Li et al. 2018, arXiv 1801.05134).

    Args:
        network: As `build_model` returns it, but without dropout. The means and
            variances of its batch normalisation become the means of those of
            batches, in which each picture counts alike; its momentum is changed.
        images: Training pictures, uint8 (n, 48, 48, 1), n > 1.
        seed: Seed of what batches the pictures come in, and of which are looked at
            where there are more than `STATISTICS_PICTURES`.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    order = order[:STATISTICS_PICTURES]
    normalisations = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    seen = 0
    # Even batches: one of a single picture would have no variance.
    for places in np.array_split(order, math.ceil(len(order) / STATISTICS_BATCH_SIZE)):
        for layer in normalisations:
            # With this momentum a moving average is the mean over all pictures.
            layer.momentum = seen / (seen + len(places))
        network(images[places], training=True)
        seen += len(places)


@contextmanager
def _noticing_ctrl_c() -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that ends training after Ctrl-C, wherever that was noticed.

    Python drops an exception that is raised while it collects garbage, and JAX
    runs code there: without this, one Ctrl-C in many would go unheard.
    """
    pressed = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    def raise_again(batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    # Elsewhere, as in a notebook, somebody else takes care of Ctrl-C.
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield keras.callbacks.LambdaCallback(on_train_batch_end=raise_again)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _load_best_weights(
    model: keras.Model, run: RunFolder, state: "TrainingState"
) -> None:
    try:
        model.load_weights(run.best_weights(state.best_epoch))
    # A damaged file can make h5py and Keras raise almost anything.
    except Exception as error:
        raise RunError(
            f"Expected the weights of epoch {state.best_epoch} in {run.path}, but they "
            f"cannot be read ({first_line(error)}), so this run cannot be continued. "
            "Start it anew."
        ) from error


class StopAtLossThatIsNoNumber(keras.callbacks.Callback):
    """Ends training at once when the loss is NaN or infinite."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers the epoch for the message."""
        self._epoch = epoch + 1

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Looks at the mean loss of the epoch so far.

        Raises:
            TrainingError: It is not a finite number.
        """
        if logs and not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"Expected the training loss to be a number, found {logs['loss']} "
                f"in epoch {self._epoch}, batch {batch + 1}. Train again with a lower "
                "--learning-rate."
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Looks at the validation loss, for a last step that spoilt the weights.

        Raises:
            TrainingError: It is not a finite number.
        """
        if logs and not math.isfinite(logs["val_loss"]):
            raise TrainingError(
                f"Expected the validation loss to be a number, found "
                f"{logs['val_loss']} after epoch {self._epoch}. Train again with a "
                "lower --learning-rate."
            )


class LearningRateLog(keras.callbacks.Callback):
    """Logs the learning rate, as `ReduceLROnPlateau` does where it is at work."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds that of the step to come."""
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = float(rate)


class LowResolutionFirst(keras.callbacks.Callback):
    """Trains on small pictures for as many epochs as the recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        """Takes from the recipe how small, and how long."""
        super().__init__()
        self._recipe = recipe

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Sets the size of this epoch's pictures."""
        early = epoch < self._recipe.low_resolution_epochs
        size = self._recipe.low_resolution if early else IMAGE_SIZE
        for layer in self.model.layers:
            if isinstance(layer, Resolution) and layer.size != size:
                layer.size = size
                # The compiled step has the former size in it.
                self.model.make_train_function(force=True)


class TrainingState(keras.callbacks.Callback):
    """Keeps, after every epoch, all that continuing the run takes.

    These are the variables of the network (the state of the dropout layers'
    random generators among them) and of the optimiser, the history, and the
    counters of `ReduceLROnPlateau` and `ModelCheckpoint`. The order and the
    mirroring of pictures follow from the seed and the epoch alone.
    """

    def __init__(
        self,
        model: keras.Model,
        run: RunFolder,
        recipe: Recipe,
        plateau: keras.callbacks.ReduceLROnPlateau | None,
    ) -> None:
        """Starts at epoch 0.

        Args:
            model: A compiled network whose optimiser is built.
            run: Folder to keep the state and the history in.
            recipe: Says when training is done.
            plateau: The callback whose counters are kept, if there is one.
        """
        super().__init__()
        self.history: History = {name: [] for name in HISTORY_COLUMNS}
        # A file an epoch: an interrupted epoch leaves the best weights before
        # it alone, so they always fit the state.
        self.checkpoint = keras.callbacks.ModelCheckpoint(
            str(run.path / "best-epoch-{epoch:04d}.weights.h5"),
            monitor="val_accuracy",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        )
        self._run = run
        self._recipe = recipe
        self._plateau = plateau
        self._plateau_counters: dict[str, Any] = {}
        self._restored: dict[str, np.ndarray] = {}
        self._variables = {
            # Not by name: Keras numbers on the layers of a process's networks.
            f"{place:04d}": variable
            for place, variable in enumerate(
                model.trainable_variables
                + model.non_trainable_variables
                + model.optimizer.variables
            )
        }

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.history["epoch"])

    @property
    def done(self) -> bool:
        """Whether all epochs are, or nothing was gained for too many of them."""
        if not self.epochs_done:
            return False
        without_gain = self.epochs_done - self.best_epoch
        stops_early = 0 < self._recipe.early_stopping <= without_gain
        return self.epochs_done >= self._recipe.epochs or stops_early

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, of the best validation accuracy."""
        return 1 + int(np.argmax(self.history["val_accuracy"]))

    def restore(self) -> None:
        """Reads where the last whole epoch ended; training will begin there.

        Raises:
            RunError: The kept state is damaged or of another network.
        """
        arrays, counters = read_training_state(self._run.state)
        kept: dict[str, Any] = {**self._variables, **_torch_random_state()}
        shapes = {name: tuple(each.shape) for name, each in kept.items()}
        if shapes != {name: array.shape for name, array in arrays.items()}:
            raise RunError(
                f"{self._run.state} is the state of another network, or of another "
                "version of Keras, so this run cannot be continued. Start it anew."
            )
        self._restored = arrays
        self.history.update(counters["history"])
        self._plateau_counters = counters["plateau"]
        self.checkpoint.best = counters["checkpoint_best"]

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts back what the beginning of `fit` has changed or reset.

        `fit` draws from the dropout layers' random generators to build the
        network's functions, and `ReduceLROnPlateau` starts its counters anew.
        """
        for name, variable in self._variables.items():
            if name in self._restored:
                variable.assign(self._restored[name])
        _restore_torch_random_state(self._restored)
        for name, value in self._plateau_counters.items():
            setattr(self._plateau, name, value)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the state of the epoch, then what people read."""
        for name in HISTORY_COLUMNS[1:]:
            self.history[name].append(float((logs or {})[name]))
        self.history["epoch"].append(epoch + 1)
        if self.best_epoch == epoch + 1:
            # As the state that relies on them: a power cut must not part the two.
            force_to_disk(self._run.best_weights(self.best_epoch))
        if self.done:
            self.model.stop_training = True
        write_training_state(
            self._run.state,
            {
                name: keras.ops.convert_to_numpy(variable)
                for name, variable in self._variables.items()
            }
            | _torch_random_state(),
            {
                "history": self.history,
                "plateau": {
                    name: getattr(self._plateau, name)
                    for name in ("best", "wait", "cooldown_counter")
                    if self._plateau
                },
                "checkpoint_best": self.checkpoint.best,
            },
        )
        self._run.remove_other_best_weights(self.best_epoch)
        write_history(self._run.history, self.history)


def _torch_random_state() -> dict[str, np.ndarray]:
    """Returns what dropout draws from on Torch alone: a generator of the process."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    return {_TORCH_RANDOM_STATE: torch.get_rng_state().numpy()}


def _restore_torch_random_state(arrays: Mapping[str, np.ndarray]) -> None:
    if _TORCH_RANDOM_STATE in arrays:
        import torch

        torch.set_rng_state(torch.from_numpy(arrays[_TORCH_RANDOM_STATE]))


class LiveChart(PlotLossesCallback):
    """The livelossplot chart, redrawn after every epoch.

    It goes to a PNG, and to a notebook or a window where there is one.
    """

    def __init__(self, path: Path, history: History) -> None:
        """Begins the chart with the epochs of an interrupted run.

        Args:
            path: PNG to redraw.
            history: Epochs before this one; may be empty.
        """
        self._path = path
        self._interactive = plt.get_backend().lower() in (
            backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        )
        self._plot = MatplotlibPlot(
            max_cols=3, before_plots=self._arrange, after_plots=self._show
        )
        super().__init__(outputs=[self._plot])
        for epoch, *values in zip(*history.values(), strict=True):
            logs = dict(zip(HISTORY_COLUMNS[1:], values, strict=True))
            self.liveplot.update(logs, int(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds an epoch, counted from 1 as everywhere in the tool."""
        super().on_epoch_end(epoch + 1, logs)

    def _arrange(self, figure: Figure, axes: np.ndarray, groups: int) -> None:
        # In place of livelossplot's own, which clears the line of a terminal
        # and so tears up the progress bar and fills log files with codes.
        if self._plot.output_mode == "notebook":
            clear_output(wait=True)
        figure.set_size_inches(15, 4)

    def _show(self, figure: Figure) -> None:
        # livelossplot opens a figure an epoch and closes none.
        for axes in figure.axes:
            axes.locator_params(axis="x", integer=True)
        figure.tight_layout()
        write_figure(self._path, figure)
        if self._plot.output_mode == "notebook":
            plt.show()
            plt.close(figure)
        elif self._interactive:
            for number in plt.get_fignums():
                if number != figure.number:
                    plt.close(number)
            plt.pause(0.1)
        else:
            plt.close(figure)
