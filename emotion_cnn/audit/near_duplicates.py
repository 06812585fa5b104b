"""Near-duplicates: images that are the same but for a few gray levels, or flipped.

The distance between two images is the root mean square difference of their
pixels (RMSE), in gray levels. To compute it for all 644 million pairs of 35,886
images, and again for their horizontal flips, would take hours. So a lower bound of
it rules out nearly all of them first, a bound from 37 numbers an image that one
matrix product gives for two million pairs at a time; what it cannot rule out is then
measured exactly. Nothing within the limit is missed.

Images are read a block at a time, so that they may lie in a memory map. What is kept
of each is these numbers; where two parts are compared, only those of one part.

Of very many images only those pairs can be measured whose numbers an index of faiss
finds to be close: that is nearly complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from emotion_cnn.extras import require

_FREQUENCIES = 8
"""Cosines kept: those whose horizontal and vertical number sum to less."""
_VERTICAL, _HORIZONTAL = np.indices((_FREQUENCIES, _FREQUENCIES))
_KEPT = _VERTICAL + _HORIZONTAL < _FREQUENCIES
_SIGNS = np.append(1 - 2 * (_HORIZONTAL[_KEPT] % 2), 1).astype(np.float32)
"""What flipping an image multiplies its numbers by."""
_ROWS, _COLUMNS = 1024, 2048
_CHUNK = 2048
_SAMPLES = 64
"""Images for each cell of an index that say where it is."""
_CELLS_SEARCHED = 16
_SEARCHED_AT_ONCE = 256


class Images(Protocol):
    """Images that are read when they are indexed, such as an array or a memory map."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, positions: np.ndarray, /) -> np.ndarray:
        """Returns those at some positions, uint8 `(m, size, size, 1)`."""


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of images, by distance and then by position.

    Attributes:
        first: int64 `(p,)`, positions of images.
        second: int64 `(p,)`, positions above those in `first`.
        rmse: float64 `(p,)`, distance of the two, in gray levels.
        flipped: bool `(p,)`, whether that is to the horizontal flip of the other.
    """

    first: np.ndarray
    second: np.ndarray
    rmse: np.ndarray
    flipped: np.ndarray

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.first)


def find_near_duplicates(
    images: Images,
    parts: np.ndarray,
    labels: np.ndarray,
    limit: float,
    *,
    boundary: int | None = None,
    complete: bool = True,
) -> NearDuplicates:
    """Finds the near-duplicates of every image, as it is and flipped.

    All pairs are compared, but not all are kept: a thousand copies of one image have
    half a million pairs, which say no more than 999 of them. A pair is kept if one of
    the two is the nearest to the other among the images of its part and label, of
    equally near ones the first. Others are kept where without them images of one part
    would no longer be connected by near-duplicates.

    Args:
        images: `n` images.
        parts: int `(n,)`, from 0: the part of the data, such as train or test.
        labels: int `(n,)`, from 0.
        limit: Greatest distance of near-duplicates, in gray levels; at most 80.
        boundary: Compare only the images before this position with those from it on;
            None for all with all.
        complete: Whether every pair is compared. Otherwise `boundary` is None, and few
            pairs may be missed (docs/audit.md says how many were, where it is known).

    Returns:
        Pairs no further apart than `limit`, each once, with the smaller one of its
        distances as it is and flipped; as it is where both are equal.

    Raises:
        MissingPackageError: It need not be `complete`, and faiss is not installed.
    """
    size = images[np.arange(0)].shape[1]
    # In squares summed over all pixels, which are whole numbers.
    greatest = limit**2 * size**2
    groups = parts * (labels.max(initial=-1) + 1) + labels
    group_count = int(groups.max(initial=-1)) + 1
    nearest = _Nearest()
    links = [_Links(parts), _Links(parts)]
    if complete:
        candidates = _candidates(images, greatest, boundary)
    else:
        candidates = _likely_candidates(images, greatest)
    for flipped, first, second in candidates:
        squares = _squared_distances(images, first, second, flipped=flipped)
        near = squares <= greatest
        if not near.any():
            continue
        first, second, squares = first[near], second[near], squares[near]
        for one, other in ((first, second), (second, first)):
            place = 2 * (one * group_count + groups[other]) + flipped
            nearest.add(place, squares << np.uint64(32) | other.astype(np.uint64))
        links[flipped].add(first, second)

    nearest.merge()
    one = nearest.places // (2 * group_count)
    other = (nearest.keys & np.uint64(2**32 - 1)).astype(np.int64)
    # The nearest ones connect nearly all that the links do, so few links are kept.
    connected = _Links(parts)
    connected.add(one, other)
    before = len(connected.taken)
    for each in links:
        connected.add(*_columns(each.taken))
    first, second = _columns(connected.taken[before:])
    as_is = _squared_distances(images, first, second, flipped=False)
    turned = _squared_distances(images, first, second, flipped=True)
    return _unique_pairs(
        size,
        np.concatenate((one, first)),
        np.concatenate((other, second)),
        np.concatenate((nearest.keys >> np.uint64(32), np.minimum(as_is, turned))),
        np.concatenate((nearest.places % 2 == 1, turned < as_is)),
    )


class _Nearest:
    """The least key of each place, in memory for few more than these.

    Attributes:
        places: int64 `(m,)`, in ascending order.
        keys: uint64 `(m,)`: distance above, position below, so that the least is that
            of the nearest near-duplicate.
    """

    def __init__(self) -> None:
        self.places = np.empty(0, np.int64)
        self.keys = np.empty(0, np.uint64)
        self._added: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0

    def add(self, places: np.ndarray, keys: np.ndarray) -> None:
        self._added.append((places, keys))
        # An array takes as much beside its numbers as some dozen of them.
        self._count += len(places) + 24
        if self._count > max(_ROWS * _COLUMNS, len(self.places)):
            self.merge()

    def merge(self) -> None:
        """Brings `places` and `keys` up to date."""
        columns = zip((self.places, self.keys), *self._added, strict=True)
        places, keys = (np.concatenate(column) for column in columns)
        order = np.lexsort((keys, places))
        order = order[np.diff(places[order], prepend=-1) != 0]
        self.places, self.keys = places[order], keys[order]
        self._added, self._count = [], 0


class _Links:
    """The pairs, of all that are added, that it takes to connect images of one part.

    Attributes:
        taken: Positions of the two images of each.
    """

    def __init__(self, parts: np.ndarray) -> None:
        self.taken: list[tuple[int, int]] = []
        self._parts = parts
        # Equal for images that are connected.
        self._components = np.arange(len(parts))
        self._members: dict[int, list[int]] = {}

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        parts, components = self._parts, self._components
        apart = parts[first] == parts[second]
        apart &= components[first] != components[second]
        for pair in zip(first[apart].tolist(), second[apart].tolist(), strict=True):
            names = components[list(pair)].tolist()
            if names[0] != names[1]:
                few, many = sorted(
                    (self._members.pop(name, [name]) for name in names), key=len
                )
                name = int(components[many[0]])
                components[few] = name
                many += few
                self._members[name] = many
                self.taken.append(pair)


def _columns(links: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and the second of each pair, int64 `(m,)` each."""
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _unique_pairs(
    size: int,
    one: np.ndarray,
    other: np.ndarray,
    squares: np.ndarray,
    flipped: np.ndarray,
) -> NearDuplicates:
    """Returns every pair once, whichever of the two is first, in order."""
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((flipped, squares, second, first))
    repeated = np.zeros(len(order), dtype=bool)
    repeated[1:] = (np.diff(first[order]) == 0) & (np.diff(second[order]) == 0)
    order = order[~repeated]
    order = order[np.lexsort((second[order], first[order], squares[order]))]
    return NearDuplicates(
        first[order],
        second[order],
        np.sqrt(squares[order].astype(np.float64)) / size,
        flipped[order],
    )


