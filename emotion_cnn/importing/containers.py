"""The files of a source: of a folder or an archive, neither of them trusted.

Nothing is unpacked to disk: members are listed first, and then read one after the
other as streams. No path is ever made of a member's name. The bytes and the members
that can be read are limited by the size of the archive, as a guard against
decompression bombs. All of an archive has to be accounted for: what is skipped in
silence could be images.
"""

import bz2
import functools
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emotion_cnn.errors import SourceError
from emotion_cnn.files import first_line, open_regular, shown

MEMBER_LIMIT = 1_000_000
"""Greatest number of files in a folder or an archive."""

RATIO_LIMIT = 200
"""How many times its own size an archive may unpack to; images reach about 10."""

ALWAYS_ALLOWED = 64 * 2**20
"""Bytes that any archive may unpack to: a small one may hold blank images."""

SMALLEST_FILE = 4096
"""Bytes that a file counts as at least: even an empty one takes a block on disk."""

HEADER_LIMIT = 2**20
"""Most bytes of a tar's additional headers, which are read whole into memory."""

_NUMBERED = re.compile(r"(.*)\{([0-9]{1,9})\.\.([0-9]{1,9})\}(.*)")

_XZ_MEMORY = 256 * 2**20
_NAME_LIMIT = 4096
HEAD_SIZE = 4096
"""Bytes of a file that are read to find out what it is."""

_BLOCK_SIZE = 2**16
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".lst")

_TAR_BLOCK = 512
_TAR_LONG_NAME, _TAR_LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_TAR_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_TAR_HEADERS = (*_TAR_PAX, tarfile.XGLTYPE, _TAR_LONG_NAME, _TAR_LONG_LINK)
_TAR_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE)

_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ENCRYPTED, _ZIP_DESCRIPTOR, _ZIP_UTF8 = 0x1, 0x8, 0x800
_ZIP_DESCRIPTOR_SIZES: tuple[int, ...] = (0, 12, 16, 20, 24)

