"""Loss and metric of networks with several label sets."""

from typing import Any

import keras


def accuracy_of_first_labels(wanted: Any, answers: Any) -> Any:
    """Returns for each image whether a network of several label sets is right.

    Args:
        wanted: Targets (batch, label sets, 7).
        answers: Probabilities of the same shape.
    """
    return keras.metrics.categorical_accuracy(wanted[:, 0], answers[:, 0])


def crossentropy_of_label_sets(wanted: Any, answers: Any) -> Any:
    """Returns the categorical cross-entropy of each image in each label set.

    Targets that sum to less than 1 count for so much less, those of zeros not at
    all. That is what the cross-entropy is anyway, but TensorFlow's gradient of it
    after a softmax takes for granted that targets sum to 1.

    Args:
        wanted: Targets (batch, label sets, 7).
        answers: Probabilities of the same shape.
    """
    weight = keras.ops.sum(wanted, axis=-1, keepdims=True)
    distributions = wanted / keras.ops.maximum(weight, keras.config.epsilon())
    loss = keras.losses.categorical_crossentropy(distributions, answers)
    return weight[..., 0] * loss
