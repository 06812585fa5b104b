"""Where the shipped network lies: in a clone, or inside the installed package."""

from pathlib import Path

from emotion_cnn.models.pair_files import MODEL_NAME

EXPORTED_NAMES = ("model-float16.tflite", "model.onnx")
"""Exported networks that may lie beside a pair; the shipped pair has the first."""

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder() -> Path:
    """Returns the folder of the shipped `model.json` and `model_weights.h5`."""
    inside = _PACKAGE / "shipped"
    return inside if inside.is_dir() else _PACKAGE.parent


def default_folder() -> Path:
    """Returns the working folder where it has a network, else the shipped one's."""
    here = Path.cwd()
    return here if (here / MODEL_NAME).is_file() else shipped_folder()
