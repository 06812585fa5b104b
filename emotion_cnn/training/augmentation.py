"""Random changes to training images, a batch at a time where the network runs.

They are layers in front of the network: Keras' own where it has them, and two
that it lacks. Outside training they change nothing.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.training.recipes import Recipe

_GRAY_LEVELS = (0, 255)
_ERASED_AREA = (0.02, 0.2)
_ERASED_TO = 128


class RandomAffine(layers.Layer):
    """Turns, moves and zooms each image at random, in one interpolation.

    Keras' layers for this are three, and each blurs the image anew. What comes
    in from outside is the horizontal flip of what lies inside the border.
    """

    def __init__(self, *, rotation: float, shift: float, zoom: float) -> None:
        """Sets the ranges; each image draws from them evenly.

        Args:
            rotation: Greatest angle either way, in degrees.
            shift: Greatest move along each side, as a share of it.
            zoom: Greatest change of size, as a share: 0.1 for 0.9 to 1.1 times.
        """
        super().__init__(dtype="float32")
        self._angle = math.radians(rotation)
        self._shift = shift
        self._zoom = zoom
        self._seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the images, (batch, 48, 48, 1), as they were or changed."""
        if not training:
            return images
        count = ops.shape(images)[0]

        def draw(greatest: float) -> Any:
            return keras.random.uniform(
                (count,), -greatest, greatest, seed=self._seed_generator
            )

        angle, scale = draw(self._angle), 1 / (1 + draw(self._zoom))
        move_x, move_y = draw(self._shift * IMAGE_SIZE), draw(self._shift * IMAGE_SIZE)
        cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
        # Output pixels to input pixels, about the middle of the image.
        middle, zero = (IMAGE_SIZE - 1) / 2, ops.zeros_like(angle)
        offset_x = middle - (middle + move_x) * cosine + (middle + move_y) * sine
        offset_y = middle - (middle + move_x) * sine - (middle + move_y) * cosine
        rows = [cosine, -sine, offset_x, sine, cosine, offset_y, zero, zero]
        return ops.image.affine_transform(
            images, ops.stack(rows, axis=1), "bilinear", fill_mode="reflect"
        )


class Resolution(layers.Layer):
    """Makes images smaller for a time: training begins faster on small ones."""

    def __init__(self) -> None:
        """Begins at full size."""
        super().__init__(dtype="float32")
        self.size = IMAGE_SIZE

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the images, (batch, size, size, 1) in training."""
        if not training or self.size == IMAGE_SIZE:
            return images
        return ops.image.resize(images, (self.size, self.size), antialias=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Returns the shape outside training, which a network is built with."""
        return input_shape


def with_augmentation(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Puts what a recipe changes at random in front of a network.

    Args:
        network: A network from raw gray values.
        recipe: Says what to change, and by how much.

    Returns:
        A model with the network's inputs and outputs, to be trained. Flipping,
        mixing and the order of images are the loader's.
    """
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="pixels")
    outputs = inputs
    # Images keep all their digits until the network rounds them.
    exactly = {"value_range": _GRAY_LEVELS, "dtype": "float32"}
    if recipe.rotation or recipe.shift or recipe.zoom:
        outputs = RandomAffine(
            rotation=recipe.rotation, shift=recipe.shift, zoom=recipe.zoom
        )(outputs)
    if recipe.brightness:
        outputs = layers.RandomBrightness(recipe.brightness, **exactly)(outputs)
    if recipe.contrast:
        outputs = layers.RandomContrast(recipe.contrast, **exactly)(outputs)
    if recipe.erasing:
        outputs = layers.RandomErasing(
            # The chance of an image is drawn from a range; here it is fixed.
            (recipe.erasing, recipe.erasing),
            scale=_ERASED_AREA,
            fill_value=_ERASED_TO,
            **exactly,
        )(outputs)
    if recipe.low_resolution_epochs:
        outputs = Resolution()(outputs)
    if outputs is inputs:
        return network
    return keras.Model(inputs, network(outputs))
