"""The groups of a data folder: images that no split may part, as of one person."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from emotion_cnn.data.votes import csv_rows, open_table
from emotion_cnn.files import write_csv

GROUPS_NAME = "groups.csv"
"""The file in a data folder that says which images belong together."""

_COLUMNS = ("image", "group")
_KNOWN = {
    "CK+": r"(S[0-9]{3})_[0-9]{3}_[0-9]{8}",
    "JAFFE": r"([A-Z]{2})\.(?:AN|DI|FE|HA|NE|SA|SU)[0-9]\.[0-9]{1,3}",
    "KDEF": r"[AB]([FM][0-9]{2})(?:AF|AN|DI|HA|NE|SA|SU)(?:FL|FR|HL|HR|S)",
}
# Other tools put more before or after such a name.
_PATTERNS = {
    name: re.compile(rf"(?:.*[^A-Z0-9])?{pattern}(?:[^A-Z0-9].*)?")
    for name, pattern in _KNOWN.items()
}


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Writes the group of each image, by its path in the data folder."""
    write_csv(path, _COLUMNS, groups.items())


def find_groups(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Returns the group of each image that has one, by its path in the data folder.

    Args:
        folder: The data folder. Where it has no `groups.csv`, names that say which
            person is on an image make the groups, if there are several persons.
        names: The paths of the images in it.

    Raises:
        SourceError: `groups.csv` cannot be read.
    """
    path = folder / GROUPS_NAME
    if not path.is_file():
        known, _ = groups_by_known_names(names)
        groups = {
            name: group for name, group in zip(names, known, strict=False) if group
        }
        return groups if len(set(groups.values())) > 1 else {}
    with open_table(path) as file:
        return {row["image"]: row["group"] for _, row in csv_rows(file, path, _COLUMNS)}


def groups_by_known_names(
    paths: Sequence[str],
) -> tuple[list[str | None], str]:
    """Returns which person is on each image, where its name says so.

    That is so in CK+, JAFFE and KDEF.

    Args:
        paths: The paths of n images.

    Returns:
        The n groups, None for an image without one, and how they were found, in words;
        nothing, and an empty text, if no name is known.
    """
    groups: list[str | None] = [None] * len(paths)
    found = []
    stems = [PurePosixPath(path).stem.upper() for path in paths]
    for name, pattern in _PATTERNS.items():
        matches = [pattern.fullmatch(stem) for stem in stems]
        if any(matches):
            found.append(name)
        groups = [
            m[1] if m else group for m, group in zip(matches, groups, strict=True)
        ]
    return (groups, f"the names of {' and '.join(found)}") if found else ([], "")
