"""A face out of a photo, as FER2013's are cropped."""

import numpy as np
from PIL import Image

from emotion_cnn.data.images import Box


def crop_face(photo: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Returns uint8 `(size, size)`, gray levels; stands in until h-detect's."""
    side = max(1.0, 0.95 * (box[3] - box[1]))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    corner = (round(x - side / 2), round(y - side / 2))
    square = (*corner, corner[0] + round(side), corner[1] + round(side))
    face = Image.fromarray(photo).convert("L").crop(square)
    return np.array(face.resize((size, size), Image.Resampling.BICUBIC))
