"""Predictions on disk: a table, a line of JSON a photo, and what could not be read.

Every photo is written out before the next, so that whatever ends a command leaves what
it has done. The three files are only ever lengthened.
"""

import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emotion_cnn.errors import RunError
from emotion_cnn.files import (
    LOCK_NAME,
    TEMPORARY_PREFIX,
    folder_to_disk,
    open_regular,
    read_json,
    remove_half_written,
    shown,
    write_csv,
    write_json,
)
from emotion_cnn.tables import class_columns, write_parquet_beside

TABLE_NAME = "predictions.csv"
PARQUET_NAME = "predictions.parquet"
LINES_NAME = "predictions.jsonl"
ERRORS_NAME = "errors.csv"
SETTINGS_NAME = "predict.json"
RESULT_FILES = (TABLE_NAME, SETTINGS_NAME)
"""What a folder holds that has results of predictions."""

SAVED_FOLDERS = ("images", "faces", "videos")
"""The folders beside them with what is saved to be looked at."""

NO_FACE = "no face"
"""What stands for the emotion where there is no face."""

_KIND = "emotion-cnn predictions"
_FORMAT = 1
_PLACE_COLUMNS = ("source", "frame", "seconds", "face")
_BOX_COLUMNS = ("left", "top", "right", "bottom")
_DETECTOR_COLUMNS = ("score", "track")
_DECISION_COLUMNS = ("emotion", "confidence", "unsure")
_TYPES = {
    **{"source": "string", "frame": "int64", "face": "int64", "track": "int64"},
    **{"emotion": "string", "unsure": "bool"},
}
"""Of the columns that are no real numbers, in Parquet."""
ERROR_COLUMNS = ("source", "reason")
_SMOOTHED = "smoothed_"
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheet programs take the rest of for a formula to be computed."""
_LONGEST_LINE = 2**24
"""In bytes, when read again: a photo of 30,000 faces."""


def probability_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of the probabilities, one for each class."""
    others = (*_PLACE_COLUMNS, *_BOX_COLUMNS, *_DETECTOR_COLUMNS, *_DECISION_COLUMNS)
    return class_columns(classes, others, prefixes=(_SMOOTHED,))


