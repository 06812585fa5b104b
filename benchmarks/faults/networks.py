"""Networks from strangers: files that try to run code, read files, hang or crash.

Every attack is a small network with one thing changed. It holds if the tool says what
is wrong, or reads the network and predicts probabilities, within a minute, without
a trace: no file written, none of Keras' settings changed, the process alive.

    python -m benchmarks.faults.networks [--cases 2000] [--seed 1]
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.faults import Tally
from benchmarks.faults.publishing import remove_digest

MARKER = "code-was-run.png"
"""Name of the file, beside a network's folder, that an attack tries to write."""
PRIVATE = "private"
"""Name of a file beside it that an attack tries to read."""
SAVED = "saved-model"
"""Name of a folder beside it with a SavedModel that writes the first when loaded."""
SECONDS = 60

Json = dict[str, Any]


def write_network(folder: Path) -> None:
    """Writes the pair of a small network, whose attacks follow."""
    from emotion_cnn.models.architectures import Architecture, Convolution
    from emotion_cnn.models.builder import build_model
    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import write_pair

    description = NetworkDescription()
    architecture = Architecture(((Convolution(2), Convolution(2)),) * 2, (4,))
    folder.mkdir(exist_ok=True)
    write_pair(folder, Network(build_model(architecture, description), description))
    remove_digest(folder)


# --- model.json: what it names ---


def function(module: str, name: str) -> Json:
    """Returns how Keras writes a function, and reads a class too."""
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


def keras_object(module: str, name: str, /, **config: Any) -> Json:
    """Returns how Keras writes an object."""
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": None,
    }


def node(*args: Any, **kwargs: Any) -> Json:
    """Returns how Keras writes a call of a layer."""
    return {"args": list(args), "kwargs": kwargs}


def tensor(layer: str, call: int = 0) -> Json:
    """Returns how Keras writes the output of a layer."""
    return {
        "class_name": "__keras_tensor__",
        "config": {
            "shape": [None, 7],
            "dtype": "float32",
            "keras_history": [layer, call, 0],
        },
    }


def layer(kind: str, *nodes: Json, name: str = "added", **config: Any) -> Json:
    """Returns how Keras writes a layer of its own."""
    return keras_object("keras.layers", kind, name=name, **config) | {
        "name": name,
        "inbound_nodes": list(nodes),
    }


def _append(values: Json, *layers: Json) -> None:
    """Adds layers, the last of which leads to the network's first one."""
    rescaling = next(
        each for each in values["config"]["layers"] if each["class_name"] == "Rescaling"
    )
    rescaling["inbound_nodes"] = [node(tensor(layers[-1]["name"]))]
    values["config"]["layers"] += layers


def _insert(values: Json, *layers: Json) -> None:
    """Puts layers between the network's last one and its output."""
    values["config"]["layers"] += layers
    values["config"]["output_layers"] = [layers[-1]["name"], 0, 0]


def _config_of(values: Json, kind: str) -> Json:
    config: Json = next(
        each["config"]
        for each in values["config"]["layers"]
        if each["class_name"] == kind
    )
    return config


def _last(values: Json) -> str:
    return str(values["config"]["output_layers"][0])


def _called(name: str, module: str, inputs: Any, **options: Any) -> Mapping[str, Any]:
    """Attacks in which a layer calls a function that Keras exports."""
    called = function(module, name)

    def by_lambda(values: Json) -> None:
        added = layer("Lambda", node(inputs=inputs), function=called, arguments=options)
        _append(values, added)

    def by_activation(values: Json) -> None:
        _append(values, layer("Activation", node(inputs=inputs), activation=called))

    def by_dense(values: Json) -> None:
        _config_of(values, "Dense")["activation"] = called

    return {
        f"{name} by Lambda": by_lambda,
        f"{name} by Activation": by_activation,
        f"{name} by Dense": by_dense,
    }


def _switch(values: Json) -> None:
    switch = layer("Switch", node(0, [function("keras.layers", "TFSMLayer")], SAVED))
    _append(values, switch | {"module": "keras.src.ops.core"})


