"""FER+: ten people's votes on every image of FER2013, and the labels that follow.

The rules are those of E. Barsoum, C. Zhang, C. Canton Ferrer and Z. Zhang,
"Training Deep Networks for Facial Expression Recognition with Crowd-Sourced
Label Distribution", ICMI 2016 (arXiv 1608.01041), and of the code published
with it. Pure functions of votes; the only code that knows the two CSV files.
"""

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from emotion_cnn.data.classes import CONTEMPT, EMOTIONS, emotion_from_name
from emotion_cnn.data.splits import Split
from emotion_cnn.errors import DataError, SourceError
from emotion_cnn.files import first_line, open_regular, shown, write_csv

VOTE_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""What a vote can be for, in FER+'s order; NF is "not a face"."""

VOTES_NAME = "votes.csv"
"""The file in a data folder with the votes on its images."""
NO_MAJORITY = "no majority"
_NAMES = {"NF": "not a face"}
_VOTE_LIMIT = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")

VOTES_LIMIT = 200_000_000
"""Most bytes of a file of votes; FER+'s takes 2 MB. Parsed it takes ten times that."""

Votes = tuple[int, ...]
"""Ten counts, in the order of `VOTE_COLUMNS`."""


def drop_single_votes(votes: np.ndarray) -> np.ndarray:
    """Returns the votes without those that only one person gave.

    Args:
        votes: Integers `(n, 10)`, columns as in `VOTE_COLUMNS`.
    """
    return np.where(votes > 1, votes, 0)


def majority_columns(votes: np.ndarray) -> np.ndarray:
    """Returns which column more than half of the votes that count are for.

    Single votes do not count (`drop_single_votes`).

    Args:
        votes: Integers `(n, 10)`, columns as in `VOTE_COLUMNS`.

    Returns:
        int64 `(n,)`, positions in `VOTE_COLUMNS`; -1 without a majority.
    """
    votes = drop_single_votes(votes)
    has_majority = 2 * votes.max(axis=1) > votes.sum(axis=1)
    return np.where(has_majority, votes.argmax(axis=1), -1)


def over_half_of_all_votes(
    names: Sequence[str],
    votes: Mapping[str, Votes],
    classes: Sequence[str] = EMOTIONS,
) -> np.ndarray:
    """Returns on which images over half of all votes are for one emotion.

    This is the stricter rule that some publications use: single votes count, and so
    do those for unknown, not a face and, if it is no class, contempt. Of ten votes
    that takes six.

    Args:
        names: The images' n names.
        votes: The votes by the image's name.
        classes: The emotions, `EMOTIONS` or these and contempt.

    Returns:
        bool `(n,)`; False for an image without votes.
    """
    counts = vote_counts(names, votes)
    seen = counts[:, _labels(classes) >= 0]
    return 2 * seen.max(axis=1) > counts.sum(axis=1)


def crowd_labels(
    votes: np.ndarray, classes: Sequence[str] = EMOTIONS
) -> tuple[np.ndarray, dict[str, int]]:
    """Returns the emotion that most votes are for, and counts images without one.

    Args:
        votes: Integers `(n, 10)`, columns as in `VOTE_COLUMNS`.
        classes: The emotions, `EMOTIONS` or these and contempt, in any order.

    Returns:
        int64 `(n,)`, positions in `classes`, -1 for an image that is left out;
        and how many are left out without a majority, and because the majority
        votes for unknown, not a face or, if it is no class, contempt.
    """
    columns, of_column = majority_columns(votes), _labels(classes)
    left_out = {NO_MAJORITY: int((columns == -1).sum())}
    for position, name in enumerate(VOTE_COLUMNS):
        if of_column[position] == -1:
            left_out[_NAMES.get(name, name)] = int((columns == position).sum())
    return np.where(columns == -1, -1, of_column[columns]), left_out


