"""Exported networks: the answers of Keras, by other runtimes; strangers' files."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emotion_cnn
from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS, LABELS
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.errors import ConfigError, MissingPackageError, ModelError
from emotion_cnn.inference.backends import beside_pair, exported, read_network, trial
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.classifier import Classifier
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.exported import ExportedDescription
from emotion_cnn.models.shipped import shipped_folder

ROOT = Path(__file__).resolve().parent.parent
FORMATS = {
    "onnx": ("onnx", "model.onnx"),
    "litert": ("litert", "model.tflite"),
    "openvino": ("openvino", "model_openvino"),
    "saved-model": ("saved_model", "model_saved"),
}
"""The exporting module and the name of each format."""


def description(pair, format: str, quantize: str = "none") -> ExportedDescription:
    return ExportedDescription(
        pair.description, format, quantize, pair.weights_sha256, "0.1", "MIT"
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with the pair of a small network and its exports; not to be changed."""
    from emotion_cnn.exporting.network import exportable
    from emotion_cnn.models.architectures import Architecture, Convolution
    from emotion_cnn.models.builder import build_model
    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import read_pair, write_pair

    folder = tmp_path_factory.mktemp("networks")
    described = NetworkDescription(label_sets=LABELS)
    model = build_model(Architecture(((Convolution(2),),) * 4, (8, 8)), described)
    generator = np.random.default_rng(1)
    model.set_weights(
        [
            # Variances are above 0.
            generator.uniform(-0.5 if weights.ndim > 1 else 0.1, 1, weights.shape)
            for weights in model.get_weights()
        ]
    )
    write_pair(folder, Network(model, described))
    pair = read_pair(folder)
    whole = exportable(pair)
    for format, (module, name) in FORMATS.items():
        import_module(f"emotion_cnn.exporting.{module}").write(
            whole,
            folder / name,
            quantize="none",
            text=description(pair, format).to_json(),
            images=None,
        )
    import_module("emotion_cnn.exporting.litert").write(
        whole,
        folder / "model-int8.tflite",
        quantize="int8",
        text=description(pair, "litert", "int8").to_json(),
        images=some_images(20),
    )
    return folder


def some_images(count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 6, 6)).astype(np.uint8)
    return images.repeat(8, axis=1).repeat(8, axis=2)[..., np.newaxis]


@pytest.fixture(scope="session")
def pair(folder):
    return read_network(folder)


@pytest.fixture(scope="session", params=FORMATS)
def network(request, folder):
    return read_network(folder / FORMATS[request.param][1])


@pytest.fixture
def copied(folder, tmp_path):
    """Returns a copy of a network, to be changed."""

    def copy(name: str) -> Path:
        source, target = folder / name, tmp_path / name
        if source.is_dir():
            return Path(shutil.copytree(source, target))
        return Path(shutil.copy(source, target))

    return copy


# --- The answers ---


def test_an_exported_network_answers_as_that_of_keras(network, pair):
    assert isinstance(pair, KerasNetwork)
    assert network.description == pair.description
    assert network.is_described
    for count in (1, 5, 1, 64):
        images = some_images(count)
        found = network.predict(images)
        assert found.dtype == np.float32
        assert found.shape == (count, 2, 7)
        np.testing.assert_allclose(found, pair.predict(images), atol=1e-5)
    # Views are floats, and such networks take whole gray levels.
    rounded = network.predict(some_images(3).astype(np.float32) + 0.4)
    np.testing.assert_array_equal(rounded, network.predict(some_images(3)))


@pytest.mark.parametrize("tta", ["none", "flip", "shift", "ten-crop"])
def test_label_sets_and_views_are_those_of_keras(network, pair, tta):
    images = some_images(9)
    for labels in LABELS:
        np.testing.assert_allclose(
            predict(network, images, labels=labels, tta=tta),
            predict(pair, images, labels=labels, tta=tta),
            atol=1e-2 if tta == "ten-crop" else 1e-5,
        )


def test_probabilities_of_8_bits_sum_to_1(folder, pair):
    images = some_images(64)
    found = read_network(folder / "model-int8.tflite").predict(images)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    assert 0 < abs(found - pair.predict(images)).mean() < 0.05


