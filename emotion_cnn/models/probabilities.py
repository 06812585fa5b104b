"""What a network predicts, checked: networks come from strangers' files too."""

from typing import Any

import keras
import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import NetworkDescription

_TOLERANCE = 1e-3


def check_probabilities(
    outputs: Any, description: NetworkDescription, *, images: int
) -> np.ndarray:
    """Returns the outputs of a network if they are probabilities.

    Args:
        outputs: What the network returned: a tensor or an array, if all is well.
        description: Says how many classes and label sets there are.
        images: How many images the network was given.

    Returns:
        Float `(images, classes)`; `(images, label sets, classes)` where there are
        several label sets.

    Raises:
        ModelError: They are anything else.
    """
    found = keras.ops.convert_to_numpy(outputs)
    expected = (images, *description.output_shape[1:])
    if found.shape != expected or not np.issubdtype(found.dtype, np.floating):
        raise ModelError(
            f"Expected floats of the shape {expected} as outputs of the network for "
            f"{images} images; found {found.dtype} of {found.shape}."
        )
    sums = found.sum(axis=-1, dtype="float32")
    # NaN compares as false.
    sound = (found >= 0).all(axis=-1) & (abs(sums - 1) < _TOLERANCE)
    if not sound.all():
        example = found[~sound][0].astype("float32")
        raise ModelError(
            "Expected a network that ends in probabilities, numbers from 0 that sum to "
            f"1 over the {found.shape[-1]} classes of each label set; found "
            f"{example[:10].tolist()} for {(~sound).sum()} of {sound.size} outputs. "
            "Choose another network."
        )
    return found
