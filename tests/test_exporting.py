"""Exported files: what they answer and say, and that only good ones are kept."""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import emotion_cnn
from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.splits import Split
from emotion_cnn.errors import ConfigError, FolderError, ModelError
from emotion_cnn.evaluation.paired import PairedDifference
from emotion_cnn.exporting import exports, onnx
from emotion_cnn.exporting.calibration import PER_CLASS, choose
from emotion_cnn.exporting.exports import export_network, formats_of
from emotion_cnn.exporting.folder import at_work_in, files_in, put
from emotion_cnn.exporting.network import exportable
from emotion_cnn.exporting.parity import Parity, Speed
from emotion_cnn.inference.backends import beside_pair, read_network
from emotion_cnn.models.architectures import Architecture, Convolution
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.export_formats import FORMATS
from emotion_cnn.models.exported import parse_exported
from emotion_cnn.models.pair import write_pair
from emotion_cnn.models.shipped import shipped_folder

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras exports from TensorFlow"
)

DESCRIPTION = NetworkDescription(
    classes=("left", "right", "both"),
    label_sets=("original", "ferplus"),
    input_size=16,
    input_range=(0, 1),
    temperatures={"original": 0.9, "ferplus": 1.5},
)
READABLE = [each for each in FORMATS if each != "torch"]
QUANTIZED = [
    (format, quantize)
    for format in ("onnx", "litert", "openvino")
    for quantize in ("float16", "int8-weights", "int8")
]