def test_the_digest_is_that_of_the_file(folder):
    path = folder / "model.onnx"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_network(path).weights_sha256 == digest


def test_faces_are_explained_by_occlusion(folder):
    classifier = emotion_cnn.load(folder / "model.onnx")
    face = some_images(1)[0, :, :, 0]
    assert classifier.explanation_methods == ("occlusion",)
    found = classifier.explain(face)
    np.testing.assert_array_equal(found, classifier.explain(face, method="occlusion"))
    by_keras = emotion_cnn.load(folder).explain(face, method="occlusion")
    np.testing.assert_allclose(found, by_keras, atol=1e-2)
    with pytest.raises(ModelError, match="needs its gradients; found an exported one"):
        classifier.explain(face, method="layercam")


def test_what_is_not_for_exported_networks(folder):
    with pytest.raises(ModelError, match=r"`class_order` is for .* Leave it out"):
        emotion_cnn.load(folder / "model.onnx", class_order=EMOTIONS)
    with pytest.raises(ConfigError, match="`backend` is for networks that Keras runs"):
        emotion_cnn.evaluate(weights=folder / "model.onnx", backend="jax")


# --- Commands ---


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_it_is_evaluated_to_the_same_figures(
    folder, name, faces, without_charts, tmp_path
):
    found, expected = (
        emotion_cnn.evaluate(data=faces, weights=weights, output=tmp_path / output)
        for weights, output in ((folder / name, "found"), (folder, "expected"))
    )
    assert found.metrics["test"].accuracy == expected.metrics["test"].accuracy
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {path.name for path in (tmp_path / "expected").iterdir()}
    assert str(folder / name) in found.report


def predicted(*arguments: object, cwd: Path) -> tuple[str, set[str], str]:
    """Runs predict in a process; returns its table, what it imported, what it said."""
    code = (
        "import sys\nfrom emotion_cnn.cli import main\n"
        "code = main(sys.argv[1:])\nprint(*sys.modules)\nsys.exit(code)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, "predict", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    *said, modules = finished.stdout.splitlines()
    imported = {each.partition(".")[0] for each in modules.split()}
    table = (cwd / "out" / "predictions.csv").read_text(encoding="utf-8")
    return table, imported, "\n".join(said)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "face.png"
    Image.fromarray(some_images(1)[0, :, :, 0]).save(path)
    return path


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_predict_imports_neither_keras_nor_tensorflow(folder, name, image, tmp_path):
    settings = ("--source", image, "--faces", "cropped", "--output", "out")
    table, imported, said = predicted(
        *settings, "--weights", folder / name, "--explain", cwd=tmp_path
    )
    assert not imported & {"keras", "tensorflow", "jax", "torch", "h5py", "sklearn"}
    assert "face.png: 1 face" in said
    expected = emotion_cnn.load(folder).predict(some_images(1)[:, :, :, 0])[0]
    found = [float(each) for each in table.splitlines()[1].split(",")[10:17]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_predict_says_that_layercam_needs_keras(folder, image, tmp_path, fails):
    message = fails(
        *("predict", "--source", image, "--faces", "cropped", "--explain"),
        *("--weights", folder / "model.onnx", "--explain-method", "layercam"),
        *("--output", tmp_path / "out"),
    )
    assert "Expected --explain-method to be occlusion" in message
    assert "Choose occlusion, or" in message
    assert not (tmp_path / "out").exists()


# --- The light default ---


def test_predict_takes_what_lies_beside_the_pair(
    folder, image, tmp_path, monkeypatch, own_environment
):
    for name in ("model.json", "model_weights.h5"):
        shutil.copy(folder / name, tmp_path)
    settings = ("--source", image, "--faces", "cropped", "--output")
    # Here, where Keras has started; there is nothing else that could predict.
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *map(str, settings), "slow"]) == 0
    slow = (tmp_path / "slow" / "predictions.csv").read_text(encoding="utf-8")
    shutil.copy(folder / "model.onnx", tmp_path)
    light, imported, _ = predicted(*settings, "out", cwd=tmp_path)
    assert "keras" not in imported
    # The runtimes' last decimals are the processor's.
    (names, *light), (expected_names, *slow) = (
        [line.split(",") for line in table.splitlines()] for table in (light, slow)
    )
    assert names == expected_names
    for found, expected in zip(light, slow, strict=True):
        assert found[:10] + found[17:] == expected[:10] + expected[17:]
        np.testing.assert_allclose(
            *(np.array(each[10:17], float) for each in (found, expected)), atol=1e-5
        )


