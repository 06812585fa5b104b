"""Labelled images: splits, held-out validation images, fingerprint."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folds import choose_groups
from emotion_cnn.data.rows import Images, Rows, in_blocks
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown


@dataclass(frozen=True, eq=False)
class Split:
    """Some labelled images.

    Attributes:
        images: uint8 `(n, height, width, 1)`, gray levels 0 to 255: an array, or rows
            of one that may be larger than memory.
        labels: int64 `(n,)`, positions in `classes`.
        names: The n paths relative to the data folder, with forward slashes, such
            as `test/happy/PrivateTest_123.jpg`.
        targets: What a network is trained to predict where that is not the one-hot
            label: float32 `(n, label sets, classes)`. Zero targets carry no weight.
        classes: What the labels stand for, in their order.
    """

    images: Images
    labels: np.ndarray
    names: tuple[str, ...]
    targets: np.ndarray | None = None
    classes: tuple[str, ...] = EMOTIONS

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.names)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Split":
        """Returns the images at some positions, in that order, or those of a mask.

        No pixel is copied.
        """
        positions = np.arange(len(self))[indices]
        names = tuple(self.names[position] for position in positions.tolist())
        targets = None if self.targets is None else self.targets[positions]
        return dataclasses.replace(
            self,
            images=Rows.of(self.images).select(positions),
            labels=self.labels[positions],
            names=names,
            targets=targets,
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images to train, to validate and to test on.

    Attributes:
        train: Without the images of `validation`.
        validation: For decisions during training; see `split_dataset`.
        test: All images of `test/`.
        validation_source: Where `validation` is from, in words.
        notes: Lines for the user: what was converted and what was left out.
        fingerprint: SHA-256, in hexadecimal, over the names, labels and pixels of
            train, validation and test, in order.
        training_fingerprint: The same of train before images were held out of it.
    """

    train: Split
    validation: Split
    test: Split
    validation_source: str
    notes: tuple[str, ...]
    fingerprint: str
    training_fingerprint: str

    def summary(self) -> dict[str, Any]:
        """Returns what a run writes down of its data, as JSON takes it."""
        return {
            "fingerprint": self.fingerprint,
            "training_fingerprint": self.training_fingerprint,
            "validation_source": self.validation_source,
            "notes": self.notes,
            "counts": {
                "train": class_counts(self.train),
                "validation": class_counts(self.validation),
                "test": class_counts(self.test),
            },
        }


def split_dataset(
    train: Split,
    test: Split,
    *,
    validation_share: float,
    seed: int,
    notes: Sequence[str] = (),
    validation: Split | None = None,
    groups: Mapping[str, str] | None = None,
) -> Dataset:
    """Chooses the validation images.

    Where there are none, and `test` has the parts of FER2013's official split, these
    are its PublicTest part. Otherwise a random share of every class of `train` is held
    out; the other images keep their order.

    Args:
        train: Images to train on.
        test: Images to test on; returned whole.
        validation_share: Above 0 and below 1; the share of each class of `train`
            to hold out, rounded, but at least one image and never all. Not used
            where there are official parts.
        seed: Chooses the images to hold out.
        notes: Become those of the data set.
        validation: Images for validation, where the data have some of their own.
        groups: The groups of images by their names, such as the persons on them: those
            of one group are held out together, or not.

    Raises:
        DataError: If images are to be held out and a class has only one, or there
            is only one group.
    """
    parts = official_parts(test)
    if validation or parts:
        if validation:
            source = (
                f"{validation.names[0].split('/')[0]}/ ({len(validation):,} images)"
            )
        else:
            validation = test.select(parts["PublicTest"])
            source = f"PublicTest ({len(validation):,} images of test/)"
        # That of all begins as that of train does: no pixel is read twice.
        alone, _, together = _fingerprints(train, validation, test)
        return Dataset(train, validation, test, source, tuple(notes), together, alone)
    share = "tenth" if validation_share == 0.1 else f"{validation_share:.4g} share"
    source = f"a stratified, seeded {share} of train/"
    if groups and any(name in groups for name in train.names):
        group_of_each = [groups.get(name, name) for name in train.names]
        held_out = choose_groups(
            train.labels, group_of_each, share=validation_share, seed=seed
        )
        source += ", groups kept together"
        left = set(train.labels[~held_out].tolist())
        if lost := set(train.labels.tolist()) - left:
            names = ", ".join(shown(train.classes[label]) for label in sorted(lost))
            raise DataError(
                "Expected images of every class in several groups, as one group is "
                f"only trained or only validated on; found none left to train on of "
                f"{names}. Add images, change `seed`, or make a validation/ folder "
                "yourself."
            )
    else:
        held_out = _held_out(train, validation_share, seed)
    return hold_out(train, test, held_out, source=source, notes=notes)


