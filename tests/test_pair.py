"""The pair of `model.json` and `model_weights.h5`: replaced whole, read safely."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import emotion_cnn
from benchmarks.faults import networks as attacks
from benchmarks.faults.publishing import pair_in, publish_named, remove_digest
from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS, LABELS
from emotion_cnn.errors import ModelError
from emotion_cnn.files import LOCK_NAME, open_regular
from emotion_cnn.models import pair_files
from emotion_cnn.models.description import (
    Network,
    NetworkDescription,
    parse_description,
)
from emotion_cnn.models.in_memory import save_weights
from emotion_cnn.models.pair import publish_pair, read_pair, write_pair
from emotion_cnn.models.untrusted.known_layers import KNOWN_LAYERS
from emotion_cnn.models.untrusted.weights import load_kept_weights, load_weights

ROOT = Path(__file__).resolve().parent.parent
PAIR = ["model.json", "model_weights.h5"]
ONLY_NEWEST_KERAS = (
    *("input_axes", "output_axes", "quantization_config"),
    *("renorm", "renorm_clipping", "renorm_momentum"),
)


def predictions(network: Network) -> np.ndarray:
    return predictions_of(network.model)


def predictions_of(model: keras.Model) -> np.ndarray:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 48, 48, 1))
    return model.predict(pixels.astype("float32"), verbose=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ages(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def refusal(folder: Path) -> str:
    """Returns why a pair is refused; reading it must not touch it."""
    before = contents(folder), ages(folder)
    with pytest.raises(ModelError) as caught:
        read_pair(folder)
    assert (contents(folder), ages(folder)) == before
    return str(caught.value)


def network_of(*between: keras.Layer, side: int = 48, channels: int = 1):
    return keras.Sequential([keras.Input((side, side, channels)), *between])


def write_plain(folder: Path, model: keras.Model) -> None:
    """Writes a pair as Keras does, without a description."""
    (folder / "model.json").write_text(model.to_json())
    model.save(folder / "model_weights.h5")


# --- Writing and reading ---


def test_a_network_read_back_predicts_the_same_to_the_last_bit(network, tmp_path):
    before = read_pair(network)
    expected = predictions(before)
    assert len(np.unique(expected)) > 1
    write_pair(tmp_path, before)
    again = read_pair(tmp_path)
    assert np.array_equal(predictions(again), expected)
    assert [layer.name for layer in again.model.layers] == [
        layer.name for layer in before.model.layers
    ]


def keys_of(values: object) -> set[str]:
    if isinstance(values, list):
        return set().union(*map(keys_of, values))
    if not isinstance(values, dict):
        return set()
    return set(values).union(*map(keys_of, values.values()))


def test_earlier_versions_of_keras_know_every_key(network):
    for folder in (network, ROOT):
        keys = keys_of(json.loads((folder / "model.json").read_text()))
        assert "kernel_initializer" in keys
        assert "gamma_initializer" in keys
        assert not keys & set(ONLY_NEWEST_KERAS)


def test_settings_that_are_no_defaults_are_kept(network):
    before = read_pair(network)
    config = before.model.get_config()
    config["layers"][3]["config"]["renorm"] = True
    renormalising = keras.Model.from_config(config)
    write_pair(network, Network(renormalising, before.description))
    text = (network / "model.json").read_text()
    assert json.loads(text)["config"]["layers"][3]["config"]["renorm"] is True
    keras.models.model_from_json(text)


# --- The description ---


def test_the_description_is_kept_with_the_versions_that_wrote_it(tmp_path):
    described = NetworkDescription(
        classes=("bored", "curious", "tired"),
        label_sets=("original", "ferplus"),
        input_size=16,
        temperatures={"original": 0.5},
        versions={"keras": "another"},
    )
    top = (layers.Flatten(), layers.Dense(6), layers.Reshape((2, 3)), layers.Softmax())
    write_pair(tmp_path, Network(network_of(*top, side=16), described))
    versions = {"emotion-cnn": emotion_cnn.__version__, "keras": keras.__version__}
    found = read_pair(tmp_path).description
    assert found == replace(described, versions=versions)
    assert found.temperatures == {"original": 0.5, "ferplus": 1}
    assert list(json.loads((tmp_path / "model.json").read_text())["emotion_cnn"]) == [
        *("classes", "label_sets", "input_size", "input_range"),
        *("temperatures", "versions", "weights_sha256"),
    ]


def test_plain_keras_reads_a_described_network(network):
    expected = predictions(read_pair(network))
    model = keras.models.model_from_json((network / "model.json").read_text())
    model.load_weights(network / "model_weights.h5")
    assert np.array_equal(predictions_of(model), expected)


def test_the_shipped_network_is_described():
    values = json.loads((ROOT / "model.json").read_text())["emotion_cnn"]
    described = parse_description(values)
    assert described.classes == EMOTIONS
    assert described.label_sets == LABELS
    report = json.loads((ROOT / "docs/results/shipped/metrics.json").read_text())
    assert described.temperatures == report["temperatures"]


@pytest.mark.parametrize("heads", [1, 2])
def test_a_pair_without_a_description_is_of_fer2013(tmp_path, heads):
    shape = (7,) if heads == 1 else (2, 7)
    dense = layers.Dense(7 * heads)
    top = (layers.Flatten(), dense, layers.Reshape(shape), layers.Softmax())
    write_plain(tmp_path, network_of(*top))
    found = read_pair(tmp_path).description
    assert found == NetworkDescription(label_sets=("original", "ferplus")[:heads])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("classes", ["one"], "2 or more different names"),
        ("classes", ["same", "same"], "different names"),
        ("classes", ["calm", 5], "different names"),
        ("classes", ["calm", ["tired"]], "different names"),
        ("classes", ["calm", ""], "different names"),
        ("classes", ["calm", "\x1b[31m"], "different names"),
        ("classes", ["calm", 1000 * "long"], "different names"),
        ("classes", [str(number) for number in range(1000)], "different names"),
        ("classes", "calm", "`classes` to be of type list"),
        ("label_sets", [], "1 or more different names"),
        ("input_size", 0, "from 8 to 1024 pixels, found 0"),
        ("input_size", 10**9, "from 8 to 1024 pixels"),
        ("input_size", 48.0, "`input_size` to be of type int, found 48.0"),
        ("input_size", True, "found True"),
        ("input_range", [0, 2], "one of (0, 255), (0, 1), (-1, 1)"),
        ("input_range", None, "`input_range` to be of type list"),
        ("temperatures", {"original": 0}, "above 0, found 0 for original"),
        ("temperatures", {"original": -1.5}, "above 0"),
        ("temperatures", {"original": float("nan")}, "finite numbers above 0"),
        ("temperatures", {"original": float("inf")}, "finite numbers above 0"),
        ("temperatures", {"original": 10**400}, "finite numbers above 0"),
        ("temperatures", {"original": "1"}, "above 0, found '1'"),
        ("temperatures", {"original": True}, "above 0, found True"),
        ("temperatures", {"ferplus": 1}, "label sets original, found one of 'ferplus'"),
        ("versions", {"keras": 3}, "short texts, found 3"),
        ("versions", {"keras": 1000 * "3."}, "short texts"),
    ],
)
def test_a_description_that_makes_no_sense(network, name, value, message):
    path = network / "model.json"
    values = json.loads(path.read_text())
    values["emotion_cnn"][name] = value
    path.write_text(json.dumps(values))
    found = refusal(network)
    assert f"`emotion_cnn` in {path} does not describe a network" in found
    assert message in found
    assert len(found) < 500


@pytest.mark.parametrize("value", [None, [], "text", {}, {"classes": ["a", "b"]}])
def test_a_description_of_another_form(network, value):
    path = network / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"emotion_cnn": value}))
    assert "Expected an object with classes, label_sets, input_size" in refusal(network)


def test_what_a_later_version_adds_to_a_description_is_ignored(network):
    path = network / "model.json"
    values = json.loads(path.read_text())
    values["emotion_cnn"]["later"] = "news"
    path.write_text(json.dumps(values))
    assert read_pair(network).description.label_sets == ("original",)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("classes", ["calm", "tired"], "(None, 48, 48, 1) to (None, 2)"),
        ("label_sets", ["a", "b"], "(None, 48, 48, 1) to (None, 2, 7)"),
        ("input_size", 64, "(None, 64, 64, 1) to (None, 7)"),
    ],
)
def test_a_description_of_another_network(network, name, value, expected):
    path = network / "model.json"
    values = json.loads(path.read_text())
    values["emotion_cnn"] |= {name: value, "temperatures": {}}
    path.write_text(json.dumps(values))
    message = refusal(network)
    assert "is a network from (None, 48, 48, 1) to (None, 7)" in message
    assert f"expected {expected}" in message


def test_a_pair_is_two_files_and_replaces_the_one_before(network, other_network):
    expected = predictions(read_pair(other_network))
    assert sorted(contents(network)) == PAIR
    write_pair(network, read_pair(other_network))
    assert sorted(contents(network)) == PAIR
    assert np.array_equal(predictions(read_pair(network)), expected)


@contextlib.contextmanager
def full_disk(size: int):
    """Lets no file grow beyond a size: what a full disk does, and it takes no root."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [0, 1_000, 20_000])
