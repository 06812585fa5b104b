"""What runs a network, whatever its files are: Keras, or an exported file's runtime.

One module per runtime; each is imported, and imports its runtime, when a network of its
kind is read.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.files import shown
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.pair_files import MODEL_NAME


class Backend(Protocol):
    """A network that predicts.

    Attributes:
        description: What goes into the network and what its outputs mean.
        weights_sha256: Of the file of weights, or the exported file, that was read.
        is_described: Whether the network's own file says what `description` does.
        batch_size: The most images that are predicted at a time.
    """

    @property
    def description(self) -> NetworkDescription:  # noqa: D102
        ...

    @property
    def weights_sha256(self) -> str:  # noqa: D102
        ...

    @property
    def is_described(self) -> bool:  # noqa: D102
        ...

    @property
    def batch_size(self) -> int:  # noqa: D102
        ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predicts images at once.

        Args:
            images: uint8 or float32 `(n, size, size, 1)`, gray levels from 0 to 255, n
                above 0. A network that takes uint8 has floats rounded.

        Returns:
            float32 `(n, label sets, classes)`, probabilities.

        Raises:
            ModelError: The network fails, or answers with anything else.
        """


KERAS = "keras_network"
_BY_SUFFIX = {".onnx": "onnx", ".tflite": "litert"}
_BY_FILE = {
    MODEL_NAME: KERAS,
    "saved_model.pb": "saved_model",
    "model.xml": "openvino",
}
"""The module for a folder, by the file that it holds; the first of those there."""


def kind_of(path: Path) -> str:
    """Returns the name of the module that reads a network; `KERAS` if none fits.

    Args:
        path: A file or folder, which need not exist.
    """
    if path.is_dir():
        names = (name for name in _BY_FILE if os.path.lexists(path / name))
        if found := next(names, None):
            return _BY_FILE[found]
    return _BY_SUFFIX.get(path.suffix.lower(), KERAS)


def read_network(
    path: Path,
    *,
    classes: Sequence[str] | None = None,
    input_range: tuple[int, int] | None = None,
    is_trusted: bool = False,
) -> Backend:
    """Reads a network, which may be a stranger's.

    Args:
        path: A folder with `model.json` and `model_weights.h5`, or an exported network:
            a `.onnx` or `.tflite` file, a folder with `model.xml` and `model.bin`
            (OpenVINO), or a folder with `saved_model.pb` (TensorFlow).
        classes: The classes of a pair without a description, in the order of its
            outputs; None for FER2013's.
        input_range: What such a pair expects gray levels to be scaled to; None for raw
            ones.
        is_trusted: Whether an exported network is one that this tool has just written
            or comes with, which needs no trial in a process of its own.

    Raises:
        ModelError: A file is missing or damaged, is no network of this kind, or says
            otherwise than what is given.
        MissingPackageError: The runtime is not installed; says how to install it.
    """
    kind = kind_of(path)
    module = importlib.import_module(f"{__name__}.{kind}")
    if kind == KERAS:
        return module.read(path, classes=classes, input_range=input_range)
    for name, value in (("class_order", classes), ("input_range", input_range)):
        if value is not None:
            raise ModelError(
                f"`{name}` is for networks whose {MODEL_NAME} says nothing of it; "
                f"{shown(str(path))} is an exported network, which does. Leave it out."
            )
    from emotion_cnn.inference.backends import exported

    return exported.read(path, module, is_trusted=is_trusted)
