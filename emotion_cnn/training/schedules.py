"""Learning rates that are scheduled over the whole run."""

import math
from typing import Any

import keras

from emotion_cnn.training.recipes import Recipe


class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from 0, then a linear or cosine decay.

    Keras' `CosineDecay` has such a warm-up too, but its first step has a learning rate
    of 0; `PolynomialDecay` has none.

    Source: I. Loshchilov and F. Hutter, "SGDR", ICLR 2017 (arXiv 1608.03983), for the
    cosine.
    """

    def __init__(self, recipe: Recipe, batches: int) -> None:
        """Derives the steps from the epochs.

        Args:
            recipe: Its schedule is `cosine` or `linear`.
            batches: Steps in an epoch.
        """
        self._peak = recipe.learning_rate
        self._minimum = recipe.minimum_learning_rate
        self._is_cosine = recipe.schedule == "cosine"
        self._warmup = recipe.warmup_epochs * batches
        self._decay = recipe.epochs * batches - self._warmup

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        left = 1 - keras.ops.clip((step - self._warmup) / self._decay, 0, 1)
        if self._is_cosine:
            left = (1 - keras.ops.cos(math.pi * left)) / 2
        decayed = keras.ops.maximum(self._peak * left, self._minimum)
        warming = self._peak * (step + 1) / (self._warmup + 1)
        return keras.ops.where(step < self._warmup, warming, decayed)
