"""A folder in which decoded images are kept, so that they are decoded once.

Each part of a data folder is an entry: a packed folder, whose name is a digest of the
paths, sizes and times of the image files and of what decodes them. So an entry never
becomes wrong; what is no longer of use is removed once the folder grows too large.
"""

import hashlib
import logging
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from emotion_cnn.data import damage, images
from emotion_cnn.data.packed import (
    FORMAT,
    PACKED_NAMES,
    Packed,
    PackedWriter,
    packing,
    read_packed,
)
from emotion_cnn.errors import DataError, FolderError
from emotion_cnn.files import (
    TEMPORARY_PREFIX,
    first_line,
    folder_to_disk,
    locked,
    make_folder,
    shown,
)

_log = logging.getLogger(__name__)

CACHED_FROM = 1000
"""Least number of images that are kept: fewer are decoded in a tenth of a second."""

GIGABYTES = 10
"""What the folder may hold: more than four million images of 48x48 pixels."""

_DECODERS = ("pillow", "simplejpeg")
_FILLING = ".filling-"
_ENTRY = re.compile(rf"[0-9a-f]{{64}}|{re.escape(_FILLING)}[a-z0-9_]+")
_PATIENCE = 600
"""Seconds to wait for another command that fills the folder."""


def default_folder() -> Path | None:
    """Returns our folder among the user's caches; None where the user has no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    local = os.environ.get("LOCALAPPDATA", "")
    try:
        if Path(named).is_absolute():
            base = Path(named)
        elif sys.platform == "win32" and local:
            base = Path(local)
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "emotion-cnn"


class ImageCache:
    """Decoded images, by the files that they are from."""

    def __init__(self, folder: Path, *, limit: int = GIGABYTES * 10**9) -> None:
        """Takes the folder, and what it may hold, in bytes; creates nothing."""
        self._folder = folder
        self._limit = limit

    def decoded(
        self,
        data: Path,
        names: Sequence[str],
        *,
        size: int,
        decode: Callable[[PackedWriter], None],
    ) -> Packed | None:
        """Returns images from the cache, into which they are decoded if need be.

        Args:
            data: The data folder.
            names: The paths of the images in it.
            size: Height and width of the decoded images, in pixels.
            decode: Adds all these images, or that they are unreadable, in this order.

        Returns:
            The images. None if they are too few to be kept, or cannot be kept, which is
            logged: a cache is no reason to fail.
        """
        if len(names) < CACHED_FROM:
            return None
        place = shown(str(self._folder))
        if (needed := len(names) * size**2) > self._limit:
            _log.info(
                "Images of %s GB are not kept in %s, which may hold %s GB.",
                f"{needed / 1e9:.1f}",
                place,
                f"{self._limit / 1e9:g}",
            )
            return None
        try:
            _require_own_place(self._folder)
            key = _key(data, names, size)
            found = self._find(key, names, size)
            if found is None:
                with self._alone():
                    # Another process may have filled it meanwhile.
                    found = self._find(key, names, size)
                    if found is None:
                        self._fill(key, data, names, size, decode)
                        found = self._find(key, names, size)
        except (OSError, ValueError, FolderError) as error:
            _log.warning("Decoded images are not kept: %s", shown(first_line(error)))
            return None
        return found

    def _find(self, key: str, names: Sequence[str], size: int) -> Packed | None:
        """Returns the images of an entry, if it is there, whole and the user's own."""
        entry = self._folder / key
        if not os.path.lexists(entry):
            return None
        try:
            if not _is_own(entry):
                raise DataError(f"{shown(str(entry))} is somebody else's.")
            packed = read_packed(entry)
            readable = tuple(name for name in names if name not in packed.unreadable)
            if (packed.names, packed.images.shape[1]) != (readable, size):
                raise DataError(f"{shown(str(entry))} holds other images.")
        except DataError as error:
            _log.warning("Decoded images are not used, but decoded anew: %s", error)
            return None
        # When it was last of use; a folder that nothing can be written to will do.
        with suppress(OSError):
            os.utime(entry)
        return packed

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Creates the folder, and keeps other processes from filling it meanwhile."""
        make_folder(self._folder.parent)
        with suppress(FileExistsError):
            # What is in it shows people.
            self._folder.mkdir(mode=0o700)
        use = "keeping decoded images"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._folder, use, seconds=1))
            except FolderError:
                _log.info("Waiting until another command has decoded its images.")
                stack.enter_context(locked(self._folder, use, seconds=_PATIENCE))
            yield

    def _fill(
        self,
        key: str,
        data: Path,
        names: Sequence[str],
        size: int,
        decode: Callable[[PackedWriter], None],
    ) -> None:
        """Makes an entry; the folder is locked."""
        self._make_room(len(names) * size**2)
        work = Path(tempfile.mkdtemp(prefix=_FILLING, dir=self._folder))
        try:
            with packing(work, size=size) as writer:
                decode(writer)
            if _key(data, names, size) != key:
                raise ValueError("they were changed while they were read")
            _remove(self._folder / key)
            work.rename(self._folder / key)
            folder_to_disk(self._folder)
        finally:
            with suppress(OSError):
                _remove(work)
        _log.info("Decoded images are kept in %s", shown(str(self._folder)))

    def _make_room(self, needed: int) -> None:
        """Removes what was of no use for longest, and what killed commands left."""
        left = self._limit - needed
        own = [
            entry
            for entry in self._folder.iterdir()
            if _ENTRY.fullmatch(entry.name) and _is_own(entry)
        ]
        for entry in sorted(own, key=lambda each: -each.stat().st_mtime_ns):
            is_whole = not entry.name.startswith(_FILLING)
            if is_whole:
                left -= sum(file.lstat().st_size for file in entry.iterdir())
            if left < 0 or not is_whole:
                # On Windows, what another process reads cannot be removed.
                with suppress(OSError):
                    _remove(entry)


def _key(data: Path, names: Sequence[str], size: int) -> str:
    """Returns a digest of all that decoded images depend on.

    The time of the last change of anything is in it too: unlike that of the last
    modification, no archive and no copy can bring it.

    Raises:
        OSError: There is no such file.
        ValueError: It is no regular file.
    """
    folder = os.path.realpath(data)
    digest = hashlib.sha256(
        f"{_decoder()}\0{size}\0{os.fsdecode(folder)}".encode(errors="surrogatepass")
    )
    for name in names:
        # A `Path` for each would take longer than the system's answer.
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{shown(name)} is no regular file")
        of_file = (
            f"\0{name}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        )
        digest.update(of_file.encode(errors="surrogatepass"))
    return digest.hexdigest()


@cache
def _decoder() -> str:
    """Returns what changes with everything that decodes: our code, and libraries."""
    ours = hashlib.sha256()
    for module in (images, damage):
        ours.update(Path(str(module.__file__)).read_bytes())
    libraries = " ".join(f"{name} {version(name)}" for name in _DECODERS)
    return f"{FORMAT} {ours.hexdigest()} {libraries}"


def _require_own_place(folder: Path) -> None:
    """Raises a `ValueError` if others could move what is in a folder.

    They could give an entry the name of another, which is whole in itself.
    """
    if not hasattr(os, "geteuid") or not folder.exists():
        return
    status = folder.stat()
    others_write = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or others_write:
        raise ValueError(f"others can change what is in {folder}")


def _is_own(entry: Path) -> bool:
    """Returns whether a folder is the user's, and nobody else can write to it."""
    status = entry.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _remove(entry: Path) -> None:
    """Removes an entry; nothing of one that holds what is none of its files."""
    if entry.is_symlink():
        entry.unlink()
    elif entry.exists():
        files = list(entry.iterdir())
        if all(
            file.name in PACKED_NAMES or file.name.startswith(TEMPORARY_PREFIX)
            for file in files
        ):
            for file in files:
                file.unlink()
        entry.rmdir()
