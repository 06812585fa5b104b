"""Images in a folder per class, in a folder or an archive, with or without a split.

`train/<class>/` and `test/<class>/` as on Kaggle, and other names of classes and
splits, at any depth. A data folder from `emotion-cnn prepare` is read with its votes.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import takewhile
from pathlib import PurePosixPath
from typing import IO

from emotion_cnn.data.images import (
    IMAGE_FILE_LIMIT,
    IMAGE_SUFFIXES,
    Box,
    decode_image,
)
from emotion_cnn.data.votes import VOTES_LIMIT, VOTES_NAME, Votes, read_votes
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import Container, Member
from emotion_cnn.importing.names import row_in_name, safe_stem
from emotion_cnn.importing.records import (
    PART_NAMES,
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
    is_split,
    unknown_label,
    usages_of,
)

KIND = "images in a folder per class"

_OUTSIDE = "image outside the class folders"
_TWICE = "identical copy under the same name"
_PARTS_OF_A_NAME = re.compile(r"([A-Za-z]+)(?![A-Za-z])")
_SUFFIXES_LISTED = 20


@dataclass(frozen=True)
class _Entry:
    """An image by its path alone: `part`/.../`folder`/.../file, at any depth."""

    member: Member
    folder: str
    part: str | None
    outer: tuple[str, ...]
    """The other folders above it, which keep images of one name apart."""


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises images in folders at least one of which has the name of a class.

    Args:
        container: The files of the source.
        class_names: What the folders' names stand for.

    Returns:
        The images; None if there are none in such folders.

    Raises:
        SourceError: Its votes are too large.
    """
    if container.is_single:
        return None
    find_class = cache(class_names.find)
    entries = [
        _entry(member, find_class)
        for member in container.members
        if member.name.lower().endswith(IMAGE_SUFFIXES)
    ]
    known = [entry for entry in entries if find_class(entry.folder)]
    if not known:
        return None
    # A split only if there is something on both of its sides.
    parts = {entry.part for entry in known} - {None}
    has_split, notes = is_split(parts), []
    if has_split:
        # Beside train/ and test/, other folders are no classes of images.
        inside = [entry for entry in entries if entry.part]
        if count := sum(_contradicts(entry) for entry in inside):
            notes.append(
                f"{count:,} images are called after another part of a split than that "
                "of their folder: their folders decide"
            )
    else:
        inside = [entry for entry in entries if entry.folder]
        named = [replace(each, part=part_in_name(each.member)) for each in inside]
        parts = {entry.part for entry in named}
        without = sum(entry.part is None for entry in named)
        # Those of FER2013 mean nothing else, and no other image may train on them.
        is_official = not parts.isdisjoint((PUBLIC_TEST, PRIVATE_TEST))
        has_split = is_official or (
            is_split(parts - {None}) and 2 * without < len(named)
        )
        if has_split:
            # One's own photos beside FER2013's, say: never into what is tested on.
            inside = [replace(e, part=e.part or TRAINING) for e in named]
            parts = {entry.part for entry in inside}
            notes.append(
                "the split is that of the images' names, such as " + _example(inside)
            )
            if without:
                notes.append(f"{without:,} images without a part in their names: train")
    votes = [m for m in container.members if _file_name(m) == VOTES_NAME]
    for member in votes:
        if member.size > VOTES_LIMIT:
            raise SourceError(
                f"Expected at most {VOTES_LIMIT:,} bytes in {shown(member.name)}, "
                f"found {member.size:,}. Remove it."
            )
    # A damaged name may end its file's being an image.
    others = Counter(
        PurePosixPath(member.name).suffix.lower()[:20]
        for member in container.members
        if not member.name.lower().endswith(IMAGE_SUFFIXES)
        and find_class(_entry(member, find_class).folder) is not None
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
            {_OUTSIDE: len(entries) - len(inside), **_by_suffix(others)},
            votes,
            class_names,
            usages_of(parts) if has_split else {},
        ),
        notes=tuple(notes),
    )


def _entry(member: Member, find_class: Callable[[str], str | None]) -> _Entry:
    folders = PurePosixPath(member.name).parts[:-1]
    part_depth = next(
        (
            depth
            for depth in reversed(range(len(folders) - 1))
            if folders[depth].strip().lower() in PART_NAMES
        ),
        -1,
    )
    # A person or a sequence can have a folder below that of the class.
    depth = next(
        (
            depth
            for depth in reversed(range(part_depth + 1, len(folders)))
            if find_class(folders[depth])
        ),
        len(folders) - 1,
    )
    outer = tuple(f for n, f in enumerate(folders) if n not in (depth, part_depth))
    part = PART_NAMES[folders[part_depth].strip().lower()] if part_depth >= 0 else None
    return _Entry(member, folders[depth] if folders else "", part, outer)