def _nested(values: Json) -> None:
    inner = json.loads(json.dumps(values))
    _append(inner, layer("Lambda", node(SAVED), function=function("os", "mkdir")))
    inner["name"] = inner["config"]["name"] = "inner"
    inner["inbound_nodes"] = [node(tensor("pixels"))]
    values["config"]["layers"].insert(1, inner)


def _python_code(values: Json) -> None:
    code = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}
    _insert(values, layer("Lambda", node(tensor(_last(values))), function=code))


def _setting(kind: str, name: str, value: Any) -> Callable[[Json], object]:
    def change(values: Json) -> None:
        _config_of(values, kind)[name] = value

    return change


def _argument(*args: Any, **kwargs: Any) -> Callable[[Json], object]:
    """Returns an attack that calls an added layer with these arguments."""

    def change(values: Json) -> None:
        _append(values, layer("ReLU", node(*args, **kwargs)))

    return change


def _top(name: str, value: Any) -> Callable[[Json], object]:
    def change(values: Json) -> None:
        values[name] = value

    return change


def _nested_list(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


NAMED: Mapping[str, Callable[[Json], object]] = {
    **_called("TFSMLayer", "keras.layers", SAVED),
    **_called(
        "plot_image_gallery",
        "keras.visualization",
        {
            "class_name": "__numpy__",
            "config": {"value": [[[[0.0]]]], "dtype": "float32"},
        },
        path=MARKER,
        value_range=[0, 1],
        rows=1,
        cols=1,
    ),
    **_called("set_floatx", "keras.config", "float16"),
    **_called("set_dtype_policy", "keras.config", "float16"),
    **_called("set_max_epochs", "keras.config", 1),
    **_called("set_random_seed", "keras.utils", 1),
    **_called("get_file", "keras.utils", MARKER, origin="file:///etc/hostname"),
    "TFSMLayer": lambda values: _append(
        values, layer("TFSMLayer", filepath=SAVED, call_endpoint="serve")
    ),
    "Switch": _switch,
    "nested network": _nested,
    "Python code": _python_code,
    "process": _top("class_name", "Popen"),
    "process as a layer": lambda values: _append(
        values, layer("Popen", args=["touch", MARKER]) | {"module": "subprocess"}
    ),
    "custom class": lambda values: values["config"]["layers"][1].update(
        registered_name="stranger>Rescaling"
    ),
    "class of another module": lambda values: values["config"]["layers"][1].update(
        module="keras.src.layers.preprocessing.rescaling"
    ),
    "custom activation": _setting("Dense", "activation", "stranger>relu"),
    "object as activation": _setting(
        "Dense", "activation", keras_object("keras.layers", "TFSMLayer", filepath="x")
    ),
    "object as policy": _setting(
        "Dense", "dtype", keras_object("keras.layers", "TFSMLayer", filepath="x")
    ),
    "quantized policy": _setting("Dense", "dtype", "int8_from_float32"),
    "quantization": _setting(
        "Dense", "quantization_config", keras_object("keras.quantizers", "GPTQConfig")
    ),
    "LoRA": _setting("Dense", "lora_rank", 4),
    "argument text": _argument(SAVED),
    "argument by name": _argument(inputs=SAVED),
    "argument function": _argument(function("keras.layers", "TFSMLayer")),
    "argument array": _argument(
        {"class_name": "__numpy__", "config": {"value": [0], "dtype": "float32"}}
    ),
    "argument of gigabytes": _argument(
        {"class_name": "__numpy__", "config": {"value": "x", "dtype": "U999999999"}}
    ),
    "argument type specification": _argument(
        {
            "class_name": "__typespec__",
            "module": "builtins",
            "spec_name": "open",
            "registered_name": None,
            "config": [MARKER, "w"],
        }
    ),
    "argument deep list": _argument(_nested_list(300)),
    "argument very deep list": _argument(_nested_list(900)),
    "training in use": lambda values: _append(
        values, layer("Dropout", node(tensor("pixels"), training=True), rate=0.5)
    ),
}
"""Attacks that would have Keras call or make something, and are refused."""

IGNORED: Mapping[str, Callable[[Json], object]] = {
    "compile_config": _top(
        "compile_config", {"optimizer": function("keras.layers", "TFSMLayer")}
    ),
    "build_config": _top("build_config", {"input_shape": [10**9, 10**9]}),
    "initializer": _setting(
        "Dense", "kernel_initializer", function("keras.config", "set_floatx")
    ),
    "regularizer": _setting(
        "Dense", "kernel_regularizer", function("keras.utils", "set_random_seed")
    ),
    "constraint": _setting(
        "Dense", "bias_constraint", keras_object("keras.layers", "TFSMLayer")
    ),
}
"""Attacks in what the tool does not read."""


# --- model.json: sizes, orders and forms ---


def _added(*layers: Json) -> Callable[[Json], object]:
    """Returns an attack that adds layers between the input and the network."""

    def change(values: Json) -> None:
        _append(values, *layers)

    return change


def _chain(count: int, *, backwards: bool) -> Callable[[Json], object]:
    def change(values: Json) -> None:
        names = [_last(values), *(f"relu{number}" for number in range(count))]
        layers = [
            layer("ReLU", node(tensor(before)), name=name)
            for before, name in itertools.pairwise(names)
        ]
        _insert(values, *layers)
        if backwards:
            values["config"]["layers"].reverse()

    return change


def _doubling(values: Json) -> None:
    names = ["pixels", *(f"doubled{number}" for number in range(60))]
    _append(
        values,
        *(
            layer("Concatenate", node([tensor(a), tensor(a)]), name=b, axis=-1)
            for a, b in itertools.pairwise(names)
        ),
    )


def _sized(kind: str, **config: Any) -> Callable[[Json], object]:
    return _added(layer(kind, node(tensor("pixels")), **config))


SIZES: Mapping[str, Callable[[Json], object]] = {
    "UpSampling2D 1000": _sized("UpSampling2D", size=[1000, 1000]),
    "UpSampling2D many": _sized("UpSampling2D", size=10**9),
    "Resizing": _sized("Resizing", height=10**6, width=10**6),
    "padding": _sized("ZeroPadding2D", padding=10**9),
    "Dense": _sized("Dense", units=10**10),
    "Dense of 65,536": _added(
        layer("Dense", node(tensor("pixels")), name="one", units=65_536),
        layer("Dense", node(tensor("one")), name="two", units=65_536),
    ),
    "filters": _sized("Conv2D", filters=10**9, kernel_size=3),
    "kernel": _sized("Conv2D", filters=60_000, kernel_size=1000, padding="same"),
    "multiplier": _sized(
        "DepthwiseConv2D", depth_multiplier=1000, kernel_size=1000, padding="same"
    ),
    "no strides": _sized("Conv2D", filters=1, kernel_size=3, strides=0),
    "no groups": _sized("Conv2D", filters=1, kernel_size=3, groups=0),
    "negative kernel": _sized("Conv2D", filters=1, kernel_size=-3),
    "kernel larger than the image": _sized("Conv2D", filters=1, kernel_size=500),
    "cropped to nothing": _sized("Cropping2D", cropping=30),
    "shape that does not fit": _sized("Reshape", target_shape=[5, 5]),
    "two unknown sizes": _sized("Reshape", target_shape=[-1, -1]),
    "axis": _sized("Softmax", axis=4),
    "axes twice": _sized("Softmax", axis=[1, 1]),
    "normalised axis": _sized("BatchNormalization", axis=5),
    "doubled 60 times": _doubling,
    "3,000 layers": _chain(3_000, backwards=False),
    "3,000 layers backwards": _chain(3_000, backwards=True),
    "input of no size": _setting("InputLayer", "batch_shape", [None, None, None, 1]),
    "input of one image": _setting("InputLayer", "batch_shape", [1, 48, 48, 1]),
    "input of a billion": _setting("InputLayer", "batch_shape", [None, 10**9, 1, 1]),
    "ragged input": _setting("InputLayer", "ragged", True),
    "input of text": _setting("InputLayer", "dtype", "string"),
    "a number of 4,000 digits": _setting("Dense", "units", 10**4000),
    "a number that is none": _setting("Dropout", "rate", float("nan")),
    "an infinite number": _setting("BatchNormalization", "epsilon", float("inf")),
    "a flag as a number": _setting("Conv2D", "filters", True),
    "text as a number": _setting("Conv2D", "filters", "1"),
    "a fraction": _setting("Conv2D", "filters", 2.0),
    "an object as a number": _setting("Conv2D", "filters", {"a": 1}),
    "cycle": _added(
        layer("ReLU", node(tensor("b")), name="a"),
        layer("ReLU", node(tensor("a")), name="b"),
    ),
    "its own input": _argument(tensor("added")),
    "unknown input": _argument(tensor("nobody")),
    "call that there is not": _argument(tensor("pixels", 7)),
    "call before the first": _argument(tensor("pixels", -1)),
    "no input": _argument(),
    "input twice": _argument(tensor("pixels"), tensor("pixels")),
    "sum of one": _added(layer("Add", node([tensor("pixels")]))),
    "sum of none": _added(layer("Add", node([]))),
    "sum that does not fit": _added(
        layer("Cropping2D", node(tensor("pixels")), name="less", cropping=2),
        layer("Add", node([tensor("pixels"), tensor("less")])),
    ),
    "layer that leads nowhere": lambda values: values["config"]["layers"].append(
        layer("ReLU", node(tensor("pixels")))
    ),
    "layer that is not called": lambda values: values["config"]["layers"].append(
        layer("ReLU")
    ),
    "inputs of an input": lambda values: values["config"]["layers"][0].update(
        inbound_nodes=[node(tensor(_last(values)))]
    ),
    "old form of calls": lambda values: _append(
        values, layer("ReLU") | {"inbound_nodes": [[["pixels", 0, 0, {}]]]}
    ),
    "no layers": lambda values: values["config"].update(layers=[]),
    "layers that are none": lambda values: values["config"].update(layers=[1, None]),
    "no outputs": lambda values: values["config"].update(output_layers=[]),
    "outputs as an object": lambda values: values["config"].update(output_layers={}),
    "outputs of nobody": lambda values: values["config"].update(
        output_layers=["nobody", 0, 0]
    ),
    "outputs twice": lambda values: values["config"].update(
        output_layers=2 * [[_last(values), 0, 0]]
    ),
    "input that is no input": lambda values: values["config"].update(
        input_layers=[_config_of(values, "Rescaling")["name"], 0, 0]
    ),
    "name twice": _added(layer("ReLU", node(tensor("pixels")), name="pixels")),
    "name with a slash": _added(layer("ReLU", node(tensor("pixels")), name="a/../b")),
    "name for the terminal": _argument(tensor("\x1b[31m")),
    "name of a megabyte": _argument(tensor(10**6 * "a")),
    "name that is a list": _sized("ReLU", name=["a"]),
    "class that is a list": lambda values: values["config"]["layers"][1].update(
        class_name=["Rescaling"]
    ),
    "unknown setting": _setting("Dense", "of_the_future", 1),
    "no settings": lambda values: values["config"]["layers"][2].update(config={}),
    "layer of three names": lambda values: values["config"]["layers"][2].update(
        name="other"
    ),
}
"""Attacks by size, order and form, which are refused."""


# --- Both files: what they are ---


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def _sparse(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(2**32)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FILES: Mapping[str, Callable[[Path], object]] = {
    "pipe": _fifo,
    "device": _link("/dev/zero"),
    "link to itself": lambda path: _link(path.name)(path),
    "folder": _folder,
    "4 GB": _sparse,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
}
"""Attacks by what stands where a file should."""


# --- model_weights.h5 ---


def _first_array(file: h5py.File) -> tuple[h5py.Group, str]:
    """Returns where the weights of the first convolution are."""
    found: list[str] = []
    file["model_weights"].visititems(
        lambda name, item: (
            found.append(name) if isinstance(item, h5py.Dataset) else None
        )
    )
    whole = f"model_weights/{next(each for each in found if 'kernel' in each)}"
    parent, _, name = whole.rpartition("/")
    return file[parent], name


def _replaced(make: Callable[[h5py.Group, str, Any], None]) -> Callable[[Path], object]:
    """Returns an attack that puts something in the place of an array."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            group, name = _first_array(file)
            array = group[name]
            values, shape = array[()], array.shape
            del group[name]
            make(group, name, values.reshape(shape))

    return change


def _external_storage(group: h5py.Group, name: str, values: Any) -> None:
    private = str(Path(group.file.filename).parent.parent / PRIVATE)
    files = [(private, 0, values.nbytes)]
    group.create_dataset(name, values.shape, "float32", external=files)


def _external_link(group: h5py.Group, name: str, values: Any) -> None:
    other = Path(group.file.filename).parent.parent / "other.h5"
    with h5py.File(other, "w") as file:
        file["weights"] = values
    group[name] = h5py.ExternalLink(str(other), "/weights")


def _virtual(group: h5py.Group, name: str, values: Any) -> None:
    other = Path(group.file.filename).parent.parent / "other.h5"
    with h5py.File(other, "w") as file:
        file["weights"] = values
    layout = h5py.VirtualLayout(values.shape, "float32")
    layout[...] = h5py.VirtualSource(other, "weights", values.shape)
    group.create_virtual_dataset(name, layout)


def _soft_link(group: h5py.Group, name: str, values: Any) -> None:
    group["behind"] = values
    group[name] = h5py.SoftLink(f"{group.name}/behind")


def _unpacked(group: h5py.Group, name: str, values: Any) -> None:
    size = 30_000_000
    packed = group.create_dataset(
        name, (size,), "float32", chunks=(size,), compression="gzip"
    )
    packed[:] = 0


def _never_written(group: h5py.Group, name: str, values: Any) -> None:
    group.create_dataset(name, (2**20, 2**14), "float32")


def _of_kind(kind: Any, value: Any) -> Callable[[Path], object]:
    def make(group: h5py.Group, name: str, values: Any) -> None:
        array = group.create_dataset(name, values.shape, kind)
        if value is not None:
            array[...] = value

    return _replaced(make)


def _spoilt(value: float) -> Callable[[Path], object]:
    def change(group: h5py.Group, name: str, values: Any) -> None:
        values.flat[0] = value
        group[name] = values

    return _replaced(change)


def _names(name: str, value: Any) -> Callable[[Path], object]:
    """Returns an attack on the names of the layers or of the first one's weights."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            group = file["model_weights"]
            if name == "weight_names":
                group = (
                    group["conv2d"]
                    if "conv2d" in group
                    else next(each for each in group.values() if len(each.attrs[name]))
                )
            group.attrs[name] = value

    return change


def _cycle(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["model_weights"]["again"] = file["model_weights"]


def _headers_within_headers(path: Path) -> None:
    """Each of 8,000 parts of a header says that it goes on at the next, to the end."""
    count, start, size = 8_000, 112, 24
    superblock = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(17)
    superblock += b"\xff" * 16 + bytes(16) + struct.pack("<Q", 96) + bytes(24)
    header = struct.pack("<BxHIIxxxx", 1, count, 1, count * size)
    parts = (
        struct.pack("<HHB3xQQ", 0x10, 16, 0, start + each * size, (count - each) * size)
        for each in range(1, count + 1)
    )
    path.write_bytes(superblock + header + b"".join(parts))


def _rewritten(**options: Any) -> Callable[[Path], object]:
    def make(group: h5py.Group, name: str, values: Any) -> None:
        group.create_dataset(name, data=values, **options)

    return _replaced(make)


WEIGHTS: Mapping[str, Callable[[Path], object]] = {
    "external storage": _replaced(_external_storage),
    "external link": _replaced(_external_link),
    "virtual array": _replaced(_virtual),
    "soft link": _replaced(_soft_link),
    "soft link to itself": _replaced(
        lambda group, name, values: group.__setitem__(
            name, h5py.SoftLink(f"{group.name}/{name}")
        )
    ),
    "soft link to nothing": _replaced(
        lambda group, name, values: group.__setitem__(name, h5py.SoftLink("/none"))
    ),
    "groups in a circle": _cycle,
    "packed": _rewritten(compression="gzip"),
    "in pieces": _rewritten(chunks=True),
    "unpacks to 120 MB": _replaced(_unpacked),
    "64 GB never written": _replaced(_never_written),
    "texts of any length": _of_kind(h5py.string_dtype(), None),
    "arrays of any length": _of_kind(h5py.vlen_dtype("float32"), None),
    "references": _of_kind(h5py.ref_dtype, None),
    "records": _of_kind([("a", "float32"), ("b", h5py.string_dtype())], None),
    "opaque": _of_kind("V4", None),
    "integers": _of_kind("int32", 1),
    "headers within headers": _headers_within_headers,
    "a group": _replaced(lambda group, name, values: group.create_group(name)),
    "a type": _replaced(
        lambda group, name, values: group.__setitem__(name, np.dtype("float32"))
    ),
    "another shape": _replaced(
        lambda group, name, values: group.__setitem__(name, values.ravel())
    ),
    "a single number": _replaced(
        lambda group, name, values: group.__setitem__(name, np.float32(1))
    ),
    "nothing": _replaced(
        lambda group, name, values: group.__setitem__(name, h5py.Empty("float32"))
    ),
    "not a number": _spoilt(np.nan),
    "infinite": _spoilt(np.inf),
    "no layers": _names("layer_names", []),
    "layers as one text": _names("layer_names", "conv2d"),
    "layers as texts of any length": _names("layer_names", ["conv2d"]),
    "layers of very long names": _names("layer_names", ["conv2d" * 10_000]),
    "layers as numbers": _names("layer_names", [1, 2]),
    "layers that there are not": _names("layer_names", [b"nobody"]),
    "layers outside": _names("layer_names", [b"/", b"../.."]),
    "no weights": _names("weight_names", []),
    "weights that there are not": _names("weight_names", [b"nobody"]),
}
"""Attacks on the weights, which are refused."""


# --- Networks that predict nonsense ---


def _predictions(*layers: Callable[[Any], Any]) -> Callable[[Path], object]:
    """Returns what writes a network of these layers and a head of seven numbers."""

    def write(folder: Path) -> None:
        import keras

        from emotion_cnn.models.description import Network, NetworkDescription
        from emotion_cnn.models.pair import write_pair

        inputs = outputs = keras.Input((48, 48, 1))
        for make in layers:
            outputs = make(keras.layers)(outputs)
        model = keras.Model(inputs, outputs)
        write_pair(folder, Network(model, NetworkDescription()))

    return write


def _head(bias: float, activation: str) -> Callable[[Any], Any]:
    return lambda layers: layers.Dense(
        7, activation=activation, bias_initializer=_constant(bias)
    )


def _constant(value: float) -> Any:
    import keras

    return keras.initializers.Constant(value)


PREDICTIONS: Mapping[str, Callable[[Path], object]] = {
    "negative for all but gray": _predictions(
        lambda layers: layers.Rescaling(1.0, -128.0),
        lambda layers: layers.Flatten(),
        _head(1 / 7, "linear"),
    ),
    "sums above 1 for all but gray": _predictions(
        lambda layers: layers.Rescaling(1.0, -128.0),
        lambda layers: layers.Flatten(),
        _head(1 / 7, "relu"),
    ),
    "no numbers for all but gray": _predictions(
        lambda layers: layers.Rescaling(1e3, -128e3),
        lambda layers: layers.Flatten(),
        _head(0.0, "exponential"),
        lambda layers: layers.Softmax(),
    ),
}
"""Networks whose predictions are probabilities for a gray image alone."""


def write_saved_model(folder: Path, marker: Path) -> None:
    """Writes a SavedModel that writes a file when TensorFlow loads it."""
    import tensorflow as tf

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self) -> Any:
            return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self) -> None:
            tf.io.write_file(str(marker), "code was run")

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.resource = Resource()

        @tf.function(input_signature=[tf.TensorSpec((None, 7), tf.float32)])
        def serve(self, inputs: Any) -> Any:
            self.resource.resource_handle  # noqa: B018
            return inputs

    tf.saved_model.save(Module(), str(folder))
    marker.unlink(missing_ok=True)


def write_attack(kind: str, name: str, folder: Path, network: Path) -> None:
    """Writes a network with one thing changed.

    Args:
        kind: One of `KINDS`.
        name: One of that kind.
        folder: New folder for the pair.
        network: Folder with the pair to change, as `write_network` writes it.
    """
    shutil.copytree(network, folder)
    path = folder / "model.json"
    change = KINDS[kind][name]
    if kind in ("named", "ignored", "sizes"):
        values = json.loads(path.read_text())
        change(values)
        text = json.dumps(values)
        for each in (MARKER, SAVED):
            text = text.replace(f'"{each}"', json.dumps(str(folder.parent / each)))
        path.write_text(text)
    elif kind == "json":
        change(path)
    elif kind == "predictions":
        change(folder)
    else:
        change(folder / "model_weights.h5")


KINDS: Mapping[str, Mapping[str, Any]] = {
    "named": NAMED,
    "ignored": IGNORED,
    "sizes": SIZES,
    "json": FILES,
    "weights": FILES,
    "arrays": WEIGHTS,
    "predictions": PREDICTIONS,
}
"""All attacks by kind and name."""


# --- Mutations ---

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 10**6, 10**30, 0.5, -1e300, float("nan")),
    *("", "relu", "Lambda", "keras.layers", "softmax", "\x00", "pixels", 1000 * "a"),
    *([], {}, [0], [[]], [None, 48, 48, 1], ["pixels", 0, 0], {"class_name": "ReLU"}),
    *(function("keras.layers", "TFSMLayer"), tensor("pixels"), [[["a", 0, 0]]]),
)


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Returns all lists and objects in JSON with each of their keys or indices."""
    found, left = [], [values]
    while left:
        each = left.pop()
        keys = each.keys() if isinstance(each, dict) else range(len(each))
        for key in keys:
            found.append((each, key))
            if isinstance(each[key], list | dict):
                left.append(each[key])
    return found


def mutate_json(path: Path, generator: random.Random) -> None:
    """Replaces, removes or exchanges a few values."""
    values = json.loads(path.read_text())
    for _ in range(generator.choice([1, 1, 1, 2, 5])):
        places = _places(values)
        holder, key = generator.choice(places)
        match generator.randrange(4):
            case 0:
                holder[key] = generator.choice(_VALUES)
            case 1:
                del holder[key]
            case 2:
                other, its = generator.choice(places)
                holder[key] = json.loads(json.dumps(other[its]))
            case 3 if isinstance(holder, list):
                generator.shuffle(holder)
    path.write_text(json.dumps(values))


def mutate_bytes(path: Path, generator: random.Random) -> None:
    """Changes a few bytes, mostly where the format's own are, or cuts the file."""
    content = bytearray(path.read_bytes())
    # What stands between the arrays; these are small and of random digits.
    for _ in range(generator.choice([1, 2, 4, 16])):
        place = generator.randrange(len(content))
        match generator.randrange(4):
            case 0:
                content[place] ^= 1 << generator.randrange(8)
            case 1:
                content[place] = generator.choice([0, 1, 127, 128, 255])
            case 2:
                content[place : place + 8] = generator.randbytes(8)
            case 3:
                start = generator.randrange(len(content))
                content[place : place + 8] = content[start : start + 8]
    if generator.random() < 0.1:
        del content[generator.randrange(len(content)) :]
    path.write_bytes(content)