def test_a_disk_that_fills_up_leaves_the_old_pair(network, other_network, size):
    """HDF5 itself ends the process with a segmentation fault."""
    before, other = contents(network), read_pair(other_network)
    with full_disk(size), pytest.raises(OSError, match="File too large") as caught:
        write_pair(network, other)
    assert Path(caught.value.filename).parent == network
    assert contents(network) == before


# --- Publishing ---


def test_publishing_replaces_both_files_and_nothing_else(network, other_network):
    (network / "README.md").write_text("mine")
    other = read_pair(other_network)
    publish_pair(network, other)
    assert sorted(contents(network)) == [LOCK_NAME, "README.md", *PAIR]
    assert (network / "README.md").read_text() == "mine"
    assert np.array_equal(predictions(read_pair(network)), predictions(other))


def test_model_json_names_the_weights_that_belong_to_it(network):
    publish_pair(network, read_pair(network))
    named = json.loads((network / "model.json").read_text())["emotion_cnn"]
    weights = (network / "model_weights.h5").read_bytes()
    assert named["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_weights_that_are_not_renamed_yet_are_read(network, other_network):
    """As a publisher leaves them that was killed before its last step."""
    other = read_pair(other_network)
    publish_pair(other_network, other)
    old = (network / "model_weights.h5").read_bytes()
    shutil.copytree(other_network, network, dirs_exist_ok=True)
    weights = network / "model_weights.h5"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(network / f".model_weights-{digest[:16]}.h5")
    weights.write_bytes(old)
    before = contents(network), ages(network)
    assert np.array_equal(predictions(read_pair(network)), predictions(other))
    # Whoever reads writes nothing: the folder may be a stranger's.
    assert (contents(network), ages(network)) == before
    # Neither a link nor other weights are taken for these.
    hidden = network / f".model_weights-{digest[:16]}.h5"
    hidden.rename(network / "elsewhere.h5")
    hidden.symlink_to("elsewhere.h5")
    assert "found others in model_weights.h5" in refusal(network)
    hidden.unlink()
    hidden.write_bytes(old)
    assert "found others in model_weights.h5" in refusal(network)


def test_weights_that_were_replaced_alone_are_refused(network, other_network):
    publish_pair(network, read_pair(network))
    shutil.copy(other_network / "model_weights.h5", network)
    message = refusal(network)
    path = network / "model.json"
    assert f"Expected the weights that {path} names" in message
    assert "Copy both files of one run again" in message
    assert "remove `weights_sha256` from model.json" in message
    # Which is what somebody does who has changed them on purpose.
    remove_digest(network)
    assert "another network" in refusal(network)


def test_a_first_publication_over_a_pair_without_sha256_is_one_step(
    monkeypatch, tmp_path
):
    """The publisher comes between the two files that a reader opens."""
    publish_named(tmp_path, "A")
    remove_digest(tmp_path)
    opened = []

    def open_late(path):
        if not opened:
            publish_named(tmp_path, "B")
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr(pair_files, "open_regular", open_late)
    assert pair_in(tmp_path) == "B"
    assert len(opened) > 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_publishing_is_one_step_wherever_it_is_killed_and_whoever_reads():
    """The campaign without most of its publications; in a process without threads."""
    command = [sys.executable, "-m", "benchmarks.faults.publishing", "--cases", "15"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(", failed 0\n") == 9


# --- Missing and damaged files ---


@pytest.mark.parametrize("name", PAIR)
def test_a_missing_file_is_named(network, name):
    (network / name).unlink()
    message = refusal(network)
    assert f"Expected model.json and model_weights.h5 in {network}" in message
    assert f"found no {name}" in message
    assert "Choose a folder with both" in message


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match=r"found no model\.json"):
        read_pair(tmp_path / "none")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="zero bytes"),
        pytest.param(lambda whole: whole[:8], id="signature alone"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut in half"),
        pytest.param(lambda whole: whole[:-1], id="last byte cut"),
        pytest.param(lambda whole: b"no weights at all\n", id="text"),
        pytest.param(
            lambda whole: np.random.default_rng(4).bytes(5000), id="random bytes"
        ),
        pytest.param(
            lambda whole: whole[:8] + np.random.default_rng(4).bytes(5000),
            id="signature and random bytes",
        ),
        pytest.param(
            lambda whole: whole[:512] + bytes(len(whole) - 512), id="zeros inside"
        ),
    ],
)
def test_damaged_weights(network, damage: Callable[[bytes], bytes]):
    path = network / "model_weights.h5"
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(network)
    assert f"{path} could not be loaded" in message
    assert "damaged" in message


