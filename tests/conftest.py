"""What several test modules use. No test may write into the checkout."""

import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS

ROOT = Path(__file__).resolve().parent.parent
CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


def checkout() -> dict[str, int]:
    """What a test could leave or replace in the checkout: names, and ages of files."""
    folders = (ROOT, ROOT / "train", ROOT / "test", ROOT / "runs")
    return {
        str(path.relative_to(ROOT)): path.stat().st_mtime_ns if path.is_file() else 0
        for folder in folders
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name not in CACHES
        and path.suffix not in (".md", ".toml", ".txt", ".py")
    }


@pytest.fixture(scope="session", autouse=True)
def checkout_stays_as_it_is():
    before = checkout()
    yield
    assert checkout() == before, "a test wrote into the checkout"


@pytest.fixture(scope="session", autouse=True)
def caches_elsewhere(tmp_path_factory):
    """Keeps decoded images out of the user's own cache."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}):
        yield


@pytest.fixture(autouse=True)
def as_the_installed_command(monkeypatch):
    """Messages name the command in use, which for tests is pytest, or python -m."""
    monkeypatch.setattr(sys, "argv", ["emotion-cnn"])


@pytest.fixture
def own_environment():
    """The tool chooses Keras' backend by an environment variable."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def fails(capsys, own_environment):
    """Runs the tool on something a user can fix; returns its one message."""

    def message(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("error: ") == 1
        assert "Traceback" not in error
        return error.removeprefix("error: ")

    return message


@pytest.fixture(scope="session")
def jax_environment(tmp_path_factory):
    """For processes on JAX, which compiles far longer than it runs what is small.

    They find no TensorFlow, which Keras imports, where it can, to fix its randomness.
    """
    folder = tmp_path_factory.mktemp("without_tensorflow")
    (folder / "tensorflow.py").write_text(
        "raise ModuleNotFoundError('TensorFlow is not installed here')"
    )
    return {
        "PYTHONPATH": str(folder),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("jax_cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }


@pytest.fixture
def without_charts(monkeypatch):
    """Leaves out the charts, which take longer than a tiny network."""
    # Imported here, as tests of the command line do without Keras.
    import keras

    from emotion_cnn.evaluation.evaluator import Evaluation
    from emotion_cnn.training import fitting

    monkeypatch.setattr(fitting, "LiveChart", lambda *_: keras.callbacks.Callback())
    monkeypatch.setattr(Evaluation, "figures", lambda _: {})


@pytest.fixture
def faces(tmp_path):
    """A data folder: two images of each emotion to train on, one to test on."""
    folder = tmp_path / "faces"
    for part, count in (("train", 2), ("test", 1)):
        for label, emotion in enumerate(EMOTIONS):
            (folder / part / emotion).mkdir(parents=True)
            for number in range(count):
                image = np.full((48, 48), 30 * label + number, np.uint8)
                path = folder / part / emotion / f"{number}.png"
                Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def places(tmp_path):
    """Flags that keep what the tool writes below `tmp_path`."""
    (tmp_path / "publish").mkdir()
    return ("--runs", tmp_path / "runs", "--publish", tmp_path / "publish")


def write_network(folder: Path, *, seed: int, dense: tuple[int, ...]) -> Path:
    """Writes the pair of a small network whose every variable is drawn anew.

    Its `model.json` names no SHA-256, so that tests can change the files one by one.
    """
    # Imported here, as tests of the command line do without Keras.
    from benchmarks.faults.publishing import remove_digest
    from emotion_cnn.models.architectures import Architecture, Convolution
    from emotion_cnn.models.builder import build_model
    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import write_pair

    description = NetworkDescription()
    model = build_model(Architecture(((Convolution(2),),) * 4, dense), description)
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    write_pair(folder, Network(model, description))
    remove_digest(folder)
    return folder


@pytest.fixture(scope="session")
def shared_networks(tmp_path_factory):
    """Folders with a pair each, of two different networks; not to be changed."""
    return (
        write_network(tmp_path_factory.mktemp("network"), seed=1, dense=(4, 4)),
        write_network(tmp_path_factory.mktemp("other"), seed=2, dense=(4, 5)),
    )


@pytest.fixture
def network(shared_networks, tmp_path):
    """A folder with the pair of a small network."""
    return Path(shutil.copytree(shared_networks[0], tmp_path / "network"))


@pytest.fixture
def other_network(shared_networks, tmp_path):
    """A folder with the pair of another network."""
    return Path(shutil.copytree(shared_networks[1], tmp_path / "other_network"))
