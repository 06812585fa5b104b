"""Walks through protocol buffers, the format of ONNX files and saved models.

Reads what is to be checked before a runtime parses the whole; knows no schema.
"""

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MOST_FIELDS = 1_000_000
_LONGEST_VARINT = 10

Value = int | memoryview
"""Numbers that are stored as varints are ints from 0 to 2**64; all others bytes."""


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
        if not number:
            raise ValueError("a field without a number")
        if kind == _VARINT:
            value, place = varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("a field of an unknown type")
        if length > len(message) - place:
            raise ValueError("a field that is cut short")
        yield number, message[place : place + length]
        place += length


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
            return value, place
        shift += 7
    raise ValueError("a number that is cut short or too long")


def varints(value: Value, *, most: int) -> list[int]:
    """Returns the numbers of a repeated field, packed or one of several single ones.

    Raises:
        ValueError: It is none, or longer than `most` numbers can be.
    """
    if isinstance(value, int):
        return [value]
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
    if isinstance(value, int):
        raise ValueError("a number in place of bytes")
    return value
