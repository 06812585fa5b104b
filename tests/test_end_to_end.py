"""The commands as a user runs them, as processes in a clone of their own.

A clone is a copy of the code: the tool keeps its results in the folder of
`main.py`, and no test may leave a file in the checkout.
"""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import emotion_cnn
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.files import LOCK_NAME
from emotion_cnn.training.recipes import RECIPES
from emotion_cnn.training.run_folder import read_history

# Each fixture starts processes that train.
pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).resolve().parent.parent
FER2013 = os.environ.get("EMOTION_CNN_FER2013")
PAIR = ("model.json", "model_weights.h5")
EVALUATION_FILES = {
    "metrics.json",
    "report.txt",
    "predictions.csv",
    "confusion_matrix.png",
    "confusion_matrix_shares.png",
    "reliability.png",
    "mistakes.png",
}
RUN_FILES = EVALUATION_FILES | {
    "config.json",
    "environment.json",
    "history.csv",
    "live_chart.png",
    LOCK_NAME,
    "loss_curves.png",
    *PAIR,
}
PER_CLASS = {"Training": 9, "PublicTest": 4, "PrivateTest": 5}
EPOCHS = 4
TRAIN = (
    *("--mode", "train", "--model", "compact", "--epochs", str(EPOCHS)),
    *("--batch-size", "8", "--plateau-patience", "1"),
)
TIME_LIMIT = 600
# Several commands in one process: importing TensorFlow takes most of the time, and
# charts much of the rest, so that evaluations into a folder, which are compared by
# their figures, have none.
SEVERAL_COMMANDS = """
import contextlib, io, json, pathlib, sys
from emotion_cnn.cli import main
from emotion_cnn.evaluation.evaluator import Evaluation
results = []
figures = Evaluation.figures
for arguments in json.loads(sys.argv[1]):
    Evaluation.figures = (lambda _: {}) if "--output" in arguments else figures
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        code = main(arguments)
    results.append((code, output.getvalue(), error.getvalue()))
pathlib.Path(sys.argv[2]).write_text(json.dumps(results))
"""
# A shell that starts pytest in the background makes it ignore Ctrl-C, and that
# is inherited.
HEEDING_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Clone:
    """A copy of the code in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        shutil.copy(CHECKOUT / "main.py", folder)
        shutil.copytree(
            CHECKOUT / "emotion_cnn",
            folder / "emotion_cnn",
            ignore=shutil.ignore_patterns("__pycache__"),
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts Python in the clone."""
        inherited = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
        return subprocess.Popen(
            [sys.executable, "-c", HEEDING_CTRL_C, *arguments],
            cwd=self.folder,
            env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def main(self, *arguments: str) -> str:
        """Runs `python main.py` to its good end; returns its standard output."""
        return done(self.start("main.py", *arguments))

    def several(self, *commands: list[str], **environment: str) -> list[list]:
        """Runs commands; returns exit code, standard output and error of each."""
        results = self.folder.with_name(self.folder.name + "-results.json")
        done(
            self.start(
                *("-c", SEVERAL_COMMANDS, json.dumps(commands), str(results)),
                **environment,
            )
        )
        return json.loads(results.read_text())

    @property
    def run(self) -> Path:
        (run,) = self.runs.glob("*/config.json")
        return run.parent


def output_and_error(process: subprocess.Popen) -> tuple[str, str]:
    try:
        return process.communicate(timeout=TIME_LIMIT)
    finally:
        process.kill()


def done(process: subprocess.Popen) -> str:
    output, error = output_and_error(process)
    assert process.returncode == 0, error
    return output


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def pair_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in PAIR]


