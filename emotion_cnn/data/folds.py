"""Parts of the training images: what belongs together stays so, classes are spread."""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.files import shown

if TYPE_CHECKING:
    import numpy as np

_MOST_FOLDS = 20


def parse_fold(text: str) -> tuple[int, int]:
    """Returns the fold, from 1, and the number of folds that a text like `1/4` names.

    Raises:
        ConfigError: It names none.
    """
    match = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})", text)
    fold, count = map(int, match.groups()) if match else (0, 0)
    if not (2 <= count <= _MOST_FOLDS and 1 <= fold <= count):
        raise ConfigError(
            f"`fold` is K/N, such as 1/4: a fold from 1 to N, of 2 to {_MOST_FOLDS} "
            f"folds; found {text!r}."
        )
    return fold, count


def divide_into_folds(
    names: Sequence[str],
    labels: Sequence[int],
    pairs: Iterable[tuple[str, str]],
    *,
    count: int,
) -> list[int]:
    """Divides images into folds, the same for the same images in whatever order.

    Args:
        names: The n names of the images, all different.
        labels: Their n labels.
        pairs: Names of two images that are near-duplicates. Images that are connected
            by such pairs, also by way of an image that is not among `names`, are in
            one fold.
        count: Number of folds.

    Returns:
        The n folds, from 1. Each class is spread evenly, as far as near-duplicates
        allow.
    """
    groups = _groups(names, pairs)
    # Large ones first: single images then even the classes out. Otherwise by hash, an
    # order without meaning that no seed and no version of a library changes.
    groups.sort(key=lambda group: (-len(group), _hash(group[0])))
    label_of = dict(zip(names, labels, strict=True))
    totals = Counter(labels)
    sizes = [0] * count
    class_counts = [Counter[int]() for _ in range(count)]
    fold_of = {}
    for group in groups:
        classes = Counter(label_of[name] for name in group)

        def crowding(fold: int, classes: Counter[int] = classes) -> tuple[float, int]:
            """How much of the group's classes the fold holds, then its size."""
            held = class_counts[fold]
            shares = (n * held[label] / totals[label] for label, n in classes.items())
            return sum(shares), sizes[fold]

        fold = min(range(count), key=crowding)
        class_counts[fold] += classes
        sizes[fold] += len(group)
        fold_of.update(dict.fromkeys(group, fold + 1))
    return [fold_of[name] for name in names]


def choose_groups(
    labels: "np.ndarray", groups: Sequence[str], *, share: float, seed: int
) -> "np.ndarray":
    """Chooses whole groups that hold about a share of every class.

    Args:
        labels: int `(n,)`.
        groups: The n groups.
        share: Above 0 and below 1; rounded to a multiple of a twentieth or of a
            larger part, and to whole groups.
        seed: Chooses them.

    Returns:
        bool `(n,)`: which images are chosen; some, and never all.

    Raises:
        DataError: There are fewer than two groups, or no class has two images.
    """
    # The settings of a training import this module.
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.unique(np.array(groups, dtype=object), return_inverse=True)[1]
    least = Fraction(1, _MOST_FOLDS)
    nearest = Fraction(share).limit_denominator(_MOST_FOLDS)
    part = min(max(nearest, least), 1 - least)
    most = min(int(numbers.max(initial=0)) + 1, int(np.bincount(labels).max(initial=0)))
    if most < 2:
        raise DataError(
            "Expected at least two groups of images, to keep each on one side of a "
            f"split, and two images of a class; found one of {shown(groups[0])!r}. Add "
            "images, or choose other groups."
        )
    count = min(part.denominator, most)
    chosen_folds = min(max(1, round(share * count)), count - 1)
    chosen = np.zeros(len(labels), dtype=bool)
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer images than folds is in some of them alone.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, positions) in enumerate(folds.split(labels, labels, numbers)):
            if fold < chosen_folds:
                chosen[positions] = True
    if not chosen.any() or chosen.all():
        # More folds than groups that are large enough: the first group, then.
        chosen = numbers == numbers[0]
    return chosen


def _groups(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Returns the names by connected component, in alphabetical order in each."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while (parent := parents.get(name, name)) != name:
            # Halves the path, so that the next search is shorter.
            parents[name] = parents.get(parent, parent)
            name = parent
        return name

    for one, other in pairs:
        parents[root(one)] = root(other)
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()
