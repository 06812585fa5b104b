"""WebDataset: tars in which files of one name are an image and its label.

`000123.jpg` and `000123.cls`, `000123.json` or `000123.txt` beside it, one after the
other, in one tar or in many, which are read one by one, each image once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from emotion_cnn.data.images import IMAGE_SUFFIXES
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import Container, Member, open_container
from emotion_cnn.importing.formats.class_folders import decoded_record, read_image
from emotion_cnn.importing.formats.label_list import LABEL_COLUMNS
from emotion_cnn.importing.names import split_in_path
from emotion_cnn.importing.records import (
    PART_NAMES,
    BadRecord,
    ClassNames,
    LeftOut,
    Record,
    Source,
    is_split,
    usages_of,
)

KIND = "WebDataset tars, with an image and a .cls, .json or .txt of each name"

_TAR = "tar archive"
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LABELS = (".cls", ".json", ".txt")
"""What names of labels end with; the first that an image has is taken."""
_LABEL_LIMIT = 2**16
_KEYS = ("cls", *LABEL_COLUMNS)
_WITHOUT_LABEL = f"image without a label of its name ({', '.join(_LABELS)}) beside it"
_WITHOUT_IMAGE = "label without an image"


@dataclass(frozen=True)
class _Tar:
    """A tar, and the part of a split that its name says."""

    member: Member
    path: Path
    part: str | None


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises a tar in which images have labels, or a folder of such tars.

    Names of tars tell the split: `train-000000.tar`, ...

    Args:
        container: The files of the source.
        class_names: What labels stand for.

    Returns:
        The images, tar by tar; None if the first tar has none with labels.

    Raises:
        SourceError: The first tar is damaged or not safe.
    """
    if container.kind == _TAR:
        if not _has_samples(container):
            return None
        return Source(
            kind=KIND,
            members=_used(container),
            has_split=False,
            has_votes=False,
            total=None,
            unit=" images",
            records=partial(_records, container, None, "", class_names),
        )
    tars = [
        _Tar(member, member.path, PART_NAMES.get(split_in_path(member.name) or ""))
        for member in container.members
        if member.name.lower().endswith(_TAR_SUFFIXES) and member.path is not None
    ]
    if not tars or not _has_samples(_open(tars[0])):
        return None
    parts = {tar.part for tar in tars}
    return Source(
        kind=KIND,
        members=tuple(tar.member for tar in tars),
        has_split=is_split(parts),
        has_votes=False,
        total=None,
        unit=" images",
        records=partial(
            _records_of_all,
            tars,
            usages_of(parts) if is_split(parts) else {},
            class_names,
        ),
    )


def _open(tar: _Tar) -> Container:
    container = open_container(tar.path)
    if container.kind != _TAR:
        raise SourceError(
            f"Expected a tar in {shown(str(tar.path))}, as its name says, found "
            f"a {container.kind}. Rename it, or move it away."
        )
    return container


def _parts_of(member: Member) -> tuple[str, str]:
    """Returns the name that the files of an image share, and what follows it.

    The latter begins with the first dot of the file's name, as WebDataset has it.
    """
    folder, slash, file = member.name.rpartition("/")
    key, dot, suffix = file.partition(".")
    return folder + slash + key, (dot + suffix).lower()


def _used(container: Container) -> tuple[Member, ...]:
    suffixes = (*IMAGE_SUFFIXES, *_LABELS)
    return tuple(m for m in container.members if _parts_of(m)[1] in suffixes)


def _has_samples(container: Container) -> bool:
    images: set[str] = set()
    labels: set[str] = set()
    for member in _used(container):
        key, suffix = _parts_of(member)
        (images if suffix in IMAGE_SUFFIXES else labels).add(key)
    return not images.isdisjoint(labels)


def _records_of_all(
    tars: Sequence[_Tar], usages: Mapping[str | None, str], class_names: ClassNames
) -> Iterator[Record]:
    for tar in tars:
        usage, name = usages.get(tar.part), f"{tar.member.name}/"
        yield from _records(_open(tar), usage, name, class_names)


def _records(
    container: Container, usage: str | None, place: str, class_names: ClassNames
) -> Iterator[Record]:
    """Yields the images of a tar.

    Args:
        container: The tar.
        usage: Its part of the split.
        place: What goes before names in it, in messages.
        class_names: What labels stand for.
    """
    files = container.read(_used(container))
    for key, sample in groupby(files, lambda each: _parts_of(each[0])[0]):
        images: list[tuple[Member, bytes | BadRecord]] = []
        labels: dict[str, bytes] = {}
        for member, stream in sample:
            suffix = _parts_of(member)[1]
            if suffix in _LABELS:
                labels[suffix] = stream.read(_LABEL_LIMIT + 1)
            else:
                # Of a second one it only matters that it is there.
                named = replace(member, name=place + member.name)
                images.append((named, b"" if images else read_image(named, stream)))
        if not images:
            yield LeftOut(_WITHOUT_IMAGE, 0)
        elif len(images) > 1:
            yield BadRecord(place + key, f"{len(images)} images of one name")
        elif not labels:
            yield BadRecord(place + key, _WITHOUT_LABEL)
        else:
            suffix = next(each for each in _LABELS if each in labels)
            label = _find_label(place + key, suffix, labels[suffix], class_names)
            yield (
                label if not isinstance(label, int) else _read(*images[0], label, usage)
            )


def _read(
    member: Member, content: bytes | BadRecord, label: int, usage: str | None
) -> Record:
    if isinstance(content, BadRecord):
        return content
    return decoded_record(member, content, label, usage=usage)


def _find_label(
    place: str, suffix: str, content: bytes, class_names: ClassNames
) -> int | Record:
    if len(content) > _LABEL_LIMIT:
        return BadRecord(place, f"a label of more than {_LABEL_LIMIT:,} bytes")
    text = content.decode("utf-8", "replace")
    if suffix == ".json":
        try:
            text = _in_json(json.loads(text))
        except (ValueError, RecursionError):
            return BadRecord(place, "no valid JSON")
        if not text:
            return BadRecord(place, f"no label ({', '.join(_KEYS[:3])}, ...) in JSON")
    return class_names.find_label(text, place=place, advance=1)


def _in_json(value: Any) -> str:
    """Returns the label in what a `.json` holds; an empty text if there is none."""
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), None)
    return str(value) if isinstance(value, str | int | float) else ""