def test_weights_that_are_not_finite(network):
    spoilt = read_pair(network)
    weights = spoilt.model.get_weights()
    weights[-1][3] = np.nan
    spoilt.model.set_weights(weights)
    write_pair(network, spoilt)
    assert str(network / "model_weights.h5") in refusal(network)


def test_weights_of_another_network(network, other_network):
    shutil.copy(other_network / "model_weights.h5", network)
    message = refusal(network)
    assert f"{network / 'model_weights.h5'} could not be loaded" in message
    assert "another network" in message


def test_weights_of_another_class_count(network):
    model = read_pair(network).model
    features = model.layers[-3].output
    eight = keras.Model(model.inputs, layers.Dense(8, activation="softmax")(features))
    eight.save(network / "eight.h5")
    (network / "eight.h5").replace(network / "model_weights.h5")
    message = refusal(network)
    assert f"{network / 'model_weights.h5'} could not be loaded" in message
    assert "class count" in message
    assert "(4, 7)" in message
    assert "(4, 8)" in message


def test_weights_in_the_other_format_of_keras(network):
    model = read_pair(network).model
    model.save_weights(network / "other.weights.h5")
    (network / "other.weights.h5").replace(network / "model_weights.h5")
    assert "could not be loaded" in refusal(network)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("no JSON", id="text"),
        pytest.param('{"config": ', id="cut"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param('"text"', id="string"),
        pytest.param("[" * 100_000, id="deep list"),
        pytest.param('{"a":' * 100_000, id="deep object"),
        pytest.param("\udcff\udcfe", id="no UTF-8"),
    ],
)
def test_a_description_that_is_no_json_object(network, text):
    path = network / "model.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    message = refusal(network)
    assert f"{path} is damaged" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"class_name": "Functional", "config": {}}, id="no layers"),
        pytest.param({"class_name": "Functional", "config": 5}, id="no config"),
        pytest.param({"class_name": "NoSuchLayer", "config": {}}, id="unknown class"),
        pytest.param(
            keras.saving.serialize_keras_object(layers.Dense(7)), id="a layer"
        ),
        pytest.param(
            keras.saving.serialize_keras_object(keras.optimizers.Adam()),
            id="an optimiser",
        ),
        pytest.param(
            keras.saving.serialize_keras_object(keras.Sequential([layers.Dense(7)])),
            id="a network without an input",
        ),
    ],
)
def test_a_description_of_no_network(network, values):
    path = network / "model.json"
    path.write_text(json.dumps(values))
    message = refusal(network)
    assert f"{path} does not describe a network" in message
    assert len(message) < 500


