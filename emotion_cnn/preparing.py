"""Writing a data folder whole or not at all, and the same pictures as a table.

A folder is written beside the one it is for, and takes its place by renaming.
What a killed import leaves is a hidden folder there; the next one removes it, or
ends the renaming where that had begun. Between two of the renamings `train/` is
missing, so old and new pictures are never taken for one set.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from emotion_cnn.artifacts import replacing, write_json
from emotion_cnn.auditing import AUDIT_FILE
from emotion_cnn.dataset import shown
from emotion_cnn.emotions import EMOTIONS
from emotion_cnn.errors import DataError, SourceError
from emotion_cnn.ferplus import VOTES_NAME, Votes, write_votes
from emotion_cnn.importers.csv_table import TableWriter
from emotion_cnn.importers.names import numbered_name
from emotion_cnn.importers.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    USAGES,
    BadRecord,
    LeftOut,
    Picture,
    Source,
)
from emotion_cnn.joining import VoteJoiner, check_agreement

DATASET_NAME = "dataset.json"
LISTED_AT_MOST = 100
RECORDED_AT_MOST = 1000

_PARTS = ("train", "test")
_LEAVING = ("train", "test", DATASET_NAME, VOTES_NAME, AUDIT_FILE)
"""What an import replaces, in this order; it arrives in the opposite one."""

_BATCH_SIZE = 256
# Level 1 takes 0.4 ms a picture, the usual 6 takes 0.66 ms for 3% smaller files.
_PNG_LEVEL = 1


@dataclass
class Tally:
    """What became of the records of a source.

    Attributes:
        counts: Pictures by usage (None without a split) and emotion.
        left_out: Sound records without a place, by reason.
        conversions: Pictures by what made them 48x48 grayscale.
        bad: The first bad rows, pictures or folders, and what is wrong with them.
        bad_count: How many there are.
        with_votes: Pictures that have votes.
        judged: Those of them in which the crowd sees one of `EMOTIONS`.
        agreeing: Those of them in which that is the label.
    """

    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    with_votes: int = 0
    judged: int = 0
    agreeing: int = 0

    @property
    def total(self) -> int:
        """The number of pictures."""
        return self.counts.total()


class Writer(Protocol):
    """Takes pictures one by one."""

    def write(self, picture: Picture, votes: Votes | None) -> None:
        """Writes one picture and its votes, if it has any."""


def copy_pictures(
    source: Source, writer: Writer, joiner: VoteJoiner | None, *, skip_bad: bool
) -> Tally:
    """Reads a source to its end and writes its pictures.

    Args:
        source: Where they are from.
        writer: Where they go.
        joiner: Gives them votes in place of those the source has.
        skip_bad: Whether to go on without bad records.

    Raises:
        SourceError: There are bad records, and `skip_bad` is false (names them);
            there is no picture; or votes do not fit.
    """
    tally = Tally()
    voted: list[tuple[int, Votes]] = []
    batch: list[Picture] = []

    def flush() -> None:
        votes = joiner.votes(batch) if joiner else [p.votes for p in batch]
        for picture, its_votes in zip(batch, votes, strict=True):
            writer.write(picture, its_votes)
            tally.counts[picture.usage, EMOTIONS[picture.label]] += 1
            tally.conversions.update(picture.changes)
            if its_votes:
                voted.append((picture.label, its_votes))
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
            f"Expected pictures in --source, found none ({left_out_text(tally)}). "
            "Check the source, and the labels given with --classes."
        )
    if joiner and not voted:
        raise SourceError(
            f"Expected to find pictures' rows by {joiner.method}, found none. Rows are "
            "in the names of what was imported from fer2013.csv; for others say which "
            "row each picture is with --ferplus-rows, or match pixels with --match "
            "fer2013.csv."
        )
    if voted:
        labels = np.array([label for label, _ in voted])
        votes = np.array([votes for _, votes in voted])
        tally.with_votes = len(voted)
        tally.judged, tally.agreeing = check_agreement(labels, votes)
    return tally


class FolderWriter:
    """Writes pictures into class folders, and splits them if nobody has."""

    def __init__(self, folder: Path) -> None:
        """Creates `train/` and `test/` with a folder per emotion.

        Args:
            folder: Existing and empty.
        """
        self._folder = folder
        self._taken: set[tuple[int, str]] = set()
        self._undecided: list[list[tuple[str, bool]]] = [[] for _ in EMOTIONS]
        self._votes: dict[str, Votes] = {}
        for part in _PARTS:
            for emotion in EMOTIONS:
                (folder / part / emotion).mkdir(parents=True)

    def write(self, picture: Picture, votes: Votes | None) -> None:
        """Writes one picture as PNG, without loss."""
        usage, label = picture.usage or TRAINING, picture.label
        name = picture.name or numbered_name(usage, picture.row or 0)
        name = self._free_name(label, name)
        part = "train" if usage == TRAINING else "test"
        path = f"{part}/{EMOTIONS[label]}/{name}.png"
        image = Image.fromarray(picture.image)
        image.save(self._folder / path, compress_level=_PNG_LEVEL)
        if votes:
            self._votes[path] = votes
        if picture.usage is None:
            self._undecided[label].append((name, picture.name is None))

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
                least one picture and never all.
            seed: Chooses the pictures.
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
        """Writes `votes.csv`, if any picture has votes."""
        if self._votes:
            write_votes(self._folder / VOTES_NAME, self._votes)


class CsvWriter:
    """Writes pictures as rows, named as `FolderWriter` names their files."""

    def __init__(self, file: IO[str], *, with_usage: bool, with_votes: bool) -> None:
        """Writes the header; takes what `TableWriter` does."""
        self._table = TableWriter(file, with_usage=with_usage, with_votes=with_votes)

    def write(self, picture: Picture, votes: Votes | None) -> None:
        """Writes one row."""
        usage = picture.usage or TRAINING
        name = picture.name or numbered_name(usage, picture.row or 0)
        self._table.write(picture, EMOTIONS[picture.label], name, votes)


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
        _write_errors(path),
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file


@contextmanager
def data_folder(data: Path, *, replace: bool) -> Iterator[Path]:
    """Yields a folder whose contents become those of a data folder, or do not.

    What lies directly in `train/` and `test/`, such as a README, stays, and so
    does everything else in the data folder.

    Args:
        data: The data folder; created if there is none.
        replace: Whether pictures, and what was recorded of them, may go.

    Yields:
        An empty folder on the same file system. What the block leaves in it,
        `train/`, `test/` and files, takes its place when the block ends well.

    Raises:
        DataError: There are pictures already, another import is writing there,
            or the folder cannot be written.
    """
    data = data.resolve()
    with _write_errors(data):
        place = _staging_place(data)
        staged, complete = (
            place / f".{data.name}.{word}" for word in ("preparing", "prepared")
        )
        lock = _claim(staged, data)
    try:
        with _write_errors(data):
            if complete.is_dir():
                _take_place(complete, data)
            if not replace:
                _refuse_occupied(data)
            # The lock stays in `staged` until all the renaming is done.
            work = staged / "import"
            new = work / "new"
            new.mkdir(parents=True)
            yield new
            _carry_over(data, new)
            work.replace(complete)
            _take_place(complete, data)
    finally:
        if sys.platform == "win32":  # An open file cannot be removed there.
            os.close(lock)
            shutil.rmtree(staged, ignore_errors=True)
        else:
            shutil.rmtree(staged, ignore_errors=True)
            os.close(lock)


def _staging_place(data: Path) -> Path:
    """Returns the folder beside the data, or the data folder if that will not do.

    A mounted data folder is on another file system than what is beside it.
    """
    place = data.parent
    place.mkdir(parents=True, exist_ok=True)
    if data.is_dir() and (
        data.stat().st_dev != place.stat().st_dev or not os.access(place, os.W_OK)
    ):
        return data
    return place


def _refuse_occupied(data: Path) -> None:
    """Makes sure that nothing is replaced which someone may want to keep."""
    for name in _LEAVING:
        path = data / name
        folders = [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
        holds = [file for folder in folders for file in _first_file(folder)]
        if holds or path.is_file():
            found = holds[0] if holds else path
            raise DataError(
                f"Expected a data folder without pictures, found {found}. Choose "
                "another with --data, or replace the pictures in its train/ and test/ "
                f"(and its {DATASET_NAME}, {VOTES_NAME} and {AUDIT_FILE}) with "
                "--replace."
            )


def _first_file(folder: Path) -> list[Path]:
    for place, _, files in os.walk(folder):
        if files:
            return [Path(place, min(files))]
    return []


def _claim(staged: Path, data: Path) -> int:
    """Creates the folder to write in, and locks it while this process lives.

    Returns:
        What to close when it is done with.

    Raises:
        DataError: Another process is writing in it.
    """
    staged.mkdir(exist_ok=True)
    lock = os.open(staged / "lock", os.O_CREAT | os.O_RDWR)
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another import that has just ended may have removed this very file.
            if not os.path.samestat(os.fstat(lock), (staged / "lock").stat()):
                raise BlockingIOError
        except OSError:
            os.close(lock)
            raise DataError(
                f"Expected to be alone, but another --mode prepare is writing to "
                f"{data}. Wait for it to end."
            ) from None
    for left in staged.iterdir():  # by an import that was killed
        if left.is_dir():
            shutil.rmtree(left)
    return lock


def _carry_over(data: Path, new: Path) -> None:
    """Copies the files directly in `train/` and `test/` to their successors."""
    for part in _PARTS:
        if (data / part).is_dir():
            for path in (data / part).iterdir():
                if path.is_file():
                    shutil.copy2(path, new / part / path.name)


def _take_place(complete: Path, data: Path) -> None:
    """Exchanges old for new; begins where a killed import ended.

    First everything old leaves, `train/` before all else; when `old` has its name
    that is done. Then the new arrives, `train/` after all else.
    """
    new, leaving, old = (complete / name for name in ("new", "leaving", "old"))
    if not data.exists():
        data.mkdir(parents=True)
        # In a clone, other people's pictures must never be committed.
        (data / ".gitignore").write_text("*\n", encoding="utf-8")
    if not old.exists():
        leaving.mkdir(exist_ok=True)
        try:
            for name in _LEAVING:
                if os.path.lexists(data / name):
                    (data / name).rename(leaving / name)
        except OSError:
            for path in leaving.iterdir():
                path.rename(data / path.name)
            shutil.rmtree(complete)
            raise
        leaving.rename(old)
    for name in reversed(_LEAVING):
        if (new / name).exists():
            (new / name).rename(data / name)
    shutil.rmtree(complete, ignore_errors=True)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Writing {path} failed: {error.strerror or error}. Nothing in it has "
            "changed. Make room, or choose another place."
        ) from error


def write_record(folder: Path, record: Mapping[str, Any], tally: Tally) -> None:
    """Writes `dataset.json`: where the pictures are from, and what became of them.

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
        for part in _PARTS
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
            "pictures": tally.total,
            "counts": counts,
            "usages": usages,
            "converted": dict(tally.conversions),
            "left_out": dict(tally.left_out),
            "bad": {"count": tally.bad_count, "first": tally.bad},
            "votes": {
                "pictures": tally.with_votes,
                "crowd_sees_an_emotion": tally.judged,
                "crowd_agrees_with_label": tally.agreeing,
            },
        },
    )


def format_counts(tally: Tally) -> str:
    """Returns a table of pictures by emotion and usage, less than 80 columns wide."""
    found = {usage for (usage, _), count in tally.counts.items() if count}
    titles: dict[str | None, str] = {
        None: "pictures",
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
        notes.append(f"no pictures of {', '.join(missing)}: training needs all seven")
    usages = {usage for (usage, _), count in tally.counts.items() if count}
    if usages == {TRAINING}:
        notes.append(
            "no pictures for test/: training needs some. A table without its Usage "
            "column\n  is split by --test-share; pictures in class folders are too"
        )
    if tally.with_votes:
        share = tally.agreeing / max(1, tally.judged)
        notes.append(
            f"votes: on {tally.with_votes:,} of {tally.total:,} pictures; a majority "
            f"sees one of\n  the seven in {tally.judged:,}, the label's in {share:.0%} "
            "of these"
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
