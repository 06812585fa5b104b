"""Images in, probabilities out: which head answers, and test-time augmentation."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from emotion_cnn.data.classes import LABELS
from emotion_cnn.data.images import IMAGE_SIZE

BATCH_SIZE = 256
"""Images, crops and horizontal flips that go through a network at a time."""

# Milder than the 224 of 256 pixels of Krizhevsky et al., which would be 42 of 48:
# these images are all face, so what a crop leaves out is a part of it.
_CROP_SIZE = 44


def _with_flips(images: Any) -> Any:
    return ops.concatenate([images, ops.flip(images, axis=2)])


def _ten_crops(images: Any) -> Any:
    end = IMAGE_SIZE - _CROP_SIZE
    center = end // 2
    corners = ((0, 0), (0, end), (end, 0), (end, end), (center, center))
    crops = [
        images[:, top : top + _CROP_SIZE, left : left + _CROP_SIZE]
        for top, left in corners
    ]
    resized = ops.image.resize(
        ops.concatenate(crops),
        (IMAGE_SIZE, IMAGE_SIZE),
        interpolation="bilinear",
        data_format="channels_last",
    )
    return _with_flips(resized)


_VIEWS: Mapping[str, tuple[int, Callable[[Any], Any]]] = {
    "none": (1, lambda images: images),
    "flip": (2, _with_flips),
    "ten-crop": (10, _ten_crops),
}
"""How many views of an image there are, and what makes the first view of all
images, then the second of all, ...; `config.TEST_TIME_AUGMENTATIONS` lists the
same names for `--help`."""


def predict(
    model: keras.Model, images: np.ndarray, *, labels: str, tta: str = "none"
) -> np.ndarray:
    """Returns how probable each emotion is, for each image.

    With test-time augmentation that is the mean of the probabilities of several
    views of an image: for `flip`, the image and its horizontal flip; for
    `ten-crop`, its four corners and its centre, brought back to full size, and
    their horizontal flips (A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet
    classification with deep convolutional neural networks", NeurIPS 2012,
    section 4.1).

    Args:
        model: A network as `pair.read_pair` returns it.
        images: uint8 or float `(n, 48, 48, 1)`, gray levels 0 to 255, n above 0.
        labels: One of `LABELS`: which head of a network with two answers. A network
            with one head answers, whichever labels it has learned from.
        tta: One of `TEST_TIME_AUGMENTATIONS`.

    Returns:
        float32 `(n, 7)`, in the order of `EMOTIONS`; rows sum to 1.
    """
    count, views_of = _VIEWS[tta]
    step = BATCH_SIZE // count
    batches = []
    for start in range(0, len(images), step):
        batch = ops.convert_to_tensor(images[start : start + step], "float32")
        outputs = model.predict_on_batch(views_of(batch))
        if outputs.ndim == 3:
            outputs = outputs[:, LABELS.index(labels)]
        batches.append(outputs.reshape(count, -1, outputs.shape[-1]).mean(axis=0))
    return np.concatenate(batches)
