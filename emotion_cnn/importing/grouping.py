"""Which images belong together: those of one person, or of one sequence.

By a level of the folders, by a regular expression, or by the names of data sets that
are known: CK+, JAFFE and KDEF.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from emotion_cnn.data.groups import groups_by_known_names
from emotion_cnn.errors import ConfigError, SourceError
from emotion_cnn.files import shown

_LEVEL = re.compile(r"-?[1-9][0-9]?")
_LONGEST_PATTERN = 1000
_SECONDS = 60

# A pattern can take a time that doubles with every character of a name, and only a
# process of its own can be stopped then.
_SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
pattern = re.compile(pattern)
found = []
for name in names:
    match = pattern.search(name)
    found.append(match and (match[1] if pattern.groups else match[0]))
json.dump(found, sys.stdout)
"""


def check_group_by(group_by: str) -> None:
    """Raises a `ConfigError` if a text is neither a level nor a regular expression."""
    try:
        if len(group_by) > _LONGEST_PATTERN:
            raise ValueError(f"more than {_LONGEST_PATTERN:,} characters")
        re.compile(group_by)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(
            "`group_by` is the level of a folder, such as 1 for the outermost and -1 "
            "for the innermost, or a regular expression on the image's name, such as "
            f"'^S[0-9]+'; found {shown(group_by)[:100]!r} ({error})."
        ) from error


def find_groups(
    paths: Sequence[str], group_by: str | None
) -> tuple[list[str | None], str]:
    """Returns the group of each image, and how they were found, in words.

    Args:
        paths: The paths of n images in their source.
        group_by: As `check_group_by` takes it; None to recognise known names.

    Returns:
        The n groups, None for an image without one; nothing, and an empty text, if no
        group is asked for and no name is known.

    Raises:
        SourceError: None has a group, or the expression takes too long.
    """
    if group_by is None:
        return groups_by_known_names(paths)
    if _LEVEL.fullmatch(group_by):
        groups = [_folder(path, int(group_by)) for path in paths]
        how = f"folder {group_by}"
    else:
        groups = _by_pattern([PurePosixPath(path).name for path in paths], group_by)
        how = f"the expression {shown(group_by)[:100]}"
    if not any(groups):
        example = f", such as {shown(paths[0])[:100]}" if paths else ""
        raise SourceError(
            f"Expected groups of images by {how}, found none in the names of "
            f"{len(paths):,} images{example}. Change `group_by`."
        )
    return groups, how


def _folder(path: str, level: int) -> str | None:
    folders = PurePosixPath(path).parts[:-1]
    position = level - 1 if level > 0 else level
    try:
        return folders[position]
    except IndexError:
        return None


def _by_pattern(names: Sequence[str], pattern: str) -> list[str | None]:
    command = [sys.executable, "-I", "-c", _SEARCH]
    try:
        result = subprocess.run(  # noqa: S603
            command,
            input=json.dumps([pattern, names]),
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"Expected `group_by` to be found in {len(names):,} names within "
            f"{_SECONDS} seconds, which it was not. Choose a simpler expression, "
            "without repetitions of repetitions."
        ) from None
    found: list[str | None] = json.loads(result.stdout)
    return found