def vote_shares(votes: np.ndarray, classes: Sequence[str] = EMOTIONS) -> np.ndarray:
    """Returns how the votes for the emotions are distributed.

    Single votes do not count, nor do those for what is none of the emotions.

    Args:
        votes: Integers `(n, 10)`, columns as in `VOTE_COLUMNS`.
        classes: The emotions, `EMOTIONS` or these and contempt, in any order.

    Returns:
        float32 `(n, classes)`; rows sum to 1. A row is all zeros where no more than
        half of the votes that count are for the classes.
    """
    columns = [_labels(classes).tolist().index(k) for k in range(len(classes))]
    votes = drop_single_votes(votes)
    counts = votes[:, columns]
    sums = counts.sum(axis=1, keepdims=True)
    seen = 2 * sums > votes.sum(axis=1, keepdims=True)
    return np.where(seen, counts / np.maximum(sums, 1), 0).astype(np.float32)


def vote_counts(names: Sequence[str], votes: Mapping[str, Votes]) -> np.ndarray:
    """Returns the votes on images, int64 `(n, 10)`; zeros where there are none."""
    none = (0,) * len(VOTE_COLUMNS)
    counts = np.array([votes.get(name, none) for name in names], dtype=np.int64)
    return counts.reshape(-1, len(VOTE_COLUMNS))


def relabel(
    split: Split, votes: Mapping[str, Votes], *, distribution: bool
) -> tuple[Split, dict[str, int]]:
    """Gives images the majority's label, and leaves out those without one.

    Args:
        split: Images with their original labels.
        votes: The votes by the image's name.
        distribution: Whether `vote_shares` become the images' targets.

    Returns:
        The images that are left, and how many are left out for which reason.
    """
    voted = np.array([name in votes for name in split.names], dtype=bool)
    counts = np.array(
        [votes[name] for name in split.names if name in votes], dtype=np.int64
    ).reshape(-1, len(VOTE_COLUMNS))
    _check_emotions(split)
    labels, left_out = crowd_labels(counts, split.classes)
    kept, positions = labels >= 0, np.flatnonzero(voted)
    chosen = split.select(positions[kept])
    shares = vote_shares(counts[kept], split.classes)
    relabelled = dataclasses.replace(
        chosen,
        labels=labels[kept],
        targets=shares[:, np.newaxis] if distribution else None,
    )
    return relabelled, {"no votes": int((~voted).sum()), **left_out}


def add_votes(split: Split, votes: Mapping[str, Votes]) -> tuple[Split, int]:
    """Gives images targets of both label sets: their label, and the votes.

    Args:
        split: Images with their original labels.
        votes: The votes by the image's name.

    Returns:
        The same images with targets `(n, 2, classes)`: the one-hot label, and
        `vote_shares`, which are zeros where there are no votes; and the number of
        images with such shares.
    """
    _check_emotions(split)
    shares = vote_shares(vote_counts(split.names, votes), split.classes)
    ones = np.eye(len(split.classes), dtype=np.float32)[split.labels]
    targets = np.stack([ones, shares], axis=1)
    with_votes = dataclasses.replace(split, targets=targets)
    return with_votes, int(shares.any(axis=1).sum())


def _labels(classes: Sequence[str]) -> np.ndarray:
    """Returns which class each of `VOTE_COLUMNS` is for, -1 for none of them."""
    names = [emotion_from_name(column, classes) for column in VOTE_COLUMNS]
    return np.array([-1 if name is None else classes.index(name) for name in names])


def _check_emotions(split: Split) -> None:
    if sorted(split.classes) not in (sorted(EMOTIONS), sorted((*EMOTIONS, CONTEMPT))):
        raise DataError(
            f"FER+ votes are for {', '.join(EMOTIONS)} and {CONTEMPT}; expected images "
            "of these classes, with or without the last, found "
            f"{', '.join(split.classes)}. Choose `labels=original`."
        )


def write_votes(path: Path, votes: Mapping[str, Votes]) -> None:
    """Writes `votes.csv`: a row for every image that has votes, by path."""
    rows = ((image, *votes[image]) for image in sorted(votes))
    write_csv(path, ("image", *VOTE_COLUMNS), rows)


