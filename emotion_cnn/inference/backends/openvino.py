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
from emotion_cnn.inference.backends.sizes import ALL_BUT_FIRST, check_sizes
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

_SIZES = {
    **dict.fromkeys(
        (
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"),
            *("Reshape", "Squeeze", "Unsqueeze", "Transpose", "StridedSlice", "Slice"),
            *("Split", "VariadicSplit", "Pad", "Interpolate", "Tile", "Broadcast"),
        ),
        ALL_BUT_FIRST,
    ),
    "Gather": slice(2, None),
}
_ELEMENTS = {
    "net": ("layers", "edges", "rt_info"),
    "layers": ("layer",),
    "layer": ("data", "input", "output", "rt_info"),
    "input": ("port",),
    "output": ("port",),
    "port": ("dim", "rt_info"),
    "rt_info": ("attribute",),
    "edges": ("edge",),
}
"""The elements that each may have."""

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
    _checked(files)
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
    model = core.read_model(model=_checked(files), weights=files[_WEIGHTS])
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


def _checked(files: Files) -> bytes:
    """Returns the graph, written anew: what OpenVINO reads is what was checked.

    Raises:
        ValueError: Says what the graph has.
    """
    graph, weights = files[_GRAPH], len(files[_WEIGHTS])
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
    # What the network says of its origin, in elements of any name: not needed.
    for notes in root.findall("rt_info"):
        root.remove(notes)
    _check_elements(root)
    if sorted(each.tag for each in root) != ["edges", "layers"]:
        raise ValueError("operations in parts")
    layers = root.findall("layers/layer")
    if not 0 < len(layers) <= _MOST_LAYERS:
        raise ValueError(f"not from 1 to {_MOST_LAYERS:,} operations")
    for layer in layers:
        _check_layer(layer, weights)
    edges = root.findall("edges/edge")
    taken: dict[str, list[tuple[int, str]]] = {}
    for edge in edges:
        place = int(edge.get("to-port", ""))
        source = edge.get("from-layer", "")
        taken.setdefault(edge.get("to-layer", ""), []).append((place, source))
    nodes = []
    for layer in layers:
        kind, name = layer.get("type", ""), layer.get("id", "")
        # An input takes pixels, which no layer has made.
        sources = [source for _, source in sorted(taken.get(name, []))]
        nodes.append((kind, ["pixels"] if kind == "Parameter" else sources, [name]))
    check_sizes(nodes, fixed=(), sizes=_SIZES, shapes=("ShapeOf",))
    return ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)


def _check_elements(root: ElementTree.Element) -> None:
    """Checks that all elements are known: others could be read as parts by OpenVINO."""
    if root.tag != "net":
        raise ValueError(f"the element {root.tag[:50]!a}")
    for element in root.iter():
        for inner in element:
            if inner.tag not in _ELEMENTS.get(element.tag, ()):
                raise ValueError(f"the element {inner.tag[:50]!a}")
        for name in element.attrib:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"the attribute {name[:50]!a}")


def _check_layer(layer: ElementTree.Element, weights: int) -> None:
    kind, version = layer.get("type", ""), layer.get("version", "")
    if kind not in _OPERATIONS or not version.startswith("opset"):
        name = f"{version}:{kind}"
        raise ValueError(f"the operation {name[:50]!a}")
    if len(layer.findall("data")) > 1:
        raise ValueError("an operation with settings in parts")
    if kind == "Const":
        data = layer.find("data")
        values = {} if data is None else data.attrib
        # Not a number: a ValueError too.
        start, size = (int(values.get(key, "-1")) for key in ("offset", "size"))
        if start < 0 or size < 0 or start + size > weights:
            raise ValueError(f"weights that lie outside {_WEIGHTS}")
