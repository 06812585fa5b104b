"""Keras callbacks that stop, log and resize."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import keras

from emotion_cnn.errors import TrainingError
from emotion_cnn.training.augmentation import Resolution
from emotion_cnn.training.recipes import Recipe

_log = logging.getLogger(__name__)


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """Stops training as soon as the loss is NaN or infinite."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers the epoch for the message."""
        self._epoch = epoch + 1

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Checks the mean loss of the epoch so far.

        Raises:
            TrainingError: It is not a finite number.
        """
        if logs:
            place = f"in epoch {self._epoch}, batch {batch + 1}"
            self._check(logs["loss"], "training", place)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the validation loss, as the last step may have spoilt the weights.

        Raises:
            TrainingError: It is not a finite number.
        """
        if logs:
            self._check(logs["val_loss"], "validation", f"after epoch {self._epoch}")

    def _check(self, loss: float, name: str, place: str) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"Expected the {name} loss to be a number, found {loss} {place}. Train "
                "again with a lower `learning_rate`."
            )


class EpochLog(keras.callbacks.Callback):
    """Logs a line an epoch, where no progress bar shows it."""

    def __init__(self, epochs: int) -> None:
        """Takes the number of epochs of the whole run."""
        super().__init__()
        self._epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Logs what Keras measured."""
        seconds = time.perf_counter() - self._start
        values = " - ".join(
            f"{name}: {value:.4g}" for name, value in (logs or {}).items()
        )
        _log.info("Epoch %d/%d, %.1f s - %s", epoch + 1, self._epochs, seconds, values)


class LearningRateLog(keras.callbacks.Callback):
    """Logs the learning rate, as `ReduceLROnPlateau` does where it is used."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the learning rate of the next step."""
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = float(rate)


class ProgressiveSizes(keras.callbacks.Callback):
    """Trains on images of the sizes that the recipe names."""

    def __init__(self, recipe: Recipe) -> None:
        """Takes the sizes and their epochs from the recipe."""
        super().__init__()
        self._recipe = recipe

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Sets the size of this epoch's images."""
        size = self._recipe.size_in_epoch(epoch)
        for layer in self.model.layers:
            if isinstance(layer, Resolution) and layer.size != size:
                layer.size = size
                # The compiled step contains the former size.
                self.model.make_train_function(force=True)
