"""Random changes to training images, a batch at a time on the network's device.

They are layers in front of the network: Keras' own where it has them, and two
that it lacks. Outside training they change nothing.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from emotion_cnn.training.recipes import Recipe

_GRAY_LEVELS = (0, 255)
_ERASED_AREA = (0.02, 0.2)
_ERASED_TO = 128


class RandomAffine(layers.Layer):
    """Rotates, shifts and zooms each image at random, in one interpolation.

    Keras has a layer for each of the three, which would interpolate three times and
    blur the image. Beyond the border the image is continued by reflection.
    """

    def __init__(self, *, rotation: float, shift: float, zoom: float) -> None:
        """Sets the ranges, which are drawn from uniformly for each image.

        Args:
            rotation: Greatest angle either way, in degrees.
            shift: Greatest shift along each side, as a share of it.
            zoom: Greatest change of size, as a share: 0.1 for a factor of 0.9 to 1.1.
        """
        super().__init__(dtype="float32")
        self._angle = math.radians(rotation)
        self._shift = shift
        self._zoom = zoom
        self._seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the images, (batch, size, size, 1), unchanged outside training."""
        if not training:
            return images
        count, size = ops.shape(images)[0], images.shape[1]

        def draw(greatest: float) -> Any:
            return keras.random.uniform(
                (count,), -greatest, greatest, seed=self._seed_generator
            )

        angle, scale = draw(self._angle), 1 / (1 + draw(self._zoom))
        move_x, move_y = draw(self._shift * size), draw(self._shift * size)
        cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
        # Output pixels to input pixels, about the middle of the image.
        middle, zero = (size - 1) / 2, ops.zeros_like(angle)
        offset_x = middle - (middle + move_x) * cosine + (middle + move_y) * sine
        offset_y = middle - (middle + move_x) * sine - (middle + move_y) * cosine
        rows = [cosine, -sine, offset_x, sine, cosine, offset_y, zero, zero]
        return ops.image.affine_transform(
            images, ops.stack(rows, axis=1), "bilinear", fill_mode="reflect"
        )


class Resolution(layers.Layer):
    """Reduces images in training while its `size` is set; None keeps their size."""

    def __init__(self) -> None:
        """Starts without a change of size."""
        super().__init__(dtype="float32")
        self.size: int | None = None

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the images, (batch, size, size, 1) in training."""
        if not training or self.size is None:
            return images
        return ops.image.resize(images, (self.size, self.size), antialias=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Returns the shape outside training, with which a network is built."""
        return input_shape


def with_augmentation(
    network: keras.Model, recipe: Recipe, *, image_size: int
) -> keras.Model:
    """Puts the augmentation of a recipe in front of a network.

    Args:
        network: A network from raw gray values.
        recipe: Says what to change, and by how much.
        image_size: Height and width of the images, in pixels; a network that averages
            does not say.

    Returns:
        A model with the network's inputs and outputs, to be trained; the network
        itself if the recipe augments nothing here. Flipping, mixing and the order of
        images are up to `TrainingBatches`.
    """
    inputs = keras.Input((image_size, image_size, 1), name="pixels")
    outputs = inputs
    # Images stay float32 until the network converts them to its own precision.
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
            # Keras draws each image's probability from a range; here it is fixed.
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
