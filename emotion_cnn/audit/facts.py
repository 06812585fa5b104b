"""The facts about a data folder that training and evaluation should know of.

`audit_images` turns images into facts; `emotion_cnn.audit.text` and
`emotion_cnn.audit.page` lay these out for people.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emotion_cnn.audit.near_duplicates import NearDuplicates, find_near_duplicates
from emotion_cnn.data.classes import CONTEMPT, EMOTIONS
from emotion_cnn.data.folders import Survey
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.splits import Split, class_counts, fingerprint, official_parts
from emotion_cnn.data.votes import Votes, crowd_labels

THRESHOLDS = (1, 5, 12)
"""Distances, in gray levels (RMSE), that near-duplicates are counted up to.

Up to 1 are copies, up to 5 also the same image compressed again as a JPEG, up to 12
also slightly different crops and exposures. The last is the limit for every list of
near-duplicates.
"""

BLANK_BELOW = 5.0
"""An image whose gray levels have a smaller standard deviation is blank."""

RELATIONS = {
    "test_in_train": "test images with a near-duplicate in train",
    "train_in_test": "train images with a near-duplicate in test",
    "within_train": "train images with a near-duplicate in train",
    "within_test": "test images with a near-duplicate in test",
}
"""What near-duplicates are counted for, and how that is worded."""

_BLOCK = 256
_MANY = 1_000_000
"""Images from which on comparing all with all is said to take long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two images that are near-duplicates.

    Attributes:
        image: Name of one; of a pair across the split, the image in `test/`.
        near_duplicate: Name of the other.
        label: Class of `image`.
        near_duplicate_label: Class of `near_duplicate`.
        rmse: Distance of the two, in gray levels.
        flipped: Whether one is close to the horizontal flip of the other.
    """

    image: str
    near_duplicate: str
    label: str
    near_duplicate_label: str
    rmse: float
    flipped: bool

    @property
    def is_conflict(self) -> bool:
        """Whether the labels differ."""
        return self.label != self.near_duplicate_label


@dataclass(frozen=True)
class NearDuplicateCount:
    """How many images have a near-duplicate.

    Attributes:
        rmse: Greatest distance that counts, in gray levels.
        images: Images with a near-duplicate, flipped or not.
        flipped_only: Those of them whose near-duplicates are all flipped.
        conflicting: Those of them that have a near-duplicate with another label.
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
        agreed: How many of these have a majority for the label itself.
    """

    images: int
    voted: int
    majority: dict[str, int]
    agreed: int

    @property
    def decided(self) -> int:
        """Images with a majority for any of the emotions."""
        return sum(self.majority.values())


@dataclass(frozen=True)
class Audit:
    """The facts about a data folder; `dataclasses.asdict` of it is fit for JSON.

    Attributes:
        data: The folder.
        fingerprints: Of `train` and `test`, by `emotion_cnn.data.splits.fingerprint`.
        counts: Readable images of each class, in each part: `train`, `test`, and
            `PublicTest` and `PrivateTest` where the file names tell them apart.
        imbalance: Largest class over smallest, in each part; None where a class
            is empty.
        unreadable: Why an image cannot be read, by name.
        blank: Standard deviation of the gray levels of each blank image, by name.
        converted: Original format of the images of another size or mode, by
            name.
        unused_folders: Folders that are not read.
        unused_files: Files that are not read.
        against: What images were compared with: `all` with all, or those of train with
            those of `test` alone.
        complete: Whether every such pair was compared; else few may be missing.
        near_duplicate_counts: For each of `RELATIONS` that was looked at, and in it for
            each of `THRESHOLDS`.
        across: Pairs of a test and a train image that `find_near_duplicates` keeps,
            nearest first.
        within_train: The same of two train images; None where these were not compared.
        within_test: The same of two test images.
        leave_out: Train images that have a near-duplicate in test.
        test_with_near_duplicate_in_train: Test images that have a near-duplicate in
            train.
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
    against: str
    complete: bool
    near_duplicate_counts: dict[str, tuple[NearDuplicateCount, ...]]
    across: tuple[Pair, ...]
    within_train: tuple[Pair, ...] | None
    within_test: tuple[Pair, ...] | None
    leave_out: tuple[str, ...]
    test_with_near_duplicate_in_train: tuple[str, ...]
    crowd: dict[str, dict[str, CrowdAgreement]] | None

    @property
    def conflicts(self) -> tuple[Pair, ...]:
        """Pairs whose labels differ, those across the split first."""
        within = (*(self.within_test or ()), *(self.within_train or ()))
        pairs = (*self.across, *within)
        return tuple(pair for pair in pairs if pair.is_conflict)


class _Images:
    """Some images of two splits, one after the other; read when they are indexed."""

    def __init__(self, splits: Sequence[Split], positions: np.ndarray) -> None:
        self._splits, self._positions = splits, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        positions = self._positions[places]
        shape = self._splits[0].images.shape[1:]
        images = np.empty((len(positions), *shape), dtype=np.uint8)
        start = 0
        for split in self._splits:
            here = (start <= positions) & (positions < start + len(split))
            if here.any():
                images[here] = split.images[positions[here] - start]
            start += len(split)
        return images


