"""The state of a run after every epoch, and how it is restored."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emotion_cnn.files import first_line
from emotion_cnn.models.in_memory import save_weights
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.run_folder import (
    HISTORY_COLUMNS,
    KEPT_WEIGHTS_NAME,
    History,
    RunFolder,
    damaged_state,
    read_training_state,
    write_history,
    write_training_state,
)

_KEPT_SHA256 = "kept_weights_sha256"
_TORCH_RANDOM_STATE = "torch_random_state"


class KeptWeights(keras.callbacks.ModelCheckpoint):
    """`ModelCheckpoint`, but each file is written whole or not at all.

    HDF5 itself writes through links, and ends the process where the disk is full.

    Attributes:
        sha256: Of the last file that was written.
    """

    def __init__(self, run: RunFolder, *, best_only: bool) -> None:
        """Takes the folder for the files, and whether only the best are kept."""
        # A file for each epoch: an interrupted epoch does not replace the weights
        # kept before it, so they always fit the state.
        super().__init__(
            # Braces in the path are no placeholders.
            re.sub("[{}]", r"\g<0>\g<0>", f"{run.path}{os.sep}") + KEPT_WEIGHTS_NAME,
            monitor="val_accuracy",
            mode="max",
            save_best_only=best_only,
            save_weights_only=True,
        )
        self.sha256 = ""
        self._folder = run.path

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the weights if they are to be kept.

        Raises:
            FileNotFoundError: The folder is gone, and all that was kept. Keras would
                create it again, and training would go on for nothing.
        """
        self._folder.stat()
        super().on_epoch_end(epoch, logs)

    @property
    def model(self) -> Any:
        """What `ModelCheckpoint` calls `save_weights` of."""
        return _SavedWhole(super().model, self)


class _SavedWhole:
    """A network whose weights are saved by way of memory."""

    def __init__(self, model: keras.Model, checkpoint: KeptWeights) -> None:
        self._model = model
        self._checkpoint = checkpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def save_weights(self, filepath: str, overwrite: bool) -> None:
        self._checkpoint.sha256 = save_weights(self._model, Path(filepath))


class TrainingState(keras.callbacks.Callback):
    """Saves, after every epoch, all that is needed to continue the run.

    These are the variables of the network (the state of the dropout layers'
    random generators among them) and of the optimiser, the history, the counters of
    `ReduceLROnPlateau`, and the SHA-256 of the kept weights. What `ModelCheckpoint`
    compares with is in the history. The order and the flipping of images follow from
    the seed and the epoch alone.
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
            run: Folder for the state and the history.
            recipe: Says when training is done.
            plateau: The callback whose counters are saved, if there is one.
        """
        super().__init__()
        self.history: History = {name: [] for name in HISTORY_COLUMNS}
        self.checkpoint = KeptWeights(run, best_only=recipe.keep == "best")
        self._run = run
        self._recipe = recipe
        self._plateau = plateau
        self._plateau_counters: tuple[float | None, int] = (None, 0)
        self._restored: dict[str, np.ndarray] = {}
        self._variables = {
            # Not by name: Keras numbers the layers of all networks of a process.
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
        """Whether all epochs are done, or early stopping applies."""
        if not self.epochs_done:
            return False
        without_improvement = self.epochs_done - self.best_epoch
        stops_early = 0 < self._recipe.early_stopping <= without_improvement
        return self.epochs_done >= self._recipe.epochs or stops_early

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, of the best validation accuracy."""
        return 1 + int(np.argmax(self.history["val_accuracy"]))

    @property
    def kept_epoch(self) -> int:
        """The epoch, from 1, whose weights are kept: the best or the last one."""
        return self.best_epoch if self._recipe.keep == "best" else self.epochs_done

    def restore(self) -> None:
        """Reads the state after the last whole epoch, where training will continue.

        Raises:
            RunError: The state is damaged or of another network.
        """
        arrays, counters = read_training_state(
            self._run.state, {**self._variables, **_torch_random_state()}
        )
        try:
            self.history = _checked_history(counters["history"])
            if self._plateau:
                self._plateau_counters = _checked_plateau(
                    counters["plateau"], self.epochs_done
                )
            self.checkpoint.sha256 = counters[_KEPT_SHA256]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise damaged_state(self._run.state, first_line(error)) from error
        self._restored = arrays
        self.checkpoint.best = max(self.history["val_accuracy"])

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores what the beginning of `fit` has changed or reset.

        `fit` draws from the dropout layers' random generators to build the
        network's functions, and `ReduceLROnPlateau` resets its counters.
        """
        for name, variable in self._variables.items():
            if name in self._restored:
                variable.assign(self._restored[name])
        _restore_torch_random_state(self._restored)
        if self._plateau:
            self._plateau.best, self._plateau.wait = self._plateau_counters

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state, then the history."""
        for name in HISTORY_COLUMNS[1:]:
            self.history[name].append(float((logs or {})[name]))
        self.history["epoch"].append(epoch + 1)
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
                "plateau": self._plateau
                and {"best": self._plateau.best, "wait": self._plateau.wait},
                _KEPT_SHA256: self.checkpoint.sha256,
            },
        )
        self._run.remove_other_weights(self.kept_epoch)
        write_history(self._run.history, self.history)


def _checked_history(values: Any) -> History:
    """Returns a history that was read from a file, if it can be one.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: It cannot.
    """
    if values.keys() != set(HISTORY_COLUMNS):
        raise ValueError("the history has other columns")
    epochs = len(values["epoch"])
    if not epochs or values["epoch"] != list(range(1, epochs + 1)):
        raise ValueError("the epochs are not counted from 1")
    for name, column in values.items():
        if len(column) != epochs or not all(map(_is_finite, column)):
            raise ValueError(f"{name} is not a finite number for each epoch")
    for name in ("accuracy", "val_accuracy"):
        if not all(0 <= each <= 1 for each in values[name]):
            raise ValueError(f"{name} is not between 0 and 1")
    return {name: values[name] for name in HISTORY_COLUMNS}


def _checked_plateau(values: Any, epochs: int) -> tuple[float, int]:
    """Returns the lowest validation loss and the epochs since, if they can be these.

    Raises:
        LookupError, TypeError, ValueError: They cannot.
    """
    best, wait = values["best"], values["wait"]
    if not _is_finite(best):
        raise ValueError("the lowest validation loss is not a finite number")
    if type(wait) is not int or not 0 <= wait <= epochs:
        raise ValueError("there are not as many epochs without a lower validation loss")
    return best, wait


def _is_finite(value: Any) -> bool:
    # An integer of JSON can be too large for a float.
    return type(value) in (int, float) and abs(value) < sys.float_info.max


def _torch_random_state() -> dict[str, np.ndarray]:
    """Returns the state of Torch's global generator, which dropout draws from there."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    return {_TORCH_RANDOM_STATE: torch.get_rng_state().numpy()}


def _restore_torch_random_state(arrays: Mapping[str, np.ndarray]) -> None:
    if _TORCH_RANDOM_STATE in arrays:
        import torch

        torch.set_rng_state(torch.from_numpy(arrays[_TORCH_RANDOM_STATE]))