def test_only_what_was_made_of_the_pair_is_taken(folder, shared_networks, tmp_path):
    assert beside_pair.read_beside_pair(folder).weights_sha256
    assert beside_pair.read_beside_pair(shared_networks[0]) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: None, "Expected PATH to be made of the weights of SHA-256"),
        (
            lambda path: path.write_bytes(b"damaged"),
            "Expected PATH to be a network of operations",
        ),
    ],
)
def test_why_another_is_not_taken_is_said(
    folder, shared_networks, tmp_path, monkeypatch, caplog, change, words
):
    monkeypatch.setattr(trial, "pass_trial", None)  # There is none.
    other = Path(shutil.copytree(shared_networks[0], tmp_path / "other"))
    change(Path(shutil.copy(folder / "model.onnx", other)))
    with caplog.at_level("INFO", "emotion_cnn"):
        assert beside_pair.read_beside_pair(other) is None
    assert (
        f"Not used: {words}".replace("PATH", str(other / "model.onnx")) in caplog.text
    )


def test_the_pair_works_where_a_runtime_is_broken(
    folder, tmp_path, monkeypatch, caplog
):
    for name in ("model.json", "model_weights.h5", "model.onnx"):
        shutil.copy(folder / name, tmp_path)
    onnx = import_module("emotion_cnn.inference.backends.onnx")

    def broken():
        raise MissingPackageError("Expected a package, found it broken.")

    monkeypatch.setattr(onnx, "runtime", broken)
    with caplog.at_level("INFO", "emotion_cnn"):
        assert beside_pair.read_beside_pair(tmp_path) is None
    assert "Not used: Expected a package, found it broken." in caplog.text


def test_the_light_network_is_explained_by_that_of_keras(folder):
    light = Classifier(read_network(folder / "model.onnx"), pair=folder)
    assert light.explanation_methods == ("layercam", "occlusion")
    face = some_images(1)[0, :, :, 0]
    np.testing.assert_array_equal(
        light.explain(face, emotion="sad"),
        emotion_cnn.load(folder).explain(face, emotion="sad"),
    )


def test_the_shipped_exported_network_says_what_the_shipped_pair_does():
    light = beside_pair.read_beside_pair(shipped_folder())
    assert light is not None
    images, _ = draw_faces(12, seed=1)
    found, expected = (
        each.predict(images) for each in (light, read_network(shipped_folder()))
    )
    assert (found.argmax(axis=-1) == expected.argmax(axis=-1)).mean() > 0.99
    assert abs(found - expected).max() < 0.01


# --- Strangers' files ---


def refused(path: Path) -> str:
    """What is said of a network that is refused without being run, in no time."""
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        read_network(path)
    text = str(caught.value)
    # For the trial, this process imports the runtime.
    assert "trial" in text or time.process_time() - start < 30
    return text


def onnx_model(folder):
    import onnx

    return onnx.load(folder / "model.onnx")


def add_node(operation: str, domain: str = "", **attributes):
    def change(model) -> None:
        from onnx import helper

        node = helper.make_node(operation, ["a"], ["b"], domain=domain, **attributes)
        model.graph.node.append(node)

    return change


def with_external_data(model) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = 1


def with_absurd_shape(model) -> None:
    model.graph.initializer[0].dims[:] = [2**40]


def with_thousands_of_dimensions(model) -> None:
    model.graph.initializer[0].dims[:] = [2**62] * 100_000


def with_packed_dimensions(model) -> bytes:
    """Returns what another part of the graph begins with: a tensor of such a shape."""
    from google.protobuf.internal.encoder import BytesEncoder

    content = (b"\xff" * 9 + b"\x01") * 100_000
    for field in (1, 5, 7):  # The shape of a tensor, of the graph, of the model.
        parts: list[bytes] = []
        BytesEncoder(field, False, False)(parts.append, content, True)
        content = b"".join(parts)
    return content