# --- Trying ---


def _settings() -> tuple[Any, ...]:
    import keras

    return (
        keras.config.floatx(),
        keras.config.dtype_policy().name,
        keras.config.max_epochs(),
        keras.config.image_data_format(),
    )


def reads(folder: Path, marker: Path, *, refused: bool | None) -> str:
    """Reads a network and predicts with it.

    Args:
        folder: Folder with a pair.
        marker: The file that an attack tries to write.
        refused: Whether it has to be refused; None if either will do.

    Returns:
        What went wrong; nothing if the attack held.
    """
    from emotion_cnn.errors import ModelError
    from emotion_cnn.inference.classifier import load

    faces = np.random.default_rng(0).integers(0, 256, (8, 48, 48), np.uint8)
    before, wrong = _settings(), ""
    try:
        probabilities = load(folder).predict(faces)
        if refused:
            wrong = "it was read"
        elif not np.allclose(probabilities.sum(axis=1), 1, atol=1e-2):
            wrong = "its predictions are no probabilities"
    except ModelError as error:
        if refused is False:
            wrong = f"it was refused: {error}"
        elif len(str(error)) > 1500 or not str(error).isprintable():
            wrong = "its message is too long, or not safe"
    except BaseException as error:
        wrong = f"{type(error).__name__}: {str(error)[:200]}"
    if before != _settings():
        wrong += " Keras' settings were changed."
    if marker.exists():
        marker.unlink()
        wrong += " A file was written."
    return wrong