def test_a_description_by_keras_2(network):
    # As Keras 2.15 wrote them, cut to the first layer.
    first_layer = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {
            "batch_input_shape": [None, 48, 48, 1],
            "dtype": "float32",
            "sparse": False,
            "ragged": False,
            "name": "input_1",
        },
        "registered_name": None,
        "name": "input_1",
        "inbound_nodes": [],
    }
    values = {
        "class_name": "Functional",
        "config": {"name": "model", "trainable": True, "layers": [first_layer]},
        "keras_version": "2.15.0",
        "backend": "tensorflow",
    }
    (network / "model.json").write_text(json.dumps(values))
    message = refusal(network)
    assert f"{network / 'model.json'} was written by Keras 2.15.0" in message
    assert "expected Keras 3" in message
    assert "Train the network again" in message


def test_a_setting_that_is_not_known_names_cause_and_versions(network):
    path = network / "model.json"
    values = json.loads(path.read_text())
    values["emotion_cnn"]["versions"]["keras"] = "3.99.0"
    values["config"]["layers"][2]["config"]["of_the_future"] = 1
    path.write_text(json.dumps(values))
    message = refusal(network)
    assert f"Keras {keras.__version__} runs here" in message
    assert "Written by Keras 3.99.0" in message
    assert "no setting 'of_the_future' of Conv2D, layer 2; found 1" in message


