"""Training runs: killed and resumed, edited by hand, on full disks, stopped by Ctrl-C.

Trains tiny networks on drawn faces, in processes of its own; needs `os.fork`.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.faults import Tally
from benchmarks.faults.publishing import WHOLE, names_in

COMPARED = (
    *("history.csv", "model.json", "model_weights.h5", "predictions.csv"),
    *("metrics.json", "report.txt"),
)
_UNEQUAL = ("seconds", "images_per_second")
_SMALL = {"model": "compact", "batch_size": 8, "precision": "float32"}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "averaging": {
        **{"epochs": 4, "optimizer": "sgd", "schedule": "cosine", "keep": "last"},
        **{"average_weights": 0.9, "calibrate": True, "mixup": 0.2},
    },
    "plateau": {"epochs": 4, "plateau_patience": 1, "learning_rate": 0.01},
    "low resolution": {
        **{"recipe": "student", "epochs": 4, "warmup_epochs": 1, "batch_size": 16},
        **{"calibrate": True, "keep": "best"},
    },
}
SECONDS = 300

_processes = multiprocessing.get_context("forkserver")


# --- In the processes ---


def write_faces(folder: Path, *, train: int, test: int) -> None:
    """Writes drawn faces, so many of each emotion, as a data folder."""
    from PIL import Image

    from emotion_cnn.data.classes import EMOTIONS
    from emotion_cnn.data.drawn_faces import draw_faces

    for part, count, seed in (("train", train, 1), ("test", test, 2)):
        images, labels = draw_faces(count, seed=seed)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / EMOTIONS[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(path)


def _use_small_networks() -> None:
    from emotion_cnn.models.architectures import (
        ARCHITECTURES,
        Architecture,
        Convolution,
    )

    assert isinstance(ARCHITECTURES, dict)  # noqa: S101
    ARCHITECTURES["compact"] = Architecture(
        ((Convolution(4),), (Convolution(8),)), dense=(8,), average=True
    )


def _command(output: Path, file_size: int | None, arguments: Sequence[str]) -> None:
    """Runs the tool in this process, and ends it with the exit code of the tool."""
    from emotion_cnn import cli

    _use_small_networks()
    if file_size is not None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, hard))
    said = io.StringIO()
    # TensorFlow writes there what is no matter here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.argv = ["emotion-cnn"]
    code: Any = 1
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = cli.main([*arguments])
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        print(f"Traceback: {error!r}", file=said)
    finally:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        output.write_text(said.getvalue(), encoding="utf-8")
        os._exit(code)


# --- From outside ---


class Tool:
    """Runs the tool in processes that have Keras imported already."""

    def __init__(self, place: Path) -> None:
        """Takes a folder for what the processes say."""
        self._output = place / "output.txt"
        _processes.set_forkserver_preload(
            ["emotion_cnn.training.experiment", "emotion_cnn.data.loading", __name__]
        )

    def start(self, *arguments: str, file_size: int | None = None) -> Any:
        """Starts a command; no file can grow beyond `file_size`."""
        self._output.unlink(missing_ok=True)
        process = _processes.Process(
            target=_command, args=(self._output, file_size, arguments)
        )
        process.start()
        return process

    def run(self, *arguments: str, file_size: int | None = None) -> tuple[int, str]:
        """Runs a command to its end; returns its exit code and what it said."""
        process = self.start(*arguments, file_size=file_size)
        process.join(SECONDS)
        process.kill()
        process.join()
        said = self._output.read_text() if self._output.exists() else ""
        return int(process.exitcode), said


def told_once(code: int, said: str) -> str:
    """Returns what is wrong with the end of a command that has one thing to say."""
    if code == 0:
        return ""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 2 and len(lines) == 1 and "Traceback" not in said:
        return ""
    return f"exit {code}: {said[-300:].strip()!r}"


def contents(run: Path) -> dict[str, Any]:
    """Returns what two equal runs have in common."""
    found: dict[str, Any] = {}
    for name in COMPARED:
        found[name] = (run / name).read_bytes()
    metrics = json.loads(found["metrics.json"])
    found["metrics.json"] = {k: metrics[k] for k in ("parts", "tta", "labels")}
    del found["report.txt"]  # It has the time that evaluation took.
    return found


class Runs:
    """Starts, kills and resumes trainings of one recipe."""

    def __init__(self, tool: Tool, faces: Path, place: Path, recipe: str) -> None:
        """Takes the data, and a folder for the runs."""
        self._tool = tool
        self.runs = place / f"runs of {recipe}"
        self.publish = place / f"published by {recipe}"
        self.publish.mkdir()
        flags = [
            word
            for name, value in {**_SMALL, **RECIPES[recipe]}.items()
            for word in (
                [f"--{name.replace('_', '-')}"]
                if value is True
                else [f"--{name.replace('_', '-')}", str(value)]
            )
        ]
        self._first = ("train", "--data", str(faces), *flags, *self._places())

    def _places(self) -> tuple[str, ...]:
        return ("--runs", str(self.runs), "--publish", str(self.publish))

    def next(self) -> tuple[str, ...]:
        """Returns the command that a user would give now."""
        run = self.unfinished()
        if run is None:
            return self._first
        return ("train", "--resume", run.name, "--runs", str(self.runs))

    def unfinished(self) -> Path | None:
        """Returns the run that can be resumed."""
        for path in self.runs.glob("*/environment.json"):
            if (
                not (path.parent / "metrics.json").exists()
                or (path.parent / "training_state.npz").exists()
            ):
                return path.parent
        return None

    def only(self) -> Path:
        """Returns the one run there is."""
        [path] = self.runs.glob("*/environment.json")
        return path.parent

    def aside(self) -> Path:
        """Returns where the one run can wait, unseen by `unfinished` and `only`."""
        return self.runs.with_name(f"{self.only().name} aside")

    def whole(self) -> float:
        """Trains without interruption; returns the seconds that took."""
        start = time.monotonic()
        code, said = self._tool.run(*self._first)
        if code:
            raise RuntimeError(f"exit {code}: {said}")
        return time.monotonic() - start

    def killed(self, after: float) -> bool:
        """Goes on, and is killed after some seconds; whether it ended before."""
        process = self._tool.start(*self.next())
        process.join(after)
        process.kill()
        process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{self.next()} ended with {process.exitcode}")
        return bool(process.exitcode == 0)


def _kills(
    tool: Tool, faces: Path, place: Path, recipe: str, kills: int, seed: int
) -> Tally:
    tally = Tally(f"kill -9 and resume, {recipe}")
    draw = random.Random(f"{seed} {recipe}")  # noqa: S311
    once = Runs(tool, faces, place, recipe)
    seconds = once.whole()
    expected = contents(once.only())
    done = 0
    while done < kills:
        folder = place / "killed"
        folder.mkdir()
        runs = Runs(tool, faces, folder, recipe)
        story = 0
        # After some kills let it end: that the last part is killed is as likely.
        while not runs.killed(draw.uniform(0, 1.2) * seconds):
            story += 1
        done += story
        run = runs.only()
        found = contents(run)
        different = [name for name in expected if found[name] != expected[name]]
        left = [path.name for path in run.glob(".writing-*")]
        left += [path.name for path in run.glob("epoch-*")]
        published = names_in(runs.publish)
        for _ in range(story):
            if different or left or published != WHOLE:
                tally.failed(f"after {story} kills: {different}, {left}, {published}")
            else:
                tally.held()
        shutil.rmtree(folder)
    return tally


# --- Run files that were edited ---

ODD: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2, 10**9, -(10**9), 10**30, 10**400, 0.5, -0.5),
    *(
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\0",
        "../..",
        "/",
        "\ud800",
        5000 * "a",
    ),
    *([], [[]], [1], ["x"], {}, {"a": 1}, "sample", "\x1b[2J", "`data`", "default"),
)


def edited(values: Any, draw: random.Random) -> Any:
    """Returns JSON with one value changed, removed, added or renamed."""
    values = copy.deepcopy(values)
    places: list[tuple[Any, Any]] = []

    def walk(parent: Any) -> None:
        keys = parent if isinstance(parent, dict) else range(len(parent))
        for key in keys:
            places.append((parent, key))
            if isinstance(parent[key], dict | list):
                walk(parent[key])

    walk(values)
    parent, key = draw.choice(places)
    how = draw.randrange(6)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[f"{key}x"] = parent.pop(key)
    else:
        parent[key] = copy.deepcopy(draw.choice(ODD))
    return values


def edit_json(path: Path, draw: random.Random) -> None:
    """Edits a JSON file as somebody might by hand."""
    path.write_text(json.dumps(edited(json.loads(path.read_text()), draw)))


def edit_state(path: Path, draw: random.Random) -> None:
    """Edits the counters or an array of a training state."""
    with np.load(path) as file:
        arrays = dict(file)
    if draw.random() < 0.6:
        counters = edited(json.loads(str(arrays["counters"])), draw)
        arrays["counters"] = np.array(json.dumps(counters))
    else:
        name = draw.choice(sorted(arrays))
        array = arrays[name]
        changes: list[Callable[[], Any]] = [
            lambda: arrays.pop(name),
            lambda: arrays.update(extra=array),
            lambda: arrays.update({name: array.astype(str)}),
            lambda: arrays.update({name: np.zeros((1000, 1000))}),
            lambda: arrays.update({name: array[..., np.newaxis]}),
            lambda: arrays.update({name: np.array([{"a": 1}], dtype=object)}),
            lambda: arrays.update({name: np.zeros(3, "datetime64[s]")}),
            lambda: arrays.update({name: np.zeros((0, 5), np.float32)}),
        ]
        draw.choice(changes)()
    np.savez(path, **arrays)


def edit_bytes(path: Path, draw: random.Random) -> None:
    """Flips a bit, cuts, empties or zeroes a part of a file."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    how = draw.randrange(4)
    if how == 0:
        content[place] ^= 1 << draw.randrange(8)
    elif how == 1:
        del content[place:]
    elif how == 2:
        content[place : place + 200] = bytes(len(content[place : place + 200]))
    else:
        content = bytearray(draw.choice([b"", b"PK\3\4", b"[" * 100_000, b"\xff\xfe"]))
    path.write_bytes(content)