_DAMAGED = (
    EOFError,
    MemoryError,
    OSError,
    OverflowError,
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
            their first bytes. Or several files, as in `train-{000..012}.tar`.

    Raises:
        SourceError: It is missing, damaged, or an archive that is not safe.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.exists() and (match := _NUMBERED.fullmatch(path.name)):
        return _open_numbered(path, *match.groups())
    if not path.is_file():
        raise SourceError(
            "Expected a file, an archive or a folder to import, found no "
            f"{shown(str(path))}. Check `source`."
        )
    with _bounded(path, None) as file:
        magic = file.read(8)
    if magic.startswith(b"PK"):
        return _open_zip(path)
    opener = _unpacker(path, magic)
    with io.BufferedReader(_bounded(path, opener)) as stream:
        head = stream.read(HEAD_SIZE)
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

    def readinto(self, buffer: Any) -> int:
        try:
            if self._stream is None:
                self._stream = self._opener()
            count: int = self._stream.readinto(buffer)
        except _DAMAGED as error:
            raise _damaged(self._path, error) from error
        self._position += count
        if self._limit is not None and self._position > self._limit:
            raise bomb(self._path)
        return count

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()


class _Section(io.RawIOBase):
    """The next bytes of a stream, as a stream of their own."""

    def __init__(self, path: Path, stream: IO[bytes], size: int) -> None:
        super().__init__()
        self._path, self._stream, self._left = path, stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _next(self, size: int) -> bytes:
        content = self._stream.read(min(size, self._left))
        if not content and size and self._left:
            raise _damaged(self._path, EOFError("it ends within a file"))
        self._left -= len(content)
        return content

    def skip(self) -> None:
        """Reads to the end, even if closed."""
        while self._left:
            self._next(_BLOCK_SIZE)


class _Decompressed(io.RawIOBase):
    """A .bz2 or .xz file; bz2.open and lzma.open ignore what they cannot read."""

    def __init__(self, path: Path, create: Callable[[], Any]) -> None:
        super().__init__()
        self._create = create
        self._decompressor = create()
        self._file = path.open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            packed = b""
            if self._decompressor.eof:
                # Another one may follow, after zeros: several make one file.
                packed = self._decompressor.unused_data.lstrip(b"\0")
                while not packed and (block := self._file.read(_BLOCK_SIZE)):
                    packed = block.lstrip(b"\0")
                if not packed:
                    return 0
                self._decompressor = self._create()
            elif self._decompressor.needs_input:
                packed = self._file.read(_BLOCK_SIZE)
                if not packed:
                    raise EOFError("it ends too early")
            content = self._decompressor.decompress(packed, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _bounded(path: Path, opener: Callable[[], Any] | None) -> _Stream:
    """Returns a stream of a file, decompressed up to the limit if need be."""
    if opener is None:
        return _Stream(path, functools.partial(_open_file, path))
    return _Stream(path, opener, unpacked_limit(path))


def _open_file(path: Path) -> IO[bytes]:
    """Opens a regular file, which the stream that it is for closes."""
    with open_regular(path) as file:
        return os.fdopen(os.dup(file.fileno()), "rb")


def unpacked_limit(path: Path) -> int:
    """Returns how many bytes a packed file may unpack to."""
    return max(ALWAYS_ALLOWED, RATIO_LIMIT * path.stat().st_size)


def _unpacker(path: Path, magic: bytes) -> Callable[[], Any] | None:
    """Returns what opens a compressed file; None if it is not compressed."""
    if magic.startswith(b"\x1f\x8b"):
        return lambda: gzip.open(path)
    if magic.startswith(b"BZh"):
        return lambda: _Decompressed(path, bz2.BZ2Decompressor)
    if magic.startswith(b"\xfd7zXZ\0"):
        create = functools.partial(
            lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY
        )
        return lambda: _Decompressed(path, create)
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
                if _is_system(name):
                    continue
                path = Path(place, name)
                relative = path.relative_to(folder).as_posix()
                size = path.stat().st_size if path.is_file() else 0
                head = b""
                if _is_table(name):
                    with suppress(ValueError), open_regular(path) as file:
                        head = file.read(HEAD_SIZE)
                members.append(Member(relative, size, len(members), head, path))
                check_count(folder, len(members), MEMBER_LIMIT)
    except OSError as error:
        raise SourceError(
            "Expected a readable folder in `source`, found that "
            f"{shown(str(error.filename))} cannot be read: {first_line(error)}. Fix or "
            "remove it."
        ) from error
    except RecursionError:
        raise SourceError(
            f"Expected images in folders of folders in `source`, found in "
            f"{shown(str(folder))} hundreds of folders one in the other. Choose the "
            "folder that holds only the images."
        ) from None

    return Container(folder, "folder", tuple(members), _reader_of(members))


def _open_numbered(
    path: Path, before: str, first: str, last: str, after: str
) -> Container:
    """Lists the files that a name such as `train-{000..012}.tar` stands for."""
    numbers = range(int(first), int(last) + 1)
    check_count(path, len(numbers), MEMBER_LIMIT)
    names = [f"{before}{number:0{len(first)}}{after}" for number in numbers]
    files = [path.with_name(name) for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        found = f"no {shown(str(missing[0]))}" if missing else "no number"
        raise SourceError(
            f"Expected all files that {shown(str(path))} stands for, found {found}. "
            "Check `source`."
        )
    members = [
        Member(file.name, file.stat().st_size, index, path=file)
        for index, file in enumerate(files)
    ]
    return Container(path, "numbered files", tuple(members), _reader_of(members))


def _reader_of(members: Iterable[Member]) -> _Reader:
    """Returns what reads files that are not in an archive."""

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        for member in members:
            if member.index in indices and member.path is not None:
                with io.BufferedReader(_bounded(member.path, None)) as stream:
                    yield member.index, stream

    return read


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _open_zip(path: Path) -> Container:
    members = []
    with _damage(path), zipfile.ZipFile(path) as archive:
        check_count(path, len(archive.infolist()), most_members(path))
        if sum(info.file_size for info in archive.infolist()) > unpacked_limit(path):
            raise bomb(path)
        _check_layout(path, archive)
        for index, info in enumerate(archive.infolist()):
            name = _checked_name(path, info.filename)
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(path, f"{name!r} is a link or a device in it")
            if info.is_dir() or _is_system(*name.split("/")):
                continue
            if info.flag_bits & _ZIP_ENCRYPTED:
                raise _unknown_packing(path, name, "is encrypted")
            if info.compress_type not in _ZIP_METHODS:
                raise _unknown_packing(
                    path, name, f"is packed by method {info.compress_type}"
                )
            head = b""
            if _is_table(name):
                with archive.open(info) as file:
                    head = file.read(HEAD_SIZE)
            members.append(Member(name, info.file_size, index, head))

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        with _damage(path), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            for index in sorted(indices):
                opener = functools.partial(archive.open, infos[index])
                with io.BufferedReader(_Stream(path, opener)) as stream:
                    yield index, stream

    _require_distinct(path, members)
    return Container(path, "zip archive", tuple(members), read)


def _unknown_packing(path: Path, name: str, what: str) -> SourceError:
    return SourceError(
        f"Expected an archive without a password, packed by the usual method "
        f"(deflate), found that {name!r} in {shown(str(path))} {what}. Unpack it, and "
        "choose the folder with `source`."
    )


def _check_layout(path: Path, archive: zipfile.ZipFile) -> None:
    """Makes sure that a zip's entries fill it without a gap, an overlap or a rest.

    zipfile believes the list at its end, which damage can shorten, and which need
    not be of all that comes before it.

    Raises:
        SourceError: They do not, or their names differ from those in the list.
    """

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise _damaged(path, ValueError(what))

    with path.open("rb") as file:
        end, gaps = 0, _ZIP_DESCRIPTOR_SIZES[:1]
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            require(info.header_offset - end in gaps, "its files overlap or leave gaps")
            file.seek(info.header_offset)
            header = file.read(30)
            require(header.startswith(b"PK\x03\x04") and len(header) == 30, "no file")
            name_length = int.from_bytes(header[26:28], "little")
            extra_length = int.from_bytes(header[28:30], "little")
            encoding = "utf-8" if info.flag_bits & _ZIP_UTF8 else "cp437"
            name = file.read(name_length).decode(encoding, "replace")
            require(name == info.orig_filename, "names in it differ from its list")
            end = file.tell() + extra_length + info.compress_size
            has_descriptor = info.flag_bits & _ZIP_DESCRIPTOR
            gaps = (
                _ZIP_DESCRIPTOR_SIZES if has_descriptor else _ZIP_DESCRIPTOR_SIZES[:1]
            )
        require(archive.start_dir - end in gaps, "its list leaves files out")
        file.seek(-22 - len(archive.comment), os.SEEK_END)
        record = file.read(22)
        count = len(archive.infolist())
        require(record.startswith(b"PK\x05\x06"), "something follows its end")
        found = int.from_bytes(record[10:12], "little")
        require(found in (min(count, 0xFFFF), count & 0xFFFF), "its list is too short")


def _open_tar(path: Path, opener: Callable[[], Any] | None) -> Container:
    members = []
    limit = most_members(path)
    for index, info, stream in _walk_tar(path, opener):
        check_count(path, index + 1, limit)
        name = _checked_name(path, info.name)
        if info.type not in _TAR_FILES:
            raise _unsafe(path, f"{name!r} is a link or a device in it")
        if info.isdir() or _is_system(*name.split("/")):
            continue
        head = stream.read(HEAD_SIZE) if _is_table(name) else b""
        members.append(Member(name, info.size, index, head))

    def read(indices: Set[int]) -> Iterator[tuple[int, IO[bytes]]]:
        for index, _, stream in _walk_tar(path, opener):
            if index in indices:
                yield index, stream

    _require_distinct(path, members)
    return Container(path, "tar archive", tuple(members), read)


def _require_distinct(path: Path, members: Iterable[Member]) -> None:
    """Raises a `SourceError` if a file of an archive would replace another."""
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise SourceError(
                f"Expected every file once in {path}, found {member.name!a} twice. "
                "Unpack it, and choose the folder with `source`."
            )
        seen.add(member.name)


def _walk_tar(
    path: Path, opener: Callable[[], Any] | None
) -> Iterator[tuple[int, tarfile.TarInfo, IO[bytes]]]:
    """Yields the position, the header and the bytes of every entry, in one pass.

    Not by `tarfile.TarFile`, which takes a damaged header for the end, and whose
    time for a header grows with the square of its size (CVE-2024-6232).
    """
    with io.BufferedReader(_bounded(path, opener), _BLOCK_SIZE) as stream:
        index = 0
        while (info := _tar_header(path, stream)) is not None:
            section = _Section(path, stream, info.size)
            yield index, info, io.BufferedReader(section)
            section.skip()
            _exactly(path, stream, -info.size % _TAR_BLOCK)
            index += 1
        _exactly(path, stream, _TAR_BLOCK)
        # To the end: a compressed file has its checksum there.
        while block := stream.read(_BLOCK_SIZE):
            if block.strip(b"\0"):
                raise _damaged(path, ValueError("something follows its end"))


def _tar_header(path: Path, stream: IO[bytes]) -> tarfile.TarInfo | None:
    """Returns the header of the next entry; None for the block that ends a tar.

    Raises:
        SourceError: There is neither, or a header that is too large to read.
    """
    changes: dict[str, Any] = {}
    while block := _exactly(path, stream, _TAR_BLOCK).rstrip(b"\0"):
        with _damage(path):
            info = tarfile.TarInfo.frombuf(
                block.ljust(_TAR_BLOCK, b"\0"), "utf-8", "surrogateescape"
            )
            if info.size < 0:
                raise ValueError("negative size")
        if info.type not in _TAR_HEADERS:
            info.name = changes.get("name", info.name)
            info.size = 0 if info.isdir() else changes.get("size", info.size)
            return info
        if info.size > HEADER_LIMIT:
            raise _unsafe(path, f"it holds a header of {info.size:,} bytes")
        content = _exactly(path, stream, info.size)
        _exactly(path, stream, -info.size % _TAR_BLOCK)
        with _damage(path):
            if info.type == _TAR_LONG_NAME:
                changes["name"] = _tar_text(content.split(b"\0")[0])
            elif info.type in _TAR_PAX:
                changes |= _pax_changes(content)
    if changes:
        raise _damaged(path, EOFError("it ends within a file's headers"))
    return None


def _pax_changes(content: bytes) -> dict[str, Any]:
    """Returns the name and the size in a header of lines such as `17 path=a.png`.

    Raises:
        ValueError: It is not made of such lines, or describes a sparse file.
    """
    changes: dict[str, Any] = {}
    position = 0
    while content[position : position + 1].strip(b"\0"):
        digits = content[position : position + 20].split(b" ")[0]
        if not digits.isdigit():
            raise ValueError("a header without a length")
        record = content[position : position + int(digits)]
        position += int(digits)
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not (equals and value.endswith(b"\n")) or position > len(content):
            raise ValueError("a header of another length than it says")
        if key == b"path":
            changes["name"] = _tar_text(value[:-1])
        elif key == b"size":
            if not (value[:-1].isdigit() and len(value) <= 20):
                raise ValueError("a size that is no number")
            changes["size"] = int(value)
        elif key.startswith(b"GNU.sparse."):
            raise ValueError("a sparse file")
    return changes


def _tar_text(text: bytes) -> str:
    return text.rstrip(b"/").decode("utf-8", "surrogateescape")


def _exactly(path: Path, stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise _damaged(path, EOFError("it ends without the mark of its end"))
    return content


def _checked_name(path: Path, name: str) -> str:
    """Returns a member's name with forward slashes.

    Raises:
        SourceError: It would lead out of the folder that it is unpacked to.
    """
    if len(name) > _NAME_LIMIT:
        raise _unsafe(path, f"it holds a name of {len(name):,} characters")
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
    return name.lower().endswith(_TABLE_SUFFIXES)


def most_members(path: Path) -> int:
    """Returns how many files an archive may hold, each as large as a block on disk."""
    return min(MEMBER_LIMIT, unpacked_limit(path) // SMALLEST_FILE)


def check_count(path: Path, count: int, limit: int) -> None:
    """Raises a `SourceError` if there are more files, or images, than a limit."""
    if count > limit:
        raise SourceError(
            f"Expected at most {limit:,} files in `source`, found more in "
            f"{shown(str(path))}. Choose a folder that holds only the images."
        )


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, error: BaseException) -> SourceError:
    reason = first_line(error)
    return SourceError(
        f"{shown(str(path))} cannot be read to its end: it is damaged or truncated "
        f"({shown(reason[:100])}). Expected a complete file: download or copy it again."
    )


def _unsafe(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{shown(str(path))} is not safe to import: {what}. Expected regular files "
        "inside the archive's folder. Download the archive from a source that you "
        "trust."
    )


def bomb(path: Path) -> SourceError:
    """Returns the error for a packed file that unpacks to more than its limit."""
    return _unsafe(
        path,
        f"it unpacks to more than {RATIO_LIMIT} times its own size "
        f"({path.stat().st_size:,} bytes), as a decompression bomb does",
    )