def with_function(model) -> None:
    model.functions.add(name="f", domain="d")


def with_a_loop(model) -> None:
    from onnx import helper

    body = helper.make_graph([], "body", [], [])
    add_node("Identity", body=body)(model)


def without_description(model) -> None:
    del model.metadata_props[:]


def described_as(**changes):
    def change(model) -> None:
        (entry,) = model.metadata_props
        values = json.loads(entry.value)
        values["network"] |= changes.get("network", {})
        values |= {name: each for name, each in changes.items() if name != "network"}
        entry.value = json.dumps(values)

    return change


def with_float_input(model) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 1


def with_second_input(model) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "more"


def of_fixed_batch(model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def that_takes_few_images(model) -> None:
    """Lets it answer for the first ten images alone."""
    from onnx import helper, numpy_helper

    (last,) = (each for each in model.graph.node if "probabilities" in each.output)
    last.output[0] = "all"
    for name, value in (("first", 0), ("end", 10)):
        array = np.array([value], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.append(
        helper.make_node("Slice", ["all", "first", "end"], ["probabilities"])
    )


def with_size_of_pixels(operation: str, *more: str):
    """Adds an operation on the pixels, with the pixels as the size of its result."""

    def change(model) -> None:
        from onnx import helper

        names = ["pixels", *more, "pixels"]
        model.graph.node.append(helper.make_node(operation, names, ["added"]))

    return change


def with_size_of_their_number(model) -> None:
    from onnx import helper

    for node in (("Shape", ["pixels"], ["s"]), ("Tile", ["pixels", "s"], ["added"])):
        model.graph.node.append(helper.make_node(*node))


def with_a_result_of_two_operations(model) -> None:
    from onnx import helper

    name = model.graph.initializer[0].name
    model.graph.node.append(helper.make_node("Cast", ["pixels"], [name], to=7))


def with_weights_in_two_parts(model) -> None:
    from onnx import helper, numpy_helper

    tensor = numpy_helper.from_array(np.ones(1, np.float32))
    node = helper.make_node("Constant", [], ["added"], value=tensor)
    part = b"\x2a\x02\x08\x02"  # The tensor again: a dimension of 2.
    content = node.attribute[0].SerializeToString() + part
    del node.attribute[:]
    node.MergeFromString(b"\x2a" + bytes([len(content)]) + content)
    # Python's parser puts them together, as all do.
    assert list(node.attribute[0].t.dims) == [1, 2]
    del node.attribute[:]
    graph = node.SerializeToString() + b"\x2a" + bytes([len(content)]) + content
    return graph_with(1, graph)


def graph_with(field: int, content: bytes) -> bytes:
    """Returns a graph of a part alone, as part of a model."""
    for each in (field, 7):
        content = bytes([each << 3 | 2, len(content)]) + content
    return content


def node_with(content: bytes):
    """Lets a graph of a single node follow, given as Relu first."""
    return lambda model: graph_with(1, b"\x22\x04Relu" + content)


def that_fills_the_memory(model) -> None:
    from onnx import helper

    (last,) = (each for each in model.graph.node if "probabilities" in each.output)
    last.output[0] = "grown0"
    for step in range(40):
        names = [f"grown{step}"] * 2, [f"grown{step + 1}"]
        model.graph.node.append(helper.make_node("Concat", *names, axis=0))
    node = helper.make_node("Identity", ["grown40"], ["probabilities"])
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_node("Loop"), "the operation 'Loop'"),
        (add_node("NonZero"), "the operation 'NonZero'"),
        (add_node("Relu", "my.domain"), "the operation 'my.domain:Relu'"),
        (add_node("Gelu", "com.microsoft"), "the operation 'com.microsoft:Gelu'"),
        (with_a_loop, "an operation with parts of its own"),
        (with_function, "functions or instructions for training"),
        (with_external_data, "weights in another file"),
        (with_absurd_shape, "fewer weights than it says"),
        (with_thousands_of_dimensions, "more than 8 dimensions"),
        (with_packed_dimensions, "more than 8 numbers"),
        (with_weights_in_two_parts, "weights in parts"),
        (with_size_of_their_number, "sizes that depend on the images in Tile"),
        (with_a_result_of_two_operations, "a result of two operations"),
        *(
            (with_size_of_pixels(*each), f"depend on the images in {each[0]}")
            for each in (
                *(("Tile",), ("Reshape",), ("Pad",), ("Resize", ""), ("Unsqueeze",)),
                *(("Slice",), ("Slice", "", ""), ("ReduceSum",), ("Split",)),
            )
        ),
        *((add_node(each), f"operation '{each}'") for each in ("Expand", "Range")),
        # What a parser takes for the operation Sin, and another does not.
        (node_with(b"\xa2\x80\x80\x80\x10\x03Sin"), "or of an absurd one"),
        (node_with(b"\xa2\x00\x03Sin"), "in more bytes than it needs"),
        (node_with(b"\x22\x83\x00Sin"), "in more bytes than it needs"),
        (node_with(b"\x22\x03Sin" + b"\x25Relu"), "a number in place of bytes"),
        (node_with(b"\x23\x22\x03Sin\x24"), "a field of an unknown type"),
        (node_with(b"\x22\x84\x80\x80\x80\x80\x80\x80\x80\x80\x02Relu"), "more bytes"),
        (node_with(b"\xa2\x06\x03Sin"), "the unknown field 100"),
        (without_description, "says what its classes and its images are"),
        (described_as(format="litert"), "of the format onnx, found litert"),
        (
            described_as(network={"input_size": 64}),
            "Expected pixels of uint8 (None, 64",
        ),
        (described_as(network={"classes": ["a", "b"]}), "float32 (None, 2, 2) alone"),
        (described_as(network={"classes": "ab"}), "Expected `classes` to be of type"),
        (described_as(source_sha256="no"), "64 hexadecimal digits"),
        (with_float_input, "fails in a trial"),
        (with_second_input, "fails in a trial: Expected pixels"),
        (of_fixed_batch, "fails in a trial: Expected pixels"),
        (that_takes_few_images, "fails in a trial: Expected floats of the shape (64,"),
        (that_fills_the_memory, "fails in a trial"),
    ],
)
def test_onnx_files_that_are_refused(folder, tmp_path, change, words):
    model = onnx_model(folder)
    more = change(model) or b""
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString() + more)
    assert words in refused(path)