# --- Networks of another kind ---


@pytest.mark.parametrize(
    ("side", "channels", "classes", "found"),
    [
        (48, 1, 8, "(None, 48, 48, 1) to (None, 8)"),
        (48, 1, 6, "(None, 48, 48, 1) to (None, 6)"),
        (64, 1, 7, "(None, 64, 64, 1) to (None, 7)"),
        (48, 3, 7, "(None, 48, 48, 3) to (None, 7)"),
    ],
)
def test_a_network_of_other_shapes(tmp_path, side, channels, classes, found):
    top = (layers.Flatten(), layers.Dense(classes, activation="softmax"))
    write_plain(tmp_path, network_of(*top, side=side, channels=channels))
    message = refusal(tmp_path)
    assert f"is a network from {found}" in message
    assert "expected (None, 48, 48, 1) to (None, 7) or (None, 2, 7)" in message
    assert "the classes angry, disgust" in message
    assert "for original or for original, ferplus labels" in message


def heads(count: int, *, activation: str) -> tuple[keras.Layer, ...]:
    """Layers that end in so many label sets, each with other biases."""
    dense = layers.Dense(7 * count, bias_initializer="random_normal")
    shape = layers.Reshape((count, 7))
    return layers.Flatten(), dense, shape, layers.Activation(activation)


def test_a_network_of_two_heads_is_read(tmp_path):
    model = network_of(*heads(2, activation="softmax"))
    write_plain(tmp_path, model)
    found = predictions(read_pair(tmp_path))
    assert found.shape == (5, 2, 7)
    assert np.array_equal(found, predictions_of(model))


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_of_another_number_of_heads(tmp_path, count):
    write_plain(tmp_path, network_of(*heads(count, activation="softmax")))
    assert f"to (None, {count}, 7); expected" in refusal(tmp_path)


def test_each_head_ends_in_probabilities(tmp_path):
    """All numbers of both heads may sum to 1 times 2 without either doing so."""
    both = (layers.Flatten(), layers.Dense(14, activation="softmax"))
    twice = (layers.Rescaling(2.0), layers.Reshape((2, 7)))
    model = network_of(*both, *twice)
    model.layers[-3].bias.assign(np.arange(14.0))
    write_plain(tmp_path, model)
    assert "sum to 1 over the 7 classes of each label set" in refusal(tmp_path)


def test_a_network_of_two_inputs(tmp_path):
    faces, ages = keras.Input((48, 48, 1)), keras.Input((1,))
    both = layers.Concatenate()([layers.Flatten()(faces), ages])
    top = layers.Dense(7, activation="softmax")(both)
    write_plain(tmp_path, keras.Model([faces, ages], top))
    assert "expected (None, 48, 48, 1) to (None, 7)" in refusal(tmp_path)