@dataclass(frozen=True)
class Layout:
    """How predictions are written: as rows of a table, and as a line of JSON.

    Attributes:
        classes: Names of the classes.
        smoothed: Whether there are columns for probabilities smoothed over time.
    """

    classes: tuple[str, ...]
    smoothed: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        classes = probability_columns(self.classes)
        smoothed = [_SMOOTHED + name for name in classes if self.smoothed]
        return (
            *_PLACE_COLUMNS,
            *_BOX_COLUMNS,
            *_DETECTOR_COLUMNS,
            *classes,
            *_DECISION_COLUMNS,
            *smoothed,
        )

    @property
    def header(self) -> str:
        """The first line of the table."""
        return _csv_text([self.columns])

    def write(
        self,
        source: str,
        faces: Sequence[Mapping[str, Any]],
        *,
        frame: int | None = None,
        seconds: float | None = None,
        smoothed: Sequence[Sequence[float]] | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Returns the faces of a photo, or of a frame of a video, as they are written.

        Args:
            source: Its name.
            faces: What `Face.as_dict` returns, for each; none for no face.
            frame: Number of the frame, from 0; None for a photo.
            seconds: Its time from the start of the video.
            smoothed: Probabilities of each face, smoothed over time.

        Returns:
            The rows of the table, as text, and the line of JSON, as what it holds.
        """
        place = {
            "source": written(source),
            "frame": frame,
            "seconds": None if seconds is None else round(seconds, 4),
        }
        rows, entries = [], []
        for index, face in enumerate(faces):
            values = {"face": index + 1} | {
                name: _rounded(name, value) for name, value in face.items()
            }
            if smoothed is not None:
                names = [_SMOOTHED + name for name in probability_columns(self.classes)]
                each = [round(float(value), 6) for value in smoothed[index]]
                values |= zip(names, each, strict=True)
            rows.append(place | values)
            entries.append(self._entry(values))
        table = rows or [place | {"emotion": NO_FACE}]
        text = _csv_text([[row.get(name) for name in self.columns] for row in table])
        return text, place | {"faces": entries}

    def _entry(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a face as it is in the lines of JSON."""
        box = [values[name] for name in _BOX_COLUMNS]
        entry: dict[str, Any] = {
            "face": values["face"],
            "box": None if box[0] is None else box,
            "score": values["score"],
            "track": values["track"],
            "probabilities": self._by_class(values),
        }
        if self.smoothed:
            entry["smoothed"] = self._by_class(values, _SMOOTHED)
        return entry | {name: values[name] for name in _DECISION_COLUMNS}

    def _by_class(self, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        columns = zip(self.classes, probability_columns(self.classes), strict=True)
        return {name: values.get(prefix + column) for name, column in columns}


class Predictions:
    """The files of a command's predictions, open for more.

    Attributes:
        folder: Where they are.
        classes: Names of the classes.
        done: Names, as `written` returns them, of the sources that an earlier command
            has predicted whole.
        failed: How many lines `errors.csv` has.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        settings: Mapping[str, Any],
        *,
        smoothed: bool = False,
        resume: bool = False,
    ) -> None:
        """Opens the files.

        Args:
            folder: An existing folder, empty but for a lock unless `resume`.
            classes: Names of the classes, which are columns.
            settings: What predictions depend on; `resume` goes on with the same only.
            smoothed: Whether there are columns for probabilities smoothed over time.
            resume: Whether to go on with what is there, if anything is.

        Raises:
            RunError: What is there was predicted otherwise, or is something else.
            OSError: A file cannot be read or written.
        """
        self.folder = folder
        self.done: set[str] = set()
        self.failed = 0
        self.classes = tuple(classes)
        self._layout = Layout(self.classes, smoothed)
        self._record: dict[str, Any] = {
            "kind": _KIND,
            "format": _FORMAT,
            "columns": list(self._layout.columns),
            "settings": dict(settings),
            "finished": False,
        }
        header = self._layout.header.encode()
        ends = (0, 0)
        if not resume:
            self._check_empty()
        before = self._read_record() if resume else None
        if before is not None:
            self._check_without_links()
            self._check_same(before)
            ends = self._find_done(header, finished=before.get("finished") is True)
        if resume:
            self._tidy()
        # First: without it nothing that is there is known as ours.
        write_json(folder / SETTINGS_NAME, self._record)
        self._rewrite_errors()
        self._table = _Growing(folder / TABLE_NAME, ends[0])
        if ends[0] == 0:
            self._table.append(header)
        self._lines = _Growing(folder / LINES_NAME, ends[1])
        errors = folder / ERRORS_NAME
        self._errors = _Growing(errors, errors.stat().st_size)
        folder_to_disk(folder)

    def _check_without_links(self) -> None:
        """Raises a `RunError` where writing on would change what lies elsewhere."""
        for path in self.folder.iterdir():
            status = path.lstat()
            # A file of two names is the other one too.
            is_ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            if not (is_ours or stat.S_ISDIR(status.st_mode)):
                raise RunError(
                    f"Expected files and folders in {shown(str(self.folder))}, found "
                    f"{shown(path.name)}, which is a link, a pipe or a device. Remove "
                    "it, or choose another `output`."
                )

    def _tidy(self) -> None:
        """Removes what a killed command has left half written."""
        for folder in (self.folder, *(self.folder / name for name in SAVED_FOLDERS)):
            names = re.compile(r".+\.(csv|json|parquet|png|jpg|mp4)")
            remove_half_written(folder, names)
        # The table gets longer; this one is of what it was.
        (self.folder / PARQUET_NAME).unlink(missing_ok=True)

    def _check_empty(self) -> None:
        """Raises a `RunError` where there is something.

        The folder was empty when the command began, but another one may have written
        to it since, until this one got the lock.
        """
        if any(path.name != LOCK_NAME for path in self.folder.iterdir()):
            raise RunError(
                f"Expected an empty folder for results, but {shown(str(self.folder))} "
                "holds those of another command by now. Choose another `output`, or go "
                "on there with `resume=True`."
            )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the files."""
        for file in (self._table, self._lines, self._errors):
            file.close()

    def write(
        self,
        source: str,
        faces: Sequence[Mapping[str, Any]],
        *,
        frame: int | None = None,
        seconds: float | None = None,
        smoothed: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Writes the faces of a photo, or of a frame of a video, at once.

        The photos or frames of a source are written one after the other.

        Args:
            source: Its name.
            faces: What `Face.as_dict` returns, for each; none for no face.
            frame: Number of the frame, from 0; None for a photo.
            seconds: Its time from the start of the video.
            smoothed: Probabilities of each face, smoothed over time.

        Raises:
            OSError: They cannot be written; none of them is then.
        """
        table, entry = self._layout.write(
            source, faces, frame=frame, seconds=seconds, smoothed=smoothed
        )
        line = json.dumps(entry, ensure_ascii=False)
        self._lines.append(f"{line}\n".encode())
        try:
            self._table.append(table.encode())
        except BaseException:
            self._lines.take_back()
            raise

    def fail(self, source: str, reason: str) -> None:
        """Writes down why a source could not be read, or not to its end.

        Raises:
            OSError: It cannot be written.
        """
        self._errors.append(_csv_text([(written(source), reason)]).encode())
        self.failed += 1

    def finish(self) -> None:
        """Writes down that all sources have had their turn.

        Raises:
            OSError: It cannot be written.
        """
        write_as_parquet(self.folder, self._layout.columns)
        self._record["finished"] = True
        write_json(self.folder / SETTINGS_NAME, self._record)

    def _read_record(self) -> dict[str, Any] | None:
        """Returns what an earlier command wrote down; None if there was none."""
        path = self.folder / SETTINGS_NAME
        try:
            return read_record(path)
        except FileNotFoundError:
            names = {each.name for each in self.folder.iterdir()} - {LOCK_NAME}
            # A command that is killed at once leaves the one half written.
            if not all(name.startswith(TEMPORARY_PREFIX) for name in names):
                raise RunError(
                    f"Expected predictions of this tool in {shown(str(self.folder))}, "
                    f"found files, but no {SETTINGS_NAME}. Choose another `output`."
                ) from None
            return None
        except ValueError as error:
            raise RunError(
                f"Expected what a command of this tool wrote in {shown(str(path))}; "
                f"found that {error}. Choose another `output`."
            ) from error

    def _check_same(self, before: Mapping[str, Any]) -> None:
        """Checks that predictions that are there are as those to come will be.

        Raises:
            RunError: They are not; names the settings.
        """
        settings = before.get("settings")
        old = settings if isinstance(settings, dict) else {}
        new = self._record["settings"]
        changed = [name for name in new if old.get(name) != new[name]]
        if changed or before.get("columns") != self._record["columns"]:
            names = ", ".join(f"`{name}`" for name in changed)
            names = names or "other columns, as of other classes or of videos"
            raise RunError(
                f"Expected the settings that the predictions in "
                f"{shown(str(self.folder))} were made with, found others: {names}. "
                "Give the same, or choose another `output`."
            )

    def _find_done(self, header: bytes, *, finished: bool) -> tuple[int, int]:
        """Finds the sources that are whole, and returns where they end in both files.

        The last one of a command that was stopped may be cut short anywhere, and after
        a power cut either file may have less than the other.
        """
        if not self._has_begun(header):
            return 0, 0
        with (
            open_regular(self.folder / TABLE_NAME) as table,
            open_regular(self.folder / LINES_NAME) as lines,
        ):
            table.seek(len(header))
            ends = (len(header), 0)
            in_table = source_groups(
                table_rows(table, len(self._layout.columns)), finished
            )
            in_lines = source_groups(line_rows(lines), finished)
            for one, other in zip(in_table, in_lines, strict=False):
                if one[0] != other[0]:
                    break
                self.done.add(one[0])
                ends = (one[1], other[1])
        return ends

    def _has_begun(self, header: bytes) -> bool:
        """Returns whether there is a table, with the header that it should have.

        Raises:
            RunError: Somebody has changed or removed a file: the rest would be lost.
        """
        table, lines = self.folder / TABLE_NAME, self.folder / LINES_NAME
        sizes = [path.stat().st_size if path.exists() else 0 for path in (table, lines)]
        start = b""
        if table.exists():
            with open_regular(table) as file:
                start = file.read(len(header))
        if start == header and lines.exists():
            return True
        found = "another program's table"
        if header.startswith(start):
            # Stopped at once, or a power cut came before it was on the disk.
            if sizes[0] <= len(header) and (table.exists() or not sizes[1]):
                return False
            found = "one missing"
        raise RunError(
            f"Expected {TABLE_NAME} and {LINES_NAME} in {shown(str(self.folder))} as "
            f"this tool wrote them, found {found}. Put it back, or choose another "
            "`output`."
        )

    def _rewrite_errors(self) -> None:
        """Keeps the errors of sources that are done, such as of a video cut short.

        The others are tried again.
        """
        path = self.folder / ERRORS_NAME
        kept: dict[str, str] = {}
        # What is no table any more says nothing: its sources are tried again.
        with (
            suppress(FileNotFoundError, UnicodeDecodeError, csv.Error),
            open_regular(path) as file,
        ):
            for row in csv.reader(line.decode() for line in whole_lines(file)):
                if len(row) == 2 and row[0] in self.done:
                    kept[row[0]] = row[1]
        write_csv(path, ERROR_COLUMNS, list(kept.items()))
        self.failed = len(kept)


def read_record(path: Path) -> dict[str, Any]:
    """Reads what a command wrote down of its predictions; it may be a stranger's.

    Raises:
        ValueError: It is something else.
        OSError: It cannot be read.
    """
    record = read_json(path, megabytes=5)
    if not isinstance(record, dict) or record.get("kind") != _KIND:
        raise ValueError("it is something else")
    if record.get("format") != _FORMAT:
        raise ValueError("it is of another version of this tool")
    return record


def write_as_parquet(folder: Path, columns: Sequence[str]) -> None:
    """Writes the table of predictions as Parquet too, if it has very many rows.

    Raises:
        OSError: It cannot be written.
    """
    typed = [(name, _TYPES.get(name, "double")) for name in columns]
    write_parquet_beside(folder / TABLE_NAME, typed)


class _Growing:
    """A file that is lengthened by whole pieces."""

    def __init__(self, path: Path, end: int) -> None:
        """Opens or creates it, and forgets what is after `end`.

        Raises:
            OSError: It cannot be written.
        """
        self._path = path
        flags = os.O_RDWR | os.O_CREAT
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(path, flags, 0o666), "rb+", buffering=0)
        self._file.truncate(end)
        self._file.seek(end)
        self._end = self._before = end

    def append(self, content: bytes) -> None:
        """Writes at the end: all or nothing, as long as the process lives.

        Raises:
            OSError: It cannot be written; names the file.
        """
        rest = memoryview(content)
        self._before = self._end
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            self.take_back()
            if isinstance(error, OSError):
                error.filename = str(self._path)
            raise
        self._end += len(content)

    def take_back(self) -> None:
        """Removes what was appended last."""
        with suppress(OSError):
            self._file.truncate(self._before)
            self._file.seek(self._before)
            self._end = self._before

    def close(self) -> None:
        self._file.close()


def written(name: str) -> str:
    """Returns a name as it is in the files: it may be in no known encoding."""
    if name.startswith(_FORMULA_SIGNS):
        name = os.path.join(os.curdir, name)  # noqa: PTH118 - `Path` leaves it out.
    # Before Python 3.13 a table is not read back with the latter.
    return name.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r")


def source_groups(
    rows: Iterator[tuple[str, int]], finished: bool
) -> Iterator[tuple[str, int]]:
    """Yields the sources that have all their rows, and where these end.

    Args:
        rows: The source of each row, and where the row ends.
        finished: Whether the last source is whole too.
    """
    last, end = None, 0
    for source, row_end in rows:
        if last not in (None, source):
            yield str(last), end
        last, end = source, row_end
    if finished and last is not None:
        yield last, end


def table_rows(file: io.BufferedReader, columns: int) -> Iterator[tuple[str, int]]:
    """Yields the source of each row of a table, and its end, while they are whole.

    Args:
        file: The table, after its header.
        columns: How many there are.
    """
    end = file.tell()

    def lines() -> Iterator[str]:
        nonlocal end
        for line in whole_lines(file):
            end += len(line)
            yield line.decode("utf-8")

    with suppress(ValueError, csv.Error):
        for row in csv.reader(lines(), strict=True):
            if len(row) != columns:
                return
            yield row[0], end


def line_rows(file: io.BufferedReader) -> Iterator[tuple[str, int]]:
    """Yields the source of each line of JSON, and its end, while they are whole."""
    end = 0
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        for line in whole_lines(file):
            end += len(line)
            yield str(json.loads(line)["source"]), end


def whole_lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yields the lines up to the first that is cut, or longer than any of ours."""
    while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        yield line


def _rounded(name: str, value: Any) -> Any:
    """Returns a value with as many digits as mean something."""
    if isinstance(value, float):
        return round(value, 1 if name in _BOX_COLUMNS else 6)
    return value


def _csv_text(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([str(v).lower() if isinstance(v, bool) else v for v in row])
    return text.getvalue()
