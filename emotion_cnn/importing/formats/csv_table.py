"""Tables of pixels: `fer2013.csv`, `icml_face_data.csv`, the challenge's `train.csv`.

A row is a label, 48x48 gray levels separated by blanks and, in the first two, the
part of the official split. Read line by line, so that an unclosed quote damages one
row and not all that follow.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
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
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    BadRecord,
    ClassNames,
    ImageRecord,
    Record,
    Source,
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

LINE_LIMIT = 2**20
"""Longest line that is read, in bytes; those of FER2013 take about 9 kB."""
_PIXEL_COUNT = IMAGE_SIZE * IMAGE_SIZE
_LEVELS = {str(level): level for level in range(256)}

_USAGES = {
    "training": TRAINING,
    "train": TRAINING,
    "publictest": PUBLIC_TEST,
    "privatetest": PRIVATE_TEST,
    "test": TEST,
}
_VOTE_COLUMNS = tuple(column.lower() for column in VOTE_COLUMNS)


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises a table by its header.

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
        (member, columns)
        for member in container.members
        if b"\n" in member.head
        and (columns := _header(member.head))
        and {EMOTION, PIXELS} & set(columns)
    ]
    whole = [t for t in tables if {EMOTION, PIXELS} <= set(t[1])]
    with_usage = [t for t in whole if USAGE in t[1]]
    candidates = with_usage or whole
    if not candidates:
        for member, columns in tables:
            missing = EMOTION if PIXELS in columns else PIXELS
            raise SourceError(
                f"{shown(member.name)} misses the column {missing}. Expected emotion, "
                "pixels and, with the official split, Usage; found "
                f"{shown(', '.join(columns)[:200])}."
            )
        return None
    if len(candidates) > 1:
        names = shown(", ".join(member.name for member, _ in candidates)[:200])
        raise SourceError(
            f"Expected one table of pixels in {container.path}, found {names}. Unpack "
            "the one you want and choose it with `source`."
        )
    ((member, columns),) = candidates
    for column in (EMOTION, PIXELS, USAGE, NAME):
        if columns.count(column) > 1:
            raise SourceError(
                f"{shown(member.name)} has the column {column} "
                f"{columns.count(column)} times; expected it once."
            )
    return Source(
        kind=KIND,
        members=(member,),
        has_split=USAGE in columns,
        has_votes=set(_VOTE_COLUMNS) <= set(columns),
        total=member.size or None,
        unit="B",
        records=partial(_records, container, member, class_names),
    )


def _header(line: bytes) -> list[str]:
    """Returns the names of columns, without the blanks that some files have."""
    text = line.split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r")
    try:
        return [name.strip().lower() for name in next(csv.reader([text]), [])]
    except csv.Error:
        return []


def _records(
    container: Container, member: Member, class_names: ClassNames
) -> Iterator[Record]:
    for _, stream in container.read([member]):
        yield from read_table(stream, class_names)


def read_table(stream: IO[bytes], class_names: ClassNames) -> Iterator[Record]:
    """Reads a table.

    Args:
        stream: Its bytes, header first.
        class_names: What labels stand for, apart from FER2013's numbers.

    Yields:
        A record for each row, in order; of a row that is no valid image, what is
        wrong with it. Empty lines are skipped and do not count as rows.
    """
    lines = _lines(stream)
    columns = _header(next(lines, b""))
    class_names = class_names.with_numbers(CLASS_NUMBERS)
    row = 0
    for number, line in enumerate(lines, start=2):
        if line.strip():
            yield _parse(line, columns, class_names, row, f"row {row} (line {number})")
            row += 1


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yields lines with their line ends; those that are too long are cut."""
    while line := stream.readline(LINE_LIMIT + 1):
        yield line
        while len(line) > LINE_LIMIT and not line.endswith(b"\n"):
            line = stream.readline(LINE_LIMIT + 1)


def _parse(
    line: bytes, columns: Sequence[str], class_names: ClassNames, row: int, place: str
) -> Record:
    advance = len(line)
    truncated = "" if line.endswith(b"\n") else "; the file ends within this line"

    def bad(reason: str) -> BadRecord:
        return BadRecord(place, reason + truncated, advance)

    if len(line) > LINE_LIMIT:
        return bad(f"longer than {LINE_LIMIT:,} bytes")
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    try:
        cells = next(csv.reader([text], strict=True))
    except csv.Error as error:
        return bad(f"not valid CSV: {error}")
    if len(cells) != len(columns):
        return bad(f"{len(cells)} columns instead of {len(columns)}")
    values = dict(zip(columns, cells, strict=True))
    try:
        image = _image(values[PIXELS])
        votes = _votes(values)
    except ValueError as error:
        return bad(str(error))
    usage = None
    if USAGE in values:
        usage = _USAGES.get(values[USAGE].strip().lower())
        if usage is None:
            found = ascii(values[USAGE].strip()[:40])
            return bad(
                f"unknown Usage {found} (Training, PublicTest or PrivateTest expected)"
            )
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
