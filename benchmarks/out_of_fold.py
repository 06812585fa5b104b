"""Accuracy of teachers out of fold, and the paired difference of two sets of them.

Every image counts as often as it is a held-out one: once for each seed, where all folds
are there. Several seeds are compared by the mean of their predictions.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emotion_cnn.data.classes import LABEL_NAMES
from emotion_cnn.data.soft_labels import OutOfFold
from emotion_cnn.errors import EmotionCnnError
from emotion_cnn.evaluation.paired import PairedDifference
from emotion_cnn.training.out_of_fold import read_teachers


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


def paired(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedDifference:
    """Compares two on the images that both have."""
    both = [(first[name], second[name]) for name in first.keys() & second.keys()]
    return PairedDifference(
        len(both), both.count((True, False)), both.count((False, True))
    )


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
            low, high = difference.interval
            print(
                f" second minus first: {difference.mean:+.2%}, 95% interval "
                f"{low:+.2%} to {high:+.2%}, "
                f"p = {difference.p_value:.3g} (McNemar), n = {difference.n:,}"
            )


if __name__ == "__main__":
    main()
