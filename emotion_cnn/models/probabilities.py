"""What a network predicts, checked: networks come from strangers' files too."""

from typing import Any

import numpy as np

from emotion_cnn.errors import ModelError

_TOLERANCE = 1e-3


def check_probabilities(
    outputs: Any, shape: tuple[int | None, ...], *, tolerance: float = _TOLERANCE
) -> np.ndarray:
    """Returns the outputs of a network if they are probabilities.

    Args:
        outputs: What the network returned: an array, if all is well.
        shape: How many images, label sets (but for a network of Keras with a single
            one) and classes there are.
        tolerance: How far from 1 sums may be.

    Returns:
        Floats of that shape.

    Raises:
        ModelError: They are anything else.
    """
    found = np.asarray(outputs)
    if found.shape != shape or not np.issubdtype(found.dtype, np.floating):
        raise ModelError(
            f"Expected floats of the shape {shape} as outputs of the network for "
            f"{shape[0]} images; found {found.dtype} of {found.shape}."
        )
    # Infinite numbers and sums are refused, without a warning of NumPy's.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = found.sum(axis=-1, dtype="float32")
    # NaN compares as false.
    sound = (found >= 0).all(axis=-1) & (abs(sums - 1) < tolerance)
    if not sound.all():
        example = found[~sound][0].astype("float32")
        raise ModelError(
            "Expected a network that ends in probabilities, numbers from 0 that sum to "
            f"1 over the {found.shape[-1]} classes of each label set; found "
            f"{example[:10].tolist()} for {(~sound).sum()} of {sound.size} outputs. "
            "Choose another network."
        )
    return found
