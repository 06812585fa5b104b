"""Tables of pixels: `fer2013.csv`, `icml_face_data.csv`, the challenge's `train.csv`.

A row is a label, 48x48 gray levels separated by blanks and, in the first two, the
part of the official split. Other programs write other delimiters, encodings and line
ends, which are recognised. Read line by line, so that an unclosed quote damages one
row and not all that follow.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO

import numpy as np

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.votes import VOTE_COLUMNS, Votes, parse_votes
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import Container, Member
from emotion_cnn.importing.names import row_in_name, safe_stem
from emotion_cnn.importing.records import (
    PART_NAMES,
    PRIVATE_TEST,
    TEST,
    VALIDATION,
    BadRecord,
    ClassNames,
    ImageRecord,
    Record,
    Source,
    usages_of,
)
from emotion_cnn.importing.text_tables import (
    DELIMITERS,
    LINE_LIMIT,
    find_encoding,
    first_lines,
    read_lines,
    split_line,
    stated_delimiter,
)

KIND = "CSV table with the columns emotion and pixels"
EMOTION, PIXELS, USAGE, NAME = "emotion", "pixels", "usage", "name"

CLASS_NUMBERS = {
    "0": "angry",
    "1": "disgust",
    "2": "fear",
    "3": "happy",
    "4": "sad",
    "5": "surprise",
    "6": "neutral",
}
"""The classes of FER2013's numbers, which all three tables use."""

_LINES_AT_MOST = 50
"""Lines in which the first row of a table without a header is looked for."""

_PIXEL_COUNT = IMAGE_SIZE * IMAGE_SIZE
_LEVELS = {str(level): level for level in range(256)}

_SYNONYMS = {
    **dict.fromkeys(("emotions", "label", "labels", "class", "expression"), EMOTION),
    **dict.fromkeys(("split", "set", "subset"), USAGE),
    **dict.fromkeys(("pixel", "image_pixels"), PIXELS),
}
"""What other tables call the columns."""
# Enough to tell gray levels from other text in the first bytes of a table.
_PIXELS_IN_HEAD = re.compile(r"(?:[0-9]{1,3} +){200}")
_VOTE_COLUMNS = tuple(column.lower() for column in VOTE_COLUMNS)


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    Attributes:
        encoding: The encoding of its text.
        delimiter: What separates cells.
        columns: Their names.
        header_lines: The number of lines before the first row.
    """

    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    header_lines: int


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises a table by its header, or by its pixels if it has none.

    Args:
        container: The files of the source.
        class_names: What labels stand for, apart from FER2013's numbers.

    Returns:
        The table; None if there is none. Of several it is the one with usages:
        `train.csv` is a part of `icml_face_data.csv`.

    Raises:
        SourceError: A column is missing, or there are several such tables.
    """
    tables = [
        (member, layout)
        for member in container.members
        if (layout := _layout(container, member, class_names))
        and {EMOTION, PIXELS} & set(layout.columns)
    ]
    whole = [t for t in tables if {EMOTION, PIXELS} <= set(t[1].columns)]
    with_usage = [t for t in whole if USAGE in t[1].columns]
    candidates = with_usage or whole
    if not candidates:
        # Other tables may name images and their emotions, without pixels.
        for member, layout in tables:
            if PIXELS in layout.columns:
                raise SourceError(
                    f"{shown(member.name)} misses the column emotion. Expected "
                    "emotion, pixels and, with the official split, Usage; found "
                    f"{shown(', '.join(layout.columns)[:200])}."
                )
        return None
    if len(candidates) > 1:
        names = shown(", ".join(member.name for member, _ in candidates)[:200])
        raise SourceError(
            f"Expected one table of pixels in {container.path}, found {names}. Unpack "
            "the one you want and choose it with `source`."
        )
    ((member, layout),) = candidates
    for column in (EMOTION, PIXELS, USAGE, NAME):
        if layout.columns.count(column) > 1:
            if not layout.header_lines:
                raise SourceError(
                    f"{shown(member.name)} has no header, and several columns can be "
                    f"that of {column}. Add a first line such as emotion,pixels,Usage."
                )
            raise SourceError(
                f"{shown(member.name)} has the column {column} "
                f"{layout.columns.count(column)} times; expected it once."
            )
    return Source(
        kind=KIND,
        members=(member,),
        has_split=USAGE in layout.columns,
        has_votes=set(_VOTE_COLUMNS) <= set(layout.columns),
        total=member.size or None,
        unit="B",
        records=partial(_records, container, member, layout, class_names),
    )


