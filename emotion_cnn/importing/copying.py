"""From a source to a writer: what becomes of each record, counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from tqdm import tqdm

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.votes import Votes
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.matching import VoteJoiner, check_agreement
from emotion_cnn.importing.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    USAGES,
    BadRecord,
    ImageRecord,
    LeftOut,
    Source,
)

LISTED_AT_MOST = 100
RECORDED_AT_MOST = 1000
_BATCH_SIZE = 256


@dataclass
class Tally:
    """What became of the records of a source.

    Attributes:
        counts: Images by usage (None without a split) and emotion.
        left_out: Sound records without a place, by reason.
        conversions: Images by what made them 48x48 grayscale.
        bad: The first bad rows, images or folders, and what is wrong with them.
        bad_count: How many there are.
        with_votes: Images that have votes.
        evaluated: Those of them in which the crowd sees one of `EMOTIONS`.
        agreeing: Those of them in which that is the label.
    """

    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    with_votes: int = 0
    evaluated: int = 0
    agreeing: int = 0

    @property
    def total(self) -> int:
        """The number of images."""
        return self.counts.total()


class Writer(Protocol):
    """Takes images one by one."""

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one image and its votes, if it has any."""


def copy_images(
    source: Source, writer: Writer, joiner: VoteJoiner | None, *, skip_bad: bool
) -> Tally:
    """Reads a source to its end and writes its images.

    Args:
        source: Where they are from.
        writer: Where they go.
        joiner: Gives them votes in place of those the source has.
        skip_bad: Whether to go on without bad records.

    Raises:
        SourceError: There are bad records, and `skip_bad` is false (names them);
            there is no image; or votes do not fit.
    """
    tally = Tally()
    voted: list[tuple[int, Votes]] = []
    batch: list[ImageRecord] = []

    def flush() -> None:
        votes = joiner.votes(batch) if joiner else [p.votes for p in batch]
        for record, its_votes in zip(batch, votes, strict=True):
            writer.write(record, its_votes)
            tally.counts[record.usage, EMOTIONS[record.label]] += 1
            tally.conversions.update(record.changes)
            if its_votes:
                voted.append((record.label, its_votes))
        batch.clear()

    with tqdm(
        desc="importing",
        total=source.total,
        unit=source.unit,
        unit_scale=source.unit == "B",
        disable=None,
    ) as progress:
        for record in source.records():
            progress.update(record.advance)
            if isinstance(record, BadRecord):
                tally.bad_count += 1
                if len(tally.bad) < RECORDED_AT_MOST:
                    tally.bad.append(f"{shown(record.place)}: {record.reason}")
            elif isinstance(record, LeftOut):
                tally.left_out[record.reason] += 1
            # After a bad record nothing is kept: the rest is only looked through.
            elif skip_bad or not tally.bad:
                batch.append(record)
                if len(batch) == _BATCH_SIZE:
                    flush()
    if tally.bad and not skip_bad:
        raise SourceError(
            f"{_bad_records(tally)}:\n  "
            + "\n  ".join(listed(tally))
            + "\nMend the source, or go on without them with --skip-bad."
        )
    flush()
    if not tally.total:
        raise SourceError(
            f"Expected images in --source, found none ({left_out_text(tally)}). "
            "Check the source, and the labels given with --classes."
        )
    if joiner and not voted:
        raise SourceError(
            f"Expected to find images' rows by {joiner.method}, found none. Rows are "
            "in the names of what was imported from fer2013.csv; for others say which "
            "row each image is with --ferplus-rows."
        )
    if voted:
        labels = np.array([label for label, _ in voted])
        votes = np.array([votes for _, votes in voted])
        tally.with_votes = len(voted)
        tally.evaluated, tally.agreeing = check_agreement(labels, votes)
    return tally


def format_counts(tally: Tally) -> str:
    """Returns a table of images by emotion and usage, less than 80 columns wide."""
    found = {usage for (usage, _), count in tally.counts.items() if count}
    titles: dict[str | None, str] = {
        None: "images",
        TRAINING: "train",
        PUBLIC_TEST: PUBLIC_TEST,
        PRIVATE_TEST: PRIVATE_TEST,
        TEST: "test",
    }
    columns = [usage for usage in titles if usage in found]
    lines = [["", *(titles[usage] for usage in columns), "total"]]
    for emotion in EMOTIONS:
        row = [tally.counts[usage, emotion] for usage in columns]
        lines.append([emotion, *(f"{n:,}" for n in row), f"{sum(row):,}"])
    sums = [sum(tally.counts[u, emotion] for emotion in EMOTIONS) for u in columns]
    lines.append(["total", *(f"{n:,}" for n in sums), f"{sum(sums):,}"])
    return "\n".join(
        f"  {name:<10}" + "".join(f"{cell:>13}" for cell in cells)
        for name, *cells in lines
    )


def format_notes(tally: Tally) -> Sequence[str]:
    """Returns lines for the user: what was converted, left out and skipped."""
    notes = []
    if tally.conversions:
        details = ", ".join(f"{n:,} {kind}" for kind, n in tally.conversions.items())
        notes.append(f"converted to 48x48 grayscale: {details}")
    if tally.left_out:
        notes.append(f"left out: {left_out_text(tally)}")
    missing = [
        emotion
        for emotion in EMOTIONS
        if not any(tally.counts[usage, emotion] for usage in (None, *USAGES))
    ]
    if missing:
        notes.append(f"no images of {', '.join(missing)}: training needs all seven")
    usages = {usage for (usage, _), count in tally.counts.items() if count}
    if usages == {TRAINING}:
        notes.append(
            "no images for test/: training needs some. A table without its Usage "
            "column\n  is split by --test-share; images in class folders are too"
        )
    if tally.with_votes:
        share = tally.agreeing / max(1, tally.evaluated)
        notes.append(
            f"votes: on {tally.with_votes:,} of {tally.total:,} images; a majority "
            f"sees one of\n  the seven in {tally.evaluated:,}, the label's in "
            f"{share:.0%} of these"
        )
    if tally.bad:
        notes.append(f"skipped: {_bad_records(tally)}")
        notes += [f"  {line}" for line in listed(tally)]
    return notes


def left_out_text(tally: Tally) -> str:
    """Returns what was left out and why, on one line."""
    found = [f"{count:,} {reason}" for reason, count in tally.left_out.items()]
    return ", ".join(found) or "nothing was left out"


def listed(tally: Tally) -> list[str]:
    """Returns the first bad records, and how many more there are."""
    rest = tally.bad_count - LISTED_AT_MOST
    more = [f"... and {rest:,} more"] if rest > 0 else []
    return [*tally.bad[:LISTED_AT_MOST], *more]


def _bad_records(tally: Tally) -> str:
    what = "row or file" if tally.bad_count == 1 else "rows or files"
    return f"{tally.bad_count:,} bad {what}"
