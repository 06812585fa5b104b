"""One builder for every network: four convolution blocks, two dense blocks."""

from typing import Any

import keras
from keras import layers

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.models.architectures import Architecture
from emotion_cnn.models.layers import FusedBatchNormalization


def build_model(
    architecture: Architecture, *, label_sets: int = 1, for_training: bool = False
) -> keras.Model:
    """Builds an untrained network.

    The order within a block is convolution, batch normalisation, ReLU; then
    2x2 max-pooling and dropout (Ioffe and Szegedy 2015, arXiv 1502.03167, for
    the place of the normalisation).

    Args:
        architecture: One of `ARCHITECTURES`, or another.
        label_sets: How many sets of labels the network answers for, each with
            probabilities of its own.
        for_training: Whether to build it for speed: of this package's layers,
            which nobody needs in order to load the finished network. The weights
            are those of the network built without this, in the same order.

    Returns:
        A model from raw gray values, float32 or uint8 (batch, 48, 48, 1) in
        0-255, to softmax probabilities, float32 (batch, 7), in the order of
        `EMOTIONS`; (batch, label_sets, 7) for several label sets. Rescaling to
        0-1 is its first layer. Built for training, a network that averages takes
        images of any size.
    """
    normalise = FusedBatchNormalization if for_training else layers.BatchNormalization
    any_size = for_training and architecture.average
    size = None if any_size else IMAGE_SIZE
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
    if label_sets == 1:
        # Probabilities need more digits than mixed precision computes with.
        outputs = layers.Dense(
            len(EMOTIONS), activation="softmax", name="emotions", dtype="float32"
        )(outputs)
    else:
        outputs = layers.Dense(
            label_sets * len(EMOTIONS), name="emotions", dtype="float32"
        )(outputs)
        outputs = layers.Reshape((label_sets, len(EMOTIONS)), dtype="float32")(outputs)
        outputs = layers.Softmax(dtype="float32")(outputs)
    return keras.Model(inputs, outputs)


def _squeeze_and_excite(inputs: Any, reduction: int) -> Any:
    channels = inputs.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    weights = layers.Dense(max(1, channels // reduction), activation="relu")(weights)
    weights = layers.Dense(channels, activation="sigmoid")(weights)
    return layers.Multiply()([inputs, weights])