def _squared_distances(
    images: Images, first: np.ndarray, second: np.ndarray, *, flipped: bool
) -> np.ndarray:
    """Returns sums of squares, uint64 `(m,)`, of images and others, or their flips.

    They are exact below 2**24, an RMSE of 85: up to there float32 holds every whole
    number, and adds them ten times as fast as int32 is added.
    """
    squares = np.empty(len(first), np.uint64)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        others = images[second[part]]
        others = others[:, :, ::-1] if flipped else others
        difference = np.subtract(images[first[part]], others, dtype=np.float32)
        squares[part] = np.einsum("nijk,nijk->n", difference, difference)
    return squares


def _candidates(
    images: Images, greatest: float, boundary: int | None
) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """Yields pairs that may be near enough, block by block.

    Args:
        images: `n` images.
        greatest: Greatest squared distance, summed over all pixels.
        boundary: As for `find_near_duplicates`.

    Yields:
        Whether the second is flipped; positions of the first, int64 `(m,)`; and of the
        second, above these. The distance to a flip does not depend on which of the two
        is flipped.
    """
    count, start = len(images), boundary or 0
    rows = range(0, count if boundary is None else boundary, _ROWS)
    others = _read_features(images, np.arange(start, count))
    for row in tqdm(rows, desc="comparing", unit=" blocks", disable=None):
        if boundary is None:
            features = others[row : row + _ROWS]
        else:
            positions = np.arange(row, min(row + _ROWS, rows.stop))
            features = _read_features(images, positions)
        factors = [_factors(features, flipped=flipped) for flipped in (False, True)]
        for column in range(max(row, start), count, _COLUMNS):
            block = others[column - start : column - start + _COLUMNS]
            bound = greatest + _rounding(features, block)
            for flipped, factor in enumerate(factors):
                near = np.flatnonzero(factor @ block.T <= bound)
                first, second = np.divmod(near, len(block))
                first, second = first + row, second + column
                ahead = first < second
                yield flipped == 1, first[ahead], second[ahead]


