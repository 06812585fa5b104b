"""A packed folder: decoded images in one file, which is mapped instead of read.

It holds three files:

- `images.npy`: the pixels, as `numpy.load` reads them.
- `images.csv`: a row for each image, with its path in a data folder, such as
  `train/happy/1.png`, and the format it had if it was converted.
- `images.json`: what the two are; written last, as a sign that they are whole.

It may be a stranger's, so that all of it is checked before it is used.
"""

import csv
import io
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from emotion_cnn.data.images import IMAGE_SIZE, ImageFormat
from emotion_cnn.errors import DataError
from emotion_cnn.files import (
    first_line,
    is_plain_file,
    open_regular,
    read_json,
    replacing,
    shown,
    write_csv,
    write_json,
)

PIXELS_NAME, TABLE_NAME, FACTS_NAME = "images.npy", "images.csv", "images.json"
PACKED_NAMES = (PIXELS_NAME, TABLE_NAME, FACTS_NAME)
"""The files of a packed folder."""

KIND = "emotion-cnn packed images"
FORMAT = 1
"""Raised when a packed folder changes in a way that its readers must know of."""

_COLUMNS = ("path", "width", "height", "mode", "turned")
_FACTS_MEGABYTES = 64
_LONGEST_SIDE = 4096
_MOST_IMAGES = 2**31
_LONGEST_NAME = 4096
# With each character quoted, and a format.
_LONGEST_LINE = 3 * _LONGEST_NAME
_LONGEST_REASON = 200
_LARGEST_DIMENSION = 2**31
_CHECKED_AT_ONCE = 2**20
_NUMPY = b"\x93NUMPY\x01\x00"
_HEADER_BYTES = 128
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\0]+"
_NAME = re.compile(f"{_PART}/{_PART}/{_PART}")
_MODE = re.compile("[A-Za-z0-9;]{1,20}")


@dataclass(frozen=True, eq=False)
class Packed:
    """What a packed folder holds.

    Attributes:
        images: uint8 `(n, height, width, 1)`, gray levels 0 to 255, read-only; mapped,
            so that the system reads what is used, and drops it where memory is short.
        names: The n paths in a data folder, all different, in the order of the images.
        converted: The former format of each image that was converted, by name.
        unreadable: The reason for each image that could not be read, by name.
    """

    images: np.ndarray
    names: tuple[str, ...]
    converted: Mapping[str, ImageFormat]
    unreadable: Mapping[str, str]

    @cached_property
    def folders(self) -> Mapping[str, np.ndarray]:
        """Where the images of each folder, such as `train/happy`, are: int64 `(m,)`."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            places.setdefault(name.rpartition("/")[0], []).append(place)
        return {name: np.array(each) for name, each in places.items()}


class PackedWriter:
    """Takes images one by one; keeps their names, not their pixels.

    Attributes:
        names: Of the images so far. They may be changed until the end.
        size: Height and width of the images, in pixels.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        """Takes the open file for pixels; `packing` calls this."""
        self.names: list[str] = []
        self.size = size
        self._file = file
        self._formats: dict[int, ImageFormat] = {}
        self._unreadable: dict[str, str] = {}
        self._checksum = 0

    def add(
        self, name: str, image: np.ndarray, before: ImageFormat | None = None
    ) -> None:
        """Writes an image.

        Args:
            name: Its path in a data folder, `part/class/file`, that no other has.
            image: uint8 `(size, size)`.
            before: The format it had, if it was converted.
        """
        if image.shape != (self.size, self.size) or image.dtype != np.uint8:
            raise ValueError(f"an image of {image.dtype} {image.shape}")
        if before is not None:
            self._formats[len(self.names)] = before
        pixels = image.tobytes()
        self._file.write(pixels)
        self._checksum = zlib.crc32(pixels, self._checksum)
        self.names.append(name)

    def add_unreadable(self, name: str, reason: str) -> None:
        """Notes an image that cannot be read, and why, in a few words."""
        self._unreadable[name] = reason

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of the table."""
        for place, name in enumerate(self.names):
            each = self._formats.get(place)
            yield (
                (name, "", "", "", "")
                if each is None
                else (name, each.width, each.height, each.mode, int(each.turned))
            )

    def facts(self) -> dict[str, Any]:
        """Returns what the pixels are."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "shape": [len(self.names), self.size, self.size, 1],
            "crc32": self._checksum,
            "unreadable": self._unreadable,
        }


