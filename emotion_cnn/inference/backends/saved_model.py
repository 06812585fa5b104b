"""Saved models, run by TensorFlow.

A saved model is a program: TensorFlow has operations that read and write files. Those
that save and restore variables are in every one, in functions of their own, which
nothing calls once the network is loaded; elsewhere they are refused.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.extras import hidden, require
from emotion_cnn.inference.backends.exported import Files, Tensor
from emotion_cnn.inference.backends.protobuf import fields, message, text
from emotion_cnn.models.exported import FILE_NAME, INPUT_NAME, OUTPUT_NAME

FORMAT = "saved-model"
PACKAGE = "tensorflow"

_GRAPH = "saved_model.pb"
_VARIABLES = "variables/variables"
_SIGNATURE = "serving_default"

_CALLS = frozenset(("StatefulPartitionedCall", "PartitionedCall"))
_OPERATIONS = frozenset(
    (
        *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Pow", "Sqrt", "Rsqrt", "Square"),
        *("SquaredDifference", "Exp", "Log", "Erf", "Neg", "Abs", "Maximum", "Minimum"),
        *("MatMul", "BatchMatMulV2", "BiasAdd", "Conv2D", "DepthwiseConv2dNative"),
        *(
            "FusedBatchNormV3",
            "MaxPool",
            "AvgPool",
            "Mean",
            "Sum",
            "Max",
            "Min",
            "Prod",
        ),
        *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "Tanh"),
        *("Sigmoid", "Softmax", "Cast", "Const", "Identity", "IdentityN", "NoOp"),
        *("Shape", "GatherV2", "ConcatV2", "Pack", "Unpack", "Slice", "StridedSlice"),
        *("Range", "Fill", "Tile", "SelectV2", "Greater", "Less", "StopGradient"),
        *("SpaceToBatchND", "BatchToSpaceND", "ResizeNearestNeighbor"),
        *("ResizeBilinear", "ResizeBicubic", "Expm1", "Erfc"),
        *("Reshape", "ExpandDims", "Squeeze", "Transpose", "Pad", "PadV2", "Split"),
        *("Placeholder", "VarHandleOp", "VarIsInitializedOp", "ReadVariableOp"),
        *("AssignVariableOp", "DisableCopyOnRead", *_CALLS),
    )
)
"""Those that networks for images, and their variables, are made of."""

_FOR_FILES = frozenset(
    (
        *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"),
        *("StringJoin", "StaticRegexFullMatch", "Select"),
    )
)
"""Those that save and restore variables."""

_OBJECTS = frozenset(
    (
        *("_generic_user_object", "signature_map", "trackable_list_wrapper"),
        *("trackable_dict_wrapper", "trackable_tuple_wrapper"),
    )
)
_MOST_NODES = 100_000


def names(path: Path) -> Sequence[str]:
    """Returns the names of the files."""
    variables = (f"{_VARIABLES}.index", f"{_VARIABLES}.data-00000-of-00001")
    return [_GRAPH, *variables, FILE_NAME]


def described(files: Files) -> str | bytes | None:
    """Checks what the network is made of, and returns what it says of itself.

    Raises:
        ValueError: Says what it has that networks for images do not need.
    """
    _check(memoryview(files[_GRAPH]))
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
        for name, content in files.items():
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


def _tensors(found: Mapping[str, Any]) -> list[Tensor]:
    return [
        Tensor(name, each.dtype.name, tuple(each.shape)) for name, each in found.items()
    ]


# The numbers of fields below are those of TensorFlow's .proto files, which never
# change.


def _check(saved_model: memoryview) -> None:
    """Raises a `ValueError` that says what the saved model has."""
    graphs = [message(value) for number, value in fields(saved_model) if number == 2]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in place of one")
    parts = list(fields(graphs[0]))
    if any(number == 6 for number, _ in parts):
        raise ValueError("files of its own")
    objects = [message(value) for number, value in parts if number == 7]
    if len(objects) != 1:
        raise ValueError("no objects, as those of TensorFlow 1")
    called = set(_check_objects(objects[0]))
    with_files: set[str] = set()
    callers: dict[str, set[str]] = {}
    for number, value in parts:
        if number == 2:
            _check_graph(message(value), with_files, callers)
    # What calls a function with such operations has them too.
    waiting = list(with_files)
    while waiting:
        found = callers.pop(waiting.pop(), set())
        with_files |= found
        waiting += found
    if called & with_files:
        raise ValueError("operations on files where it predicts")


def _check_objects(graph: memoryview) -> Iterator[str]:
    """Yields the names of the functions that a loaded network can call."""
    for number, value in fields(graph):
        if number == 2:
            yield text(dict(fields(message(value))).get(1, memoryview(b"")))
        elif number == 1:
            for kind, content in fields(message(value)):
                if kind == 4:
                    name = dict(fields(message(content))).get(1, memoryview(b""))
                    if text(name) not in _OBJECTS:
                        raise ValueError(f"the object {text(name)[:50]!a}")
                # Its links; a function, a variable; a captured tensor.
                elif kind not in (1, 3, 6, 7, 8, 12, 15):
                    raise ValueError("objects other than functions and variables")


def _check_graph(
    graph: memoryview, with_files: set[str], callers: dict[str, set[str]]
) -> None:
    """Checks all operations; notes which functions have some for files, and callers."""
    functions = [
        list(fields(message(function)))
        for number, library in fields(graph)
        if number == 2
        for kind, function in fields(message(library))
        if kind == 1
    ]
    bodies = {
        _name_of(function): [
            message(value) for number, value in function if number == 3
        ]
        for function in functions
    }
    if len(bodies) != len(functions):
        raise ValueError("two functions of one name")
    # The graph itself calls those that save and restore; TensorFlow 2 does not run it.
    main = [message(value) for number, value in fields(graph) if number == 1]
    if sum(map(len, bodies.values())) + len(main) > _MOST_NODES:
        raise ValueError(f"more than {_MOST_NODES:,} operations")
    for name, nodes in (*bodies.items(), ("", main)):
        for node in nodes:
            operation, called = _node(node)
            if operation in _FOR_FILES and name:
                with_files.add(name)
            elif operation not in _OPERATIONS:
                raise ValueError(f"the operation {operation[:50]!a}")
            for each in called:
                callers.setdefault(each, set()).add(name)


def _name_of(function: Sequence[tuple[int, Any]]) -> str:
    signatures = [message(value) for number, value in function if number == 1]
    if len(signatures) != 1:
        raise ValueError("a function without a name")
    return _text_of(signatures[0], 1)


def _node(node: memoryview) -> tuple[str, list[str]]:
    """Returns the operation of a node, and the functions that it names."""
    called: list[str] = []
    for number, value in fields(node):
        if number == 5:
            for kind, attribute in fields(message(value)):
                if kind == 2:
                    called += _functions_in(message(attribute))
    return _text_of(node, 2), called


def _functions_in(attribute: memoryview) -> Iterator[str]:
    """Yields the functions that the value of an attribute names, alone or in a list."""
    for number, value in fields(attribute):
        if number == 10:
            yield _text_of(message(value), 1)
        elif number == 1:
            for kind, item in fields(message(value)):
                if kind == 9:
                    yield _text_of(message(item), 1)


def _text_of(found: memoryview, number: int) -> str:
    """Returns the text of a field; there may be one alone."""
    texts = [text(value) for each, value in fields(found) if each == number]
    if len(texts) > 1:
        raise ValueError("two texts in place of one")
    return texts[0] if texts else ""
