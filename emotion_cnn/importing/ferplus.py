"""Microsoft's `fer2013new.csv`, and lists of which row an image is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from emotion_cnn.data.votes import VOTE_COLUMNS, csv_rows, parsed_votes
from emotion_cnn.errors import SourceError

_IMAGE_NAME = re.compile(r"(?:fer([0-9]+)\.png)?")


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
        """Returns the rows that a list means, whichever way it numbers them.

        Lists are about, under the same heading, with row numbers and with numbers
        of image names. Such a list names images that FER+ has, so a reading is
        out of the question as soon as one of its numbers leads to none.

        Args:
            numbers: A number for each path.

        Returns:
            The row of each path, and how the numbers were read.

        Raises:
            SourceError: Neither reading is possible.
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
            f"Expected rows (from 0) that --ferplus has an image for in "
            f"--ferplus-rows, found {number} for {path!a}, and numbers that are not "
            "those of its image names either. Check that the two files belong together."
        )


def read_ferplus(path: Path) -> FerPlus:
    """Reads Microsoft's `fer2013new.csv`.

    Args:
        path: The file.

    Raises:
        SourceError: It is missing, or a column or a number in it is.
    """
    votes, usages, images = [], [], []
    with _open(path, "--ferplus") as file:
        columns = ("usage", "image name", *VOTE_COLUMNS)
        for place, row in csv_rows(file, path, columns):
            votes.append(parsed_votes(row, f"{place} of {path}"))
            usages.append(row["usage"].strip())
            images.append(_image_number(row["image name"], f"{place} of {path}"))
    array = np.array(votes, dtype=np.int64).reshape(-1, len(VOTE_COLUMNS))
    return FerPlus(array, tuple(usages), tuple(images))


def _image_number(name: str, place: str) -> int | None:
    match = _IMAGE_NAME.fullmatch(name.strip())
    if match is None:
        raise SourceError(
            f"Expected an image name such as fer0000123.png in {place}, found "
            f"{name!a}. Get the file again, or fix that line."
        )
    return int(match[1]) if match[1] else None


def read_ferplus_rows(path: Path) -> dict[str, int]:
    """Reads the number that a list gives each image, by path.

    Args:
        path: A CSV file with the columns `image` and `row`; `FerPlus.find_rows`
            knows what its numbers mean.

    Raises:
        SourceError: It is missing, or a column or a number in it is.
    """
    rows = {}
    with _open(path, "--ferplus-rows") as file:
        for place, row in csv_rows(file, path, ("image", "row")):
            if not row["row"].strip().isdecimal():
                raise SourceError(
                    f"Expected a row number, from 0, in {place} of {path}, found "
                    f"{row['row']!a}. Fix or remove that line."
                )
            rows[row["image"]] = int(row["row"])
    return rows


def _open(path: Path, flag: str) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise SourceError(
            f"Expected a CSV file in {flag}, but {path} cannot be read: "
            f"{error.strerror}."
        ) from error
