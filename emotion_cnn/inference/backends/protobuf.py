"""Walks through protocol buffers, the format of ONNX files and saved models.

Reads what is to be checked before a runtime parses the whole; knows no schema. What
parsers may read in different ways, and no writer writes, is refused: keys of more than
32 bits, of which some parsers take the lower ones, numbers in more bytes than they
need, and groups.
"""

import struct
from collections.abc import Collection, Iterator

_VARINT, _BYTES = 0, 2
_NUMBERS = {1: "<d", 5: "<f"}
"""Of eight and four bytes, by their type; some are integers, which nobody reads."""
_MOST_FIELDS = 1_000_000
_MOST_KEY = 2**32 - 1
_LONGEST_VARINT = 10

Value = int | float | memoryview
"""Varints are ints from 0 to 2**64 - 1, numbers of four or eight bytes floats: parsers
take neither for the other, nor for bytes."""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yields the number and the value of each field of a message.

    Raises:
        ValueError: It is no whole message.
    """
    place = count = 0
    while place < len(message):
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError("too many fields")
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if not number or key > _MOST_KEY:
            raise ValueError("a field without a number, or of an absurd one")
        if kind == _VARINT:
            value, place = varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = varint(message, place)
        elif kind in _NUMBERS:
            length = struct.calcsize(_NUMBERS[kind])
        else:
            raise ValueError("a field of an unknown type")
        if length > len(message) - place:
            raise ValueError("a field that is cut short")
        content = message[place : place + length]
        if kind == _BYTES:
            yield number, content
        else:
            (as_float,) = struct.unpack(_NUMBERS[kind], content)
            yield number, as_float
        place += length


def known_fields(
    message: memoryview, numbers: Collection[int]
) -> Iterator[tuple[int, Value]]:
    """Yields the number and the value of each field of a message.

    Raises:
        ValueError: It is no whole message, or has a field of another number.
    """
    for number, value in fields(message):
        if number not in numbers:
            raise ValueError(f"the unknown field {number}")
        yield number, value


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """Returns the varint at a place, and the place after it.

    Raises:
        ValueError: There is none.
    """
    value = shift = 0
    while place < len(message) and shift < 7 * _LONGEST_VARINT:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if (shift and not byte) or value >= 2**64:
                break
            return value, place
        shift += 7
    raise ValueError(
        "a number that is cut short, or written in more bytes than it needs"
    )


def varints(value: Value, *, most: int) -> list[int]:
    """Returns the numbers of a repeated field, packed or one of several single ones.

    Raises:
        ValueError: It is none, or longer than `most` numbers can be.
    """
    if isinstance(value, int):
        return [value]
    value = message(value)
    if len(value) > most * _LONGEST_VARINT:
        raise ValueError(f"more than {most} numbers in place of a few")
    numbers, place = [], 0
    while place < len(value):
        number, place = varint(value, place)
        numbers.append(number)
    return numbers


def text(value: Value) -> str:
    """Returns the text of a field.

    Raises:
        ValueError: It is no text.
    """
    return str(message(value), "utf-8")


def message(value: Value) -> memoryview:
    """Returns the message, or the bytes, in a field.

    Raises:
        ValueError: It is a number.
    """
    if not isinstance(value, memoryview):
        raise ValueError("a number in place of bytes")
    return value
