"""Saved models, run by TensorFlow.

A saved model is a program: TensorFlow has operations that read and write files. Those
that save and restore variables are in every one, in functions of their own, which
nothing calls. TensorFlow gets a saved model that is written anew, of the variables and
of the functions that predict alone, each of which has been checked.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.extras import hidden, require
from emotion_cnn.inference.backends.exported import Files, Tensor
from emotion_cnn.inference.backends.protobuf import (
    Value,
    fields,
    known_fields,
    message,
    text,
)
from emotion_cnn.inference.backends.sizes import ALL_BUT_FIRST, check_sizes
from emotion_cnn.models.exported import FILE_NAME, INPUT_NAME, OUTPUT_NAME

FORMAT = "saved-model"
PACKAGE = "tensorflow"

_GRAPH = "saved_model.pb"
_VARIABLES = "variables/variables"
_SIGNATURE = "serving_default"
_FUNCTION = "__"
"""What names of functions begin with, and no operation's does: TensorFlow takes the
function for an operation of that name."""

_CALLS = frozenset(("StatefulPartitionedCall", "PartitionedCall"))
_OPERATIONS = frozenset(
    (
        *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Pow", "Sqrt", "Rsqrt", "Square"),
        *("SquaredDifference", "Exp", "Log", "Erf", "Neg", "Abs", "Maximum", "Minimum"),
        *("MatMul", "BatchMatMulV2", "BiasAdd", "Conv2D", "DepthwiseConv2dNative"),
        *("FusedBatchNormV3", "MaxPool", "AvgPool", "Mean", "Sum", "Max", "Min"),
        *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "Tanh"),
        *("Sigmoid", "Softmax", "LogSoftmax", "Cast", "Const", "Identity", "IdentityN"),
        *("NoOp", "Shape", "GatherV2", "ConcatV2", "Pack", "StridedSlice", "Prod"),
        *("SelectV2", "Greater", "Less", "StopGradient", "Expm1", "Erfc", "AddN"),
        *("SpaceToBatchND", "BatchToSpaceND", "ResizeNearestNeighbor"),
        *("ResizeBilinear", "ResizeBicubic", "SplitV", "GreaterEqual"),
        *("Reshape", "ExpandDims", "Squeeze", "Transpose", "Pad", "PadV2", "Slice"),
        *("Tile", "ReadVariableOp", *_CALLS),
    )
)
"""Those that networks for images are made of: none opens a file, loops, or keeps a
state."""

_SIZES = {
    **dict.fromkeys(
        (
            *("Mean", "Sum", "Max", "Min", "Prod", "StridedSlice", "SpaceToBatchND"),
            *("BatchToSpaceND", "ResizeNearestNeighbor", "ResizeBilinear", "SplitV"),
            *("ResizeBicubic", "Reshape", "ExpandDims", "Transpose", "Pad", "PadV2"),
            *("Slice", "Tile"),
        ),
        ALL_BUT_FIRST,
    ),
    "ConcatV2": slice(-1, None),
    "GatherV2": slice(2, None),
}
_OBJECTS = frozenset(
    (
        *("_generic_user_object", "signature_map", "trackable_list_wrapper"),
        *("trackable_dict_wrapper", "trackable_tuple_wrapper"),
    )
)
_MOST_NODES = 100_000
_MOST_MEGABYTES = 20


def names(path: Path) -> Sequence[str]:
    """Returns the names of the files."""
    variables = (f"{_VARIABLES}.index", f"{_VARIABLES}.data-00000-of-00001")
    return [_GRAPH, *variables, FILE_NAME]


def described(files: Files) -> str | bytes | None:
    """Checks what the network is made of, and returns what it says of itself.

    Raises:
        ValueError: Says what it has that networks for images do not need.
    """
    content = files[_GRAPH]
    if len(content) > _MOST_MEGABYTES * 1_000_000:
        raise ValueError(f"more than {_MOST_MEGABYTES} MB in {_GRAPH}")
    _check(memoryview(content))
    return files[FILE_NAME]


def runtime() -> Any:
    """Imports TensorFlow, without Keras and JAX, which it would import for their users.

    Raises:
        MissingPackageError: It is not installed.
    """
    # It prints its build options at every start unless told not to.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with hidden(["keras", "jax"]):
        return require(PACKAGE, extra="tensorflow")


def load(files: Files) -> "SavedModelRunner":
    """Loads the network in TensorFlow."""
    tf = runtime()
    # It takes a folder alone: this one holds what has been checked, and nothing else.
    with tempfile.TemporaryDirectory() as folder:
        anew = {**files, _GRAPH: _written_anew(files[_GRAPH])}
        for name, content in anew.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return SavedModelRunner(tf, tf.saved_model.load(folder))


class SavedModelRunner:
    """A network in TensorFlow, which several threads may use at a time."""

    def __init__(self, tf: Any, model: Any) -> None:
        """Takes TensorFlow, and what `tf.saved_model.load` returns."""
        self._tf = tf
        self._model = model  # It owns the variables.
        self._function = model.signatures[_SIGNATURE]
        _, inputs = self._function.structured_input_signature
        self.inputs = _tensors(inputs)
        self.outputs = _tensors(self._function.structured_outputs)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the probabilities for uint8 images."""
        found = self._function(**{INPUT_NAME: self._tf.constant(pixels)})
        return found[OUTPUT_NAME].numpy()


