"""Writing files whole or not at all, reading them within bounds, creating folders."""

import csv
import errno
import json
import logging
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from emotion_cnn.errors import FolderError, RunError

if TYPE_CHECKING:
    # Modes that draw nothing start seconds sooner without it.
    from matplotlib.figure import Figure


_log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".writing-"
"""What the name of a file begins with that a killed command left half written."""
_TEMPORARY_NAME = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]{{16}}-(.+)")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Writes a file so that it is either the old one whole or the new one whole.

    A link at `path` is replaced, and what it points to stays as it is.

    Args:
        path: File to write or replace.

    Yields:
        The path of a new, empty file in the same folder to write to. It takes the
        place of `path` when the block ends well, and is removed when it does not.
    """
    # Nobody can have put a link there: the name cannot be known, and has to be free.
    # Keras and Matplotlib take the format from the suffix, so it stays last.
    name = f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}-{path.name}"
    temporary = path.with_name(name)
    try:
        temporary.touch(exist_ok=False)
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


def remove_half_written(folder: Path, names: re.Pattern[str]) -> None:
    """Removes the temporary files of `replacing` that killed commands have left.

    Nobody else may write files of these names there at the same time.

    Args:
        folder: Their folder.
        names: Pattern of the names of the files that were to be written.
    """
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        match = _TEMPORARY_NAME.fullmatch(path.name)
        if match and names.fullmatch(match[1]) and is_plain_file(path):
            path.unlink()


def is_plain_file(path: Path) -> bool:
    """Returns whether a path is a regular file, and no link to one."""
    return stat.S_ISREG(path.lstat().st_mode)


def force_to_disk(path: Path) -> None:
    """Returns once a file would outlast a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def folder_to_disk(folder: Path) -> None:
    """Returns once new names in a folder would outlast a power cut, where that can be.

    Windows opens no folders, and some file systems refuse.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
    with replacing(path) as temporary, warnings.catch_warnings():
        # The names of classes may be in letters that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, dpi=120, format="png")


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    errors: str = "backslashreplace",
) -> None:
    """Writes a CSV file, whole or not at all.

    Args:
        path: File to write or replace.
        header: The names of the columns.
        rows: The cells of each row.
        errors: What becomes of characters that are none in UTF-8: a file name may be in
            no known encoding.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=errors) as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


LOCK_NAME = ".emotion-cnn.lock"
"""The hidden, empty file of `locked`."""


@contextmanager
def locked(folder: Path, what: str, *, seconds: float = 0) -> Iterator[None]:
    """Keeps other commands of this tool out of a folder while the block runs.

    The lock is on a hidden file. It ends with the process, however that ends; the file
    stays, and does no harm. On a file system without locks this is said, and the block
    runs all the same: nothing there can tell a command at work from a killed one.

    Args:
        folder: Existing folder.
        what: What the folder is locked for, for the message.
        seconds: How long to wait for another command to end.

    Raises:
        FolderError: Another command is at work there, the folder cannot be written to,
            or something else has the name of the hidden file.
    """
    # Not at the top: what asks for help alone need not wait for it.
    from filelock import FileLock, Timeout

    path = folder / LOCK_NAME
    try:
        if not folder.is_dir():  # filelock would create it.
            raise ValueError("there is no such folder")
        # A stranger's folder may hold a link, which filelock refuses too, or a file
        # with something in it, which it would empty.
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size:
                raise ValueError(f"{LOCK_NAME} in it is no lock of this tool")
        lock = FileLock(path, timeout=seconds) if _has_locks(folder) else None
        if lock:
            lock.acquire()
    except Timeout:
        raise FolderError(
            f"Expected no other command at work in {shown(str(folder))}, which is "
            f"needed for {what}, but one is. Wait until it ends."
        ) from None
    except (OSError, ValueError, NotImplementedError) as error:
        reason = first_line(error)
        kind = "written to" if isinstance(error, OSError) else f"locked for {what}"
        raise FolderError(
            f"Expected a folder that can be {kind}, but {shown(str(folder))} cannot: "
            f"{reason}. Fix it, or choose another."
        ) from error
    if lock is None:
        _log.warning(
            "%s is on a file system without locks: make sure that no other command "
            "uses it meanwhile.",
            shown(str(folder)),
        )
    try:
        yield
    finally:
        if lock:
            lock.release()


def _has_locks(folder: Path) -> bool:
    """Returns whether files in a folder can be locked, as not on every network drive.

    filelock would take what the file system refuses for another process' lock.
    """
    if os.name == "nt":
        return True
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # Nobody else knows this file, so that nobody else can have locked it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


# The latter is Windows', which else translates the ends of lines.
_NEITHER_WAIT_NOR_CHANGE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Opens an existing file for reading that may be a stranger's.

    Args:
        path: The file, or a link to it.

    Yields:
        The file, open for reading bytes.

    Raises:
        ValueError: It is a pipe, a device or a folder: reading could wait for ever.
        OSError: It cannot be opened.
    """
    # Opening a device can already have an effect, and waits at a pipe.
    _check_regular(path.stat())
    with os.fdopen(os.open(path, os.O_RDONLY | _NEITHER_WAIT_NOR_CHANGE), "rb") as file:
        # It may have been replaced since.
        _check_regular(os.fstat(file.fileno()))
        yield file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")


def read_limited(path: Path, *, megabytes: int) -> bytes:
    """Reads a whole file that may be a stranger's.

    Args:
        path: The file.
        megabytes: The most that it may hold.

    Raises:
        ValueError: It is larger, or no regular file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        return read_open(file, megabytes=megabytes)


def read_open(file: IO[bytes], *, megabytes: int) -> bytes:
    """Reads the rest of an open file, as `read_limited` does.

    Raises:
        ValueError: It is larger.
        OSError: It cannot be read.
    """
    content = file.read(megabytes * 1_000_000 + 1)
    if len(content) > megabytes * 1_000_000:
        raise ValueError(f"more than {megabytes} MB")
    return content


def read_json(path: Path, *, megabytes: int) -> Any:
    """Reads a JSON file that may be a stranger's.

    Args:
        path: The file, in UTF-8.
        megabytes: The most that it may hold; parsed, it can take ten times as much.

    Raises:
        ValueError: It is larger, no regular file, no JSON, or nested too deeply.
        OSError: It cannot be read.
    """
    try:
        return json.loads(read_limited(path, megabytes=megabytes))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def make_folder(path: Path) -> None:
    """Creates a folder and its parents where there is none yet.

    Raises:
        OSError: It cannot be created; says so where there is a file.
    """
    if path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file", str(path))
    path.mkdir(parents=True, exist_ok=True)


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
        make_folder(parent)
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
            f"{first_line(error)}. Choose another with `{setting}`."
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
        make_folder(path)
        taken = any(path.iterdir())
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {path} cannot be used: "
            f"{first_line(error)}. Choose another with `output`."
        ) from error
    if taken:
        raise RunError(
            f"Expected an empty or new folder for results, but {path} holds something "
            "already. Choose another with `output`, or empty it."
        )
    return path


def first_line(error: BaseException) -> str:
    """Returns why something failed, short enough for one line.

    Of an error of the system it is that alone: number and path say no more.
    """
    text = str(getattr(error, "strerror", None) or error).strip()
    line = (text or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else line[:200] + " ..."


def shown(text: str) -> str:
    """Returns a file's name or an error's text on one line, safe for a terminal."""
    return text if text.isprintable() else ascii(text)
