"""Import images into train/ and test/ of a data folder, or export them.

The import is all or nothing; a folder that holds images needs --replace.

Examples of settings:
  --source fer2013.csv --data faces
  --source archive.zip --data faces
  --source fer2013.csv --data faces --ferplus fer2013new.csv
  --source faces --export faces.csv
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn import __version__
from emotion_cnn.data.classes import EMOTIONS, LEFT_OUT_CLASSES, emotion_from_name
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError
from emotion_cnn.settings import check_settings, from_keywords, setting

if TYPE_CHECKING:
    from emotion_cnn.importing.containers import Container
    from emotion_cnn.importing.ferplus import VoteJoiner
    from emotion_cnn.importing.records import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareSettings:
    """What to import, how, and where to."""

    source: str = setting(
        "",
        "what to import: a table of pixels such as fer2013.csv, images in class "
        "folders, Parquet files; a file, a folder, or an archive of them",
        metavar="PATH",
        group="what and where",
    )
    data: str | None = setting(
        None, "data folder to write; without it the working folder", metavar="FOLDER"
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
        "what names or numbers of classes stand for, such as 1=surprise,2=fear; "
        "contempt is left out and counted",
        metavar="NAME=EMOTION,...",
        group="labels and split",
    )
    test_share: float = setting(
        0.2,
        "share of every class that becomes test/ where the source has no split",
        minimum=0.01,
        maximum=0.9,
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
        if not self.source:
            raise ConfigError("Expected `source`, which says what to import.")
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

    def class_names(self) -> dict[str, str]:
        """Returns what `classes` says: names to emotions or `LEFT_OUT_CLASSES`.

        Raises:
            ConfigError: It is no list of that kind, or an emotion is unknown.
        """
        names: dict[str, str] = {}
        for pair in self.classes.split(",") if self.classes else ():
            name, _, given = (part.strip() for part in pair.partition("="))
            emotion = emotion_from_name(given)
            if given.lower() in LEFT_OUT_CLASSES:
                emotion = given.lower()
            if not name or emotion is None:
                raise ConfigError(
                    "`classes` is a list such as 1=surprise,2=fear of "
                    f"{', '.join((*EMOTIONS, *LEFT_OUT_CLASSES))}; found {pair!r}."
                )
            if names.setdefault(name.lower(), emotion) != emotion:
                raise ConfigError(
                    f"`classes` gives {name!r} two meanings, {names[name.lower()]} "
                    f"and {emotion}; leave one out."
                )
        return names


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
    from emotion_cnn.importing.data_folder import FolderWriter, write_record
    from emotion_cnn.importing.formats import find_source
    from emotion_cnn.importing.formats.csv_table import TableWriter
    from emotion_cnn.importing.records import ClassNames
    from emotion_cnn.importing.staging import staged_file, staged_folder

    container = open_container(Path(settings.source))
    source = find_source(container, ClassNames(settings.class_names()))
    _log.info("Source: %s, %s", settings.source, source.kind)
    joiner = _joiner(settings)
    if settings.export:
        output = Path(settings.export)
        with staged_file(output, replace=settings.replace) as file:
            table = TableWriter(
                file,
                with_usage=source.has_split,
                with_votes=source.has_votes or joiner is not None,
            )
            tally = copy_images(source, table, joiner, skip_bad=settings.skip_bad)
    else:
        output = Path(settings.data or ".")
        with staged_folder(output, replace=settings.replace) as folder:
            writer = FolderWriter(folder)
            tally = copy_images(source, writer, joiner, skip_bad=settings.skip_bad)
            writer.split(tally, test_share=settings.test_share, seed=settings.seed)
            writer.write_votes()
            record = _record(settings, container, source, joiner)
            write_record(folder, record, tally)
    print(f"Written: {output}\n\n{tally.format_counts()}\n")
    for note in tally.format_notes():
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
) -> dict[str, Any]:
    """Returns what `dataset.json` says about source and options.

    Names of files, not where they lay: a data folder can be passed on.
    """
    share = f"{settings.test_share:g} of every class to test, seed {settings.seed}"
    return {
        "written_by": f"emotion-cnn {__version__}",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {
            "name": container.path.resolve().name,
            "packed_as": container.kind,
            "kind": source.kind,
            "sha256": container.sha256(source.members),
        },
        "options": {
            "classes": settings.class_names(),
            "skip_bad": settings.skip_bad,
            "split": "of the source" if source.has_split else share,
            "ferplus": settings.ferplus and Path(settings.ferplus).name,
            "rows_found_by": joiner.method if joiner else None,
        },
    }
