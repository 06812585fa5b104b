"""The seven emotions in their one order, and the other names they go by."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Class names; the position of a name is its label everywhere in the tool."""

LEFT_OUT_CLASSES = ("contempt",)
"""Known expressions that are none of the seven: left out of imports and counted."""

_OTHER_NAMES = {
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


def emotion_from_name(name: str) -> str | None:
    """Returns the emotion that a folder or column name stands for.

    Args:
        name: Any spelling in use, such as `Happiness` or `anger`; case and
            surrounding blanks do not matter.

    Returns:
        One of `EMOTIONS`, or None for a name that stands for none of them.
    """
    name = name.strip().lower()
    return name if name in EMOTIONS else _OTHER_NAMES.get(name)


LABELS = ("original", "ferplus")
"""Label sets; a network that answers for both does so in this order."""
BOTH_LABELS = "both"
LABEL_MODES = ("majority", "distribution")


LABEL_NAMES = {
    "original": "original labels",
    "ferplus": "FER+ majority labels",
    BOTH_LABELS: "original labels and FER+ votes",
}
"""What the label sets, and both of them, are called in texts."""
