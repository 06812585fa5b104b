"""Reading a data folder: images in a folder per class, or packed ones, into splits.

A data folder holds `train/<class>/` and `test/<class>/` with images, and perhaps
`validation/<class>/`.
Images come in the order of their classes, then of their names, never in the order
in which a file system lists them. Or they are packed into one file, with such paths as
names, and come in the same order.
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
from emotion_cnn.data.cache import ImageCache
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
from emotion_cnn.data.packed import (
    PACKED_NAMES,
    Packed,
    PackedWriter,
    is_packed,
    read_packed,
)
from emotion_cnn.data.rows import Rows
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
# Files that are handed to threads at a time: each takes memory while it waits.
_FILES_AT_ONCE = 4096


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
    if _is_packed(folder):
        return True
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
    parts = parts or (*_PARTS, *_VALIDATION_PARTS)
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
    cache: ImageCache | None = None,
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
        cache: Where decoded images are kept.

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
        folder, {"train": required, "test": ()}, skip_bad, classes, size, cache
    )
    return train, test, notes


def read_test(
    folder: Path,
    *,
    skip_bad: bool,
    classes: Sequence[str] = EMOTIONS,
    size: int = IMAGE_SIZE,
    cache: ImageCache | None = None,
) -> tuple[Split, tuple[str, ...]]:
    """Reads `test/` alone, as `read_splits` does; `train/` need not exist.

    Returns:
        The images, and notes for the user.

    Raises:
        DataError: As `read_splits`.
    """
    (test,), notes = _read(folder, {"test": ()}, skip_bad, classes, size, cache)
    return test, notes


def read_validation(
    folder: Path,
    *,
    skip_bad: bool,
    classes: Sequence[str],
    size: int = IMAGE_SIZE,
    cache: ImageCache | None = None,
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
    parts: dict[str, Collection[str]] = {found[0]: ()}
    (validation,), notes = _read(folder, parts, skip_bad, classes, size, cache)
    return validation, notes


def survey(
    folder: Path,
    *,
    classes: Sequence[str] = EMOTIONS,
    size: int = IMAGE_SIZE,
    cache: ImageCache | None = None,
) -> Survey:
    """Reads everything below `train/` and `test/`, and lists what is not usable.

    Args:
        folder: The data folder.
        classes: The class names, in the order of their labels.
        size: Height and width of the arrays, in pixels.
        cache: Where decoded images are kept.

    Raises:
        DataError: If there is no image at all, a folder cannot be listed, or an
            import is not finished, or replaces the images meanwhile.
    """
    with _unchanged(folder):
        return _survey(folder, classes, size, cache)


def _survey(
    folder: Path, classes: Sequence[str], size: int, cache: ImageCache | None
) -> Survey:
    listings = [_list(folder, part, classes) for part in _PARTS]
    if not any(listing.names for listing in listings):
        _require_classes(listings[0], listings[0].labels, ())
    unreadable: dict[str, str] = {}
    formats: dict[str, ImageFormat] = {}
    train, test = (_split(each, size, unreadable, formats, cache) for each in listings)
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
    if _is_packed(folder):
        parts = {name.split("/")[0] for name in read_packed(folder).folders}
        others += parts - {*_PARTS}
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
        holders = (*_PARTS, *PACKED_NAMES)
        return sorted(entry.inode() for entry in entries if entry.name in holders)


@dataclass
class _Listing:
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


def _list(folder: Path, part: str, classes: Sequence[str]) -> _Listing:
    if _is_packed(folder):
        return _list_packed(folder, part, classes)
    listing = _Listing(folder, part, tuple(classes))
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
            for part in (*_PARTS, *_VALIDATION_PARTS)
            if any(map(_holds_image, _entries(folder / part)))
        ]
    if found:
        raise DataError(
            f"Expected either packed images in {shown(str(folder))} or folders of "
            f"them; found both: images.npy and {' and '.join(found)}. Move one of them "
            "elsewhere."
        )
    return True


def _list_packed(folder: Path, part: str, classes: Sequence[str]) -> _Listing:
    packed = read_packed(folder)
    listing = _Listing(folder, part, tuple(classes), packed=packed)
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


def _require_classes(
    listing: _Listing,
    labels: np.ndarray,
    required: Collection[str],
    skipped: int = 0,
) -> None:
    """Makes sure that a part has images, and that some classes have any there."""
    classes, present = listing.classes, set(np.unique(labels).tolist())
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
    raise DataError(
        f"No images in {place}. {expected} Unpack FER2013 into {data}, so that "
        "its train/ and test/ lie there, choose another folder with `data`, or use the "
        "built-in drawn faces with `data=sample`."
    )


def _read(
    folder: Path,
    parts: Mapping[str, Collection[str]],
    skip_bad: bool,
    classes: Sequence[str],
    size: int,
    cache: ImageCache | None,
) -> tuple[list[Split], tuple[str, ...]]:
    with _unchanged(folder):
        return _read_parts(folder, parts, skip_bad, classes, size, cache)


def _read_parts(
    folder: Path,
    parts: Mapping[str, Collection[str]],
    skip_bad: bool,
    classes: Sequence[str],
    size: int,
    cache: ImageCache | None,
) -> tuple[list[Split], tuple[str, ...]]:
    listings = [_list(folder, part, classes) for part in parts]
    for listing, required in zip(listings, parts.values(), strict=True):
        _require_classes(listing, listing.labels, required)
    unreadable: dict[str, str] = {}
    formats: dict[str, ImageFormat] = {}
    splits = [_split(each, size, unreadable, formats, cache) for each in listings]
    bad = [f"{shown(name)}: {reason}" for name, reason in unreadable.items()]
    if bad and not skip_bad:
        raise DataError(
            f"{_count(len(bad), 'image')} cannot be read:\n  "
            + "\n  ".join(list_bad(bad, len(bad)))
            + "\nFix or remove them, or leave them out with `skip_bad=True`."
        )
    missing = []
    for listing, split in zip(listings, splits, strict=True):
        skipped = len(listing.names) - len(split)
        required = parts[listing.part]
        _require_classes(listing, split.labels, required, skipped)
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


def _split(
    listing: _Listing,
    size: int,
    unreadable: dict[str, str],
    formats: dict[str, ImageFormat],
    cache: ImageCache | None,
) -> Split:
    """Returns the images of a listing.

    Args:
        listing: The images.
        size: Height and width of the arrays, in pixels.
        unreadable: Gets the reason for each image that cannot be read, by name.
        formats: Gets the former format of each that was converted, by name.
        cache: Where decoded images are kept.
    """
    if listing.packed is not None:
        return _packed_split(listing, listing.packed, size, unreadable, formats)
    decoded = None
    if cache is not None:
        decoded = cache.decoded(
            listing.folder, listing.names, size=size, decode=partial(_decode, listing)
        )
    if decoded is None:
        in_memory = _InMemory(len(listing.names), size)
        _decode(listing, in_memory)
        decoded = in_memory.result()
    unreadable |= decoded.unreadable
    formats |= decoded.converted
    labels = listing.labels
    if bad := decoded.unreadable:
        labels = labels[[name not in bad for name in listing.names]]
    return Split(decoded.images, labels, decoded.names, classes=listing.classes)


def _packed_split(
    listing: _Listing,
    packed: Packed,
    size: int,
    unreadable: dict[str, str],
    formats: dict[str, ImageFormat],
) -> Split:
    height, width = packed.images.shape[1:3]
    if (height, width) != (size, size):
        raise DataError(
            f"Expected packed images of {size}x{size} pixels in "
            f"{shown(str(listing.folder))}, found {width}x{height}. Make the folder "
            "again from the images, for this size."
        )

    def is_listed(name: str) -> bool:
        part, class_folder, _ = name.split("/")
        return part == listing.part and bool(
            emotion_from_name(class_folder, listing.classes)
        )

    unreadable |= {
        name: reason for name, reason in packed.unreadable.items() if is_listed(name)
    }
    formats |= {
        name: before for name, before in packed.converted.items() if is_listed(name)
    }
    images = Rows.of(packed.images).select(listing.places)
    return Split(images, listing.labels, listing.names, classes=listing.classes)


class _InMemory:
    """Takes decoded images as `PackedWriter` does, and keeps them in memory."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self._images = np.empty((count, size, size, 1), dtype=np.uint8)
        self._names: list[str] = []
        self._formats: dict[str, ImageFormat] = {}
        self._unreadable: dict[str, str] = {}

    def add(self, name: str, image: np.ndarray, before: ImageFormat | None) -> None:
        self._images[len(self._names), :, :, 0] = image
        self._names.append(name)
        if before is not None:
            self._formats[name] = before

    def add_unreadable(self, name: str, reason: str) -> None:
        self._unreadable[name] = reason

    def result(self) -> Packed:
        images = self._images[: len(self._names)]
        return Packed(images, tuple(self._names), self._formats, self._unreadable)


