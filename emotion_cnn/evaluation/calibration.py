"""Temperature scaling: probabilities that are as high as predictions are accurate."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from emotion_cnn.evaluation.metrics import check_predictions

TEMPERATURES = (0.05, 20.0)
"""The least and the greatest temperature that `fit_temperature` tries."""


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature that calibrates a network.

    It is the T that minimises the log loss of a softmax whose logits are divided by
    T; the loss has one minimum, as it is convex in 1 / T. Above 1 the network was
    overconfident. Predictions, and with them accuracy, stay as they are.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern
    neural networks", ICML 2017, section 4.2.

    Args:
        labels: Integers of shape (n,), positions of classes, of images that were not
            trained on.
        probabilities: Floats of shape (n, classes) whose rows sum to 1.

    Returns:
        A number within `TEMPERATURES`; the least one where every image is predicted
        correctly.

    Raises:
        ValueError: There are no images, or the arrays are not as described.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    check_predictions(labels, probabilities, probabilities.shape[-1])
    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Returns logits, float64, whose softmax are these probabilities."""
    # A softmax in float32 gives 0 for what is too small for it.
    least = np.finfo(np.float32).tiny
    return np.log(np.maximum(probabilities, least, dtype=np.float64))
