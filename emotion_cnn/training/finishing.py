"""What trained weights become a network by: statistics, temperatures, averages."""

import logging
import math

import keras
import numpy as np

from emotion_cnn.data.classes import LABEL_NAMES
from emotion_cnn.data.rows import Images
from emotion_cnn.data.splits import Split, targets
from emotion_cnn.evaluation.calibration import TEMPERATURES, fit_temperature
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.description import Network
from emotion_cnn.models.weights import divide_logits

_log = logging.getLogger(__name__)

STATISTICS_IMAGES = 8192
STATISTICS_BATCH_SIZE = 128


def re_estimate_statistics(network: keras.Model, images: Images, *, seed: int) -> None:
    """Re-estimates the statistics of batch normalisation from unchanged images.

    Those after training belong to its last weights, not to their average
    (Izmailov et al. 2018, arXiv 1803.05407, section 3.2), and to images that
    augmentation and dropout have changed (Li et al. 2018, arXiv 1801.05134).

    Args:
        network: A trained network. The means and variances of its batch normalisation
            become the mean of those of the batches, weighted by their images.
        images: Training images, uint8 (n, size, size, 1), n > 1.
        seed: Seed of the order of the images, and of the choice of
            `STATISTICS_IMAGES` where there are more.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    order = order[:STATISTICS_IMAGES]
    normalisations = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    dropouts = [
        layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)
    ]
    settings = [
        *((layer, "momentum", layer.momentum) for layer in normalisations),
        *((layer, "rate", layer.rate) for layer in dropouts),
    ]
    # Statistics are estimated in training mode alone, in which dropout would drop.
    for layer in dropouts:
        layer.rate = 0
    seen = 0
    # Even batches: one of a single image would have no variance.
    for places in np.array_split(order, math.ceil(len(order) / STATISTICS_BATCH_SIZE)):
        for layer in normalisations:
            # With this momentum a moving average is the mean over all images.
            layer.momentum = seen / (seen + len(places))
        network(images[places], training=True)
        seen += len(places)
    for layer, name, value in settings:
        setattr(layer, name, value)
    _log.info("Batch normalisation: statistics re-estimated from training images")


def calibrate(network: Network, validation: Split) -> Network:
    """Fits a temperature for each label set on validation, and builds it in.

    Args:
        network: A network whose logits are divided by no temperature yet; the weights
            of its last layer are changed.
        validation: Images that it was not trained on.

    Returns:
        The same model, described with the temperatures.
    """
    y_true = targets(validation)
    temperatures = {}
    for head, labels in enumerate(network.description.label_sets):
        # An image has a label where one class has more than half of it.
        labelled = np.flatnonzero(y_true[:, head].max(axis=1) > 0.5)
        if not len(labelled):
            _log.info(
                "Not calibrated for %s: validation has none.", LABEL_NAMES[labels]
            )
            temperatures[labels] = 1.0
            continue
        probabilities = predict(
            KerasNetwork(network), validation.select(labelled).images, labels=labels
        )
        temperatures[labels] = fit_temperature(
            y_true[labelled, head].argmax(axis=1), probabilities
        )
        _log.info(
            "Temperature for %s: %.3f, fitted on %s validation images",
            LABEL_NAMES[labels],
            temperatures[labels],
            f"{len(labelled):,}",
        )
        if not 1.01 * TEMPERATURES[0] < temperatures[labels] < 0.99 * TEMPERATURES[1]:
            _log.warning(
                "  That is the end of its range: the network may have learned nothing."
            )
    return divide_logits(network, temperatures)
