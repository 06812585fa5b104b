"""Class names: FER2013's seven emotions, their order, their synonyms, and others."""

from collections.abc import Iterable, Sequence

from emotion_cnn.errors import ConfigError

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""FER2013's classes, which are the default; a name's position is its label."""

CONTEMPT = "contempt"
"""An eighth emotion that other data sets have."""

LEFT_OUT_CLASSES = (CONTEMPT,)
"""Expressions that other data sets have: left out of imports, and counted."""

MOST_CLASSES = 100
NAME_LENGTH = 50
"""Most characters of a class's name."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": CONTEMPT,
}


def class_name(name: str) -> str:
    """Returns the class that a folder of this name holds.

    Args:
        name: Any spelling of an emotion in use, such as `Happiness` or `anger`; case
            and surrounding blanks do not matter. Or any other name.

    Returns:
        One of `EMOTIONS`, `CONTEMPT`, or another name as it is.
    """
    name = name.strip()
    known = _SYNONYMS.get(name.lower(), name.lower())
    return known if known in (*EMOTIONS, CONTEMPT) else name


def emotion_from_name(name: str, classes: Sequence[str] = EMOTIONS) -> str | None:
    """Returns the class that the name of a folder or a column stands for.

    Args:
        name: As for `class_name`; case does not matter in other names either.
        classes: The class names to choose from.

    Returns:
        One of `classes`, or None for a name that stands for none of them.
    """
    name = name.strip()
    if name in classes:
        return name
    known = {class_name(each).lower(): each for each in reversed(classes)}
    return known.get(class_name(name).lower())


def in_stable_order(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes of folders: known emotions first, the others by alphabet.

    Names that differ in case alone are one class, called as the first of them.
    """
    classes: dict[str, str] = {}
    for name in sorted(map(class_name, names), key=lambda name: (name.lower(), name)):
        classes.setdefault(name.lower(), name)
    emotions = [each for each in (*EMOTIONS, CONTEMPT) if each in classes]
    return (*emotions, *(classes[each] for each in classes if each not in emotions))


def parse_classes(
    names: str | Sequence[str], *, setting: str = "classes"
) -> tuple[str, ...]:
    """Returns the classes that names such as `angry,happy,tired` declare.

    Args:
        names: Names, as a text separated by commas; synonyms become the known emotions.
        setting: What they are the value of, for messages.

    Raises:
        ConfigError: They are not two or more different names that a folder can have.
    """
    texts = names.split(",") if isinstance(names, str) else names
    given = [name.strip() for name in texts]
    classes = tuple(map(class_name, given))
    first: dict[str, str] = {}
    for name, each in zip(given, classes, strict=True):
        if not is_class_name(each):
            raise ConfigError(
                f"`{setting}` lists names, such as angry,happy,tired, each of at most "
                f"{NAME_LENGTH} characters that a folder's name can have; found "
                f"{name[: 2 * NAME_LENGTH]!a}."
            )
        if each.lower() in first:
            raise ConfigError(
                f"`{setting}` names each class once; found the class {each} twice, as "
                f"{first[each.lower()]} and as {name}. Leave one of them out."
            )
        first[each.lower()] = name
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise ConfigError(
            f"`{setting}` names 2 to {MOST_CLASSES} classes, separated by commas; "
            f"found {len(classes)}."
        )
    return classes


def is_class_name(name: object) -> bool:
    """Returns whether a class can have this name: it is a folder's, and is printed."""
    return (
        isinstance(name, str)
        and 0 < len(name.strip()) == len(name) <= NAME_LENGTH
        and name.isprintable()
        and not any(each in name for each in "/\\")
        and name.strip(".") != ""
    )


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
