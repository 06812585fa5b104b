"""What is exported: the network from gray levels to probabilities, whatever it was."""

import keras
from keras import ops

from emotion_cnn.models.description import Network
from emotion_cnn.models.exported import INPUT_NAME, OUTPUT_NAME
from emotion_cnn.models.input_range import scaled


def exportable(network: Network) -> keras.Model:
    """Wraps a network so that no user has to know how it takes its images.

    Returns:
        A model from `INPUT_NAME`, uint8 (batch, size, size, 1), gray levels from 0 to
        255, to `OUTPUT_NAME`, float32 (batch, label sets, classes), also where there
        is one label set. It shares the weights.
    """
    description = network.description
    size = description.input_size
    pixels = keras.Input((size, size, 1), dtype="uint8", name=INPUT_NAME)
    images = scaled(ops.cast(pixels, "float32"), description.input_range)
    shape = len(description.label_sets), len(description.classes)
    probabilities = ops.reshape(network.model(images), (-1, *shape))
    model = keras.Model(pixels, {OUTPUT_NAME: ops.cast(probabilities, "float32")})
    # Keras exports what has been called once.
    model(ops.zeros((1, size, size, 1), "uint8"), training=False)
    return model
