"""What every importer yields, and the names that classes and splits go by."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from emotion_cnn.data.classes import EMOTIONS, LEFT_OUT_CLASSES, emotion_from_name
from emotion_cnn.importing.containers import Member

TRAINING, PUBLIC_TEST, PRIVATE_TEST, TEST = (
    "Training",
    "PublicTest",
    "PrivateTest",
    "Test",
)

USAGES = (TRAINING, PUBLIC_TEST, PRIVATE_TEST, TEST)
"""FER2013's three parts of the official split, and a test set without parts."""


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image of a source.

    Attributes:
        image: uint8 `(48, 48)`.
        label: Position in `EMOTIONS`.
        usage: One of `USAGES`, or None in a source without a split.
        name: Its file's name without the ending; None names it after `row`.
        row: Its row, from 0, in the table it is from; None if that is unknown.
        place: Where it stands in the source, for people: a row or a path.
        votes: The ten crowd votes, if the source has them.
        changes: The kinds of conversion that made it 48x48 grayscale.
        advance: How much of the source's `total` it is.
    """

    image: np.ndarray
    label: int
    usage: str | None
    name: str | None
    row: int | None
    place: str
    votes: tuple[int, ...] | None = None
    changes: tuple[str, ...] = ()
    advance: int = 1


@dataclass(frozen=True)
class BadRecord:
    """A row, image or folder that cannot be used: where it stands, and why."""

    place: str
    reason: str
    advance: int = 1


@dataclass(frozen=True)
class LeftOut:
    """A sound row or image that has no place in the result, and why."""

    reason: str
    advance: int = 1


Record = ImageRecord | BadRecord | LeftOut


@dataclass(frozen=True, eq=False)
class Source:
    """A recognised source, not yet read.

    Attributes:
        kind: What it is, for people.
        members: The files of it that are read.
        has_split: Whether every image comes with a usage.
        has_votes: Whether images may come with votes.
        total: The sum of all records' `advance`, if it is known.
        unit: What `total` counts.
        records: Starts reading; may be called again.
    """

    kind: str
    members: tuple[Member, ...]
    has_split: bool
    has_votes: bool
    total: int | None
    unit: str
    records: Callable[[], Iterator[Record]]


class ClassNames:
    """Which emotion a label of a source stands for."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Takes names that come before the usual ones.

        Args:
            given: Names and numbers of classes, in any case, to an emotion or to
                one of `LEFT_OUT_CLASSES`.
        """
        self._given = {name.strip().lower(): emotion for name, emotion in given.items()}

    def with_numbers(self, numbers: Mapping[str, str]) -> "ClassNames":
        """Returns these names and a source's own numbers, unless some were given."""
        if any(name.isdecimal() for name in self._given):
            return self
        return ClassNames({**numbers, **self._given})

    def find(self, name: str) -> str | None:
        """Returns an emotion, one of `LEFT_OUT_CLASSES`, or None for neither."""
        name = name.strip().lower()
        if name in self._given:
            return self._given[name]
        return name if name in LEFT_OUT_CLASSES else emotion_from_name(name)

    def find_label(self, name: str, *, place: str, advance: int) -> int | Record:
        """Returns the position in `EMOTIONS`, or the record that stands in for it."""
        emotion = self.find(name)
        if emotion is None:
            return BadRecord(place, unknown_label(name), advance)
        if emotion in LEFT_OUT_CLASSES:
            return LeftOut(emotion, advance)
        return EMOTIONS.index(emotion)


def unknown_label(name: str) -> str:
    """Returns why a label is bad, and the flag that fixes it."""
    shown = ascii(name.strip()[:40])
    return f"unknown label {shown} (--classes says what labels stand for)"
