"""Tables of text as programs write them: encodings, line ends and delimiters."""

import csv
import io
from collections.abc import Iterator
from typing import IO

from emotion_cnn.importing.containers import HEAD_SIZE

LINE_LIMIT = 2**20
"""Longest line that is read, in characters; those of FER2013 take about 9,000."""

DELIMITERS = (",", ";", "\t", "|")
"""What separates cells, in the order in which it is tried."""

_SEPARATOR_LINE = "sep="


def find_encoding(head: bytes) -> str:
    """Returns the encoding of a text by its first bytes: UTF-16 or UTF-8."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Without a mark: every other byte of such a text is zero.
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 4 and not min(even, odd):
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8-sig"


def first_lines(head: bytes) -> list[str]:
    """Returns the lines in the first bytes of a text that are there to their ends."""
    lines = head.decode(find_encoding(head), "replace").splitlines(keepends=True)
    if lines and len(head) >= HEAD_SIZE and not lines[-1].endswith(("\r", "\n")):
        lines.pop()
    return [line.rstrip("\r\n") for line in lines]


def read_lines(stream: IO[bytes], encoding: str) -> Iterator[str]:
    """Yields lines, all of which end in a line feed whatever the file has.

    Those that are too long are cut; the last one may have no end.
    """
    text = io.TextIOWrapper(stream, encoding, "replace")
    while line := text.readline(LINE_LIMIT + 1):
        yield line
        while len(line) > LINE_LIMIT and not line.endswith("\n"):
            line = text.readline(LINE_LIMIT + 1)


def stated_delimiter(line: str) -> str | None:
    """Returns what a first line such as `sep=;` states, which Excel writes."""
    line = line.strip("\r\n").lower()
    is_stated = line.startswith(_SEPARATOR_LINE) and len(line) == 5
    return line[-1] if is_stated else None


def split_line(line: str, delimiter: str | None, *, strict: bool = False) -> list[str]:
    """Returns the cells of a line.

    Args:
        line: With or without its end.
        delimiter: None stands for blanks.
        strict: Whether to raise for quotes that are not closed.

    Raises:
        csv.Error: The line is no CSV.
    """
    if delimiter is None:
        return line.split()
    rows = csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=strict)
    return next(rows, [])