def _written_anew(content: bytes) -> bytes:
    """Returns a saved model of the objects and the functions that they can call, alone.

    Raises:
        ValueError: It has what networks for images do not need.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    (found,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    needed = _check(memoryview(content))
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.object_graph_def.CopyFrom(found.object_graph_def)
    graph.graph_def.versions.CopyFrom(found.graph_def.versions)
    graph.graph_def.library.function.extend(
        each
        for each in found.graph_def.library.function
        if each.signature.name in needed
    )
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            # Of functions for training, which are left out.
            node.attr.pop("_gradient_op_type", None)
    saved.DiscardUnknownFields()
    anew: bytes = saved.SerializeToString()
    # What TensorFlow's parser found is checked, in case it is not what ours did.
    if len(_check(memoryview(anew))) != len(graph.graph_def.library.function):
        raise ValueError("functions that nothing calls")
    return anew


def _tensors(found: Mapping[str, Any]) -> list[Tensor]:
    return [
        Tensor(name, each.dtype.name, tuple(each.shape)) for name, each in found.items()
    ]


# The numbers of fields below are those of TensorFlow's .proto files, which never
# change.


@dataclass(frozen=True)
class _Node:
    """A node of a function.

    Attributes:
        name: Its name.
        operation: What it computes.
        inputs: The nodes whose results it takes; arguments after a colon.
        calls: The functions that it names.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...]


_Fields = Sequence[tuple[int, Value]]


def _check(saved_model: memoryview) -> set[str]:
    """Returns the names of the functions that the objects can call, each checked.

    Raises:
        ValueError: Says what the saved model has.
    """
    graphs = [message(value) for number, value in fields(saved_model) if number == 2]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in place of one")
    parts = list(fields(graphs[0]))
    if any(number == 6 for number, _ in parts):
        raise ValueError("files of its own")
    objects, definitions = (
        [message(value) for number, value in parts if number == field]
        for field in (7, 2)
    )
    if len(objects) != 1 or len(definitions) != 1:
        raise ValueError("no objects, as those of TensorFlow 1, or several times some")
    functions = _functions(definitions[0])
    called: set[str] = set()
    waiting = list(_check_objects(objects[0]))
    nodes = 0
    while waiting:
        name = waiting.pop()
        if name in called:
            continue
        if name not in functions:
            raise ValueError(f"no function {name[:50]!a}, which it names")
        called.add(name)
        body = [_node(value) for number, value in functions[name] if number == 3]
        nodes += len(body)
        if nodes > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES:,} operations")
        _check_nodes(body)
        waiting += (each for node in body for each in node.calls)
    return called


def _check_objects(graph: memoryview) -> Iterator[str]:
    """Yields the names of the functions that a loaded network can call."""
    for number, value in known_fields(graph, (1, 2)):
        if number == 2:
            yield text(dict(fields(message(value))).get(1, memoryview(b"")))
            continue
        for kind, content in fields(message(value)):
            if kind == 4:
                name = dict(fields(message(content))).get(1, memoryview(b""))
                if text(name) not in _OBJECTS:
                    raise ValueError(f"the object {text(name)[:50]!a}")
            # Its links; a function, a variable; a captured tensor.
            elif kind not in (1, 6, 7, 8, 12, 15):
                raise ValueError("objects other than functions and variables")


def _functions(definition: memoryview) -> Mapping[str, _Fields]:
    """Returns all functions, by their names."""
    functions: dict[str, _Fields] = {}
    for number, library in fields(definition):
        if number == 2:
            for kind, function in fields(message(library)):
                if kind == 1:
                    parts = list(fields(message(function)))
                    name = _name_of(parts)
                    if name in functions or not name.startswith(_FUNCTION):
                        raise ValueError(f"the function {name[:50]!a}")
                    functions[name] = parts
    return functions


def _name_of(function: _Fields) -> str:
    signatures = [message(value) for number, value in function if number == 1]
    if len(signatures) != 1:
        raise ValueError("a function without a name")
    return _one_text(list(fields(signatures[0])), 1)


def _node(value: Value) -> _Node:
    found = list(fields(message(value)))
    calls: list[str] = []
    for number, entry in found:
        if number == 5:
            for kind, attribute in fields(message(entry)):
                if kind == 2:
                    calls += _functions_in(message(attribute))
    return _Node(
        name=_one_text(found, 1),
        operation=_one_text(found, 2),
        inputs=_inputs(text(each) for number, each in found if number == 3),
        calls=tuple(calls),
    )


def _inputs(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns from where it takes its inputs: `node:result:0`, `argument`, `^node`."""
    found = [each for each in texts if not each.startswith("^")]
    return tuple(
        each.partition(":")[0] if ":" in each else f":{each}" for each in found
    )


def _functions_in(attribute: memoryview) -> Iterator[str]:
    """Yields the functions that the value of an attribute names, alone or in a list."""
    for number, value in fields(attribute):
        if number == 10:
            yield _one_text(list(fields(message(value))), 1)
        elif number == 1:
            for kind, item in fields(message(value)):
                if kind == 9:
                    yield _one_text(list(fields(message(item))), 1)


def _check_nodes(nodes: Sequence[_Node]) -> None:
    """Checks the operations of a function."""
    for node in nodes:
        if node.operation not in _OPERATIONS:
            raise ValueError(f"the operation {node.operation[:50]!a}")
    check_sizes(
        ((node.operation, node.inputs, (node.name,)) for node in nodes),
        fixed=(),
        sizes=_SIZES,
        shapes=("Shape",),
    )


def _one_text(found: _Fields, number: int) -> str:
    """Returns the text of a field; there may be one alone."""
    texts = [text(value) for each, value in found if each == number]
    if len(texts) > 1:
        raise ValueError("two texts in place of one")
    return texts[0] if texts else ""