def test_an_onnx_file_is_read_as_one_whatever_it_begins_with(folder, tmp_path):
    path = tmp_path / "model.onnx"
    # The name of the producer, and in it what files of ONNX Runtime's own format have.
    path.write_bytes(b"\x12\x0a\0\0ORTM\0\0\0\0" + (folder / "model.onnx").read_bytes())
    assert read_network(path).predict(some_images(2)).shape == (2, 2, 7)


def litert_model(folder):
    from ai_edge_litert import schema_py_generated as schema

    content = (folder / "model.tflite").read_bytes()
    return schema.ModelT.InitFromPackedBuf(content)


def with_custom_operation(model) -> None:
    model.operatorCodes[0].builtinCode = 32
    model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.operatorCodes[0].customCode = "FlexWriteFile"


def with_while(model) -> None:
    model.operatorCodes[0].builtinCode = 119
    model.operatorCodes[0].deprecatedBuiltinCode = 119


def with_second_graph(model) -> None:
    model.subgraphs.append(model.subgraphs[0])


def with_wrong_tensor(model) -> None:
    model.subgraphs[0].operators[0].inputs = [10_000]


def with_wrong_buffer(model) -> None:
    model.subgraphs[0].tensors[3].buffer = 10_000


def with_absurd_tensor(model) -> None:
    def size_of(tensor) -> int:
        data = model.buffers[tensor.buffer].data
        return 0 if data is None else len(data)

    tensor = max(model.subgraphs[0].tensors, key=size_of)
    tensor.shape = [2**30, *tensor.shape[1:]]


def with_negative_shape(model) -> None:
    model.subgraphs[0].tensors[0].shape = [-5, 48, 48, 1]


def of_shared_operators(model) -> None:
    operator = model.subgraphs[0].operators[0]
    operator.inputs = [0] * 20_000
    operator.Pack = cache(operator.Pack)  # Written once, and referred to.
    model.subgraphs[0].operators = [operator] * 4_000