def find_layout(head: bytes) -> Layout | None:
    """Returns how a table is written whose header is in its first bytes, if it is."""
    encoding = find_encoding(head)
    stated = None
    for number, line in enumerate(first_lines(head), start=1):
        if not line.strip():
            continue
        if stated is None and (stated := stated_delimiter(line)):
            continue
        for delimiter in (stated,) if stated else DELIMITERS:
            with suppress(csv.Error):
                columns = _columns(split_line(line, delimiter))
                if {EMOTION, PIXELS} & set(columns):
                    return Layout(encoding, delimiter, columns, number)
        return None
    return None


def _columns(header: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of columns as FER2013 has them, without surrounding blanks."""
    columns = [name.strip().lower() for name in header]
    for column in {EMOTION, PIXELS, USAGE} - set(columns):
        others = [name for name in columns if _SYNONYMS.get(name) == column]
        if others:
            columns[columns.index(others[0])] = column
    return tuple(columns)


def _layout(
    container: Container, member: Member, class_names: ClassNames
) -> Layout | None:
    if layout := find_layout(member.head):
        return layout
    head = member.head.decode(find_encoding(member.head), "replace")
    if not _PIXELS_IN_HEAD.search(head):
        return None
    # Without a header. The first line is longer than what is known of it.
    encoding = find_encoding(member.head)
    names = class_names.with_numbers(CLASS_NUMBERS)
    for _, stream in container.read([member]):
        lines = islice(read_lines(stream, encoding), _LINES_AT_MOST)
        for number, line in enumerate(lines):
            if not line.strip() or stated_delimiter(line):
                continue
            for delimiter in DELIMITERS:
                with suppress(csv.Error):
                    cells = split_line(line, delimiter)
                    columns = [_column(cell, names) for cell in cells]
                    if {EMOTION, PIXELS} <= set(columns):
                        return Layout(encoding, delimiter, tuple(columns), number)
            break
    return None


def _column(cell: str, class_names: ClassNames) -> str:
    """Returns what a cell of a table without a header holds."""
    if len(cell.split()) > 1:
        return PIXELS
    if cell.strip().lower() in PART_NAMES:
        return USAGE
    return EMOTION if class_names.find(cell) else ""


def _records(
    container: Container, member: Member, layout: Layout, class_names: ClassNames
) -> Iterator[Record]:
    def parts() -> set[str]:
        found = set()
        for _, stream in container.read([member]):
            for _, values, _ in _rows(stream, layout):
                if isinstance(values, dict):
                    found.add(_part(values[USAGE]))
        return found - {""}

    for _, stream in container.read([member]):
        yield from read_table(stream, class_names, layout, parts)


def read_table(
    stream: IO[bytes],
    class_names: ClassNames,
    layout: Layout,
    parts: Callable[[], Collection[str]] = tuple,
) -> Iterator[Record]:
    """Reads a table.

    Args:
        stream: Its bytes.
        class_names: What labels stand for, apart from FER2013's numbers.
        layout: How it is written.
        parts: Returns the parts that its `Usage` names, values of `PART_NAMES`: what
            `test` is depends on whether there is a validation part. Called if so.

    Yields:
        A record for each row, in order; of a row that is no valid image, what is
        wrong with it. Empty lines are skipped and do not count as rows.
    """
    class_names = class_names.with_numbers(CLASS_NUMBERS)
    usages: dict[str | None, str] = {}
    for row, (place, values, advance) in enumerate(_rows(stream, layout)):
        if isinstance(values, str):
            yield BadRecord(place, values, advance)
            continue
        usage = None
        if USAGE in values:
            part = _part(values[USAGE])
            if part in (TEST, VALIDATION) and not usages:
                usages = usages_of([*parts(), part])
            usage = usages.get(part, part)
        yield _parse(values, usage, class_names, row, place, advance)


def _part(usage: str) -> str:
    """Returns the part that a usage names, or nothing."""
    return PART_NAMES.get(usage.strip().lower(), "")


def _rows(
    stream: IO[bytes], layout: Layout
) -> Iterator[tuple[str, dict[str, str] | str, int]]:
    """Yields of each row its place, its cells or what is wrong with them, its size."""
    row = 0
    for number, line in enumerate(read_lines(stream, layout.encoding), start=1):
        if number <= layout.header_lines or not line.strip():
            continue
        values = _values(line, layout)
        if isinstance(values, str) and not line.endswith("\n"):
            values += "; the file ends within this line"
        yield f"row {row} (line {number})", values, len(line)
        row += 1


def _values(line: str, layout: Layout) -> dict[str, str] | str:
    if len(line) > LINE_LIMIT:
        return f"longer than {LINE_LIMIT:,} characters"
    try:
        cells = split_line(line, layout.delimiter, strict=True)
    except csv.Error as error:
        return f"not valid CSV: {error}"
    if len(cells) != len(layout.columns):
        return f"{len(cells)} columns instead of {len(layout.columns)}"
    return dict(zip(layout.columns, cells, strict=True))


def _parse(
    values: dict[str, str],
    usage: str | None,
    class_names: ClassNames,
    row: int,
    place: str,
    advance: int,
) -> Record:
    try:
        image = _image(values[PIXELS])
        votes = _votes(values)
    except ValueError as error:
        return BadRecord(place, str(error), advance)
    if usage == "":
        found = ascii(values[USAGE].strip()[:40])
        reason = f"unknown Usage {found} (Training, PublicTest or PrivateTest expected)"
        return BadRecord(place, reason, advance)
    label = class_names.find_label(values[EMOTION], place=place, advance=advance)
    if not isinstance(label, int):
        return label
    # A table with names is an export: its rows are not those of fer2013.csv.
    name = safe_stem(values[NAME]) if values.get(NAME) else None
    own_row = row_in_name(name) if name else row
    return ImageRecord(
        image, label, usage, name, own_row, place, votes=votes, advance=advance
    )


def _image(text: str) -> np.ndarray:
    """Returns uint8 `(48, 48)`.

    Raises:
        ValueError: There are not 2304 whole numbers from 0 to 255.
    """
    numbers = text.split()
    if len(numbers) != _PIXEL_COUNT:
        raise ValueError(f"{len(numbers):,} pixels instead of {_PIXEL_COUNT:,}")
    try:
        levels = bytes(map(_LEVELS.__getitem__, numbers))
    except KeyError as error:
        found = ascii(error.args[0][:20])
        raise ValueError(f"pixel {found} is no whole number from 0 to 255") from None
    return np.frombuffer(levels, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)


def _votes(values: dict[str, str]) -> Votes | None:
    cells = [values.get(column, "") for column in _VOTE_COLUMNS]
    return parse_votes(cells) if any(cells) else None


class TableWriter:
    """Writes what `read_table` reads, with every image's name in a last column.

    Other readers of `fer2013.csv` ignore columns that they do not know. Classes that
    FER2013 has no number for are written by name.

    Attributes:
        classes: The class names, in the order of their labels.
    """

    def __init__(
        self,
        file: IO[str],
        classes: Sequence[str] = EMOTIONS,
        *,
        with_usage: bool,
        with_votes: bool,
    ) -> None:
        """Writes the header.

        Args:
            file: A text file opened with `newline=""`.
            classes: The class names, in the order of their labels.
            with_usage: Whether images have one.
            with_votes: Whether images may have votes.
        """
        self.classes = tuple(classes)
        self._writer = csv.writer(file, lineterminator="\n")
        self._with_usage, self._with_votes = with_usage, with_votes
        numbers = {name: number for number, name in CLASS_NUMBERS.items()}
        self._labels = [numbers.get(name, name) for name in classes]
        header = [EMOTION, PIXELS]
        header += ["Usage"] if with_usage else []
        header += VOTE_COLUMNS if with_votes else []
        self._writer.writerow([*header, NAME])

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one row; the usage `Test` as `PrivateTest`, as in FER2013.

        Args:
            record: The image.
            votes: Its ten votes, if it has any.
        """
        pixels = " ".join(map(str, record.image.ravel().tolist()))
        row = [self._labels[record.label], pixels]
        if self._with_usage:
            row.append(PRIVATE_TEST if record.usage == TEST else str(record.usage))
        if self._with_votes:
            row += map(str, votes or [""] * len(VOTE_COLUMNS))
        self._writer.writerow([*row, record.stem])
