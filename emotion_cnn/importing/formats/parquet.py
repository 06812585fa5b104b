"""Parquet files as on Hugging Face: a column of images and one of labels.

Read a few hundred rows at a time. The metadata that the `datasets` package writes
says what label numbers stand for. Only this format needs pyarrow.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emotion_cnn.data.images import decode_image
from emotion_cnn.errors import SourceError
from emotion_cnn.extras import require
from emotion_cnn.files import first_line, open_regular, shown
from emotion_cnn.importing.containers import (
    Container,
    Member,
    bomb,
    check_count,
    most_members,
    unpacked_limit,
)
from emotion_cnn.importing.names import split_in_path
from emotion_cnn.importing.records import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TEST,
    TRAINING,
    BadRecord,
    ClassNames,
    ImageRecord,
    Record,
    Source,
)

KIND = "Parquet files with a column of images and one of labels"
_SUFFIX = ".parquet"
_MAGIC = b"PAR1"
_LABEL_COLUMNS = ("label", "labels", "emotion", "emotions", "expression", "class")


@dataclass(frozen=True)
class _Table:
    """One file: which columns hold its images and its labels."""

    path: Path
    name: str
    split: str | None
    image_column: str
    label_column: str
    label_names: Mapping[str, str]
    row_count: int


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises Parquet, as one file or as the files of a folder.

    File names tell the split: `train-00000-of-00001.parquet`, ...

    Args:
        container: The files of the source.
        class_names: What labels stand for: their numbers or their names.

    Returns:
        The tables in the order train, validation, test; None if there are none.

    Raises:
        SourceError: They are in an archive, damaged, or miss a column.
        MissingPackageError: pyarrow is not installed.
    """
    members = [m for m in container.members if _is_parquet(container, m)]
    if not members:
        return None
    if packed := [member.name for member in members if member.path is None]:
        raise SourceError(
            f"Expected Parquet files in a folder, found {shown(packed[0])} packed in "
            f"{container.path}. Unpack it, and choose the folder with `source`."
        )
    require("pyarrow", extra="parquet")
    tables = [_open(member) for member in members]
    splits = {table.split for table in tables}
    has_split = None not in splits and "train" in splits and len(splits) > 1
    order = {name: place for place, name in enumerate(("train", "validation", "test"))}
    tables.sort(key=lambda table: (order.get(str(table.split), 3), table.name))
    return Source(
        kind=KIND,
        members=tuple(members),
        has_split=has_split,
        has_votes=False,
        total=sum(table.row_count for table in tables),
        unit=" images",
        records=partial(
            _records, tables, class_names, _usages(splits) if has_split else {}
        ),
    )


def _is_parquet(container: Container, member: Member) -> bool:
    if container.is_single and member.path:
        return member.head.startswith(_MAGIC)
    return member.name.lower().endswith(_SUFFIX)


def _usages(splits: set[str | None]) -> dict[str | None, str]:
    """Returns the usage of each split; without a test split, validation is it."""
    both = {"validation", "test"} <= splits
    return {
        "train": TRAINING,
        "validation": PUBLIC_TEST if both else TEST,
        "test": PRIVATE_TEST if both else TEST,
    }


def _open(member: Member) -> _Table:
    # Here, as it takes half a second and other formats do without.
    from pyarrow import parquet

    path = Path(str(member.path))
    try:
        with open_regular(path) as stream, parquet.ParquetFile(stream) as file:
            schema, metadata = file.schema_arrow, file.metadata
            row_count = metadata.num_rows
            groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
        schema.names  # noqa: B018 - decodes them, which fails if they are damaged
    except Exception as error:
        # More than pyarrow's own errors: almost any kind.
        raise _damaged(path, error) from error
    check_count(path, row_count, most_members(path))
    if size > unpacked_limit(path):
        raise bomb(path)
    features = _features(schema.metadata)
    label_column = _label_column(path, schema, features)
    return _Table(
        path,
        member.name,
        split_in_path(member.name),
        _image_column(path, schema, features),
        label_column,
        _label_names(features.get(label_column, {})),
        row_count,
    )


def _damaged(path: Path, error: Exception) -> SourceError:
    reason = first_line(error)
    return SourceError(
        f"{shown(str(path))} is not a valid Parquet file ({shown(reason[:100])}). "
        "Expected a complete file: download or copy it again."
    )


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Returns what the `datasets` package wrote about the columns, if anything."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {name: f for name, f in features.items() if isinstance(f, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _label_names(feature: Mapping[str, Any]) -> dict[str, str]:
    """Returns the class names by number; the metadata has a list or a mapping."""
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        return {}
    return {str(number): str(name) for number, name in names.items()}


