"""What a user names to predict: an image, a folder, a glob, a list, a video, a camera.

A name is looked up here and nothing is opened but lists: what a file holds is found out
when its turn comes, so that a bad one is one error among many predictions.
"""

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from emotion_cnn.data.images import IMAGE_SUFFIXES
from emotion_cnn.errors import ConfigError, SourceError
from emotion_cnn.files import first_line, open_regular, read_open, shown
from emotion_cnn.inference.predictions import RESULT_FILES

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".mjpeg"),
)
"""What the names of video files end with, in lower case."""

STANDARD_INPUT = "-"
LIST_SIGN = "@"

# A million paths of 200 characters, and more.
_LIST_MEGABYTES = 500
_LIST_LINES = 5_000_000
_LONGEST_PATH = 2**15  # Of Windows; others allow less.
_NETWORK = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SEPARATOR = r"[/\\]" if os.name == "nt" else "/"
_ANY_FOLDERS = re.compile(rf"(?:^|(?<={_SEPARATOR}))\*\*(?:{_SEPARATOR}+|$)")
_CAMERA = re.compile("[0-9]{1,9}")
_A_FOLDER = "a folder: list the files in it, or give it alone as the source"
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")


class Kind(StrEnum):
    """What a source is read as."""

    IMAGE = "image"
    VIDEO = "video"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to predict.

    Attributes:
        name: What it is called in the results: its path as it was found, or `camera 0`.
        camera: A camera's number; None for a file.
        problem: Why it cannot be read, if that is known already.
    """

    name: str
    camera: int | None = None
    problem: str | None = None

    @property
    def kind(self) -> Kind:
        """What it is read as: the name of a file decides what is a video."""
        if self.camera is not None:
            return Kind.CAMERA
        is_video = self.name.lower().rstrip(os.sep).endswith(VIDEO_SUFFIXES)
        return Kind.VIDEO if is_video else Kind.IMAGE

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.name)

    def find_problem(self) -> str | None:
        """Returns why it cannot be read, if that shows without opening it."""
        is_file = self.problem is None and self.camera is None
        if is_file and os.path.isdir(self.name):  # noqa: PTH112 - Odd names.
            return _A_FOLDER
        return self.problem


def find_sources(
    source: str, *, pattern: str | None = None, standard_input: IO[bytes] | None = None
) -> list[Source]:
    """Finds what a user has named.

    Args:
        source: A file, a folder (searched with all folders in it), a glob, `@` and a
            file with a path a line, `-` for such lines on standard input, or the number
            of a camera. Something that exists under the name comes before all others.
        pattern: What the names of files in a folder have to match, such as `*.png`,
            upper case or lower; None for all images. Then videos are left out.
        standard_input: Where `-` reads.

    Returns:
        The sources, each once: by name, or in the order of the list.

    Raises:
        ConfigError: `pattern` is given for something else than a folder.
        SourceError: There is no such thing, or nothing in it.
    """
    is_folder = os.path.isdir(source)  # noqa: PTH112 - No error for odd names.
    if pattern is not None and not is_folder:
        raise ConfigError(
            "`pattern` chooses among the files of a folder; found it with the source "
            f"{shown(source)}, which is none. Leave it out, or name a folder."
        )
    if is_folder:
        found = _in_folder(Path(source), pattern)
    elif os.path.lexists(source):
        found = [Source(source)]
    elif source == STANDARD_INPUT:
        found = _listed(_read_list(standard_input), "standard input")
    elif source.startswith(LIST_SIGN):
        found = _listed(_read_list(Path(source[1:])), source[1:])
    elif _CAMERA.fullmatch(source):
        found = [Source(f"camera {int(source)}", camera=int(source))]
    elif _NETWORK.match(source):
        raise SourceError(
            f"Expected files of this machine in `source`, found {shown(source)}: "
            "nothing is read over a network. Download it first."
        )
    elif glob.has_magic(source):
        found = _matching(source)
    else:
        raise SourceError(
            "Expected an image, a video, a folder, a glob, @ and a list of paths, - "
            f"for standard input, or a camera's number in `source`, found nothing "
            f"named {shown(source)}. Check its spelling; a path is relative to the "
            "working folder."
        )
    return _each_once(found)


def _in_folder(folder: Path, pattern: str | None) -> list[Source]:
    """Returns the files of a folder and of those in it, by name."""
    found, videos = [], 0
    for each in _walk(folder):
        name = os.path.basename(each.name).lower()  # noqa: PTH119
        if each.problem is not None:
            found.append(each)
        elif pattern is None:
            if name.endswith(IMAGE_SUFFIXES):
                found.append(each)
            videos += name.endswith(VIDEO_SUFFIXES)
        elif fnmatch(name, pattern.lower()):
            found.append(each)
    if videos:
        _log.info(
            "Left out %s in %s: name one as `source`, or several with `pattern=*.mp4`.",
            f"{videos:,} {'video' if videos == 1 else 'videos'}",
            shown(str(folder)),
        )
    if not found:
        what = f"files that match {pattern}" if pattern else "images"
        raise SourceError(
            f"Expected {what} in the folder {shown(str(folder))} or in folders in it, "
            "found none."
        )
    return found


def _walk(folder: Path) -> Iterator[Source]:
    """Yields all files of a folder, in a stable order, and the folders that refuse."""
    refused: list[OSError] = []
    for place, files in _folders(str(folder), refused):
        for name in files:
            yield Source(os.path.join(place, name))  # noqa: PTH118
    yield from map(_refusing, refused)


def _folders(top: str, refused: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Yields a folder and all in it, with the names of their files.

    Args:
        top: The folder.
        refused: Where to add what cannot be listed.

    Raises:
        SourceError: They are too deep.
    """
    seen: set[tuple[int, int]] = set()
    walk = os.walk(top, followlinks=True, onerror=refused.append)
    try:
        for place, folders, files in walk:
            status = os.stat(place)  # noqa: PTH116 - A million times.
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                # A link may lead to an outer folder: each folder is searched once.
                _log.info("Left out %s: found it before.", shown(place))
                folders.clear()
                continue
            seen.add(identity)
            if set(RESULT_FILES) <= set(files):
                # Annotated copies and crops would be predicted as if they were inputs.
                _log.info("Left out %s: results of predictions.", shown(place))
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not _is_system(name))
            yield place, sorted(name for name in files if not _is_system(name))
    except RecursionError:
        raise SourceError(
            f"Expected folders of images, found in {shown(top)} hundreds of "
            "folders one in the other. Name the one that holds the images."
        ) from None


