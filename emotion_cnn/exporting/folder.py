"""The folder that exported files go to: good files replace good files, or stay away.

What is in it is known by its `parity.json`; all else is left alone.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emotion_cnn.errors import FolderError
from emotion_cnn.files import (
    first_line,
    folder_to_disk,
    force_to_disk,
    locked,
    make_folder,
    read_json,
    shown,
)

PARITY_NAME = "parity.json"
_WORK_NAME = ".exporting"
_FORMER = "former-"
_PARITY_MEGABYTES = 5


@contextmanager
def at_work_in(output: Path) -> Iterator[Path]:
    """Yields an empty hidden folder in a folder that no other command exports to."""
    try:
        make_folder(output)
    except OSError as error:
        raise FolderError(
            f"Expected a folder to write to, but {shown(str(output))} cannot be used: "
            f"{first_line(error)}. Choose another with `output`."
        ) from error
    with locked(output, "exporting"):
        work = output / _WORK_NAME
        # A killed command may have left it.
        if work.is_dir() and not work.is_symlink():
            _remove(work)
        try:
            work.mkdir()
        except FileExistsError as error:
            raise FolderError(
                f"Expected nothing in the way of a folder {shown(str(work))}, found "
                "something else of that name. Remove it, or choose another `output`."
            ) from error
        try:
            yield work
        finally:
            _remove(work)


def _remove(work: Path) -> None:
    """Removes a working folder; what was moved aside and not replaced goes back."""
    for former in work.glob(f"{_FORMER}*"):
        place = work.parent / former.name.removeprefix(_FORMER)
        if not os.path.lexists(place):
            former.rename(place)
    shutil.rmtree(work)


def read_known(output: Path, names: Iterable[str]) -> dict[str, Any]:
    """Returns what `parity.json` says, if nothing else has a name that is needed."""
    path = output / PARITY_NAME
    known: Any = {}
    try:
        if os.path.lexists(path):
            known = read_json(path, megabytes=_PARITY_MEGABYTES)
        if not isinstance(known, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise FolderError(
            f"Expected {shown(str(path))} to be what an export wrote, found that it is "
            f"not: {first_line(error)}. Remove it, or choose another `output`."
        ) from error
    for name in names:
        if name not in known and os.path.lexists(output / name):
            raise FolderError(
                f"Expected to replace nothing but exported files, found "
                f"{shown(str(output / name))}, which {PARITY_NAME} beside it says "
                "nothing of. Move it away, or choose another `output`."
            )
    return known


def put(written: Path, place: Path) -> None:
    """Moves a file or folder from the working folder to its place."""
    for file in files_in(written):
        force_to_disk(file)
    if written.is_file():
        written.replace(place)
    else:
        # No system exchanges folders at once. Whatever happens between the two steps,
        # the old one goes back when the working folder is removed.
        if os.path.lexists(place):
            place.rename(written.with_name(f"{_FORMER}{place.name}"))
        written.rename(place)
    folder_to_disk(place.parent)


def files_in(path: Path) -> list[Path]:
    """Returns a file, or the files in a folder, in the order of their names."""
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file())
