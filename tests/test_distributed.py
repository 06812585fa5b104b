"""Training on several devices: two processes on loopback, and one with two devices.

Each process takes seconds to start, so a few of them serve all tests.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn import processes
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import ConfigError
from emotion_cnn.processes import check_several_devices, join
from emotion_cnn.training.run_folder import find_runs, read_history

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None, reason="jax is not installed"
    ),
]
CHECKOUT = Path(__file__).resolve().parent.parent
EPOCHS = 8
# In a command: the run that a command before it left below `--runs`.
THE_RUN = "the run"
# Of seven images each, the last batch to train and to validate on holds one.
BATCH = 6
PROGRAM = f"""
import hashlib, json, os, pathlib, sys
import keras
from emotion_cnn import cli
from emotion_cnn.evaluation.evaluator import Evaluation
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.training import callbacks, experiment, fitting
from emotion_cnn.training.run_folder import find_runs

ARCHITECTURES["compact"] = Architecture(((Convolution(2),),), (), average=True)
fitting.VALIDATION_BATCH_SIZE = {BATCH}
fitting.LiveChart = lambda *_: keras.callbacks.Callback()
Evaluation.figures = lambda _: {{}}
experiment.write_figure = lambda *_: None
found = {{"losses": [], "trained": [], "weights": []}}
train, write_pair = experiment._train, experiment.write_pair
check = fitting.StopAtNonFiniteLoss.on_train_batch_end

def note(name, arrays):
    found[name].append(hashlib.sha256(b"".join(map(bytes, arrays))).hexdigest())

def train_and_note(*arguments, **options):
    history, weights = train(*arguments, **options)
    note("trained", weights)
    return history, weights

def write_pair_and_note(folder, network):
    note("weights", network.model.get_weights())
    write_pair(folder, network)

def note_first_loss(self, batch, logs=None):
    check(self, batch, logs)
    if batch == 0 and self._epoch == 1:
        found["losses"].append(float(logs["loss"]))
    if batch == 0 and self._epoch == 3 and "--distributed" not in sys.argv:
        raise KeyboardInterrupt

experiment._train = train_and_note
experiment.write_pair = write_pair_and_note
fitting.StopAtNonFiniteLoss.on_train_batch_end = note_first_loss
codes, (notes, *commands) = [], json.loads(sys.argv[1])
try:
    for command in commands:
        if "{THE_RUN}" in command:
            runs = pathlib.Path(command[command.index("--runs") + 1])
            (run,) = find_runs(runs)
            command[command.index("{THE_RUN}")] = str(run.path)
        sys.argv = ["emotion-cnn", *command]
        codes.append(cli.main())
finally:
    with open(notes, "w") as file:
        json.dump(found | {{"codes": codes}}, file)
sys.exit(codes[-1])
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two images of each emotion to train on, of which one validates; one to test."""
    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 1)):
        for emotion in EMOTIONS:
            (folder / part / emotion).mkdir(parents=True)
            for number in range(count):
                image = generator.integers(0, 256, (48, 48), np.uint8)
                path = folder / part / emotion / f"{number}.png"
                Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory, jax_environment):
    """Starts a process that runs commands; returns it, and where its notes will be."""

    def process(*commands, devices: int = 1, program: str = PROGRAM, **variables):
        note = tmp_path_factory.mktemp("note") / "note.json"
        arguments = json.dumps([str(note), *[list(map(str, c)) for c in commands]])
        flags = f"--xla_force_host_platform_device_count={devices}"
        started = subprocess.Popen(
            [sys.executable, "-c", program, arguments],
            cwd=CHECKOUT,
            env=os.environ
            | jax_environment
            | {
                "KERAS_BACKEND": "jax",
                "PYTHONDONTWRITEBYTECODE": "1",
                "XLA_FLAGS": f"{jax_environment['XLA_FLAGS']} {flags}",
            }
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return started, note

    return process


@pytest.fixture(scope="module")
def start_two(start):
    """Starts two processes that train together with one command."""

    def processes(command, **options):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        return [
            start(
                *([command] if command else []),
                **options,
                KERAS_DISTRIBUTION_JOB_ADDRESSES=f"127.0.0.1:{port}",
                KERAS_DISTRIBUTION_NUM_PROCESSES="2",
                KERAS_DISTRIBUTION_PROCESS_ID=str(place),
            )
            for place in range(2)
        ]

    return processes


def training(faces: Path, runs: Path) -> list:
    return [
        *("train", "--backend", "jax", "--data", faces, "--runs", runs),
        *("--publish", runs, "--model", "compact", "--epochs", EPOCHS),
        *("--batch-size", BATCH, "--mixup", 0.2, "--average-weights", 0.5),
        # Of the optimisers, the one that compiles soonest; it has a state, too.
        *("--optimizer", "sgd"),
    ]


def epochs_of(run) -> int:
    return len(read_history(run.history)["epoch"]) if run.history.is_file() else 0


def wait_for_epoch(runs: Path, epoch: int, started) -> None:
    end = time.monotonic() + 500
    while not ((found := find_runs(runs)) and epochs_of(found[0]) >= epoch):
        assert time.monotonic() < end
        assert all(each.poll() is None for each, _ in started), started[0][0].stdout
        time.sleep(0.01)


def end_of(started, note) -> tuple[str, dict]:
    output, _ = started.communicate(timeout=500)
    return output, json.loads(note.read_text()) if note.is_file() else {}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, faces, start):
    """One process: with two devices; with one, stopped; that one resumed with two."""
    runs = tmp_path_factory.mktemp("alone")
    single = tmp_path_factory.mktemp("single")
    started = start(
        [*training(faces, runs), "--distributed", "--batch-size", BATCH + 1],
        [*training(faces, runs), "--distributed"],
        training(faces, single),
        ["train", "--resume", THE_RUN, "--runs", single, "--distributed"],
        devices=2,
    )
    output, found = end_of(*started)
    # The first one has been refused before it trained.
    shutil.rmtree(find_runs(runs)[0].path)
    return runs, output, found, find_runs(single)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory, faces, start_two):
    """Two processes: one killed; both killed after they resumed; resumed again."""
    runs = tmp_path_factory.mktemp("together")
    started = start_two([*training(faces, runs), "--distributed"])
    wait_for_epoch(runs, 1, started)
    started[1][0].kill()
    started[1][0].communicate()
    killed = time.monotonic()
    one_killed, _ = end_of(*started[0])
    seconds, code = time.monotonic() - killed, started[0][0].returncode

    run = find_runs(runs)[0]
    resume = ["train", "--resume", run.path.name, "--runs", runs, "--distributed"]
    before = epochs_of(run)
    started = start_two(resume)
    wait_for_epoch(runs, before + 1, started)
    for each, _ in started:
        each.kill()
    for each, _ in started:
        each.communicate()
    assert epochs_of(run) < EPOCHS

    ended = [end_of(*each) for each in start_two(resume)]
    return runs, (one_killed, code, seconds), ended


def test_two_processes_and_two_devices_train_to_the_same_bits(alone, together):
    """Whatever was killed and resumed on the way, with last batches of one image."""
    runs, output, found, *_ = alone
    assert found["codes"][1] == 0, output
    others, _, ended = together
    # The other one ends where training does.
    assert [each["codes"] for _, each in ended] == [[0], []], ended
    assert [each["trained"] for _, each in ended] == [found["trained"][:1]] * 2
    assert [each["weights"] for _, each in ended] == [found["weights"][:1], []]
    history, other = (
        read_history(find_runs(each)[0].history) for each in (runs, others)
    )
    assert history == other
    assert len(history["epoch"]) == EPOCHS


def test_the_first_step_is_that_of_one_device(alone):
    two, one = alone[2]["losses"]
    assert two == pytest.approx(one, abs=1e-6)


def test_a_run_is_resumed_on_another_number_of_devices(alone):
    _, output, found, run = alone
    assert found["codes"] == [2, 0, 130, 0], output
    assert run.finished
    assert epochs_of(run) == EPOCHS


def test_a_batch_that_cannot_be_shared_out_is_refused(alone):
    _, output, found, *_ = alone
    assert found["codes"][0] == 2
    assert "--batch-size is shared out over all 2 devices; found 7" in output


def test_processes_that_differ_do_not_train(start_two, tmp_path):
    program = """