def of_shared_tensors(model) -> None:
    tensor = model.subgraphs[0].tensors[0]
    tensor.shape = [1] * 20_000
    tensor.Pack = cache(tensor.Pack)
    model.subgraphs[0].tensors = [tensor] * 4_000


def with_too_many_operators(model) -> None:
    operator = model.subgraphs[0].operators[0]
    operator.Pack = cache(operator.Pack)
    model.subgraphs[0].operators = [operator] * 500_000


def with_size_of_pixels_in(code: int):
    """Adds an operation on the pixels, with the pixels as the size of its result."""

    def change(model) -> None:
        from ai_edge_litert import schema_py_generated as schema

        model.operatorCodes.append(schema.OperatorCodeT(builtinCode=code))
        graph = model.subgraphs[0]
        (pixels,) = graph.inputs
        graph.tensors.append(schema.TensorT(shape=[1], type=0))
        graph.operators.append(
            schema.OperatorT(
                opcodeIndex=len(model.operatorCodes) - 1,
                inputs=[pixels, pixels],
                outputs=[len(graph.tensors) - 1],
            )
        )

    return change


def without_metadata(model) -> None:
    model.metadata = []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_custom_operation, "the operation 32"),
        (with_while, "the operation 119"),
        (with_second_graph, "2 graphs in place of one"),
        (with_wrong_tensor, "a tensor that it does not have"),
        (with_wrong_buffer, "a tensor without its numbers"),
        (with_absurd_tensor, "a tensor of another size than it says"),
        (with_negative_shape, "a tensor of a negative size"),
        (of_shared_operators, "a part of more than 100 items"),
        (of_shared_tensors, "a part of more than 8 items"),
        (with_too_many_operators, "a part of more than 20,000 items"),
        *(
            (with_size_of_pixels_in(code), f"depend on the images in {name}")
            for code, name in ((69, "TILE"), (22, "RESHAPE"), (34, "PAD"), (45, "STR"))
        ),
        (with_size_of_pixels_in(94), "the operation 94"),
        (without_metadata, "says what its classes and its images are"),
    ],
)
def test_litert_files_that_are_refused(folder, tmp_path, change, words):
    import flatbuffers

    model = litert_model(folder)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.Output())
    assert words in refused(path)


SIZE = '<edge from-layer="FROM" from-port="0" to-layer="TO" to-port="1" />'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<?xml version="1.0"?>', '<!DOCTYPE a [<!ENTITY b "c">]>', "plain elements"),
        ('type="ReLU"', 'type="ReadValue"', "the operation 'opset1:ReadValue'"),
        ('version="opset1"', 'version="extension"', "the operation 'extension:"),
        ('offset="0"', 'offset="10000000"', "weights that lie outside model.bin"),
        ('offset="0"', 'offset="none"', "invalid literal"),
        ("</net>", "", "no XML"),
        ("<net ", '<net xmlns="x" ', "the element '{x}net'"),
        ("<layers>", '<layers xmlns="x">', "the element '{x}layers'"),
        ("<edges>", "<body /><edges>", "the element 'body'"),
        ("<edges>", "<layers /><edges>", "operations in parts"),
        ("<layer ", '<layer xmlns:a="x" a:type="y" ', "the attribute '{x}type'"),
        ("layer", "liar", "the element 'liars'"),
        (SIZE, SIZE.replace("FROM", "0"), "depend on the images in Reshape"),
        ("pixels", "points", "fails in a trial: Expected"),
    ],
)
def test_openvino_folders_that_are_refused(copied, old, new, words):
    path = copied("model_openvino") / "model.xml"
    text = path.read_text()
    if old == SIZE:
        old, new = (each.replace("TO", reshape_in(text)) for each in (old, new))
        old = re.search(old.replace("FROM", r"\d+"), text)[0]
    assert old in text
    path.write_text(text.replace(old, new))
    assert words in refused(path.parent)


def reshape_in(text: str) -> str:
    """Returns the number of the last layer that takes a shape."""
    return re.findall(r'<layer id="(\d+)"[^>]*type="Reshape"', text)[-1]