def test_a_network_whose_outputs_are_no_probabilities(tmp_path, fails, faces):
    model = network_of(layers.Flatten(), layers.Dense(7, bias_initializer="ones"))
    write_plain(tmp_path, model)
    runs = ("--runs", tmp_path / "runs")
    message = fails("--mode=evaluate", "--data", faces, "--weights", tmp_path, *runs)
    assert "probabilities" in message
    assert not (tmp_path / "runs").exists()


# --- Strangers' files ---


@pytest.mark.parametrize("kind", ["named", "sizes", "json", "weights"])
def test_an_attack_is_refused_and_does_nothing(kind, shared_networks, tmp_path):
    """Of every kind that benchmarks/faults/networks.py knows."""
    wrong = {}
    for name in attacks.KINDS[kind]:
        folder = tmp_path / "pair"
        attacks.write_attack(kind, name, folder, shared_networks[0])
        wrong[name] = attacks.reads(folder, tmp_path / attacks.MARKER, refused=True)
        shutil.rmtree(folder)
    assert not {name: each for name, each in wrong.items() if each}
    assert len(wrong) >= 7


def test_weights_that_are_no_plain_arrays_are_refused(shared_networks, tmp_path):
    (tmp_path / attacks.PRIVATE).write_bytes(bytes(100_000))
    model = read_pair(shared_networks[0]).model
    before = model.get_weights()
    for name in attacks.WEIGHTS:
        attacks.write_attack("arrays", name, tmp_path / name, shared_networks[0])
        with pytest.raises(ModelError):
            load_weights(model, (tmp_path / name / "model_weights.h5").read_bytes())
    for array, expected in zip(model.get_weights(), before, strict=True):
        assert np.array_equal(array, expected)


def trained(seed: int) -> keras.Model:
    """A network with weights of its own, an optimiser and random generators."""
    model = network_of(layers.Flatten(), layers.Dropout(0.5), layers.Dense(7))
    model.compile("adam", "mse")
    generator = np.random.default_rng(seed)
    images, y_true = generator.random((8, 48, 48, 1)), generator.random((8, 7))
    model.fit(images, y_true, verbose=0)
    return model


def test_weights_saved_with_the_optimizer_are_read(tmp_path):
    model, other = trained(1), trained(2)
    model.save(tmp_path / "whole.h5")
    load_weights(other, (tmp_path / "whole.h5").read_bytes())
    assert np.array_equal(predictions_of(other), predictions_of(model))


def test_kept_weights_are_read_back_or_refused(tmp_path):
    model, other = trained(1), trained(2)
    path = tmp_path / "epoch-0001.weights.h5"
    sha256 = save_weights(model, path)
    load_kept_weights(other, path, sha256)
    assert np.array_equal(predictions_of(other), predictions_of(model))
    save_weights(trained(3), path)
    with pytest.raises(ModelError, match="its SHA-256 is not that of the file"):
        load_kept_weights(other, path, sha256)
    # A stranger can name any SHA-256.
    with h5py.File(path, "r+") as file:
        file["layers/elsewhere"] = h5py.SoftLink("/layers/dense")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="more than groups and plain arrays"):
        load_kept_weights(other, path, sha256)
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        load_kept_weights(other, path, sha256)


def test_what_is_for_training_alone_is_not_read(network):
    expected = predictions(read_pair(network))
    path = network / "model.json"
    values = json.loads(path.read_text())
    for change in attacks.IGNORED.values():
        change(values)
    path.write_text(json.dumps(values))
    assert np.array_equal(predictions(read_pair(network)), expected)
    assert keras.config.floatx() == "float32"


@pytest.mark.parametrize("name", attacks.PREDICTIONS)
def test_predictions_that_are_no_probabilities_are_an_error(tmp_path, name):
    """For a gray image they are, so the network can be read."""
    attacks.PREDICTIONS[name](tmp_path)
    classifier = emotion_cnn.load(tmp_path)
    with pytest.raises(ModelError, match="Expected a network that ends in probabil"):
        classifier.predict(np.zeros((3, 48, 48), np.uint8))


