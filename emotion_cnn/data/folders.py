"""Reading a data folder: images in a folder per class, into arrays.

A data folder holds `train/<class>/` and `test/<class>/` with images, and perhaps
`validation/<class>/`.
Images come in the order of their classes, then of their names, never in the order
in which a file system lists them.
"""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emotion_cnn.data.bad_images import LISTED_AT_MOST, list_bad
from emotion_cnn.data.classes import (
    EMOTIONS,
    MOST_CLASSES,
    emotion_from_name,
    in_stable_order,
    is_class_name,
)
from emotion_cnn.data.images import (
    IMAGE_SIZE,
    IMAGE_SUFFIXES,
    OTHER_MODE,
    OTHER_SIZE,
    TURNED,
    ImageFormat,
    decode_image,
    reason_of,
)
from emotion_cnn.data.splits import Split, class_counts
from emotion_cnn.errors import DataError
from emotion_cnn.files import first_line, open_regular, shown

WORKING_PREFIX = ".prepare-"
"""What the name of a folder begins with that an import works in, in a data folder."""

HALF_REPLACED = (f"{WORKING_PREFIX}clearing-", f"{WORKING_PREFIX}filling-")
"""What it begins with while a new data set takes the place of an old one."""

_PARTS = ("train", "test")
_VALIDATION_PARTS = ("validation", "valid", "val")
_SUFFIXES_SHOWN = 10
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")

# Measured on two cores: images as small as FER2013's (1.6 kB) are decoded twice
# as fast by one thread as by several, which only wait for each other; from about
# 4 kB on (160x160) several threads win.
_BYTES_WORTH_A_THREAD = 4096


@dataclass(frozen=True, eq=False)
class Survey:
    """Everything found in a data folder, usable or not.

    Attributes:
        train: The readable images of `train/`; any class may be missing.
        test: Those of `test/`.
        unreadable: The reason for each image that cannot be read, by name.
        converted: The format of each image that was not grayscale of the size
            that a network takes, by name.
        unused_folders: The folders whose images are not read.
        unused_files: The files that are not read.
    """

    train: Split
    test: Split
    unreadable: dict[str, str]
    converted: dict[str, ImageFormat]
    unused_folders: tuple[str, ...]
    unused_files: tuple[str, ...]


def has_images(folder: Path) -> bool:
    """Returns whether any folder below `train/` or `test/` holds an image.

    Looks at file names alone, and stops at the first image. Folders of any name
    count, so that `read_splits` can report misnamed classes.

    Raises:
        DataError: If a folder cannot be listed, or an import is not finished.
    """
    _identities(folder)
    with _listing_errors():
        return any(
            _is_image(entry)
            for part in _PARTS
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
    with _listing_errors():
        for part in parts or (*_PARTS, *_VALIDATION_PARTS):
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
            f"very long; found {', '.join(_capped(unfit))} in {shown(str(folder))}. "
            "Rename them."
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"Expected at most {MOST_CLASSES} classes, found folders of images for "
            f"{len(classes):,} in {shown(str(folder))}. Name those to use with "
            "`classes`, or put images in a folder per class, not per person or video."
        )
    return classes


def read_splits(
    folder: Path,
    *,
    skip_bad: bool,
    classes: Sequence[str] = EMOTIONS,
    may_lack: Collection[str] = (),
    size: int = IMAGE_SIZE,
) -> tuple[Split, Split, tuple[str, ...]]:
    """Reads `train/` and `test/`.

    Images of any size and mode are converted as `decode_image` does.

    Args:
        folder: The data folder.
        skip_bad: Whether to leave out images that cannot be read, with a note.
        classes: The class names, in the order of their labels. The folder of a
            class has its name, or a synonym that `emotion_from_name` knows.
        may_lack: Classes that need have no images in `train/`. None needs to have any
            in `test/`.
        size: Height and width of the arrays, in pixels.

    Returns:
        The images of both, and notes for the user: what was converted, left out,
        missing and skipped.

    Raises:
        DataError: If `train/`, `test/` or a class in `train/` is missing, if images
            cannot be read and `skip_bad` is false (names all of them), or if an
            import is not finished, or replaces them meanwhile.
    """
    required = [name for name in classes if name not in may_lack]
    (train, test), notes = _read(
        folder, {"train": required, "test": ()}, skip_bad, classes, size
    )
    return train, test, notes


