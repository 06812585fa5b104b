"""Copying the images of a source to a writer."""

from typing import Protocol

import numpy as np
from tqdm import tqdm

from emotion_cnn.data.votes import Votes
from emotion_cnn.errors import SourceError
from emotion_cnn.importing.ferplus import VoteJoiner, check_agreement
from emotion_cnn.importing.records import BadRecord, ImageRecord, LeftOut, Source
from emotion_cnn.importing.tally import Tally


class Writer(Protocol):
    """Takes images one by one.

    Attributes:
        classes: The class names, in the order of their labels.
    """

    classes: tuple[str, ...]

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one image and its votes, if it has any."""


def copy_images(
    source: Source, writer: Writer, joiner: VoteJoiner | None, *, skip_bad: bool
) -> Tally:
    """Reads a source to its end and writes its images.

    Args:
        source: Where they are from.
        writer: Where they go.
        joiner: Finds votes that replace those of the source.
        skip_bad: Whether to leave out bad records, and list them in the result.

    Returns:
        What was written, left out and skipped.

    Raises:
        SourceError: There are bad records, and `skip_bad` is false (names them);
            there is no image; or the votes are not on these images.
    """
    tally = Tally(writer.classes)
    voted_names: list[str] = []
    all_votes: list[Votes] = []
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
                tally.add_bad(record)
            elif isinstance(record, LeftOut):
                tally.left_out[record.reason] += 1
            # After a bad record nothing is written: only further ones are looked for.
            elif skip_bad or not tally.bad:
                votes = joiner.votes_on(record) if joiner else record.votes
                writer.write(record, votes)
                name = writer.classes[record.label]
                tally.counts[record.usage, name] += 1
                tally.conversions.update(record.changes)
                if votes:
                    voted_names.append(name)
                    all_votes.append(votes)
    if tally.bad and not skip_bad:
        raise SourceError(
            f"{tally.format_bad()}\nFix the source, or leave them out with "
            "`skip_bad=True`."
        )
    if not tally.total:
        raise SourceError(
            f"Expected images in `source`, found none ({tally.format_left_out()}). "
            "Check the source, and what `classes` says its labels stand for."
        )
    if joiner and not all_votes:
        raise SourceError(
            f"Expected to find the rows of images by {joiner.method}, found none. "
            "Images imported from fer2013.csv have their rows in their names, FER+'s "
            "own are called fer0000123.png; for others name the row of each image with "
            "`ferplus_rows`."
        )
    if all_votes:
        tally.with_votes = len(all_votes)
        tally.with_majority, tally.agreeing = check_agreement(
            voted_names, np.array(all_votes)
        )
    return tally
