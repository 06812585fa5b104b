"""Random changes to training images: what they change, and when."""

import keras
import numpy as np
import pytest

from emotion_cnn.training.augmentation import (
    RandomAffine,
    Resolution,
    with_augmentation,
)
from emotion_cnn.training.recipes import Recipe

EVERYTHING = Recipe(
    epochs=2,
    rotation=15,
    shift=0.1,
    zoom=0.1,
    brightness=0.2,
    contrast=0.3,
    erasing=0.5,
    low_resolution_epochs=1,
)


@pytest.fixture
def images():
    # Smooth, so that a small move changes little and a large one much.
    ramp = np.linspace(0, 255, 48, dtype="float32")
    image = (ramp[:, np.newaxis] + ramp) / 2
    return np.repeat(image[np.newaxis, :, :, np.newaxis], 64, axis=0)


def dot(row: int, column: int) -> np.ndarray:
    """64 black images with a white square of 3x3 pixels."""
    images = np.zeros((64, 48, 48, 1), "float32")
    images[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return images


def changed(layer, images) -> np.ndarray:
    keras.utils.set_random_seed(1)
    return keras.ops.convert_to_numpy(layer(images, training=True))


def places(images: np.ndarray) -> np.ndarray:
    """Centres of gravity (n, 2): row and column."""
    weights = images[..., 0] / images.sum(axis=(1, 2, 3))[:, np.newaxis, np.newaxis]
    grid = np.arange(images.shape[1])
    return np.stack(
        [(weights.sum(axis=2) * grid).sum(1), (weights.sum(axis=1) * grid).sum(1)], 1
    )


def identity() -> keras.Model:
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def test_nothing_changes_outside_training(images):
    model = with_augmentation(identity(), EVERYTHING, image_size=48)
    assert np.array_equal(
        keras.ops.convert_to_numpy(model(images, training=False)), images
    )
    assert not np.allclose(changed(model, images), images, atol=20)


def test_without_augmentation_there_is_only_the_network():
    network = identity()
    assert with_augmentation(network, Recipe(), image_size=48) is network


@pytest.mark.parametrize("size", [32, 60])
def test_images_of_another_size_are_changed_about_their_own_middle(size):
    images = np.zeros((64, size, size, 1), "float32")
    middle = slice(size // 2 - 1, size // 2 + 1)
    images[:, middle, middle] = 255
    layer = RandomAffine(rotation=180, shift=0, zoom=0.25)
    changes = changed(layer, images)
    assert np.abs(changes - images).max() > 1
    np.testing.assert_allclose(places(changes), (size - 1) / 2, atol=0.05)
    model = with_augmentation(identity(), EVERYTHING, image_size=size)
    assert model.input_shape == (None, size, size, 1)
    model.layers[-2].size = 16
    assert changed(model, images).shape == (64, 16, 16, 1)


def test_ranges_of_zero_leave_images_as_they_are(images):
    layer = RandomAffine(rotation=0, shift=0, zoom=0)
    np.testing.assert_allclose(changed(layer, images), images, atol=0.01)


def test_each_image_moves_within_the_range_on_its_own():
    moved = places(changed(RandomAffine(rotation=0, shift=0.125, zoom=0), dot(24, 20)))
    moves = moved - (24, 20)
    assert (np.abs(moves) <= 6.01).all()
    # Uniformly drawn from -6 to 6: a standard deviation of 3.5 along each side.
    assert (moves.std(axis=0) > 2.5).all()
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.5


def test_turning_keeps_the_distance_from_the_middle():
    turned = places(changed(RandomAffine(rotation=30, shift=0, zoom=0), dot(24, 40)))
    offsets = turned - 23.5
    np.testing.assert_allclose(np.hypot(*offsets.T), np.hypot(0.5, 16.5), atol=0.3)
    angles = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 1]))
    assert (np.abs(angles - np.degrees(np.arctan2(0.5, 16.5))) < 31).all()
    assert angles.min() < -15
    assert angles.max() > 15


def test_zooming_is_about_the_middle():
    # Not so near to the border that its reflection becomes visible.
    zoomed = places(changed(RandomAffine(rotation=0, shift=0, zoom=0.25), dot(24, 34)))
    scales = (zoomed[:, 1] - 23.5) / 10.5
    np.testing.assert_allclose((zoomed[:, 0] - 23.5) / 0.5, scales, atol=0.2)
    assert scales.min() > 0.74
    assert scales.max() < 1.26
    assert scales.std() > 0.1


@pytest.mark.parametrize(
    ("setting", "value"), [("brightness", 0.2), ("contrast", 0.4), ("erasing", 0.5)]
)
def test_gray_values_stay_within_0_and_255(images, setting, value):
    model = with_augmentation(identity(), Recipe(**{setting: value}), image_size=48)
    augmented = changed(model, images)
    assert augmented.min() >= 0
    assert augmented.max() <= 255
    differs = np.abs(augmented - images).max(axis=(1, 2, 3)) > 1
    assert differs.mean() > 0.25


def test_erasing_hits_as_many_images_as_the_recipe_says(images):
    for chance in (0.25, 1.0):
        model = with_augmentation(identity(), Recipe(erasing=chance), image_size=48)
        erased = (changed(model, images) != images).any(axis=(1, 2, 3))
        assert abs(erased.mean() - chance) <= 0.2
        shares = (changed(model, images) == 128).mean(axis=(1, 2, 3))[erased]
        assert (shares < 0.25).all()


def test_resolution_is_lower_in_training_alone(images):
    layer = Resolution()
    assert layer(images, training=True).shape == (64, 48, 48, 1)
    layer.size = 24
    small = changed(layer, images)
    assert small.shape == (64, 24, 24, 1)
    halves = images.reshape(64, 24, 2, 24, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(small[:, 2:-2, 2:-2], halves[:, 2:-2, 2:-2], atol=3)
    assert layer(images, training=False).shape == (64, 48, 48, 1)
