"""The images a benchmark runs on: a data folder, or drawn faces in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from emotion_cnn.data.drawn_faces import sample_test, sample_train
from emotion_cnn.data.source import SAMPLE_DATA

DATA_HELP = (
    "folder with train/ and test/, such as FER2013's; "
    f"'{SAMPLE_DATA}' (the default) for the built-in drawn faces"
)


@contextmanager
def data_folder(data: str) -> Iterator[Path]:
    """Yields the folder `data`, or a temporary one with the drawn faces as files.

    The files are JPEG, like FER2013's.

    Args:
        data: A folder, or `SAMPLE_DATA`.
    """
    if data != SAMPLE_DATA:
        yield Path(data)
        return
    print(
        "On drawn faces. They are few, so what is done once weighs more than on "
        "FER2013,\nwhich the targets are for, and a target may be missed."
    )
    with TemporaryDirectory() as temporary:
        for split in (sample_train(), sample_test()):
            for image, name in zip(split.images, split.names, strict=True):
                path = Path(temporary, name).with_suffix(".jpg")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[:, :, 0]).save(path)
        yield Path(temporary)
