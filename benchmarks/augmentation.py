"""How fast images are augmented, against how fast a training step takes them in.

One process, the two in turns.
"""

import argparse
import dataclasses
import statistics
import time
from typing import Any

import keras
import numpy as np

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from benchmarks.steps import (
    EPOCH_STEPS,
    WARM_UP_STEPS,
    compiled_model,
    time_bare_steps,
)
from emotion_cnn.data.batches import TrainingBatches
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.data.splits import Split
from emotion_cnn.training.augmentation import with_augmentation
from emotion_cnn.training.fitting import training_batches
from emotion_cnn.training.recipes import RECIPES, Recipe

CONSUMER = Recipe(model="compact", batch_size=128)
# All that the recipe `best` changes, on images at full size, and mixup.
AUGMENTATION = dataclasses.replace(
    RECIPES["best"], mixup=0.2, low_resolution_epochs=0, batch_size=CONSUMER.batch_size
)


class AsInTraining(keras.layers.Layer):
    """Lets Keras' `predict`, compiled like a training step, change the images."""

    def __init__(self, augmentation: keras.Model) -> None:
        """Takes the layers that change them."""
        super().__init__()
        self.augmentation = augmentation

    def call(self, images: Any) -> Any:
        """Returns the images as a network in training gets them."""
        return self.augmentation(images, training=True)


def augmenting_model(recipe: Recipe) -> keras.Model:
    """Builds what changes images by a recipe, and nothing behind it."""
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1))
    nothing = keras.Model(inputs, keras.layers.Identity()(inputs))
    augmentation = with_augmentation(nothing, recipe, image_size=IMAGE_SIZE)
    return keras.Model(inputs, AsInTraining(augmentation)(inputs))


def time_pipeline(batches: TrainingBatches, model: keras.Model, steps: int) -> float:
    """Returns the seconds that so many batches take, one after the other."""
    start = time.perf_counter()
    for step in range(steps):
        images, _ = batches[step % len(batches)]
        model.predict_on_batch(images)
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        train, _, _ = read_splits(folder, skip_bad=False)
    measure(train, arguments)


def measure(train: Split, arguments: argparse.Namespace) -> None:
    """Measures both, in turns.

    Args:
        train: Images to augment.
        arguments: What the command line says.
    """
    batch_size = CONSUMER.batch_size
    # Whole batches alone: a short last one would be compiled for anew.
    train = train.select(np.arange(len(train) // batch_size * batch_size))
    batches = training_batches(train, AUGMENTATION, seed=0)
    consumer = compiled_model(CONSUMER, images=len(train))
    augmentation = augmenting_model(AUGMENTATION)
    images, labels = (keras.ops.convert_to_tensor(part) for part in batches[0])
    time_pipeline(batches, augmentation, WARM_UP_STEPS)
    time_bare_steps(consumer, images, labels, WARM_UP_STEPS)

    made, taken = [], []
    for _ in range(arguments.rounds):
        made.append(time_pipeline(batches, augmentation, EPOCH_STEPS))
        taken.append(time_bare_steps(consumer, images, labels, EPOCH_STEPS))
    count = EPOCH_STEPS * batch_size
    show(
        f"Augmented images against a bare training step: {CONSUMER.model}, batches "
        f"of {batch_size}\nimages of {arguments.data}",
        [
            Row(
                "images with all augmentation",
                "images/s",
                count / statistics.median(made),
                count / statistics.median(taken),
                at_least=5,
            )
        ],
        notes=[
            f"Medians of {arguments.rounds} rounds of {EPOCH_STEPS} batches, in turns, "
            "both warmed up.",
            "Augmentation: flipping, mixup; rotation, shift, zoom; brightness, "
            "contrast, erasing.",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
