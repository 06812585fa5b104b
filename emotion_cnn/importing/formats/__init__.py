"""The formats that can be imported: a module each, with a `KIND` and a `find`.

`find(container, class_names)` returns a `Source`, or None if it is another format.
"""

from collections import Counter
from pathlib import PurePosixPath

from emotion_cnn.errors import SourceError
from emotion_cnn.importing.containers import Container
from emotion_cnn.importing.formats import class_folders, csv_table, parquet
from emotion_cnn.importing.records import ClassNames, Source

FORMATS = (csv_table, parquet, class_folders)
"""In the order in which they are tried; a new format is added here."""
_SHOWN_AT_MOST = 8


def find_source(container: Container, class_names: ClassNames) -> Source:
    """Recognises what a container holds.

    Args:
        container: The files of the source.
        class_names: What its labels stand for.

    Raises:
        SourceError: It has no format that is known, or a fault.
        MissingPackageError: Its format needs a package that is not installed.
    """
    for each in FORMATS:
        source = each.find(container, class_names)
        if source is not None:
            return source
    kinds = "; ".join(each.KIND for each in FORMATS)
    raise SourceError(
        f"Nothing to import in {container.path} ({container.kind}). Expected one of: "
        f"{kinds}. Found {_contents(container)}. Class folders with other names need "
        "`classes`, such as 1=surprise,2=fear; an archive in an archive must be "
        "unpacked first."
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
