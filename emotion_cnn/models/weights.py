"""Weights: calibrated in place, taken over from another network, averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from emotion_cnn.data.classes import LABELS
from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import Network
from emotion_cnn.models.input_range import GRAY_LEVELS


def divide_logits(network: Network, temperatures: Mapping[str, float]) -> Network:
    """Divides the logits of each label set by its temperature, in the weights.

    Args:
        network: A network that `build_model` built; its last dense layer is changed.
        temperatures: A number above 0 for each of its label sets.

    Returns:
        The same model, described with these temperatures.
    """
    description = network.description
    layer = network.model.get_layer("emotions")
    divisors = np.repeat(
        [temperatures[name] for name in description.label_sets],
        len(description.classes),
    ).astype("float32")
    layer.set_weights([weights / divisors for weights in layer.get_weights()])
    return Network(network.model, replace(description, temperatures=temperatures))


def start_from(network: Network, trained: Network) -> None:
    """Gives a network the weights of a trained one of the same architecture.

    Where the trained network has several label sets, those of the other network are
    taken; the weights of a single label set suit any. Where the trained network is of
    other classes, the last layer keeps its own weights.

    Args:
        network: A network that `build_model` built; its weights are replaced.
        trained: A network as `pair.read_pair` returns it.

    Raises:
        ModelError: The input range, the label sets or the shapes of the weights differ.
    """
    ours, theirs = network.description, trained.description
    if ours.input_range != theirs.input_range:
        raise ModelError(
            f"Expected weights of a network of pixels from {ours.input_range[0]} to "
            f"{ours.input_range[1]}; found one of {theirs.input_range[0]} to "
            f"{theirs.input_range[1]}. Start from another network, or leave `weights` "
            "out."
        )
    weights = trained.model.get_weights()
    if ours.classes != theirs.classes:
        weights[-2:] = network.model.get_weights()[-2:]
    shape = (len(theirs.label_sets), len(theirs.classes))
    known = (
        ours.classes == theirs.classes
        and set(ours.label_sets) <= set(theirs.label_sets)
        and weights[-1].shape == (np.prod(shape),)
    )
    if len(theirs.label_sets) > 1 and known:
        # The last layer, "emotions", predicts all label sets, one after the other.
        heads = [theirs.label_sets.index(name) for name in ours.label_sets]
        weights[-2:] = [
            each.reshape(*each.shape[:-1], *shape)[..., heads, :].reshape(
                *each.shape[:-1], -1
            )
            for each in weights[-2:]
        ]
    expected = [variable.shape for variable in network.model.weights]
    if [array.shape for array in weights] != expected:
        raise ModelError(
            "Expected weights of the network to be trained, "
            f"{network.model.count_params():,} numbers; found those of another one, "
            f"{trained.model.count_params():,} numbers. Choose `model` and `labels` as "
            "the network of `weights` was trained with, or leave `weights` out."
        )
    network.model.set_weights(weights)


def average_weights(networks: Sequence[Network]) -> Network:
    """Gives the first of several networks the mean of the weights of all.

    Source: M. Wortsman et al., "Model soups", ICML 2022 (arXiv 2203.05482). It needs
    networks that went on from the same weights.

    Args:
        networks: Networks that `build_model` built and training has changed, one or
            more; all of them are changed.

    Returns:
        The first one, its logits divided by no temperature. The statistics of its batch
        normalisation are means too, and belong to no network.

    Raises:
        ModelError: They are not of one architecture, or not for the same thing, or none
            that `build_model` built.
    """
    if not all(map(_is_built_here, networks)):
        raise ModelError(
            "Expected networks that `emotion-cnn train` has trained, to average; found "
            "one of another tool, or of other label sets. Name finished runs."
        )
    described = {
        (each.classes, each.label_sets, each.input_size, each.input_range)
        for each in (network.description for network in networks)
    }
    shapes = {
        tuple(array.shape for array in network.model.weights) for network in networks
    }
    if len(described) > 1 or len(shapes) > 1:
        raise ModelError(
            "Expected networks of one architecture, with the same classes and label "
            "sets, to average; found different ones. Name runs that went on from the "
            "same weights."
        )
    for network in networks:
        temperatures = network.description.temperatures
        divide_logits(network, {name: 1 / temperatures[name] for name in temperatures})
    arrays = [network.model.get_weights() for network in networks]
    means = [np.mean(each, axis=0) for each in zip(*arrays, strict=True)]
    first = networks[0]
    first.model.set_weights(means)
    return Network(first.model, replace(first.description, temperatures={}))


def _is_built_here(network: Network) -> bool:
    """Returns whether a network is one of `build_model`, as far as averaging needs."""
    description = network.description
    label_sets, outputs = description.label_sets, len(description.classes)
    return (
        (label_sets == LABELS or (len(label_sets) == 1 and label_sets[0] in LABELS))
        and description.input_range == GRAY_LEVELS
        and any(
            layer.name == "emotions"
            and [each.shape[-1:] for each in layer.weights]
            == 2 * [(len(label_sets) * outputs,)]
            for layer in network.model.layers
        )
    )
