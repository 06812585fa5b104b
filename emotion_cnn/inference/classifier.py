"""The public `Classifier`: images of any kind in, probabilities out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emotion_cnn.data.classes import parse_classes
from emotion_cnn.data.images import image_from_array
from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.inference.prediction import predict
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.description import Network
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

# Smaller or longer arrays are no faces: rows of a table, or one axis taken for another.
_LEAST_SIDE = 8
_GREATEST_RATIO = 4


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    class_order: str | Sequence[str] | None = None,
    input_range: str | None = None,
) -> "Classifier":
    """Loads a network.

    Keras is imported by then; choose its backend before, by the environment variable
    `KERAS_BACKEND`, if the first that is installed should not do.

    Args:
        path: Folder with `model.json` and `model_weights.h5`, such as a run folder;
            None for the shipped network.
        class_order: The classes in the order of the outputs, for a network of another
            tool, whose `model.json` does not say; None for FER2013's seven.
        input_range: What pixels such a network was trained on: `0-255`, the default,
            `0-1` or `-1-1`. Images are given as uint8 all the same.

    Raises:
        ConfigError: `class_order` or `input_range` is not as described.
        ModelError: A file is missing or damaged, or is not a network of this kind, or
            `model.json` says otherwise.
    """
    if input_range is not None and input_range not in INPUT_RANGES:
        raise ConfigError(
            f"`input_range` is one of {', '.join(INPUT_RANGES)}; found {input_range!r}."
        )
    classes = None
    if class_order is not None:
        classes = parse_classes(class_order, setting="class_order")
    network = read_pair(
        shipped_folder() if path is None else Path(path),
        classes=classes,
        input_range=None if input_range is None else INPUT_RANGES[input_range],
    )
    return Classifier(network)


class Classifier:
    """A trained network that classifies faces.

    Attributes:
        classes: Names of the classes, in the order of the probabilities.
        label_sets: The label sets that the network predicts: `original` (FER2013's
            labels), `ferplus` (the majority of FER+'s votes).
        input_size: Height and width, in pixels, that images are converted to.
    """

    def __init__(self, network: Network) -> None:
        """Takes a network as `load` reads it."""
        self._network = network
        self.classes = network.description.classes
        self.label_sets = network.description.label_sets
        self.input_size = network.description.input_size

    def __repr__(self) -> str:
        """Says what is classified."""
        return (
            f"<Classifier: {self.input_size}x{self.input_size} grayscale to "
            f"{', '.join(self.classes)}; label sets: {', '.join(self.label_sets)}>"
        )

    def predict(
        self, faces: Any, *, labels: str | None = None, tta: str = "none"
    ) -> np.ndarray:
        """Predicts how probable each class is, for each face.

        Args:
            faces: uint8, one image (height, width), (height, width, 1) or (height,
                width, 3), or several of one size (n, height, width), (n, height,
                width, 1) or (n, height, width, 3), or a sequence of single images of
                any sizes, arrays or Pillow images. Gray levels from 0 to 255, or RGB.
                Each should show one face, cropped as FER2013's are. Other sizes are cut
                to the middle square and resized, colors converted to grayscale, as the
                tool converts image files.
            labels: One of `label_sets`; None for the first.
            tta: Test-time augmentation: `none`, `flip`, or `ten-crop`.

        Returns:
            float32 `(n, classes)`, in the order of `classes`; rows sum to 1. n is 1
            for a single image.

        Raises:
            DataError: The faces are not arrays as described; says what to pass.
            ConfigError: `labels` or `tta` is none of those.
        """
        labels = self.label_sets[0] if labels is None else labels
        for name, value, choices in (
            ("labels", labels, self.label_sets),
            ("tta", tta, tuple(VIEWS)),
        ):
            if value not in choices:
                raise ConfigError(
                    f"`{name}` is one of {', '.join(choices)}; found {value!r}."
                )
        images = [
            image_from_array(face, self.input_size) for face in _single_images(faces)
        ]
        if not images:
            return np.empty((0, len(self.classes)), np.float32)
        batch = np.stack(images)[..., np.newaxis]
        return predict(self._network, batch, labels=labels, tta=tta)


def _single_images(faces: Any) -> Sequence[np.ndarray]:
    """Returns arrays of one image each, not yet checked."""
    if isinstance(faces, Image.Image):
        faces = [faces]
    if isinstance(faces, np.ndarray):
        _check_dtype(faces)
        # (n, height, width) and (height, width, channels) are told apart by the last.
        if faces.ndim == 2 or (faces.ndim == 3 and faces.shape[-1] in (1, 2, 3, 4)):
            return [_checked(faces)]
        if faces.ndim in (3, 4):
            return [_checked(face) for face in faces]
        raise DataError(
            "Expected faces as (height, width), (n, height, width), (n, height, width, "
            f"1) or (n, height, width, 3), found an array of shape {faces.shape}."
        )
    if isinstance(faces, str | bytes | os.PathLike) or not isinstance(faces, Sequence):
        raise DataError(
            "Expected faces as a NumPy array of uint8, or a sequence of such arrays, "
            f"found {type(faces).__name__}. Read images into arrays first, for example "
            "with numpy.asarray(PIL.Image.open(path).convert('L'))."
        )
    images = [_array_of(face) for face in faces]
    for image in images:
        _check_dtype(image)
        if image.ndim not in (2, 3):
            raise DataError(
                "Expected a sequence of single images, (height, width) or (height, "
                f"width, channels), found one of shape {image.shape}."
            )
    return [_checked(image) for image in images]


def _array_of(face: Any) -> np.ndarray:
    """Returns an array, of a Pillow image in colors rather than palette positions."""
    if isinstance(face, Image.Image) and face.mode not in ("L", "RGB", "RGBA"):
        face = face.convert("RGBA")
    return np.asarray(face)


def _checked(image: np.ndarray) -> np.ndarray:
    """Returns an image that can be one, rather than rows of pixels or a thin strip."""
    height, width = image.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    if shorter < _LEAST_SIDE or longer > _GREATEST_RATIO * shorter:
        raise DataError(
            f"Expected images of at least {_LEAST_SIDE} pixels a side, at most "
            f"{_GREATEST_RATIO} times as long as wide, found {height}x{width}. If "
            "these are rows of pixels, reshape them to (n, 48, 48)."
        )
    return image


def _check_dtype(faces: np.ndarray) -> None:
    if faces.dtype == np.uint8:
        return
    found = f"found {faces.dtype}"
    if faces.size and faces.dtype.kind in "fiu":
        low, high = faces.min(), faces.max()
        found += f" from {low:g} to {high:g}"
        if faces.dtype.kind == "f" and low >= 0 and high <= 1:
            found += ". Scale them: (255 * faces).round().astype('uint8')"
        elif low >= 0 and high <= 255:
            found += ". Convert them: faces.astype('uint8')"
    raise DataError(f"Expected uint8 gray levels from 0 to 255, {found}.")
