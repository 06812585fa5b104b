"""Learning rates that are laid out over the whole run."""

import math
from typing import Any

import keras

from emotion_cnn.training.recipes import Recipe


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
