"""One builder for every network: four convolution blocks, two dense blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
from keras import layers

from emotion_cnn.dataset import IMAGE_SIZE
from emotion_cnn.emotions import EMOTIONS


@dataclass(frozen=True)
class Convolution:
    """One convolution of a block: `filters` kernels, `kernel` pixels square."""

    filters: int
    kernel: int = 3


@dataclass(frozen=True)
class Architecture:
    """A network as data.

    Attributes:
        blocks: The convolutions of each block; a block ends by halving the
            picture and by dropout.
        dense: Units of each dense block.
        dropout: Share of activations dropped after every block.
    """

    blocks: tuple[tuple[Convolution, ...], ...]
    dense: tuple[int, ...]
    dropout: float = 0.25


ARCHITECTURES: Mapping[str, Architecture] = {
    "baseline": Architecture(
        blocks=(
            (Convolution(64),),
            (Convolution(128, kernel=5),),
            (Convolution(512),),
            (Convolution(512),),
        ),
        dense=(256, 512),
    ),
    "compact": Architecture(
        blocks=tuple((Convolution(f), Convolution(f)) for f in (16, 32, 64, 128)),
        dense=(256, 128),
    ),
}
"""The networks by name; `config.MODELS` lists the same names for `--help`."""


def build_model(architecture: Architecture) -> keras.Model:
    """Builds an untrained network.

    The order within a block is convolution, batch normalisation, ReLU; then
    2x2 max-pooling and dropout (Ioffe and Szegedy 2015, arXiv 1502.03167, for
    the place of the normalisation).

    Args:
        architecture: One of `ARCHITECTURES`, or another.

    Returns:
        A model from raw gray values, float32 or uint8 (batch, 48, 48, 1) in
        0-255, to softmax probabilities, float32 (batch, 7), in the order of
        `EMOTIONS`. Rescaling to 0-1 is its first layer.
    """
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="pixels")
    outputs = layers.Rescaling(1 / 255)(inputs)
    for block in architecture.blocks:
        for convolution in block:
            outputs = layers.Conv2D(
                convolution.filters, convolution.kernel, padding="same"
            )(outputs)
            outputs = layers.BatchNormalization()(outputs)
            outputs = layers.ReLU()(outputs)
        outputs = layers.MaxPooling2D()(outputs)
        outputs = layers.Dropout(architecture.dropout)(outputs)
    outputs = layers.Flatten()(outputs)
    for units in architecture.dense:
        outputs = layers.Dense(units)(outputs)
        outputs = layers.BatchNormalization()(outputs)
        outputs = layers.ReLU()(outputs)
        outputs = layers.Dropout(architecture.dropout)(outputs)
    outputs = layers.Dense(len(EMOTIONS), activation="softmax", name="emotions")(
        outputs
    )
    return keras.Model(inputs, outputs)
