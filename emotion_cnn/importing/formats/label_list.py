"""Lists of labels: a table with a file name and a label a line, and images beside it.

As of RAF-DB, AffectNet, ExpW and many others: with or without a header, with a column
of the split, with the boxes of faces.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import PurePosixPath
from typing import IO

from emotion_cnn.data.images import IMAGE_SUFFIXES, Box
from emotion_cnn.errors import SourceError
from emotion_cnn.files import shown
from emotion_cnn.importing.containers import (
    MEMBER_LIMIT,
    Container,
    Member,
    check_count,
    open_container,
)
from emotion_cnn.importing.formats.class_folders import (
    decoded_record,
    part_in_name,
    read_image,
)
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
from emotion_cnn.importing.text_tables import (
    DELIMITERS,
    find_encoding,
    first_lines,
    read_lines,
    split_line,
    stated_delimiter,
)

KIND = "list of image names and labels, with the images beside it"

_LISTS_AT_MOST = 1000
_COMPARED_AT_MOST = 50
_NOT_LISTED = "image that no list names"
_LISTED_TWICE = "image listed twice"
_NAMES = (
    *("image", "file", "filename", "file_name", "image_name", "img", "path", "pth"),
    *("image_path", "img_path", "filepath", "file_path", "subdirectory_filepath"),
    *("image name", "name", "images", "image_id"),
)
LABEL_COLUMNS = (
    *("label", "emotion", "expression", "class", "labels", "emotions", "category"),
    *("emotion_label", "expression_label", "class_name", "label_name", "target"),
)
"""What the column of the labels is called, in lower case."""
_SPLITS = ("usage", "split", "set", "subset", "partition")
_BOXES = (
    ("face_x", "face_y", "face_width", "face_height"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "right", "bottom"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("face_box_left", "face_box_top", "face_box_right", "face_box_bottom"),
)
# These boxes give width and height in place of the right and lower ends.
_WIDTHS = ("face_width", "w", "width")
# ExpW's label.lst: name, face, top, left, right, bottom, confidence, label.
_EXPW_COLUMNS, _EXPW_BOX = 8, (3, 2, 4, 5)
_NO_NUMBERS = {"NULL", "NAN", ""}


@dataclass(frozen=True)
class _Layout:
    """How a list is written: where in a line which cell is."""

    encoding: str
    delimiter: str | None
    header_lines: int
    name: int
    label: int
    part: int | None = None
    box: tuple[int, ...] = ()
    has_sizes: bool = False


@dataclass(frozen=True)
class _Row:
    """One line: an image, or what is wrong with it."""

    place: str
    name: str = ""
    label: str = ""
    part: str | None = None
    box: Box | None = None
    error: str = ""


@dataclass(frozen=True)
class _Face:
    """What a list says of an image that is there."""

    row: _Row
    part: str | None


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises tables that name images, in a folder, an archive, or chosen itself.

    Args:
        container: The files of the source.
        class_names: What labels stand for.

    Returns:
        The images that they name; None if there is no such list.

    Raises:
        SourceError: None of the images that they name is there.
    """
    lists = _lists(container)
    if not lists:
        return None
    if container.is_single:
        (member,) = container.members
        if member.path is None:
            raise SourceError(
                f"Expected images beside the list {shown(str(container.path))}, which "
                "is packed. Unpack it next to its images."
            )
        container = open_container(member.path.parent)
        chosen = [m for m in container.members if m.name == member.name]
        lists = {m: layout for m in chosen for layout in lists.values()}
    index = _Index(container)
    faces: dict[int, list[_Face]] = defaultdict(list)
    rows: list[_Row] = []
    used, found, missing = [], 0, []
    for member, stream in container.read(lists):
        read = list(_rows(stream, member, lists[member]))
        matches = [index.find(row.name, member) for row in read]
        check_count(container.path, len(rows) + len(read), MEMBER_LIMIT)
        hits = [match for match in matches if isinstance(match, Member)]
        if not hits:
            missing += [row for row in read if not row.error]
            continue
        used.append(member)
        found += len(hits)
        for row, match in zip(read, matches, strict=True):
            if row.error or isinstance(match, str):
                rows.append(replace(row, error=row.error or str(match)))
            else:
                part = row.part or _part_of(member, match)
                faces[match.index].append(_Face(row, part))
    if not used:
        if not missing:
            return None
        raise SourceError(
            f"Expected the images that {shown(next(iter(lists)).name)} lists beside "
            f"it, found none of {len(missing):,}, such as "
            f"{shown(missing[0].name)[:100]}. Put the images into its folder, or "
            "choose with `source` the folder that holds both."
        )
    parts = {face.part for of_image in faces.values() for face in of_image}
    members = tuple(m for m in index.members if m.index in faces)
    return Source(
        kind=KIND,
        members=(*members, *used),
        has_split=is_split(parts),
        has_votes=False,
        total=len(members),
        unit=" images",
        records=partial(
            _records,
            container,
            members,
            faces,
            rows,
            len(index.members) - len(members),
            class_names,
            usages_of(parts) if is_split(parts) else {},
        ),
        notes=tuple(
            f"{len(names):,} {what}: {shown(', '.join(names))[:200]}"
            for what, names in (
                ("lists of labels", [m.name for m in used]),
                ("lists are of other images", _names_without(lists, used)),
            )
            if names and (len(lists) > 1)
        ),
    )


