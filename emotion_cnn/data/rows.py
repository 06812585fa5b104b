"""Images by their positions in an array, which may be larger than memory."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_AT_ONCE = 4096
_MEMORY_SHARE = 0.75
"""Of memory, for pixels: the rest is for the network, the program and the system."""
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Rows:
    """Some rows of an array; their pixels are read when they are asked for.

    Indexing returns arrays, and so does `numpy.asarray`, which reads all.

    Attributes:
        shape: As an array's.
        dtype: As an array's.
    """

    def __init__(self, source: np.ndarray, positions: np.ndarray) -> None:
        """Takes an array that may be mapped, and int `(n,)` positions in it."""
        self._source, self._positions = source, positions
        self.shape: tuple[int, ...] = (len(positions), *source.shape[1:])
        self.dtype = source.dtype

    @classmethod
    def of(cls, images: "Images") -> "Rows":
        """Returns an array as rows, or rows as they are."""
        if isinstance(images, Rows):
            return images
        return cls(images, np.arange(len(images)))

    @property
    def nbytes(self) -> int:
        """What they would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._positions)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Returns a row, or a copy of those of a slice, a mask or positions."""
        rows: np.ndarray = self._source[self._positions[index]]
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads all."""
        return np.asarray(self[:], dtype)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the rows one by one."""
        for rows in in_blocks(self):
            yield from rows

    def select(self, positions: np.ndarray) -> "Rows":
        """Returns the rows at some positions among these; reads none."""
        return Rows(self._source, self._positions[positions])

    def prefetch(self, first: int, end: int) -> None:
        """Asks the system to read what lies between two rows, without waiting."""
        mapped = _map_of(self._source)
        if mapped is None or not hasattr(mapped, "madvise") or first >= end:
            return
        low, high = np.sort(self._positions[[first, end - 1]]).tolist()
        row = self.nbytes // len(self)
        page = mmap.PAGESIZE
        # The pixels are the end of the file.
        begin = len(mapped) - len(self._source) * row
        start = (begin + low * row) // page * page
        mapped.madvise(mmap.MADV_WILLNEED, start, begin + (high + 1) * row - start)


Images = np.ndarray | Rows
"""uint8 `(n, height, width, 1)`, gray levels 0 to 255."""


def in_blocks(images: Images) -> Iterator[np.ndarray]:
    """Yields all images, some thousand at a time."""
    for start in range(0, len(images), _AT_ONCE):
        yield images[start : start + _AT_ONCE]


def exceed_memory(images: Images) -> bool:
    """Returns whether images are too many for this machine to keep all in memory.

    That depends on all memory, not on what is free, so that it is the same each time.
    """
    memory = psutil.virtual_memory().total
    try:
        limit = _CONTAINER_LIMIT.read_text().strip()
    except OSError:
        limit = ""
    if limit.isdecimal():
        memory = min(memory, int(limit))
    return images.nbytes > _MEMORY_SHARE * memory


def _map_of(array: np.ndarray) -> mmap.mmap | None:
    """Returns the mapped file that an array is the end of, if it is."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
