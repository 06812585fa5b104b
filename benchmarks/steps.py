"""How long training steps take: inside the tool's fit, and bare."""

import io
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import keras

from emotion_cnn.data.splits import Split
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.training.augmentation import with_augmentation
from emotion_cnn.training.fitting import (
    compile_model,
    computing_with,
    fit,
    fix_randomness,
)
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.run_folder import RunFolder

WARM_UP_STEPS = 3
EPOCH_STEPS = 16


def compiled_model(recipe: Recipe, *, images: int) -> keras.Model:
    """Builds and compiles what `--mode train` trains.

    Args:
        recipe: How to train; says which network, and what is put in front of it.
        images: Number of images in an epoch.
    """
    fix_randomness(0)
    with computing_with(recipe.precision):
        description = NetworkDescription()
        network = build_model(
            ARCHITECTURES[recipe.model], description, for_training=True
        )
        model = with_augmentation(network, recipe, image_size=description.input_size)
    compile_model(model, recipe, images=images)
    return model


class Stopwatch(keras.callbacks.Callback):
    """Times the steps of the one epoch it sees, and what follows them.

    As the last of the callbacks it is called when the others have done their work.

    Attributes:
        steps: Seconds from the start of the epoch to the end of its last step:
            batches, steps and what the callbacks do around them.
        epoch_end: Seconds of what the callbacks do after the validation:
            checkpoint, training state, history, chart.
    """

    steps = 0.0
    epoch_end = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Notes the time: the last one counts."""
        self.steps = time.perf_counter() - self._start

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts anew, for what follows the validation."""
        self._validated = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Stops."""
        self.epoch_end = time.perf_counter() - self._validated


def time_fit(
    model: keras.Model, train: Split, validation: Split, recipe: Recipe
) -> Stopwatch:
    """Trains as `--mode train` does, in a new run folder, with a stopwatch added.

    Args:
        model: A compiled network.
        train: Images of the epoch.
        validation: Images to validate on after it.
        recipe: How to train; for one epoch.
    """
    stopwatch = Stopwatch()
    keras_fit = model.fit

    def timed_fit(*positional: Any, callbacks: list[Any], **named: Any) -> Any:
        return keras_fit(*positional, callbacks=[*callbacks, stopwatch], **named)

    with (
        TemporaryDirectory() as folder,
        mock.patch.object(model, "fit", timed_fit),
        redirect_stdout(io.StringIO()),
    ):
        fit(
            model,
            train,
            validation,
            recipe=recipe,
            seed=0,
            run=RunFolder(Path(folder)),
            tensorboard=False,
        )
    return stopwatch


def time_bare_steps(model: keras.Model, images: Any, labels: Any, steps: int) -> float:
    """Returns the seconds that steps on one batch take, tensors already."""
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(images, labels)
    return time.perf_counter() - start