def _names_without(lists: Mapping[Member, _Layout], used: list[Member]) -> list[str]:
    return [member.name for member in lists if member not in used]


def _lists(container: Container) -> dict[Member, _Layout]:
    lists: dict[Member, _Layout] = {}
    for member in container.members:
        if member.head and len(lists) < _LISTS_AT_MOST:
            layout = _find_layout(member.head)
            if layout is not None:
                lists[member] = layout
    return lists


def _find_layout(head: bytes) -> _Layout | None:
    lines = first_lines(head)[:50]
    blank = next((n for n, line in enumerate(lines) if line.strip()), 0)
    lines = [line for line in lines if line.strip()]
    stated = stated_delimiter(lines[0]) if lines else None
    lines = lines[1:] if stated else lines
    if not lines:
        return None
    for delimiter in (stated,) if stated else (*DELIMITERS, None):
        with suppress(csv.Error):
            table = [split_line(line, delimiter) for line in lines]
            width = len(table[0])
            sound = [cells for cells in table if len(cells) == width]
            # Lines that are bad are named when all are read.
            if width < 2 or 2 * len(sound) < len(table):
                continue
            table = sound
            layout = _with_header(table) or _without_header(table)
            if layout is not None:
                return replace(
                    layout,
                    encoding=find_encoding(head),
                    delimiter=delimiter,
                    header_lines=blank + layout.header_lines + (stated is not None),
                )
    return None


def _with_header(table: list[list[str]]) -> _Layout | None:
    header = [name.strip().lower() for name in table[0]]
    name, label = _first(header, _NAMES), _first(header, LABEL_COLUMNS)
    if name is None or label is None or len(table) < 2:
        return None
    boxes = (names for names in _BOXES if set(names) <= set(header))
    names = next(boxes, ())
    box = tuple(header.index(each) for each in names)
    part = _first(header, _SPLITS)
    has_sizes = any(each in names for each in _WIDTHS)
    return _Layout("", None, 1, name, label, part, box, has_sizes)


