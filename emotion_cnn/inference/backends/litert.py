"""LiteRT files (formerly TensorFlow Lite), run by ai-edge-litert."""

import importlib
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.extras import require
from emotion_cnn.inference.backends.exported import Files, Tensor
from emotion_cnn.inference.backends.flatbuffer import Table, root
from emotion_cnn.inference.backends.sizes import ALL_BUT_FIRST, check_sizes
from emotion_cnn.inference.cores import cores
from emotion_cnn.models.exported import KEY

FORMAT = "litert"
PACKAGE = "ai_edge_litert"

_OPERATIONS = {
    **{0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D"},
    **{4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC"},
    **{17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE"},
    **{23: "RESIZE_BILINEAR", 25: "SOFTMAX", 28: "TANH", 34: "PAD", 36: "GATHER"},
    **{37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE", 40: "MEAN"},
    **{41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE", 47: "EXP", 53: "CAST"},
    **{54: "PRELU", 55: "MAXIMUM", 57: "MINIMUM", 58: "LESS", 59: "NEG", 60: "PADV2"},
    **{61: "GREATER", 65: "SLICE", 69: "TILE", 70: "EXPAND_DIMS", 73: "LOG", 74: "SUM"},
    **{75: "SQRT", 76: "RSQRT", 77: "SHAPE", 78: "POW", 81: "REDUCE_PROD"},
    **{50: "LOG_SOFTMAX", 82: "REDUCE_MAX", 83: "PACK", 92: "SQUARE"},
    **{97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE"},
    **{101: "ABS", 111: "ELU", 114: "QUANTIZE", 117: "HARD_SWISH", 123: "SELECT_V2"},
    **{126: "BATCH_MATMUL", 150: "GELU"},
}
"""Those that networks for images are made of, by their number in LiteRT's schema: none
opens a file, loops, calls, or keeps a state."""

_SIZES = dict.fromkeys(
    (
        *("RESHAPE", "RESIZE_BILINEAR", "PAD", "BATCH_TO_SPACE_ND", "TRANSPOSE"),
        *("SPACE_TO_BATCH_ND", "MEAN", "SQUEEZE", "STRIDED_SLICE", "PADV2", "SLICE"),
        *("TILE", "EXPAND_DIMS", "SUM", "REDUCE_PROD", "REDUCE_MAX"),
        "RESIZE_NEAREST_NEIGHBOR",
    ),
    ALL_BUT_FIRST,
)
_MOST_PLACES, _MOST_DIMENSIONS = 100, 8
"""The most tensors of an operation, and axes of a tensor."""
# Bits of an element, by the number of its type in LiteRT's schema.
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 17: 4}


def names(path: Path) -> Sequence[str]:
    """Returns the name of the file."""
    return [path.name]


def described(files: Files) -> str | bytes | None:
    """Checks what the file is made of, and returns what it says of itself.

    Raises:
        ValueError: Says what it has that networks for images do not need.
    """
    (content,) = files.values()
    return _checked(content)


def runtime() -> Any:
    """Imports LiteRT's interpreter.

    Raises:
        MissingPackageError: It is not installed.
    """
    require(PACKAGE, extra="predict")
    return importlib.import_module(f"{PACKAGE}.interpreter")


def load(files: Files) -> "LiteRTRunner":
    """Loads the network in LiteRT."""
    (content,) = files.values()
    interpreter = runtime().Interpreter(model_content=content, num_threads=cores())
    with _silence():
        interpreter.allocate_tensors()
    return LiteRTRunner(interpreter)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps from the terminal which of its parts LiteRT takes; errors are raised."""
    try:
        kept = os.dup(2)
    except OSError:  # There is no standard error.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class LiteRTRunner:
    """A network in LiteRT, which one thread uses at a time."""

    def __init__(self, interpreter: Any) -> None:
        """Takes an `ai_edge_litert` interpreter."""
        self._interpreter = interpreter
        self._lock = threading.Lock()
        self._count = 0
        inputs, outputs = (
            interpreter.get_input_details(),
            interpreter.get_output_details(),
        )
        self.inputs = [_tensor(each) for each in inputs]
        self.outputs = [_tensor(each) for each in outputs]
        self._places = [each["index"] for each in (*inputs, *outputs)]

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the probabilities for uint8 images."""
        first, last = self._places[0], self._places[-1]
        with self._lock:
            if len(pixels) != self._count:
                self._count = 0
                self._interpreter.resize_tensor_input(first, pixels.shape, strict=True)
                self._interpreter.allocate_tensors()
                self._count = len(pixels)
            self._interpreter.set_tensor(first, pixels)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(last)


def _tensor(found: Any) -> Tensor:
    shape = [int(each) for each in found["shape_signature"]]
    return Tensor(
        found["name"],
        np.dtype(found["dtype"]).name,
        tuple(None if each < 0 else each for each in shape),
    )


# The numbers of fields below are those of LiteRT's schema.fbs, which never change.


def _checked(content: bytes) -> bytes | None:
    """Returns the text under `KEY`; a `ValueError` says what the file has."""
    model = root(memoryview(content), b"TFL3")
    operations = []
    for code in model.tables(1):
        # The first field has room for numbers below 127; older files have it alone.
        operation = max(code.number(0, "b"), code.number(3, "i"))
        if operation not in _OPERATIONS or code.has(1):
            raise ValueError(f"the operation {operation} of LiteRT's schema")
        operations.append(_OPERATIONS[operation])
    buffers = [_buffer(each) for each in model.tables(4)]
    graphs = list(model.tables(2))
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in place of one")
    _check_graph(graphs[0], operations, buffers)
    for entry in model.tables(6):
        if entry.data(0) == KEY.encode():
            place = entry.number(1, "I")
            if place >= len(buffers):
                raise ValueError("a description that is cut short")
            return bytes(buffers[place])
    return None


def _buffer(buffer: Table) -> memoryview:
    if buffer.number(1, "Q") or buffer.number(2, "Q"):
        raise ValueError("weights after its end")
    return buffer.data(0)


def _check_graph(
    graph: Table, operations: Sequence[str], buffers: Sequence[memoryview]
) -> None:
    tensors = 0
    fixed = [-1]  # What an operation takes may be left out.
    for tensor in graph.tables(0):
        _check_tensor(tensor, buffers)
        if buffers[tensor.number(2, "I")]:
            fixed.append(tensors)
        tensors += 1
    for number in (1, 2):
        _places(graph, number, tensors, least=0)
    nodes = []
    for operator in graph.tables(3):
        code = operator.number(0, "I")
        if code >= len(operations):
            raise ValueError("an operation that it does not list")
        taken, results, _ = (
            _places(operator, number, tensors, least=-1) for number in (1, 2, 8)
        )
        if any(operator.has(number) for number in (5, 9, 12)):
            raise ValueError("an operation with settings that none has")
        nodes.append((operations[code], taken, results))
    check_sizes(nodes, fixed=fixed, sizes=_SIZES, shapes=("SHAPE",))


def _places(table: Table, field: int, tensors: int, *, least: int) -> Sequence[int]:
    """Returns which tensors a graph, or an operation, takes or results in."""
    places = table.numbers(field, most=_MOST_PLACES)
    if not all(least <= place < tensors for place in places):
        raise ValueError("an operation on a tensor that it does not have")
    return places


def _check_tensor(tensor: Table, buffers: Sequence[memoryview]) -> None:
    """Checks that a tensor is numbers, as many as it says."""
    kind, place = tensor.number(1, "b"), tensor.number(2, "I")
    if kind not in _BITS or tensor.number(5, "b") or tensor.has(6) or tensor.has(9):
        raise ValueError("tensors of other than numbers, or that keep a state")
    if place >= len(buffers):
        raise ValueError("a tensor without its numbers")
    shape = tensor.numbers(0, most=_MOST_DIMENSIONS)
    if any(each < 0 for each in shape):
        raise ValueError("a tensor of a negative size")
    size = len(buffers[place])
    if size and (math.prod(shape) * _BITS[kind] + 7) // 8 != size:
        raise ValueError("a tensor of another size than it says")
