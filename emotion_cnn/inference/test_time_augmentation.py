"""Views of an image whose probabilities are averaged; imports no Keras until then."""

from collections.abc import Callable, Mapping
from typing import Any

# A crop is 44 of 48 pixels: milder than the 224 of 256 of Krizhevsky et al., which
# would be 42, as these images are all face, and what a crop leaves out is part of it.
_CROP = (11, 12)


def _single_view(images: Any) -> Any:
    return images


def _with_flips(images: Any) -> Any:
    from keras import ops

    return ops.concatenate([images, ops.flip(images, axis=2)])


def _ten_crops(images: Any) -> Any:
    from keras import ops

    size = images.shape[1]
    cropped = size * _CROP[0] // _CROP[1]
    end = size - cropped
    center = end // 2
    corners = ((0, 0), (0, end), (end, 0), (end, end), (center, center))
    crops = [
        images[:, top : top + cropped, left : left + cropped] for top, left in corners
    ]
    resized = ops.image.resize(
        ops.concatenate(crops),
        (size, size),
        interpolation="bilinear",
        data_format="channels_last",
    )
    return _with_flips(resized)


VIEWS: Mapping[str, tuple[int, Callable[[Any], Any]]] = {
    "none": (1, _single_view),
    "flip": (2, _with_flips),
    "ten-crop": (10, _ten_crops),
}
"""Test-time augmentations by name: how many views of an image there are, and what makes
them of images (n, size, size, 1): the first view of all images, then the second, ...

`flip` is the image and its horizontal flip; `ten-crop` its four corners and its centre,
resized to full size, and their horizontal flips (A. Krizhevsky, I. Sutskever, G. E.
Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS 2012,
section 4.1).
"""
