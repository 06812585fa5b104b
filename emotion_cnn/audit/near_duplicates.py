"""Near-duplicates: images that are the same but for a few gray levels, or flipped.

The distance between two images is the root mean square difference of their
pixels (RMSE), in gray levels. To compute it for all 644 million pairs of 35,886
images, and again for their horizontal flips, would take hours. So a lower bound of
it rules out nearly all of them first, a bound from 37 numbers an image that one
matrix product gives for a million pairs at a time; what it cannot rule out is then
measured exactly. Nothing within the limit is missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

_FREQUENCIES = 8
"""Cosines kept: those whose horizontal and vertical number sum to less."""
_ROWS, _COLUMNS = 1024, 2048
_CHUNK = 2048
_NONE = np.uint64(2**64 - 1)


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
    images: np.ndarray, parts: np.ndarray, labels: np.ndarray, limit: float
) -> NearDuplicates:
    """Finds the near-duplicates of every image, as it is and flipped.

    All pairs are compared, but not all are kept: a thousand copies of one image have
    half a million pairs, which say no more than 999 of them. A pair is kept if one of
    the two is the nearest to the other among the images of its part and label, of
    equally near ones the first. Others are kept where without them images of one part
    would no longer be connected by near-duplicates.

    Args:
        images: uint8 `(n, size, size, 1)`.
        parts: int `(n,)`, from 0: the part of the data, such as train or test.
        labels: int `(n,)`, from 0.
        limit: Greatest distance of near-duplicates, in gray levels; at most 80.

    Returns:
        Pairs no further apart than `limit`, each once, with the smaller one of its
        distances as it is and flipped; as it is where both are equal.
    """
    count, size = images.shape[:2]
    # In squares summed over all pixels, which are whole numbers.
    greatest = limit**2 * size**2
    groups = parts * (labels.max(initial=-1) + 1) + labels
    group_count = int(groups.max(initial=-1)) + 1
    pixels = images.reshape(count, size**2)
    flipped_pixels = images[:, :, ::-1].reshape(count, size**2)
    # Distance above, position below: the least of these is the nearest near-duplicate.
    nearest = np.full(2 * group_count * count, _NONE, dtype=np.uint64)
    components = np.arange(count)
    links: list[tuple[int, int]] = []
    features, flipped_features = _features(images)
    for flipped, others, other_features in (
        (0, pixels, features),
        (1, flipped_pixels, flipped_features),
    ):
        for first, second in _candidates(features, other_features, greatest):
            squares = _squared_distances(pixels[first], others[second])
            near = squares <= greatest
            first, second, squares = first[near], second[near], squares[near]
            for one, other in ((first, second), (second, first)):
                keys = squares << np.uint64(32) | other.astype(np.uint64)
                place = 2 * (one * group_count + groups[other]) + flipped
                np.minimum.at(nearest, place, keys)
            links += _connect(components, parts, first, second)

    places = np.flatnonzero(nearest != _NONE)
    keys = nearest[places]
    one = places // (2 * group_count)
    other = (keys & np.uint64(2**32 - 1)).astype(np.int64)
    # The nearest ones connect nearly all that the links do, so few links are kept.
    components = np.arange(count)
    _connect(components, parts, one, other)
    links = _connect(components, parts, *_columns(links))
    first, second = _columns(links)
    as_is = _squared_distances(pixels[first], pixels[second])
    turned = _squared_distances(pixels[first], flipped_pixels[second])
    return _unique_pairs(
        size,
        np.concatenate((one, first)),
        np.concatenate((other, second)),
        np.concatenate((keys >> np.uint64(32), np.minimum(as_is, turned))),
        np.concatenate((places % 2 == 1, turned < as_is)),
    )


def _connect(
    components: np.ndarray, parts: np.ndarray, first: np.ndarray, second: np.ndarray
) -> list[tuple[int, int]]:
    """Connects images of one part, and returns the pairs that it took.

    Args:
        components: int64 `(n,)`, equal for images that are connected; updated.
        parts: As for `find_near_duplicates`.
        first: int64 `(m,)`, positions of images.
        second: int64 `(m,)`, positions of their near-duplicates.
    """
    taken = []
    apart = (parts[first] == parts[second]) & (components[first] != components[second])
    for pair in zip(first[apart].tolist(), second[apart].tolist(), strict=True):
        one, other = components[list(pair)]
        if one != other:
            components[components == other] = one
            taken.append(pair)
    return taken


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


def _squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns sums of squares, uint64 `(m,)`, of two uint8 `(m, pixels)`.

    They are exact below 2**24, an RMSE of 85: up to there float32 holds every whole
    number, and adds them ten times as fast as int32 is added.
    """
    difference = np.subtract(one, other, dtype=np.float32)
    return np.einsum("ij,ij->i", difference, difference).astype(np.uint64)


