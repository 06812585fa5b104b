"""Which row of FER+ an image is: by its name, or by a list."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from emotion_cnn.data.votes import Votes, crowd_labels
from emotion_cnn.errors import SourceError
from emotion_cnn.importing.ferplus import FerPlus
from emotion_cnn.importing.records import TEST, TRAINING, ImageRecord

LEAST_AGREEMENT = 0.5
"""Share of images whose label the crowd must share for a join to be believed.

Of FER2013's own images the crowd agrees with 72%, of shuffled ones with 18%.
"""
_ENOUGH_TO_COMPARE = 200


class NameJoin:
    """Rows from images that know theirs: those of a table, or named after it."""

    method = "row numbers"

    def rows(self, records: Sequence[ImageRecord]) -> list[int | None]:
        """Returns the row of each image, from 0, or None."""
        return [record.row for record in records]


class ListJoin:
    """Rows from a list of paths such as `test/angry/PrivateTest_10131363.jpg`."""

    def __init__(self, ferplus: FerPlus, numbers: Mapping[str, int]) -> None:
        """Takes the numbers by path; endings and outer folders do not matter.

        Args:
            ferplus: What they are numbers in.
            numbers: What `read_ferplus_rows` returns.

        Raises:
            SourceError: They are not numbers of its images.
        """
        rows, reading = ferplus.find_rows(numbers)
        self.method = f"a list of {reading}"
        self._rows = {_key(path): row for path, row in rows.items()}

    def rows(self, records: Sequence[ImageRecord]) -> list[int | None]:
        """Returns the row of each image, from 0, or None."""
        return [self._rows.get(_key(record.place)) for record in records]


def _key(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.replace("\\", "/")).with_suffix("").parts[-3:]


class VoteJoiner:
    """Gives images their votes, and finds out whether they are theirs."""

    def __init__(
        self,
        join: NameJoin | ListJoin,
        ferplus: FerPlus,
    ) -> None:
        """Takes the votes and the way to find them.

        Args:
            join: How rows are found.
            ferplus: The votes on every row.
        """
        self.method = join.method
        self._join, self._ferplus = join, ferplus

    def votes(self, records: Sequence[ImageRecord]) -> list[Votes | None]:
        """Returns the votes on each image; None where its row is not known.

        Raises:
            SourceError: A row does not exist, or the name says one of another part
                of the split.
        """
        rows = self._join.rows(records)
        return [
            None if row is None else self._checked(record, row)
            for record, row in zip(records, rows, strict=True)
        ]

    def _checked(self, record: ImageRecord, row: int) -> Votes:
        count = len(self._ferplus.usages)
        if row >= count:
            raise SourceError(
                f"Expected a row below {count:,}, which is what --ferplus "
                f"has, found row {row:,} for {record.place!a}. {_OTHER_WAYS}"
            )
        usage, expected = self._ferplus.usages[row], record.usage
        same = usage != TRAINING if expected == TEST else usage == expected
        # The rows of lists were found by pixels, so a row may be that of a
        # near-duplicate in another part of the split, with votes on the same image.
        if expected and not same and isinstance(self._join, NameJoin):
            raise SourceError(
                f"Expected row {row} of --ferplus to be {expected}, as "
                f"{record.place!a} is, found {usage}. {_OTHER_WAYS}"
            )
        return tuple(self._ferplus.votes[row].tolist())


_OTHER_WAYS = (
    "The rows are not those of fer2013.csv: say which row each image is with "
    "--ferplus-rows."
)


def check_agreement(labels: np.ndarray, votes: np.ndarray) -> tuple[int, int]:
    """Finds out whether votes belong to the images they were joined to.

    Args:
        labels: int `(n,)`, positions in `EMOTIONS`.
        votes: int `(n, 10)`.

    Returns:
        How many images the crowd sees an emotion in, and in how many of these
        it is the label's.

    Raises:
        SourceError: They agree so rarely that the join must be wrong.
    """
    crowd, _ = crowd_labels(votes)
    evaluated = int((crowd >= 0).sum())
    agreeing = int((crowd == labels).sum())
    if evaluated >= _ENOUGH_TO_COMPARE and agreeing < LEAST_AGREEMENT * evaluated:
        raise SourceError(
            f"Expected the crowd to agree with most labels, found that it does for "
            f"{agreeing:,} of {evaluated:,} images: these votes are on other images. "
            f"{_OTHER_WAYS}"
        )
    return evaluated, agreeing
