"""ONNX: one `.onnx` file, for ONNX Runtime and much else.

Weights of float16 or int8 are widened to float32 when a file is loaded: it is smaller,
and computes as before. What is int8 throughout has pairs of QuantizeLinear and
DequantizeLinear, of which ONNX Runtime and OpenVINO make integer arithmetic.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.models.exported import INPUT_NAME, KEY, OUTPUT_NAME

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = ("none", "float16", "int8-weights", "int8")
PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
NAME = "model.onnx"

_BATCH = "batch"
_LEAST_VALUES = 1_000
"""Smaller weights, such as biases, stay float32: there is nothing to gain."""
_CALIBRATION_BATCH = 16
_EXACT = ("Softmax",)


def write(
    model: "keras.Model",
    path: Path,
    *,
    quantize: str,
    text: str,
    images: np.ndarray | None,
) -> None:
    """Writes a network as ONNX.

    Args:
        model: As `exportable` returns it.
        path: File to write; others beside it, named like it, are temporary.
        quantize: One of `QUANTIZATIONS`.
        text: What the file says of itself.
        images: uint8 (n, size, size, 1), to measure ranges on; only for `int8`.
    """
    import onnx

    with warnings.catch_warnings(), _grouped_convolutions_in_one(model):
        # Keras 3.15 asks NumPy for a name of NumPy 1.
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        model.export(path, format="onnx", verbose=False)
    graph = onnx.load(path)
    _name_ends(graph.graph)
    if quantize == "float16":
        _keep_as_float16(graph.graph)
    elif quantize == "int8-weights":
        _keep_as_int8(graph.graph)
    elif quantize == "int8":
        onnx.save(graph, path)
        graph = _quantized(path, images)
    graph.producer_name = "emotion-cnn"
    onnx.helper.set_model_props(graph, {KEY: text})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


@contextmanager
def _grouped_convolutions_in_one(model: "keras.Model") -> Iterator[None]:
    """Makes each grouped convolution the one operation of TensorFlow that it is.

    Keras puts it into a function that XLA compiles, which tf2onnx does not convert: on
    a CPU TensorFlow cannot run that operation, which here is only written down.
    """
    import keras
    import tensorflow as tf

    def convolution(layer: Any, inputs: Any, kernel: Any) -> Any:
        return tf.nn.convolution(
            inputs,
            kernel,
            strides=layer.strides,
            padding=layer.padding.upper(),
            dilations=layer.dilation_rate,
        )

    grouped = [
        each
        for each in model._flatten_layers()
        if isinstance(each, keras.layers.Conv2D) and each.groups > 1
    ]
    for layer in grouped:
        # Which Keras means to be replaced, in classes that inherit from its own.
        layer.convolution_op = partial(convolution, layer)
    try:
        yield
    finally:
        for layer in grouped:
            del layer.convolution_op


def _name_ends(graph: Any) -> None:
    """Names input, output and their first dimension, which tf2onnx numbers."""
    new = {graph.input[0].name: INPUT_NAME, graph.output[0].name: OUTPUT_NAME}
    for end in (graph.input[0], graph.output[0]):
        end.name = new[end.name]
        end.type.tensor_type.shape.dim[0].dim_param = _BATCH
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]


def _weights(graph: Any) -> Iterator[tuple[Any, np.ndarray]]:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _LEAST_VALUES:
            yield tensor, values


def _keep_as_float16(graph: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    widening = []
    for tensor, values in _weights(graph):
        kept = f"{tensor.name}:float16"
        widening.append(
            helper.make_node("Cast", [kept], [tensor.name], to=TensorProto.FLOAT)
        )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), kept))
    _prepend(graph, widening)


def _keep_as_int8(graph: Any) -> None:
    """Keeps weights as integers with a scale for each output channel."""
    from onnx import TensorProto, helper, numpy_helper

    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    widening, scales = [], []
    for tensor, values in _weights(graph):
        # Convolutions have their output channels first, products of matrices last.
        output = 0 if tensor.name in kernels else values.ndim - 1
        others = tuple(axis for axis in range(values.ndim) if axis != output)
        scale = abs(values).max(axis=others, keepdims=True) / 127
        # Weights that are all zero can have any scale.
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        kept, wide, by = (f"{tensor.name}:{each}" for each in ("int8", "wide", "scale"))
        scales.append(numpy_helper.from_array(scale, by))
        # Not DequantizeLinear, which ONNX Runtime computes anew for every batch.
        widening += [
            helper.make_node("Cast", [kept], [wide], to=TensorProto.FLOAT),
            helper.make_node("Mul", [wide, by], [tensor.name]),
        ]
        integers = np.rint(values / scale).astype(np.int8)
        tensor.CopyFrom(numpy_helper.from_array(integers, kept))
    graph.initializer.extend(scales)
    _prepend(graph, widening)


def _prepend(graph: Any, nodes: list[Any]) -> None:
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])


def _quantized(path: Path, images: np.ndarray | None) -> Any:
    """Returns a network with integers throughout, measured on images."""
    # From 1.29 on it reports its use unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if images is None:
        raise ValueError("Expected images to measure ranges on. Received: none.")
    batches = (
        {INPUT_NAME: images[start : start + _CALIBRATION_BATCH]}
        for start in range(0, len(images), _CALIBRATION_BATCH)
    )

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    prepared = path.with_suffix(".prepared.onnx")
    quantized = path.with_suffix(".quantized.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        quantized,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # Sums of 8-bit products overflow on processors without VNNI: 7 bits do not.
        reduce_range=True,
        # Signed ones are no faster than float32 on x86.
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        # Probabilities in steps of 1/255 would not sum to 1.
        nodes_to_exclude=[
            node.name
            for node in onnx.load(prepared).graph.node
            if node.op_type in _EXACT
        ],
    )
    graph = onnx.load(quantized)
    prepared.unlink()
    quantized.unlink()
    return graph
