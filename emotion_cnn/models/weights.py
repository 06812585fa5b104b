"""Weights: calibrated in place, and taken over from another network."""

import keras
import numpy as np

from emotion_cnn.data.classes import EMOTIONS, LABELS
from emotion_cnn.errors import ModelError


def divide_logits(model: keras.Model, temperatures: list[float]) -> None:
    """Divides the logits of each label set by its temperature, in the weights.

    Args:
        model: A network that `build_model` built; its last dense layer is changed.
        temperatures: A number above 0 for each of its label sets.
    """
    layer = model.get_layer("emotions")
    divisors = np.repeat(temperatures, len(EMOTIONS)).astype("float32")
    layer.set_weights([weights / divisors for weights in layer.get_weights()])


def start_from(network: keras.Model, trained: keras.Model, *, labels: str) -> None:
    """Gives a network the weights of a trained one of the same architecture.

    Args:
        network: A network that `build_model` built; its weights are replaced.
        trained: A network as `pair.read_pair` returns it.
        labels: One of `LABELS`: which answer to go on from where the trained network
            has one for each, and the other network has one.

    Raises:
        ModelError: The shapes of the weights differ.
    """
    weights = trained.get_weights()
    if len(trained.output_shape) > len(network.output_shape):
        # The last layer, "emotions", answers for all; of it, the part of one.
        head = LABELS.index(labels) * len(EMOTIONS)
        weights[-2:] = [
            each[..., head : head + len(EMOTIONS)] if each.ndim else each
            for each in weights[-2:]
        ]
    expected = [variable.shape for variable in network.weights]
    if [array.shape for array in weights] != expected:
        raise ModelError(
            "Expected weights of the network to be trained, "
            f"{network.count_params():,} numbers; found those of another one, "
            f"{trained.count_params():,} numbers. Choose --model and --labels as the "
            "network of --weights was trained with, or leave --weights out."
        )
    network.set_weights(weights)
