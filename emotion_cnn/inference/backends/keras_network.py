"""Networks of Keras: the pair `model.json` + `model_weights.h5`, or one in memory.

Imports no Keras before one is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emotion_cnn.backend import use_backend
from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, shown
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.input_range import scaled
from emotion_cnn.models.pair_files import open_pair
from emotion_cnn.models.probabilities import check_probabilities

BATCH_SIZE = 256
"""The most images, with test-time augmentation views of them, predicted at a time."""

_MOST_VALUES = 1_000_000_000
"""Outputs of all layers, for all images of a batch: 4 GB if none is given back."""


def read(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    input_range: tuple[int, int] | None = None,
) -> "KerasNetwork":
    """Reads a pair, as `models.pair.read_pair` does.

    Keras is imported, on the backend that `use_backend` chooses, unless it is already.
    """
    # What is missing is said before a backend is looked for.
    with open_pair(folder):
        pass
    use_backend()
    from emotion_cnn.models.pair import read_pair

    return KerasNetwork(read_pair(folder, classes=classes, input_range=input_range))


@dataclass(frozen=True, eq=False)
class KerasNetwork:
    """A `Backend` of a network of Keras."""

    network: Network

    @property
    def description(self) -> NetworkDescription:
        """What goes into the network and what its outputs mean."""
        return self.network.description

    @property
    def weights_sha256(self) -> str:
        """Of the file of weights; empty for a network that was read from none."""
        return self.network.weights_sha256

    @property
    def is_described(self) -> bool:
        """Whether `model.json` says what `description` does."""
        return self.network.is_described

    @cached_property
    def batch_size(self) -> int:
        """The most images that are predicted at a time."""
        values = sum(
            math.prod(tensor.shape[1:])
            for layer in self.network.model.layers
            # `layer.output` is that of its first call alone.
            for node in layer._inbound_nodes
            for tensor in node.output_tensors
        )
        return max(1, min(BATCH_SIZE, _MOST_VALUES // values))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predicts images at once, as `Backend.predict`."""
        description = self.description
        pixels = scaled(images.astype(np.float32), description.input_range)
        try:
            outputs = self.network.model.predict_on_batch(pixels)
        # A network from a file can make the backend raise almost anything.
        except Exception as error:
            raise ModelError(
                f"Expected a network that predicts {len(images)} images at a time, "
                f"but it fails ({shown(first_line(error))}). Choose another network."
            ) from error
        shape = len(images), *description.output_shape[1:]
        probabilities = check_probabilities(outputs, shape).astype(
            np.float32, copy=False
        )
        heads = len(description.label_sets), len(description.classes)
        return probabilities.reshape(-1, *heads)
