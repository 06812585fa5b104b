"""Class names: FER2013's seven emotions, their order and their synonyms."""

from collections.abc import Sequence

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""FER2013's classes, which are the default; a name's position is its label."""

LEFT_OUT_CLASSES = ("contempt",)
"""Expressions that other data sets have: left out of imports, and counted."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
}


def emotion_from_name(name: str, classes: Sequence[str] = EMOTIONS) -> str | None:
    """Returns the class that the name of a folder or a column stands for.

    Args:
        name: Any spelling in use, such as `Happiness` or `anger`; case and
            surrounding blanks do not matter.
        classes: The class names to choose from.

    Returns:
        One of `classes`, or None for a name that stands for none of them.
    """
    known = {each.lower(): each for each in classes}
    name = name.strip().lower()
    return known.get(name) or known.get(_SYNONYMS.get(name, ""))


LABELS = ("original", "ferplus")
"""Label sets; a network with an output for each has its outputs in this order."""
BOTH_LABELS = "both"
LABEL_MODES = ("majority", "distribution")


LABEL_NAMES = {
    "original": "original labels",
    "ferplus": "FER+ majority labels",
    BOTH_LABELS: "original labels and FER+ votes",
}
"""What the label sets, and both of them, are called in texts."""