def edit_history(path: Path, draw: random.Random) -> None:
    """Changes a cell of a history, which nothing is read from."""
    path.write_text(path.read_text().replace("0", draw.choice(["x", "", "nan"]), 3))


EDITS: Mapping[str, Sequence[Callable[[Path, random.Random], None]]] = {
    "config.json": (edit_json, edit_json, edit_json, edit_bytes),
    "environment.json": (edit_json, edit_json, edit_bytes),
    "training_state.npz": (edit_state, edit_state, edit_state, edit_bytes),
    "history.csv": (edit_history, edit_bytes),
    "epoch-*.weights.h5": (edit_bytes,),
}


def stretched_state(path: Path) -> None:
    """Writes a state of few bytes whose arrays claim to be very large."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**10,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, header.getvalue() + bytes(10**8))


@cache
def _resumed(tool: Tool, runs: Runs) -> dict[str, Any]:
    """Returns what the interrupted run leads to, and leaves that as it is."""
    run = runs.only()
    whole = runs.aside()
    shutil.copytree(run, whole)
    code, said = tool.run(*runs.next())
    if code:
        raise RuntimeError(f"exit {code}: {said}")
    expected = contents(run)
    shutil.rmtree(run)
    whole.rename(run)
    return expected


def _changed_result(run: Path, expected: Mapping[str, Any]) -> str:
    """Returns what is different in a run that went on after something was damaged."""
    found = contents(run)
    different = [name for name in expected if found[name] != expected[name]]
    return f"another {', '.join(different)}" if different else ""


def _is_the_users(path: Path, edit: Callable[[Path, random.Random], None]) -> bool:
    """Returns whether an edit may change the result: a setting, or a whole state."""
    return path.name == "config.json" or edit is edit_state


def _edits(tool: Tool, runs: Runs, cases: int, seed: int) -> Tally:
    """Edits the files of an interrupted run, and resumes it.

    What was damaged has to be refused, or to make no difference.
    """
    tally = Tally("Run files edited by hand")
    expected = _resumed(tool, runs)
    run = runs.only()
    whole = runs.aside()
    run.rename(whole)
    for number in range(cases):
        draw = random.Random(f"{seed} {number}")  # noqa: S311
        pattern = draw.choice(sorted(EDITS))
        shutil.copytree(whole, run)
        [path] = run.glob(pattern)
        edit = draw.choice(EDITS[pattern])
        if number == 0:
            path = run / "training_state.npz"
            stretched_state(path)
        else:
            edit(path, draw)
        code, said = tool.run(
            *("train", "--resume", run.name, "--runs", str(runs.runs)),
            *("--publish", str(runs.publish)),
        )
        wrong = told_once(code, said)
        if code == 0 and not _is_the_users(path, edit):
            wrong = _changed_result(run, expected)
        if wrong:
            tally.failed(f"case {number}, {edit.__name__} of {path.name}: {wrong}")
        else:
            tally.held()
        shutil.rmtree(run)
    whole.rename(run)
    return tally


def _planted(tool: Tool, runs: Runs, place: Path, cases: int, seed: int) -> Tally:
    """Resumes a run in which files that are to be written are links."""
    tally = Tally("Links in run folders")
    expected = _resumed(tool, runs)
    run = runs.only()
    whole = runs.aside()
    run.rename(whole)
    victim = place / "victim"
    names = (
        *("history.csv", "live_chart.png", "loss_curves.png", "metrics.json"),
        *("model.json", "model_weights.h5", "predictions.csv", "report.txt"),
        *("training_state.npz", "environment.json", "confusion_matrix.png"),
        *(f"epoch-{epoch:04d}.weights.h5" for epoch in range(1, 5)),
        ".emotion-cnn.lock",
    )
    links = list(itertools.product(names, ("file", "none", ".")))
    random.Random(seed).shuffle(links)  # noqa: S311
    for name, target in links[:cases]:
        shutil.copytree(whole, run)
        victim.mkdir()
        content = (run / name).read_bytes() if (run / name).exists() else b"mine"
        (victim / "file").write_bytes(content)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim / target)
        code, said = tool.run("train", "--resume", run.name, "--runs", str(runs.runs))
        wrong = told_once(code, said)
        if code == 0:
            wrong = _changed_result(run, expected)
        left = {path.name: path.read_bytes() for path in victim.iterdir()}
        if wrong or left != {"file": content}:
            tally.failed(f"{name} to {target}: {wrong}, left {sorted(left)}")
        else:
            tally.held()
        shutil.rmtree(run)
        shutil.rmtree(victim)
    whole.rename(run)
    return tally


def _two(tool: Tool, runs: Runs, times: int) -> Tally:
    """Resumes a run twice at once."""
    tally = Tally("Two --resume of one run at once")
    run = runs.only()
    whole = runs.aside()
    run.rename(whole)
    for _ in range(times):
        shutil.copytree(whole, run)
        command = ("train", "--resume", run.name, "--runs", str(runs.runs))
        both = [tool.start(*command) for _ in range(2)]
        for process in both:
            process.join(SECONDS)
        codes = sorted(process.exitcode for process in both)
        # The second is refused, also where the first has ended already.
        if codes == [0, 2] and (run / "metrics.json").exists():
            tally.held()
        else:
            tally.failed(f"they ended with {codes}")
        shutil.rmtree(run)
    whole.rename(run)
    return tally


def _full_disk(
    tool: Tool, runs: Runs, faces: Path, place: Path, cases: int, seed: int
) -> Tally:
    """Runs every mode where no file can grow beyond a size."""
    place = place / "disk"
    place.mkdir()
    tally = Tally("Full disk in every mode")
    draw = random.Random(seed)  # noqa: S311
    run = runs.only()
    whole = runs.aside()
    run.rename(whole)
    network = place / "network"
    shutil.copytree(runs.publish, network)
    other = place / "other"
    data, publish = ("--data", str(faces)), ("--publish", str(network))
    weights, results = ("--weights", str(network)), ("--output", str(other / "new"))
    new_run = ("--runs", str(other))
    commands: Sequence[tuple[str, ...]] = (
        ("train", "--resume", run.name, "--runs", str(runs.runs), *publish),
        ("train", *data, "--model", "compact", "--epochs", "1", *new_run, *publish),
        ("evaluate", *data, *weights, *new_run),
        ("evaluate", *data, *weights, *results),
        ("audit", *data, *results),
        ("prepare", "--source", str(faces), "--export", str(other / "new.csv")),
    )
    for number in range(cases):
        shutil.copytree(whole, run)
        other.mkdir()
        size = int(10 ** draw.uniform(0, 5.3)) if number % 5 else 0
        command = commands[number % len(commands)]
        code, said = tool.run(*command, file_size=size)
        wrong = told_once(code, said)
        left = [str(path) for path in place.rglob(".writing-*")]
        if wrong or left:
            tally.failed(f"{' '.join(command)}, {size} bytes: {wrong} {left}")
        else:
            tally.held()
        shutil.rmtree(run)
        shutil.rmtree(other)
    whole.rename(run)
    return tally


def _ctrl_c(faces: Path, place: Path, cases: int, seed: int) -> Tally:
    """Presses Ctrl-C again and again, from any moment on."""
    tally = Tally("Ctrl-C again and again")
    draw = random.Random(seed)  # noqa: S311
    for number in range(cases):
        runs = place / "stopped"
        command = (
            *(sys.executable, "main.py", "--mode", "train", "--data", str(faces)),
            *("--model", "compact", "--batch-size", "8", "--epochs", "1000"),
            *("--runs", str(runs), "--publish", str(place)),
        )
        # Python's own start, before main.py is read, is not ours.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _HEEDING, *command[1:]],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(draw.uniform(0.3, 20))
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            process.send_signal(signal.SIGINT)
            time.sleep(draw.uniform(0.01, 0.3))
        process.kill()
        _, said = process.communicate()
        if (
            process.returncode == 130
            and said.count("Stopped") == 1
            and "Traceback" not in said
        ):
            tally.held()
        else:
            what = said[max(0, said.find("Traceback")) :]
            tally.failed(f"case {number}: exit {process.returncode}: {what[:2000]!r}")
        shutil.rmtree(runs, ignore_errors=True)
    return tally


# A shell that starts this in the background makes it ignore Ctrl-C.
_HEEDING = """
import signal, sys, os
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def main() -> int:
    """Tries all of it; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=120, help="kills; edits")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--only", help="the part whose name begins so")
    options = parser.parse_args()
    cases, seed = options.cases, options.seed
    # Few cases leave recipes out: each is trained whole first.
    recipes = list(RECIPES)[: max(1, cases // 10)]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        faces = place / "faces"
        # Few cases train on few images: as many moments to be killed at are in less
        # time.
        share = 1 if cases >= 60 else 6
        write_faces(faces, train=84 // share, test=28 // share)
        tool = Tool(place)
        runs = _interrupted(tool, faces, place / "interrupted")
        parts: Mapping[str, Callable[[], Tally]] = {
            f"kills, {recipe}": partial(
                _kills, tool, faces, place, recipe, -(-cases // len(recipes)), seed
            )
            for recipe in recipes
        } | {
            "two": partial(_two, tool, runs, max(1, cases // 20)),
            "links": partial(_planted, tool, runs, place, cases, seed),
            "edits": partial(_edits, tool, runs, cases, seed),
            "disk": partial(
                _full_disk, tool, runs, faces, place, max(6, cases // 4), seed
            ),
            "ctrl-c": partial(_ctrl_c, faces, place, max(1, cases // 10), seed),
        }
        for part, tried in parts.items():
            if part.startswith(options.only or ""):
                failed += tried().finish()
    return 1 if failed else 0


def _interrupted(tool: Tool, faces: Path, place: Path) -> Runs:
    """Returns a run that was killed after an epoch, beside one that was published."""
    place.mkdir()
    complete = Runs(tool, faces, place, "averaging")
    complete.whole()
    runs = Runs(tool, faces, place, "plateau")
    process = tool.start(*runs.next())
    while not list(runs.runs.glob("*/training_state.npz")):
        time.sleep(0.01)
    process.kill()
    process.join()
    shutil.copytree(complete.publish, runs.publish, dirs_exist_ok=True)
    return runs


if __name__ == "__main__":
    sys.exit(main())