def drawings(count: int, seed: int) -> Split:
    """Images with a bright half, or two: what a small network can tell apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 100, (count, 16, 16, 1))
    images[labels != 1, :, :8] += 120
    images[labels != 0, :, 8:] += 120
    names = tuple(f"train/{number}.png" for number in range(count))
    return Split(images.astype(np.uint8), labels, names, classes=DESCRIPTION.classes)


@pytest.fixture(scope="module")
def network() -> Network:
    keras.utils.set_random_seed(1)
    blocks = ((Convolution(8),), (Convolution(8),))
    model = build_model(Architecture(blocks, (512,), squeeze=4), DESCRIPTION)
    # To have an input range of 0 to 1.
    (rescaling,) = [each for each in model.layers if each.name.startswith("rescaling")]
    rescaling.scale = 1.0
    # Trained, so that its decisions are not near a tie, which rounding turns.
    train = drawings(240, seed=0)
    targets = np.repeat(np.eye(3)[train.labels][:, np.newaxis], 2, axis=1)
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    model.fit(train.images / 255, targets, batch_size=16, epochs=20, verbose=0)
    return Network(model, DESCRIPTION, weights_sha256="ab" * 32)


def once(write, folder: Path):
    """Returns what writes as a format does, and copies what it wrote before."""

    def written(model, path, *, quantize, text, images):
        key = hashlib.sha256(f"{quantize} {text}".encode())
        for weights in model.get_weights():
            key.update(weights.tobytes())
        kept = folder / f"{key.hexdigest()}{path.suffix}"
        if not kept.exists():
            write(model, kept, quantize=quantize, text=text, images=images)
        copy = shutil.copytree if kept.is_dir() else shutil.copy
        copy(kept, path)

    return written


@pytest.fixture(scope="module")
def converted_once(tmp_path_factory):
    """Conversions take seconds, and most tests are about what becomes of the files."""
    with pytest.MonkeyPatch.context() as changed:
        for name in FORMATS:
            module = importlib.import_module(
                f"emotion_cnn.exporting.{name.replace('-', '_')}"
            )
            folder = tmp_path_factory.mktemp(name)
            changed.setattr(module, "write", once(module.write, folder))
        yield


@pytest.fixture
def export(network, tmp_path, converted_once):
    def run(formats, quantize="none", **changes):
        options = {
            "network": network,
            "formats": formats_of(formats, quantize),
            "quantize": quantize,
            "license": "MIT",
            "train": drawings(60, seed=1),
            "images": drawings(100, seed=2),
            "images_name": "drawings",
            "output": tmp_path / "exported",
        }
        return export_network(**options | changes)

    return run


@pytest.mark.parametrize(
    ("format", "quantize"), [*((format, "none") for format in READABLE), *QUANTIZED]
)
def test_a_file_answers_as_its_network_does(export, network, format, quantize, capfd):
    (found,) = export([format], quantize)
    if format == "litert":  # What its converter prints of its settings.
        assert "fully_quantize" not in capfd.readouterr().err
    assert found.path.parent.name == "exported"
    assert found.description.quantize == quantize
    # Of OpenVINO, the weights alone.
    size = max(each.stat().st_size for each in files_in(found.path))
    backend = read_network(found.path, is_trusted=True)
    assert backend.description == dataclasses.replace(DESCRIPTION, input_range=(0, 255))
    images = drawings(5, seed=3).images
    expected = network.model.predict_on_batch(images / np.float32(255))
    allowed = {"none": 1e-5, "float16": 1e-2}.get(quantize, 0.1)
    for count in (5, 1, 3):
        answers = backend.predict(images[:count])
        assert answers.shape == (count, 2, 3)
        np.testing.assert_allclose(answers, expected[:count], atol=allowed)
    if format != "saved-model":
        wide = {"none": 4, "float16": 2}.get(quantize, 1)
        # What describes the layers takes room as well.
        assert 0.9 * wide < size / network.model.count_params() < 0.9 * wide + 1.5


@pytest.mark.slow
def test_torch_answers_as_the_network_does(export, network, tmp_path):
    """Loaded as Torch's users load it; two packages of threads are one too many."""
    pytest.importorskip("torch")
    (found,) = export(["torch"])
    assert found.parity.greatest_difference < 1e-5
    images = drawings(5, seed=3).images
    np.save(tmp_path / "images.npy", images)
    code = (
        "import numpy as np, sys, torch\n"
        "texts = {'emotion_cnn.json': ''}\n"
        "program = torch.export.load('exported/model.pt2', extra_files=texts)\n"
        "images = torch.from_numpy(np.load('images.npy'))\n"
        "network = program.module()\n"
        "for count in (5, 1, 3):\n"
        "    answers = network(images[:count])['probabilities'].detach().numpy()\n"
        "    np.save(f'{count}.npy', answers)\n"
        "assert 'keras' not in sys.modules\n"
        "print(texts['emotion_cnn.json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert parse_exported(done.stdout) == found.description
    expected = network.model.predict_on_batch(images / np.float32(255))
    for count in (5, 1, 3):
        answers = np.load(tmp_path / f"{count}.npy")
        assert answers.shape == (count, 2, 3)
        np.testing.assert_allclose(answers, expected[:count], atol=1e-5)
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {".emotion-cnn.lock", "model.pt2", "parity.json"}


def test_torch_that_fails_is_said(export, monkeypatch, tmp_path):
    """The process that writes has one of its own: this one has not imported it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('no \\x1b library')")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"model.pt2: it cannot be converted: 'OSError: no \\x1b library'"
    with pytest.raises(ModelError, match=message):
        export(["torch"])
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {".emotion-cnn.lock"}


def test_ctrl_c_ends_what_writes_for_torch(export, monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time; time.sleep(100)")
    monkeypatch.syspath_prepend(tmp_path)
    children = []

    def interrupted(child, *_):
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(["torch"])
    assert children[0].wait(10) != 0


@pytest.mark.parametrize(
    "format", [*READABLE, pytest.param("torch", marks=pytest.mark.slow)]
)
def test_all_kinds_of_convolutions(export, network, format):
    if format == "torch":
        pytest.importorskip("torch")
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(8, 3, dilation_rate=2, padding="same"),
            layers.Conv2D(8, 3, groups=2, activation="relu", padding="same"),
            layers.Conv2D(8, 3, groups=4, dilation_rate=(2, 3), padding="same"),
            layers.Conv2D(8, 3, groups=8, strides=2),
            layers.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
            layers.SeparableConv2D(8, 3, dilation_rate=2, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    description = dataclasses.replace(
        DESCRIPTION, label_sets=("original",), temperatures={}
    )
    (found,) = export(
        [format],
        network=dataclasses.replace(network, model=model, description=description),
    )
    assert found.parity.greatest_difference < 1e-5
    # As before: TensorFlow cannot run on a CPU what is only written to a file.
    assert model.predict_on_batch(np.ones((1, 16, 16, 1))).shape == (1, 3)


def test_nothing_is_reported(export):
    """OpenVINO reports its use where this package is, ONNX Runtime unless told not to.

    What a test before this one has imported, was imported by the same code.
    """
    export(["onnx", "openvino"])
    assert "openvino" in sys.modules
    assert "openvino_telemetry" not in sys.modules
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_dense_layers_on_images_are_exported_as_convolutions(network):
    """Else ONNX has operations on shapes in every block, which take time."""
    model = exportable(network)
    (inner,) = [each for each in model.layers if isinstance(each, keras.Model)]
    kinds = [type(each).__name__ for each in inner.layers]
    assert kinds.count("Dense") == 2  # 512 units, and the probabilities.
    assert kinds.count("Conv2D") == 2 + 2 * 2
    images = drawings(4, seed=6).images
    expected = network.model.predict_on_batch(images / np.float32(255))
    answers = model.predict_on_batch(images)["probabilities"]
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_parity_is_written_down(export, network, tmp_path):
    (found,) = export(["onnx"])
    known = json.loads((tmp_path / "exported" / "parity.json").read_text())
    (record,) = known.values()
    assert list(known) == ["model.onnx"]
    content = found.path.read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert record["images"] == "drawings"
    assert record["source_sha256"] == "ab" * 32
    assert record["license"] == "MIT"
    assert record["equal_decisions"] == {"original": 1.0, "ferplus": 1.0}
    assert record["greatest_difference"] < 1e-5
    assert record["accuracy"] == record["keras_accuracy"] > 0.6
    assert record["difference"] == {
        "n": 100,
        "first_only": 0,
        "second_only": 0,
        "mean": 0,
        "interval": [0, 0],
        "p_value": 1,
    }
    assert record["speed"]["milliseconds"] > 0
    longest = dataclasses.replace(found, path=Path("model_openvino-int8-weights"))
    assert len(longest.line) <= 80
    # Each figure ends below the name of its column.
    ends = [
        len(exports.HEADER[: match.end()])
        for match in re.finditer(r"\S+", exports.HEADER)
    ]
    assert [found.line[end] for end in ends] == len(ends) * [" "]


def test_ranges_are_measured_on_as_many_images_of_each_class():
    train = drawings(1_000, seed=4)
    images, facts = choose(train)
    assert images.shape == (3 * PER_CLASS, 16, 16, 1)
    label_of = {
        image.tobytes(): label
        for image, label in zip(train.images, train.labels, strict=True)
    }
    chosen = [label_of[image.tobytes()] for image in images]
    assert [chosen.count(label) for label in range(3)] == 3 * [PER_CLASS]
    assert facts["images"] == len(images)
    again, same = choose(train)
    assert (again == images).all()
    assert same == facts
    other = choose(drawings(1_000, seed=5))[1]
    assert other["fingerprint"] != facts["fingerprint"]


def parity(greatest=0.0, equal=1.0, first_only=0, second_only=0, n=1_000) -> Parity:
    speed = Speed(1.0, 100.0)
    return Parity(
        greatest_difference=greatest,
        mean_difference=0.0,
        equal_decisions={"original": 1.0, "ferplus": equal},
        accuracy=0.7,
        keras_accuracy=0.7,
        difference=PairedDifference(n, first_only, second_only),
        speed=speed,
        keras_speed=speed,
    )


@pytest.mark.parametrize(
    ("found", "quantize", "expected"),
    [
        (parity(greatest=1e-4), "none", ""),
        (parity(greatest=1.1e-4), "none", "by up to 0.00011, where 0.0001"),
        (parity(greatest=float("nan")), "none", "by up to nan"),
        (parity(greatest=1e-2), "float16", ""),
        (parity(greatest=0.011), "float16", "by up to 0.011, where 0.01"),
        (parity(greatest=0.5, equal=0.97), "int8", ""),
        (parity(equal=0.969), "int8", "96.90% of the decisions by ferplus labels"),
        (parity(first_only=9, second_only=4), "int8", ""),
        (parity(first_only=9, second_only=3), "int8", "the accuracy falls"),
        (parity(first_only=3, second_only=9), "int8-weights", ""),
        (parity(first_only=1, n=20), "int8", ""),
        (parity(first_only=2, n=20), "int8-weights", "0.5 points less are allowed"),
    ],
)
def test_bounds(found, quantize, expected):
    texts = " ".join(found.shortfalls(quantize))
    assert expected in texts
    assert bool(texts) == bool(expected)


def snapshot(folder) -> dict:
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def test_a_file_out_of_bounds_is_not_kept_and_replaces_none(
    export, network, monkeypatch, tmp_path
):
    export(["onnx"])
    before = snapshot(tmp_path / "exported")
    write = onnx.write

    def wrong(model, path, **options):
        # As a converter would that gets a layer wrong.
        changed = keras.models.clone_model(network.model)
        changed.set_weights([1.5 * each for each in network.model.get_weights()])
        write(exportable(dataclasses.replace(network, model=changed)), path, **options)

    monkeypatch.setattr(onnx, "write", wrong)
    with pytest.raises(ModelError, match=r"not kept: model.onnx: probabilities differ"):
        export(["onnx"])
    assert snapshot(tmp_path / "exported") == before


def test_what_cannot_be_converted_does_not_keep_others_back(
    export, monkeypatch, tmp_path
):
    def fail(*_, **__):
        raise NotImplementedError("no such \x1b operation\nmore")

    monkeypatch.setattr(onnx, "write", fail)
    message = r"not kept: model.onnx: it cannot be converted: 'no such \\x1b oper"
    with pytest.raises(ModelError, match=message):
        export(["onnx", "saved-model"])
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {".emotion-cnn.lock", "model_saved", "parity.json"}
    assert read_network(tmp_path / "exported" / "model_saved", is_trusted=True)


def test_what_keras_cannot_put_together_anew_is_said(export, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such layer\nmore")

    monkeypatch.setattr(keras.models, "clone_model", fail)
    message = "can be exported, found one that cannot: no such layer. Choose another"
    with pytest.raises(ModelError, match=message):
        export(["onnx"])


def test_convolutions_that_no_format_has_are_refused(export, network, tmp_path):
    pixels = keras.Input((16, 16, 1))
    narrow = keras.layers.DepthwiseConv2D(
        3, strides=2, dilation_rate=2, padding="same", name="odd\x1b"
    )(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(narrow)
    model = keras.Model(pixels, keras.layers.Dense(3, "softmax")(pooled))
    message = r"one that cannot: the layer 'odd.+' has strides, a dilation_rate and"
    with pytest.raises(ModelError, match=message):
        export(["litert"], network=dataclasses.replace(network, model=model))
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {".emotion-cnn.lock"}


def test_layers_are_told_by_their_names():
    """A copy may have them in another order, and another name for what has none."""
    pixels = keras.Input((16, 16, 1))
    first, second = (
        keras.layers.Conv2D(4, 1, name=name)(pixels) for name in ("first", "second")
    )
    narrow = keras.layers.Dense(2)(keras.layers.Add()([second, first]))
    pooled = keras.layers.GlobalAveragePooling2D()(narrow)
    model = keras.Model(pixels, keras.layers.Dense(3, "softmax")(pooled))
    images = drawings(4, seed=7).images
    answers = exportable(
        Network(model, NetworkDescription(classes=("a", "b", "c"), input_size=16))
    ).predict_on_batch(images)["probabilities"][:, 0]
    expected = model.predict_on_batch(images.astype("float32"))
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_folder_is_replaced_whole(export, tmp_path):
    (first,) = export(["saved-model"])
    (first.path / "left_over").touch()
    (second,) = export(["saved-model"], license="other")
    assert second.path == first.path
    assert not (first.path / "left_over").exists()
    text = (first.path / "emotion_cnn.json").read_text()
    assert parse_exported(text).license == "other"


def test_what_was_not_exported_is_left_alone(export, tmp_path):
    output = tmp_path / "exported"
    (output / "model_saved").mkdir(parents=True)
    (output / "model_saved" / "mine").touch()
    before = snapshot(output)
    with pytest.raises(FolderError, match=r"nothing but exported files, found .*saved"):
        export(["saved-model"])
    assert snapshot(output).items() >= before.items()


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_a_record_that_is_damaged_is_said(export, tmp_path, text):
    output = tmp_path / "exported"
    output.mkdir()
    (output / "parity.json").write_text(text)
    with pytest.raises(FolderError, match=r"parity.json to be what an export wrote"):
        export(["onnx"])


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_folder_is_not_lost_to_a_kill(tmp_path, monkeypatch, renamed):
    """After no step of the exchange, after one, and after both."""
    place, work = tmp_path / "model_saved", tmp_path / ".exporting"
    for folder, text in ((place, "old"), (work / "model_saved", "new")):
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(text)
    (work / "model.onnx").write_bytes(b"half")
    rename, steps = Path.rename, iter(range(renamed))

    def rename_or_die(path, target):
        next(steps)
        return rename(path, target)

    with monkeypatch.context() as changed, contextlib.suppress(StopIteration):
        changed.setattr(Path, "rename", rename_or_die)
        put(work / "model_saved", place)
    # The next command.
    with at_work_in(tmp_path) as work:
        assert not list(work.iterdir())
    assert (place / "saved_model.pb").read_text() == ("new" if renamed == 2 else "old")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_saved", ".emotion-cnn.lock"}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_kill_around_the_last_step_is_in_no_way(
    export, monkeypatch, tmp_path, is_there
):
    def kill(written, place):
        if is_there:
            put(written, place)
        raise KeyboardInterrupt

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(exports, "put", kill)
        export(["saved-model"])
    assert (tmp_path / "exported" / "model_saved").exists() == is_there
    (found,) = export(["saved-model"])
    assert read_network(found.path, is_trusted=True)


def test_a_link_in_place_of_the_working_folder_is_not_followed(export, tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine").touch()
    (tmp_path / "exported" / ".exporting").symlink_to(tmp_path / "else")
    with pytest.raises(FolderError, match="nothing in the way"):
        export(["saved-model"])
    assert (tmp_path / "else" / "mine").exists()


def test_all_formats_are_those_that_have_the_quantisation():
    assert formats_of(["all"], "none") in (FORMATS, tuple(READABLE))
    assert formats_of(["all"], "int8") == ("onnx", "litert", "openvino")
    assert formats_of(["litert", "onnx", "litert"], "int8") == ("litert", "onnx")
    message = "of the format saved-model is one of none; found 'int8'. It can be had in"
    with pytest.raises(ConfigError, match=message):
        formats_of(["onnx", "saved-model"], "int8")


def test_command_line(faces, tmp_path, monkeypatch, capsys, own_environment):
    monkeypatch.chdir(tmp_path)
    description = dataclasses.replace(
        NetworkDescription(), label_sets=("original", "ferplus")
    )
    model = build_model(Architecture(((Convolution(4),),), (4,)), description)
    (tmp_path / "network").mkdir()
    write_pair(tmp_path / "network", Network(model, description))
    arguments = ["export", "--weights", "network", "--format", "onnx,saved-model"]
    assert main([*arguments, "--data", "faces"]) == 0
    output = capsys.readouterr().out
    table = output[output.index(exports.HEADER) :]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert re.search(r" model\.onnx\n.* model_saved$", output, re.MULTILINE)
    assert output.endswith("Results: exported\n")
    record = json.loads((tmp_path / "exported" / "parity.json").read_text())
    assert record["model.onnx"]["images"] == (
        "faces: a stratified, seeded tenth of train/ (7 of 14 images)"
    )
    assert record["model.onnx"]["license"] == "not stated"
    classifier = emotion_cnn.load("exported/model.onnx")
    assert classifier.label_sets == ("original", "ferplus")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "pickle"], "--format names onnx, litert, openvino, saved-model"),
        (["--format", "all,onnx"], "--format names onnx"),
        (
            ["--format", "saved-model", "--quantize", "int8"],
            "--quantize of the format saved-model is one of none",
        ),
        (["--quantize", "int8"], "measures ranges on training images, found none"),
        (["--weights", "nowhere"], "nowhere"),
        (["--license", "a\nb", "--weights", "NETWORK"], "--license is a text"),
    ],
)
def test_mistakes(fails, arguments, expected, tmp_path, monkeypatch, shared_networks):
    monkeypatch.chdir(tmp_path)
    places = {"NETWORK": str(shared_networks[0])}
    arguments = [places.get(each, each) for each in arguments]
    assert expected in fails("export", *arguments)
    assert not list((tmp_path).glob("exported/*"))


def test_other_backends_are_refused(fails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("emotion_cnn.backend.use_backend", lambda **_: "jax")
    assert "Keras to run on TensorFlow, which exports" in fails("export")


@pytest.fixture
def missing(monkeypatch):
    def hide(package):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec",
            lambda name: None if name == package else find(name),
        )

    return hide


@pytest.mark.parametrize(
    ("package", "format"),
    [("tf2onnx", "onnx"), ("onnxruntime", "onnx"), ("torch", "torch")],
)
def test_a_missing_package_is_named_at_once(fails, missing, package, format):
    missing(package)
    extra = "torch" if package == "torch" else "export"
    message = fails("export", "--format", format)
    assert f"Expected the package {package}" in message
    assert f"pip install {package} (emotion-cnn's extra `[{extra}]`)" in message


def test_all_formats_do_without_torch(missing):
    missing("torch")
    assert formats_of(["all"], "none") == tuple(READABLE)


def test_torch_has_no_other_quantisation(fails):
    message = fails("export", "--format", "torch", "--quantize", "float16")
    assert "--quantize of the format torch is one of none; found 'float16'" in message


@pytest.fixture
def surely_decided_faces(monkeypatch):
    """Has drawn faces as `sample` that the shipped network is sure of, of each class.

    It was trained on photos, so that others are near a tie, which rounding turns.
    """
    images, labels = draw_faces(30, seed=0)
    light = beside_pair.read_beside_pair(shipped_folder())
    confidence = light.predict(images).max(axis=-1).min(axis=-1)
    surest = np.argsort(-confidence)
    sure = np.concatenate(
        [surest[labels[surest] == label][:8] for label in range(len(EMOTIONS))]
    )
    names = tuple(f"train/{number}.png" for number in sure)
    split = Split(images[sure], labels[sure], names)
    monkeypatch.setattr("emotion_cnn.data.loading.sample_train", lambda: split)
    # To have half of them to compare on.
    monkeypatch.setattr("emotion_cnn.commands.shared.VALIDATION_SHARE", 0.5)
    for name in ("_SINGLE_ROUNDS", "_BATCH_ROUNDS"):
        monkeypatch.setattr(f"emotion_cnn.exporting.parity.{name}", 1)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_shipped_network_in_all_formats(surely_decided_faces, tmp_path, quantize):
    """The drawn faces say nothing of its accuracy, but that it stays the same."""
    found = emotion_cnn.export(
        format="all", quantize=quantize, data="sample", output=tmp_path
    )
    assert [each.description.license for each in found] == len(found) * ["MIT"]
    assert len(found) == len(formats_of(["all"], quantize))
    record = json.loads((tmp_path / "parity.json").read_text())
    name = "model.onnx" if quantize == "none" else "model-int8.onnx"
    assert record[name]["images"].startswith("built-in drawn faces")
    assert all(each.parity.mean_difference < 0.02 for each in found)


@pytest.mark.slow
@pytest.mark.skipif(
    "EMOTION_CNN_FER2013" not in os.environ,
    reason="EMOTION_CNN_FER2013 names no folder",
)
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_accuracy_of_the_shipped_network(tmp_path, quantize):
    found = emotion_cnn.export(
        format="all",
        quantize=quantize,
        data=os.environ["EMOTION_CNN_FER2013"],
        output=tmp_path,
    )
    assert all(each.parity.accuracy > 0.68 for each in found)
