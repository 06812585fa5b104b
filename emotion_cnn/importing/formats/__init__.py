"""The formats that can be imported: a module each, with a `KIND` and a `find`.

`find(container, class_names)` returns a `Source`, or None if it is another format.
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from emotion_cnn.data.packed import PACKED_NAMES
from emotion_cnn.errors import MissingPackageError, SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import Container
from emotion_cnn.importing.formats import (
    class_folders,
    csv_table,
    label_list,
    named_images,
    parquet,
    webdataset,
)
from emotion_cnn.importing.formats.csv_table import EMOTION, find_layout
from emotion_cnn.importing.records import ClassNames, Source

FORMATS = (*(class_folders, csv_table, parquet, webdataset, label_list, named_images),)
"""A new format is added here. Where a source holds several, the first is taken: those
that are files can be chosen themselves, and class folders cannot."""
_SHOWN_AT_MOST = 8

_log = logging.getLogger(__name__)


def find_source(container: Container, class_names: ClassNames) -> Source:
    """Recognises what a container holds.

    Args:
        container: The files of the source.
        class_names: What its labels stand for.

    Returns:
        The source. If it holds others too, its notes say how to take them.

    Raises:
        SourceError: It has no format that is known, or a fault.
        MissingPackageError: Its format needs a package that is not installed.
    """
    found: list[Source] = []
    errors: list[SourceError | MissingPackageError] = []
    for each in FORMATS:
        try:
            source = each.find(container, class_names)
        except (SourceError, MissingPackageError) as error:
            errors.append(error)
        else:
            found += [source] if source else []
    if found:
        return _with_others(found, container)
    if errors:
        raise errors[0]
    raise SourceError(_nothing(container))


def _with_others(found: list[Source], container: Container) -> Source:
    """Returns the first of several sources, with a note of the others."""
    first, *others = found
    notes = list(first.notes)
    for other in others:
        if set(other.members) <= set(first.members):
            continue
        names = [member.name for member in other.members]
        # Of a list of labels, the list is what can be chosen; it comes last.
        name = names[-1] if other.kind == label_list.KIND else names[0]
        how = "unpack it, and " if container.kind.endswith("archive") else ""
        if other.kind == named_images.KIND:
            choose = "move the others away"
        else:
            choose = f"choose {shown(name)} itself with `source`"
        note = (
            f"taken: {first.kind}. It also holds a {other.kind} ({shown(name)}); to "
            f"take that, {how}{choose}"
        )
        _log.warning("%s", note)
        notes.append(note)
    return replace(first, notes=tuple(notes))


def _nothing(container: Container) -> str:
    """Returns why a container holds nothing to import, and what would be."""
    text = next(
        (
            (member, layout)
            for member in container.members
            if (layout := find_layout(member.head))
        ),
        None,
    )
    if text and EMOTION in text[1].columns:
        return (
            f"{shown(text[0].name)} misses the column pixels, or a column of image "
            "names. Expected emotion, pixels and, with the official split, Usage; or "
            "image and emotion, with the images beside it; found "
            f"{shown(', '.join(text[1].columns)[:200])}."
        )
    kinds = "; ".join(each.KIND for each in FORMATS)
    message = (
        f"Nothing to import in {shown(str(container.path))} ({container.kind}). "
        f"Expected one of: {kinds}. Found {_contents(container)}."
    )
    if {member.name for member in container.members} >= {*PACKED_NAMES}:
        return (
            f"{message} This is a packed data folder: give it as `data` as it is, or "
            "import what it was made of."
        )
    if any(member.name.startswith("xl/") for member in container.members):
        return f"{message} This is an Excel workbook: save it as CSV."
    if container.is_single:
        return f"{message} A table needs a header such as emotion,pixels,Usage."
    return (
        f"{message} Class folders with other names need `classes`, such as "
        "1=surprise,2=fear; an archive in an archive must be unpacked first."
    )


def _contents(container: Container) -> str:
    """Returns what a container holds, short enough for a message."""
    if container.is_single:
        (member,) = container.members
        return f"a file that begins with {member.head[:40]!r}"
    folders = Counter(str(PurePosixPath(m.name).parent) for m in container.members)
    shown = [
        f"{count:,} in {folder!a}" if folder != "." else f"{count:,} outside folders"
        for folder, count in folders.most_common(_SHOWN_AT_MOST)
    ]
    if len(folders) > _SHOWN_AT_MOST:
        shown.append("...")
    return (
        f"{len(container.members):,} files: {', '.join(shown)}" if shown else "no files"
    )
