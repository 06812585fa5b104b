"""Writing a data folder, or a table, completely or not at all.

A new folder is written beside the old one, and takes its place by renaming. What a
killed import leaves is a hidden folder; the next import removes it, or completes
the renaming if that had begun. Between two of the renamings `train/` is missing,
so that old and new images are never read as one data set.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emotion_cnn.data.near_duplicates import AUDIT_FILE
from emotion_cnn.data.votes import VOTES_NAME
from emotion_cnn.errors import DataError
from emotion_cnn.files import replacing
from emotion_cnn.importing.data_folder import DATASET_NAME, PARTS

_REPLACED = (*PARTS, DATASET_NAME, VOTES_NAME, AUDIT_FILE)
"""What an import replaces: removed in this order, renamed in the reverse order."""


@contextmanager
def staged_folder(data: Path, *, replace: bool) -> Iterator[Path]:
    """Yields a folder whose contents then replace those of a data folder.

    Files directly in `train/` and `test/`, such as a README, stay, and so does
    everything else in the data folder.

    Args:
        data: The data folder; created if it does not exist.
        replace: Whether to replace images, and the records of them.

    Yields:
        An empty folder on the same file system, for `train/`, `test/` and files.
        They are moved into the data folder if the block raises nothing.

    Raises:
        DataError: There are images already, another import is writing to the
            folder, or it cannot be written.
    """
    data = data.resolve()
    with _write_errors(data):
        place = _staging_place(data)
        staged, complete = (
            place / f".{data.name}.{word}" for word in ("preparing", "prepared")
        )
        lock = _claim(staged, data)
    try:
        with _write_errors(data):
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
    """Returns the folder to write in: the parent, or else the data folder itself.

    A mounted data folder is on another file system than its parent.
    """
    place = data.parent
    place.mkdir(parents=True, exist_ok=True)
    if data.is_dir() and (
        data.stat().st_dev != place.stat().st_dev or not os.access(place, os.W_OK)
    ):
        return data
    return place


def _refuse_occupied(data: Path) -> None:
    """Raises a `DataError` if there is anything to replace."""
    for name in _REPLACED:
        path = data / name
        folders = [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
        holds = [file for folder in folders for file in _first_file(folder)]
        if holds or path.is_file():
            found = holds[0] if holds else path
            raise DataError(
                f"Expected a data folder without images, found {found}. Choose "
                "another with `data`, or replace the images in its train/ and test/ "
                f"(and its {DATASET_NAME}, {VOTES_NAME} and {AUDIT_FILE}) with "
                "`replace=True`."
            )


def _first_file(folder: Path) -> list[Path]:
    for place, _, files in os.walk(folder):
        if files:
            return [Path(place, min(files))]
    return []


def _claim(staged: Path, data: Path) -> int:
    """Creates the folder to write in, and locks it while this process lives.

    Returns:
        The file descriptor that holds the lock; closing it releases the lock.

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
                f"Expected no other import into {data}, but another emotion-cnn "
                "prepare is writing to it. Wait until it ends."
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
    """Replaces old by new; continues where a killed import ended.

    First everything old is moved away, `train/` before all else; a folder `old`
    marks the end of that. Then everything new is moved in, `train/` after all else.
    """
    new, removed, old = (complete / name for name in ("new", "removed", "old"))
    if not data.exists():
        data.mkdir(parents=True)
        # Inside a clone, other people's images must never be committed.
        (data / ".gitignore").write_text("*\n", encoding="utf-8")
    if not old.exists():
        removed.mkdir(exist_ok=True)
        try:
            for name in _REPLACED:
                if os.path.lexists(data / name):
                    (data / name).rename(removed / name)
        except OSError:
            for path in removed.iterdir():
                path.rename(data / path.name)
            shutil.rmtree(complete)
            raise
        removed.rename(old)
    for name in reversed(_REPLACED):
        if (new / name).exists():
            (new / name).rename(data / name)
    shutil.rmtree(complete, ignore_errors=True)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turns the errors of a full or read-only disk into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Writing {path} failed: {error.strerror or error}. Nothing in it has "
            "changed. Free some space, or choose another place."
        ) from error


@contextmanager
def staged_file(path: Path, *, replace: bool) -> Iterator[IO[str]]:
    """Yields a text file that is moved to its place if the block raises nothing.

    Args:
        path: File to write.
        replace: Whether to replace an existing file.

    Raises:
        DataError: It exists already, or cannot be written.
    """
    if path.exists() and not replace:
        raise DataError(
            f"Expected a new file in `export`, but {path} exists. Choose another name, "
            "or replace it with `replace=True`."
        )
    with (
        _write_errors(path),
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file
