"""The files of a source: of a folder or an archive, neither of them trusted.

Nothing is unpacked to disk: members are listed first, and then read one after the
other as streams. No path is ever made of a member's name. The bytes that can be
read are limited by the size of the archive, as a guard against decompression bombs.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emotion_cnn.errors import SourceError

MEMBER_LIMIT = 1_000_000
"""Greatest number of files in a folder or an archive."""

RATIO_LIMIT = 200
"""How many times its own size an archive may unpack to; images reach about 10."""

ALWAYS_ALLOWED = 64 * 2**20
"""Bytes that any archive may unpack to: a small one may hold blank images."""

READ_LIMIT = 64 * 2**20
"""Most bytes read at once: a tar's own headers are read whole into memory."""
_HEAD_SIZE = 4096
_TABLE_SUFFIX = ".csv"

_DAMAGED = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    NotImplementedError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Member:
    """A file of a container.

    Attributes:
        name: Its path in the container, with forward slashes.
        size: Its bytes when unpacked; 0 if only reading it would tell.
        index: Its position in the container.
        head: Its first bytes, if it may be a table.
        path: Where it is on disk; None if it is in an archive.
    """

    name: str
    size: int
    index: int
    head: bytes = b""
    path: Path | None = None


_Reader = Callable[[Set[int]], Iterator[tuple[int, IO[bytes]]]]


