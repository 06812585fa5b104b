"""Names of image files: what they say, and making a stranger's ones safe."""

import re
import unicodedata

_NUMBERED = re.compile(r"(?:Training|PublicTest|PrivateTest|Test)_(00\d{5})")
_UNSAFE = re.compile(r"[^\w .,()+@=#-]")

_LONGEST = 150
"""In bytes; most file systems take 255, and an ending and a number are added."""


def numbered_name(usage: str, row: int) -> str:
    """Returns the name of a row of a table: `Training_0000123`."""
    return f"{usage}_{row:07}"


def row_in_name(name: str) -> int | None:
    """Returns the row that `numbered_name` put into a name, if it is one of those.

    Kaggle's folders have names such as `Training_10118481` whose number is no
    row. They never begin with two zeros, as all of FER2013's rows do here.
    """
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def safe_stem(name: str) -> str:
    """Returns a name that any file system takes, much like the one it is given.

    Args:
        name: A stranger's: it may hold anything.

    Returns:
        Letters, digits and a few signs, no separator, no dot or blank at its ends.
    """
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", name))
    name = name.encode()[:_LONGEST].decode(errors="ignore")
    return name.strip(" .") or "image"
