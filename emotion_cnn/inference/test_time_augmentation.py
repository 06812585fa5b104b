"""Views of an image whose probabilities are averaged.

Imports no NumPy until there are images, for quick help.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# A crop is 44 of 48 pixels: milder than the 224 of 256 of Krizhevsky et al., which
# would be 42, as these images are all face, and what a crop leaves out is part of it.
_CROP = (11, 12)
_SHIFT = (1, 24)


def _single_view(images: "np.ndarray") -> "np.ndarray":
    return images


def _with_flips(images: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.concatenate([images, images[:, :, ::-1]])


def _with_shifts(images: "np.ndarray") -> "np.ndarray":
    import numpy as np

    size = images.shape[1]
    step = max(1, size * _SHIFT[0] // _SHIFT[1])
    # Whole pixels: interpolation would blur, and costs more than a shift gains.
    wide = np.pad(images, ((0, 0), (step, step), (step, step), (0, 0)), "symmetric")
    places = ((1, 1), (1, 0), (1, 2), (0, 1), (2, 1))
    shifted = [
        wide[:, step * row : step * row + size, step * column : step * column + size]
        for row, column in places
    ]
    return _with_flips(np.concatenate(shifted))


def _ten_crops(images: "np.ndarray") -> "np.ndarray":
    import numpy as np

    size = images.shape[1]
    cropped = size * _CROP[0] // _CROP[1]
    end = size - cropped
    center = end // 2
    corners = ((0, 0), (0, end), (end, 0), (end, end), (center, center))
    crops = [
        images[:, top : top + cropped, left : left + cropped] for top, left in corners
    ]
    enlarged = _enlarged(np.concatenate(crops).astype(np.float32), size)
    return _with_flips(enlarged)


def _enlarged(images: "np.ndarray", size: int) -> "np.ndarray":
    """Returns float32 images (n, side, side, 1), resized bilinearly.

    Each step rounds as that of `keras.ops.image.resize` on TensorFlow, so that a
    network of Keras predicts to the bit what it does there.
    """
    import numpy as np

    side = images.shape[1]
    scale = np.float32(side) / np.float32(size)
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale
    places -= np.float32(0.5)
    lower = np.floor(places)
    part = places - lower
    first = np.maximum(lower, 0).astype(int)
    second = np.minimum(np.ceil(places), side - 1).astype(int)
    rows, columns = part[:, np.newaxis, np.newaxis], part[:, np.newaxis]
    left, right = images[:, :, first], images[:, :, second]
    wide = left + (right - left) * columns
    top, bottom = wide[:, first], wide[:, second]
    return top + (bottom - top) * rows


VIEWS: Mapping[str, tuple[int, Callable[["np.ndarray"], "np.ndarray"]]] = {
    "none": (1, _single_view),
    "flip": (2, _with_flips),
    "shift": (10, _with_shifts),
    "ten-crop": (10, _ten_crops),
}
"""Test-time augmentations by name: how many views of an image there are, and what makes
them of images (n, size, size, 1): the first view of all images, then the second, ...

`flip` is the image and its horizontal flip; `shift` the image, the same shifted by a
24th of its side to each of four sides, continued by reflection, and their horizontal
flips; `ten-crop` its four corners and its centre, resized to full size, and their
horizontal flips (A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet classification
with deep convolutional neural networks", NeurIPS 2012, section 4.1).
"""