@dataclass(frozen=True, eq=False)
class Container:
    """A source as a list of files, however it is packed.

    Attributes:
        path: The source.
        kind: What it is, in words.
        members: Its files, without folders and the files of operating systems.
    """

    path: Path
    kind: str
    members: tuple[Member, ...]
    _reader: _Reader

    @property
    def is_single(self) -> bool:
        """Whether it is a single file, whose name can be anything."""
        return self.kind == "file"

    def read(self, members: Iterable[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
        """Yields some members and their bytes, in the container's own order.

        A stream is open until the next one is yielded.

        Raises:
            SourceError: The container is damaged; also from reading a stream.
        """
        by_index = {member.index: member for member in members}
        for index, stream in self._reader(by_index.keys()):
            yield by_index[index], stream

    def sha256(self, members: Iterable[Member]) -> str:
        """Returns the hash of the file, or of the names and bytes in a folder.

        Args:
            members: The files of a folder to include.
        """
        if self.path.is_file():
            with self.path.open("rb") as file:
                return _sha256(file)
        digest = hashlib.sha256()
        for member, stream in self.read(members):
            name = member.name.encode(errors="surrogatepass")
            digest.update(name + b"\0" + _sha256(stream).encode() + b"\n")
        return digest.hexdigest()


def open_container(path: Path) -> Container:
    """Lists what a source holds.

    Args:
        path: A folder, an archive (.zip; .tar, also as .gz, .bz2 or .xz) or any
            other file, perhaps compressed with gzip, bzip2 or xz. Recognised by
            their first bytes.

    Raises:
        SourceError: It is missing, damaged, or an archive that is not safe.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise SourceError(
            f"Expected a file, an archive or a folder to import, found no {path}. "
            "Check `source`."
        )
    with _Stream(path, lambda: path.open("rb")) as file:
        magic = file.read(8)
    if magic.startswith(b"PK"):
        return _open_zip(path)
    opener = _unpacker(path, magic)
    with io.BufferedReader(_bounded(path, opener)) as stream:
        head = stream.read(_HEAD_SIZE)
    if head[257:262] == b"ustar":
        return _open_tar(path, opener)

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        with io.BufferedReader(_bounded(path, opener)) as stream:
            yield 0, stream

    is_packed = opener is not None
    size = _unpacked_size(path, magic) if is_packed else path.stat().st_size
    member = Member(path.name, size, 0, head, None if is_packed else path)
    return Container(path, "file", (member,), read)


class _Stream(io.RawIOBase):
    """Reads forward only, up to a limit; raises `SourceError` for any failure."""

    def __init__(
        self, path: Path, opener: Callable[[], Any], limit: int | None = None
    ) -> None:
        super().__init__()
        self._path, self._opener, self._limit = path, opener, limit
        self._stream: Any = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # Forward, which is all that tarfile needs.

    def readinto(self, buffer: Any) -> int:
        if len(buffer) > READ_LIMIT:
            raise _unsafe(self._path, "it holds a header of many megabytes")
        try:
            if self._stream is None:
                self._stream = self._opener()
            count: int = self._stream.readinto(buffer)
        except _DAMAGED as error:
            raise _damaged(self._path, error) from error
        self._position += count
        if self._limit is not None and self._position > self._limit:
            raise _bomb(self._path)
        return count

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("this stream only goes forward")
        while self._position < offset:
            if not self.read(min(2**16, offset - self._position)):
                break
        return self._position

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()


def _bounded(path: Path, opener: Callable[[], Any] | None) -> _Stream:
    """Returns a stream of a file, decompressed up to the limit if need be."""
    if opener is None:
        return _Stream(path, lambda: path.open("rb"))
    return _Stream(path, opener, _unpacked_limit(path))


def _unpacked_limit(path: Path) -> int:
    return max(ALWAYS_ALLOWED, RATIO_LIMIT * path.stat().st_size)


def _unpacker(path: Path, magic: bytes) -> Callable[[], Any] | None:
    """Returns what opens a compressed file; None if it is not compressed."""
    if magic.startswith(b"\x1f\x8b"):
        return lambda: gzip.open(path)
    if magic.startswith(b"BZh"):
        return lambda: bz2.open(path)
    if magic.startswith(b"\xfd7zXZ\0"):
        return lambda: lzma.open(path)
    return None


def _unpacked_size(path: Path, magic: bytes) -> int:
    """Returns the size that a .gz states at its end (modulo 4 GiB), else 0."""
    if not magic.startswith(b"\x1f\x8b"):
        return 0
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _open_folder(folder: Path) -> Container:
    members: list[Member] = []
    seen: set[tuple[int, int]] = set()
    try:
        for place, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
            # A link may lead to an outer folder: each folder is listed once.
            status = Path(place).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(name for name in folders if not _is_system(name))
            for name in sorted(files):
                path = Path(place, name)
                if _is_system(name) or not (path.is_file() or path.is_symlink()):
                    continue
                relative = path.relative_to(folder).as_posix()
                size = path.stat().st_size if path.is_file() else 0
                head = b""
                if _is_table(name) and path.is_file():
                    with path.open("rb") as file:
                        head = file.read(_HEAD_SIZE)
                members.append(Member(relative, size, len(members), head, path))
                _check_count(folder, len(members))
    except OSError as error:
        raise SourceError(
            f"Expected a readable folder in `source`, found that {error.filename} "
            f"cannot be read: {error.strerror}. Fix or remove it."
        ) from error

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        for member in members:
            if member.index in indices:
                path = folder / member.name
                with io.BufferedReader(_bounded(path, None)) as stream:
                    yield member.index, stream

    return Container(folder, "folder", tuple(members), read)


def _raise(error: OSError) -> None:
    raise error


def _open_zip(path: Path) -> Container:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_count(path, len(archive.infolist()))
            if sum(i.file_size for i in archive.infolist()) > _unpacked_limit(path):
                raise _bomb(path)
            members = []
            for index, info in enumerate(archive.infolist()):
                name = _checked_name(path, info.filename)
                mode = info.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _unsafe(path, f"{name!r} is a link or a device in it")
                if info.is_dir() or _is_system(*name.split("/")):
                    continue
                if info.flag_bits & 1:
                    raise SourceError(
                        f"Expected an archive without a password, found that "
                        f"{name!r} in {path} is encrypted. Unpack it, and choose "
                        "the folder with `source`."
                    )
                head = b""
                if _is_table(name):
                    with archive.open(info) as file:
                        head = file.read(_HEAD_SIZE)
                members.append(Member(name, info.file_size, index, head))
    except _DAMAGED as error:
        raise _damaged(path, error) from error

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            for index in sorted(indices):
                opener = _member_opener(archive, infos[index])
                with io.BufferedReader(_Stream(path, opener)) as stream:
                    yield index, stream

    return Container(path, "zip archive", tuple(members), read)


def _member_opener(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Callable[[], Any]:
    return lambda: archive.open(info)


def _open_tar(path: Path, opener: Callable[[], Any] | None) -> Container:
    members = []
    for index, info, stream in _walk_tar(path, opener):
        _check_count(path, index + 1)
        name = _checked_name(path, info.name)
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise _unsafe(path, f"{name!r} is a link or a device in it")
        if info.isdir() or _is_system(*name.split("/")):
            continue
        head = stream().read(_HEAD_SIZE) if _is_table(name) else b""
        members.append(Member(name, info.size, index, head))

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        for index, _, stream in _walk_tar(path, opener):
            if index in indices:
                yield index, stream()

    return Container(path, "tar archive", tuple(members), read)


def _walk_tar(
    path: Path, opener: Callable[[], Any] | None
) -> Iterator[tuple[int, tarfile.TarInfo, Callable[[], IO[bytes]]]]:
    """Yields the position, the header and an opener of every entry, in one pass."""
    with ExitStack() as stack:
        stream = stack.enter_context(_bounded(path, opener))
        try:
            archive = stack.enter_context(tarfile.TarFile(fileobj=stream))
            index = 0
            while (info := archive.next()) is not None:
                yield index, info, _entry_opener(path, archive, info)
                archive.members.clear()  # type: ignore[attr-defined]  # or they pile up
                index += 1
            while stream.read(2**16):  # A compressed file ends with its checksum.
                pass
        except _DAMAGED as error:
            raise _damaged(path, error) from error


def _entry_opener(
    path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo
) -> Callable[[], IO[bytes]]:
    return lambda: io.BufferedReader(_Stream(path, lambda: archive.extractfile(info)))


def _checked_name(path: Path, name: str) -> str:
    """Returns a member's name with forward slashes.

    Raises:
        SourceError: It would lead out of the folder that it is unpacked to.
    """
    name = name.replace("\\", "/")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise _unsafe(path, f"{name!r} in it leads out of the folder it is for")
    return "/".join(part for part in parts if part not in ("", "."))


def _is_system(*names: str) -> bool:
    return any(
        name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")
        for name in names
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(_TABLE_SUFFIX)


def _check_count(path: Path, count: int) -> None:
    if count > MEMBER_LIMIT:
        raise SourceError(
            f"Expected at most {MEMBER_LIMIT:,} files in `source`, found more in "
            f"{path}. Choose the folder that holds only the images."
        )


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, error: BaseException) -> SourceError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return SourceError(
        f"{path} cannot be read to its end: it is damaged or truncated "
        f"({reason[:100]}). Expected a complete file: download or copy it again."
    )


def _unsafe(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{path} is not safe to import: {what}. Expected regular files inside the "
        "archive's folder. Download the archive from a source that you trust."
    )


def _bomb(path: Path) -> SourceError:
    return _unsafe(
        path,
        f"it unpacks to more than {RATIO_LIMIT} times its own size "
        f"({path.stat().st_size:,} bytes), as a decompression bomb does",
    )