def _first(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _without_header(table: list[list[str]]) -> _Layout | None:
    width = len(table[0])
    columns = list(zip(*table, strict=True))
    images = [
        number
        for number, cells in enumerate(columns)
        if 2 * sum(cell.strip().lower().endswith(IMAGE_SUFFIXES) for cell in cells)
        > len(cells)
    ]
    if len(images) != 1:
        return None
    (name,) = images
    if width == _EXPW_COLUMNS and name == 0:
        return _Layout("", None, 0, 0, width - 1, None, _EXPW_BOX)
    others = [number for number in range(width) if number != name]
    part = next(
        (n for n in others if all(c.strip().lower() in PART_NAMES for c in columns[n])),
        None,
    )
    others = [number for number in others if number != part]
    return _Layout("", None, 0, name, others[0], part) if len(others) == 1 else None


def _rows(stream: IO[bytes], member: Member, layout: _Layout) -> Iterator[_Row]:
    needed = max(layout.name, layout.label, layout.part or 0, *layout.box, 0)
    lines = read_lines(stream, layout.encoding)
    for number, line in enumerate(lines, start=1):
        if number <= layout.header_lines or not line.strip():
            continue
        place = f"line {number} of {member.name}"
        try:
            cells = split_line(line, layout.delimiter, strict=True)
        except csv.Error as reason:
            yield _Row(place, error=f"not valid CSV: {reason}")
            continue
        if len(cells) <= needed:
            yield _Row(place, error=f"only {len(cells)} columns")
            continue
        label = cells[layout.label].strip()
        part, box, error = None, None, ""
        if layout.part is not None:
            word = cells[layout.part].strip().lower()
            part = PART_NAMES.get(word)
            error = "" if part else f"unknown part of a split {word[:40]!a}"
        values = [cells[column].strip() for column in layout.box]
        # AffectNet has no box where there is no face.
        if values and not set(map(str.upper, values)) & _NO_NUMBERS:
            try:
                ends = [float(value) for value in values]
                if layout.has_sizes:
                    ends[2:] = [ends[0] + ends[2], ends[1] + ends[3]]
                box = (ends[0], ends[1], ends[2], ends[3])
            except ValueError:
                error = "a box that is not of numbers"
        yield _Row(place, cells[layout.name].strip(), label, part, box, error)


def _part_of(listing: Member, image: Member) -> str | None:
    """Returns the part of a split by the list's name, the image's folders or name."""
    path = PurePosixPath(image.name)
    words = (
        re.split(r"[^a-z0-9]+", PurePosixPath(listing.name).stem.lower())[0],
        *(folder.strip().lower() for folder in reversed(path.parts[:-1])),
    )
    return next(
        (PART_NAMES[word] for word in words if word in PART_NAMES), part_in_name(image)
    )


class _Index:
    """Finds images by the names that lists have for them."""

    def __init__(self, container: Container) -> None:
        self.members = [
            member
            for member in container.members
            if member.name.lower().endswith(IMAGE_SUFFIXES)
        ]
        self._by_stem: dict[str, list[Member]] = defaultdict(list)
        for member in self.members:
            self._by_stem[_lower(member.name).stem].append(member)
        self._by_path: dict[str, dict[str, list[Member]]] = {}

    def find(self, name: str, listing: Member) -> Member | str:
        """Returns the image, or why there is none.

        Args:
            name: Its name, perhaps with some of its folders, or without its suffix.
            listing: The list; of several images of one name the one nearest to it.
        """
        path = _lower(name.replace("\\", "/"))
        # RAF-DB lists the originals, and has the aligned faces beside them.
        for stem in (f"{path.stem}_aligned", path.stem, path.name):
            if stem in self._by_stem:
                break
        else:
            return f"no image {shown(name)[:100]!r}"
        candidates = self._by_stem[stem]
        parent = _lower(listing.name).parent
        if len(candidates) > _COMPARED_AT_MOST:
            # To compare with each of them takes a time that grows with their square.
            candidates = self._on_path(stem, (parent / path, path)) or candidates
        same_suffix = [m for m in candidates if _lower(m.name).name == path.name]
        candidates = same_suffix or candidates

        def closeness(member: Member) -> tuple[int, int]:
            """Returns how many folders it shares with the name, and with the list."""
            folders, own = _lower(member.name).parts[:-1], path.parts[:-1]
            shared = _same(folders[::-1], own[::-1])
            return shared, _same(folders, parent.parts)

        if len(candidates) <= _COMPARED_AT_MOST:
            candidates = sorted(candidates, key=closeness)
            if len(candidates) == 1 or len(set(map(closeness, candidates[-2:]))) == 2:
                return candidates[-1]
        return (
            f"{len(candidates):,} images are called {shown(name)[:100]!r}, such as "
            f"{shown(candidates[-1].name)[:100]} and {shown(candidates[-2].name)[:100]}"
        )

    def _on_path(self, stem: str, paths: Sequence[PurePosixPath]) -> list[Member]:
        """Returns the images at the first of some paths that leads to any."""
        if stem not in self._by_path:
            by_path = self._by_path.setdefault(stem, defaultdict(list))
            for member in self._by_stem[stem]:
                parts = _lower(member.name).parts
                for key in {"/".join(parts), "/".join(parts[-2:])}:
                    by_path[key].append(member)
        by_path = self._by_path[stem]
        keys = (*map(str, paths), "/".join(paths[-1].parts[-2:]))
        return next((by_path[key] for key in keys if key in by_path), [])


def _lower(path: str) -> PurePosixPath:
    return PurePosixPath(path.lower())


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the number of folders that both begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return len(list(pairs))


def _records(
    container: Container,
    members: Sequence[Member],
    faces: Mapping[int, Sequence[_Face]],
    bad: Sequence[_Row],
    not_listed: int,
    class_names: ClassNames,
    usages: Mapping[str | None, str],
) -> Iterator[Record]:
    for row in bad:
        yield BadRecord(row.place, row.error, 0)
    for _ in range(not_listed):
        yield LeftOut(_NOT_LISTED, 0)
    labelled: dict[int, list[tuple[int, _Face]]] = {}
    for member in members:
        known: dict[Box | None, _Face] = {}
        for face in faces[member.index]:
            label = class_names.find_label(
                face.row.label, place=face.row.place, advance=0
            )
            first = known.setdefault(face.row.box, face)
            if first is not face:
                if first.row.label == face.row.label:
                    yield LeftOut(_LISTED_TWICE, 0)
                else:
                    yield BadRecord(
                        face.row.place,
                        f"another label for {member.name} than {first.row.place}",
                        0,
                    )
            elif isinstance(label, int):
                labelled.setdefault(member.index, []).append((label, face))
            else:
                yield label
    common = Counter(PurePosixPath(m.name).name.lower() for m in members)
    for member, stream in container.read(m for m in members if m.index in labelled):
        content = read_image(member, stream)
        path = PurePosixPath(member.name)
        prefix = "_".join(path.parts[:-1]) if common[path.name.lower()] > 1 else ""
        for number, (label, face) in enumerate(labelled[member.index]):
            yield (
                content
                if isinstance(content, BadRecord)
                else decoded_record(
                    member,
                    content,
                    label,
                    usage=usages.get(face.part),
                    prefix=prefix,
                    box=face.row.box,
                    advance=int(number == 0),
                )
            )
