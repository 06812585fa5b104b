"""Soft labels: what networks predict for training images that they never saw.

Each network, a teacher, is trained on all folds of the training images but one, and
predicts that one. All folds together give each image a prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emotion_cnn.data.folds import parse_fold
from emotion_cnn.data.splits import Split, targets
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What a network predicts for the fold that it was not trained on.

    Attributes:
        names: The n images of the fold, as in `Split`.
        labels: int64 `(n, label sets)`, their labels; -1 where an image has none.
        probabilities: float32 `(n, label sets, classes)`; rows sum to 1.
        classes: What the probabilities are for, in their order.
        label_sets: Those of the network.
        fold: Which of how many folds, such as `1/4`.
        seed: Of the training.
        fingerprint: Of the images of all folds together.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    label_sets: tuple[str, ...]
    fold: str
    seed: int
    fingerprint: str


def average_out_of_fold(
    teachers: Mapping[str, OutOfFold],
    *,
    names: Sequence[str],
    classes: Sequence[str],
    label_sets: Sequence[str],
    fingerprint: str,
) -> np.ndarray:
    """Returns the mean prediction for each image, over the seeds.

    Args:
        teachers: What each teacher predicts, by what messages call it: for every seed
            all folds.
        names: The n images of all folds.
        classes: Their classes.
        label_sets: Whose predictions are needed, in their order.
        fingerprint: Of the images.

    Returns:
        float32 `(n, label sets, classes)`.

    Raises:
        DataError: A teacher is of other images, classes or label sets, a fold is
            missing, or an image is predicted never or twice by a seed.
    """
    folds: dict[tuple[int, int], dict[int, str]] = {}
    for teacher, found in teachers.items():
        for what, expected, given in (
            ("the classes", ", ".join(classes), ", ".join(found.classes)),
            ("the label sets", ", ".join(label_sets), ", ".join(found.label_sets)),
            ("training images with the fingerprint", fingerprint, found.fingerprint),
        ):
            if given != expected:
                raise DataError(
                    f"`soft_labels` expects predictions for {what} {expected[:80]}, "
                    f"found {shown(given[:80])} in {teacher}. Train the teachers with "
                    "the same `data`, `labels` and `leave_out`."
                )
        fold, count = parse_fold(found.fold)
        of_seed = folds.setdefault((found.seed, count), {})
        if fold in of_seed:
            raise DataError(
                f"`soft_labels` expects each fold once for each seed, found fold "
                f"{found.fold} of seed {found.seed} in {of_seed[fold]} and in "
                f"{teacher}. Move one of them elsewhere."
            )
        of_seed[fold] = teacher
    missing = [
        f"{fold}/{count} of seed {seed}"
        for (seed, count), of_seed in sorted(folds.items())
        for fold in range(1, count + 1)
        if fold not in of_seed
    ]
    if missing:
        raise DataError(
            "`soft_labels` expects all folds for each seed; missing: "
            f"{', '.join(missing)}. Train them with `recipe=teacher` and `fold`."
        )
    place = {name: position for position, name in enumerate(names)}
    mean = np.zeros((len(names), len(label_sets), len(classes)))
    for of_seed in folds.values():
        together = [teachers[teacher] for teacher in of_seed.values()]
        predicted = [name for each in together for name in each.names]
        if sorted(predicted) != sorted(names):
            raise DataError(
                "`soft_labels` expects each training image in exactly one fold, found "
                f"otherwise in {', '.join(of_seed.values())}. Train these again."
            )
        mean[[place[name] for name in predicted]] += np.concatenate(
            [each.probabilities for each in together]
        )
    return (mean / len(folds)).astype(np.float32)


def mix_soft_labels(
    split: Split,
    soft_labels: Mapping[str, np.ndarray],
    label_sets: Sequence[str],
    *,
    share: float,
) -> Split:
    """Replaces a part of the targets of images by soft labels.

    Args:
        split: Training images.
        soft_labels: float `(label sets, classes)` for each of their names.
        label_sets: The label sets of the targets.
        share: The soft labels' share of the new targets of `original`, from 0 to 1.
            With `ferplus` they are the whole target of images without votes, and
            none of that of others: ten people know more than the teachers.
    """
    soft = np.stack([soft_labels[name] for name in split.names])
    y_true = targets(split)
    shares = [share if each == "original" else 0 for each in label_sets]
    weights = np.where(
        y_true.any(axis=2, keepdims=True), np.reshape(shares, (1, -1, 1)), 1
    )
    mixed = (1 - weights) * y_true + weights * soft
    return replace(split, targets=mixed.astype(np.float32))
