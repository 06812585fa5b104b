"""What a careful person would want to know about a data folder.

`audit` turns images into facts, `format_audit` turns these into text, and
`KnownNearDuplicates` is what training and evaluation take from an `audit.json`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emotion_cnn.audit.near_duplicates import NearDuplicates, find_near_duplicates
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import Survey
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.splits import Split, class_counts, fingerprint, official_parts
from emotion_cnn.data.votes import Votes, crowd_labels

THRESHOLDS = (1, 5, 12)
"""Distances, in gray levels (RMSE), that near-duplicates are counted up to.

Up to 1 are copies, up to 5 also the same JPEG compressed again, up to 12 also
slightly other crops and exposures. The last is what makes a near-duplicate in
every list.
"""

BLANK_BELOW = 5.0
"""An image whose gray levels have a smaller standard deviation shows nothing."""

PLACES = {
    "test_in_train": "test images with a near-duplicate in train",
    "train_in_test": "train images with a near-duplicate in test",
    "within_train": "train images with another in train",
    "within_test": "test images with another in test",
}


@dataclass(frozen=True)
class Pair:
    """Two images that are near-duplicates.

    Attributes:
        image: Name of one; of a pair across the split, that in `test/`.
        near_duplicate: Name of the other.
        label: Emotion that `image` is labelled with.
        near_duplicate_label: Emotion that `near_duplicate` is labelled with.
        rmse: Their distance in gray levels.
        flipped: Whether one is the other's horizontal flip.
    """

    image: str
    near_duplicate: str
    label: str
    near_duplicate_label: str
    rmse: float
    flipped: bool

    @property
    def is_conflict(self) -> bool:
        """Whether the labels disagree."""
        return self.label != self.near_duplicate_label


@dataclass(frozen=True)
class NearDuplicateCount:
    """How many images have a near-duplicate somewhere.

    Attributes:
        rmse: Greatest distance that counts, in gray levels.
        images: Those with a near-duplicate the same way round.
        flipped_only: Those beside them that have flipped near-duplicates alone.
        conflicting: Those of both that have a near-duplicate with another label.
    """

    rmse: float
    images: int
    flipped_only: int
    conflicting: int


@dataclass(frozen=True)
class CrowdAgreement:
    """How the crowd's votes compare with one label.

    Attributes:
        images: Images with the label.
        voted: Those of them that have votes.
        majority: How many of these have a majority for each emotion.
    """

    images: int
    voted: int
    majority: dict[str, int]


@dataclass(frozen=True)
class Audit:
    """The facts about a data folder; `dataclasses.asdict` of it is fit for JSON.

    Attributes:
        data: The folder.
        fingerprints: Of `train` and `test`, by `dataset.fingerprint`.
        counts: Readable images of each emotion, in each part: `train`, `test`,
            and `PublicTest` and `PrivateTest` where file names tell.
        imbalance: Largest class over smallest, in each part; None where a class
            is empty.
        unreadable: Why each image that cannot be read cannot, by name.
        blank: Standard deviation of the gray levels of each blank image, by name.
        converted: What the images were that are not 48x48 grayscale, by name.
        unused_folders: Folders that nothing reads.
        unused_files: Files that nothing reads.
        near_duplicate_counts: By place: `test_in_train`, `train_in_test`,
            `within_train` and `within_test`; for each of `THRESHOLDS`.
        across: Pairs of a test and a train image, nearest first; of an image's
            near-duplicates those that `find_near_duplicates` keeps.
        within_train: The same of two train images.
        within_test: The same of two test images.
        leave_out: Train images that have a near-duplicate in test.
        test_with_near_duplicate_in_train: Test images that have one in train.
        crowd: By part and label; None without votes.
    """

    data: str
    fingerprints: dict[str, str]
    counts: dict[str, dict[str, int]]
    imbalance: dict[str, float | None]
    unreadable: dict[str, str]
    blank: dict[str, float]
    converted: dict[str, ImageFormat]
    unused_folders: tuple[str, ...]
    unused_files: tuple[str, ...]
    near_duplicate_counts: dict[str, tuple[NearDuplicateCount, ...]]
    across: tuple[Pair, ...]
    within_train: tuple[Pair, ...]
    within_test: tuple[Pair, ...]
    leave_out: tuple[str, ...]
    test_with_near_duplicate_in_train: tuple[str, ...]
    crowd: dict[str, dict[str, CrowdAgreement]] | None

    @property
    def conflicts(self) -> tuple[Pair, ...]:
        """Pairs whose labels disagree, those across the split first."""
        pairs = (*self.across, *self.within_test, *self.within_train)
        return tuple(pair for pair in pairs if pair.is_conflict)


def audit(data: str, survey: Survey, votes: Mapping[str, Votes] | None) -> Audit:
    """Finds out what there is to know.

    Blank images have no near-duplicates: all of them look alike, whoever they are of.

    Args:
        data: The folder's name, for the record.
        survey: What is in it.
        votes: FER+'s ten votes for images by name, if there are any.
    """
    train, test = survey.train, survey.test
    parts = _parts(train, test)
    counts = {part: class_counts(split) for part, split in parts.items()}
    images = np.concatenate((train.images, test.images))
    labels = np.concatenate((train.labels, test.labels))
    names = train.names + test.names
    is_test = np.arange(len(names)) >= len(train)
    deviations = _standard_deviations(images)
    visible = np.flatnonzero(deviations >= BLANK_BELOW)
    groups = is_test * len(EMOTIONS) + labels
    found = find_near_duplicates(images[visible], groups[visible], THRESHOLDS[-1])
    near_duplicates = NearDuplicates(
        visible[found.first], visible[found.second], found.rmse, found.flipped
    )
    pairs: dict[tuple[bool, bool], list[Pair]] = {}
    for first, second, rmse, flipped in zip(
        near_duplicates.first,
        near_duplicates.second,
        near_duplicates.rmse,
        near_duplicates.flipped,
        strict=True,
    ):
        # Train lies before test, and of a pair across the split test is named first.
        one, other = (
            (second, first) if is_test[first] != is_test[second] else (first, second)
        )
        pair = Pair(
            names[one],
            names[other],
            EMOTIONS[labels[one]],
            EMOTIONS[labels[other]],
            round(float(rmse), 3),
            bool(flipped),
        )
        pairs.setdefault((bool(is_test[one]), bool(is_test[other])), []).append(pair)
    across = tuple(pairs.get((True, False), ()))
    return Audit(
        data=data,
        fingerprints={"train": fingerprint(train), "test": fingerprint(test)},
        counts=counts,
        imbalance={part: _imbalance(each) for part, each in counts.items()},
        unreadable=survey.unreadable,
        blank={
            names[position]: round(float(deviations[position]), 3)
            for position in np.flatnonzero(deviations < BLANK_BELOW)
        },
        converted=survey.converted,
        unused_folders=survey.unused_folders,
        unused_files=survey.unused_files,
        near_duplicate_counts=count_near_duplicates(near_duplicates, is_test, labels),
        across=across,
        within_train=tuple(pairs.get((False, False), ())),
        within_test=tuple(pairs.get((True, True), ())),
        leave_out=tuple(sorted({pair.near_duplicate for pair in across})),
        test_with_near_duplicate_in_train=tuple(
            sorted({pair.image for pair in across})
        ),
        crowd=None
        if votes is None
        else {part: _crowd(split, votes) for part, split in parts.items()},
    )


def count_near_duplicates(
    near_duplicates: NearDuplicates, is_test: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[NearDuplicateCount, ...]]:
    """Counts images with near-duplicates, by place and for each of `THRESHOLDS`.

    Args:
        near_duplicates: Pairs of positions, found with a group for each split and
            label.
        is_test: bool `(n,)`.
        labels: int `(n,)`.
    """
    one = np.concatenate((near_duplicates.first, near_duplicates.second))
    other = np.concatenate((near_duplicates.second, near_duplicates.first))
    rmse, flipped = (
        np.tile(near_duplicates.rmse, 2),
        np.tile(near_duplicates.flipped, 2),
    )
    differ = labels[one] != labels[other]
    where = {
        "test_in_train": is_test[one] & ~is_test[other],
        "train_in_test": ~is_test[one] & is_test[other],
        "within_train": ~is_test[one] & ~is_test[other],
        "within_test": is_test[one] & is_test[other],
    }
    counts = {}
    for place in PLACES:
        rows = []
        for threshold in THRESHOLDS:
            near = where[place] & (rmse <= threshold)
            same_way = len(np.unique(one[near & ~flipped]))
            flipped_only = len(np.unique(one[near])) - same_way
            conflicting = len(np.unique(one[near & differ]))
            rows.append(
                NearDuplicateCount(threshold, same_way, flipped_only, conflicting)
            )
        counts[place] = tuple(rows)
    return counts


def _parts(train: Split, test: Split) -> dict[str, Split]:
    official = official_parts(test)
    return {"train": train, "test": test} | {
        part: test.select(places) for part, places in official.items()
    }


def _imbalance(counts: Mapping[str, int]) -> float | None:
    least = min(counts.values())
    return round(max(counts.values()) / least, 3) if least else None


def _standard_deviations(images: np.ndarray) -> np.ndarray:
    """Returns float64 `(n,)`; one image at a time, as all at once fill memory."""
    return np.array([image.std() for image in images], dtype=np.float64)


def _crowd(split: Split, votes: Mapping[str, Votes]) -> dict[str, CrowdAgreement]:
    images, voted = Counter[str](), Counter[str]()
    seen: dict[str, Counter[str]] = {emotion: Counter() for emotion in EMOTIONS}
    for name, label in zip(split.names, split.labels, strict=True):
        emotion = EMOTIONS[label]
        images[emotion] += 1
        if name in votes:
            voted[emotion] += 1
            (label_of_crowd,), _ = crowd_labels(np.array([votes[name]]))
            if label_of_crowd >= 0:
                seen[emotion][EMOTIONS[label_of_crowd]] += 1
    return {
        emotion: CrowdAgreement(
            images[emotion],
            voted[emotion],
            {other: seen[emotion][other] for other in EMOTIONS},
        )
        for emotion in EMOTIONS
    }
