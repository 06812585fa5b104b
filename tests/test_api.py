"""The public API: what a notebook imports, calls and gets back."""

import contextlib
import inspect
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

import emotion_cnn
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import ConfigError, DataError, ModelError, RunError
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.training import experiment

ROOT = Path(__file__).resolve().parent.parent
TINY = Architecture(blocks=4 * ((Convolution(2),),), dense=(4, 4))


@pytest.fixture
def classifier(network):
    return emotion_cnn.load(network)


@pytest.fixture
def gray():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)


# --- Importing ---


def python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, emotion_cnn; dir(emotion_cnn); print(*sys.modules)"
    imported = {name.partition(".")[0] for name in python(code).split()}
    assert not imported & {"keras", "tensorflow", "jax", "torch", "numpy", "PIL"}


def test_every_public_name_is_there():
    for name in emotion_cnn.__all__:
        assert getattr(emotion_cnn, name) is not None
        assert name in dir(emotion_cnn)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        emotion_cnn.other  # noqa: B018


def test_help_shows_the_settings():
    for function in (emotion_cnn.train, emotion_cnn.evaluate):
        shown = inspect.signature(function).parameters
        assert shown["data"].default == "."
        assert shown["labels"].default == "original"
        assert {each.kind for each in shown.values()} == {
            inspect.Parameter.KEYWORD_ONLY
        }
    assert inspect.signature(emotion_cnn.train).parameters["batch_size"].default == 64


@pytest.mark.slow
def test_a_keras_json_made_for_other_work_breaks_nothing(tmp_path, network):
    settings = {"floatx": "float16", "image_data_format": "channels_first"}
    settings |= {"epsilon": 0.1, "backend": "tensorflow"}
    home = tmp_path / ".keras"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps(settings))
    code = (
        "import emotion_cnn, numpy, keras, sys\n"
        "faces = numpy.zeros((2, 48, 48), 'uint8')\n"
        "print(*emotion_cnn.load(sys.argv[1]).predict(faces).ravel())\n"
        "print(keras.config.floatx(), keras.config.image_data_format())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(network)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    probabilities, used = finished.stdout.splitlines()
    faces = np.zeros((2, 48, 48), np.uint8)
    expected = emotion_cnn.load(network).predict(faces).ravel()
    np.testing.assert_allclose(np.fromstring(probabilities, sep=" "), expected, 1e-5)
    assert used == "float32 channels_last"


def test_another_backend_after_keras_was_imported(tmp_path, faces):
    import keras

    running = keras.backend.backend()
    other = "jax" if running == "tensorflow" else "tensorflow"
    places = {"data": faces, "runs": tmp_path / "runs", "publish": tmp_path}
    with pytest.raises(ConfigError, match=f"already runs on {running}"):
        emotion_cnn.train(backend=other, **places)
    with pytest.raises(ConfigError, match="restart"):
        emotion_cnn.evaluate(backend=other, data=faces, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# --- Classifier ---


def test_a_classifier_says_what_it_classifies(classifier):
    assert classifier.classes == EMOTIONS
    assert classifier.label_sets == ("original",)
    assert classifier.input_size == 48
    assert "48x48" in repr(classifier)


def test_the_shipped_network_is_loaded_without_a_path(gray):
    shipped = emotion_cnn.load()
    assert shipped.label_sets == ("original", "ferplus")
    by_original = shipped.predict(gray)
    assert by_original.dtype == np.float32
    assert by_original.shape == (5, 7)
    np.testing.assert_allclose(by_original.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(by_original, shipped.predict(gray, labels="original"))
    by_votes = shipped.predict(gray, labels="ferplus")
    assert np.abs(by_votes - by_original).max() > 0.01
    assert np.abs(shipped.predict(gray, tta="flip") - by_original).max() > 1e-4


def test_the_shapes_of_faces_are_one(classifier, gray):
    expected = classifier.predict(gray)
    for faces in (gray[..., None], np.repeat(gray[..., None], 3, -1), list(gray)):
        np.testing.assert_allclose(classifier.predict(faces), expected, atol=1e-6)
    for face in (gray[0], gray[0][..., None], np.repeat(gray[0][..., None], 3, -1)):
        found = classifier.predict(face)
        assert found.shape == (1, 7)
        np.testing.assert_allclose(found, expected[:1], atol=1e-6)
    assert classifier.predict(gray[:0]).shape == (0, 7)
    assert classifier.predict([]).shape == (0, 7)


def test_other_sizes_and_colors_are_converted_as_files_are(classifier, tmp_path):
    from emotion_cnn.data.folders import read_test

    color = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    for emotion in EMOTIONS:
        (tmp_path / "test" / emotion).mkdir(parents=True)
        Image.fromarray(color).save(tmp_path / "test" / emotion / "0.png")
    test, _ = read_test(tmp_path, skip_bad=False)
    np.testing.assert_array_equal(
        classifier.predict(color), classifier.predict(test.images[:1])
    )
    several = [color, color[:, :, 0], color[10:60, :50]]
    assert classifier.predict(several).shape == (3, 7)
    for face in (Image.fromarray(color), Image.fromarray(color).quantize(256)):
        np.testing.assert_allclose(
            classifier.predict(face), classifier.predict(color), atol=0.05
        )


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        (np.zeros((2, 48, 48)) + 0.5, "float64 from 0.5 to 0.5. Scale them: (255 *"),
        (np.full((48, 48), 200.0), "float64 from 200 to 200. Convert them"),
        (np.full((48, 48), 300), "int64 from 300 to 300."),
        (np.full((48, 48), -1.0), "float64 from -1 to -1."),
        (np.zeros((48, 48), bool), "found bool"),
        (np.zeros(48, np.uint8), "an array of shape (48,)"),
        (np.zeros((1, 2, 48, 48, 1), np.uint8), "shape (1, 2, 48, 48, 1)"),
        (np.zeros((2, 48, 48, 2), np.uint8), "(48, 48, 2)"),
        (np.zeros((48, 48, 2), np.uint8), "(48, 48, 2)"),
        (np.zeros((10, 2304), np.uint8), "found 10x2304. If these are rows"),
        (np.zeros((48, 4), np.uint8), "at least 8 pixels a side"),
        ([np.zeros((48, 200), np.uint8)], "found 48x200"),
        (np.zeros((2, 0, 48), np.uint8), "at least 8 pixels a side"),
        ([np.zeros(48, np.uint8)], "one of shape (48,)"),
        ("face.png", "found str. Read images into arrays"),
        (3, "found int"),
        ([[0, 1], [2, 3]], "uint8"),
    ],
)
def test_faces_that_are_none_say_what_to_pass(classifier, faces, words):
    with pytest.raises(DataError) as caught:
        classifier.predict(faces)
    assert words in str(caught.value)


def test_unknown_options_of_predict(classifier, gray):
    with pytest.raises(ConfigError, match="`labels` is one of original; found 'fer"):
        classifier.predict(gray, labels="ferplus")
    with pytest.raises(
        ConfigError, match="`tta` is one of none, flip, shift, ten-crop"
    ):
        classifier.predict(gray, tta="five")


def test_a_folder_without_a_network(tmp_path):
    with pytest.raises(ModelError, match=r"found no\s+model.json"):
        emotion_cnn.load(tmp_path)


# --- Training and evaluation ---


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "compact", TINY)