def hold_out(
    train: Split,
    test: Split,
    held_out: np.ndarray,
    *,
    source: str,
    notes: Sequence[str] = (),
) -> Dataset:
    """Holds images of train out for validation; the others keep their order.

    Args:
        train: Images to train on.
        test: Images to test on; returned whole.
        held_out: bool `(n,)`, which of `train` to hold out.
        source: What these are, in words.
        notes: Become those of the data set.
    """
    rest, validation = train.select(~held_out), train.select(held_out)
    return Dataset(
        rest,
        validation,
        test,
        f"{source} ({len(validation):,} of {len(train):,} images)",
        tuple(notes),
        fingerprint(rest, validation, test),
        fingerprint(train),
    )


OTHER_IMAGES = "other images of test"
"""What images beside the parts of FER2013's official split are called."""


def official_parts(test: Split) -> dict[str, np.ndarray]:
    """Finds the two parts of FER2013's official split, by the names of the files.

    Returns:
        The positions in `test`, int64: of `OTHER_IMAGES`, if there are any, whose names
        start with neither part; of `PublicTest`; of `PrivateTest`. Empty unless both
        parts occur, and have more images than there are others.
    """
    files = [name.rpartition("/")[2] for name in test.names]
    parts = {
        part: np.flatnonzero([file.startswith(part) for file in files])
        for part in ("PublicTest", "PrivateTest")
    }
    others = np.setdiff1d(np.arange(len(test)), np.concatenate([*parts.values()]))
    if not all(map(len, parts.values())) or 2 * len(others) >= len(test):
        return {}
    # Last of all is PrivateTest, which FER2013's figures are published on.
    return ({OTHER_IMAGES: others} if len(others) else {}) | parts


def describe_other_images(test: Split) -> str | None:
    """Returns what images among FER2013's official split mean, if there are any."""
    files = [name.rpartition("/")[2] for name in test.names]
    official = [file.startswith(("PublicTest", "PrivateTest")) for file in files]
    if all(official) or not any(official):
        return None
    others = [name for name, of in zip(test.names, official, strict=True) if not of]
    what = (
        f"test/ holds {len(others):,} of {len(test):,} images whose names are not "
        f"those of FER2013's PublicTest and PrivateTest, such as {shown(others[0])}"
    )
    if official_parts(test):
        return f"{what}: the split is kept, and figures of the others are given apart"
    return f"{what}: FER2013's official split is not used"


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels, int (n,), as float32 (n, classes) with a one at each label."""
    return np.eye(classes, dtype=np.float32)[labels]


def targets(split: Split) -> np.ndarray:
    """Returns what a network is trained to predict.

    Returns:
        float32 (n, label sets, classes): the images' `targets`, or their one-hot
        labels as a single label set.
    """
    if split.targets is not None:
        return split.targets
    return one_hot(split.labels, len(split.classes))[:, np.newaxis]


def class_counts(split: Split) -> dict[str, int]:
    """Returns the number of images of each of the split's classes, in their order."""
    counts = np.bincount(split.labels, minlength=len(split.classes))
    return dict(zip(split.classes, counts.tolist(), strict=True))


def _held_out(train: Split, share: float, seed: int) -> np.ndarray:
    """Returns a mask, bool `(n,)`, of the images to validate on."""
    single = [name for name, count in class_counts(train).items() if count == 1]
    if single:
        raise DataError(
            "Expected at least two images of every class in train/, one to train on "
            f"and one to validate on; found a single one of: {', '.join(single)}. Add "
            "images of these classes."
        )
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(train), dtype=bool)
    for label in range(len(train.classes)):
        positions = generator.permutation(np.flatnonzero(train.labels == label))
        count = min(max(1, round(share * len(positions))), len(positions) - 1)
        mask[positions[: max(0, count)]] = True
    return mask


def fingerprint(*splits: Split) -> str:
    """Returns the SHA-256, in hexadecimal, over names, labels and pixels."""
    return list(_fingerprints(*splits))[-1]


def _fingerprints(*splits: Split) -> Iterator[str]:
    """Yields the fingerprint of the first split, of the first two, and so on."""
    digest = hashlib.sha256()
    for split in splits:
        # The length, and a separator no file name can contain, keep the parts apart.
        digest.update(f"{len(split)}\0".encode())
        for name in split.names:
            digest.update(name.encode(errors="surrogatepass") + b"\0")
        digest.update(split.labels.astype("<i8").tobytes())
        for images in in_blocks(split.images):
            digest.update(np.ascontiguousarray(images).data)
        if split.targets is not None:
            digest.update(split.targets.astype("<f4").tobytes())
        yield digest.hexdigest()
