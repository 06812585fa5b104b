"""Images in, probabilities out."""

import math

import keras
import numpy as np
from keras import ops

from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, shown
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.description import Network
from emotion_cnn.models.input_range import scaled
from emotion_cnn.models.probabilities import check_probabilities

BATCH_SIZE = 256
"""The most images, with test-time augmentation views of them, predicted at a time."""

_MOST_VALUES = 1_000_000_000
"""Outputs of all layers, for all images of a batch: 4 GB if none is given back."""


def predict(
    network: Network, images: np.ndarray, *, labels: str, tta: str = "none"
) -> np.ndarray:
    """Returns how probable each class is, for each image.

    Args:
        network: A network as `pair.read_pair` returns it.
        images: uint8 or float `(n, size, size, 1)`, gray levels 0 to 255, n above 0;
            they are scaled to the network's input range.
        labels: Which label set to predict. A network with a single one predicts that,
            whichever labels are asked for.
        tta: Test-time augmentation, one of `VIEWS`: the probabilities are the mean of
            those of the views.

    Returns:
        float32 `(n, classes)`, in the order of the network's classes; rows sum to 1.

    Raises:
        ModelError: The network has several label sets, but not this one; or it fails,
            or returns anything but probabilities.
    """
    label_sets = network.description.label_sets
    if len(label_sets) > 1 and labels not in label_sets:
        raise ModelError(
            f"Expected `labels` to be one of the network's label sets, "
            f"{', '.join(label_sets)}; found {labels!r}."
        )
    head = label_sets.index(labels) if len(label_sets) > 1 else 0
    shape = (len(label_sets), len(network.description.classes))
    count, views_of = VIEWS[tta]
    step = max(1, _batch_size(network.model) // count)
    batches = []
    for start in range(0, len(images), step):
        pixels = ops.convert_to_tensor(images[start : start + step], "float32")
        batch = views_of(scaled(pixels, network.description.input_range))
        try:
            outputs = network.model.predict_on_batch(batch)
        # A network from a file can make the backend raise almost anything.
        except Exception as error:
            raise ModelError(
                f"Expected a network that predicts {batch.shape[0]} images at a time, "
                f"but it fails ({shown(first_line(error))}). Choose another network."
            ) from error
        probabilities = check_probabilities(
            outputs, network.description, images=batch.shape[0]
        ).astype("float32", copy=False)
        heads = probabilities.reshape(count, -1, *shape)
        batches.append(heads[:, :, head].mean(axis=0))
    return np.concatenate(batches)


def _batch_size(model: keras.Model) -> int:
    """Returns how many images, or views, to predict at a time."""
    values = sum(
        math.prod(tensor.shape[1:])
        for layer in model.layers
        # `layer.output` is that of its first call alone.
        for node in layer._inbound_nodes
        for tensor in node.output_tensors
    )
    return max(1, min(BATCH_SIZE, _MOST_VALUES // values))
