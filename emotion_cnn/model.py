"""One builder for every network: four convolution blocks, two dense blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from emotion_cnn.config import LABELS
from emotion_cnn.dataset import IMAGE_SIZE
from emotion_cnn.emotions import EMOTIONS
from emotion_cnn.errors import ModelError


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
        dropout: Share of activations dropped after every convolution block.
        dense_dropout: The same after every dense block.
        residual: Whether a block's first convolution is added to the outcome of
            those that follow it (He et al. 2015, arXiv 1512.03385).
        squeeze: By how much squeeze-and-excitation narrows the channels before it
            weighs them (Hu et al. 2017, arXiv 1709.01507); 0 for none.
        average: Whether the last block's pictures are averaged to a number each,
            instead of all their pixels going to the dense blocks. Such a network
            takes pictures of any size, so it can begin at a low resolution.
        bias: Whether convolutions have a bias, which the batch normalisation
            after them takes away again.
    """

    blocks: tuple[tuple[Convolution, ...], ...]
    dense: tuple[int, ...]
    dropout: float = 0.25
    dense_dropout: float = 0.25
    residual: bool = False
    squeeze: int = 0
    average: bool = False
    bias: bool = True


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
    "residual": Architecture(
        blocks=tuple(
            count * (Convolution(filters),)
            for filters, count in ((32, 2), (64, 2), (160, 3), (320, 3))
        ),
        dense=(256, 256),
        dropout=0.1,
        dense_dropout=0.3,
        residual=True,
        squeeze=8,
        average=True,
        bias=False,
    ),
}
"""The networks by name; `config.MODELS` lists the same names for `--help`."""


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation by the backend's own operation while training.

    Keras composes it of elementary operations, each of which reads and writes
    the whole activations; TensorFlow and Torch have one that reads them twice, and
    that takes bfloat16 without widening it first. The moving variance differs by
    n/(n-1), n being the thousands of values that a channel has in a batch.

    It has the variables of Keras' layer, in its order, so weights fit both.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises (batch, height, width, channels) over all but the channels."""
        backend = keras.backend.backend()
        if not training or len(inputs.shape) != 4 or backend == "jax":
            return super().call(inputs, training=training, mask=mask)
        if backend == "tensorflow":
            import tensorflow as tf

            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                self.gamma.value,
                self.beta.value,
                epsilon=self.epsilon,
                is_training=True,
            )
            for moving, new in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
            return outputs
        import torch

        return torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2),
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value,
            self.beta.value,
            training=True,
            momentum=1 - self.momentum,
            eps=self.epsilon,
        ).permute(0, 2, 3, 1)


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
        pictures of any size.
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