import sys
from emotion_cnn.errors import ConfigError
from emotion_cnn.processes import check_same, end_at_once, join, processes
join()
try:
    check_same("data", bytes([processes().place]) * 32)
except ConfigError as error:
    print(error)
    end_at_once(2)
"""
    for started, _ in start_two(None, program=program):
        output, _ = started.communicate(timeout=500)
        assert "Expected the same data in all processes, found others in" in output
        assert started.returncode == 2


@pytest.mark.parametrize("flags", [(), ("--backend", "tensorflow")])
def test_other_backends_are_refused(fails, flags):
    message = fails("train", "--distributed", *flags)
    assert message.startswith("--distributed needs --backend jax, found ")


def test_one_device_alone_is_refused():
    with pytest.raises(ConfigError, match="found one process with one"):
        check_several_devices()


@pytest.mark.parametrize("text", ["two", "", "-1", "9" * 5000])
def test_a_variable_that_is_no_number_is_named(monkeypatch, text):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", text)
    with pytest.raises(ConfigError, match=f"NUM_PROCESSES, found '{text[:50]}'"):
        join()


def test_waiting_is_said_where_there_are_others(monkeypatch, caplog):
    import jax

    caplog.set_level("INFO")
    monkeypatch.setattr(processes, "_PATIENCE", 0.05)
    monkeypatch.setattr(processes, "_joined", processes.Processes())

    def nobody(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    def late(*_, **__):
        end = time.monotonic() + 60
        while not caplog.records and time.monotonic() < end:
            time.sleep(0.01)

    said = []
    for initialize in (nobody, late):
        monkeypatch.setattr(processes, "_has_looked", False)
        monkeypatch.setattr(jax.distributed, "initialize", initialize)
        join()
        time.sleep(0.2)
        said.append([record.getMessage() for record in caplog.records])
    assert said == [[], ["Waiting for the other processes, for up to 300 s"]]


def test_one_that_is_killed_ends_the_other_which_says_how_to_continue(together):
    runs, (output, code, seconds), _ = together
    run = find_runs(runs)[0]
    assert code == 2
    assert seconds < 60
    assert "Another process of this training has ended" in output
    flags = f"--resume {run.path} --runs {runs} --distributed"
    assert f"Continue with: emotion-cnn train {flags}" in output


def test_only_the_chief_writes_and_prints(together):
    runs, _, ((chief, _), (other, _)) = together
    assert len(list(runs.glob("*/"))) == 1
    assert "Epoch 8/8" in chief
    assert "Results: " in chief
    assert chief.index("Compiling, once for each size") < chief.index("Epoch ")
    own = re.sub(r"(?m)^(\[Gloo\]|WARNING: All log|I0000).*\n", "", other)
    # That it waits for the others, each says itself, where it does.
    assert own in ("", "Waiting for the other processes, for up to 300 s\n")
