"""What a network predicts for test images, and how long that takes."""

import time
from dataclasses import dataclass

import numpy as np

from emotion_cnn.data.splits import Split
from emotion_cnn.errors import ModelError
from emotion_cnn.inference.backends import Backend
from emotion_cnn.inference.prediction import predict
from emotion_cnn.inference.shards import WHOLE, Shard


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions.

    Attributes:
        probabilities: float32 `(n, classes)`, in the order of the images' classes.
        seconds: How long prediction took one process, above 0 if there are images.
    """

    probabilities: np.ndarray
    seconds: float


def predict_timed(
    network: Backend, test: Split, *, labels: str, tta: str, shard: Shard = WHOLE
) -> Predicted:
    """Predicts test images.

    Args:
        network: The network.
        test: The images.
        labels: The label set to predict.
        tta: Test-time augmentation, one of `VIEWS`.
        shard: Which of the batches to predict, as for `predict`.

    Raises:
        ModelError: The network is of other classes, or of images of another size.
    """
    description = network.description
    if (description.classes, description.input_size) != (
        test.classes,
        test.images.shape[1],
    ):
        raise ModelError(
            f"Expected a network of the images' classes, {', '.join(test.classes)}, "
            f"and size, {test.images.shape[1]} pixels; found one of "
            f"{', '.join(description.classes)} and {description.input_size} pixels. "
            "Choose another network, or images of its classes."
        )
    # With the first batch a network prepares itself, which is no speed.
    predict(network, test.images[: network.batch_size], labels=labels, tta=tta)
    start = time.perf_counter()
    probabilities = predict(network, test.images, labels=labels, tta=tta, shard=shard)
    return Predicted(probabilities, time.perf_counter() - start)
