"""Publishing a network: killed anywhere, beside readers and publishers, onto links.

Needs `os.fork`, and neither Keras nor a network: weights are any bytes here.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.faults import Tally
from emotion_cnn.errors import FolderError, ModelError
from emotion_cnn.files import LOCK_NAME, locked, write_json
from emotion_cnn.models.pair_files import (
    DESCRIPTION_KEY,
    DIGEST_KEY,
    MODEL_NAME,
    WEIGHTS_NAME,
    hidden_weights,
    open_pair,
    publish,
)

WHOLE = sorted([MODEL_NAME, WEIGHTS_NAME])
NOTHING = "nothing"
SECONDS = 30
VICTIM = b"precious"
_WEIGHTS = {name: 10_000 * name.encode() for name in "ABC"}
_NAMES = {hashlib.sha256(content).hexdigest(): n for n, content in _WEIGHTS.items()}


def remove_digest(folder: Path) -> None:
    """Makes a pair one of those whose files can be changed one by one."""
    path = folder / MODEL_NAME
    architecture = json.loads(path.read_text())
    del architecture[DESCRIPTION_KEY][DIGEST_KEY]
    write_json(path, architecture)


def publish_named(folder: Path, name: str) -> None:
    """Publishes a pair that `pair_in` knows again."""
    publish(folder, {DESCRIPTION_KEY: {"name": name}}, _WEIGHTS[name])


def pair_in(folder: Path) -> str:
    """Returns the name of the pair that a reader finds, or what is wrong."""
    try:
        with open_pair(folder) as files:
            weights = _NAMES[
                hashlib.sha256(files.read_weights(megabytes=1)).hexdigest()
            ]
            name = files.architecture[DESCRIPTION_KEY]["name"]
    except ModelError as error:
        return NOTHING if f"found no {MODEL_NAME}" in str(error) else str(error)
    return name if name == weights else f"{MODEL_NAME} of {name}, weights of {weights}"


def names_in(folder: Path) -> list[str]:
    """Returns what is in a folder, but for the lock, which stays."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME)


def in_a_process(work: Callable[[], object]) -> int:
    """Starts work in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    """Waits until a process ends; returns its exit code, below 0 for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(operation: int, folder: Path) -> None:
    """Kills this process before its n-th operation on files of a folder, from 1."""
    before = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal before
        if event not in ("open", "os.rename", "os.remove", "os.truncate", "os.chmod"):
            return
        if str(arguments[0]).startswith(str(folder)):
            before += 1
            if before == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _killed(folder: Path, name: str, operation: int) -> bool:
    """Publishes, and returns whether the process was killed before the end."""

    def work() -> None:
        kill_at(operation, folder)
        publish_named(folder, name)

    code = exit_code(in_a_process(work))
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"publishing ended with {code}")
    return code != 0


def _read_only(folder: Path) -> str:
    """Returns what a reader finds, or that it has written something."""
    before = names_in(folder)
    found = pair_in(folder)
    return found if names_in(folder) == before else "a reader has written"


def killed_once(place: Path, first: str) -> tuple[Tally, list[int]]:
    """Publishes over a pair, killed before every operation; then publishes another.

    Returns:
        What was found, and the operations there are.
    """
    tally = Tally(f"Publishing over {first}, killed")
    operation, decided = 0, False
    while True:
        operation += 1
        with _folder(place, first) as folder:
            ended = not _killed(folder, "B", operation)
            found = _read_only(folder)
            decided = decided or found == "B"
            publish_named(folder, "C")
            expected = "B" if decided else first
            if (found, pair_in(folder), names_in(folder)) == (expected, "C", WHOLE):
                tally.held()
            else:
                tally.failed(f"operation {operation}: {found}, {names_in(folder)}")
        if ended:
            break
    if not decided:
        tally.failed("the new pair was never seen")
    return tally, list(range(1, operation))


def _killed_twice(place: Path, operations: list[int], cases: int, seed: int) -> Tally:
    tally = Tally("Publishing, killed, published, killed")
    last = operations[-1]
    both = list(itertools.product(operations, [*operations, last + 1, last + 2]))
    random.Random(seed).shuffle(both)  # noqa: S311
    for first, second in both[:cases]:
        with _folder(place, "A") as folder:
            _killed(folder, "B", first)
            before = _read_only(folder)
            _killed(folder, "C", second)
            found = _read_only(folder)
            publish_named(folder, "A")
            if found in (before, "C") and names_in(folder) == WHOLE:
                tally.held()
            else:
                tally.failed(f"operations {first}, {second}: {before}, {found}")
    return tally


def _beside(place: Path, publishers: int, times: int, old: bool = False) -> Tally:
    """Reads as long as others publish, over pairs without a SHA-256 if they are old."""
    over = ", over old pairs" if old else ""
    tally = Tally(f"Reading beside {publishers} publisher(s){over}")
    with _folder(place, "A") as folder:

        def work() -> None:
            for number in range(times):
                # On a busy machine, waiting for the other one may take too long.
                with suppress(FolderError):
                    publish_named(folder, "ABC"[number % 3])
                if old:
                    remove_digest(folder)

        left = {in_a_process(work) for _ in range(publishers)}
        while left:
            found = pair_in(folder)
            if found in _WEIGHTS:
                tally.held()
            else:
                tally.failed(found)
            ended, status = os.waitpid(-1, os.WNOHANG)
            left.discard(ended)
            if ended and status:
                tally.failed("a publisher failed")
        if names_in(folder) != WHOLE:
            tally.failed(f"left: {names_in(folder)}")
    return tally


