"""Images in a folder per class, in a folder or an archive, with or without a split.

`train/<class>/` and `test/<class>/` as on Kaggle, and other names of classes and
splits, at any depth. A data folder from `emotion-cnn prepare` is read with its votes.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from emotion_cnn.data.images import IMAGE_FILE_LIMIT, decode_image
from emotion_cnn.data.votes import VOTES_LIMIT, VOTES_NAME, Votes, read_votes
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import Container, Member
from emotion_cnn.importing.names import row_in_name, safe_stem
from emotion_cnn.importing.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    BadRecord,
    ClassNames,
    ImageRecord,
    LeftOut,
    Record,
    Source,
    unknown_label,
)

KIND = "images in a folder per class"

_SUFFIXES = (".jpg", ".jpeg", ".png")

_PARTS = {
    "train": TRAINING,
    "training": TRAINING,
    "test": TEST,
    "testing": TEST,
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "publictest": PUBLIC_TEST,
    "privatetest": PRIVATE_TEST,
}
_OUTSIDE = "image outside the class folders"
_OTHER = "file of another kind in the class folders"


@dataclass(frozen=True)
class _Entry:
    """An image by its path alone: `part`/.../`folder`/file, at any depth."""

    member: Member
    folder: str
    part: str | None
    inner_name: str
    """The path below the folder that holds the parts, or the classes."""


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises images in folders at least one of which has the name of a class.

    Args:
        container: The files of the source.
        class_names: What the folders' names stand for.

    Returns:
        The images; None if there are none in such folders.

    Raises:
        SourceError: The source holds the same folders twice.
    """
    if container.is_single:
        return None
    entries = [
        _entry(member)
        for member in container.members
        if member.name.lower().endswith(_SUFFIXES)
    ]
    known = [entry for entry in entries if class_names.find(entry.folder)]
    if not known:
        return None
    # A split only if there is something on both of its sides.
    parts = {entry.part for entry in known} - {None}
    has_split = TRAINING in parts and len(parts) > 1
    if has_split:
        # Beside train/ and test/, other folders are no classes of images.
        usages = _usages(parts)
        inside = [entry for entry in entries if entry.part]
    else:
        usages = {}
        inside = [entry for entry in entries if entry.folder]
    _refuse_copies(container, inside)
    votes = [m for m in container.members if _file_name(m) == VOTES_NAME]
    for member in votes:
        if member.size > VOTES_LIMIT:
            raise SourceError(
                f"Expected at most {VOTES_LIMIT:,} bytes in {shown(member.name)}, "
                f"found {member.size:,}. Remove it."
            )
    # A damaged name may end its file's being an image.
    others = sum(
        class_names.find(PurePosixPath(member.name).parent.name) is not None
        for member in container.members
        if not member.name.lower().endswith(_SUFFIXES)
    )
    images = tuple(entry.member for entry in inside)
    return Source(
        kind=KIND,
        members=images + tuple(votes),
        has_split=has_split,
        has_votes=bool(votes),
        total=len(inside) + (1 if len(entries) > len(inside) else 0),
        unit=" images",
        records=partial(
            _records,
            container,
            {entry.member.index: entry for entry in inside},
            {_OUTSIDE: len(entries) - len(inside), _OTHER: others},
            votes,
            class_names,
            usages,
        ),
    )


def _entry(member: Member) -> _Entry:
    folders = list(PurePosixPath(member.name).parts[:-1])
    folder = folders.pop() if folders else ""
    for depth in reversed(range(len(folders))):
        if part := _PARTS.get(folders[depth].strip().lower()):
            inner = "/".join(PurePosixPath(member.name).parts[depth:])
            return _Entry(member, folder, part, inner)
    return _Entry(member, folder, None, f"{folder}/{_file_name(member)}")


def _file_name(member: Member) -> str:
    return PurePosixPath(member.name).name


def _usages(parts: set[str | None]) -> Mapping[str | None, str]:
    """Returns the usage of each part; with a test part, validation is PublicTest."""
    usages: dict[str | None, str] = {
        part: part for part in parts if part and part != "validation"
    }
    if "validation" in parts:
        if TEST in parts:
            usages |= {"validation": PUBLIC_TEST, TEST: PRIVATE_TEST}
        else:
            usages["validation"] = TEST
    return usages


def _refuse_copies(container: Container, entries: list[_Entry]) -> None:
    """Raises a `SourceError` if images appear at two depths, as in some archives."""
    seen: dict[str, Member] = {}
    for entry in entries:
        other = seen.setdefault(entry.inner_name, entry.member)
        if other is not entry.member:
            raise SourceError(
                f"Expected every image once in {container.path}, found both "
                f"{other.name!a} and {entry.member.name!a}. Choose one of the two "
                "folders with `source` (unpack an archive first)."
            )


def _records(
    container: Container,
    entries: Mapping[int, _Entry],
    left_out: Mapping[str, int],
    votes_files: list[Member],
    class_names: ClassNames,
    usages: Mapping[str | None, str],
) -> Iterator[Record]:
    votes: dict[str, Votes] = {}
    for member, stream in container.read(votes_files):
        root = member.name[: -len(VOTES_NAME)]
        found = read_votes(stream, container.path / member.name)
        votes |= {root + name: counts for name, counts in found.items()}
    for reason, count in left_out.items():
        for number in range(count):
            yield LeftOut(reason, advance=int(reason == _OUTSIDE and number == 0))
    unknown: dict[str, list[Member]] = {}
    labels: dict[int, int] = {}
    known = []
    for index, entry in entries.items():
        label = class_names.find_label(entry.folder, place=entry.member.name, advance=1)
        if isinstance(label, int):
            labels[index] = label
            known.append(entry.member)
        elif isinstance(label, LeftOut):
            yield label
        else:
            folder = str(PurePosixPath(entry.member.name).parent)
            unknown.setdefault(folder, []).append(entry.member)
    for folder, members in unknown.items():
        reason = unknown_label(PurePosixPath(folder).name)
        reason += f", {len(members):,} images"
        yield BadRecord(folder, reason, len(members))
    for member, stream in container.read(known):
        usage = usages.get(entries[member.index].part)
        yield _read(member, stream, labels[member.index], usage, votes)


def _read(
    member: Member,
    stream: IO[bytes],
    label: int,
    usage: str | None,
    votes: Mapping[str, Votes],
) -> Record:
    if member.size > IMAGE_FILE_LIMIT:
        return BadRecord(member.name, f"larger than {IMAGE_FILE_LIMIT:,} bytes")
    try:
        content = stream.read(IMAGE_FILE_LIMIT)
    except SourceError as error:
        return BadRecord(member.name, str(error))
    decoded = decode_image(io.BytesIO(content))
    if isinstance(decoded, str):
        return BadRecord(member.name, decoded)
    image, before = decoded
    usage, name = _official(usage, safe_stem(PurePosixPath(member.name).stem))
    return ImageRecord(
        image,
        label,
        usage,
        name,
        row_in_name(name),
        member.name,
        votes.get(member.name),
        before.changes(),
    )


def _official(usage: str | None, name: str) -> tuple[str | None, str]:
    """Returns the part of FER2013's split, and a name that begins with it."""
    if usage == TEST:
        for part in (PUBLIC_TEST, PRIVATE_TEST):
            if name.startswith(part):
                return part, name
    if usage in (PUBLIC_TEST, PRIVATE_TEST) and not name.startswith(usage):
        return usage, f"{usage}_{name}"
    return usage, name
