"""TensorFlow's saved model: a folder, for TensorFlow and TensorFlow Serving."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion_cnn.files import write_text
from emotion_cnn.models.exported import FILE_NAME

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = ("none",)
PACKAGES = ("tensorflow",)
NAME = "model_saved"


def write(
    model: "keras.Model",
    path: Path,
    *,
    quantize: str,
    text: str,
    images: np.ndarray | None,
) -> None:
    """Writes a network as TensorFlow's saved model.

    Args:
        model: As `exportable` returns it.
        path: Folder to create.
        quantize: One of `QUANTIZATIONS`.
        text: What the folder says of itself.
        images: Not used.
    """
    model.export(path, format="tf_saved_model", verbose=False)
    write_text(path / FILE_NAME, text)
