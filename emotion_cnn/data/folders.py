"""Reading a data folder: images in a folder per class, or packed ones, into splits.

Images come in the order of their classes, then of their names, never in the order
in which a file system lists them; packed ones in the same.
"""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emotion_cnn.data.bad_images import list_bad
from emotion_cnn.data.cache import ImageCache
from emotion_cnn.data.classes import EMOTIONS, emotion_from_name
from emotion_cnn.data.images import (
    IMAGE_SIZE,
    OTHER_MODE,
    OTHER_SIZE,
    TURNED,
    ImageFormat,
    decode_image,
    reason_of,
)
from emotion_cnn.data.listing import (
    PARTS,
    Listing,
    capped,
    find_validation,
    list_beside,
    list_part,
    unchanged,
)
from emotion_cnn.data.packed import Packed, PackedWriter
from emotion_cnn.data.rows import Rows
from emotion_cnn.data.splits import Split, class_counts
from emotion_cnn.errors import DataError
from emotion_cnn.files import open_regular, shown

_SUFFIXES_SHOWN = 10

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

    Returns:
        The images, and notes for the user; None where there are none.

    Raises:
        DataError: As `read_splits` or `find_validation`.
    """
    part = find_validation(folder)
    if part is None:
        return None
    (validation,), notes = _read(folder, {part: ()}, skip_bad, classes, size, cache)
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
    with unchanged(folder):
        return _survey(folder, classes, size, cache)


def _survey(
    folder: Path, classes: Sequence[str], size: int, cache: ImageCache | None
) -> Survey:
    listings = [list_part(folder, part, classes) for part in PARTS]
    if not any(listing.names for listing in listings):
        _require_classes(listings[0], listings[0].labels, ())
    unreadable: dict[str, str] = {}
    formats: dict[str, ImageFormat] = {}
    train, test = (_split(each, size, unreadable, formats, cache) for each in listings)
    others, loose = list_beside(folder, classes)
    folders = (name for listing in listings for name in listing.unused_folders)
    files = (name for listing in listings for name in listing.unused_files)
    return Survey(
        train,
        test,
        unreadable,
        formats,
        (*folders, *others),
        (*files, *loose),
    )


def _require_classes(
    listing: Listing,
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
        found = f"the folders {', '.join(capped([*map(shown, listing.folders)]))}"
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
    with unchanged(folder):
        return _read_parts(folder, parts, skip_bad, classes, size, cache)


def _read_parts(
    folder: Path,
    parts: Mapping[str, Collection[str]],
    skip_bad: bool,
    classes: Sequence[str],
    size: int,
    cache: ImageCache | None,
) -> tuple[list[Split], tuple[str, ...]]:
    listings = [list_part(folder, part, classes) for part in parts]
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
    listings: Sequence[Listing],
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
        names = ", ".join(capped([shown(name) for name in unused_folders]))
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
    listing: Listing,
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
    listing: Listing,
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


def _decode(listing: Listing, to: _InMemory | PackedWriter) -> None:
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
    listing: Listing, size: int
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
