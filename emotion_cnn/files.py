"""Writing files whole or not at all, and creating folders for results."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.errors import RunError

if TYPE_CHECKING:
    # Modes that draw nothing start seconds sooner without it.
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Writes a file so that it is either the old one whole or the new one whole.

    Args:
        path: File to write or replace.

    Yields:
        A path in the same folder to write to. It takes the place of `path`
        when the block ends well, and is removed when it does not.
    """
    # Keras and Matplotlib take the format from the suffix, so it stays last.
    temporary = path.with_name(f".writing-{path.name}")
    try:
        yield temporary
        force_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        # A full disk names no file, and nobody knows the temporary one.
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Returns once a file would outlast a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all."""
    with replacing(path) as temporary:
        # A path may be in no known encoding.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_figure(path: Path, figure: "Figure") -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file, whole or not at all."""
    with (
        replacing(path) as temporary,
        # A file name may be in no known encoding.
        temporary.open(
            "w", newline="", encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def create_folder(parent: Path, name: str, *, setting: str) -> Path:
    """Creates a folder that did not exist before, and its parents.

    Args:
        parent: Folder to create it in.
        name: Its name; `-2`, `-3`, ... follow where it is taken.
        setting: The setting that chooses `parent`, for the message.

    Raises:
        RunError: It cannot be created there.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path, count = parent / name, 1
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                count += 1
                path = parent / f"{name}-{count}"
            else:
                return path
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {parent} cannot be used: "
            f"{error.strerror}. Choose another with `{setting}`."
        ) from error


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[Path]:
    """Yields a new folder for results, and removes it if the block leaves it empty."""
    try:
        yield folder
    finally:
        with suppress(OSError):  # There are results in it.
            folder.rmdir()


def open_output(path: Path) -> Path:
    """Returns a folder that the user has named for results, created if need be.

    Raises:
        RunError: It holds something already, which results must not mix with, or
            cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {path} cannot be used: "
            f"{error.strerror}. Choose another with `output`."
        ) from error
    if taken:
        raise RunError(
            f"Expected an empty or new folder for results, but {path} holds something "
            "already. Choose another with `output`, or empty it."
        )
    return path


def first_line(error: BaseException) -> str:
    """Returns the message of an error, short enough for one line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else line[:200] + " ..."


def shown(text: str) -> str:
    """Returns a file's name or an error's text on one line, safe for a terminal."""
    return text if text.isprintable() else ascii(text)