def read_test(
    folder: Path,
    *,
    skip_bad: bool,
    classes: Sequence[str] = EMOTIONS,
    size: int = IMAGE_SIZE,
) -> tuple[Split, tuple[str, ...]]:
    """Reads `test/` alone, as `read_splits` does; `train/` need not exist.

    Returns:
        The images, and notes for the user.

    Raises:
        DataError: As `read_splits`.
    """
    (test,), notes = _read(folder, {"test": ()}, skip_bad, classes, size)
    return test, notes


def read_validation(
    folder: Path, *, skip_bad: bool, classes: Sequence[str], size: int = IMAGE_SIZE
) -> tuple[Split, tuple[str, ...]] | None:
    """Reads the folder with images for validation, as `read_splits` does `test/`.

    It is called `validation`, `valid` or `val`.

    Returns:
        The images, and notes for the user; None where there are none.

    Raises:
        DataError: As `read_splits`; or there is more than one such folder.
    """
    found = [part for part in _VALIDATION_PARTS if find_classes(folder, part)]
    if len(found) > 1:
        raise DataError(
            "Expected one folder with images for validation, found "
            f"{' and '.join(f'{part}/' for part in found)} in {shown(str(folder))}. "
            "Remove or rename one of them."
        )
    if not found:
        return None
    (validation,), notes = _read(folder, {found[0]: ()}, skip_bad, classes, size)
    return validation, notes


def survey(
    folder: Path, *, classes: Sequence[str] = EMOTIONS, size: int = IMAGE_SIZE
) -> Survey:
    """Reads everything below `train/` and `test/`, and lists what is not usable.

    Args:
        folder: The data folder.
        classes: The class names, in the order of their labels.
        size: Height and width of the arrays, in pixels.

    Raises:
        DataError: If there is no image at all, a folder cannot be listed, or an
            import is not finished, or replaces the images meanwhile.
    """
    with _unchanged(folder):
        return _survey(folder, classes, size)


def _survey(folder: Path, classes: Sequence[str], size: int) -> Survey:
    listings = [_list(folder, part, classes) for part in _PARTS]
    if not any(listing.images for listing in listings):
        _require_classes(listings[0], [], ())
    unreadable: dict[str, str] = {}
    formats: dict[str, ImageFormat] = {}
    train, test = (_decode(each, size, unreadable, formats) for each in listings)
    with _listing_errors():
        loose = [
            f"{part}/{entry.name}"
            for part in _PARTS
            for entry in _entries(folder / part)
            if _is_image(entry)
        ]
        # A third part, such as `valid`, that a user may expect to be read.
        others = [
            entry.name
            for entry in _entries(folder)
            if entry.is_dir() and entry.name not in _PARTS
            if any(
                emotion_from_name(inner.name, classes)
                for inner in _entries(Path(entry))
            )
        ]
    folders = (name for listing in listings for name in listing.unused_folders)
    files = (name for listing in listings for name in listing.unused_files)
    return Survey(
        train,
        test,
        unreadable,
        formats,
        (*folders, *sorted(others)),
        (*files, *sorted(loose)),
    )