def test_a_network_that_runs_out_of_memory_is_an_error(network, monkeypatch):
    classifier = emotion_cnn.load(network)

    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError("of 4 GB")

    monkeypatch.setattr(keras.Model, "predict_on_batch", fail)
    with pytest.raises(ModelError, match=r"predicts 3 images at a time.*of 4 GB"):
        classifier.predict(np.zeros((3, 48, 48), np.uint8))


def every_layer() -> keras.Model:
    """A network of all known layers, as users build them."""
    inputs = keras.Input((48, 48, 1))
    outputs = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    outputs = layers.Resizing(40, 36)(outputs)
    outputs = layers.Cropping2D(((2, 2), 0))(outputs)
    outputs = layers.ZeroPadding2D(2)(outputs)
    relu = layers.ReLU(max_value=6)
    outputs = relu(layers.Conv2D(4, 3, strides=2, padding="same")(outputs))
    branches = [
        layers.SeparableConv2D(4, 3, padding="same", activation="swish")(outputs),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False)(outputs),
        layers.PReLU(shared_axes=[1, 2])(outputs),
        # A layer that is called again, further on.
        relu(layers.Conv2D(4, (1, 3), groups=2, padding="same")(outputs)),
    ]
    merged = [
        getattr(layers, name)()(branches)
        for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply")
    ]
    outputs = layers.Concatenate(axis=-1)(merged)
    outputs = layers.BatchNormalization(momentum=0.9)(outputs, training=False)
    outputs = layers.LayerNormalization()(outputs)
    outputs = layers.GroupNormalization(groups=4)(outputs)
    outputs = layers.LeakyReLU(negative_slope=0.1)(outputs)
    outputs = layers.ELU()(outputs)
    outputs = layers.Activation("gelu")(outputs)
    outputs = layers.AveragePooling2D(2)(outputs)
    outputs = layers.UpSampling2D(2, interpolation="bilinear")(outputs)
    outputs = layers.MaxPooling2D(pool_size=3, strides=2, padding="same")(outputs)
    outputs = layers.GaussianNoise(0.1)(outputs)
    outputs = layers.GaussianDropout(0.1)(outputs)
    outputs = layers.AlphaDropout(0.1)(outputs)
    outputs = layers.SpatialDropout2D(0.1)(outputs)
    outputs = layers.Permute((2, 1, 3))(outputs)
    pooled = [
        layers.GlobalAveragePooling2D()(outputs),
        layers.GlobalMaxPooling2D()(outputs),
        layers.Flatten()(outputs),
    ]
    outputs = layers.Concatenate()(pooled)
    outputs = layers.Dense(7, kernel_regularizer="l2", trainable=False)(outputs)
    outputs = layers.Dropout(0.5)(layers.Reshape((7,))(outputs))
    return keras.Model([inputs], [layers.Softmax()(outputs)])


def test_every_known_layer_is_read_as_keras_builds_it(tmp_path):
    model = every_layer()
    assert {type(layer).__name__ for layer in model.layers} == set(KNOWN_LAYERS)
    generator = np.random.default_rng(5)
    model.set_weights([generator.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    write_plain(tmp_path, model)
    found = predictions(read_pair(tmp_path))
    assert np.array_equal(found, predictions_of(model))
    assert len(np.unique(found)) > 7


def test_layers_may_stand_in_any_order(network):
    expected = predictions(read_pair(network))
    path = network / "model.json"
    values = json.loads(path.read_text())
    values["config"]["layers"].reverse()
    path.write_text(json.dumps(values))
    assert np.array_equal(predictions(read_pair(network)), expected)


def test_a_whole_pair_is_evaluated(tmp_path, faces, network, own_environment, capsys):
    """The counterpart of all that is refused above."""
    flags = ["--weights", network, "--runs", tmp_path, "--output", tmp_path / "out"]
    arguments = ["--mode", "evaluate", "--data", faces, *flags]
    assert main([str(argument) for argument in arguments]) == 0
    assert (tmp_path / "out" / "metrics.json").is_file()
    assert sorted(contents(network)) == PAIR
