"""What an import wrote, left out and skipped: counts, and texts of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from emotion_cnn.data.bad_images import list_bad
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.files import shown
from emotion_cnn.importing.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    BadRecord,
)

RECORDED_AT_MOST = 1000
_NAMED_AT_MOST = 1_000_000

_TITLES: dict[str | None, str] = {
    None: "images",
    TRAINING: "train",
    PUBLIC_TEST: PUBLIC_TEST,
    PRIVATE_TEST: PRIVATE_TEST,
    TEST: "test",
}


@dataclass
class Tally:
    """What became of the records of a source.

    Attributes:
        classes: The class names, in the order of their labels.
        counts: Images by usage (None without a split) and class name.
        left_out: Valid records that were not imported, by reason.
        conversions: Images by what was converted.
        bad: The first bad rows, images or folders, and what is wrong with them.
        bad_count: The number of all of them.
        with_votes: Images that have votes.
        with_majority: Those of them whose votes have a majority for an emotion.
        agreeing: Those of them whose label that is.
    """

    classes: tuple[str, ...]
    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    with_votes: int = 0
    with_majority: int = 0
    agreeing: int = 0

    @property
    def total(self) -> int:
        """The number of images."""
        return self.counts.total()

    @property
    def usages(self) -> list[str | None]:
        """The usages that occur, those of training first."""
        found = {usage for (usage, _), count in self.counts.items() if count}
        return [usage for usage in _TITLES if usage in found]

    def class_counts(self, usages: Sequence[str | None]) -> dict[str, int]:
        """Returns the number of images of each class that have one of some usages."""
        return {
            name: sum(self.counts[usage, name] for usage in usages)
            for name in self.classes
        }

    def add_bad(self, record: BadRecord) -> None:
        """Counts a bad record, and lists it if it is one of the first."""
        self.bad_count += 1
        if len(self.bad) < _NAMED_AT_MOST:
            self.bad.append(f"{shown(record.place)}: {record.reason}")

    def format_counts(self) -> str:
        """Returns a table of images by class and usage."""
        columns = [self.class_counts([usage]) for usage in self.usages]
        columns.append(self.class_counts(self.usages))
        width = max(10, *map(len, self.classes))
        lines = [["", *(_TITLES[usage] for usage in self.usages), "total"]]
        lines += [[name, *(f"{c[name]:,}" for c in columns)] for name in self.classes]
        lines.append(["total", *(f"{sum(c.values()):,}" for c in columns)])
        return "\n".join(
            f"  {name:<{width}}" + "".join(f"{cell:>13}" for cell in cells)
            for name, *cells in lines
        )

    def format_notes(self) -> list[str]:
        """Returns lines for the user: what was converted, left out and skipped."""
        notes = []
        if self.conversions:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in self.conversions.items())
            notes.append(f"converted to {IMAGE_SIZE}x{IMAGE_SIZE} grayscale: {kinds}")
        if self.left_out:
            notes.append(f"left out: {self.format_left_out()}")
        counts = self.class_counts(self.usages)
        if missing := [name for name, count in counts.items() if not count]:
            notes.append(
                f"no images of {', '.join(missing)}: training takes the other classes"
            )
        if self.usages == [TEST]:
            notes.append("all images are in test/: training needs some in train/")
        if self.usages == [TRAINING]:
            notes.append(
                "no images for test/: training needs some. A table without its Usage "
                "column\n  is split by `test_share`; images in class folders are too"
            )
        if self.with_votes:
            share = self.agreeing / max(1, self.with_majority)
            notes.append(
                f"votes: on {self.with_votes:,} of {self.total:,} images; the majority "
                f"is for\n  an emotion on {self.with_majority:,}, and agrees with the "
                f"label on {share:.0%} of these"
            )
        if self.bad:
            notes.append(f"skipped: {self.format_bad()}")
        return notes

    def format_left_out(self) -> str:
        """Returns what was left out and why, on one line."""
        found = [f"{count:,} {reason}" for reason, count in self.left_out.items()]
        return ", ".join(found) or "nothing was left out"

    def format_bad(self) -> str:
        """Returns the number of bad records, and a line for each of the first."""
        what = "row or file" if self.bad_count == 1 else "rows or files"
        lines = [f"{self.bad_count:,} bad {what}:", *list_bad(self.bad, self.bad_count)]
        return "\n  ".join(lines)
