"""Networks of OpenVINO: `model.xml`, the graph, and `model.bin`, the weights."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from emotion_cnn.extras import hidden, require
from emotion_cnn.files import first_line
from emotion_cnn.inference.backends.exported import Files, Tensor
from emotion_cnn.models.exported import FILE_NAME

FORMAT = "openvino"
PACKAGE = "openvino"

_GRAPH, _WEIGHTS = "model.xml", "model.bin"
_OPERATIONS = frozenset(
    (
        *("Parameter", "Const", "Result", "Convert", "Add", "Subtract", "Multiply"),
        *("Divide", "Power", "Sqrt", "Exp", "Log", "Erf", "Negative", "Abs", "Minimum"),
        *("Maximum", "Clamp", "SquaredDifference", "MatMul", "Convolution"),
        *("GroupConvolution", "BatchNormInference", "MaxPool", "AvgPool"),
        *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReLU"),
        *("PReLU", "Elu", "Selu", "Gelu", "Mish", "Swish", "HSwish", "HSigmoid"),
        *("Sigmoid", "Tanh", "SoftPlus", "SoftSign", "SoftMax", "Reshape", "Squeeze"),
        *("Unsqueeze", "Transpose", "Concat", "Gather", "ShapeOf", "StridedSlice"),
        *("Slice", "Split", "VariadicSplit", "Pad", "FakeQuantize", "Interpolate"),
        *("Tile", "Broadcast", "Select", "Greater", "Less", "Equal"),
    )
)
"""Those that networks for images are made of: none loops, or keeps a state."""

_MOST_BYTES = 20_000_000
_MOST_LAYERS = 20_000


def names(path: Path) -> Sequence[str]:
    """Returns the names of the files."""
    return [_GRAPH, _WEIGHTS, FILE_NAME]


def described(files: Files) -> str | bytes | None:
    """Checks what the network is made of, and returns what it says of itself.

    Raises:
        ValueError: Says what it has that networks for images do not need.
    """
    _check(files[_GRAPH], len(files[_WEIGHTS]))
    return files[FILE_NAME]


def runtime() -> Any:
    """Imports OpenVINO, without what would report its use.

    Raises:
        MissingPackageError: It is not installed.
    """
    with hidden(["openvino_telemetry"]):
        return require(PACKAGE, extra="export")


def load(files: Files) -> "OpenVINORunner":
    """Loads the network in OpenVINO, which computes in float32."""
    core = runtime().Core()
    model = core.read_model(model=files[_GRAPH], weights=files[_WEIGHTS])
    # Without the hint it computes in bfloat16 where the processor can.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return OpenVINORunner(core.compile_model(model, "CPU", options))


class OpenVINORunner:
    """A network in OpenVINO, which one thread uses at a time."""

    def __init__(self, model: Any) -> None:
        """Takes an `openvino.CompiledModel`."""
        self._model = model
        self._lock = threading.Lock()
        self.inputs = [_tensor(each) for each in model.inputs]
        self.outputs = [_tensor(each) for each in model.outputs]

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the probabilities for uint8 images."""
        with self._lock:
            return self._model(pixels)[0].copy()


def _tensor(found: Any) -> Tensor:
    shape = (
        None if each.is_dynamic else each.get_length() for each in found.partial_shape
    )
    name, dtype = found.any_name, found.element_type.to_dtype()
    return Tensor(name, np.dtype(dtype).name, tuple(shape))


def _check(graph: bytes, weights: int) -> None:
    """Raises a `ValueError` that says what the graph has."""
    if len(graph) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES // 1_000_000} MB")
    text = graph.decode("utf-8")
    # Entities can stand for gigabytes, or for other files.
    if "<!" in text or "\0" in text:
        raise ValueError("more than plain elements")
    try:
        # Of plain elements, in a text that is not too long.
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, RecursionError) as error:
        raise ValueError(f"no XML ({first_line(error)})") from error
    layers = list(root.iter("layer"))
    if len(layers) > _MOST_LAYERS:
        raise ValueError(f"more than {_MOST_LAYERS:,} operations")
    for layer in layers:
        kind, version = layer.get("type", ""), layer.get("version", "")
        if kind not in _OPERATIONS or not version.startswith("opset"):
            name = f"{version}:{kind}"
            raise ValueError(f"the operation {name[:50]!a}")
        if kind == "Const":
            data = layer.find("data")
            values = {} if data is None else data.attrib
            # Not a number: a ValueError too.
            start, size = (int(values.get(key, "-1")) for key in ("offset", "size"))
            if start < 0 or size < 0 or start + size > weights:
                raise ValueError(f"weights that lie outside {_WEIGHTS}")
