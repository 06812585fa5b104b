"""Writing a data folder: images, votes, and a record of both."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folds import choose_groups
from emotion_cnn.data.groups import GROUPS_NAME, write_groups
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.packed import packing
from emotion_cnn.data.votes import VOTES_NAME, Votes, write_votes
from emotion_cnn.files import write_json
from emotion_cnn.importing.grouping import find_groups
from emotion_cnn.importing.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    ImageRecord,
)
from emotion_cnn.importing.tally import RECORDED_AT_MOST, Tally

DATASET_NAME = "dataset.json"
"""The file in a data folder that says where its images are from."""

PARTS = ("train", "test")

# Level 1 takes 0.4 ms an image, the usual 6 takes 0.66 ms for 3% smaller files.
_PNG_LEVEL = 1


class Images(Protocol):
    """Takes images by their paths in a data folder."""

    def add(self, path: str, image: np.ndarray) -> None:
        """Writes an image, uint8 `(48, 48)`, at a path that no other has."""

    def move(self, old: str, new: str) -> None:
        """Gives an image another path, that no other has."""


class _Files:
    """Images as PNG files, without loss, in folders per class."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        for part in PARTS:
            for name in classes:
                (folder / part / name).mkdir(parents=True)

    def add(self, path: str, image: np.ndarray) -> None:
        Image.fromarray(image).save(self._folder / path, compress_level=_PNG_LEVEL)

    def move(self, old: str, new: str) -> None:
        (self._folder / old).rename(self._folder / new)


class _Packed:
    """Images that wait in a file until the paths of all are known."""

    def __init__(self, pixels: IO[bytes]) -> None:
        self._pixels = pixels
        # In the order in which they came.
        self._places: dict[str, int] = {}

    def add(self, path: str, image: np.ndarray) -> None:
        self._places[path] = len(self._places)
        self._pixels.write(image.tobytes())

    def move(self, old: str, new: str) -> None:
        self._places[new] = self._places.pop(old)

    def pack(self, folder: Path, classes: Sequence[str]) -> None:
        """Writes a packed folder, in the order in which a data folder is read.

        So what is read together lies together, also where a disk is slow.
        """
        labels = {name: label for label, name in enumerate(classes)}

        def place_in_order(path: str) -> tuple[str, int, str]:
            part, class_name, _ = path.split("/")
            return part, labels[class_name], path

        self._pixels.flush()
        shape = (len(self._places), IMAGE_SIZE, IMAGE_SIZE)
        images = np.memmap(self._pixels, np.uint8, "r", shape=shape)
        with packing(folder) as writer:
            for path in sorted(self._places, key=place_in_order):
                writer.add(path, images[self._places[path]])


@contextmanager
def packed_images(folder: Path, classes: Sequence[str]) -> Iterator[Images]:
    """Yields what packs images; a packed folder is whole when it ends.

    In memory are paths, and no pixels.

    Args:
        folder: Existing and empty.
        classes: The class names, in the order of their labels.
    """
    with tempfile.TemporaryFile(dir=folder) as pixels:
        images = _Packed(pixels)
        yield images
        images.pack(folder, classes)


