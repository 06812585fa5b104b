"""Walks through FlatBuffers, the format of LiteRT files, within their bounds.

Reads what is to be checked before a runtime uses the whole; knows no schema. Offsets
are unsigned and lead forward, as in all FlatBuffers but for those to the vtables.
"""

import struct
from collections.abc import Iterator

_MOST_TABLES = 20_000
"""The most in a vector. Vectors may share tables, so that the size of a file does not
bound how many there are to check."""


def root(content: memoryview, identifier: bytes) -> "Table":
    """Returns the table that a file is.

    Raises:
        ValueError: It is no such file.
    """
    if content[4:8] != identifier:
        raise ValueError("another beginning than such files have")
    return Table(content, _number(content, 0, "<I"))


class Table:
    """A table: fields by their number in the schema, from 0."""

    def __init__(self, content: memoryview, place: int) -> None:
        """Takes a file, and where in it the table is.

        Raises:
            ValueError: There is none.
        """
        self._content, self._place = content, place
        self._vtable = place - _number(content, place, "<i")
        self._size = _number(content, self._vtable, "<H")

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Returns a number, of a type as `struct` names it.

        Raises:
            ValueError: It lies outside the file.
        """
        place = self._field(field)
        return default if place is None else _number(self._content, place, f"<{kind}")

    def has(self, field: int) -> bool:
        """Returns whether there is a field.

        Raises:
            ValueError: The table is damaged.
        """
        return self._field(field) is not None

    def data(self, field: int) -> memoryview:
        """Returns a vector of bytes, or a text; empty if there is none.

        Raises:
            ValueError: It lies outside the file.
        """
        start, count = self._vector(field, 1)
        return self._content[start : start + count]

    def numbers(self, field: int, *, most: int) -> tuple[int, ...]:
        """Returns a vector of int32; empty if there is none.

        Raises:
            ValueError: It lies outside the file, or is longer than `most`.
        """
        start, count = self._vector(field, 4)
        _check_count(count, most)
        return struct.unpack_from(f"<{count}i", self._content, start)

    def tables(self, field: int) -> Iterator["Table"]:
        """Yields a vector of tables.

        Raises:
            ValueError: One lies outside the file, or they are too many.
        """
        start, count = self._vector(field, 4)
        _check_count(count, _MOST_TABLES)
        for place in range(start, start + 4 * count, 4):
            yield Table(self._content, place + _number(self._content, place, "<I"))

    def _field(self, field: int) -> int | None:
        at = 4 + 2 * field
        if at + 2 > self._size:
            return None
        offset = _number(self._content, self._vtable + at, "<H")
        return self._place + offset if offset else None

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Returns where a vector's items are, and how many."""
        place = self._field(field)
        if place is None:
            return 0, 0
        place += _number(self._content, place, "<I")
        count = _number(self._content, place, "<I")
        if place + 4 + size * count > len(self._content):
            raise ValueError("a part that is cut short")
        return place + 4, count


def _number(content: memoryview, place: int, kind: str) -> int:
    if not 0 <= place <= len(content) - struct.calcsize(kind):
        raise ValueError("a part that is cut short")
    return struct.unpack_from(kind, content, place)[0]


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"a part of more than {most:,} items")
