"""Which row of FER+ a picture is: by its name, by a list, or by its pixels."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.votes import Votes, crowd_labels
from emotion_cnn.errors import SourceError
from emotion_cnn.importing.ferplus import FerPlus
from emotion_cnn.importing.records import TEST, TRAINING, BadRecord, Picture, Source

LARGEST_DISTANCE = 12.0
"""Root mean square difference, in grey levels, that JPEG noise stays below."""

LEAST_AGREEMENT = 0.5
"""Share of pictures whose label the crowd must share for a join to be believed.

Of FER2013's own pictures the crowd agrees with 72%, of shuffled ones with 18%.
"""
_ENOUGH_TO_JUDGE = 200
_POOLED_SIZE = 12
_CANDIDATES = 50
_BATCH = 128


class NameJoin:
    """Rows from pictures that know theirs: those of a table, or named after it."""

    method = "row numbers"

    def rows(self, pictures: Sequence[Picture]) -> list[int | None]:
        """Returns the row of each picture, from 0, or None."""
        return [picture.row for picture in pictures]


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

    def rows(self, pictures: Sequence[Picture]) -> list[int | None]:
        """Returns the row of each picture, from 0, or None."""
        return [self._rows.get(_key(picture.place)) for picture in pictures]


def _key(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.replace("\\", "/")).with_suffix("").parts[-3:]


class PixelJoin:
    """Rows from the nearest picture of a `fer2013.csv`, which it holds in memory."""

    method = "pixels"

    def __init__(self, source: Source) -> None:
        """Reads all pictures of a table.

        Args:
            source: A recognised `fer2013.csv`.

        Raises:
            SourceError: A row of it is bad, or it holds no picture.
        """
        pixels = bytearray()
        rows, labels, training = [], [], []
        for record in source.records():
            if isinstance(record, BadRecord):
                raise SourceError(
                    f"Expected a whole fer2013.csv in --match, found {record.place}: "
                    f"{record.reason}."
                )
            if isinstance(record, Picture) and record.row is not None:
                pixels += record.image.tobytes()
                rows.append(record.row)
                labels.append(record.label)
                training.append(record.usage == TRAINING)
        if not rows:
            raise SourceError(
                "Expected a whole fer2013.csv in --match, found no row with a number "
                "in it: a table with a column of names says nothing about rows."
            )
        self._images = np.frombuffer(pixels, np.uint8).reshape(len(rows), -1)
        self._rows, self._labels = rows, np.array(labels)
        self._training = np.array(training)
        self._pooled = _pool(self._images)
        self._squares = (self._pooled**2).sum(axis=1)

    def rows(self, pictures: Sequence[Picture]) -> list[int | None]:
        """Returns the row of each picture, from 0, or None where none is near."""
        found: list[int | None] = []
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            images = np.stack([picture.image.ravel() for picture in batch])
            pooled = _pool(images)
            # The mean of squares is never below the square of the mean: whoever is
            # near in all pixels is near in the means of blocks, of which there are
            # far fewer.
            squares = (pooled**2).sum(axis=1)
            distances = squares[:, None] + self._squares - 2 * pooled @ self._pooled.T
            limit = LARGEST_DISTANCE**2 * _POOLED_SIZE**2 + 1
            for picture, image, row in zip(batch, images, distances, strict=True):
                near = np.flatnonzero(row <= limit)
                near = near[np.argsort(row[near], kind="stable")[:_CANDIDATES]]
                found.append(self._nearest(picture, image, near))
        return found

    def _nearest(
        self, picture: Picture, image: np.ndarray, candidates: np.ndarray
    ) -> int | None:
        differences = self._images[candidates].astype(np.float32) - image
        distances = np.sqrt((differences**2).mean(axis=1))
        choices = []
        for place, distance in zip(candidates.tolist(), distances, strict=True):
            if distance <= LARGEST_DISTANCE:
                # Of exact twins the one with the same label and split is meant.
                is_training = picture.usage == TRAINING
                other_part = picture.usage and is_training != self._training[place]
                other_label = picture.label != self._labels[place]
                key = (round(float(distance), 3), other_label, bool(other_part), place)
                choices.append(key)
        return self._rows[min(choices)[-1]] if choices else None


def _pool(images: np.ndarray) -> np.ndarray:
    """Returns means of blocks, float32 `(n, 144)`, around zero, of `(n, 2304)`."""
    block = IMAGE_SIZE // _POOLED_SIZE
    shape = (-1, _POOLED_SIZE, block, _POOLED_SIZE, block)
    parts = np.array_split(images, len(images) // 1024 + 1)
    means = [part.reshape(shape).mean(axis=(2, 4), dtype=np.float32) for part in parts]
    return np.concatenate(means).reshape(-1, _POOLED_SIZE**2) - np.float32(128)


class VoteJoiner:
    """Gives pictures their votes, and finds out whether they are theirs."""

    def __init__(
        self,
        join: NameJoin | ListJoin | PixelJoin,
        ferplus: FerPlus,
    ) -> None:
        """Takes the votes and the way to find them.

        Args:
            join: How rows are found.
            ferplus: The votes on every row.
        """
        self.method = join.method
        self._join, self._ferplus = join, ferplus

    def votes(self, pictures: Sequence[Picture]) -> list[Votes | None]:
        """Returns the votes on each picture; None where its row is not known.

        Raises:
            SourceError: A row does not exist, or the name says one of another part
                of the split.
        """
        rows = self._join.rows(pictures)
        return [
            None if row is None else self._checked(picture, row)
            for picture, row in zip(pictures, rows, strict=True)
        ]

    def _checked(self, picture: Picture, row: int) -> Votes:
        count = len(self._ferplus.usages)
        if row >= count:
            raise SourceError(
                f"Expected a row below {count:,}, which is what --ferplus "
                f"has, found row {row:,} for {picture.place!a}. {_OTHER_WAYS}"
            )
        usage, expected = self._ferplus.usages[row], picture.usage
        same = usage != TRAINING if expected == TEST else usage == expected
        # Found by pixels, as the rows of lists are too, a row may be that of a twin
        # on the other side of the split. The votes are on the same picture then.
        if expected and not same and isinstance(self._join, NameJoin):
            raise SourceError(
                f"Expected row {row} of --ferplus to be {expected}, as "
                f"{picture.place!a} is, found {usage}. {_OTHER_WAYS}"
            )
        return tuple(self._ferplus.votes[row].tolist())


_OTHER_WAYS = (
    "The rows are not those of fer2013.csv: say which row each picture is with "
    "--ferplus-rows, or match pixels with --match fer2013.csv."
)


def check_agreement(labels: np.ndarray, votes: np.ndarray) -> tuple[int, int]:
    """Finds out whether votes belong to the pictures they were joined to.

    Args:
        labels: int `(n,)`, positions in `EMOTIONS`.
        votes: int `(n, 10)`.

    Returns:
        How many pictures the crowd sees an emotion in, and in how many of these
        it is the label's.

    Raises:
        SourceError: They agree so rarely that the join must be wrong.
    """
    crowd, _ = crowd_labels(votes)
    judged = int((crowd >= 0).sum())
    agreeing = int((crowd == labels).sum())
    if judged >= _ENOUGH_TO_JUDGE and agreeing < LEAST_AGREEMENT * judged:
        raise SourceError(
            f"Expected the crowd to agree with most labels, found that it does for "
            f"{agreeing:,} of {judged:,} pictures: these votes are on other pictures. "
            f"{_OTHER_WAYS}"
        )
    return judged, agreeing