def _likely_candidates(
    images: Images, greatest: float
) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """Yields what `_candidates` of all images yields, but for few pairs.

    An inverted file: the space of the images' numbers is divided into cells, about four
    times the square root of the images, and only what is in the nearest cells is
    compared (J. Sivic and A. Zisserman, "Video Google", ICCV 2003; M. Douze et al.,
    "The Faiss library", 2024).
    """
    faiss = require("faiss", extra="faiss")
    count = len(images)
    if not count:
        return
    cells = min(count, int(4 * count**0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(len(_SIGNS)), len(_SIGNS), cells)
    index.nprobe = _CELLS_SEARCHED
    # Otherwise it prints a warning where there are few.
    index.cp.min_points_per_centroid = 1
    sample = np.linspace(0, count - 1, min(count, _SAMPLES * cells)).astype(np.int64)
    index.train(_read_features(images, sample)[:, :-2])
    for start in range(0, count, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, count))
        index.add(_read_features(images, positions)[:, :-2])
    rows = range(0, count, _SEARCHED_AT_ONCE)
    for row in tqdm(rows, desc="comparing", unit=" blocks", disable=None):
        positions = np.arange(row, min(row + _SEARCHED_AT_ONCE, count))
        features = _read_features(images, positions)
        bound = greatest + _rounding(features, features)
        for flipped, scale in enumerate((np.ones_like(_SIGNS), _SIGNS)):
            ends, _, found = index.range_search(features[:, :-2] * scale, bound)
            first = np.repeat(positions, np.diff(ends.astype(np.int64)))
            other = first != found
            first, second = np.sort((first[other], found[other]), axis=0)
            yield flipped == 1, first, second


def _rounding(features: np.ndarray, others: np.ndarray) -> float:
    """Returns more than rounding can add to a squared distance of two of these.

    In a product of k terms it is at most k * eps / 2 times the sum of the terms' sizes,
    and that at most four times the largest square (N. J. Higham, "Accuracy and
    Stability of Numerical Algorithms", section 3.1); this is twice as much.
    """
    largest = max(features[:, -2].max(initial=0), others[:, -2].max(initial=0))
    return float(4 * others.shape[1] * np.finfo(np.float32).eps * largest)


def _read_features(images: Images, positions: np.ndarray) -> np.ndarray:
    """Returns what `_features` says of the images at some positions, few at a time."""
    features = np.empty((len(positions), len(_SIGNS) + 2), np.float32)
    for start in range(0, len(positions), _CHUNK):
        part = slice(start, start + _CHUNK)
        features[part] = _features(images[positions[part]])
    return features


def _features(images: np.ndarray) -> np.ndarray:
    """Describes images by numbers whose distances are never above their own.

    They are the low frequencies of the discrete cosine transform (type II,
    orthonormal: a rotation, which keeps distances) and the length of all that is
    left of the image: by the triangle inequality two lengths differ by no more
    than what they are the lengths of.

    Args:
        images: uint8 `(m, size, size, 1)`.

    Returns:
        float32 `(m, 39)`: these 37 numbers, the sum of their squares, and 1.
    """
    cosines = _cosines(images.shape[1])
    # Distances do not depend on the middle, but rounding errors grow away from it.
    centred = images[:, :, :, 0] - 128.0
    low = (cosines @ centred @ cosines.T)[:, _KEPT]
    energy = np.einsum("nij,nij->n", centred, centred)
    length = np.sqrt(np.maximum(energy - np.einsum("ni,ni->n", low, low), 0))
    numbers = np.column_stack((low, length)).astype(np.float32)
    squares = np.einsum("ni,ni->n", numbers, numbers)
    return np.column_stack((numbers, squares, np.ones_like(squares)))


def _factors(features: np.ndarray, *, flipped: bool) -> np.ndarray:
    """Returns what gives squared distances to others, times the others' features.

    Args:
        features: float32 `(m, 39)`, what `_features` says of images.
        flipped: Whether of their horizontal flips. Flipping an image changes the sign
            of its odd horizontal frequencies and nothing else.

    Returns:
        float32 `(m, 39)`.
    """
    numbers, squares, ones = features[:, :-2], features[:, -2], features[:, -1]
    scale = -2 * _SIGNS if flipped else np.float32(-2)
    return np.column_stack((numbers * scale, ones, squares))


def _cosines(size: int) -> np.ndarray:
    """Returns the first rows, `(8, size)`, of the orthonormal transform."""
    frequency, place = np.indices((_FREQUENCIES, size))
    cosines = np.cos(np.pi * (2 * place + 1) * frequency / (2 * size))
    cosines *= np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)
    return cosines
