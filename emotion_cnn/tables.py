"""Tables of predictions: their columns, and large ones as Parquet beside the CSV."""

import logging
from collections.abc import Iterable, Sequence
from io import BufferedReader
from pathlib import Path

from emotion_cnn.errors import MissingPackageError
from emotion_cnn.extras import require
from emotion_cnn.files import first_line, open_regular, replacing, shown

PARQUET_FROM = 1_000_000
"""Rows from which on a table is written as Parquet too."""

_AT_ONCE = 2**20
"""Bytes of CSV that become one group of rows; Arrow reads some dozen of them ahead."""

_CLASS = "class_"

_log = logging.getLogger(__name__)


def class_columns(
    classes: Sequence[str], others: Iterable[str], *, prefixes: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Returns the columns of the classes' probabilities: the names of the classes.

    One that is called as another column, such as a class `score`, begins with `class_`.
    Names that differ by case alone are one name, as for many readers of Parquet.

    Args:
        classes: Names of the classes, each another one.
        others: Names of the table's other columns.
        prefixes: With which names of other columns begin, whatever follows.
    """
    used = {name.casefold() for name in others}

    def is_free(name: str) -> bool:
        folded = name.casefold()
        return folded not in used and not folded.startswith(prefixes)

    columns: dict[str, str] = {}

    def use(name: str, column: str) -> None:
        columns[name] = column
        used.add(column.casefold())

    # First, as no other may take them.
    for name in filter(is_free, classes):
        use(name, name)
    for name in classes:
        if name not in columns:
            column = _CLASS + name
            while not is_free(column):
                column = _CLASS + column
            use(name, column)
    return tuple(columns[name] for name in classes)


def write_parquet_beside(table: Path, columns: Sequence[tuple[str, str]]) -> None:
    """Writes a CSV file of this tool as Parquet too, if it has very many rows.

    It has the same name but for its ending, the same columns and the same rows. Where
    it cannot be written for want of pyarrow, or as somebody has changed the table, that
    is said, and nothing else is the matter.

    Args:
        table: The CSV file, with a header.
        columns: Name, each another one, and Arrow's type of each: `string`, `bool`,
            `int64` or `double`.

    Raises:
        OSError: A file cannot be read or written.
    """
    try:
        with open_regular(table) as file:
            blocks = iter(lambda: file.read(_AT_ONCE), b"")
            # The header is none of them.
            count = sum(block.count(b"\n") for block in blocks) - 1
            if count >= PARQUET_FROM:
                file.seek(0)
                _convert(file, table.with_suffix(".parquet"), columns)
    # Arrow's own errors are of the latter kind.
    except (MissingPackageError, ValueError) as error:
        _log.warning(
            "%s is not written as Parquet too: %s",
            shown(str(table)),
            shown(first_line(error)),
        )


def _convert(
    file: BufferedReader, target: Path, columns: Sequence[tuple[str, str]]
) -> None:
    pyarrow = require("pyarrow", extra="parquet")
    # Not at the top, as few tables need it.
    from pyarrow import csv, parquet

    schema = pyarrow.schema(
        [(name, pyarrow.type_for_alias(kind)) for name, kind in columns]
    )
    reading = csv.ReadOptions(
        use_threads=False,
        block_size=_AT_ONCE,
        column_names=schema.names,
        skip_rows_after_names=1,
    )
    kinds = csv.ConvertOptions(column_types=schema)
    parsing = csv.ParseOptions(newlines_in_values=True)
    with (
        csv.open_csv(file, reading, parsing, kinds) as batches,
        replacing(target) as temporary,
        parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for batch in batches:
            rows = pyarrow.RecordBatch.from_arrays(batch.columns, schema=schema)
            writer.write_batch(rows)