@pytest.mark.slow
def test_train_twice_and_evaluate_in_one_process(
    tiny, faces, without_charts, tmp_path, capsys
):
    places = {"runs": tmp_path / "runs", "publish": tmp_path / "published"}
    places["publish"].mkdir()
    settings = {"model": "compact", "epochs": 1, "batch_size": 4, **places}
    one, two = (emotion_cnn.train(data=faces, **settings) for _ in range(2))
    assert one.folder != two.folder
    assert one.history == two.history
    assert one.evaluation.metrics["test"] == two.evaluation.metrics["test"]
    assert isinstance(one.plot(), matplotlib.figure.Figure)
    assert "accuracy" in one.report
    found = emotion_cnn.evaluate(
        data=faces, weights=two.folder, output=tmp_path / "results"
    )
    assert found.folder == tmp_path / "results"
    assert found.metrics == two.evaluation.metrics
    assert isinstance(found.plot(), matplotlib.figure.Figure)
    probabilities = emotion_cnn.load(two.folder).predict(found.test.images)
    np.testing.assert_array_equal(probabilities, found.probabilities)
    # Keras shows its progress; the tool itself logs, and prints nothing.
    assert "Results" not in capsys.readouterr().out


def test_threads_train_one_after_the_other(monkeypatch, faces, tmp_path):
    together, met = threading.Barrier(2), []

    def fit_and_evaluate(run, *_, **__):
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(3)
            met.append(run)
        return run

    monkeypatch.setattr(experiment, "fit_and_evaluate", fit_and_evaluate)
    settings = {"data": faces, "runs": tmp_path / "runs", "publish": tmp_path}
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(emotion_cnn.train, **settings) for _ in range(2)]
    assert len({run.result().path for run in runs}) == 2
    assert not met


def test_mistakes_are_exceptions_without_a_word_of_flags(faces, tmp_path):
    (tmp_path / "file").touch()
    for call, kind in (
        (lambda: emotion_cnn.train(epoch=3), ConfigError),
        (lambda: emotion_cnn.train(epochs=0), ConfigError),
        (lambda: emotion_cnn.train(data=faces, publish=tmp_path / "file"), RunError),
        (lambda: emotion_cnn.train(resume="none", runs=tmp_path), RunError),
        (lambda: emotion_cnn.train(resume="a", epochs=3), ConfigError),
        (lambda: emotion_cnn.evaluate(data=tmp_path / "none"), DataError),
        (lambda: emotion_cnn.evaluate(data=faces, weights="none"), RunError),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert "--" not in str(caught.value)
