"""Predictions of several processes, a folder each, put together to those of one.

The tables are copied source by source, in the order in which one process predicts: in
memory are the names of the sources, and the next few lines of each part. A system lets
a process open some thousand files, and there may be more parts.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from emotion_cnn.errors import RunError
from emotion_cnn.files import (
    first_line,
    open_regular,
    replacing,
    shown,
    write_csv,
    write_json,
)
from emotion_cnn.inference.predictions import (
    ERROR_COLUMNS,
    ERRORS_NAME,
    LINES_NAME,
    SETTINGS_NAME,
    TABLE_NAME,
    line_rows,
    read_record,
    source_groups,
    table_rows,
    whole_lines,
    write_as_parquet,
    written,
)

_NAMED_AT_MOST = 5
_READ_AT_ONCE = 2**15
"""Bytes of each table: of a thousand parts, that is 64 MB."""
_COPIED_AT_ONCE = 2**20
_LONGEST_HEADER = 2**20
_RECORDED = ("kind", "format", "columns", "settings", "finished")


def merge_predictions(
    folder: Path, sources: Sequence[str], output: Path
) -> dict[str, str]:
    """Writes the predictions of all sources that several processes have shared.

    Args:
        folder: The folder that holds the folders of the processes.
        sources: The names of all sources, in their order.
        output: An existing, empty folder.

    Returns:
        Why sources could not be read, or not to their end, by their names as in
        the tables.

    Raises:
        RunError: Predictions are missing, there twice, damaged, or were made with
            different settings.
    """
    parts = [_Part(path.parent) for path in sorted(folder.glob(f"*/{SETTINGS_NAME}"))]
    record = _common_record(folder, parts)
    names = [written(name) for name in sources]
    errors = _errors(parts)
    with (
        replacing(output / TABLE_NAME) as table_path,
        replacing(output / LINES_NAME) as lines_path,
        table_path.open("wb") as table,
        lines_path.open("wb") as lines,
    ):
        table.write(parts[0].header)
        _copy_in_order(folder, parts, names, errors, table, lines)
    found = {name: errors[name] for name in names if name in errors}
    write_csv(output / ERRORS_NAME, ERROR_COLUMNS, found.items())
    write_as_parquet(output, record["columns"])
    # Last, as a sign of the end.
    write_json(output / SETTINGS_NAME, record)
    return found


class _OpenWhileReading(io.RawIOBase):
    """A file to read, open only as long as a piece of it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            with open_regular(self._path) as file:
                offset += file.seek(0, whence)
        elif whence == io.SEEK_CUR:
            offset += self._place
        self._place = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        with open_regular(self._path) as file:
            file.seek(self._place)
            count = file.readinto(buffer)
        self._place += count
        return count


def _reader(path: Path) -> BufferedReader:
    raw: Any = _OpenWhileReading(path)
    return BufferedReader(raw, _READ_AT_ONCE)


@dataclass(frozen=True)
class _Entry:
    """A source in the tables of a part: where its bytes begin and end in both."""

    name: str
    in_table: tuple[int, int]
    in_lines: tuple[int, int]


