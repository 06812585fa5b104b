"""FER+'s votes for images that are imported: its files, and which row is whose."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.votes import (
    VOTE_COLUMNS,
    Votes,
    crowd_labels,
    csv_rows,
    open_table,
    parsed_votes,
)
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.records import TEST, TRAINING, ImageRecord

LEAST_AGREEMENT = 0.5
"""Least share of images whose label is also that of their votes' majority.

With FER2013's own images it is 72%, with shuffled ones 18%.
"""
_ENOUGH_TO_COMPARE = 200
_IMAGE_NAME = re.compile(r"(?:fer([0-9]{1,9})\.png)?")
# As of folders with FER+'s images; what tells images of one name apart precedes it.
_OWN_NAME = re.compile(r"(?:^|_)fer([0-9]{7})$", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,9}")
_NAME_THE_ROWS = (
    "The rows are not those of fer2013.csv: name the row of each image with "
    "`ferplus_rows`."
)


@dataclass(frozen=True, eq=False)
class FerPlus:
    """Microsoft's `fer2013new.csv`: a row for each row of `fer2013.csv`, in its order.

    Attributes:
        votes: int64 `(n, 10)`, columns as in `VOTE_COLUMNS`.
        usages: The part of the official split of each of the n rows.
        images: The number in each row's image name (123 in `fer0000123.png`); None
            where FER+ dropped the image. From row 60 on it is not the row.
    """

    votes: np.ndarray
    usages: tuple[str, ...]
    images: tuple[int | None, ...]

    def find_rows(self, numbers: Mapping[str, int]) -> tuple[dict[str, int], str]:
        """Returns the rows that a list stands for.

        Two kinds of list are published under the same heading: with numbers of
        rows, and with numbers of image names. Both list only images that FER+
        kept, so a kind is ruled out by one number without such an image.

        Args:
            numbers: A number for each path.

        Returns:
            The row of each path, and what the numbers are.

        Raises:
            SourceError: They are neither.
        """
        kept = {row: row for row, image in enumerate(self.images) if image is not None}
        by_image = {image: row for row, image in enumerate(self.images)}
        by_image.pop(None, None)
        for name, rows in (
            ("row numbers", kept),
            ("numbers of FER+'s image names", by_image),
        ):
            if all(number in rows for number in numbers.values()):
                return {path: rows[n] for path, n in numbers.items()}, name
        path, number = next((p, n) for p, n in numbers.items() if n not in kept)
        raise SourceError(
            "Expected in `ferplus_rows` numbers of rows (from 0) for which `ferplus` "
            f"has an image, or numbers of its image names; found {number} for "
            f"{path[:200]!a}. Check that the two files belong together."
        )


class VoteJoiner:
    """Finds the votes on images, and checks that they are on the same images.

    Attributes:
        method: How rows are found, in words.
    """

    def __init__(
        self, ferplus: FerPlus, numbers: Mapping[str, int] | None = None
    ) -> None:
        """Prepares the search for rows.

        Args:
            ferplus: The votes on every row.
            numbers: A list from `read_ferplus_rows`; suffixes and outer folders of
                its paths do not matter. Without it images must know their rows, or
                have FER+'s own names.

        Raises:
            SourceError: The numbers do not fit `ferplus`.
        """
        self.method = "row numbers"
        self._ferplus = ferplus
        self._rows: dict[tuple[str, ...], int] | None = None
        self._by_image = {image: row for row, image in enumerate(ferplus.images)}
        if numbers is not None:
            rows, kind = ferplus.find_rows(numbers)
            self.method = f"a list of {kind}"
            self._rows = {}
            for path, row in rows.items():
                if self._rows.setdefault(_key(path), row) != row:
                    raise SourceError(
                        "Expected one row for each image in `ferplus_rows`, found "
                        f"another one for {path!a}; suffixes and outer folders do not "
                        "count. Remove one of the two lines."
                    )

    def votes_on(self, record: ImageRecord) -> Votes | None:
        """Returns the votes on an image; None if its row is not known.

        Raises:
            SourceError: There is no such row, or it is in another part of the split.
        """
        if self._rows is not None:
            # The rows of a list were found by comparing pixels, so one may be that
            # of an identical image in another part of the split.
            row = self._rows.get(_key(record.place))
        elif (row := self._row(record)) is not None:
            self._check_row(record, row)
        return None if row is None else tuple(self._ferplus.votes[row].tolist())

    def _row(self, record: ImageRecord) -> int | None:
        """Returns the row in the image's name, which can be FER+'s own."""
        match = _OWN_NAME.search(record.name or "")
        return self._by_image.get(int(match[1])) if match else record.row

    def _check_row(self, record: ImageRecord, row: int) -> None:
        usages = self._ferplus.usages
        if row >= len(usages):
            raise SourceError(
                f"Expected a row below {len(usages):,}, the number of rows in "
                f"`ferplus`, found row {row:,} for {record.place!a}. {_NAME_THE_ROWS}"
            )
        found, expected = usages[row], record.usage
        is_same = found != TRAINING if expected == TEST else found == expected
        if expected and not is_same:
            raise SourceError(
                f"Expected row {row} of `ferplus` to be {expected}, as "
                f"{record.place!a} is, found {found}. {_NAME_THE_ROWS}"
            )


def _key(path: str) -> tuple[str, ...]:
    parsed = PurePosixPath(path.replace("\\", "/"))
    return (*parsed.parent.parts[-2:], parsed.stem)


def check_agreement(names: Sequence[str], votes: np.ndarray) -> tuple[int, int]:
    """Checks that votes are on the images that they were found for.

    Args:
        names: The class names of n images.
        votes: int `(n, 10)`, columns as in `VOTE_COLUMNS`.

    Returns:
        The number of images whose votes have a majority for an emotion, and of
        those among them whose class that is.

    Raises:
        SourceError: Votes and classes agree so rarely that the rows must be wrong.
    """
    labels, _ = crowd_labels(votes)
    has_majority = labels >= 0
    agrees = has_majority & (np.array(EMOTIONS)[labels] == np.array(names))
    count, agreeing = int(has_majority.sum()), int(agrees.sum())
    if count >= _ENOUGH_TO_COMPARE and agreeing < LEAST_AGREEMENT * count:
        raise SourceError(
            "Expected the majority of the votes to agree with most labels, found that "
            f"it does for {agreeing:,} of {count:,} images: these votes are on other "
            f"images. {_NAME_THE_ROWS}"
        )
    return count, agreeing


def read_ferplus(path: Path) -> FerPlus:
    """Reads Microsoft's `fer2013new.csv`.

    Args:
        path: The file.

    Raises:
        SourceError: The file, a column in it or a number in it is missing.
    """
    votes, usages, images = [], [], []
    with open_table(path, "ferplus") as file:
        columns = ("usage", "image name", *VOTE_COLUMNS)
        for place, row in csv_rows(file, path, columns):
            place = f"{place} of {shown(str(path))}"
            votes.append(parsed_votes(row, place))
            usages.append(row["usage"].strip())
            images.append(_image_number(row["image name"], place))
    array = np.array(votes, dtype=np.int64).reshape(-1, len(VOTE_COLUMNS))
    return FerPlus(array, tuple(usages), tuple(images))


def _image_number(name: str, place: str) -> int | None:
    match = _IMAGE_NAME.fullmatch(name.strip())
    if match is None:
        raise SourceError(
            f"Expected an image name such as fer0000123.png in {place}, found "
            f"{name[:40]!a}. Download the file again, or fix that line."
        )
    return int(match[1]) if match[1] else None


def read_ferplus_rows(path: Path) -> dict[str, int]:
    """Reads a list of numbers of rows or of image names, by the image's path.

    Args:
        path: A CSV file with the columns `image` and `row`; `FerPlus.find_rows`
            finds out what its numbers are.

    Raises:
        SourceError: The file, a column in it or a number in it is missing.
    """
    rows: dict[str, int] = {}
    with open_table(path, "ferplus_rows") as file:
        for place, row in csv_rows(file, path, ("image", "row")):
            image, number = row["image"], row["row"].strip()
            if not PurePosixPath(image.strip()).name:
                raise SourceError(
                    f"Expected an image's path in {place} of {shown(str(path))}, found "
                    f"{image[:40]!a}. Fix or remove that line."
                )
            if not _NUMBER.fullmatch(number):
                raise SourceError(
                    f"Expected a row number, from 0, in {place} of {shown(str(path))}, "
                    f"found {number[:40]!a}. Fix or remove that line."
                )
            if rows.setdefault(image, int(number)) != int(number):
                raise SourceError(
                    f"Expected one row for each image, found another one for "
                    f"{image[:200]!a} in {place} of {shown(str(path))}. Remove one of "
                    "the two lines."
                )
    return rows
