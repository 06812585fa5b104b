"""What a data folder holds, by the names of its folders and files alone.

A data folder holds `train/<class>/` and `test/<class>/` with images, and perhaps
`validation/<class>/`. Or they are packed into one file, with such paths as names.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emotion_cnn.data.bad_images import LISTED_AT_MOST
from emotion_cnn.data.classes import (
    MOST_CLASSES,
    emotion_from_name,
    in_stable_order,
    is_class_name,
)
from emotion_cnn.data.images import IMAGE_SUFFIXES
from emotion_cnn.data.packed import PACKED_NAMES, Packed, is_packed, read_packed
from emotion_cnn.errors import DataError
from emotion_cnn.files import first_line, shown

WORKING_PREFIX = ".prepare-"
"""What the name of a folder begins with that an import works in, in a data folder."""

HALF_REPLACED = (f"{WORKING_PREFIX}clearing-", f"{WORKING_PREFIX}filling-")
"""What it begins with while a new data set takes the place of an old one."""

PARTS = ("train", "test")
_VALIDATION_PARTS = ("validation", "valid", "val")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")


def has_images(folder: Path) -> bool:
    """Returns whether any folder below `train/` or `test/` holds an image.

    Looks at file names alone, and stops at the first image. Folders of any name
    count, so that `read_splits` can report misnamed classes.

    Raises:
        DataError: If a folder cannot be listed, or an import is not finished.
    """
    _identities(folder)
    if _is_packed(folder):
        return True
    with _listing_errors():
        return any(
            _is_image(entry)
            for part in PARTS
            for class_folder in _entries(folder / part)
            if class_folder.is_dir()
            for entry in _entries(Path(class_folder.path))
        )


def find_classes(folder: Path, *parts: str) -> tuple[str, ...]:
    """Returns the classes of a data folder: those whose folders hold an image.

    Looks at file names alone.

    Args:
        folder: The data folder.
        *parts: The folders in it to look at; without any, `train`, `test` and the one
            with images for validation.

    Returns:
        The classes, as `in_stable_order` orders them; none, one or more.

    Raises:
        DataError: A folder cannot be listed, an import is not finished, a folder has a
            name that no class can have, or there are too many.
    """
    _identities(folder)
    found = []
    parts = parts or (*PARTS, *_VALIDATION_PARTS)
    if _is_packed(folder):
        names = (name.split("/") for name in read_packed(folder).folders)
        found = [class_folder for part, class_folder in names if part in parts]
    with _listing_errors():
        for part in parts:
            found += [
                entry.name
                for entry in _entries(folder / part)
                if not _is_hidden(entry) and _holds_image(entry)
            ]
    classes = in_stable_order(found)
    unfit = [ascii(name) for name in classes if not is_class_name(name)]
    if unfit:
        raise DataError(
            "Expected folders whose names can be those of classes, printable and not "
            f"very long; found {', '.join(capped(unfit))} in {shown(str(folder))}. "
            "Rename them."
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"Expected at most {MOST_CLASSES} classes, found folders of images for "
            f"{len(classes):,} in {shown(str(folder))}. Name those to use with "
            "`classes`, or put images in a folder per class, not per person or video."
        )
    return classes


def find_validation(folder: Path) -> str | None:
    """Returns which folder has images for validation: `validation`, `valid` or `val`.

    Returns:
        Its name; None where there is none.

    Raises:
        DataError: There is more than one, or as for `find_classes`.
    """
    found = [part for part in _VALIDATION_PARTS if find_classes(folder, part)]
    if len(found) > 1:
        raise DataError(
            "Expected one folder with images for validation, found "
            f"{' and '.join(f'{part}/' for part in found)} in {shown(str(folder))}. "
            "Remove or rename one of them."
        )
    return found[0] if found else None


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Makes sure that no import replaces the images while the block reads them.

    Raises:
        DataError: One does, or was stopped in the middle of that.
    """
    before = _identities(folder)
    try:
        yield
    except DataError:
        # An image may be bad because it is no longer there.
        _require_same(folder, before)
        raise
    _require_same(folder, before)


def _require_same(folder: Path, before: Sequence[int]) -> None:
    if _identities(folder) != before:
        raise DataError(
            f"The images in {shown(str(folder))} were replaced while they were read. "
            "Start again."
        )


def _identities(folder: Path) -> list[int]:
    """Returns which folders and files hold the images; an import makes new ones.

    Raises:
        DataError: An import is not finished, so that they may be missing.
    """
    with _listing_errors():
        entries = list(_entries(folder))
        if any(entry.name.startswith(HALF_REPLACED) for entry in entries):
            raise DataError(
                f"Expected a whole data set in {shown(str(folder))}, found an import "
                "that has not put it into its place. Wait until it ends; if it was "
                "stopped, run `emotion-cnn prepare` on the folder again, which "
                "completes it first."
            )
        holders = (*PARTS, *PACKED_NAMES)
        return sorted(entry.inode() for entry in entries if entry.name in holders)


