"""HDF5 as Keras writes it, and no more: groups, plain arrays, lists of names.

The HDF5 library reads much else: links to other files, data in other files, filters
that unpack a little to a lot. And it hangs for ever, where no exception reaches, over
one in some hundred damaged files. Here every address is checked against the content,
and no part of it is read twice.

Follows the "HDF5 File Format Specification Version 3.0", of which h5py writes the
earliest forms unless told otherwise.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEEPEST = 20
_LONGEST_NAME = 1_000
_FLOATS: Mapping[tuple[int, ...], str] = {
    # Size, offset, precision, place and size of exponent and mantissa, bias.
    (2, 0, 16, 10, 5, 0, 10, 15): "<f2",
    (4, 0, 32, 23, 8, 0, 23, 127): "<f4",
    (8, 0, 64, 52, 11, 0, 52, 1023): "<f8",
}

# Kinds of messages, of which the header of a group or an array consists.
_SHAPE, _TYPE, _LAYOUT, _ATTRIBUTE = 0x01, 0x03, 0x08, 0x0C
_CONTINUED, _TABLE = 0x10, 0x11
_WITHOUT_MEANING = (0x00, 0x04, 0x05, 0x0D, 0x0E, 0x12)
"""Nothing, fill values, comments and times."""

_DAMAGED = "it is truncated or damaged"
_NOT_PLAIN = "it holds more than groups and plain arrays, such as links or packed data"
_OTHER_VERSION = "it is in another form of HDF5 than Keras writes"


@dataclass(frozen=True)
class Group:
    """A group.

    Attributes:
        members: Groups and arrays by their names; arrays share the file's memory.
        names: Those attributes that are lists of texts, by their names.
    """

    members: Mapping[str, "Group | np.ndarray"]
    names: Mapping[str, list[str]]


def read_hdf5(content: bytes) -> Group:
    """Returns the root of an HDF5 file.

    Args:
        content: The content of the file: anything, in a stranger's file.

    Raises:
        ValueError: It is damaged, or holds anything but groups and arrays of
            floats or integers, neither packed nor elsewhere.
    """
    if not content.startswith(_SIGNATURE):
        raise ValueError("it does not begin as an HDF5 file")
    reader = _Reader(content)
    version, sizes, base = (
        reader.numbers("B", 8)[0],
        reader.numbers("BB", 13),
        reader.numbers("Q", 24)[0],
    )
    if (version, sizes, base) != (0, (8, 8), 0):
        raise ValueError(_OTHER_VERSION)
    root = reader.item(reader.numbers("Q", 64)[0], 0)
    if not isinstance(root, Group):
        raise ValueError("it holds no groups")
    return root


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._seen: set[int] = set()
        # Of headers, which can continue anywhere: no byte of the file is in two.
        self._left = len(content)
        self._heaps: dict[int, dict[int, bytes]] = {}

    def numbers(self, form: str, at: int) -> tuple[int, ...]:
        """Returns the little-endian integers at a place."""
        self._check(at, struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self._content, at)

    def _bytes(self, at: int, size: int) -> bytes:
        self._check(at, size)
        return self._content[at : at + size]

    def _text(self, at: int) -> str:
        """Returns the text at a place, up to its end of zero."""
        end = self._content.find(b"\0", at, at + _LONGEST_NAME)
        if end < 0:
            raise ValueError(_DAMAGED)
        return self._content[at:end].decode()

    def _check(self, at: int, size: int) -> None:
        if at + size > len(self._content):
            raise ValueError(_DAMAGED)

    def _once(self, at: int) -> None:
        if at in self._seen:
            raise ValueError("it has a part that is used twice")
        self._seen.add(at)

    def item(self, at: int, depth: int) -> Group | np.ndarray:
        """Returns the group or the array whose header lies at a place."""
        if depth > _DEEPEST:
            raise ValueError("its groups are nested too deeply")
        found: dict[int, int] = {}
        names: dict[str, list[str]] = {}
        for kind, flags, start, size in self._messages(at):
            if kind in _WITHOUT_MEANING:
                continue
            # Flag 2: the message is somewhere else.
            if kind in found or flags & 2:
                raise ValueError(_NOT_PLAIN)
            if kind == _ATTRIBUTE:
                names.update(self._attribute(start, start + size))
            else:
                found[kind] = start
        if found.keys() == {_TABLE}:
            return Group(dict(self._members(found[_TABLE], depth)), names)
        if found.keys() == {_SHAPE, _TYPE, _LAYOUT}:
            return self._array(found[_SHAPE], found[_TYPE], found[_LAYOUT])
        raise ValueError(_NOT_PLAIN)

    def _messages(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Yields kind, flags, place and size of the messages of a header."""
        version, size = self.numbers("B7xI", at)
        if version != 1:
            raise ValueError(_OTHER_VERSION)
        blocks = [(at + 16, size)]
        for start, length in blocks:
            self._once(start)
            self._check(start, length)
            self._left -= length
            if self._left < 0:
                raise ValueError(_DAMAGED)
            end = start + length
            while start + 8 <= end:
                kind, size, flags = self.numbers("HHB", start)
                start += 8
                if start + size > end:
                    raise ValueError(_DAMAGED)
                if kind == _CONTINUED:
                    place, length = self.numbers("QQ", start)
                    blocks.append((place, length))
                else:
                    yield kind, flags, start, size
                start += size

    def _members(self, at: int, depth: int) -> Iterator[tuple[str, Group | np.ndarray]]:
        tree, heap = self.numbers("QQ", at)
        if self._bytes(heap, 4) != b"HEAP":
            raise ValueError(_DAMAGED)
        (names,) = self.numbers("Q", heap + 24)
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            self._once(node)
            mark = self._bytes(node, 4)
            if mark == b"TREE":
                kind, _, count = self.numbers("BBH", node + 4)
                if kind:
                    raise ValueError(_DAMAGED)
                nodes += [
                    self.numbers("Q", node + 32 + 16 * each)[0] for each in range(count)
                ]
            elif mark == b"SNOD":
                (count,) = self.numbers("H", node + 6)
                for each in range(count):
                    name, header, link = self.numbers("QQI", node + 8 + 40 * each)
                    if link == 2:
                        raise ValueError(_NOT_PLAIN)
                    yield self._text(names + name), self.item(header, depth + 1)
            else:
                raise ValueError(_DAMAGED)

    def _array(self, shape_at: int, type_at: int, layout_at: int) -> np.ndarray:
        shape, kind = self._shape(shape_at), self._number_type(type_at)
        version, layout, at, size = self.numbers("BBQQ", layout_at)
        if (version, layout) != (3, 1):
            raise ValueError(_NOT_PLAIN)
        count = math.prod(shape)
        if size != count * kind.itemsize:
            raise ValueError(_DAMAGED)
        self._check(at, size)
        return np.frombuffer(self._content, kind, count, at).reshape(shape)

    def _shape(self, at: int) -> tuple[int, ...]:
        version, rank = self.numbers("BB", at)
        if version != 1:
            raise ValueError(_OTHER_VERSION)
        return self.numbers(f"{rank}Q", at + 8)

    def _number_type(self, at: int) -> np.dtype:
        version_and_class, flags, _, _, size = self.numbers("BBBBI", at)
        offset, precision = self.numbers("HH", at + 8)
        # The last flags are another order of bytes.
        if version_and_class == 0x11 and not flags & 0x41:
            form = (size, offset, precision, *self.numbers("BBBBI", at + 12))
            if form in _FLOATS:
                return np.dtype(_FLOATS[form])
        if version_and_class == 0x10 and not flags & 1 and size in (1, 2, 4, 8):
            return np.dtype(f"<{'i' if flags & 8 else 'u'}{size}")
        raise ValueError("it holds arrays of other than floats and integers")

    def _attribute(self, at: int, end: int) -> dict[str, list[str]]:
        """Returns the name and the texts of an attribute; nothing if it has no list."""
        version, _, name_size, type_size, shape_size = self.numbers("BBHHH", at)
        if version != 1:
            raise ValueError(_OTHER_VERSION)
        name_at = at + 8
        type_at = name_at + _padded(name_size)
        shape_at = type_at + _padded(type_size)
        texts_at = shape_at + _padded(shape_size)
        shape = self._shape(shape_at)
        if len(shape) != 1:
            return {}
        name = self._text(name_at)
        # Of no type in particular, if there is none.
        if shape == (0,):
            return {name: []}
        version_and_class, flags, _, _, size = self.numbers("BBBBI", type_at)
        if texts_at + shape[0] * size > end or size > _LONGEST_NAME:
            raise ValueError(_DAMAGED)
        places = range(texts_at, texts_at + shape[0] * size, max(size, 1))
        if version_and_class == 0x13:
            texts = [self._bytes(place, size) for place in places]
        elif version_and_class == 0x19 and flags & 0xF == 1 and size == 16:
            texts = [self._text_of_any_length(place) for place in places]
        else:
            return {}
        return {name: [text.rstrip(b"\0").decode() for text in texts]}

    def _text_of_any_length(self, at: int) -> bytes:
        size, heap, number = self.numbers("IQI", at)
        # Many may name the same bytes.
        if size > _LONGEST_NAME:
            raise ValueError(_DAMAGED)
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._in_heap(heap))
        return self._heaps[heap].get(number, b"")[:size]

    def _in_heap(self, at: int) -> Iterator[tuple[int, bytes]]:
        """Yields number and content of what lies in a global heap."""
        if self._bytes(at, 4) != b"GCOL":
            raise ValueError(_DAMAGED)
        end = at + self.numbers("Q", at + 8)[0]
        at += 16
        while at + 16 <= end:
            number, size = self.numbers("H6xQ", at)
            # The free rest of the heap.
            if number == 0:
                return
            self._once(at)
            yield number, self._bytes(at + 16, size)
            at += 16 + _padded(size)


def _padded(size: int) -> int:
    return (size + 7) // 8 * 8
