"""Naming bad images: the first on the screen, and if there are many, all in a file."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from emotion_cnn.files import is_plain_file

LISTED_AT_MOST = 100


def list_bad(lines: Sequence[str], count: int) -> list[str]:
    """Returns the lines that fit on a screen; writes all to a file if there are more.

    The file is in the working folder, as even a command that fails has that, and the
    last of the lines names it. If it cannot be written, none is named. Its name follows
    from its content: the same bad images are written once.

    Args:
        lines: What is wrong, a line an image, safe for a terminal.
        count: The number of bad images, which may be larger than that of the lines.
    """
    rest = count - LISTED_AT_MOST
    if rest <= 0:
        return [*lines]
    name = _write_once("".join(f"{line}\n" for line in lines))
    place = f", listed in {name} in the working folder" if name else ""
    return [*lines[:LISTED_AT_MOST], f"... and {rest:,} more{place}"]


def _write_once(text: str) -> str | None:
    """Writes a new text file, and returns its name; None if it cannot be written."""
    content = text.encode()
    path = Path(f"bad-images-{hashlib.sha256(content).hexdigest()[:8]}.txt")
    try:
        with path.open("xb") as file:
            try:
                file.write(content)
                file.flush()
            except OSError:
                with suppress(OSError):
                    path.unlink()
                raise
    except FileExistsError:
        return path.name if is_plain_file(path) else None
    except OSError:
        return None
    return path.name
