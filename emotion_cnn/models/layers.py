"""Layers for training alone: saved networks consist of Keras' own."""

from typing import Any

import keras
from keras import layers


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation by the backend's fused operation while training.

    Keras composes it of elementary operations, each of which reads and writes
    the whole activations; the fused operations of TensorFlow and Torch read them
    twice, and take bfloat16 without a conversion. The moving variance differs by
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