def _decode(listing: _Listing, to: _InMemory | PackedWriter) -> None:
    """Decodes the images of a listing, in its order.

    Raises:
        ValueError: A file cannot be opened, and the results are to be kept: another
            time it may be.
    """
    for name, image in _decoded(listing, to.size):
        if isinstance(image, _NotOpened) and isinstance(to, PackedWriter):
            raise ValueError(f"{shown(name)} cannot be opened: {image}")
        if isinstance(image, str):
            to.add_unreadable(name, image)
        else:
            pixels, before = image
            to.add(name, pixels, before if before.changes(to.size) else None)


def _decoded(
    listing: _Listing, size: int
) -> Iterator[tuple[str, tuple[np.ndarray, ImageFormat] | str]]:
    """Yields the name of each image, and what `_read_image` returns of it."""
    names, read = listing.names, partial(_read_image, size=size)
    sample = [listing.folder / name for name in names[:: len(names) // 100 + 1]]
    progress = tqdm(
        desc=f"reading {listing.part}", total=len(names), unit=" images", disable=None
    )
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress,
    ):
        # Pillow's, about EXIF data and the like: nothing that concerns the pixels.
        warnings.simplefilter("ignore")
        do = pool.map if _are_large(sample) else map
        for start in range(0, len(names), _FILES_AT_ONCE):
            part = names[start : start + _FILES_AT_ONCE]
            images = do(read, [listing.folder / name for name in part])
            for each in zip(part, images, strict=True):
                yield each
                progress.update()


def _are_large(paths: Sequence[Path]) -> bool:
    """Returns whether files are large enough for several threads."""
    sizes = []
    for path in paths:
        with suppress(OSError):  # A bad image; reading it says why.
            sizes.append(path.stat().st_size)
    return sum(sizes) > _BYTES_WORTH_A_THREAD * len(sizes)


class _NotOpened(str):
    """Why a file cannot be read, which says nothing of the image in it."""


def _read_image(path: Path, size: int) -> tuple[np.ndarray, ImageFormat] | str:
    """Does for a path what `decode_image` does for an open file."""
    try:
        with open_regular(path) as file:
            return decode_image(file, size)
    except (OSError, ValueError) as error:
        return _NotOpened(reason_of(error))


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
