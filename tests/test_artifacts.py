"""The run folder: written whole or not at all, read with an eye for damage."""

import errno
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from emotion_cnn import files
from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split
from emotion_cnn.errors import RunError
from emotion_cnn.evaluation.evaluator import Evaluation
from emotion_cnn.evaluation.metrics import compute_metrics
from emotion_cnn.files import (
    create_folder,
    first_line,
    open_output,
    replacing,
    write_csv,
    write_figure,
    write_json,
    write_text,
)
from emotion_cnn.training import run_folder
from emotion_cnn.training.run_folder import (
    HISTORY_COLUMNS,
    RunFolder,
    create_run,
    find_run,
    find_runs,
    read_history,
    read_training_state,
    write_history,
    write_training_state,
)

HISTORY = {
    "epoch": [1.0, 2.0, 3.0],
    "loss": [0.1 + 0.2, 1 / 3, 5e-324],
    "accuracy": [float(np.float32(0.7)), 1.0, 0.0],
    "val_loss": [1.7976931348623157e308, 2**-60, -0.0],
    "val_accuracy": [0.30000000000000004, 0.3, 1 - 2**-53],
    "learning_rate": [5e-4, 5.000000000000001e-05, 1e-5],
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage_of(path: Path, read) -> str:
    with pytest.raises(RunError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- Replacing files ---


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


def test_a_file_that_did_not_exist(tmp_path):
    write_text(tmp_path / "file.txt", "Größe\n")
    assert (tmp_path / "file.txt").read_bytes() == "Größe\n".encode()


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [True, False])
def test_what_goes_wrong_leaves_the_old_file_alone(tmp_path, error, written):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        if written:
            temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_rows_that_cannot_be_had_leave_the_old_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def rows():
        yield (1, 2)
        raise ValueError

    with pytest.raises(ValueError):
        write_csv(path, ("a", "b"), rows())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_json_and_csv(tmp_path):
    write_json(tmp_path / "values.json", {"a": [1, 0.1, None]})
    assert json.loads((tmp_path / "values.json").read_text()) == {"a": [1, 0.1, None]}
    write_csv(tmp_path / "table.csv", ("a", "b"), [("x,y", 1), ('"', 0.1)])
    assert (tmp_path / "table.csv").read_bytes() == b'a,b\n"x,y",1\n"""",0.1\n'


WRITERS = {
    "text.txt": lambda path: write_text(path, "new"),
    "values.json": lambda path: write_json(path, {"new": 1}),
    "table.csv": lambda path: write_csv(path, ("new",), [("row",)]),
    "history.csv": lambda path: write_history(path, HISTORY),
    "figure.png": lambda path: write_figure(path, Figure()),
    "state.npz": lambda path: write_training_state(path, {"a": np.ones(9)}, {}),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    # Where the new file is written to, there is no room.
    monkeypatch.setattr(Path, "touch", lambda new, **_: new.symlink_to("/dev/full"))
    with pytest.raises(OSError) as caught:
        WRITERS[name](path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [name]


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that turns out to be full when a file is forced onto it."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", no_space)


def test_a_full_disk_while_evaluating(full_disk, fails, tmp_path, faces, network):
    output = tmp_path / "results"
    flags = ("--weights", network, "--runs", tmp_path, "--output", output)
    message = fails("--mode", "evaluate", "--data", faces, *flags)
    assert "No space left on device" in message
    assert str(output) in message
    assert not output.exists()


def test_a_full_disk_when_a_run_begins(full_disk, fails, tmp_path, faces, places):
    message = fails("--mode", "train", "--data", faces, *places)
    assert "No space left on device" in message
    assert str(tmp_path / "runs") in message


@pytest.fixture
def training(tmp_path, faces, places, network, monkeypatch):
    """Arguments of a short training, with a pair that it would replace."""
    from emotion_cnn.models.architectures import (
        ARCHITECTURES,
        Architecture,
        Convolution,
    )

    small = Architecture(((Convolution(2),),) * 4, (4, 4))
    monkeypatch.setitem(ARCHITECTURES, "compact", small)
    for path in network.iterdir():
        path.rename(tmp_path / "publish" / path.name)
    flags = ("--data", faces, "--model=compact", "--epochs=1")
    return ("--mode", "train", *flags, *places)


def pair(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_disk_that_fills_up_in_training(fails, tmp_path, training, monkeypatch):
    before = pair(tmp_path / "publish")
    real_replacing = files.replacing

    def no_room_for_states(path: Path):
        if path.suffix == ".npz":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_replacing(path)

    monkeypatch.setattr(run_folder, "replacing", no_room_for_states)
    message = fails(*training)
    [run] = (tmp_path / "runs").iterdir()
    assert f"Writing to {run} failed: No space left on device" in message
    assert f"--resume {run}" in message
    assert pair(tmp_path / "publish") == before


# No file may grow beyond this: what a full disk does, and it takes no root. In a
# process of its own, as HDF5 would end it with a segmentation fault.
ON_A_FULL_DISK = """
import os, resource, sys
from emotion_cnn import cli
os.environ["KERAS_BACKEND"] = "tensorflow"
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
small = Architecture(blocks=4 * ((Convolution(2),),), dense=(4, 4))
ARCHITECTURES["compact"] = small
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_while_weights_are_kept(tmp_path, training):
    pytest.importorskip("resource")
    before = pair(tmp_path / "publish")
    command = [sys.executable, "-c", ON_A_FULL_DISK, *map(str, training)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2, done.stderr
    [run] = (tmp_path / "runs").iterdir()
    assert "error: Writing to " in done.stderr
    assert "No epoch was finished yet. Make room" in done.stderr
    assert f"--resume {run}" in done.stderr
    assert pair(tmp_path / "publish") == before
    assert sorted(path.name for path in run.iterdir()) == [
        ".emotion-cnn.lock",
        "config.json",
        "environment.json",
    ]


# --- History ---


def test_a_history_read_back_is_the_same_to_the_last_bit(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, HISTORY)
    again = read_history(path)
    assert again == HISTORY
    assert str(again["val_loss"][2]) == "-0.0"
    assert path.read_text().splitlines()[0] == ",".join(HISTORY_COLUMNS)
    assert len(path.read_text().splitlines()) == 1 + 3


def test_a_history_without_a_column_is_not_written(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, HISTORY)
    with pytest.raises(ValueError):
        write_history(path, HISTORY | {"loss": [1.0]})
    assert read_history(path) == HISTORY


def test_no_history_yet(tmp_path):
    message = damage_of(tmp_path / "history.csv", read_history)
    assert "found no such file" in message
    assert "first epoch" in message


HEADER = ",".join(HISTORY_COLUMNS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no epoch"),
        (HEADER.encode(), "holds no epoch"),
        (b"epoch,loss\n1,2\n", "expected the columns epoch, loss, accuracy"),
        (f"{HEADER}\n1,2,3\n".encode(), "numbers in every row"),
        (f"{HEADER}\n1,2,3,4,5,many\n".encode(), "numbers in every row"),
        (f"{HEADER}\n1,2,3,4,5,\n".encode(), "numbers in every row"),
        (b"\x89PNG\r\n\x1a\n\0\0", "expected the columns"),
        (b'"' + b"a" * 200_000 + b"\n1\n", "expected the columns"),
    ],
)
def test_a_damaged_history(tmp_path, content, words):
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    assert words in damage_of(path, read_history)


def test_a_folder_in_place_of_a_history(tmp_path):
    assert "is not the history" in damage_of(tmp_path, read_history)


# --- Run folders ---


def test_folders_of_one_name_are_told_apart(tmp_path):
    created = [
        create_folder(tmp_path / "a" / "b", "run", setting="runs") for _ in range(3)
    ]
    assert [path.name for path in created] == ["run", "run-2", "run-3"]
    assert names(tmp_path / "a" / "b") == ["run", "run-2", "run-3"]


def test_folders_created_at_the_same_time_are_told_apart(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        created = set(
            pool.map(
                lambda _: create_folder(tmp_path, "run", setting="runs"), range(24)
            )
        )
    assert len(created) == 24
    assert len(names(tmp_path)) == 24


def test_two_runs_in_the_same_second_have_a_folder_each(tmp_path, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run_folder, "datetime", Clock)
    runs = [
        create_run(tmp_path / "runs", "default", config={}, environment={})
        for _ in range(2)
    ]
    assert names(tmp_path / "runs") == [
        "20260102-030405-default",
        "20260102-030405-default-2",
    ]
    assert runs[0].path != runs[1].path


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_folder_that_cannot_be_created(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    message = damage_of(
        file / below, lambda path: create_folder(path, "run", setting="runs")
    )
    assert "Choose another with `runs`" in message
    assert file.read_text() == "mine"


@pytest.fixture
def runs(tmp_path):
    """Twelve runs, and a folder that is none."""
    for number in range(12):
        folder = tmp_path / "runs" / f"run-{number:02d}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (tmp_path / "runs" / "evaluation").mkdir()
    return tmp_path / "runs"


def test_runs_come_oldest_first_and_nothing_else_among_them(runs):
    found = [run.path.name for run in find_runs(runs)]
    assert found == [f"run-{number:02d}" for number in range(12)]
    assert find_runs(runs / "none") == []


def test_a_run_by_its_name_and_by_its_folder(runs, monkeypatch):
    expected = runs / "run-03"
    assert find_run("run-03", runs).path == expected
    assert find_run(str(expected), runs.parent / "elsewhere").path == expected
    monkeypatch.chdir(runs.parent)
    assert find_run("runs/run-03", Path("elsewhere")).path.resolve() == expected


@pytest.mark.parametrize("reference", ["run-99", "evaluation", ""])
def test_an_unknown_run_is_met_with_the_latest_ones(runs, monkeypatch, reference):
    monkeypatch.chdir(runs)
    with pytest.raises(RunError) as caught:
        find_run(reference, runs)
    assert f"none called {reference!r}" in str(caught.value)
    assert str(runs) in str(caught.value)
    assert "run-02, run-03" in str(caught.value)
    assert "run-11." in str(caught.value)
    assert "run-01" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_the_name_of_a_run_is_no_message_of_its_own(runs):
    named = runs / "run-99\x1b[31m\nerror"
    named.mkdir()
    (named / "config.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        find_run("other", runs)
    assert r"run-11, 'run-99\x1b[31m\nerror'." in str(caught.value)


@pytest.mark.parametrize(
    ("files", "finished"),
    [
        ([], False),
        (["training_state.npz"], False),
        (["metrics.json", "training_state.npz"], False),
        (["metrics.json"], True),
    ],
)
def test_a_run_is_finished_with_metrics_and_without_a_state(tmp_path, files, finished):
    for name in files:
        (tmp_path / name).touch()
    assert RunFolder(tmp_path).finished is finished


@pytest.mark.parametrize(
    ("kept", "left"),
    [(3, ["epoch-0003.weights.h5"]), (None, [])],
)
def test_weights_of_other_epochs_are_removed(tmp_path, kept, left):
    run = RunFolder(tmp_path)
    for epoch in (1, 3, 10):
        run.kept_weights(epoch).touch()
    run.config.touch()
    run.remove_other_weights(kept)
    assert sorted(names(tmp_path)) == ["config.json", *left]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_a_damaged_json_file(tmp_path, content):
    run = RunFolder(tmp_path)
    run.config.write_bytes(content)
    message = damage_of(tmp_path, lambda path: run.read_json(run.config))
    assert "config.json" in message


def test_a_long_error_is_cut_to_one_line():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("a" * 999))) < 210


# --- Training state ---

ARRAYS = {
    "0000/conv2d/kernel": np.linspace(0, 1, 18, dtype=np.float32).reshape(3, 3, 2),
    "0001/seed_generator/state": np.array([3, 2**32 - 1], np.uint32),
    "0002/adam/iteration": np.array(7, np.int64),
}
COUNTERS = {
    "history": HISTORY,
    "plateau": {"best": float("inf"), "wait": 1},
    "checkpoint_best": 0.1 + 0.2,
}


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "training_state.npz"
    write_training_state(path, ARRAYS, COUNTERS)
    return path


def read_state(path):
    return read_training_state(path, ARRAYS)


def test_a_training_state_read_back_is_the_same_to_the_last_bit(state):
    arrays, counters = read_state(state)
    assert counters == COUNTERS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert names(state.parent) == ["training_state.npz"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="zero bytes"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut in half"),
        pytest.param(lambda whole: whole[:-1], id="last byte cut"),
        pytest.param(lambda whole: b"no state", id="text"),
        pytest.param(
            lambda whole: whole.replace(b"\0\0\x80?", b"\0\0\0?"), id="value changed"
        ),
    ],
)
def test_a_damaged_training_state(state, damage):
    whole = state.read_bytes()
    state.write_bytes(damage(whole))
    assert state.read_bytes() != whole
    message = damage_of(state, read_state)
    assert "damaged" in message
    assert "cannot be continued" in message


@pytest.mark.parametrize("counters", [None, "no JSON"])
def test_a_training_state_without_its_counters(state, counters):
    np.savez(state, **ARRAYS, **({"counters": counters} if counters else {}))
    assert "cannot be continued" in damage_of(state, read_state)


def test_no_training_state(tmp_path):
    assert "cannot be continued" in damage_of(
        tmp_path / "training_state.npz", read_state
    )


class Code:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("whole_file", [True, False])
def test_pickled_code_in_a_training_state_is_not_run(state, whole_file):
    marker = state.parent / "the code was run"
    if whole_file:
        state.write_bytes(pickle.dumps(Code(marker)))
    else:
        code = np.array([Code(marker)], dtype=object)
        np.savez(state, counters="{}", **ARRAYS | {min(ARRAYS): code})
    assert "cannot be continued" in damage_of(state, read_state)
    assert not marker.exists()


# --- What evaluating a network leaves ---


def evaluation(folder: Path, names: list[str]) -> None:
    probabilities = np.tile(np.arange(7) / 21, (len(names), 1))
    labels = np.zeros(len(names), int)
    images = np.zeros((len(names), 48, 48, 1), np.uint8)
    record = {"data": "data", "labels": "original", "tta": "none", "weights": "run"}
    Evaluation(
        {"test": compute_metrics(labels, probabilities, EMOTIONS)},
        Split(images, labels, tuple(names)),
        probabilities,
        "test",
        np.arange(len(names)),
        100.0,
        record,
        folder,
    ).write()


def test_the_files_of_an_evaluation(tmp_path):
    evaluation(tmp_path, ["test/angry/a,b.png"])
    plots = ("confusion_matrix", "confusion_matrix_shares", "mistakes", "reliability")
    expected = {"metrics.json", "predictions.csv", "report.txt"}
    assert set(names(tmp_path)) == expected | {f"{plot}.png" for plot in plots}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["parts"]["test"]["n"] == 1
    header, row = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "path,label,prediction," + ",".join(EMOTIONS)
    assert row.startswith('"test/angry/a,b.png",angry,surprise,0.000000,0.047619,')


def test_a_file_name_in_no_known_encoding(tmp_path):
    # As archives made on other systems leave them.
    name = os.fsdecode(b"test/angry/caf\xe9.png")
    evaluation(tmp_path, [name])
    assert "test/angry/caf" in (tmp_path / "predictions.csv").read_text(
        errors="replace"
    )


def test_the_tool_leaves_nothing_of_the_writing_behind(
    tmp_path, faces, network, own_environment, capsys
):
    flags = ["--weights", network, "--runs", tmp_path / "runs"]
    arguments = ["--mode", "evaluate", "--data", faces, *flags]
    assert main([str(argument) for argument in arguments]) == 0
    [output] = (tmp_path / "runs").iterdir()
    assert output.name.endswith("-evaluation")
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]


def test_a_named_output_is_never_mixed_with_what_it_holds(tmp_path):
    assert open_output(tmp_path / "a" / "new").is_dir()
    assert open_output(tmp_path / "a" / "new") == tmp_path / "a" / "new"
    (tmp_path / "a" / "new" / "metrics.json").write_text("old")
    with pytest.raises(RunError, match="holds something already"):
        open_output(tmp_path / "a" / "new")
    with pytest.raises(RunError, match="cannot be used"):
        open_output(tmp_path / "a" / "new" / "metrics.json")
