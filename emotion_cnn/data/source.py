"""Which data a command works on: a folder, or the built-in drawn faces."""

from pathlib import Path

from emotion_cnn.data.folders import has_images
from emotion_cnn.settings import ROOT

SAMPLE_DATA = "sample"
"""The value of `--data` that stands for the built-in drawn faces."""

_NOTICE = """\
*** DRAWN FACES, NOT PHOTOGRAPHS ***
{reason} So the built-in drawn faces are
used. They show that everything works; accuracy on them says nothing about
accuracy on people. For real figures get FER2013 (the Kaggle data set
msambare/fer2013, about 60 MB), unpack its train/ and test/ into
{root}, or name another folder with --data.
"""


def find_source(data: str) -> str:
    """Returns the data folder to work on, or `SAMPLE_DATA` for the drawn faces.

    They step in, with a notice, where they are asked for or where the project's
    own folder is and holds no images.

    Args:
        data: What `--data` says.
    """
    if data == SAMPLE_DATA:
        reason = "--data sample asks for them."
    elif Path(data).resolve() == ROOT.resolve() and not has_images(ROOT):
        reason = "train/ and test/ hold no images yet."
    else:
        return data
    print(_NOTICE.format(reason=reason, root=ROOT))
    return SAMPLE_DATA


def source_name(source: str) -> str:
    """Returns how a result of `find_source` is called in texts."""
    return "built-in drawn faces" if source == SAMPLE_DATA else source
