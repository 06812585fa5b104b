"""Where imported images go: class folders, or a table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.votes import VOTES_NAME, Votes, write_votes
from emotion_cnn.errors import DataError
from emotion_cnn.files import replacing, write_json
from emotion_cnn.importing.copying import Tally
from emotion_cnn.importing.data_folder import DATASET_NAME, PARTS, write_errors
from emotion_cnn.importing.formats.csv_table import TableWriter
from emotion_cnn.importing.names import numbered_name
from emotion_cnn.importing.records import TEST, TRAINING, USAGES, ImageRecord

# Level 1 takes 0.4 ms an image, the usual 6 takes 0.66 ms for 3% smaller files.
_PNG_LEVEL = 1


class FolderWriter:
    """Writes images into class folders, and splits them if nobody has."""

    def __init__(self, folder: Path) -> None:
        """Creates `train/` and `test/` with a folder per emotion.

        Args:
            folder: Existing and empty.
        """
        self._folder = folder
        self._taken: set[tuple[int, str]] = set()
        self._undecided: list[list[tuple[str, bool]]] = [[] for _ in EMOTIONS]
        self._votes: dict[str, Votes] = {}
        for part in PARTS:
            for emotion in EMOTIONS:
                (folder / part / emotion).mkdir(parents=True)

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one image as PNG, without loss."""
        usage, label = record.usage or TRAINING, record.label
        name = record.name or numbered_name(usage, record.row or 0)
        name = self._free_name(label, name)
        part = "train" if usage == TRAINING else "test"
        path = f"{part}/{EMOTIONS[label]}/{name}.png"
        encoded = Image.fromarray(record.image)
        encoded.save(self._folder / path, compress_level=_PNG_LEVEL)
        if votes:
            self._votes[path] = votes
        if record.usage is None:
            self._undecided[label].append((name, record.name is None))

    def _free_name(self, label: int, name: str) -> str:
        """Returns the name, numbered if its class has it; case does not tell apart."""
        free, count = name, 1
        while (label, free.lower()) in self._taken:
            count += 1
            free = f"{name}-{count}"
        self._taken.add((label, free.lower()))
        return free

    def split(self, tally: Tally, *, test_share: float, seed: int) -> None:
        """Moves a share of every class to `test/`, where there was no split.

        Args:
            tally: Its counts are brought up to date.
            test_share: Above 0 and below 1; the share of each class, rounded, at
                least one image and never all.
            seed: Chooses the images.
        """
        generator = np.random.default_rng(seed)
        for label, names in enumerate(self._undecided):
            emotion = EMOTIONS[label]
            order = generator.permutation(len(names))
            count = min(max(1, round(test_share * len(names))), len(names) - 1)
            chosen = order[: max(0, count)].tolist()
            for name, is_numbered in (names[position] for position in chosen):
                # A name of ours says which part it is in, others are kept.
                new = name.replace(TRAINING, TEST, 1) if is_numbered else name
                old_path = f"train/{emotion}/{name}.png"
                new_path = f"test/{emotion}/{new}.png"
                (self._folder / old_path).rename(self._folder / new_path)
                if old_path in self._votes:
                    self._votes[new_path] = self._votes.pop(old_path)
            undecided = tally.counts.pop((None, emotion), 0)
            tally.counts[TRAINING, emotion] += undecided - len(chosen)
            tally.counts[TEST, emotion] += len(chosen)

    def write_votes(self) -> None:
        """Writes `votes.csv`, if any image has votes."""
        if self._votes:
            write_votes(self._folder / VOTES_NAME, self._votes)


class CsvWriter:
    """Writes images as rows, named as `FolderWriter` names their files."""

    def __init__(self, file: IO[str], *, with_usage: bool, with_votes: bool) -> None:
        """Writes the header; takes what `TableWriter` does."""
        self._table = TableWriter(file, with_usage=with_usage, with_votes=with_votes)

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one row."""
        usage = record.usage or TRAINING
        name = record.name or numbered_name(usage, record.row or 0)
        self._table.write(record, EMOTIONS[record.label], name, votes)


@contextmanager
def export_file(path: Path, *, replace: bool) -> Iterator[IO[str]]:
    """Yields a text file that takes its place when the block ends well.

    Args:
        path: File to write.
        replace: Whether one that exists may go.

    Raises:
        DataError: It exists already, or cannot be written.
    """
    if path.exists() and not replace:
        raise DataError(
            f"Expected a new file in --export, but {path} exists. Choose another name, "
            "or replace it with --replace."
        )
    with (
        write_errors(path),
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file


def write_record(folder: Path, record: Mapping[str, Any], tally: Tally) -> None:
    """Writes `dataset.json`: where the images are from, and what became of them.

    Args:
        folder: Folder to write it to.
        record: Source and options.
        tally: The counts.
    """
    counts = {
        part: {
            emotion: sum(
                tally.counts[usage, emotion]
                for usage in USAGES
                if (usage == TRAINING) == (part == "train")
            )
            for emotion in EMOTIONS
        }
        for part in PARTS
    }
    usages = {
        usage: {emotion: tally.counts[usage, emotion] for emotion in EMOTIONS}
        for usage in USAGES
        if any(tally.counts[usage, emotion] for emotion in EMOTIONS)
    }
    write_json(
        folder / DATASET_NAME,
        {
            **record,
            "images": tally.total,
            "counts": counts,
            "usages": usages,
            "converted": dict(tally.conversions),
            "left_out": dict(tally.left_out),
            "bad": {"count": tally.bad_count, "first": tally.bad},
            "votes": {
                "images": tally.with_votes,
                "crowd_sees_an_emotion": tally.evaluated,
                "crowd_agrees_with_label": tally.agreeing,
            },
        },
    )