@contextmanager
def _folder(place: Path, pair: str) -> Iterator[Path]:
    folder = place / "folder"
    folder.mkdir()
    if pair != NOTHING:
        publish_named(folder, pair)
    yield folder
    shutil.rmtree(folder)


# --- What a stranger plants ---


def _hidden(name: str) -> Callable[[Path], Path]:
    digest = hashlib.sha256(_WEIGHTS[name]).hexdigest()
    return lambda folder: hidden_weights(folder, digest)


def _write(path: Path) -> None:
    path.write_bytes(VICTIM)


PLACES: Mapping[str, Callable[[Path], Path]] = {
    "model.json": lambda folder: folder / MODEL_NAME,
    "the weights": lambda folder: folder / WEIGHTS_NAME,
    "the hidden weights": _hidden("A"),
    "the new hidden weights": _hidden("B"),
    "other hidden weights": lambda folder: (
        folder / ".model_weights-0123456789abcdef.h5"
    ),
    "a temporary file": lambda folder: folder / f".writing-{16 * '0'}-{MODEL_NAME}",
    "the lock": lambda folder: folder / LOCK_NAME,
    "the former staging folder": lambda folder: folder / ".pair-complete",
}
THINGS: Mapping[str, Callable[[Path, Path], None]] = {
    "a link to a file": lambda path, victim: path.symlink_to(victim / "file"),
    "a link to a folder": lambda path, victim: path.symlink_to(victim),
    "a link to nothing": lambda path, victim: path.symlink_to(victim / "none"),
    "a hard link": lambda path, victim: path.hardlink_to(victim / "file"),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a folder": lambda path, victim: (path / MODEL_NAME).mkdir(parents=True),
    "a file": lambda path, victim: _write(path),
}


def _planted(place: Path) -> Tally:
    """Reads and publishes where something else has the name of a file of ours."""
    tally = Tally("Publishing onto links, pipes and folders")
    for where, path_in in PLACES.items():
        for what, plant in THINGS.items():
            with _folder(place, "A") as folder:
                victim = place / "victim"
                victim.mkdir()
                (victim / "file").write_bytes(VICTIM)
                path = path_in(folder)
                path.unlink(missing_ok=True)
                plant(path, victim)

                def work(folder: Path = folder) -> None:
                    signal.alarm(SECONDS)
                    pair_in(folder)
                    try:
                        publish_named(folder, "B")
                    except (OSError, FolderError):
                        return
                    if pair_in(folder) != "B":
                        raise ValueError("not published")

                code = exit_code(in_a_process(work))
                kept = {p.name: p.read_bytes() for p in victim.iterdir()}
                if code == 0 and kept == {"file": VICTIM}:
                    tally.held()
                else:
                    tally.failed(f"{what} for {where}: exit {code}, left {kept}")
                shutil.rmtree(victim)
    return tally


DIGESTS: list[Any] = [
    *("", "../../../../etc/passwd", 64 * "/", 63 * "0", 65 * "0", 64 * "A"),
    *(64 * "0", 64 * "\0", 64 * "\uff10", 5, 1.5, True, [], [64 * "0"], {}, {"a": 1}),
]


def _digests(place: Path) -> Tally:
    """Reads pairs whose model.json names what are not their weights."""
    tally = Tally("Pairs with another SHA-256")
    for digest in DIGESTS:
        with _folder(place, "A") as folder:
            architecture = json.loads((folder / MODEL_NAME).read_text())
            architecture[DESCRIPTION_KEY][DIGEST_KEY] = digest
            (folder / MODEL_NAME).write_text(json.dumps(architecture))
            found = _read_only(folder)
            if found.startswith("Expected") and DIGEST_KEY in found:
                tally.held()
            else:
                tally.failed(f"{digest!r}: {found}")
    return tally


def _locks(place: Path, times: int) -> Tally:
    """Locks a folder in processes that are killed meanwhile; counts who is inside."""
    tally = Tally("Locking, three processes, some killed")
    folder = place / "locked"
    folder.mkdir()
    inside = place / "inside"
    for number in range(times):

        def work(number: int = number) -> None:
            with locked(folder, "a test", seconds=SECONDS):
                inside.mkdir()  # Fails where somebody else is inside.
                if number % 3 == 0:
                    inside.rmdir()
                    os.kill(os.getpid(), signal.SIGKILL)
                inside.rmdir()

        for code in [exit_code(child) for child in [in_a_process(work) for _ in "123"]]:
            if code in (0, -signal.SIGKILL):
                tally.held()
            else:
                tally.failed(f"round {number}: two were inside")
    return tally


def main() -> int:
    """Tries all of it; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--cases", type=int, default=1000, help="publications beside readers; kills"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the kills drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        # The import is no operation on the folder.
        with locked(place, "a test"):
            pass
        once, operations = killed_once(place, "A")
        tallies = [
            killed_once(place, NOTHING)[0],
            once,
            _killed_twice(place, operations, options.cases, options.seed),
            _beside(place, 1, options.cases),
            _beside(place, 2, options.cases // 2),
            _beside(place, 1, options.cases, old=True),
            _planted(place),
            _digests(place),
            _locks(place, max(3, options.cases // 20)),
        ]
    return 1 if sum(tally.finish() for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
