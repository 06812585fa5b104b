"""Naming bad images: the first on the screen, and if there are many, all in a file."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from emotion_cnn.files import shown

LISTED_AT_MOST = 100

_FILE_NAME = "bad-images"


def list_bad(lines: Sequence[str], count: int) -> list[str]:
    """Returns the lines that fit on a screen; writes all to a file if there are more.

    The file is a new one in the working folder, as even a command that fails has that,
    and the last of the lines names it. If it cannot be written, none is named.

    Args:
        lines: What is wrong, a line an image, safe for a terminal.
        count: The number of bad images, which may be larger than that of the lines.
    """
    rest = count - LISTED_AT_MOST
    if rest <= 0:
        return [*lines]
    path = _write_new(lines)
    place = f", listed in {shown(str(path))}" if path else ""
    return [*lines[:LISTED_AT_MOST], f"... and {rest:,} more{place}"]


def _write_new(lines: Sequence[str]) -> Path | None:
    """Writes a text file under a name that is free, and returns its path."""
    count = 1
    while True:
        number = f"-{count}" if count > 1 else ""
        path = Path(f"{_FILE_NAME}{number}.txt").absolute()
        try:
            with path.open("x", encoding="utf-8") as file:
                try:
                    file.writelines(f"{line}\n" for line in lines)
                    file.flush()
                except OSError:
                    with suppress(OSError):
                        path.unlink()
                    raise
        except FileExistsError:
            count += 1
        except OSError:
            return None
        else:
            return path