def with_operation(name: str, *, where: str):
    """Adds an operation to the functions whose name has a part."""

    def change(graph) -> None:
        for function in graph.graph_def.library.function:
            if where in function.signature.name:
                function.node_def.add(name="added", op=name)

    return change


def the_function(graph, part: str) -> str:
    names = (each.signature.name for each in graph.graph_def.library.function)
    return next(name for name in names if part in name)


def that_calls_the_restoring_function(graph) -> None:
    name = the_function(graph, "traced_restore")
    for function in graph.graph_def.library.function:
        if "traced" not in function.signature.name:
            node = function.node_def.add(name="added", op="StatefulPartitionedCall")
            node.attr["f"].func.name = name


def that_lists_the_restoring_function(graph) -> None:
    name = the_function(graph, "traced_restore")
    for function in graph.graph_def.library.function:
        if "traced" not in function.signature.name:
            node = function.node_def.add(name="added", op="NoOp")
            node.attr["any"].list.func.add(name=name)


def with_the_restoring_function_as(part: str):
    """Lets an object, or what is called by its name, be the restoring function."""

    def change(graph) -> None:
        name = the_function(graph, "traced_restore")
        if part == "operation":
            called = the_function(graph, "inference___call")
            for function in graph.graph_def.library.function:
                if function.signature.name == called:
                    function.node_def.add(name="added", op=name)
        else:
            node = graph.object_graph_def.nodes.add()
            graph.object_graph_def.concrete_functions[name].SetInParent()
            node.bare_concrete_function.concrete_function_name = name

    return change


def with_a_function_named_as_an_operation(*operations: str):
    """Lets the first activation be a function of its name, of other operations."""

    def change(graph) -> None:
        library = graph.graph_def.library
        called = [
            node
            for function in library.function
            for node in function.node_def
            if node.op == "Relu"
        ]
        function = library.function.add()
        function.signature.name = called[0].op
        function.signature.input_arg.add(name="x", type=1)
        function.signature.output_arg.add(name="y", type=1)
        for operation in operations:
            function.node_def.add(name=operation, op=operation)
        function.ret["y"] = "x"

    return change


def with_a_long_chain_of_calls(graph) -> None:
    for number in range(8_000):
        function = graph.graph_def.library.function.add()
        function.signature.name = f"__inference_chain{number}"
        if number == 0:
            function.node_def.add(name="added", op="SaveV2")
        else:
            node = function.node_def.add(name="added", op="StatefulPartitionedCall")
            node.attr["f"].func.name = f"__inference_chain{number - 1}"
    # What an object names can be called.
    graph.object_graph_def.concrete_functions["__inference_chain7999"].SetInParent()


def with_size_of_pixels_as(operation: str):
    def change(graph) -> None:
        name = the_function(graph, "inference___call")
        for function in graph.graph_def.library.function:
            if function.signature.name == name:
                argument = function.signature.input_arg[0].name
                function.node_def.add(
                    name="added", op=operation, input=[argument, argument, argument]
                )

    return change


def with_asset(graph) -> None:
    graph.asset_file_def.add(filename="file")


def with_resource(graph) -> None:
    graph.object_graph_def.nodes.add().resource.device = "CPU"


def without_objects(graph) -> None:
    graph.ClearField("object_graph_def")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(
            (with_operation(each, where="inference___call"), f"the operation '{each}'")
            for each in (
                *("WriteFile", "ReadFile", "SaveV2", "RestoreV2", "MergeV2Checkpoints"),
                *("EagerPyFunc", "PyFunc", "While", "RandomUniform", "Where"),
                *("AssignVariableOp", "VarHandleOp", "SymbolicGradient", "Print"),
            )
        ),
        (with_operation("SaveV2", where="wrapper"), "the operation 'SaveV2'"),
        (that_calls_the_restoring_function, "the operation 'RestoreV2'"),
        (that_lists_the_restoring_function, "the operation 'RestoreV2'"),
        (with_the_restoring_function_as("operation"), "the operation '__inference__tr"),
        (with_the_restoring_function_as("object"), "the operation 'RestoreV2'"),
        *(
            (with_a_function_named_as_an_operation(each), "the function 'Relu'")
            for each in ("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ReadFile")
        ),
        (with_a_long_chain_of_calls, "the operation 'SaveV2'"),
        *(
            (with_size_of_pixels_as(each), f"depend on the images in {each}")
            for each in ("Tile", "Reshape", "Pad", "StridedSlice", "ConcatV2")
        ),
        *(
            (with_size_of_pixels_as(each), f"the operation '{each}'")
            for each in ("Fill", "Range", "BroadcastTo")
        ),
        (with_asset, "files of its own"),
        (with_resource, "objects other than functions and variables"),
        (without_objects, "no objects"),
    ],
)
def test_saved_models_that_are_refused(copied, change, words):
    from tensorflow.core.protobuf import saved_model_pb2

    path = copied("model_saved") / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    assert words in refused(path.parent)