def _file_name(member: Member) -> str:
    return PurePosixPath(member.name).name


def part_in_name(member: Member) -> str | None:
    """Returns the part of a split that an image's name begins with, if any.

    As in `PrivateTest_123.jpg` and `train_00001_aligned.jpg`.
    """
    match = _PARTS_OF_A_NAME.match(_file_name(member))
    return PART_NAMES.get(match[1].lower()) if match else None


def _contradicts(entry: _Entry) -> bool:
    """Returns whether a name and a folder are on different sides of a split."""
    part = part_in_name(entry.member)
    return part is not None and (part == TRAINING) != (entry.part == TRAINING)


def _example(entries: Sequence[_Entry]) -> str:
    return shown(next(_file_name(e.member) for e in entries if e.part != TRAINING))


def _by_suffix(counts: Counter[str]) -> dict[str, int]:
    """Returns reasons for leaving files out, and their numbers."""
    found = {
        f"{shown(suffix) or 'nameless'} file in the class folders, no image": count
        for suffix, count in counts.most_common(_SUFFIXES_LISTED)
    }
    if rest := counts.total() - sum(found.values()):
        found["other file in the class folders, no image"] = rest
    return found


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
    common = _common([entry.outer for entry in entries.values()])
    # Some archives hold everything twice, at two depths.
    same_names = Counter(_key(entries[member.index]) for member in known)
    seen: dict[tuple[str, ...], set[bytes]] = {}
    for member, stream in container.read(known):
        entry = entries[member.index]
        content = read_image(member, stream)
        if isinstance(content, BadRecord):
            yield content
            continue
        if same_names[_key(entry)] > 1:
            digests = seen.setdefault(_key(entry), set())
            digest = hashlib.sha256(content).digest()
            if digest in digests:
                yield LeftOut(_TWICE)
                continue
            digests.add(digest)
        yield decoded_record(
            member,
            content,
            labels[member.index],
            usage=usages.get(entry.part),
            prefix="_".join(entry.outer[common:]),
            votes=votes.get(member.name),
        )


def _key(entry: _Entry) -> tuple[str, ...]:
    """Returns what two copies of an image at different depths have in common."""
    return (entry.part or "", entry.folder, _file_name(entry.member))


def _common(paths: Sequence[tuple[str, ...]]) -> int:
    """Returns the number of folders that all paths begin with."""
    least, greatest = min(paths, default=()), max(paths, default=())
    same = takewhile(
        lambda pair: pair[0] == pair[1], zip(least, greatest, strict=False)
    )
    return len(list(same))


def read_image(member: Member, stream: IO[bytes]) -> bytes | BadRecord:
    """Returns the bytes of an image, within the limit of their number."""
    if member.size > IMAGE_FILE_LIMIT:
        return BadRecord(member.name, f"larger than {IMAGE_FILE_LIMIT:,} bytes")
    try:
        return stream.read(IMAGE_FILE_LIMIT)
    except SourceError as error:
        return BadRecord(member.name, str(error))


def decoded_record(
    member: Member,
    content: bytes,
    label: int,
    *,
    usage: str | None = None,
    prefix: str = "",
    votes: Votes | None = None,
    box: Box | None = None,
    advance: int = 1,
) -> Record:
    """Decodes an image that is a file of its own.

    Args:
        member: The file.
        content: Its bytes.
        label: Position of its class.
        usage: Its part of the split.
        prefix: What its name begins with, to be told from others of the same name.
        votes: Its votes.
        box: The part of it that is the face.
        advance: Its share of the source's total.
    """
    decoded = decode_image(io.BytesIO(content), box=box)
    if isinstance(decoded, str):
        return BadRecord(member.name, decoded, advance)
    image, before = decoded
    stem = PurePosixPath(member.name).stem
    usage, name = _official(usage, safe_stem(stem), prefix)
    return ImageRecord(
        image,
        label,
        usage,
        name,
        row_in_name(name),
        member.name,
        votes,
        before.changes(),
        advance,
        member.name,
    )


def _official(usage: str | None, stem: str, prefix: str) -> tuple[str | None, str]:
    """Returns the part of FER2013's split, and a name that begins with it."""
    if usage == TEST:
        for part in (PUBLIC_TEST, PRIVATE_TEST):
            if stem.startswith(part):
                usage = part
    name = safe_stem(f"{prefix}_{stem}") if prefix else stem
    if usage in (PUBLIC_TEST, PRIVATE_TEST) and not name.startswith(usage):
        name = f"{usage}_{name}"
    return usage, name
