"""Importers: one module a format, each with the same symbols `KIND` and `find`.

`find(container, classes)` returns a `Source`, or None for what it does not know.
"""

from collections import Counter
from pathlib import PurePosixPath

from emotion_cnn.errors import SourceError
from emotion_cnn.importing.containers import Container
from emotion_cnn.importing.formats import class_folders, csv_table, parquet
from emotion_cnn.importing.records import ClassNames, Source

IMPORTERS = (csv_table, parquet, class_folders)
"""In the order in which they are asked; a new format is added here."""
_SHOWN_AT_MOST = 8


def find_source(container: Container, classes: ClassNames) -> Source:
    """Recognises what a container holds.

    Args:
        container: The source.
        classes: What the names and numbers of its classes stand for.

    Raises:
        SourceError: No importer knows it, or the one that does finds a fault.
    """
    for importer in IMPORTERS:
        source = importer.find(container, classes)
        if source is not None:
            return source
    kinds = "; ".join(importer.KIND for importer in IMPORTERS)
    raise SourceError(
        f"Nothing to import in {container.path} ({container.kind}). Expected one of: "
        f"{kinds}. Found {_contents(container)}. Class folders with other names need "
        "--classes, such as --classes 1=surprise,2=fear; an archive in an archive "
        "must be unpacked first."
    )


def _contents(container: Container) -> str:
    """Returns what is in a container, short enough for a message."""
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
