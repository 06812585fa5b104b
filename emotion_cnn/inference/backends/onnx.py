"""ONNX files, run by ONNX Runtime."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.extras import require
from emotion_cnn.inference.backends.exported import Files, Tensor
from emotion_cnn.inference.backends.protobuf import (
    Value,
    fields,
    known_fields,
    message,
    text,
    varints,
)
from emotion_cnn.inference.backends.sizes import ALL_BUT_FIRST, check_sizes
from emotion_cnn.inference.cores import cores
from emotion_cnn.models.exported import INPUT_NAME, KEY, OUTPUT_NAME

FORMAT = "onnx"
PACKAGE = "onnxruntime"

_OPERATIONS = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Erf", "Neg", "Reciprocal"),
        *("Min", "Max", "Clip", "Abs", "MatMul", "Gemm", "Conv", "BatchNormalization"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
        *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Tanh"),
        *("Sigmoid", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Softmax"),
        *("Cast", "Constant", "Identity", "Shape", "Gather", "Concat", "Slice"),
        *("Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Pad", "Tile"),
        *("Resize", "Split", "Where", "Greater", "Less", "Equal", "Not", "LogSoftmax"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    )
)
"""Those that networks for images are made of: none opens a file, loops, or calls."""

_SIZES = dict.fromkeys(
    (
        *("Reshape", "Tile", "Pad", "Slice", "Resize", "Split", "Squeeze"),
        *("Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"),
        "ReduceProd",
    ),
    ALL_BUT_FIRST,
)
_MOST_NODES = 20_000
_MOST_DIMENSIONS = 8
# Bits of an element, by the number of its type: those of `TensorProto.DataType` that
# are numbers.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64}
_BITS |= {12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
_NUMPY_NAMES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def names(path: Path) -> Sequence[str]:
    """Returns the name of the file."""
    return [path.name]


def described(files: Files) -> str | bytes | None:
    """Checks what the file is made of, and returns what it says of itself.

    Raises:
        ValueError: Says what it has that networks for images do not need.
    """
    (content,) = files.values()
    return _checked(memoryview(content))


def runtime() -> Any:
    """Imports ONNX Runtime.

    Raises:
        MissingPackageError: It is not installed.
    """
    # From 1.29 on it reports its use unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require(PACKAGE, extra="export")


def load(files: Files) -> "OnnxRunner":
    """Loads the network in ONNX Runtime."""
    onnxruntime = runtime()
    (content,) = files.values()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 4  # What goes wrong is raised as well.
    # Not its own format, which the beginning of an ONNX file can look like.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    return OnnxRunner(session)


class OnnxRunner:
    """A network in ONNX Runtime, which several threads may use at a time."""

    def __init__(self, session: Any) -> None:
        """Takes an `onnxruntime.InferenceSession`."""
        self._session = session
        self.inputs = [_tensor(each) for each in session.get_inputs()]
        self.outputs = [_tensor(each) for each in session.get_outputs()]

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the probabilities for uint8 images."""
        (outputs,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        return outputs


def _tensor(found: Any) -> Tensor:
    shape = tuple(each if isinstance(each, int) else None for each in found.shape)
    return Tensor(found.name, _NUMPY_NAMES.get(found.type, found.type), shape)


# The numbers of fields below are those of onnx.proto, which never change.


def _checked(model: memoryview) -> str | None:
    """Returns the text under `KEY`; a `ValueError` says what the file has."""
    described, graphs = None, 0
    for number, value in known_fields(model, (*range(1, 9), 14, 20, 25)):
        if number == 7:
            graphs += 1
            _check_graph(message(value))
        elif number == 14:
            entry = dict(fields(message(value)))
            if text(entry.get(1, memoryview(b""))) == KEY:
                described = text(entry.get(2, memoryview(b"")))
        elif number in (20, 25):
            raise ValueError("functions or instructions for training")
    if graphs != 1:
        raise ValueError("no graph, or several")
    return described


def _check_graph(graph: memoryview) -> None:
    nodes = []
    fixed = [""]  # What an operation takes may be left out.
    for number, value in known_fields(graph, (1, 2, 5, *range(10, 17))):
        if number == 1:
            nodes.append(_checked_node(message(value)))
        elif number == 5:
            fixed.append(_checked_tensor(message(value)))
        elif number == 15:
            raise ValueError("sparse weights")
        if len(nodes) > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES:,} operations")
    check_sizes(nodes, fixed=fixed, sizes=_SIZES, shapes=("Shape",))


def _checked_node(node: memoryview) -> tuple[str, list[str], list[str]]:
    """Returns the operation, what it takes and its results."""
    found = list(known_fields(node, range(1, 11)))
    operation = _last_text(found, 4)
    domain = _last_text(found, 7)
    if operation not in _OPERATIONS or domain not in ("", "ai.onnx"):
        name = f"{domain}:{operation}" if domain else operation
        raise ValueError(f"the operation {name[:50]!a}")
    for number, value in found:
        if number == 5:
            _check_attribute(message(value))
    taken, results = (
        [text(value) for number, value in found if number == field] for field in (1, 2)
    )
    return operation, taken, [each for each in results if each]


def _check_attribute(attribute: memoryview) -> None:
    found = list(fields(attribute))
    if sum(number == 5 for number, _ in found) > 1:
        raise ValueError("weights in parts")  # Parsers put them together.
    for number, value in found:
        if number == 5:
            _checked_tensor(message(value))
        elif number in (6, 10, 11, 14, 15, 21, 22, 23):
            raise ValueError("an operation with parts of its own")


def _checked_tensor(tensor: memoryview) -> str:
    """Checks that it is numbers, as many as it says, in this file; returns its name."""
    shape: list[int] = []
    kind, size, name = 0, None, ""
    for number, value in known_fields(tensor, range(1, 17)):
        if number == 1:
            shape += varints(value, most=_MOST_DIMENSIONS)
            # Before they are multiplied, which takes the longer the more they are.
            if len(shape) > _MOST_DIMENSIONS:
                raise ValueError(f"weights of more than {_MOST_DIMENSIONS} dimensions")
        elif number == 2:
            kind = _integer(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            size = len(message(value))
        elif number == 13 or (number == 14 and value != 0):
            raise ValueError("weights in another file")
        elif number in (3, 6):
            raise ValueError("weights in parts, or that are texts")
    if kind not in _BITS:
        raise ValueError("weights that are no numbers")
    # Of other fields than that for bytes each element takes a byte at least.
    bits, limit = (8, len(tensor)) if size is None else (_BITS[kind], size)
    if (math.prod(shape) * bits + 7) // 8 > limit:
        raise ValueError("fewer weights than it says")
    return name


def _last_text(found: Sequence[tuple[int, Value]], number: int) -> str:
    """Returns the text of a field, the last of several, as parsers take it."""
    texts = [text(value) for each, value in found if each == number]
    return texts[-1] if texts else ""


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes in place of a number")
    return value
