"""The runner of `--mode prepare`; unlike the others it needs no Keras."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from emotion_cnn import __version__
from emotion_cnn.config import PrepareConfig
from emotion_cnn.importing.containers import Container, open_container
from emotion_cnn.importing.copying import copy_images
from emotion_cnn.importing.data_folder import FolderWriter, write_record
from emotion_cnn.importing.ferplus import VoteJoiner, read_ferplus, read_ferplus_rows
from emotion_cnn.importing.formats import find_source
from emotion_cnn.importing.formats.csv_table import TableWriter
from emotion_cnn.importing.records import ClassNames, Source
from emotion_cnn.importing.staging import staged_file, staged_folder
from emotion_cnn.settings import ROOT


def prepare(config: PrepareConfig) -> Path:
    """Imports images into a data folder, or exports them to a table.

    Args:
        config: What to import, how, and where to.

    Returns:
        The data folder, or the table.

    Raises:
        EmotionCnnError: Something the user can fix; nothing has changed.
    """
    container = open_container(Path(config.source))
    source = find_source(container, ClassNames(config.class_names()))
    print(f"Source: {config.source}, {source.kind}")
    joiner = _joiner(config)
    if config.export:
        output = Path(config.export)
        with staged_file(output, replace=config.replace) as file:
            table = TableWriter(
                file,
                with_usage=source.has_split,
                with_votes=source.has_votes or joiner is not None,
            )
            tally = copy_images(source, table, joiner, skip_bad=config.skip_bad)
    else:
        output = Path(config.data or ROOT)
        with staged_folder(output, replace=config.replace) as folder:
            writer = FolderWriter(folder)
            tally = copy_images(source, writer, joiner, skip_bad=config.skip_bad)
            writer.split(tally, test_share=config.test_share, seed=config.seed)
            writer.write_votes()
            record = _record(config, container, source, joiner)
            write_record(folder, record, tally)
    print(f"Written: {output}\n\n{tally.format_counts()}\n")
    for note in tally.format_notes():
        print(note)
    return output


def _joiner(config: PrepareConfig) -> VoteJoiner | None:
    if config.ferplus is None:
        return None
    ferplus = read_ferplus(Path(config.ferplus))
    rows = Path(config.ferplus_rows) if config.ferplus_rows else None
    return VoteJoiner(ferplus, read_ferplus_rows(rows) if rows else None)


def _record(
    config: PrepareConfig,
    container: Container,
    source: Source,
    joiner: VoteJoiner | None,
) -> dict[str, Any]:
    """Returns what `dataset.json` says about source and options.

    Names of files, not where they lay: a data folder can be passed on.
    """
    share = f"{config.test_share:g} of every class to test, seed {config.seed}"
    return {
        "written_by": f"emotion-cnn {__version__}",
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "source": {
            "name": container.path.resolve().name,
            "packed_as": container.kind,
            "kind": source.kind,
            "sha256": container.sha256(source.members),
        },
        "options": {
            "classes": config.class_names(),
            "skip_bad": config.skip_bad,
            "split": "of the source" if source.has_split else share,
            "ferplus": config.ferplus and Path(config.ferplus).name,
            "rows_found_by": joiner.method if joiner else None,
        },
    }