@dataclass
class Listing:
    """What one of `train/` and `test/` holds, by file names alone."""

    folder: Path
    part: str
    classes: tuple[str, ...]
    folders: list[str] = field(default_factory=list)
    unused_folders: list[str] = field(default_factory=list)
    unused_files: list[str] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    names: tuple[str, ...] = ()
    """Of each image, in order."""
    packed: Packed | None = None
    """What they are in; None for files."""
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Where they are among packed images."""


@contextmanager
def _listing_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Expected a readable folder; found that {shown(str(error.filename))} "
            f"cannot be read: {first_line(error)}. Fix or remove it, or choose another "
            "folder with `data`."
        ) from error


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Yields what is in a folder, in any order; nothing if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _is_hidden(entry: "os.DirEntry[str]") -> bool:
    name = entry.name
    return name[0] == "." or name.lower() in _SYSTEM_FILES


def _is_image(entry: "os.DirEntry[str]") -> bool:
    """Looks at the name alone; a broken link or a pipe counts, and is a bad image."""
    return (
        entry.name.lower().endswith(IMAGE_SUFFIXES)
        and not _is_hidden(entry)
        and not _is_folder(entry)
    )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself, say: opening it says so.
        return False


def _holds_image(entry: "os.DirEntry[str]") -> bool:
    return _is_folder(entry) and any(map(_is_image, _entries(Path(entry.path))))


def list_part(folder: Path, part: str, classes: Sequence[str]) -> Listing:
    """Lists the images of a part, in the order of their classes, then of their names.

    Args:
        folder: The data folder.
        part: Such as `train`.
        classes: The class names, in the order of their labels.

    Raises:
        DataError: A folder cannot be listed, or packed images are damaged or not the
            only ones.
    """
    if _is_packed(folder):
        return _list_packed(folder, part, classes)
    listing = Listing(folder, part, tuple(classes))
    images: list[tuple[int, str]] = []
    with _listing_errors():
        for class_folder in _entries(folder / part):
            if not class_folder.is_dir():
                continue
            listing.folders.append(class_folder.name)
            class_name = emotion_from_name(class_folder.name, classes)
            if class_name is None:
                listing.unused_folders.append(f"{part}/{class_folder.name}")
                continue
            label = listing.classes.index(class_name)
            for entry in _entries(Path(class_folder.path)):
                name = f"{part}/{class_folder.name}/{entry.name}"
                if _is_image(entry):
                    images.append((label, name))
                elif _is_folder(entry):
                    listing.unused_folders.append(name)
                elif not _is_hidden(entry):
                    listing.unused_files.append(name)
    listing.folders.sort()
    listing.unused_folders.sort()
    listing.unused_files.sort()
    images.sort()
    listing.labels = np.array([label for label, _ in images], dtype=np.int64)
    listing.names = tuple(name for _, name in images)
    return listing


def _is_packed(folder: Path) -> bool:
    """Returns whether the images of a data folder are packed.

    Raises:
        DataError: Others are not.
    """
    if not is_packed(folder):
        return False
    with _listing_errors():
        found = [
            part
            for part in (*PARTS, *_VALIDATION_PARTS)
            if any(map(_holds_image, _entries(folder / part)))
        ]
    if found:
        raise DataError(
            f"Expected either packed images in {shown(str(folder))} or folders of "
            f"them; found both: images.npy and {' and '.join(found)}. Move one of them "
            "elsewhere."
        )
    return True


def _list_packed(folder: Path, part: str, classes: Sequence[str]) -> Listing:
    packed = read_packed(folder)
    listing = Listing(folder, part, tuple(classes), packed=packed)
    by_label: dict[int, list[int]] = {}
    for name, places in packed.folders.items():
        of_part, class_folder = name.split("/")
        if of_part != part:
            continue
        listing.folders.append(class_folder)
        class_name = emotion_from_name(class_folder, classes)
        if class_name is None:
            listing.unused_folders.append(name)
        else:
            label = listing.classes.index(class_name)
            by_label.setdefault(label, []).extend(places.tolist())
    labels = sorted(by_label)
    counts = [len(by_label[label]) for label in labels]
    # As packed folders that `prepare` writes are in this order, it takes no time.
    in_order = [
        place
        for label in labels
        for place in sorted(by_label[label], key=packed.names.__getitem__)
    ]
    listing.places = np.array(in_order, dtype=np.int64)
    listing.labels = np.repeat(np.array(labels, dtype=np.int64), counts)
    listing.names = tuple(packed.names[place] for place in in_order)
    listing.folders.sort()
    listing.unused_folders.sort()
    return listing


def list_beside(folder: Path, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the folders and files that lie beside those of the classes.

    Args:
        folder: The data folder.
        classes: The class names.

    Returns:
        Other parts, such as `valid`, that a user may expect to be read; and images
        that lie in no folder of a class. Both in order.
    """
    with _listing_errors():
        loose = [
            f"{part}/{entry.name}"
            for part in PARTS
            for entry in _entries(folder / part)
            if _is_image(entry)
        ]
        others = [
            entry.name
            for entry in _entries(folder)
            if entry.is_dir() and entry.name not in PARTS
            if any(
                emotion_from_name(inner.name, classes)
                for inner in _entries(Path(entry))
            )
        ]
    if _is_packed(folder):
        parts = {name.split("/")[0] for name in read_packed(folder).folders}
        others += parts - {*PARTS}
    return sorted(others), sorted(loose)


def capped(lines: Sequence[str]) -> list[str]:
    """Returns the first lines, and how many more there are."""
    rest = len(lines) - LISTED_AT_MOST
    return [*lines[:LISTED_AT_MOST], *([f"... and {rest:,} more"] if rest > 0 else [])]
