"""The data of a command: read, labelled, without near-duplicates, split.

Where images come from, whose labels they have and what is left out is decided here,
and said in the notes that training and evaluation log.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from emotion_cnn.data.classes import BOTH_LABELS, LABEL_NAMES
from emotion_cnn.data.drawn_faces import sample_splits
from emotion_cnn.data.folders import read_splits, read_test
from emotion_cnn.data.near_duplicates import (
    AUDIT_FILE,
    KnownNearDuplicates,
    read_known_near_duplicates,
)
from emotion_cnn.data.source import SAMPLE_DATA, source_name
from emotion_cnn.data.splits import Dataset, Split, class_counts, split_dataset
from emotion_cnn.data.vote_smoothing import smooth_labels
from emotion_cnn.data.votes import VOTES_NAME, Votes, add_votes, find_votes, relabel
from emotion_cnn.errors import DataError

_log = logging.getLogger(__name__)


def load_training_data(
    source: str,
    *,
    labels: str,
    distribution: bool,
    leave_out: str | None,
    skip_bad: bool,
    validation_share: float,
    seed: int,
    vote_smoothing: float,
) -> tuple[Dataset, KnownNearDuplicates | None]:
    """Reads what a network is trained, validated and tested on.

    Args:
        source: A data folder, or `SAMPLE_DATA`.
        labels: `original`, `ferplus`, or `both`.
        distribution: With `ferplus`: whether targets are the shares of the votes in
            place of their majority.
        leave_out: An `audit.json`: leave the train images out that have a
            near-duplicate in test.
        skip_bad: Whether to go on without images that cannot be read.
        validation_share: Share of train to hold out where there is no official split.
        seed: Chooses the images to hold out.
        vote_smoothing: With `both`: share of each original label that is replaced by
            soft labels predicted from the votes.

    Returns:
        The data, and the known near-duplicates, if an audit of them is at hand.

    Raises:
        DataError: Images, votes or the audit are missing or damaged.
    """
    notes: tuple[str, ...] = ()
    if source == SAMPLE_DATA:
        train, test = sample_splits()
    else:
        train, test, notes = read_splits(Path(source), skip_bad=skip_bad)
    near_duplicates = _near_duplicates_at_hand(
        leave_out, source, train=train, test=test
    )
    if labels == "ferplus":
        (train, test), left_out = _relabelled(
            source, {"train": train, "test": test}, distribution=distribution
        )
        notes += left_out
    elif labels == BOTH_LABELS:
        votes = _votes_of(source, labels)
        train, of_train = add_votes(train, votes)
        test, of_test = add_votes(test, votes)
        notes += (
            f"FER+ votes on {of_train:,} of {len(train):,} images of train/, "
            f"{of_test:,} of {len(test):,} of test/",
        )
    if near_duplicates and leave_out:
        count = len(train)
        train = near_duplicates.exclude_from(train)
        notes += (
            f"left out of train: {count - len(train):,} of {count:,} images, which "
            f"have a near-duplicate in test ({near_duplicates.path})",
        )
    data = split_dataset(
        train, test, validation_share=validation_share, seed=seed, notes=notes
    )
    if vote_smoothing:
        # After the split: what is held out is neither smoothed nor fitted on.
        votes = _votes_of(source, labels)
        note = (
            f"labels of train/: {vote_smoothing:.0%} soft labels predicted from the "
            "votes"
        )
        data = dataclasses.replace(
            data,
            train=smooth_labels(data.train, votes, share=vote_smoothing),
            notes=(*data.notes, note),
        )
    _log.info("Data: %s, %s", source_name(source), LABEL_NAMES[labels])
    for note in data.notes:
        _log.info("  %s", note)
    _log.info(
        "  %s images to train on, %s to test on\n  validation: %s",
        f"{len(data.train):,}",
        f"{len(data.test):,}",
        data.validation_source,
    )
    return data, near_duplicates


def load_test_data(
    source: str, *, labels: str, audit: str | None, skip_bad: bool
) -> tuple[Split, KnownNearDuplicates | None]:
    """Reads what a network is evaluated on.

    Args:
        source: A data folder, or `SAMPLE_DATA`.
        labels: `original` or `ferplus`.
        audit: An `audit.json`; without it, one in the data folder is taken.
        skip_bad: Whether to go on without images that cannot be read.

    Returns:
        The images of test, and the known near-duplicates, if an audit is at hand.

    Raises:
        DataError: Images, votes or the audit are missing or damaged.
    """
    notes: tuple[str, ...] = ()
    if source == SAMPLE_DATA:
        test = sample_splits()[1]
    else:
        test, notes = read_test(Path(source), skip_bad=skip_bad)
    for note in notes:
        _log.info("%s", note)
    near_duplicates = _near_duplicates_at_hand(audit, source, test=test)
    if labels == "ferplus":
        (test,), notes = _relabelled(source, {"test": test}, distribution=False)
        for note in notes:
            _log.info("%s", note)
    return test, near_duplicates


def _near_duplicates_at_hand(
    named: str | None, source: str, **splits: Split
) -> KnownNearDuplicates | None:
    """Returns what the audit knows that is named or lies in the data folder.

    Raises:
        DataError: The one that is named is damaged, or is of other images. One that
            merely lies there may be old: it is left alone, and this is said.
    """
    if named:
        known = read_known_near_duplicates(Path(named))
        known.check(**splits)
        return known
    beside = Path(source) / AUDIT_FILE
    if source == SAMPLE_DATA or not beside.is_file():
        return None
    try:
        known = read_known_near_duplicates(beside)
        known.check(**splits)
    except DataError as error:
        _log.warning("%s is not used. %s", beside, error)
        return None
    return known


def _relabelled(
    source: str, splits: Mapping[str, Split], *, distribution: bool
) -> tuple[list[Split], tuple[str, ...]]:
    """Returns the images with labels by votes, and what was left out, in words.

    Raises:
        DataError: There are no votes, or none for a class in `train`.
    """
    votes = _votes_of(source, "ferplus")
    relabelled, notes = [], []
    for part, split in splits.items():
        kept, left_out = relabel(split, votes, distribution=distribution)
        missing = [name for name, count in class_counts(kept).items() if not count]
        if not len(kept) or (part == "train" and missing):
            raise DataError(
                f"Expected votes for every class in {part}/, found no image with a "
                f"majority for {' or '.join(missing)}. Choose `labels=original`, or "
                "add images and votes."
            )
        reasons = ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n)
        notes.append(
            f"FER+ labels: {len(kept):,} of {len(split):,} images of {part}/; left "
            f"out: {reasons or 'none'}"
        )
        relabelled.append(kept)
    return relabelled, tuple(notes)


def _votes_of(source: str, labels: str) -> dict[str, Votes]:
    votes = None if source == SAMPLE_DATA else find_votes(Path(source))
    if votes is None:
        raise DataError(
            f"`labels={labels}` needs votes, found no {VOTES_NAME} in "
            f"{source_name(source)}. Add them: `emotion-cnn prepare` with FER+'s "
            "fer2013new.csv."
        )
    return votes
