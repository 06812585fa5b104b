"""Settings that several modes have, and help texts of such."""

from typing import Any

from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.settings import setting

DATA_HELP = (
    "folder with train/ and test/, each with a folder per class; "
    f"'{SAMPLE_DATA}' for the built-in drawn faces"
)
CLASSES_HELP = (
    "the classes, such as angry,happy,tired: images of others are left out; without it "
    "all that the data folder has images of"
)
SKIP_BAD_HELP = "leave damaged images out instead of stopping at them"
BACKEND_HELP = (
    "Keras backend; without it the one that the environment variable KERAS_BACKEND "
    "names, else the first that is installed"
)
RUNS_HELP = "folder that gets a folder per run"
LABELS_HELP = (
    "which labels: those of the folders, or the majority of FER+'s votes, from the "
    "votes.csv that --mode prepare --ferplus writes"
)


def class_order() -> Any:
    """Declares the setting `class_order`."""
    return setting(
        None,
        "the classes in the order of the outputs, such as angry,happy,tired, of a "
        "network of another tool, whose model.json does not say; without it FER2013's "
        "seven",
        metavar="NAMES",
        is_path=False,
    )


def input_range() -> Any:
    """Declares the setting `input_range`."""
    return setting(
        None,
        "what pixels such a network was trained on; without it 0-255",
        choices=tuple(INPUT_RANGES),
    )


def validation_share() -> Any:
    """Declares the setting `validation_share`."""
    return setting(
        0.1,
        "share of train/ held out for validation where there is no validation/ and "
        "the file names do not carry FER2013's PublicTest",
        minimum=0.01,
        maximum=0.5,
    )


def seed() -> Any:
    """Declares the setting `seed`."""
    return setting(42, "fixes every random choice", minimum=0, maximum=2**31 - 1)
