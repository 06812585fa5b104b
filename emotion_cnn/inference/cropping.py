"""Cropping a detected face as FER2013's faces are cropped."""

import math

import numpy as np
from PIL import Image

from emotion_cnn.data.images import Box

SIDE = 0.95
"""Side of the crop, in heights of the detector's box.

The best on PublicTest, by the weights shipped until 2026-11-26: of its faces, pasted
into photos at 96 to 300 pixels, found and cropped, 69.6% are right, where the originals
have 70.2%; with 0.8 it is 68.1%, with 0.9 69.0%, with 1.0 68.8%, with 1.1 67.7%
(`python -m benchmarks.cropping`).
"""


def crop_box(box: Box, side: float = SIDE) -> Box:
    """Returns the square that is cut out: on the middle of a detector's box.

    Args:
        box: As a detector finds it.
        side: Side of the square, in heights of the box.
    """
    length = max(1.0, side * (box[3] - box[1]))
    left = (box[0] + box[2] - length) / 2
    top = (box[1] + box[3] - length) / 2
    return left, top, left + length, top + length


def crop_face(
    photo: np.ndarray, box: Box, size: int, *, side: float = SIDE
) -> np.ndarray:
    """Cuts a face out of a photo, in gray.

    The crop is a square on the middle of the box. Beyond the photo its edges are
    repeated.

    Args:
        photo: uint8 `(height, width, 3)`, RGB.
        box: As a detector finds it in this photo.
        size: Height and width to return, in pixels.
        side: Side of the crop, in heights of the box.

    Returns:
        uint8 `(size, size)`.
    """
    left, top, right, _ = crop_box(box, side)
    side = right - left
    # Whole pixels that hold the square, and those that its edges are blended with.
    margin = 2 + math.ceil(2 * side / size)
    first_row, first_column = math.floor(top) - margin, math.floor(left) - margin
    length = math.ceil(side) + 1 + 2 * margin
    rows = np.arange(first_row, first_row + length).clip(0, photo.shape[0] - 1)
    columns = np.arange(first_column, first_column + length).clip(0, photo.shape[1] - 1)
    inside = photo[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    gray = np.asarray(Image.fromarray(inside).convert("L"))
    repeated = gray[rows - rows[0]][:, columns - columns[0]]
    x, y = left - first_column, top - first_row
    # Pillow's filters widen as they reduce, so that nothing is aliased.
    resized = Image.fromarray(repeated).resize(
        (size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side)
    )
    return np.array(resized)
