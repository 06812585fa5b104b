"""Groups of images that no split may part: those of one person, or of one sequence."""

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from emotion_cnn.data.votes import csv_rows, open_table
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown, write_csv

GROUPS_NAME = "groups.csv"
"""The file in a data folder that says which images belong together."""

_COLUMNS = ("image", "group")
_MOST_FOLDS = 20


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Writes the group of each image, by its path in the data folder."""
    write_csv(path, _COLUMNS, groups.items())


def find_groups(folder: Path) -> dict[str, str]:
    """Returns the group of each image that has one, by its path in the data folder.

    Raises:
        SourceError: It cannot be read.
    """
    path = folder / GROUPS_NAME
    if not path.is_file():
        return {}
    with open_table(path) as file:
        return {row["image"]: row["group"] for _, row in csv_rows(file, path, _COLUMNS)}


def choose_groups(
    labels: np.ndarray, groups: Sequence[str], *, share: float, seed: int
) -> np.ndarray:
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
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.unique(np.array(groups, dtype=object), return_inverse=True)[1]
    part = Fraction(share).limit_denominator(_MOST_FOLDS) or Fraction(1, _MOST_FOLDS)
    most = min(int(numbers.max(initial=0)) + 1, int(np.bincount(labels).max(initial=0)))
    if most < 2:
        raise DataError(
            "Expected at least two groups of images, to keep each on one side of a "
            f"split, and two images of a class; found one of {shown(groups[0])!r}. Add "
            "images, or choose other groups."
        )
    count = min(max(part.denominator, 2), most)
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