@contextmanager
def packing(folder: Path, *, size: int = IMAGE_SIZE) -> Iterator[PackedWriter]:
    """Makes a packed folder of the images that the block adds.

    If the block raises, nothing is left.

    Args:
        folder: Existing folder without a packed one's files. What takes its place whole
            has to be made elsewhere, and renamed.
        size: Height and width of the images, in pixels.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(folder / PIXELS_NAME) as path, path.open("wb") as file:
        file.write(bytes(_HEADER_BYTES))
        writer = PackedWriter(file, size)
        yield writer
        file.seek(0)
        file.write(_header((len(writer.names), size, size, 1)))
    write_csv(folder / TABLE_NAME, _COLUMNS, writer.rows(), errors="surrogatepass")
    with (folder / TABLE_NAME).open("rb") as table:
        facts = {**writer.facts(), "table_crc32": _checksum(table)}
    write_json(folder / FACTS_NAME, facts)


def is_packed(folder: Path) -> bool:
    """Returns whether a folder looks like a packed one, by the names of its files."""
    return all(os.path.lexists(folder / name) for name in (PIXELS_NAME, FACTS_NAME))


def read_packed(folder: Path) -> Packed:
    """Opens a packed folder; a second time at once, as long as it is the same.

    Raises:
        DataError: It is damaged, not whole, of another format, or no packed folder.
    """
    try:
        identity = tuple(map(_identity, (folder / name for name in PACKED_NAMES)))
        return _read(folder.resolve(), identity)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"Expected packed images in {shown(str(folder))}, found that "
            f"{shown(first_line(error))}. Make the folder again, or choose another."
        ) from error


def _identity(path: Path) -> tuple[int, ...]:
    """Returns what changes when a file does."""
    if not is_plain_file(path):
        raise ValueError(f"{path.name} is not a regular file")
    status = path.lstat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4)
def _read(folder: Path, identity: tuple[tuple[int, ...], ...]) -> Packed:
    facts = read_json(folder / FACTS_NAME, megabytes=_FACTS_MEGABYTES)
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise ValueError(f"{FACTS_NAME} is of another kind")
    if facts.get("format") != FORMAT:
        found = shown(str(facts.get("format"))[:20])
        raise ValueError(f"{FACTS_NAME} is of format {found} in place of {FORMAT}")
    shape = _shape(facts.get("shape"))
    unreadable = facts.get("unreadable")
    if not isinstance(unreadable, dict) or not all(
        _is_reason(reason) and _NAME.fullmatch(name)
        for name, reason in unreadable.items()
    ):
        raise ValueError(f"{FACTS_NAME} does not say which images were unreadable")
    with _opened(folder / TABLE_NAME) as table:
        if _checksum(table) != facts.get("table_crc32"):
            raise ValueError(f"{TABLE_NAME} is damaged")
        table.seek(0)
        names, converted = _read_table(table, shape[0])
    with _opened(folder / PIXELS_NAME) as file:
        images = _map(file, shape, facts.get("crc32"))
    return Packed(images, names, converted, unreadable)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a regular file, and not what a link leads to."""
    with open_regular(path) as file:
        if not os.path.samestat(path.lstat(), os.fstat(file.fileno())):
            raise ValueError(f"{path.name} is a link")
        yield file


def _is_reason(value: Any) -> bool:
    """Returns whether a value is a few words that any terminal may show."""
    is_short = isinstance(value, str) and len(value) <= _LONGEST_REASON
    return is_short and value.isprintable()


def _shape(values: Any) -> tuple[int, int, int, int]:
    if (
        isinstance(values, list)
        and len(values) == 4
        and all(type(value) is int for value in values)
        and 0 <= values[0] <= _MOST_IMAGES
        and all(0 < side <= _LONGEST_SIDE for side in values[1:3])
        and values[3] == 1
    ):
        return (values[0], values[1], values[2], 1)
    raise ValueError(f"{FACTS_NAME} has no shape of grayscale images")


def _map(
    file: io.BufferedReader, shape: tuple[int, int, int, int], checksum: Any
) -> np.ndarray:
    # Compared, not parsed: no other dtype, order or shape is ever looked at.
    if file.read(_HEADER_BYTES) != _header(shape):
        raise ValueError(f"{PIXELS_NAME} is no array of uint8 {shape}")
    expected = _HEADER_BYTES + shape[0] * shape[1] * shape[2]
    if (found := os.fstat(file.fileno()).st_size) != expected:
        raise ValueError(f"{PIXELS_NAME} has {found:,} bytes in place of {expected:,}")
    # This also reads the file from its begin to its end, which is the fastest way into
    # memory for a disk.
    if _checksum(file) != checksum:
        raise ValueError(f"{PIXELS_NAME} is damaged")
    mapped = np.memmap(file, np.uint8, "r", offset=_HEADER_BYTES, shape=shape)
    # Indexing a `memmap` makes more of them, which takes longer than the pixels.
    return mapped.view(np.ndarray)


def _read_table(
    table: IO[bytes], count: int
) -> tuple[tuple[str, ...], dict[str, ImageFormat]]:
    """Returns the names of the images, and the formats of those that were converted."""
    names: list[str] = []
    converted = {}
    with io.TextIOWrapper(table, "utf-8", "surrogatepass", newline="") as text:
        # A file of zeros, say, is one line as long as the file.
        lines = iter(partial(text.readline, _LONGEST_LINE), "")
        rows = csv.reader(lines, strict=True)
        if next(rows, None) != [*_COLUMNS]:
            raise ValueError(f"{TABLE_NAME} has other columns")
        for row in rows:
            name = row[0] if len(row) == len(_COLUMNS) else ""
            if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
                raise ValueError(f"{TABLE_NAME} has no path in row {len(names) + 1}")
            if row[3]:
                converted[name] = _format(row)
            names.append(name)
            if len(names) > count:
                break
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{TABLE_NAME} does not name {count:,} different images")
    return tuple(names), converted


def _format(row: list[str]) -> ImageFormat:
    numbers = row[1:3]
    if all(re.fullmatch("[0-9]{1,10}", each) for each in numbers):
        width, height = map(int, numbers)
        if max(width, height) < _LARGEST_DIMENSION and _MODE.fullmatch(row[3]):
            return ImageFormat(width, height, row[3], row[4] == "1")
    raise ValueError(f"{TABLE_NAME} has no format of {shown(row[0][:200])}")


def _header(shape: tuple[int, int, int, int]) -> bytes:
    """Returns the start of a `.npy` file, as NumPy's format 1.0 describes it."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    rest = _HEADER_BYTES - len(_NUMPY) - 2
    return _NUMPY + struct.pack("<H", rest) + text.ljust(rest - 1).encode() + b"\n"


def _checksum(file: IO[bytes]) -> int:
    """Returns the CRC-32 of the rest of a file."""
    checksum = 0
    while block := file.read(_CHECKED_AT_ONCE):
        checksum = zlib.crc32(block, checksum)
    return checksum
