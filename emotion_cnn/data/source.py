"""Which data a command works on: a folder, or the built-in drawn faces."""

import logging
import os
from pathlib import Path

from emotion_cnn.errors import DataError
from emotion_cnn.files import shown

SAMPLE_DATA = "sample"
"""The value of the setting `data` that stands for the built-in drawn faces."""

_NOTICE = """\
*** DRAWN FACES, NOT PHOTOGRAPHS ***
{reason} So the built-in drawn faces are
used. They show that everything works; accuracy on them says nothing about
accuracy on people. For real figures get FER2013 (the Kaggle data set
msambare/fer2013, about 60 MB), unpack its train/ and test/ into
{folder}, or name another folder with `data`.
"""

_log = logging.getLogger(__name__)


def find_source(data: str) -> str:
    """Returns the data folder to work on, or `SAMPLE_DATA` for the drawn faces.

    They step in, with a notice, where they are asked for, or where the data folder is
    the working folder and holds no images.

    Args:
        data: A folder, or `SAMPLE_DATA`.

    Raises:
        DataError: The working folder cannot be listed, or `data` is a file or does
            not exist.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise DataError(
            "The working folder no longer exists. Change to another one."
        ) from error
    if data == SAMPLE_DATA:
        reason = f"`data={SAMPLE_DATA}` asks for them."
    # Not `resolve`, which raises an error of its own for a link to itself.
    elif Path(os.path.realpath(data)) == here and not _has_images(here):
        reason = "train/ and test/ hold no images yet."
    else:
        require_folder(data)
        return data
    _log.warning(_NOTICE.format(reason=reason, folder=here))
    return SAMPLE_DATA


def require_folder(data: str) -> None:
    """Makes sure that a data folder is there, before a backend takes seconds to load.

    Raises:
        DataError: `data` is a file or does not exist.
    """
    if Path(data).is_file():
        raise DataError(
            f"Expected a folder with train/ and test/ in `data`, found the file "
            f"{shown(data)}. Turn a table or an archive into a folder with "
            f"`emotion-cnn prepare`: its `source` is the file, its `data` a new "
            "folder."
        )
    if not Path(data).exists():
        raise DataError(
            f"The folder {shown(data)} does not exist. Unpack FER2013 into it, so "
            "that its train/ and test/ lie there, choose another folder with "
            f"`data`, or use the built-in drawn faces with `data={SAMPLE_DATA}`."
        )


def _has_images(folder: Path) -> bool:
    # Not at the top: the command line needs the name of the drawn faces at once.
    from emotion_cnn.data.listing import has_images

    return has_images(folder)


def source_name(source: str) -> str:
    """Returns how a result of `find_source` is called in texts."""
    return "built-in drawn faces" if source == SAMPLE_DATA else source
