"""Writing a data folder whole or not at all.

A folder is written beside the one it is for, and takes its place by renaming.
What a killed import leaves is a hidden folder there; the next one removes it, or
ends the renaming where that had begun. Between two of the renamings `train/` is
missing, so old and new images are never taken for one set.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotion_cnn.data.near_duplicates import AUDIT_FILE
from emotion_cnn.data.votes import VOTES_NAME
from emotion_cnn.errors import DataError

DATASET_NAME = "dataset.json"
PARTS = ("train", "test")

_LEAVING = ("train", "test", DATASET_NAME, VOTES_NAME, AUDIT_FILE)
"""What an import replaces, in this order; it arrives in the opposite one."""


@contextmanager
def data_folder(data: Path, *, replace: bool) -> Iterator[Path]:
    """Yields a folder whose contents become those of a data folder, or do not.

    What lies directly in `train/` and `test/`, such as a README, stays, and so
    does everything else in the data folder.

    Args:
        data: The data folder; created if there is none.
        replace: Whether images, and what was recorded of them, may go.

    Yields:
        An empty folder on the same file system. What the block leaves in it,
        `train/`, `test/` and files, takes its place when the block ends well.

    Raises:
        DataError: There are images already, another import is writing there,
            or the folder cannot be written.
    """
    data = data.resolve()
    with write_errors(data):
        place = _staging_place(data)
        staged, complete = (
            place / f".{data.name}.{word}" for word in ("preparing", "prepared")
        )
        lock = _claim(staged, data)
    try:
        with write_errors(data):
            if complete.is_dir():
                _take_place(complete, data)
            if not replace:
                _refuse_occupied(data)
            # The lock stays in `staged` until all the renaming is done.
            work = staged / "import"
            new = work / "new"
            new.mkdir(parents=True)
            yield new
            _carry_over(data, new)
            work.replace(complete)
            _take_place(complete, data)
    finally:
        if sys.platform == "win32":  # An open file cannot be removed there.
            os.close(lock)
            shutil.rmtree(staged, ignore_errors=True)
        else:
            shutil.rmtree(staged, ignore_errors=True)
            os.close(lock)


def _staging_place(data: Path) -> Path:
    """Returns the folder beside the data, or the data folder if that will not do.

    A mounted data folder is on another file system than what is beside it.
    """
    place = data.parent
    place.mkdir(parents=True, exist_ok=True)
    if data.is_dir() and (
        data.stat().st_dev != place.stat().st_dev or not os.access(place, os.W_OK)
    ):
        return data
    return place


def _refuse_occupied(data: Path) -> None:
    """Makes sure that nothing is replaced which someone may want to keep."""
    for name in _LEAVING:
        path = data / name
        folders = [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
        holds = [file for folder in folders for file in _first_file(folder)]
        if holds or path.is_file():
            found = holds[0] if holds else path
            raise DataError(
                f"Expected a data folder without images, found {found}. Choose "
                "another with --data, or replace the images in its train/ and test/ "
                f"(and its {DATASET_NAME}, {VOTES_NAME} and {AUDIT_FILE}) with "
                "--replace."
            )


def _first_file(folder: Path) -> list[Path]:
    for place, _, files in os.walk(folder):
        if files:
            return [Path(place, min(files))]
    return []


def _claim(staged: Path, data: Path) -> int:
    """Creates the folder to write in, and locks it while this process lives.

    Returns:
        What to close when it is done with.

    Raises:
        DataError: Another process is writing in it.
    """
    staged.mkdir(exist_ok=True)
    lock = os.open(staged / "lock", os.O_CREAT | os.O_RDWR)
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another import that has just ended may have removed this very file.
            if not os.path.samestat(os.fstat(lock), (staged / "lock").stat()):
                raise BlockingIOError
        except OSError:
            os.close(lock)
            raise DataError(
                f"Expected to be alone, but another --mode prepare is writing to "
                f"{data}. Wait for it to end."
            ) from None
    for left in staged.iterdir():  # by an import that was killed
        if left.is_dir():
            shutil.rmtree(left)
    return lock


def _carry_over(data: Path, new: Path) -> None:
    """Copies the files directly in `train/` and `test/` to their successors."""
    for part in PARTS:
        if (data / part).is_dir():
            for path in (data / part).iterdir():
                if path.is_file():
                    shutil.copy2(path, new / part / path.name)


def _take_place(complete: Path, data: Path) -> None:
    """Exchanges old for new; begins where a killed import ended.

    First everything old leaves, `train/` before all else; when `old` has its name
    that is done. Then the new arrives, `train/` after all else.
    """
    new, leaving, old = (complete / name for name in ("new", "leaving", "old"))
    if not data.exists():
        data.mkdir(parents=True)
        # In a clone, other people's images must never be committed.
        (data / ".gitignore").write_text("*\n", encoding="utf-8")
    if not old.exists():
        leaving.mkdir(exist_ok=True)
        try:
            for name in _LEAVING:
                if os.path.lexists(data / name):
                    (data / name).rename(leaving / name)
        except OSError:
            for path in leaving.iterdir():
                path.rename(data / path.name)
            shutil.rmtree(complete)
            raise
        leaving.rename(old)
    for name in reversed(_LEAVING):
        if (new / name).exists():
            (new / name).rename(data / name)
    shutil.rmtree(complete, ignore_errors=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns what a full or locked disk refuses into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Writing {path} failed: {error.strerror or error}. Nothing in it has "
            "changed. Make room, or choose another place."
        ) from error