@contextmanager
def _unchanged(folder: Path) -> Iterator[None]:
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
    """Returns which folders `train/` and `test/` are; an import makes new ones.

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
        return sorted(entry.inode() for entry in entries if entry.name in _PARTS)


@dataclass
class _Listing:
    """What one of `train/` and `test/` holds, by file names alone."""

    folder: Path
    part: str
    classes: tuple[str, ...]
    folders: list[str] = field(default_factory=list)
    unused_folders: list[str] = field(default_factory=list)
    unused_files: list[str] = field(default_factory=list)
    images: list[tuple[int, str]] = field(default_factory=list)
    """Label and name of each image, in order."""


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
    return entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES


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


def _list(folder: Path, part: str, classes: Sequence[str]) -> _Listing:
    listing = _Listing(folder, part, tuple(classes))
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
                    listing.images.append((label, name))
                elif _is_folder(entry):
                    listing.unused_folders.append(name)
                elif not _is_hidden(entry):
                    listing.unused_files.append(name)
    listing.folders.sort()
    listing.unused_folders.sort()
    listing.unused_files.sort()
    listing.images.sort()
    return listing


def _require_classes(
    listing: _Listing,
    labels: Sequence[int],
    required: Collection[str],
    skipped: int = 0,
) -> None:
    """Makes sure that a part has images, and that some classes have any there."""
    classes, present = listing.classes, set(labels)
    missing = [
        name
        for label, name in enumerate(classes)
        if label not in present and name in required
    ]
    if present and not missing:
        return
    place = shown(str(listing.folder / listing.part))
    if listing.folders:
        found = f"the folders {', '.join(_capped([*map(shown, listing.folders)]))}"
    elif (listing.folder / listing.part).is_dir():
        found = "no folders in it"
    else:
        found = "no such folder"
    if skipped:
        found += f", and skipped {_count(skipped, 'bad image')}"
    expected = (
        f"Expected images in a folder for each of {', '.join(map(shown, classes))}; "
        f"found {found}."
    )
    if present:
        raise DataError(
            f"No images of {', '.join(map(shown, missing))} in {place}. {expected} Add "
            "the missing images, rename the folder that holds them, or name the "
            "classes that there are with `classes`."
        )
    data = shown(str(listing.folder))
    absent = "" if listing.folder.is_dir() else f"The folder {data} does not exist. "
    raise DataError(
        f"{absent}No images in {place}. {expected} Unpack FER2013 into {data}, so that "
        "its train/ and test/ lie there, choose another folder with `data`, or use the "
        "built-in drawn faces with `data=sample`."
    )


def _read(
    folder: Path,
    parts: Mapping[str, Collection[str]],
    skip_bad: bool,
    classes: Sequence[str],
    size: int,
) -> tuple[list[Split], tuple[str, ...]]:
    with _unchanged(folder):
        return _read_parts(folder, parts, skip_bad, classes, size)


def _read_parts(
    folder: Path,
    parts: Mapping[str, Collection[str]],
    skip_bad: bool,
    classes: Sequence[str],
    size: int,
) -> tuple[list[Split], tuple[str, ...]]:
    listings = [_list(folder, part, classes) for part in parts]
    for listing, required in zip(listings, parts.values(), strict=True):
        _require_classes(listing, [label for label, _ in listing.images], required)
    unreadable: dict[str, str] = {}
    formats: dict[str, ImageFormat] = {}
    splits = [_decode(listing, size, unreadable, formats) for listing in listings]
    bad = [f"{shown(name)}: {reason}" for name, reason in unreadable.items()]
    if bad and not skip_bad:
        raise DataError(
            f"{_count(len(bad), 'image')} cannot be read:\n  "
            + "\n  ".join(list_bad(bad, len(bad)))
            + "\nFix or remove them, or leave them out with `skip_bad=True`."
        )
    missing = []
    for listing, split in zip(listings, splits, strict=True):
        skipped = len(listing.images) - len(split)
        required = parts[listing.part]
        _require_classes(listing, split.labels.tolist(), required, skipped)
        absent = [shown(name) for name, n in class_counts(split).items() if not n]
        if absent:
            missing.append(f"no images of {', '.join(absent)} in {listing.part}/")
    notes = _notes(listings, bad, size, formats.values())
    return splits, (*missing, *notes)


def _notes(
    listings: Sequence[_Listing],
    bad: Sequence[str],
    size: int,
    formats: Collection[ImageFormat],
) -> tuple[str, ...]:
    notes = []
    if formats:
        kinds = Counter(kind for each in formats for kind in each.changes(size))
        details = ", ".join(
            f"{kinds[kind]:,} {kind}"
            for kind in (OTHER_SIZE, OTHER_MODE, TURNED)
            if kinds[kind]
        )
        notes.append(
            f"converted to {size}x{size} grayscale: "
            f"{_count(len(formats), 'image')} ({details})"
        )
    unused_folders = [name for listing in listings for name in listing.unused_folders]
    if unused_folders:
        names = ", ".join(_capped([shown(name) for name in unused_folders]))
        notes.append(f"left out: {_count(len(unused_folders), 'folder')} ({names})")
    unused_files = [name for listing in listings for name in listing.unused_files]
    if unused_files:
        notes.append(
            f"left out: {_count(len(unused_files), 'file')} in class folders that are "
            f"no images ({count_suffixes(unused_files)})"
        )
    if bad:
        names = "; ".join(list_bad(bad, len(bad)))
        notes.append(f"skipped: {_count(len(bad), 'bad image')} ({names})")
    return tuple(notes)


def _decode(
    listing: _Listing,
    size: int,
    unreadable: dict[str, str],
    formats: dict[str, ImageFormat],
) -> Split:
    """Decodes the images of a listing.

    Args:
        listing: The images.
        size: Height and width of the arrays, in pixels.
        unreadable: Gets the reason for each image that cannot be read, by name.
        formats: Gets the former format of each that was converted, by name.
    """
    paths = [listing.folder / name for _, name in listing.images]
    images = np.empty((len(paths), size, size, 1), dtype=np.uint8)
    readable = []
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Pillow's, about EXIF data and the like: nothing that concerns the pixels.
        warnings.simplefilter("ignore")
        decode = partial(_read_image, size=size)
        decoded = (pool.map if _are_large(paths) else map)(decode, paths)
        progress = tqdm(
            decoded,
            desc=f"reading {listing.part}",
            total=len(paths),
            unit=" images",
            disable=None,
        )
        for position, image in enumerate(progress):
            name = listing.images[position][1]
            if isinstance(image, str):
                unreadable[name] = image
                continue
            images[position, :, :, 0], before = image
            readable.append(position)
            if before.changes(size):
                formats[name] = before
    labels = np.array([label for label, _ in listing.images], dtype=np.int64)
    names = tuple(name for _, name in listing.images)
    split = Split(images, labels, names, classes=listing.classes)
    return split if len(readable) == len(split) else split.select(readable)


def _are_large(paths: Sequence[Path]) -> bool:
    """Returns whether a sample of the files is large enough for several threads."""
    sizes = []
    for path in paths[:: len(paths) // 100 + 1]:
        with suppress(OSError):  # A bad image; reading it says why.
            sizes.append(path.stat().st_size)
    return sum(sizes) > _BYTES_WORTH_A_THREAD * len(sizes)


def _read_image(path: Path, size: int) -> tuple[np.ndarray, ImageFormat] | str:
    """Does for a path what `decode_image` does for an open file."""
    try:
        with open_regular(path) as file:
            return decode_image(file, size)
    except (OSError, ValueError) as error:
        return reason_of(error)


def count_suffixes(names: Iterable[str]) -> str:
    """Returns how many files have which suffix, such as `3 .heic, 1 .txt`."""
    counts = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
    most = [
        f"{n:,} {shown(suffix)[:20]}"
        for suffix, n in counts.most_common(_SUFFIXES_SHOWN)
    ]
    rest = counts.total() - sum(n for _, n in counts.most_common(_SUFFIXES_SHOWN))
    return ", ".join([*most, *([f"{rest:,} others"] if rest else [])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _capped(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - LISTED_AT_MOST
    return [*lines[:LISTED_AT_MOST], *([f"... and {rest:,} more"] if rest > 0 else [])]
