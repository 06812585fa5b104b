"""One training rate, in a process of its own: what `benchmarks.backends` starts.

    python -m benchmarks.training_rate (tool | plain-torch) MODEL PRECISION SECONDS

Prints images/s and the number of parameters as JSON. The environment says which
backend, and how many threads.
"""

import json
import math
import sys
from typing import Any

import numpy as np

from benchmarks.steps import EPOCH_STEPS, WARM_UP_STEPS, compiled_model, time_fit
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.splits import Split
from emotion_cnn.training.recipes import Recipe

BATCH_SIZE = 128
VALIDATION_IMAGES = 8


def noise(count: int) -> Split:
    """Returns images of nothing: what they show does not change what a step takes."""
    generator = np.random.default_rng(0)
    return Split(
        generator.integers(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 1), dtype=np.uint8),
        generator.integers(0, len(EMOTIONS), count),
        tuple(str(place) for place in range(count)),
    )


class ToolTraining:
    """A network in training inside the tool's `fit`."""

    def __init__(self, recipe: Recipe) -> None:
        """Begins with random weights."""
        self._recipe = recipe
        self._model = compiled_model(recipe, images=EPOCH_STEPS * BATCH_SIZE)
        self._validation = noise(VALIDATION_IMAGES)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(math.prod(each.shape) for each in self._model.trainable_variables)

    def seconds_of_epoch(self, split: Split) -> float:
        """Trains on every image once; the time is that of the steps alone."""
        return time_fit(self._model, split, self._validation, self._recipe).steps


def main() -> None:
    """Trains for so many seconds, not counting the first steps."""
    program, model, precision, seconds = sys.argv[1:]
    recipe = Recipe(model=model, precision=precision, batch_size=BATCH_SIZE, epochs=1)
    training: Any
    if program == "tool":
        training = ToolTraining(recipe)
    else:
        # Here, not above: the others need no Torch.
        from benchmarks.plain_torch import PlainTraining

        training = PlainTraining(recipe)
    train = noise(EPOCH_STEPS * BATCH_SIZE)
    training.seconds_of_epoch(train.select(np.arange(WARM_UP_STEPS * BATCH_SIZE)))
    epochs: list[float] = []
    while sum(epochs) < float(seconds):
        epochs.append(training.seconds_of_epoch(train))
    rate = len(epochs) * len(train) / sum(epochs)
    print(json.dumps({"rate": rate, "parameters": training.parameters}))


if __name__ == "__main__":
    main()
