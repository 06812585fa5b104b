"""Import images into train/ and test/ of a data folder, or export them.

The import is all or nothing; a folder that holds images needs --replace.

Examples of settings:
  --source fer2013.csv --data faces
  --source archive.zip --data faces
  --source fer2013.csv --data faces --ferplus fer2013new.csv
  --source faces --export faces.csv
  --source tars --data faces --to packed
"""

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn import __version__
from emotion_cnn.data.classes import (
    EMOTIONS,
    LEFT_OUT_CLASSES,
    emotion_from_name,
    parse_classes,
)
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError
from emotion_cnn.files import shown
from emotion_cnn.importing.grouping import check_group_by
from emotion_cnn.importing.names import NOTHING
from emotion_cnn.settings import check_settings, from_keywords, setting

if TYPE_CHECKING:
    from emotion_cnn.importing.containers import Container
    from emotion_cnn.importing.ferplus import VoteJoiner
    from emotion_cnn.importing.records import Source

_log = logging.getLogger(__name__)


_FILES, _PACKED = "files", "packed"


@dataclass(frozen=True)
class PrepareSettings:
    """What to import, how, and where to."""

    source: str = setting(
        "",
        "what to import: a table of pixels such as fer2013.csv, images in class "
        "folders, Parquet files, WebDataset tars; a file, a folder, an archive of "
        "them, or files numbered as train-{000..012}.tar",
        metavar="PATH",
        group="what and where",
    )
    data: str | None = setting(
        None, "data folder to write; without it the working folder", metavar="FOLDER"
    )
    to: str = setting(
        _FILES,
        "how images are stored: a file for each, in a folder per class, or packed: all "
        "in one file, which is faster to read for a million images",
        choices=(_FILES, _PACKED),
    )
    export: str | None = setting(
        None,
        "write the images to this new CSV file, in the format of fer2013.csv, "
        "instead of a data folder",
        metavar="FILE",
    )
    replace: bool = setting(
        False,
        "replace all of train/ and test/ in a data folder that holds images "
        "(files directly in them stay), or the file of `export`",
    )
    classes: str | None = setting(
        None,
        "the classes, if they are not FER2013's seven emotions, and what names or "
        "numbers stand for, such as cat,dog,1=cat,2=dog or 7=contempt; none leaves a "
        "label out; what is no class is left out and counted",
        metavar="CLASS,NAME=CLASS,...",
        is_path=False,
        group="labels and split",
    )
    test_share: float = setting(
        0.2,
        "share of every class that becomes test/ where the source has no split; 0 or "
        "1 for none or all",
        minimum=0,
        maximum=1,
    )
    group_by: str | None = setting(
        None,
        "keep images of one group on one side of the split: the level of a folder (1 "
        "is the outermost, -1 the innermost) or a regular expression on the name; "
        "people of CK+, JAFFE and KDEF are recognised",
        metavar="LEVEL|EXPRESSION",
        is_path=False,
    )
    seed: int = setting(42, "fixes every random choice", minimum=0, maximum=2**31 - 1)
    skip_bad: bool = setting(
        False, "leave damaged rows and images out instead of stopping at them"
    )
    ferplus: str | None = setting(
        None,
        "FER+'s fer2013new.csv: keep its ten votes per image in votes.csv",
        metavar="FILE",
        group="FER+ votes",
    )
    ferplus_rows: str | None = setting(
        None,
        "CSV file with the columns image and row: which row of `ferplus` each "
        "image is, where names do not say",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        """Checks ranges, classes, and the settings that must agree."""
        check_settings(self)
        self.class_names()
        if self.group_by is not None:
            check_group_by(self.group_by)
        if not self.source:
            raise ConfigError("Expected `source`, which says what to import.")
        if self.export is not None and self.group_by is not None:
            raise ConfigError(
                "`group_by` is for the split of a data folder, which `export` does not "
                "write; leave one of them out."
            )
        if self.export is not None and self.to != _FILES:
            raise ConfigError(
                f"`to={self.to}` is for a data folder, which `export` does not write; "
                "leave one of them out."
            )
        if self.export is not None and self.data is not None:
            raise ConfigError(
                "`export` writes a file and `data` a folder; leave one of them out."
            )
        if self.data == SAMPLE_DATA:
            raise ConfigError(
                f"`data={SAMPLE_DATA}` stands for the built-in drawn faces; name a "
                f"folder to write to (./{SAMPLE_DATA} for one of that name)."
            )
        if self.ferplus is None and self.ferplus_rows:
            raise ConfigError(
                "`ferplus_rows` says which votes belong to which image; add `ferplus`, "
                "the file with the votes."
            )

    def declared_classes(self) -> tuple[str, ...]:
        """Returns the classes that `classes` names, FER2013's if it names none.

        Raises:
            ConfigError: One is named twice, or is no name for a folder.
        """
        names = [item for item in self._items() if "=" not in item]
        classes = parse_classes(",".join(names)) if names else EMOTIONS
        if NOTHING in map(str.lower, classes):
            raise ConfigError(
                f"`classes` leaves out what stands for {NOTHING}, so no class can be "
                "called that; found it among the classes. Call it something else."
            )
        return classes

    def class_names(self) -> dict[str, str]:
        """Returns what `classes` says: names to classes, or to what is left out.

        Raises:
            ConfigError: It is no list of that kind, or a class is unknown.
        """
        names: dict[str, str] = {}
        classes = self.declared_classes()
        known = (*classes, *(each for each in LEFT_OUT_CLASSES if each not in classes))
        for pair in self._items():
            if "=" not in pair:
                continue
            name, _, given = (part.strip() for part in pair.partition("="))
            found = emotion_from_name(given, (*known, NOTHING))
            if not name or found is None:
                raise ConfigError(
                    "`classes` is a list such as 1=surprise,2=fear of "
                    f"{', '.join((*known, NOTHING))}; found {shown(pair)!r}. Other "
                    "classes are all named first, such as cat,dog,1=cat,2=dog."
                )
            own = emotion_from_name(name, classes) if classes != EMOTIONS else None
            first = names.setdefault(name.lower(), found)
            meanings = dict.fromkeys((own or first, first, found))
            if len(meanings) > 1:
                raise ConfigError(
                    f"`classes` gives {shown(name)!r} two meanings, "
                    f"{' and '.join(meanings)}; leave one out."
                )
        return names

    def _items(self) -> list[str]:
        return (
            [item.strip() for item in self.classes.split(",")] if self.classes else []
        )


SETTINGS = (PrepareSettings,)


def run(**keywords: Any) -> Path:
    """Imports images into a data folder, or exports them to a table.

    Args:
        **keywords: The settings of `PrepareSettings`.

    Returns:
        The data folder, or the table.

    Raises:
        EmotionCnnError: Something the user can fix; nothing has changed.
    """
    settings = PrepareSettings(**from_keywords(SETTINGS, keywords))
    from emotion_cnn.importing.containers import open_container
    from emotion_cnn.importing.copying import copy_images
    from emotion_cnn.importing.data_folder import (
        FolderWriter,
        packed_images,
        write_record,
    )
    from emotion_cnn.importing.formats import find_source
    from emotion_cnn.importing.formats.csv_table import TableWriter
    from emotion_cnn.importing.records import ClassNames
    from emotion_cnn.importing.staging import staged_file, staged_folder

    notes: list[str] = []
    container = open_container(Path(settings.source))
    classes = settings.declared_classes()
    source = find_source(container, ClassNames(settings.class_names(), classes))
    _log.info("Source: %s, %s", settings.source, source.kind)
    for note in source.notes:
        _log.info("  %s", note)
    joiner = _joiner(settings)
    if settings.export:
        output = Path(settings.export)
        with staged_file(output, replace=settings.replace) as file:
            table = TableWriter(
                file,
                classes,
                with_usage=source.has_split,
                with_votes=source.has_votes or joiner is not None,
            )
            tally = copy_images(source, table, joiner, skip_bad=settings.skip_bad)
    else:
        output = Path(settings.data or ".")
        with (
            staged_folder(output, replace=settings.replace) as folder,
            packed_images(folder, classes)
            if settings.to == _PACKED
            else nullcontext() as images,
        ):
            writer = FolderWriter(folder, classes, images)
            tally = copy_images(source, writer, joiner, skip_bad=settings.skip_bad)
            notes = writer.group(settings.group_by)
            writer.split(tally, test_share=settings.test_share, seed=settings.seed)
            writer.write_votes()
            writer.write_groups()
            record = _record(settings, container, source, joiner, notes)
            write_record(folder, record, tally)
    print(f"Written: {output}\n\n{tally.format_counts()}\n")
    for note in (*notes, *tally.format_notes()):
        _log.info("%s", note)
    return output


def _joiner(settings: PrepareSettings) -> "VoteJoiner | None":
    if settings.ferplus is None:
        return None
    from emotion_cnn.importing.ferplus import (
        VoteJoiner,
        read_ferplus,
        read_ferplus_rows,
    )

    ferplus = read_ferplus(Path(settings.ferplus))
    rows = Path(settings.ferplus_rows) if settings.ferplus_rows else None
    return VoteJoiner(ferplus, read_ferplus_rows(rows) if rows else None)


def _record(
    settings: PrepareSettings,
    container: "Container",
    source: "Source",
    joiner: "VoteJoiner | None",
    groups: list[str],
) -> dict[str, Any]:
    """Returns what `dataset.json` says about source and options.

    Names of files, not where they lay: a data folder can be passed on.
    """
    share = f"{settings.test_share:g} of every class to test, seed {settings.seed}"
    if groups:
        share += ", groups kept together"
    return {
        "written_by": f"emotion-cnn {__version__}",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {
            "name": container.path.resolve().name,
            "packed_as": container.kind,
            "kind": source.kind,
            "sha256": container.sha256(source.members),
            "notes": list(source.notes),
        },
        "options": {
            "classes": settings.class_names(),
            "skip_bad": settings.skip_bad,
            "split": "of the source" if source.has_split else share,
            "ferplus": settings.ferplus and Path(settings.ferplus).name,
            "groups": groups,
            "rows_found_by": joiner.method if joiner else None,
        },
    }