def test_only_the_functions_that_predict_reach_tensorflow(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    from emotion_cnn.inference.backends import saved_model

    files = {
        name: (folder / "model_saved" / name).read_bytes()
        for name in saved_model.names(folder / "model_saved")
    }
    expected = saved_model.load(files).run(some_images(3))
    saved = saved_model_pb2.SavedModel.FromString(files["saved_model.pb"])
    with_operation("ReadFile", where="traced_save")(saved.meta_graphs[0])
    files["saved_model.pb"] = saved.SerializeToString()
    saved_model.described(files)
    np.testing.assert_array_equal(saved_model.load(files).run(some_images(3)), expected)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_refused(copied, format):
    path = copied(FORMATS[format][1])
    names = {"openvino": "model.xml", "saved-model": "saved_model.pb"}
    file = path / names[format] if path.is_dir() else path
    whole = file.read_bytes()
    for content in (
        b"",
        b"\0" * 100,
        whole[: len(whole) // 2],
        whole[100:],
        b"no" * 99,
    ):
        file.write_bytes(content)
        assert "Export the network again" in refused(path)


@pytest.mark.parametrize("format", ["openvino", "saved-model"])
def test_a_folder_without_all_its_files(copied, format):
    path = copied(FORMATS[format][1])
    (path / "emotion_cnn.json").unlink()
    assert "emotion_cnn.json to be a file of an exported network" in refused(path)


def test_other_than_regular_files_and_too_large_ones(folder, tmp_path, monkeypatch):
    assert "No such file" in refused(tmp_path / "none.onnx")
    for name in ("folder.onnx", "folder.tflite"):
        (tmp_path / name).mkdir()
        assert f"{name} to be a file of an exported" in refused(tmp_path / name)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.tflite")
        assert "cannot be read" in refused(tmp_path / "pipe.tflite")
    monkeypatch.setattr(exported, "MEGABYTES", 0)
    assert "more than 0 MB" in refused(folder / "model.onnx")


# --- The trial ---


def test_a_process_that_ends_or_waits_is_no_pass(folder, monkeypatch):
    path = folder / "model.onnx"
    with monkeypatch.context() as changed:
        changed.setattr(trial, "SECONDS", 0)
        assert "was not ready after 0 seconds" in refused(path)
    code = "import sys; sys.stdin.buffer.read(); raise SystemExit(139)"
    start = subprocess.Popen
    monkeypatch.setattr(
        trial.subprocess,
        "Popen",
        lambda command, **options: start([*command[:2], code], **options),
    )
    assert "fails in a trial: it ends its process with exit code 139" in refused(path)
    assert read_network(path, is_trusted=True).predict(some_images(1)).shape == (
        1,
        2,
        7,
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_runtime_that_is_not_installed(folder, format, monkeypatch):
    from emotion_cnn.inference.backends import kind_of

    path = folder / FORMATS[format][1]
    kind = kind_of(path)
    module = import_module(f"emotion_cnn.inference.backends.{kind}")
    monkeypatch.setitem(sys.modules, module.PACKAGE, None)
    with pytest.raises(MissingPackageError, match="Install it: pip install"):
        read_network(path)


def test_a_missing_pair_is_said_before_a_missing_backend(tmp_path, monkeypatch):
    def missing(*_):
        raise MissingPackageError("no backend")

    module = import_module("emotion_cnn.inference.backends.keras_network")
    monkeypatch.setattr(module, "use_backend", missing)
    with pytest.raises(ModelError, match="nowhere"):
        read_network(tmp_path / "nowhere")
