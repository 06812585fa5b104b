"""The state of a run after every epoch, and how it is restored."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from emotion_cnn.errors import RunError
from emotion_cnn.files import force_to_disk
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.run_folder import (
    HISTORY_COLUMNS,
    History,
    RunFolder,
    read_training_state,
    write_history,
    write_training_state,
)

_TORCH_RANDOM_STATE = "torch_random_state"


class TrainingState(keras.callbacks.Callback):
    """Saves, after every epoch, all that is needed to continue the run.

    These are the variables of the network (the state of the dropout layers'
    random generators among them) and of the optimiser, the history, and the
    counters of `ReduceLROnPlateau` and `ModelCheckpoint`. The order and the
    flipping of images follow from the seed and the epoch alone.
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
        # A file for each epoch: an interrupted epoch does not replace the weights
        # kept before it, so they always fit the state.
        self.checkpoint = keras.callbacks.ModelCheckpoint(
            str(run.path / "epoch-{epoch:04d}.weights.h5"),
            monitor="val_accuracy",
            mode="max",
            save_best_only=recipe.keep == "best",
            save_weights_only=True,
        )
        self._run = run
        self._recipe = recipe
        self._plateau = plateau
        self._plateau_counters: dict[str, Any] = {}
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
        arrays, counters = read_training_state(self._run.state)
        kept: dict[str, Any] = {**self._variables, **_torch_random_state()}
        shapes = {name: tuple(each.shape) for name, each in kept.items()}
        if shapes != {name: array.shape for name, array in arrays.items()}:
            raise RunError(
                f"{self._run.state} is the state of another network, or of another "
                "version of Keras, so this run cannot be continued. Start a new one."
            )
        self._restored = arrays
        self.history.update(counters["history"])
        self._plateau_counters = counters["plateau"]
        self.checkpoint.best = counters["checkpoint_best"]

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores what the beginning of `fit` has changed or reset.

        `fit` draws from the dropout layers' random generators to build the
        network's functions, and `ReduceLROnPlateau` resets its counters.
        """
        for name, variable in self._variables.items():
            if name in self._restored:
                variable.assign(self._restored[name])
        _restore_torch_random_state(self._restored)
        for name, value in self._plateau_counters.items():
            setattr(self._plateau, name, value)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state, then the history."""
        for name in HISTORY_COLUMNS[1:]:
            self.history[name].append(float((logs or {})[name]))
        self.history["epoch"].append(epoch + 1)
        if self.kept_epoch == epoch + 1:
            # Before the state that relies on them: a power cut must not leave the
            # state without them.
            force_to_disk(self._run.kept_weights(self.kept_epoch))
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
        self._run.remove_other_weights(self.kept_epoch)
        write_history(self._run.history, self.history)


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
