"""What is exported: the network from gray levels to probabilities, whatever it was."""

from typing import Any

import keras
from keras import layers, ops

from emotion_cnn.models.description import Network
from emotion_cnn.models.exported import INPUT_NAME, OUTPUT_NAME
from emotion_cnn.models.input_range import scaled


def exportable(network: Network) -> keras.Model:
    """Wraps a network so that no user has to know how it takes its images.

    Returns:
        A model from `INPUT_NAME`, uint8 (batch, size, size, 1), gray levels from 0 to
        255, to `OUTPUT_NAME`, float32 (batch, label sets, classes), also where there
        is one label set.

    Raises:
        ValueError: A layer is none that exported files could have.
    """
    _check(network.model)
    description = network.description
    size = description.input_size
    pixels = keras.Input((size, size, 1), dtype="uint8", name=INPUT_NAME)
    images = scaled(ops.cast(pixels, "float32"), description.input_range)
    shape = len(description.label_sets), len(description.classes)
    outputs = _without_dense_images(network.model)(images)
    probabilities = ops.cast(ops.reshape(outputs, (-1, *shape)), "float32")
    model = keras.Model(pixels, {OUTPUT_NAME: probabilities})
    # Keras exports what has been called once.
    model(ops.zeros((1, size, size, 1), "uint8"), training=False)
    return model


def _check(model: keras.Model) -> None:
    """Refuses convolutions that Keras pads by what it computes from the images' size.

    Files with sizes that are computed are refused when they are read.
    """
    for layer in model.layers:
        if (
            isinstance(layer, layers.DepthwiseConv2D | layers.SeparableConv2D)
            and layer.padding == "same"
            and max(layer.strides) > 1
            and max(layer.dilation_rate) > 1
        ):
            raise ValueError(
                f"the layer {layer.name!r} has strides, a dilation_rate and padding "
                "'same', of which exported files can have two"
            )


def _without_dense_images(model: keras.Model) -> keras.Model:
    """Returns a network with 1x1 convolutions for dense layers on (height, width).

    They compute the same. A product of tensors with four axes, one of unknown length,
    becomes a dozen operations on shapes, which no runtime removes.
    """

    def is_on_images(layer: Any) -> bool:
        # A layer that is called several times has no single input.
        return (
            isinstance(layer, layers.Dense)
            and len(layer._inbound_nodes) == 1
            and len(layer.input.shape) == 4
        )

    def copied(layer: Any) -> Any:
        if not is_on_images(layer):
            return layer.__class__.from_config(layer.get_config())
        return layers.Conv2D(
            layer.units,
            kernel_size=1,
            activation=layer.activation,
            use_bias=layer.use_bias,
            name=layer.name,
            dtype=layer.dtype_policy,
        )

    if not any(map(is_on_images, model.layers)):
        return model
    copy = keras.models.clone_model(model, clone_function=copied)
    # Inputs, which have no weights, may get other names.
    for layer in (each for each in model.layers if each.weights):
        new = copy.get_layer(layer.name)
        values = zip(layer.get_weights(), new.get_weights(), strict=True)
        new.set_weights([value.reshape(as_new.shape) for value, as_new in values])
    return copy
