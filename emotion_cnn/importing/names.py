"""Names: of image files, with a row number, safe ones of any text; of splits."""

import re
import unicodedata
from pathlib import PurePosixPath

NOTHING = "none"
"""What a label can be given as, to leave its images out."""

_NUMBERED = re.compile(r"(?:Training|PublicTest|PrivateTest|Test)_(00\d{5})")
_UNSAFE = re.compile(r"[^\w .,()+@=#-]")

_SPLITS = ("train", "validation", "valid", "val", "test")

_LONGEST = 150
"""In bytes; most file systems take 255, and a number and a suffix are added."""


def numbered_name(usage: str, row: int) -> str:
    """Returns the name of a row of a table: `Training_0000123`."""
    return f"{usage}_{row:07}"


def row_in_name(name: str) -> int | None:
    """Returns the row in a name from `numbered_name`, or None for other names.

    Kaggle's folders have names such as `Training_10118481` whose number is not a
    row. It never begins with two zeros, as all of FER2013's rows do here.
    """
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def safe_stem(name: str) -> str:
    """Returns a name that every file system takes, similar to the given one.

    Args:
        name: Any text: it is from an untrusted source.

    Returns:
        Letters, digits and a few signs; no separator, no dot or blank at either end.
    """
    # Normalising takes a time that grows with the square of the length.
    name = unicodedata.normalize("NFC", name[: 4 * _LONGEST])
    name = _UNSAFE.sub("_", name)
    name = name.encode()[:_LONGEST].decode(errors="ignore")
    return name.strip(" .") or "image"


def split_in_path(name: str) -> str | None:
    """Returns the split in a path such as `data/train-00000-of-00001.parquet`.

    Returns:
        `train`, `validation` or `test`; None if none is named.
    """
    path = PurePosixPath(name)
    for word in (path.stem.lower(), *reversed(path.parent.parts)):
        for split in _SPLITS:
            rest = word.lower().removeprefix(split)
            if rest != word.lower() and not rest[:1].isalpha():
                return "validation" if split.startswith("val") else split
    return None