def _image_column(
    path: Path, schema: Any, features: Mapping[str, Mapping[str, Any]]
) -> str:
    named = [name for name, f in features.items() if f.get("_type") == "Image"]
    usable = _columns_of_bytes(schema)
    named = [name for name in named if name in usable]
    return _only(path, schema, named or usable, "images")


def _columns_of_bytes(schema: Any) -> list[str]:
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind) and (place := kind.get_field_index("bytes")) >= 0:
            kind = kind.field(place).type
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return [field.name for field in schema if holds_bytes(field.type)]


def _label_column(
    path: Path, schema: Any, features: Mapping[str, Mapping[str, Any]]
) -> str:
    named = [name for name, f in features.items() if f.get("_type") == "ClassLabel"]
    usual = [name for name in schema.names if name.lower() in _LABEL_COLUMNS]
    column = _only(path, schema, named or usual, "labels")
    kind = schema.field(column).type
    if not _is_label(kind):
        raise SourceError(
            f"Expected whole numbers or names in the column {shown(column)} of "
            f"{shown(str(path))}, found the type {shown(str(kind)[:100])}. Convert it."
        )
    return column


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)
    )


def _only(path: Path, schema: Any, columns: Sequence[str], what: str) -> str:
    columns = [column for column in columns if column in schema.names]
    if len(columns) != 1:
        raise SourceError(
            f"Expected one column of {what} in {shown(str(path))}, found "
            f"{shown(', '.join(columns)[:200]) or 'none'} among the columns "
            f"{shown(', '.join(schema.names)[:200])}. Images are a column of bytes; "
            f"the column of labels is called {', '.join(_LABEL_COLUMNS[:-1])} or "
            f"{_LABEL_COLUMNS[-1]}. Rename or remove columns."
        )
    return columns[0]


def _records(
    tables: Sequence[_Table], class_names: ClassNames, usages: Mapping[str | None, str]
) -> Iterator[Record]:
    row = 0
    for table in tables:
        for image, label in _cells(table):
            place = f"row {row} ({table.name})"
            yield _read(image, label, place, row, table, class_names, usages)
            row += 1


def _cells(table: _Table) -> Iterator[tuple[Any, Any]]:
    """Yields the image and the label of each row.

    Raises:
        SourceError: The file is damaged, has fewer rows than it says, or holds an
            image so often that it unpacks to more than its limit.
    """
    count, size, limit = 0, 0, unpacked_limit(table.path)
    for image, label in _rows(table):
        content = _content(image)
        count += 1
        size += len(content) if isinstance(content, bytes) else 0
        if size > limit:
            raise bomb(table.path)
        yield content, label
    if count != table.row_count:
        error = ValueError(f"{count:,} rows instead of {table.row_count:,}")
        raise _damaged(table.path, error)


def _rows(table: _Table) -> Iterator[tuple[Any, Any]]:
    from pyarrow import parquet, types

    try:
        with (
            open_regular(table.path) as stream,
            parquet.ParquetFile(
                stream, pre_buffer=False, page_checksum_verification=True
            ) as file,
        ):
            # Of a struct only the bytes: what else is in it can be of any type.
            kind = file.schema_arrow.field(table.image_column).type
            image = table.image_column + (".bytes" if types.is_struct(kind) else "")
            columns = [image, table.label_column]
            # One at a time: a large image that is stored once can be in every row.
            for batch in file.iter_batches(1, columns=columns, use_threads=False):
                for row in range(len(batch)):
                    yield (
                        batch.column(table.image_column)[row].as_py(),
                        batch.column(table.label_column)[row].as_py(),
                    )
    except Exception as error:
        raise _damaged(table.path, error) from error


def _content(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, dict) else cell


def _read(
    content: Any,
    label: Any,
    place: str,
    row: int,
    table: _Table,
    class_names: ClassNames,
    usages: Mapping[str | None, str],
) -> Record:
    number = str(label)
    # The user may have given a class for the number, or for its name in the file.
    name = number if class_names.find(number) else table.label_names.get(number, number)
    found = class_names.find_label(name, place=place, advance=1)
    if not isinstance(found, int):
        return found
    if not isinstance(content, bytes):
        return BadRecord(place, "not the bytes of an image")
    decoded = decode_image(io.BytesIO(content))
    if isinstance(decoded, str):
        return BadRecord(place, decoded)
    image, before = decoded
    usage = usages.get(table.split)
    return ImageRecord(image, found, usage, None, row, place, changes=before.changes())