class FolderWriter:
    """Writes images of a data folder, and splits those that have no split.

    Attributes:
        classes: The class names, in the order of their labels.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str] = EMOTIONS,
        images: Images | None = None,
    ) -> None:
        """Begins a data folder.

        Args:
            folder: Existing and empty.
            classes: The class names, in the order of their labels.
            images: What takes the images; None for a PNG file each, in `train/` and
                `test/` with a folder per class, which are created.
        """
        self.classes = tuple(classes)
        self._folder = folder
        self._images = images or _Files(folder, classes)
        self._counts: dict[tuple[int, str], int] = {}
        self._without_split: list[list[tuple[str, bool]]] = [[] for _ in classes]
        self._origins: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._votes: dict[str, Votes] = {}

    def write(self, record: ImageRecord, votes: Votes | None) -> None:
        """Writes one image; to `train/` if it has no usage."""
        label = record.label
        name = self._free_name(label, record.stem)
        part = "train" if record.usage in (None, TRAINING) else "test"
        path = f"{part}/{self.classes[label]}/{name}.png"
        self._images.add(path, record.image)
        if votes:
            self._votes[path] = votes
        if origin := record.path or record.name:
            self._origins[path] = origin
        if record.usage is None:
            self._without_split[label].append((name, record.name is None))

    def _free_name(self, label: int, name: str) -> str:
        """Returns the name, numbered if its class has it already in any case."""
        key, free = (label, name.lower()), name
        # Goes on from the last number: a source may have one name for all images.
        count = self._counts.get(key, 0)
        while (label, free.lower()) in self._counts:
            count += 1
            free = f"{name}-{count + 1}"
        self._counts[key] = count
        self._counts.setdefault((label, free.lower()), 0)
        return free

    def group(self, group_by: str | None) -> list[str]:
        """Finds which images are of one person or sequence, which a split keeps.

        Args:
            group_by: As `find_groups` takes it.

        Returns:
            Lines for the user.

        Raises:
            SourceError: It is asked for, and no image has a group.
        """
        paths = list(self._origins)
        groups, how = find_groups(list(self._origins.values()), group_by)
        found = zip(paths, groups, strict=False)
        self._groups = {path: group for path, group in found if group}
        if not self._groups:
            return []
        sides: dict[str, set[str]] = {}
        for path, group in self._groups.items():
            sides.setdefault(group, set()).add(path.partition("/")[0])
        both = sum(len(parts) > 1 for parts in sides.values())
        notes = [
            f"groups by {how}: {len(sides):,}, each kept on one side of a split "
            f"({GROUPS_NAME})"
        ]
        if both:
            notes.append(
                f"{both:,} of these groups are on both sides of the source's own split"
            )
        if without := len(paths) - len(self._groups):
            notes.append(f"{without:,} images are of no group: each is its own")
        return notes

    def split(self, tally: Tally, *, test_share: float, seed: int) -> None:
        """Moves a share of the images without a usage to `test/`.

        Args:
            tally: Its counts are updated.
            test_share: The share of each class, rounded; but for 0 and 1 at least
                one image and never all. Of images in groups, whole groups.
            seed: Chooses the images.

        Raises:
            DataError: There are not enough groups.
        """
        chosen = self._chosen(test_share, seed)
        for label, names in enumerate(self._without_split):
            class_name = self.classes[label]
            positions = chosen[label]
            for name, is_numbered in (names[position] for position in positions):
                # A name made of row and usage changes with the part; others stay.
                new = name
                if is_numbered:
                    new = self._free_name(label, name.replace(TRAINING, TEST, 1))
                old_path = f"train/{class_name}/{name}.png"
                new_path = f"test/{class_name}/{new}.png"
                self._images.move(old_path, new_path)
                for known in (self._votes, self._groups):
                    _move(known, old_path, new_path)
            count = tally.counts.pop((None, class_name), 0)
            tally.counts[TRAINING, class_name] += count - len(positions)
            tally.counts[TEST, class_name] += len(positions)

    def _chosen(self, share: float, seed: int) -> list[list[int]]:
        """Returns which of the images without a split become test, of each class."""
        counts = [len(names) for names in self._without_split]
        if share in (0, 1):
            return [list(range(int(share) * count)) for count in counts]
        if self._groups and any(counts):
            labels = np.repeat(np.arange(len(counts)), counts)
            paths = [
                f"train/{self.classes[label]}/{name}.png"
                for label, names in enumerate(self._without_split)
                for name, _ in names
            ]
            groups = [self._groups.get(path, path) for path in paths]
            mask = choose_groups(labels, groups, share=share, seed=seed)
            by_class = np.split(mask, np.cumsum(counts)[:-1])
            return [np.flatnonzero(each).tolist() for each in by_class]
        generator = np.random.default_rng(seed)
        chosen = []
        for length in counts:
            order = generator.permutation(length)
            count = min(max(1, round(share * length)), length - 1)
            chosen.append(order[: max(0, count)].tolist())
        return chosen

    def write_groups(self) -> None:
        """Writes `groups.csv`, if any image has a group."""
        if self._groups:
            write_groups(self._folder / GROUPS_NAME, self._groups)

    def write_votes(self) -> None:
        """Writes `votes.csv`, if any image has votes."""
        if self._votes:
            write_votes(self._folder / VOTES_NAME, self._votes)


def _move(known: dict[str, Any], old: str, new: str) -> None:
    if old in known:
        known[new] = known.pop(old)


def write_record(folder: Path, record: Mapping[str, Any], tally: Tally) -> None:
    """Writes `dataset.json`: where the images are from, and what became of them.

    Args:
        folder: Folder to write it to.
        record: Source and options.
        tally: The counts, of images with a usage.
    """
    usages = {"train": [TRAINING], "test": [PUBLIC_TEST, PRIVATE_TEST, TEST]}
    write_json(
        folder / DATASET_NAME,
        {
            **record,
            "classes": list(tally.classes),
            "images": tally.total,
            "counts": {part: tally.class_counts(usages[part]) for part in PARTS},
            "usages": {usage: tally.class_counts([usage]) for usage in tally.usages},
            "converted": dict(tally.conversions),
            "left_out": dict(tally.left_out),
            "bad": {"count": tally.bad_count, "first": tally.bad[:RECORDED_AT_MOST]},
            "votes": {
                "images": tally.with_votes,
                "crowd_sees_an_emotion": tally.with_majority,
                "crowd_agrees_with_label": tally.agreeing,
            },
        },
    )