def _work(tasks: Any) -> None:
    from emotion_cnn.backend import use_backend

    use_backend()
    while True:
        folder, marker, refused = tasks.recv()
        tasks.send(reads(folder, marker, refused=refused))


class _Reader:
    """A process that reads networks, started again after it died or hung."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._tasks, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def reads(self, folder: Path, marker: Path, *, refused: bool | None) -> str:
        """As `reads` does, but also says that the process died or hung."""
        self._tasks.send((folder, marker, refused))
        try:
            if self._tasks.poll(SECONDS):
                return str(self._tasks.recv())
            wrong = f"no prediction within {SECONDS} s"
        except (EOFError, ConnectionError):
            self._process.join(10)
            wrong = f"the process died, exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        return wrong

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()


def _mutated(
    file: str, mutate: Callable[[Path, random.Random], None], seed: int
) -> Callable[[Path, Path], None]:
    """Returns what writes a network one of whose files is mutated."""

    def write(folder: Path, network: Path) -> None:
        shutil.copytree(network, folder)
        mutate(folder / file, random.Random(seed))  # noqa: S311

    return write


def _attack(kind: str, name: str) -> Callable[[Path, Path], None]:
    return lambda folder, network: write_attack(kind, name, folder, network)


def _cases(cases: int, seed: int) -> Mapping[str, list[tuple[str, Any, bool | None]]]:
    """Returns what is tried: its name, what writes it, whether it has to be refused."""
    return {
        **{
            f"Networks, {kind}": [
                (name, _attack(kind, name), kind != "ignored") for name in attacks
            ]
            for kind, attacks in KINDS.items()
        },
        **{
            f"Networks, mutated {file}": [
                (f"seed {each}", _mutated(file, mutate, each), None)
                for each in range(seed, seed + cases // 2)
            ]
            for file, mutate in (
                ("model.json", mutate_json),
                ("model_weights.h5", mutate_bytes),
            )
        },
    }


def main() -> int:
    """Tries all attacks and so many mutations; returns 1 if any did harm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="mutated networks")
    parser.add_argument("--seed", type=int, default=1, help="of the first of them")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        network, folder, marker = place / "network", place / "pair", place / MARKER
        write_network(network)
        write_saved_model(place / SAVED, marker)
        (place / PRIVATE).write_bytes(bytes(100_000))
        reader = _Reader()
        for kind, cases in _cases(options.cases, options.seed).items():
            tally = Tally(kind)
            for what, write, refused in cases:
                write(folder, network)
                wrong = reader.reads(folder, marker, refused=refused)
                if wrong:
                    tally.failed(f"{what}: {wrong}")
                else:
                    tally.held()
                shutil.rmtree(folder)
            failed += tally.finish()
        reader.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
