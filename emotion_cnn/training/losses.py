"""Loss and metric of networks built for training, whatever label sets they have."""

from typing import Any

import keras


def accuracy_of_first_labels(y_true: Any, y_pred: Any) -> Any:
    """Returns for each image whether the first label set is predicted correctly.

    Args:
        y_true: Targets (batch, label sets, classes).
        y_pred: Probabilities of the same shape.
    """
    return keras.metrics.categorical_accuracy(y_true[:, 0], y_pred[:, 0])


def crossentropy_of_label_sets(y_true: Any, y_pred: Any) -> Any:
    """Returns the categorical cross-entropy of each image in each label set.

    Each is weighted by the sum of its targets, so zero targets carry no weight. That
    is what the cross-entropy is anyway, but the gradient of TensorFlow's, which Keras
    fuses with the softmax, is wrong for targets that do not sum to 1.

    Args:
        y_true: Targets (batch, label sets, classes).
        y_pred: Probabilities of the same shape.
    """
    weight = keras.ops.sum(y_true, axis=-1, keepdims=True)
    distributions = y_true / keras.ops.maximum(weight, keras.config.epsilon())
    loss = keras.losses.categorical_crossentropy(distributions, y_pred)
    return weight[..., 0] * loss
