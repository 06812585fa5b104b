"""The groups of a data folder: images that no split may part, as of one person."""

from collections.abc import Mapping
from pathlib import Path

from emotion_cnn.data.votes import csv_rows, open_table
from emotion_cnn.files import write_csv

GROUPS_NAME = "groups.csv"
"""The file in a data folder that says which images belong together."""

_COLUMNS = ("image", "group")


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Writes the group of each image, by its path in the data folder."""
    write_csv(path, _COLUMNS, groups.items())


def find_groups(folder: Path) -> dict[str, str]:
    """Returns the group of each image that has one, by its path in the data folder.

    Raises:
        SourceError: It cannot be read.
    """
    path = folder / GROUPS_NAME
    if not path.is_file():
        return {}
    with open_table(path) as file:
        return {row["image"]: row["group"] for _, row in csv_rows(file, path, _COLUMNS)}