def _refusing(error: OSError) -> Source:
    reason = f"the folder cannot be listed: {first_line(error)}"
    return Source(str(error.filename), problem=reason)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _matching(pattern: str) -> list[Source]:
    """Returns the files that a glob matches, by name."""
    places: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    refused: list[OSError] = []
    # Links can lead round in circles: the shortest of several ways to a file counts.
    matches = _expanded(pattern, refused)
    for path in sorted(matches, key=lambda match: (len(match), match)):
        folder, name = os.path.split(path)
        if folder not in places:
            places[folder] = os.path.realpath(folder)
        if not os.path.isdir(path):  # noqa: PTH112
            found.setdefault((places[folder], name), path)
    if not found and not refused:
        raise SourceError(
            f"Expected files that match {shown(pattern)} in `source`, found none."
        )
    files = [Source(path) for path in sorted(found.values())]
    return files + [_refusing(error) for error in refused]


def _expanded(pattern: str, refused: list[OSError]) -> Iterator[str]:
    """Yields what a glob matches, which may be the same several times.

    Python's own `**` goes through two links to their own folder in 2^40 ways. Here it
    is each folder once.
    """
    before, *rest = _ANY_FOLDERS.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.glob(pattern)  # noqa: PTH207 - Takes absolute ones.
        return
    for top in glob.glob(before) if before else [""]:  # noqa: PTH207
        for place, _ in _folders(top or os.curdir, refused):
            folder = place if top else place.removeprefix(os.curdir).lstrip(os.sep)
            following = os.path.join(glob.escape(folder), rest[0] or "*")  # noqa: PTH118
            yield from _expanded(following, refused)


def _read_list(place: Path | IO[bytes] | None) -> bytes:
    try:
        if isinstance(place, Path):
            with open_regular(place) as file:
                return read_open(file, megabytes=_LIST_MEGABYTES)
        return b"" if place is None else read_open(place, megabytes=_LIST_MEGABYTES)
    except (OSError, ValueError) as error:
        name = str(place) if isinstance(place, Path) else "standard input"
        raise SourceError(
            "Expected a text file with a path a line after the @ in `source`, but "
            f"{shown(name)} cannot be read: {first_line(error)}"
            ". Name another, or split it."
        ) from error


def _listed(content: bytes, name: str) -> list[Source]:
    """Returns the files that a list names, one a line, or ended by null characters."""
    separator = b"\0" if b"\0" in content else b"\n"
    lines = content.removeprefix(b"\xef\xbb\xbf").split(separator, _LIST_LINES)
    longest = max(map(len, lines))
    if len(lines) > _LIST_LINES or longest > _LONGEST_PATH:
        found = "more lines" if len(lines) > _LIST_LINES else f"one of {longest:,}"
        raise SourceError(
            f"Expected up to {_LIST_LINES:,} lines of up to {_LONGEST_PATH:,} bytes, a "
            f"path each, in {shown(name)}, found {found}. Name a list, or split it."
        )
    # A path may begin or end with blanks, but no one means the end of a line.
    paths = [os.fsdecode(line.rstrip(b"\r")) for line in lines if line.strip()]
    if not paths:
        raise SourceError(
            f"Expected a path a line in {shown(name)}, found none. Name the images "
            "or videos to predict."
        )
    return [Source(path, problem=_problem(path)) for path in paths]


def _problem(path: str) -> str | None:
    if _NETWORK.match(path):
        return "an address on a network: nothing is read from there"
    return None


def _each_once(sources: Iterable[Source]) -> list[Source]:
    first: dict[str, Source] = {}
    try:
        here = os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # It has been removed: what is relative is not there.
        here = ""
    for each in sources:
        # An address is no path; joined, all are alike.
        whole = os.path.join(here, each.name)  # noqa: PTH118 - A million times.
        first.setdefault(os.path.normpath(whole), each)
    return list(first.values())