def find_votes(folder: Path) -> dict[str, Votes] | None:
    """Returns the votes in a data folder, by image; None where it has none.

    Raises:
        SourceError: Its `votes.csv` cannot be read.
    """
    path = folder / VOTES_NAME
    if not os.path.lexists(path):
        return None
    with open_table(path) as file:
        return _read_votes(file, path)


def read_votes(stream: IO[bytes], path: Path) -> dict[str, Votes]:
    """Reads what `write_votes` wrote.

    Args:
        stream: The bytes of the file.
        path: Where it is from, for messages.

    Returns:
        The votes by the image's path in the data folder.

    Raises:
        SourceError: A column or a number is missing.
    """
    with _text(stream) as file:
        return _read_votes(file, path)


def _read_votes(file: IO[str], path: Path) -> dict[str, Votes]:
    votes: dict[str, Votes] = {}
    for place, row in csv_rows(file, path, ("image", *VOTE_COLUMNS)):
        place = f"{place} of {shown(str(path))}"
        counts = parsed_votes(row, place)
        if votes.setdefault(row["image"], counts) != counts:
            raise SourceError(
                f"Expected one row for each image, found other votes on "
                f"{row['image'][:200]!a} in {place}. Remove one of the two lines."
            )
    return votes


def _text(stream: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="")


@contextmanager
def open_table(path: Path, setting: str = "data") -> Iterator[IO[str]]:
    """Opens a CSV file that may be a stranger's.

    Args:
        path: The file.
        setting: The setting that chooses it, for the message.

    Raises:
        SourceError: It cannot be read, or is no regular file.
    """
    try:
        with open_regular(path) as stream, _text(stream) as file:
            if os.fstat(stream.fileno()).st_size > VOTES_LIMIT:
                raise ValueError(f"more than {VOTES_LIMIT:,} bytes")
            yield file
    except (OSError, ValueError) as error:
        raise SourceError(
            f"Expected a CSV file in `{setting}`, but {shown(str(path))} cannot be "
            f"read: {first_line(error)}."
        ) from error


def parse_votes(cells: Iterable[str]) -> Votes:
    """Returns the votes in ten cells of a table.

    Raises:
        ValueError: A cell does not hold a whole number from 0 to 1000.
    """
    votes = []
    for cell in cells:
        number = cell.strip()
        if not (_NUMBER.fullmatch(number) and int(number) <= _VOTE_LIMIT):
            raise ValueError(f"{number[:20]!a} is not a number of votes")
        votes.append(int(number))
    return tuple(votes)


def parsed_votes(row: Mapping[str, str], place: str) -> Votes:
    """Returns the votes in a row of a table.

    Raises:
        SourceError: A cell does not hold a number of votes; names `place`.
    """
    try:
        return parse_votes(row[column.lower()] for column in VOTE_COLUMNS)
    except ValueError as error:
        raise SourceError(
            f"Expected whole numbers of votes in {place}, found that {error}. Get "
            "the file again, or fix that line."
        ) from None


def csv_rows(
    file: IO[str], path: Path, columns: Iterable[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields where each row stands, and its cells by column in lower case."""
    columns = [column.lower() for column in columns]
    try:
        reader = csv.reader(file, strict=True)
        header = [name.strip().lower() for name in next(reader, [])]
        if missing := [column for column in columns if column not in header]:
            raise SourceError(
                f"{shown(str(path))} misses the columns {', '.join(missing)}. Expected "
                f"{', '.join(columns)}; found "
                f"{shown(', '.join(header)[:200]) or 'none'}."
            )
        if twice := [column for column in columns if header.count(column) > 1]:
            raise SourceError(
                f"{shown(str(path))} has the columns {', '.join(twice)} more than "
                "once. Remove all but one of each."
            )
        cells = (row for row in reader if row)
        for number, row in enumerate(cells):
            if len(row) != len(header):
                raise SourceError(
                    f"Expected {len(header)} columns in row {number} (line "
                    f"{reader.line_num}) of {shown(str(path))}, found {len(row)}. Get "
                    "the file again: it may be truncated."
                )
            place = f"row {number} (line {reader.line_num})"
            yield place, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise SourceError(
            f"{shown(str(path))} is not a valid CSV file: {error}."
        ) from error
