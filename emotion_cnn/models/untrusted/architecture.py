"""Networks from the JSON that Keras writes: checked whole, then built anew.

Keras' own reader makes whatever classes and functions a file names. This one makes the
layers of `known_layers`, and connects them as the file says; nothing in the file is
handed to Keras but numbers, flags and names that have been checked.
"""

import graphlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import shortened
from emotion_cnn.models.untrusted import known_layers
from emotion_cnn.models.untrusted.known_layers import (
    KNOWN_LAYERS,
    MERGING,
    OTHERWISE_IN_TRAINING,
)

_DEEPEST = 20
_MOST_CALLS = 1_000
_MOST_TENSORS = 10_000
MOST_PARAMETERS = 150_000_000
MOST_VALUES = 200_000_000
MOST_WORK = 20_000_000_000

_MODELS = {
    "Functional": ("keras", "keras.models", "keras.src.models.functional"),
    "Sequential": ("keras", "keras.models", "keras.src.models.sequential"),
}

Tensor = tuple[str, int]
"""The output of a layer, by its name and which call of it that is, from 0."""


@dataclass(frozen=True)
class _Layer:
    """A layer of a file, checked.

    Attributes:
        kind: The name of its class.
        settings: The arguments of the class.
        calls: For each call, the tensors that the layer is called with.
    """

    kind: str
    settings: Mapping[str, Any]
    calls: Sequence[Sequence[Tensor]]


def build_from_json(values: Any) -> keras.Model:
    """Builds the network that JSON describes, with random weights.

    Initialisers, regularisers and constraints are those that Keras' layers have by
    default: they are for training alone. A `Sequential` model becomes a functional
    one of the same layers.

    Args:
        values: What the JSON parser returned: anything, in a stranger's file, that
            passes `check_nesting`.

    Returns:
        A model that is not compiled, whose layers are in the order of the file Keras
        wrote.

    Raises:
        ModelError: It is no network of known layers, or a larger one than
            `MOST_PARAMETERS`, `MOST_VALUES` and `MOST_WORK` (multiply-adds of an
            image) allow; says what is wrong. Nothing is built beyond these.
        Exception: Whatever Keras raises if layers do not fit each other.
    """
    kind, config = _class_and_config(values, "the network", _MODELS)
    given = _field(config, "layers", list, "the network")
    if not 0 < len(given) <= _MOST_CALLS:
        raise ModelError(f"Expected 1 to {_MOST_CALLS:,} layers, found {len(given):,}.")
    if kind == "Sequential":
        layers, inputs, outputs = _parse_sequence(given)
    else:
        layers = _parse_graph(given)
        inputs, outputs = (
            _references(config.get(name), name)
            for name in ("input_layers", "output_layers")
        )
    return _build(layers, inputs, outputs)