class _Part:
    """The predictions of one process, read from the first source on."""

    def __init__(self, folder: Path) -> None:
        """Reads up to the first source.

        Raises:
            RunError: Something is missing or damaged.
        """
        self.folder = folder
        self.table, self.lines = (
            _reader(folder / name) for name in (TABLE_NAME, LINES_NAME)
        )
        with _readable(folder):
            self._begin()

    def _begin(self) -> None:
        record = read_record(self.folder / SETTINGS_NAME)
        self.record = {name: record.get(name) for name in _RECORDED}
        if self.record.get("finished") is not True:
            raise ValueError("they are not finished: go on with `resume=True`")
        columns = self.record.get("columns")
        if not isinstance(columns, list):
            raise ValueError(f"{SETTINGS_NAME} does not name their columns")
        settings = self.record.get("settings")
        # They are written again: what is in them must be what this tool has.
        if not isinstance(settings, dict) or any(
            isinstance(value, dict | list) for value in settings.values()
        ):
            raise ValueError(f"{SETTINGS_NAME} does not name their settings")
        self.header = self.table.readline(_LONGEST_HEADER)
        if next(csv.reader([self.header.decode()]), []) != columns:
            raise ValueError(f"{TABLE_NAME} has other columns than {SETTINGS_NAME}")
        self._entries = self._read(len(columns))
        self.head = next(self._entries, None)

    def _read(self, columns: int) -> Iterator[_Entry]:
        """Yields the sources.

        Raises:
            ValueError: The tables are not whole, or are not of the same sources.
        """
        table, lines = self.table, self.lines
        ends = len(self.header), 0
        in_table = source_groups(table_rows(table, columns), finished=True)
        in_lines = source_groups(line_rows(lines), finished=True)
        for one, other in zip(in_table, in_lines, strict=False):
            if one[0] != other[0]:
                break
            yield _Entry(one[0], (ends[0], one[1]), (ends[1], other[1]))
            ends = one[1], other[1]
        if ends != (table.seek(0, 2), lines.seek(0, 2)):
            raise ValueError(f"{TABLE_NAME} or {LINES_NAME} is damaged")

    def copy_head(self, table: IO[bytes], lines: IO[bytes]) -> None:
        """Copies the next source to two files, and goes on to the one after it."""
        if self.head is not None:
            self._copy(self.table, self.head.in_table, table)
            self._copy(self.lines, self.head.in_lines, lines)
            with _readable(self.folder):
                self.head = next(self._entries, None)

    def _copy(
        self, source: BufferedReader, ends: tuple[int, int], to: IO[bytes]
    ) -> None:
        """Copies a piece of a table, which is read on from where it was before."""
        before = source.tell()
        start, end = ends
        source.seek(start)
        while start < end:
            # Where there is no room to write, the shard is not to blame.
            with _readable(self.folder):
                block = source.read(min(_COPIED_AT_ONCE, end - start))
                if not block:
                    raise ValueError("a table has become shorter")
            start += len(block)
            to.write(block)
        source.seek(before)

    def errors(self) -> Iterator[tuple[str, str]]:
        """Yields the sources that could not be read, and why."""
        with open_regular(self.folder / ERRORS_NAME) as file:
            rows = csv.reader(line.decode() for line in whole_lines(file))
            next(rows, None)
            for row in rows:
                if len(row) != len(ERROR_COLUMNS):
                    raise ValueError(f"{ERRORS_NAME} is damaged")
                yield row[0], row[1]


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turns what is wrong with the predictions in a folder into a `RunError`."""
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:
        reason = first_line(error)
        if isinstance(error, OSError) and error.filename:
            reason = f"{Path(error.filename).name}: {reason}"
        raise RunError(
            f"Expected finished predictions in {shown(str(folder))}, found that "
            f"{shown(reason)}. Predict that shard again, or move its folder "
            "away."
        ) from error


def _common_record(folder: Path, parts: Sequence[_Part]) -> dict[str, Any]:
    """Returns what all parts say of themselves.

    Raises:
        RunError: There are none, or they differ.
    """
    if not parts:
        raise RunError(
            f"Expected folders with a {SETTINGS_NAME} each in {shown(str(folder))}, "
            "found none. Name with `merge` the folder that holds the outputs of "
            "`emotion-cnn predict` with `shard`."
        )
    first = parts[0]
    for part in parts:
        if (part.record, part.header) != (first.record, first.header):
            raise RunError(
                f"Expected predictions of the same weights and settings in "
                f"{shown(str(folder))}, found others in {shown(part.folder.name)} than "
                f"in {shown(first.folder.name)}. Predict one of them again."
            )
    return first.record


def _errors(parts: Sequence[_Part]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        with _readable(part.folder):
            for name, reason in part.errors():
                if name in found:
                    raise ValueError(f"{name} is in another folder, too")
                found[name] = reason
    return found


def _copy_in_order(
    folder: Path,
    parts: Sequence[_Part],
    names: Sequence[str],
    errors: Mapping[str, str],
    table: IO[bytes],
    lines: IO[bytes],
) -> None:
    """Copies sources to two files in their order.

    Raises:
        RunError: A source is missing, or there is another one, or one twice.
    """
    next_of = {part.head.name: part for part in parts if part.head}
    missing = []
    for name in names:
        part = next_of.pop(name, None)
        if part is not None:
            part.copy_head(table, lines)
            if part.head is not None:
                next_of[part.head.name] = part
        elif name not in errors:
            missing.append(name)
    if missing:
        shown_names = ", ".join(shown(name) for name in missing[:_NAMED_AT_MOST])
        more = len(missing) - _NAMED_AT_MOST
        raise RunError(
            f"Expected predictions of all {len(names):,} sources in "
            f"{shown(str(folder))}, found none of {shown_names}"
            f"{f' and {more:,} more' if more > 0 else ''}. Predict the missing shards, "
            "and name the same `source`."
        )
    rest = [part for part in parts if part.head is not None]
    strange = [*errors.keys() - set(names), *(p.head.name for p in rest if p.head)]
    if strange:
        raise RunError(
            f"Expected each of {len(names):,} sources once in {shown(str(folder))}, "
            f"found {shown(strange[0])} twice, or in another order than `source` names "
            "it. Name the same `source`, and move away what is there twice."
        )
