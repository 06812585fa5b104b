"""Accuracy of teachers out of fold, and the paired difference of two sets of them.

Every image counts as often as it is a held-out one: once for each seed, where all folds
are there. Several seeds are compared by the mean of their predictions.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from emotion_cnn.data.classes import LABEL_NAMES
from emotion_cnn.data.soft_labels import OutOfFold
from emotion_cnn.errors import EmotionCnnError
from emotion_cnn.training.out_of_fold import read_teachers

_INTERVAL = 1.96


@dataclass(frozen=True)
class Difference:
    """How much more often the second of two is right, on the same images.

    Attributes:
        n: Number of images.
        first_only: Images that only the first predicts rightly.
        second_only: Images that only the second does.
    """

    n: int
    first_only: int
    second_only: int

    @property
    def mean(self) -> float:
        """The difference of the accuracies, second minus first."""
        return (self.second_only - self.first_only) / self.n

    @property
    def standard_error(self) -> float:
        """Its standard error, of paired proportions."""
        differing = self.first_only + self.second_only
        return math.sqrt(differing / self.n - self.mean**2) / math.sqrt(self.n)

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided."""
        differing = self.first_only + self.second_only
        if not differing:
            return 1.0
        return float(binomtest(self.first_only, differing).pvalue)


def correct_by_image(
    teachers: Mapping[str, OutOfFold], labels: str, seeds: set[int]
) -> dict[str, bool]:
    """Returns whether the mean prediction of some seeds is right, by image.

    Args:
        teachers: What each teacher predicts.
        labels: The label set.
        seeds: The seeds. Images that one of them does not predict are left out, and
            so are images without a label.
    """
    found: dict[str, list[np.ndarray]] = {}
    label_of: dict[str, int] = {}
    for each in teachers.values():
        if each.seed in seeds:
            head = each.label_sets.index(labels)
            label_of |= zip(each.names, each.labels[:, head].tolist(), strict=True)
            for name, row in zip(each.names, each.probabilities[:, head], strict=True):
                found.setdefault(name, []).append(row)
    return {
        name: bool(np.mean(rows, axis=0).argmax() == label_of[name])
        for name, rows in found.items()
        if len(rows) == len(seeds) and label_of[name] >= 0
    }


def paired(first: Mapping[str, bool], second: Mapping[str, bool]) -> Difference:
    """Compares two on the images that both have."""
    both = [(first[name], second[name]) for name in first.keys() & second.keys()]
    return Difference(len(both), both.count((True, False)), both.count((False, True)))


def accuracy_row(name: str, correct: Mapping[str, bool]) -> str:
    """Returns a line of the table."""
    n, accuracy = len(correct), float(np.mean(list(correct.values())))
    error = math.sqrt(accuracy * (1 - accuracy) / n)
    return f"  {name:<24} {n:>8,} {accuracy:>9.2%} {error:>9.2%}"


def main() -> None:
    """Prints the figures of one set of teachers, or of two and their difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    folders = parser.parse_args().folders
    if len(folders) > 2:
        parser.error(f"expected one or two folders, found {len(folders)}")
    try:
        sets = [read_teachers(folder) for folder in folders]
    except EmotionCnnError as error:
        parser.error(str(error))
    found = {(each.fingerprint, each.label_sets) for s in sets for each in s.values()}
    if len(found) > 1:
        parser.error("expected runs on the same images and label sets")
    seeds = [{each.seed for each in teachers.values()} for teachers in sets]
    if len({len(each) for each in seeds}) > 1:
        parser.error(
            "expected as many seeds in both folders, found "
            + " and ".join(str(len(each)) for each in seeds)
        )
    (_, label_sets), *_ = found
    for labels in label_sets:
        header = f"{LABEL_NAMES.get(labels, labels)}, out of fold"
        print(f"{header:<26} {'n':>8} {'accuracy':>9} {'error':>9}")
        whole = []
        for folder, teachers, of_set in zip(folders, sets, seeds, strict=True):
            print(f" {folder}")
            for seed in sorted(of_set):
                correct = correct_by_image(teachers, labels, {seed})
                print(accuracy_row(f"seed {seed}", correct))
            whole.append(correct_by_image(teachers, labels, of_set))
            if len(of_set) > 1:
                print(accuracy_row(f"mean of {len(of_set)} seeds", whole[-1]))
        if len(whole) == 2:
            difference = paired(*whole)
            margin = _INTERVAL * difference.standard_error
            print(
                f" second minus first: {difference.mean:+.2%}, 95% interval "
                f"{difference.mean - margin:+.2%} to {difference.mean + margin:+.2%}, "
                f"p = {difference.p_value:.3g} (McNemar), n = {difference.n:,}"
            )


if __name__ == "__main__":
    main()