def write_images(folder: Path) -> None:
    """Writes drawn faces as if they were FER2013's photographs."""
    faces, labels = draw_faces(sum(PER_CLASS.values()), seed=5)
    for label, emotion in enumerate(EMOTIONS):
        images = iter(faces[labels == label, :, :, 0])
        for kind, count in PER_CLASS.items():
            part = folder / ("train" if kind == "Training" else "test") / emotion
            part.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{kind}_{number}.png"
                Image.fromarray(next(images)).save(part / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone over which images were unpacked, and one run on them."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    write_images(clone.folder)
    clone.output = clone.main(*TRAIN)
    return clone


@pytest.fixture(scope="module")
def jax_results(clone, jax_environment, tmp_path_factory):
    """Training and evaluation on JAX where TensorFlow cannot be imported."""
    folder = tmp_path_factory.mktemp("jax")
    train = ["--mode", "train", "--model", "compact", "--backend", "jax"]
    train += ["--epochs", "2", "--batch-size", "16"]
    train += ["--runs", str(folder / "runs"), "--publish", str(folder)]
    evaluate = ["--mode", "evaluate", "--backend", "jax", "--weights", str(clone.run)]
    ten_crop = [*evaluate, "--tta", "ten-crop", "--output", str(folder / "ten_crop")]
    evaluate += ["--output", str(folder / "of_tensorflow")]
    commands = (train, evaluate, ten_crop)
    results = clone.several(*commands, **jax_environment)
    assert [code for code, _, _ in results] == [0, 0, 0], results
    return folder


@pytest.fixture(scope="module")
def jax_run(jax_results):
    (run,) = (jax_results / "runs").iterdir()
    return run


@pytest.fixture(scope="module")
def evaluations(clone, jax_results, jax_run):
    """Folders with what TensorFlow finds of the published pair and of JAX' run."""
    of_jax, ten_crop = jax_results / "of_jax", jax_results / "ten_crop_on_tensorflow"
    results = clone.several(
        ["--mode", "evaluate"],
        ["--mode", "evaluate", "--weights", str(jax_run), "--output", str(of_jax)],
        ["--mode", "evaluate", "--tta", "ten-crop", "--output", str(ten_crop)],
    )
    assert [code for code, _, _ in results] == [0, 0, 0], results
    (folder,) = clone.runs.glob("*-evaluation")
    return {
        "published": folder,
        "jax": of_jax,
        "ten_crop": ten_crop,
        "outputs": [output for _, output, _ in results],
    }


# Train, and evaluate what was trained


def test_files_of_a_run(clone):
    assert files_of(clone.run) == RUN_FILES


def test_files_of_the_clone(clone):
    assert files_of(clone.folder) == {
        *("main.py", "emotion_cnn", "train", "test", "runs"),
        *(*PAIR, LOCK_NAME),
    }


def test_the_pair_is_published(clone):
    assert pair_of(clone.folder) == pair_of(clone.run)
    assert "Published: model.json, model_weights.h5" in clone.output


def test_config_of_a_run(clone):
    config = read_json(clone.run / "config.json")
    changed = {"model": "compact", "epochs": EPOCHS}
    changed |= {"batch_size": 8, "plateau_patience": 1}
    recipe = json.loads(json.dumps(asdict(RECIPES["default"])))
    assert config["settings"] == recipe | changed
    del config["settings"]
    assert config == {
        "data": str(clone.folder),
        "classes": None,
        "recipe": "default",
        "weights": None,
        "labels": "original",
        "label_mode": "majority",
        "leave_out": None,
        "fold": None,
        "soft_labels": None,
        "skip_bad": False,
        "validation_share": 0.1,
        "seed": 42,
        "backend": "tensorflow",
        "runs": str(clone.runs),
        "publish": str(clone.folder),
        "tensorboard": False,
        "distributed": False,
    }


def test_environment_of_a_run(clone):
    environment = read_json(clone.run / "environment.json")
    assert environment["command"] == shlex.join(["main.py", *TRAIN])
    assert environment["backend"] == "tensorflow"
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["versions"]["numpy"] == np.__version__
    assert environment["cpu_cores"] == os.cpu_count()
    assert environment["devices"]
    assert "git_commit" in environment
    data = environment["data"]
    assert len(data["fingerprint"]) == len(data["training_fingerprint"]) == 64
    assert data["validation_source"] == "PublicTest (28 images of test/)"
    assert data["counts"] == {
        "train": dict.fromkeys(EMOTIONS, 9),
        "validation": dict.fromkeys(EMOTIONS, 4),
        "test": dict.fromkeys(EMOTIONS, 9),
    }


def test_the_run_learned_something(clone):
    losses = read_history(clone.run / "history.csv")["loss"]
    assert len(losses) == EPOCHS
    assert losses[-1] < losses[0]


def best_of(run: Path) -> dict[str, float]:
    history = read_history(run / "history.csv")
    best = int(np.argmax(history["val_accuracy"]))
    return {name: values[best] for name, values in history.items()}


def test_evaluate_gives_the_validation_figures_of_training(clone, evaluations):
    parts = read_json(evaluations["published"] / "metrics.json")["parts"]
    assert {name: part["n"] for name, part in parts.items()} == {
        "test": 63,
        "PublicTest": 28,
        "PrivateTest": 35,
    }
    best, validation = best_of(clone.run), parts["PublicTest"]
    assert validation["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-5)
    assert validation["log_loss"] == pytest.approx(best["val_loss"], abs=1e-5)


def test_files_of_an_evaluation(evaluations):
    assert files_of(evaluations["published"]) == EVALUATION_FILES


def test_the_run_and_its_evaluation_say_the_same(clone, evaluations):
    folder = evaluations["published"]
    assert (
        read_json(folder / "metrics.json")["parts"]
        == read_json(clone.run / "metrics.json")["parts"]
    )
    for name in ("predictions.csv", "confusion_matrix.png", "mistakes.png"):
        assert (folder / name).read_bytes() == (clone.run / name).read_bytes()


def test_predictions_recount_to_the_metrics(clone, evaluations):
    with (evaluations["published"] / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = read_json(evaluations["published"] / "metrics.json")["parts"]
    for name, part in parts.items():
        right = [
            row["label"] == row["prediction"]
            for row in rows
            if name == "test" or Path(row["path"]).name.startswith(name)
        ]
        assert len(right) == part["n"]
        assert sum(right) / len(right) == pytest.approx(part["accuracy"])
    for row in rows:
        assert (clone.folder / row["path"]).parent.name == row["label"]
        assert (clone.folder / row["path"]).is_file()
        probabilities = {emotion: float(row[emotion]) for emotion in EMOTIONS}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert probabilities[row["prediction"]] == max(probabilities.values())
    confusions = Counter((row["label"], row["prediction"]) for row in rows)
    assert parts["test"]["confusion_matrix"] == [
        [confusions[label, prediction] for prediction in EMOTIONS] for label in EMOTIONS
    ]


def test_the_report_is_printed_and_kept(evaluations):
    report = (evaluations["published"] / "report.txt").read_text()
    assert report in evaluations["outputs"][0]
    accuracy = read_json(evaluations["published"] / "metrics.json")["parts"]["test"]
    assert f"{accuracy['accuracy']:.2%}" in report
    assert "images per second" in report
    assert "test-time augmentation: none" in report


def test_test_time_augmentation_is_used_and_said(evaluations):
    plain, ten_crop = evaluations["published"], evaluations["ten_crop"]
    assert read_json(plain / "metrics.json")["tta"] == "none"
    assert read_json(ten_crop / "metrics.json")["tta"] == "ten-crop"
    used = "test-time augmentation: ten-crop"
    assert used in (ten_crop / "report.txt").read_text()
    assert evaluations["outputs"][2].splitlines()[0].endswith(used + ".")
    losses = {
        read_json(folder / "metrics.json")["parts"]["test"]["log_loss"]
        for folder in (plain, ten_crop)
    }
    assert len(losses) == 2


# JAX


def test_jax_trains_without_tensorflow(jax_results, jax_run):
    assert files_of(jax_run) == RUN_FILES
    assert read_json(jax_run / "config.json")["backend"] == "jax"
    assert read_json(jax_run / "environment.json")["backend"] == "jax"
    assert pair_of(jax_results) == pair_of(jax_run)
    best = best_of(jax_run)
    validation = read_json(jax_run / "metrics.json")["parts"]["PublicTest"]
    assert validation["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-5)
    assert validation["log_loss"] == pytest.approx(best["val_loss"], abs=1e-5)


@pytest.mark.parametrize("evaluated", ["run of tensorflow", "run of jax", "ten crops"])
def test_both_backends_find_the_same(
    clone, jax_results, jax_run, evaluations, evaluated
):
    folders = {
        "run of tensorflow": (clone.run, jax_results / "of_tensorflow"),
        "run of jax": (jax_run, evaluations["jax"]),
        "ten crops": (evaluations["ten_crop"], jax_results / "ten_crop"),
    }[evaluated]
    one, other = (read_json(folder / "metrics.json")["parts"] for folder in folders)
    for part in ("test", "PublicTest", "PrivateTest"):
        assert one[part]["n"] == other[part]["n"]
        for metric in ("accuracy", "macro_f1", "log_loss", "top2_accuracy"):
            assert one[part][metric] == pytest.approx(other[part][metric], abs=1e-4)


# Interrupted, and continued


def epochs_done(run: Path) -> int:
    history = run / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("".join(process.communicate()))
        time.sleep(0.02)


@pytest.fixture(scope="module")
def story(clone, tmp_path_factory):
    """The clone's run once more, stopped twice on its way.

    Killed, stopped by Ctrl-C, then continued with the command that Ctrl-C made it
    print.
    """
    folder = tmp_path_factory.mktemp("stopped run")
    for name in PAIR:
        (folder / name).write_bytes(b"published before")
    runs, epochs, pairs = folder / "runs", [], []

    def stop(process, sent, condition):
        wait_until(condition, process)
        # Into the epoch: reading a history means that one has just ended.
        time.sleep(0.2 if epochs else 0)
        process.send_signal(sent)
        _, error = output_and_error(process)
        (run,) = runs.iterdir()
        epochs.append(epochs_done(run))
        pairs.append(pair_of(folder))
        return run, process.returncode, error

    places = ("--runs", str(runs), "--publish", str(folder))
    process = clone.start("main.py", *TRAIN, *places)
    run, killed, _ = stop(
        process, signal.SIGKILL, lambda: any(map(epochs_done, runs.glob("*")))
    )
    resume = ("main.py", "--mode", "train", "--resume", str(run), *places[:2])
    _, stopped, error = stop(
        clone.start(*resume), signal.SIGINT, lambda: epochs_done(run) > epochs[-1]
    )
    # TensorFlow may have something to say after us.
    command = shlex.split(error.partition("Continue with: ")[2].partition("\n")[0])
    assert command[:1] == ["python"], error
    done(clone.start(*command[1:]))
    return {
        "folder": folder,
        "run": run,
        "codes": [killed, stopped],
        "epochs": epochs,
        "pairs": pairs,
        "error": error,
    }


def test_the_run_was_stopped_where_it_should_be(story):
    first, second = story["epochs"]
    assert 0 < first < second < EPOCHS
    assert story["codes"] == [-signal.SIGKILL, 130]


@pytest.mark.parametrize("name", ["history.csv", *PAIR, "predictions.csv"])
def test_resumed_equals_uninterrupted(clone, story, name):
    assert (story["run"] / name).read_bytes() == (clone.run / name).read_bytes()


def test_files_of_a_resumed_run(story):
    assert files_of(story["run"]) == RUN_FILES
    assert len(read_json(story["run"] / "environment.json")["resumed"]) == 2


def test_only_the_finished_run_is_published(story):
    assert story["pairs"] == 2 * [2 * [b"published before"]]
    assert pair_of(story["folder"]) == pair_of(story["run"])
    assert files_of(story["folder"]) == {"runs", *PAIR, LOCK_NAME}


def test_ctrl_c_says_how_to_go_on(story):
    quoted, runs = (
        shlex.quote(str(path)) for path in (story["run"], story["run"].parent)
    )
    assert (
        "\nStopped; finished epochs are kept. Continue with: "
        f"python main.py --mode train --resume {quoted} --runs {runs}\n"
    ) in story["error"]


# A fresh clone, without images


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A clone as it is shipped, and what the commands say there one by one."""
    clone = Clone(tmp_path_factory.mktemp("fresh"))
    for part in ("train", "test"):
        (clone.folder / part).mkdir()
        shutil.copy(CHECKOUT / part / "README.md", clone.folder / part)
    for name in PAIR:
        (clone.folder / name).write_bytes(b"shipped")
    commands = {
        "evaluate too early": ["--mode", "evaluate"],
        "train": ["--mode", "train", "--epochs", "1", "--validation-share", "0.5"],
        "evaluate": ["--mode", "evaluate"],
        "evaluate the shipped": ["--mode", "evaluate", "--weights", "."],
    }
    results = clone.several(*commands.values())
    clone.results = dict(zip(commands, results, strict=True))
    return clone


def test_evaluate_before_train_says_what_to_do(fresh):
    code, output, error = fresh.results["evaluate too early"]
    assert code == 2
    assert "*** DRAWN FACES, NOT PHOTOGRAPHS ***" in output
    assert error.startswith("error: Expected a network trained on the drawn faces")
    assert "emotion-cnn train" in error


def test_training_without_images_draws_faces_and_says_so(fresh):
    code, output, error = fresh.results["train"]
    assert code == 0, error
    assert output.startswith("*** DRAWN FACES, NOT PHOTOGRAPHS ***")
    assert "train/ and test/ hold no images yet" in output
    assert "accuracy on them says nothing about\naccuracy on people" in output
    assert "msambare/fer2013" in output
    config = read_json(fresh.run / "config.json")
    assert (config["data"], config["recipe"]) == ("sample", "sample")
    assert files_of(fresh.run) - RUN_FILES == {
        path.name for path in fresh.run.glob("evaluation-*")
    }


def test_the_shipped_pair_is_not_touched_by_drawn_faces(fresh):
    assert pair_of(fresh.folder) == 2 * [b"shipped"]
    assert "Published" not in fresh.results["train"][1]


def test_evaluate_evaluates_the_run_on_drawn_faces(fresh):
    code, output, error = fresh.results["evaluate"]
    assert code == 0, error
    assert output.startswith("*** DRAWN FACES, NOT PHOTOGRAPHS ***")
    (folder,) = fresh.run.glob("evaluation-*")
    assert files_of(folder) == EVALUATION_FILES
    metrics = read_json(folder / "metrics.json")
    assert metrics["parts"] == read_json(fresh.run / "metrics.json")["parts"]
    assert {name: part["n"] for name, part in metrics["parts"].items()} == {"test": 420}


def test_evaluate_refuses_the_shipped_pair_on_drawn_faces(fresh):
    code, _, error = fresh.results["evaluate the shipped"]
    assert code == 2
    assert "Expected, for the drawn faces, a run that was trained on them" in error


def test_files_of_the_fresh_clone(fresh):
    assert files_of(fresh.folder) == {
        *("main.py", "emotion_cnn", "train", "test", "runs"),
        *PAIR,
    }
    assert files_of(fresh.runs) == {fresh.run.name}


# FER2013 itself


@pytest.mark.skipif(not FER2013, reason="EMOTION_CNN_FER2013 names no folder")
def test_the_shipped_network_is_as_good_as_its_results_say(tmp_path):
    metrics = emotion_cnn.evaluate(
        data=FER2013, weights=CHECKOUT, output=tmp_path / "results"
    ).metrics
    results = read_json(CHECKOUT / "docs" / "results" / "shipped" / "metrics.json")
    found, expected = metrics["PrivateTest"], results["parts"]["PrivateTest"]
    assert found.n == expected["n"] == 3589
    assert found.accuracy == expected["accuracy"]
    assert found.log_loss == pytest.approx(expected["log_loss"], abs=1e-5)