def audit_images(
    data: str,
    survey: Survey,
    votes: Mapping[str, Votes] | None,
    *,
    against: str = "all",
    complete: bool = True,
) -> Audit:
    """Collects the facts about the images of a data folder.

    Blank images are not compared: all of them look alike.

    Args:
        data: The folder's name, for the record.
        survey: What is in it.
        votes: The ten FER+ votes for each image, by name, if there are any.
        against: What images are compared with for near-duplicates: `all` with all, or
            those of train with those of `test` alone. That takes time as the product of
            the two, and memory as test.
        complete: Whether every such pair is compared. Otherwise they are `all`, and
            faiss finds nearly all of those that are near.

    Raises:
        MissingPackageError: It need not be `complete`, and faiss is not installed.
    """
    train, test = survey.train, survey.test
    parts = {"train": train, "test": test} | {
        part: test.select(positions) for part, positions in official_parts(test).items()
    }
    counts = {part: class_counts(split) for part, split in parts.items()}
    labels = np.concatenate((train.labels, test.labels))
    names = train.names + test.names
    is_test = np.arange(len(names)) >= len(train)
    deviations = np.concatenate([_deviations(split) for split in (train, test)])
    visible = np.flatnonzero(deviations >= BLANK_BELOW)
    if against == "all" and complete and len(visible) > _MANY:
        _log.warning(
            "Comparing all of %s images with all takes long. Quicker are "
            "`against=test` and `search=nearly-complete`.",
            f"{len(visible):,}",
        )
    found = find_near_duplicates(
        _Images((train, test), visible),
        is_test[visible].astype(np.int64),
        labels[visible],
        THRESHOLDS[-1],
        boundary=int(np.searchsorted(visible, len(train)))
        if against == "test"
        else None,
        complete=complete,
    )
    found = NearDuplicates(
        visible[found.first], visible[found.second], found.rmse, found.flipped
    )
    pairs: dict[tuple[bool, bool], list[Pair]] = {}
    for first, second, rmse, flipped in zip(
        found.first, found.second, found.rmse, found.flipped, strict=True
    ):
        # Train comes before test, and a pair across the split names test first.
        across = is_test[first] != is_test[second]
        one, other = (second, first) if across else (first, second)
        pair = Pair(
            names[one],
            names[other],
            train.classes[labels[one]],
            train.classes[labels[other]],
            round(float(rmse), 3),
            bool(flipped),
        )
        pairs.setdefault((bool(is_test[one]), bool(is_test[other])), []).append(pair)
    test_and_train = tuple(pairs.get((True, False), ()))
    near_duplicate_counts = count_near_duplicates(found, is_test, labels)
    within_train: tuple[Pair, ...] | None = tuple(pairs.get((False, False), ()))
    within_test: tuple[Pair, ...] | None = tuple(pairs.get((True, True), ()))
    if against == "test":
        # Not looked for, which is not the same as none.
        within_train = within_test = None
        del near_duplicate_counts["within_train"], near_duplicate_counts["within_test"]
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
        against=against,
        complete=complete,
        near_duplicate_counts=near_duplicate_counts,
        across=test_and_train,
        within_train=within_train,
        within_test=within_test,
        leave_out=tuple(sorted({pair.near_duplicate for pair in test_and_train})),
        test_with_near_duplicate_in_train=tuple(
            sorted({pair.image for pair in test_and_train})
        ),
        crowd=None
        if votes is None
        else {part: _crowd_agreement(split, votes) for part, split in parts.items()},
    )


def count_near_duplicates(
    near_duplicates: NearDuplicates, is_test: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[NearDuplicateCount, ...]]:
    """Counts the images with near-duplicates.

    Args:
        near_duplicates: Pairs of positions.
        is_test: bool `(n,)`.
        labels: int `(n,)`.

    Returns:
        Counts for each of `RELATIONS`, and in it for each of `THRESHOLDS`.
    """
    one = np.concatenate((near_duplicates.first, near_duplicates.second))
    other = np.concatenate((near_duplicates.second, near_duplicates.first))
    rmse = np.tile(near_duplicates.rmse, 2)
    flipped = np.tile(near_duplicates.flipped, 2)
    differ = labels[one] != labels[other]
    masks = {
        "test_in_train": is_test[one] & ~is_test[other],
        "train_in_test": ~is_test[one] & is_test[other],
        "within_train": ~is_test[one] & ~is_test[other],
        "within_test": is_test[one] & is_test[other],
    }
    counts = {}
    for relation in RELATIONS:
        rows = []
        for threshold in THRESHOLDS:
            near = masks[relation] & (rmse <= threshold)
            total = len(np.unique(one[near]))
            flipped_only = total - len(np.unique(one[near & ~flipped]))
            conflicting = len(np.unique(one[near & differ]))
            rows.append(NearDuplicateCount(threshold, total, flipped_only, conflicting))
        counts[relation] = tuple(rows)
    return counts


def _deviations(split: Split) -> np.ndarray:
    """Returns the standard deviation of each image's gray levels, float64 `(n,)`."""
    deviations = np.empty(len(split))
    # A block at a time: float copies of all at once would fill the memory.
    for start in range(0, len(split), _BLOCK):
        block = split.images[start : start + _BLOCK]
        deviations[start : start + len(block)] = block.std(axis=(1, 2, 3))
    return deviations


def _imbalance(counts: Mapping[str, int]) -> float | None:
    least = min(counts.values())
    return round(max(counts.values()) / least, 3) if least else None


def _crowd_agreement(
    split: Split, votes: Mapping[str, Votes]
) -> dict[str, CrowdAgreement]:
    images, voted = class_counts(split), Counter[str]()
    # FER+ votes are for its own emotions, whatever the classes of the folder are.
    emotions = (*EMOTIONS, *(each for each in split.classes if each == CONTEMPT))
    majority = {label: dict.fromkeys(emotions, 0) for label in split.classes}
    for name, position in zip(split.names, split.labels, strict=True):
        if name in votes:
            label = split.classes[position]
            voted[label] += 1
            (choice,), _ = crowd_labels(np.array([votes[name]]), emotions)
            if choice >= 0:
                majority[label][emotions[choice]] += 1
    return {
        label: CrowdAgreement(
            images[label], voted[label], majority[label], majority[label].get(label, 0)
        )
        for label in split.classes
    }
