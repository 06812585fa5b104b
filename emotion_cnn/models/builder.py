"""One builder for every network: convolution blocks, dense blocks, softmax."""

from typing import Any

import keras
from keras import layers

from emotion_cnn.models.architectures import Architecture
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.layers import FusedBatchNormalization


def build_model(
    architecture: Architecture,
    description: NetworkDescription,
    *,
    for_training: bool = False,
) -> keras.Model:
    """Builds an untrained network.

    The order within a block is convolution, batch normalisation, ReLU; then
    2x2 max-pooling and dropout (Ioffe and Szegedy 2015, arXiv 1502.03167, for
    the place of the normalisation).

    Args:
        architecture: One of `ARCHITECTURES`, or another.
        description: Says how many classes and label sets there are, and how large
            the images.
        for_training: Whether to build it for `training`: for speed of this package's
            layers, which nobody needs in order to load the finished network, and
            with an axis for the label sets even if there is only one. The weights
            are those of the network built without this, in the same order.

    Returns:
        A model as `Network` describes it, whose first layer rescales to 0-1. Built for
        training it ends in (batch, label sets, classes), and takes images of any size
        if the architecture averages.
    """
    normalise = FusedBatchNormalization if for_training else layers.BatchNormalization
    any_size = for_training and architecture.average
    size = None if any_size else description.input_size
    inputs = keras.Input((size, size, 1), name="pixels")
    outputs = layers.Rescaling(1 / 255)(inputs)
    for block in architecture.blocks:
        shortcut = None
        for place, convolution in enumerate(block):
            outputs = layers.Conv2D(
                convolution.filters,
                convolution.kernel,
                padding="same",
                use_bias=architecture.bias,
            )(outputs)
            outputs = normalise()(outputs)
            if place == len(block) - 1:
                if architecture.squeeze:
                    outputs = _squeeze_and_excite(outputs, architecture.squeeze)
                if shortcut is not None:
                    outputs = layers.Add()([shortcut, outputs])
            outputs = layers.ReLU()(outputs)
            if place == 0 and architecture.residual:
                shortcut = outputs
        outputs = layers.MaxPooling2D()(outputs)
        outputs = layers.Dropout(architecture.dropout)(outputs)
    if architecture.average:
        outputs = layers.GlobalAveragePooling2D()(outputs)
    else:
        outputs = layers.Flatten()(outputs)
    for units in architecture.dense:
        outputs = layers.Dense(units)(outputs)
        outputs = normalise()(outputs)
        outputs = layers.ReLU()(outputs)
        outputs = layers.Dropout(architecture.dense_dropout)(outputs)
    label_sets, classes = len(description.label_sets), len(description.classes)
    # Probabilities need more digits than mixed precision computes with.
    outputs = layers.Dense(label_sets * classes, name="emotions", dtype="float32")(
        outputs
    )
    if for_training or label_sets > 1:
        outputs = layers.Reshape((label_sets, classes), dtype="float32")(outputs)
    outputs = layers.Softmax(dtype="float32")(outputs)
    return keras.Model(inputs, outputs)


def _squeeze_and_excite(inputs: Any, reduction: int) -> Any:
    channels = inputs.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    weights = layers.Dense(max(1, channels // reduction), activation="relu")(weights)
    weights = layers.Dense(channels, activation="sigmoid")(weights)
    return layers.Multiply()([inputs, weights])
