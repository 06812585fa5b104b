"""Whether a network that nobody describes is evaluated as it was trained."""

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from emotion_cnn.data.splits import Split, official_parts
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.description import Network
from emotion_cnn.models.input_range import INPUT_RANGES

_FAR_BETTER = 0.1
_MOST_IMAGES = 4_000


def doubt_assumptions(network: Network, test: Split, *, labels: str) -> str | None:
    """Looks for another class order and input range that explain a network far better.

    One half of the images for validation chooses the order of the classes, the other
    half measures it, so that a network that knows nothing is given no order by chance.

    Args:
        network: A network whose `model.json` does not describe it.
        test: Images to test on. Those of FER2013's PublicTest are used, or every second
            one.
        labels: The label set that their labels are of.

    Returns:
        A sentence that says what to try, or None.
    """
    chosen = official_parts(test).get("PublicTest", np.arange(len(test))[::2])
    images = test.select(chosen[:: len(chosen) // _MOST_IMAGES + 1])
    fitted, measured = slice(0, None, 2), slice(1, None, 2)
    y_true, classes = images.labels, network.description.classes
    if len(images) < 2:
        return None
    results = []
    for name, input_range in INPUT_RANGES.items():
        description = replace(network.description, input_range=input_range)
        y_pred = predict(
            KerasNetwork(replace(network, description=description)),
            images.images,
            labels=labels,
        ).argmax(axis=1)
        as_assumed = np.arange(len(classes))
        best = _best_order(y_true[fitted], y_pred[fitted], len(classes))
        for class_of in (as_assumed, best):
            right = class_of[y_pred[measured]] == y_true[measured]
            results.append((right.mean(), name, class_of))
    assumed = list(INPUT_RANGES.values()).index(network.description.input_range)
    before = results[2 * assumed][0]
    # The first of equals: without another order where that does no better.
    after, name, class_of = max(results, key=lambda result: round(result[0], 2))
    # Two standard errors of a share, and more.
    if after - before < max(_FAR_BETTER, 1 / np.sqrt(y_true[measured].size)):
        return None
    settings = []
    if INPUT_RANGES[name] != network.description.input_range:
        settings.append(f"`input_range={name}`")
    if (class_of != np.arange(len(classes))).any():
        order = ",".join(classes[label] for label in class_of)
        settings.append(f"`class_order={order}`")
    return (
        "This network's model.json says neither the order of its classes nor the range "
        f"of its pixels. On {y_true[measured].size:,} images {before:.1%} are right as "
        f"assumed, {after:.1%} with {' and '.join(settings)}. If that is how it was "
        "trained, evaluate it so."
    )


def _best_order(y_true: np.ndarray, y_pred: np.ndarray, count: int) -> np.ndarray:
    """Returns the class of each output, each class once, that fits labels best.

    Outputs that make no difference keep their class where they can.
    """
    agreements = np.zeros((count, count))
    np.add.at(agreements, (y_pred, y_true), 1)
    # Less than any image, so that it decides between equals alone.
    _, class_of = linear_sum_assignment(
        agreements + np.eye(count) / (count + 1), maximize=True
    )
    return class_of