def _candidates(
    features: np.ndarray, others: np.ndarray, greatest: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields positions, int64 `(m,)` each, of pairs that may be near enough.

    Args:
        features: float32 `(n, k)`, what `_features` says of the images.
        others: float32 `(n, k)`, the same of what they are compared with: the
            images or their horizontal flips. Either way the distance of a pair does
            not depend on which is first, so only pairs in order are yielded.
        greatest: Greatest squared distance, summed over all pixels.
    """
    squares = np.einsum("ij,ij->i", features, features)
    other_squares = np.einsum("ij,ij->i", others, others)
    # With these two columns the product is the squared distance itself.
    ones = np.ones_like(squares)
    left = np.column_stack((features, squares, ones))
    right = np.column_stack((-2 * others, ones, other_squares))
    # Rounding in a product of k terms is at most k * eps / 2 times the sum of the
    # terms' sizes, and that at most four times the largest square (N. J. Higham,
    # "Accuracy and Stability of Numerical Algorithms", section 3.1); this is twice
    # as much.
    largest = max(squares.max(initial=0), other_squares.max(initial=0))
    slack = 4 * left.shape[1] * np.finfo(np.float32).eps * largest
    bound = greatest + slack
    rows = range(0, len(left), _ROWS)
    for row in tqdm(rows, desc="comparing", unit=" blocks", disable=None):
        for column in range(row, len(right), _COLUMNS):
            block = left[row : row + _ROWS] @ right[column : column + _COLUMNS].T
            first, second = np.divmod(np.flatnonzero(block <= bound), block.shape[1])
            first, second = first + row, second + column
            ahead = first < second
            first, second = first[ahead], second[ahead]
            for start in range(0, len(first), _CHUNK):
                yield first[start : start + _CHUNK], second[start : start + _CHUNK]


def _features(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Describes images by numbers whose distances are never above their own.

    They are the low frequencies of the discrete cosine transform (type II,
    orthonormal: a rotation, which keeps distances) and the length of all that is
    left of the image: by the triangle inequality two lengths differ by no more
    than what they are the lengths of. Flipping an image changes the sign of its
    odd horizontal frequencies and nothing else.

    Args:
        images: uint8 `(n, size, size, 1)`.

    Returns:
        float32 `(n, 37)` for the images, and for their horizontal flips.
    """
    cosines = _cosines(images.shape[1])
    vertical, horizontal = np.indices((_FREQUENCIES, _FREQUENCIES))
    kept = vertical + horizontal < _FREQUENCIES
    features = np.empty((len(images), np.count_nonzero(kept) + 1))
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK, :, :, 0].astype(np.float64)
        low = (cosines @ part @ cosines.T)[:, kept]
        left = np.einsum("nij,nij->n", part, part) - np.einsum("ni,ni->n", low, low)
        length = np.sqrt(np.maximum(left, 0))
        features[start : start + _CHUNK] = np.column_stack((low, length))
    signs = np.append(1 - 2 * (horizontal[kept] % 2), 1)
    # Distances do not depend on the middle, but rounding errors grow away from it.
    middle = features.mean(axis=0) if len(features) else 0
    return (
        (features - middle).astype(np.float32),
        (features * signs - middle).astype(np.float32),
    )


def _cosines(size: int) -> np.ndarray:
    """Returns the first rows, `(8, size)`, of the orthonormal transform."""
    frequency, place = np.indices((_FREQUENCIES, size))
    cosines = np.cos(np.pi * (2 * place + 1) * frequency / (2 * size))
    cosines *= np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)
    return cosines
