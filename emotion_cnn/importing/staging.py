"""Writing a data folder, or a table, completely or not at all.

A new data set is written to a hidden working folder in the data folder, and takes its
place by renaming. How far an import has come is in the name of its working folder,
which only renaming changes, so that every moment is of one phase:

- `writing`: nothing has changed; what is in it is not yet whole.
- `clearing`: the new data set is whole in it, and the old one is moved into it.
- `filling`: the old data set is whole in it, and the new one is moved out of it.
- `removing`: the new data set is in its place, and the rest may go.

The next import removes or completes what a killed one has left. It touches only a
working folder whose name ends with its own inode number: nobody can know that number
before the folder exists, so no archive and no copy can hold such a folder. Readers
refuse a data folder in which one is clearing or filling (`data/listing.py`).
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from emotion_cnn.data.groups import GROUPS_NAME
from emotion_cnn.data.listing import HALF_REPLACED, WORKING_PREFIX
from emotion_cnn.data.near_duplicates import AUDIT_FILE
from emotion_cnn.data.packed import PACKED_NAMES, is_packed
from emotion_cnn.data.votes import VOTES_NAME
from emotion_cnn.errors import DataError
from emotion_cnn.files import (
    LOCK_NAME,
    first_line,
    locked,
    make_folder,
    replacing,
    shown,
)
from emotion_cnn.importing.data_folder import DATASET_NAME, PARTS

_REPLACED = (
    *(*PARTS, *PACKED_NAMES),
    *(DATASET_NAME, VOTES_NAME, GROUPS_NAME, AUDIT_FILE),
)
"""What an import replaces; packed files only where all that make such a folder are."""

_PLACED = (*_REPLACED, ".gitignore")
"""What an import may bring; the last only where there was nothing before."""

_HINTS = {
    errno.ENOSPC: "Free some space, or choose",
    errno.ENOENT: "Create its folder, or choose",
}
_WRITING, _REMOVING = f"{WORKING_PREFIX}writing-", f"{WORKING_PREFIX}removing-"
_CLEARING, _FILLING = HALF_REPLACED


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
        DataError: There are images already, it holds what only looks like the
            working folder of an import, or it cannot be written.
        FolderError: Another import is writing to it.
    """
    data = Path(os.path.realpath(data))
    with ExitStack() as stack:
        stack.enter_context(_write_errors(data))
        is_created = not data.exists()
        make_folder(data)
        stack.enter_context(locked(data, "an import"))
        if is_created:
            stack.callback(_remove_if_empty, data)
        _recover(data)
        if not replace:
            _refuse_occupied(data)
        try:
            work = _create_work(data)
            yield work / "new"
            _require_free(data, work / "new")
            _carry_over(data, work / "new")
            _take_place(_enter(work, _CLEARING), data)
        finally:
            # After Ctrl-C while folders are renamed, this completes the renaming.
            with suppress(OSError, DataError):
                _recover(data)


def _remove_if_empty(data: Path) -> None:
    """Removes a data folder that an import has created, if it has failed."""
    if _is_new(data):
        with suppress(OSError):
            # While it is locked: nobody else is at work in it.
            (data / LOCK_NAME).unlink()
            data.rmdir()


def _is_new(data: Path) -> bool:
    return {path.name for path in data.iterdir()} <= {LOCK_NAME}


def _create_work(data: Path) -> Path:
    """Returns a new working folder, in which `new` and `old` are."""
    is_new = _is_new(data)
    work = data / f"{WORKING_PREFIX}{secrets.token_hex(8)}"
    work.mkdir()
    work = _enter(work, _WRITING)
    (work / "new").mkdir()
    (work / "old").mkdir()
    # Inside a clone, other people's images must never be committed.
    for folder in (work, work / "new") if is_new else (work,):
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return work


def _enter(work: Path, phase: str) -> Path:
    """Renames a working folder to its name in a phase."""
    inode = work.lstat().st_ino
    return work.rename(work.with_name(f"{phase}{secrets.token_hex(8)}-{inode}"))


def _recover(data: Path) -> None:
    """Removes or completes what imports have left that were stopped.

    Raises:
        DataError: Something has the name of a working folder and is none, or has
            come to the data folder since.
    """
    found = [path for path in data.iterdir() if path.name.startswith(WORKING_PREFIX)]
    for work in found:
        if not _is_own(work) and not _is_empty_folder(work):
            raise DataError(
                f"Expected no other working folder in {shown(str(data))}, found "
                f"{shown(work.name)}, which no import into this folder has made. If "
                "it was copied with an unfinished import, `new` in it holds the new "
                "data set, and `old` the one before. Move it away."
            )
    for work in found:
        if not _is_own(work):
            work.rmdir()
        elif work.name.startswith(HALF_REPLACED):
            _take_place(work, data)
        else:
            shutil.rmtree(work)


