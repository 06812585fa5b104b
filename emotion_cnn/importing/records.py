"""What every format yields, and the names of classes and splits."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emotion_cnn.data.classes import EMOTIONS, LEFT_OUT_CLASSES, emotion_from_name
from emotion_cnn.data.votes import Votes
from emotion_cnn.importing.containers import Member
from emotion_cnn.importing.names import NOTHING, numbered_name

TRAINING, PUBLIC_TEST, PRIVATE_TEST, TEST = (
    "Training",
    "PublicTest",
    "PrivateTest",
    "Test",
)

USAGES = (TRAINING, PUBLIC_TEST, PRIVATE_TEST, TEST)
"""FER2013's three parts of the official split, and a test set without parts."""

VALIDATION = "validation"
"""A part of a source that `usages_of` gives a usage."""

PART_NAMES = {
    "train": TRAINING,
    "training": TRAINING,
    "test": TEST,
    "testing": TEST,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "publictest": PUBLIC_TEST,
    "privatetest": PRIVATE_TEST,
    "fer2013train": TRAINING,
    "fer2013valid": PUBLIC_TEST,
    "fer2013test": PRIVATE_TEST,
}
"""What the parts of a split are called in folders, tables and names, in lower case."""


def usages_of(parts: Iterable[str | None]) -> dict[str | None, str]:
    """Returns the usage of each part; beside a test part, validation is PublicTest.

    Args:
        parts: Values of `PART_NAMES` that a source has; None stands for none of them.
    """
    usages: dict[str | None, str] = {part: part for part in parts if part}
    if VALIDATION in usages:
        has_test = TEST in usages or PRIVATE_TEST in usages
        usages[VALIDATION] = PUBLIC_TEST if has_test else TEST
        if TEST in usages and has_test:
            usages[TEST] = PRIVATE_TEST
    return usages


def is_split(parts: Collection[str | None]) -> bool:
    """Returns whether parts make a split: every image in one, on both of its sides."""
    return None not in parts and TRAINING in parts and len(parts) > 1


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image of a source.

    Attributes:
        image: uint8 `(48, 48)`.
        label: Position in the classes of the source's `ClassNames`.
        usage: One of `USAGES`, or None in a source without a split.
        name: Its file name without the suffix; None if the source has none.
        row: Its row, from 0, in the table it is from; None if that is unknown.
        place: Where it is in the source, for messages: a row or a path.
        path: Its path in the source; None if it is the row of a table.
        votes: Its ten FER+ votes, if the source has them.
        changes: The conversions that made it 48x48 grayscale.
        advance: Its share of the source's `total`.
    """

    image: np.ndarray
    label: int
    usage: str | None
    name: str | None
    row: int | None
    place: str
    votes: Votes | None = None
    changes: tuple[str, ...] = ()
    advance: int = 1
    path: str | None = None

    @property
    def stem(self) -> str:
        """Its name; one made of its usage and row if the source has none."""
        return self.name or numbered_name(self.usage or TRAINING, self.row or 0)


@dataclass(frozen=True)
class BadRecord:
    """A row, image or folder that cannot be used: where it is, and why."""

    place: str
    reason: str
    advance: int = 1


@dataclass(frozen=True)
class LeftOut:
    """A valid row or image that is not imported, and why."""

    reason: str
    advance: int = 1


Record = ImageRecord | BadRecord | LeftOut


@dataclass(frozen=True, eq=False)
class Source:
    """A source whose format is known, not yet read.

    Attributes:
        kind: Its format, in words.
        members: The files of it that are read.
        has_split: Whether every image comes with a usage.
        has_votes: Whether images may come with votes.
        total: The sum of all records' `advance`, if it is known.
        unit: What `total` counts.
        records: Starts reading; may be called again.
        notes: Lines for the user: how it is understood where that is not plain.
    """

    kind: str
    members: tuple[Member, ...]
    has_split: bool
    has_votes: bool
    total: int | None
    unit: str
    records: Callable[[], Iterator[Record]]
    notes: tuple[str, ...] = ()


_WHOLE = re.compile(r"([0-9]{1,4})(?:\.0+(?:e\+00)?)?")


class ClassNames:
    """Which class a label of a source stands for.

    Attributes:
        classes: The class names, in the order of their labels.
    """

    def __init__(
        self, given: Mapping[str, str], classes: Sequence[str] = EMOTIONS
    ) -> None:
        """Takes names that have priority over the usual ones.

        Args:
            given: A class, one of `LEFT_OUT_CLASSES` or `NOTHING`, by its name or
                number in the source; case does not matter.
            classes: The class names, in the order of their labels.
        """
        self.classes = tuple(classes)
        self._given = {name.strip().lower(): each for name, each in given.items()}

    def with_numbers(self, numbers: Mapping[str, str]) -> "ClassNames":
        """Returns these names and a format's own numbers, where none is given."""
        return ClassNames({**numbers, **self._given}, self.classes)

    def find(self, name: str) -> str | None:
        """Returns a class, another known emotion, `NOTHING`, or None for neither."""
        name = name.strip()
        # As pandas writes whole numbers beside a missing one: 3.0.
        if name.lower() not in self._given and (match := _WHOLE.fullmatch(name)):
            name = str(int(match[1]))
        name = self._given.get(name.lower(), name)
        if name == NOTHING:
            return name
        known = (*EMOTIONS, *LEFT_OUT_CLASSES)
        return emotion_from_name(name, self.classes) or emotion_from_name(name, known)

    def find_label(self, name: str, *, place: str, advance: int) -> int | Record:
        """Returns the position in `classes`, or the record of what has none."""
        found = self.find(name)
        if found is None:
            return BadRecord(place, unknown_label(name), advance)
        if found in self.classes:
            return self.classes.index(found)
        is_named = found != NOTHING
        return LeftOut(found if is_named else f"of the label {_short(name)}", advance)


def unknown_label(name: str) -> str:
    """Returns why a label is bad, and the setting that says what it means."""
    return f"unknown label {_short(name)} (`classes` says what labels stand for)"


def _short(name: str) -> str:
    return ascii(name.strip()[:40])