def check_nesting(values: Any) -> None:
    """Checks that JSON is not nested so deeply that Python or Keras would fail.

    Raises:
        ModelError: It is.
    """
    level = [values]
    for _ in range(_DEEPEST):
        level = [
            child
            for each in level
            if isinstance(each, list | dict)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ModelError(
        f"Expected at most {_DEEPEST} levels of lists and objects in JSON."
    )


# --- From JSON to checked layers ---


def _field(values: Any, name: str, kind: type, of: str) -> Any:
    if not isinstance(values, dict) or not isinstance(values.get(name), kind):
        found = values.get(name) if isinstance(values, dict) else values
        raise ModelError(
            f"Expected `{name}` of {of} to be of type {kind.__name__}, found "
            f"{shortened(found)}."
        )
    return values[name]


def _class_and_config(
    values: Any, of: str, allowed: Mapping[str, Sequence[str]]
) -> tuple[str, dict[str, Any]]:
    """Returns the name of an allowed class and its `config`."""
    kind = _field(values, "class_name", str, of)
    module, registered = values.get("module"), values.get("registered_name")
    if (
        kind not in allowed
        or module not in allowed[kind]
        or registered not in (None, kind)
    ):
        raise ModelError(
            f"Expected {of} to be of a class of Keras that this tool knows; found "
            f"{shortened(kind)} of {shortened(module)}."
        )
    return kind, _field(values, "config", dict, of)


_LAYER_CLASSES = dict.fromkeys(KNOWN_LAYERS, ("keras.layers",))


def _parse_layer(values: Any, place: int) -> tuple[str, str, dict[str, Any]]:
    """Returns name, class and settings of a layer."""
    of = f"layer {place}"
    kind, config = _class_and_config(values, of, _LAYER_CLASSES)
    checks = {
        **KNOWN_LAYERS[kind],
        "name": known_layers.name,
        "dtype": known_layers.dtype,
        "trainable": known_layers.choice(False, True),
    }
    settings = {}
    for setting, value in config.items():
        if not known_layers.matters(setting, value):
            continue
        if setting not in checks:
            raise ModelError(
                f"Expected no setting {shortened(setting)} of {kind}, {of}; found "
                f"{shortened(value)}."
            )
        try:
            settings[setting] = checks[setting](value)
        except ValueError as error:
            raise ModelError(
                f"Expected `{setting}` of {kind}, {of}, to be {error}; found "
                f"{shortened(value)}."
            ) from None
    if "name" not in settings:
        raise ModelError(f"Expected {kind}, {of}, to have a name.")
    return settings["name"], kind, settings


def _parse_sequence(
    given: Sequence[Any],
) -> tuple[dict[str, _Layer], list[Tensor], list[Tensor]]:
    layers: dict[str, _Layer] = {}
    previous: list[Tensor] = []
    for place, values in enumerate(given):
        name, kind, settings = _parse_layer(values, place)
        if (kind == "InputLayer") != (place == 0):
            raise ModelError("Expected an InputLayer as the first layer, and no other.")
        _add(layers, name, _Layer(kind, settings, [previous]))
        previous = [(name, 0)]
    return layers, [(next(iter(layers)), 0)], previous


def _parse_graph(given: Sequence[Any]) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    calls = tensors = 0
    for place, values in enumerate(given):
        name, kind, settings = _parse_layer(values, place)
        if values.get("name") != name:
            raise ModelError(f"Expected layer {place} to have one name.")
        nodes = _field(values, "inbound_nodes", list, f"layer {place}")
        if kind == "InputLayer":
            if nodes:
                raise ModelError(f"Expected no inputs of layer {place}, an InputLayer.")
            inputs: list[list[Tensor]] = [[]]
        else:
            inputs = [_parse_call(node, kind, place) for node in nodes]
            if not inputs:
                raise ModelError(f"Expected layer {place} to be called.")
        calls += len(inputs)
        tensors += sum(map(len, inputs))
        if calls > _MOST_CALLS or tensors > _MOST_TENSORS:
            raise ModelError(
                f"Expected at most {_MOST_CALLS:,} calls of layers and "
                f"{_MOST_TENSORS:,} tensors."
            )
        _add(layers, name, _Layer(kind, settings, inputs))
    return layers


def _add(layers: dict[str, _Layer], name: str, layer: _Layer) -> None:
    if name in layers:
        raise ModelError(f"Expected different names of layers, found {name} twice.")
    layers[name] = layer


def _parse_call(node: Any, kind: str, place: int) -> list[Tensor]:
    """Returns the tensors that a node says a layer is called with."""
    of = f"a call of layer {place}"
    arguments = _field(node, "args", list, of)
    options = _field(node, "kwargs", dict, of)
    for option, value in options.items():
        flag = option == "training" and isinstance(value, bool)
        if not (value is None or flag) or (value and kind in OTHERWISE_IN_TRAINING):
            raise ModelError(
                f"Expected a call as for prediction, without other arguments than "
                f"tensors, in {of}; found {shortened(options)}."
            )
    if len(arguments) == 1 and kind in MERGING and isinstance(arguments[0], list):
        arguments = arguments[0]
        if len(arguments) < 2:
            raise ModelError(f"Expected two or more tensors for {of}.")
    elif len(arguments) != 1 or kind in MERGING:
        raise ModelError(
            f"Expected {'a list of tensors' if kind in MERGING else 'one tensor'} as "
            f"the argument of {of}, found {shortened(arguments)}."
        )
    return [_tensor(argument, of) for argument in arguments]


def _tensor(argument: Any, of: str) -> Tensor:
    if _field(argument, "class_name", str, of) != "__keras_tensor__":
        raise ModelError(f"Expected a tensor in {of}, found {shortened(argument)}.")
    config = _field(argument, "config", dict, of)
    return _reference(_field(config, "keras_history", list, of), of)


def _reference(history: Any, of: str) -> Tensor:
    """Returns what Keras writes as name, call and 0: these layers have one output."""
    match history:
        case [str(name), int(call), 0] if type(call) is int:
            return name, call
    raise ModelError(
        f"Expected the name of a layer, the number of a call and 0 in {of}, found "
        f"{shortened(history)}."
    )


def _references(values: Any, of: str) -> list[Tensor]:
    """Returns the inputs or outputs of a network: one, or a list of them."""
    if not isinstance(values, list) or not values:
        raise ModelError(f"Expected a list as {of}, found {shortened(values)}.")
    return [
        _reference(each, of)
        for each in (values if isinstance(values[0], list) else [values])
    ]


# --- From checked layers to a network ---


def _build(
    layers: Mapping[str, _Layer], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> keras.Model:
    if any(name in layers and layers[name].kind != "InputLayer" for name, _ in inputs):
        raise ModelError("Expected every input to be an InputLayer.")
    built: dict[str, keras.Layer] = {}
    tensors: dict[Tensor, Any] = {}
    size = _Size()
    for name, call in _in_order(layers, [*inputs, *outputs]):
        layer = layers[name]
        if layer.kind == "InputLayer":
            tensors[name, call] = keras.Input(**_input_arguments(layer.settings))
            continue
        if name not in built:
            built[name] = getattr(keras.layers, layer.kind)(**layer.settings)
        given = [tensors[tensor] for tensor in layer.calls[call]]
        shapes = [tuple(tensor.shape) for tensor in given]
        merging = layer.kind in MERGING
        output = built[name].compute_output_shape(shapes if merging else shapes[0])
        size.add(name, layer, shapes, output, new=call == 0)
        tensors[name, call] = built[name](given if merging else given[0])
    ends = [[tensors[each] for each in side] for side in (inputs, outputs)]
    return keras.Model(*(side[0] if len(side) == 1 else side for side in ends))


def _input_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    shape = settings.get("batch_shape", [])
    if len(shape) < 2 or shape[0] is not None or None in shape[1:]:
        raise ModelError(
            f"Expected inputs of any number of images of one size, found {shape}."
        )
    return {
        "batch_shape": tuple(shape),
        "dtype": settings.get("dtype", "float32"),
        "name": settings["name"],
    }


def _in_order(layers: Mapping[str, _Layer], ends: Sequence[Tensor]) -> list[Tensor]:
    """Returns all calls, each after those that it takes the outputs of.

    Raises:
        ModelError: There is no such order, or a call does not lead to `ends`.
    """
    before: dict[Tensor, list[Tensor]] = {}
    for name, layer in layers.items():
        for call, given in enumerate(layer.calls):
            # Calls are numbered in the order in which they happen.
            before[name, call] = [*given, *([(name, call - 1)] if call else [])]
    needed, left = set(), [*ends]
    while left:
        tensor = left.pop()
        if tensor not in before:
            raise ModelError(
                f"Expected inputs and outputs of layers in the file, found call "
                f"{tensor[1]} of {shortened(tensor[0])}."
            )
        if tensor not in needed:
            needed.add(tensor)
            left += before[tensor]
    if unused := before.keys() - needed:
        raise ModelError(
            f"Expected every layer to lead to the outputs, found {min(unused)[0]}, "
            "which does not."
        )
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError:
        raise ModelError("Expected layers without a cycle.") from None


class _Size:
    """What a network takes so far, checked before every layer is built."""

    def __init__(self) -> None:
        self._parameters = self._values = self._work = 0

    def add(
        self,
        name: str,
        layer: _Layer,
        inputs: Sequence[tuple[int | None, ...]],
        output: Sequence[int | None],
        *,
        new: bool,
    ) -> None:
        """Adds one call of a layer.

        Raises:
            ModelError: The network would be too large, or the sizes are unknown.
        """
        sides = output[1:]
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise ModelError(
                f"Expected sizes above 0 of the output of {name}, found {list(sides)}."
            )
        taken = sum(_product(shape[1:]) for shape in inputs)
        values = _product(sides)
        parameters, work = _parameters_and_work(layer, inputs[0], output)
        self._parameters += parameters if new else 0
        self._values += values
        self._work += work + taken + values
        for what, found, most in (
            ("parameters", self._parameters, MOST_PARAMETERS),
            ("values in all layers' outputs for an image", self._values, MOST_VALUES),
            ("multiply-adds an image", self._work, MOST_WORK),
        ):
            if found > most:
                raise ModelError(
                    f"Expected a network of at most {most:,} {what}, found more, up "
                    f"to {name}."
                )


def _product(sides: Sequence[int | None]) -> int:
    return math.prod(side for side in sides if side is not None)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _parameters_and_work(
    layer: _Layer, taken: Sequence[int | None], output: Sequence[int | None]
) -> tuple[int, int]:
    """Returns the number of weights, at most, and of multiply-adds besides reading."""
    settings, positions = layer.settings, _product(output[1:-1])
    channels, filters = _product(taken[-1:]), _product(output[-1:])
    window = math.prod(_pair(settings.get("kernel_size", 1)))
    deep = channels * settings.get("depth_multiplier", 1)
    match layer.kind:
        case "Conv2D":
            kernel = window * channels * filters // settings.get("groups", 1)
        case "SeparableConv2D":
            kernel = window * deep + deep * filters
        case "DepthwiseConv2D":
            kernel = window * deep
        case "Dense":
            kernel = channels * filters
        case "BatchNormalization" | "LayerNormalization" | "GroupNormalization":
            axes = settings.get("axis", -1)
            axes = [axes] if isinstance(axes, int) else axes
            return 6 * _product([taken[axis] for axis in axes]), 0
        case "PReLU":
            shared = settings.get("shared_axes", ())
            return _product(
                [side for axis, side in enumerate(taken) if axis not in shared]
            ), 0
        case "MaxPooling2D" | "AveragePooling2D":
            pool = _pair(settings.get("pool_size", 2))
            return 0, _product(output[1:]) * math.prod(pool)
        case _:
            return 0, 0
    return kernel + filters, kernel * positions