def _is_own(work: Path) -> bool:
    """Returns whether an import has made and named this very folder."""
    inode = work.name.rpartition("-")[2]
    return inode == str(work.lstat().st_ino) and not work.is_symlink()


def _is_empty_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir() and not any(path.iterdir())


def _refuse_occupied(data: Path) -> None:
    """Raises a `DataError` if there is anything to replace."""
    for name in _names_to_replace(data):
        path = data / name
        folders = [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
        holds = [file for folder in folders for file in _first_file(folder)]
        if holds or path.is_file():
            found = holds[0] if holds else path
            raise DataError(
                f"Expected a data folder without images, found {shown(str(found))}. "
                "Choose another with `data`, or replace the images in its train/ and "
                f"test/ (and its {DATASET_NAME}, {VOTES_NAME}, {GROUPS_NAME}, "
                f"{AUDIT_FILE} and packed images) with `replace=True`."
            )


def _names_to_replace(data: Path, *moved: Path) -> tuple[str, ...]:
    """Returns what of a data folder an import replaces.

    An `images.csv` by itself is somebody's own, such as a list of labels.

    Args:
        data: The data folder.
        *moved: Where some of it may be already.
    """
    started = any(
        os.path.lexists(folder / name) for folder in moved for name in PACKED_NAMES
    )
    if started or is_packed(data):
        return _REPLACED
    return tuple(name for name in _REPLACED if name not in PACKED_NAMES)


def _require_free(data: Path, new: Path) -> None:
    """Raises a `DataError` if something else has the name of a new packed file."""
    for name in sorted(set(PACKED_NAMES).difference(_names_to_replace(data))):
        if os.path.lexists(data / name) and os.path.lexists(new / name):
            raise DataError(
                f"Expected no {name} of another kind in a folder for packed images, "
                f"found {shown(str(data / name))}. Move it away, or choose another "
                "folder with `data`."
            )


def _first_file(folder: Path) -> list[Path]:
    for place, _, files in os.walk(folder):
        if files:
            return [Path(place, min(files))]
    return []


def _carry_over(data: Path, new: Path) -> None:
    """Copies the files directly in `train/` and `test/` to their successors."""
    for part in PARTS:
        if (data / part).is_dir():
            for path in (data / part).iterdir():
                if path.is_symlink() or path.is_file():
                    # Packed images need no such folder.
                    (new / part).mkdir(exist_ok=True)
                    # What a link points to is not part of the data folder.
                    shutil.copy2(path, new / part / path.name, follow_symlinks=False)


def _take_place(work: Path, data: Path) -> None:
    """Replaces old by new, from the phase on that a working folder is in."""
    if work.name.startswith(_CLEARING):
        _require_one(data, work / "old", _REPLACED)
        try:
            for name in _names_to_replace(data, work / "old"):
                if os.path.lexists(data / name):
                    (data / name).rename(work / "old" / name)
        except OSError:
            # Such as for a file system that is mounted at test/.
            for path in (work / "old").iterdir():
                path.rename(data / path.name)
            shutil.rmtree(_enter(work, _REMOVING))
            raise
        work = _enter(work, _FILLING)
    _require_one(data, work / "new", _PLACED)
    try:
        for name in reversed(_PLACED):
            if os.path.lexists(work / "new" / name):
                (work / "new" / name).rename(data / name)
    except OSError as error:
        raise DataError(
            f"Writing {shown(str(data))} failed: {first_line(error)}. The new "
            f"data set is whole in {shown(work.name)}, but not yet in its place. Fix "
            "this, and run `emotion-cnn prepare` on the folder again."
        ) from error
    shutil.rmtree(_enter(work, _REMOVING), ignore_errors=True)


def _require_one(data: Path, holder: Path, names: Iterable[str]) -> None:
    """Raises a `DataError` if something has come to where an import was stopped."""
    for name in names:
        if os.path.lexists(data / name) and os.path.lexists(holder / name):
            raise DataError(
                f"An import into {shown(str(data))} was stopped while it replaced the "
                f"data set, and {shown(str(data / name))} has come since. Move that "
                "away, and run `emotion-cnn prepare` on the folder again."
            )


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turns the errors of a full or read-only disk into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Writing {shown(str(path))} failed: {first_line(error)}. This "
            f"import has replaced nothing. {_HINTS.get(error.errno or 0, 'Choose')} "
            "another place."
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
    if os.path.lexists(path) and not replace:
        raise DataError(
            f"Expected a new file in `export`, but {shown(str(path))} exists. Choose "
            "another name, or replace it with `replace=True`."
        )
    with (
        _write_errors(path),
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file
