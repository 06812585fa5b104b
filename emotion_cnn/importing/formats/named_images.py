"""Images whose names carry the emotion: JAFFE, KDEF, and CK+ with its label files."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath

from emotion_cnn.data.images import IMAGE_SUFFIXES
from emotion_cnn.importing.containers import Container, Member
from emotion_cnn.importing.formats.class_folders import decoded_record, read_image
from emotion_cnn.importing.records import (
    BadRecord,
    ClassNames,
    LeftOut,
    Record,
    Source,
)

KIND = "images whose names carry the emotion, as of JAFFE, KDEF and CK+"

_LETTERS = {
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
    "AF": "fear",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
_PATTERNS = (
    # KA.AN1.39.tiff: person, emotion, number of the image.
    re.compile(r"[A-Z]{2}\.(AN|DI|FE|HA|NE|SA|SU)[0-9]\.[0-9]{1,3}"),
    # AF01ANS.JPG: session, sex and number of the person, emotion, angle.
    re.compile(r"[AB][FM][0-9]{2}(AF|AN|DI|HA|NE|SA|SU)(?:FL|FR|HL|HR|S)"),
)
_CK_NUMBERS = {
    "0": "neutral",
    "1": "angry",
    "2": "contempt",
    "3": "disgust",
    "4": "fear",
    "5": "happy",
    "6": "sad",
    "7": "surprise",
}
_CK_SUFFIX = "_emotion.txt"
# Such as `   3.0000000e+00`.
_CK_NUMBER = re.compile(r"\s*([0-7])\.0+e\+00\s*")
_WITHOUT_LABEL = "image without a label in its name or beside it"


def find(container: Container, class_names: ClassNames) -> Source | None:
    """Recognises names of one of these data sets, and CK+'s label files.

    Args:
        container: The files of the source.
        class_names: The classes.

    Returns:
        The images; None if fewer than half of them are so called. Of CK+ it is the
        last image of each sequence that has a label, at the height of the expression.
    """
    images = [m for m in container.members if m.name.lower().endswith(IMAGE_SUFFIXES)]
    labels = _label_files(container)
    emotions: dict[int, str] = {}
    for member in images:
        stem = PurePosixPath(member.name).stem
        if stem in labels:
            emotions[member.index] = labels[stem]
        for pattern in _PATTERNS:
            if match := pattern.fullmatch(stem.upper()):
                emotions[member.index] = _LETTERS[match[1]]
    # Of CK+'s frames one in twenty has a label.
    if not emotions or (not labels and 2 * len(emotions) < len(images)):
        return None
    known = tuple(member for member in images if member.index in emotions)
    return Source(
        kind=KIND,
        members=known,
        has_split=False,
        has_votes=False,
        total=len(known),
        unit=" images",
        records=partial(_records, container, known, emotions, len(images), class_names),
    )


def _label_files(container: Container) -> dict[str, str]:
    """Returns the emotion in each of CK+'s label files, by the image's name."""
    found = {}
    for member in container.members:
        if member.name.endswith(_CK_SUFFIX):
            match = _CK_NUMBER.fullmatch(member.head.decode("ascii", "replace"))
            if match:
                stem = PurePosixPath(member.name).name.removesuffix(_CK_SUFFIX)
                found[stem] = _CK_NUMBERS[match[1]]
    return found


def _records(
    container: Container,
    members: tuple[Member, ...],
    emotions: Mapping[int, str],
    image_count: int,
    class_names: ClassNames,
) -> Iterator[Record]:
    for _ in range(image_count - len(members)):
        yield LeftOut(_WITHOUT_LABEL, 0)
    for member, stream in container.read(members):
        emotion = emotions[member.index]
        label = class_names.find_label(emotion, place=member.name, advance=1)
        if isinstance(label, int):
            content = read_image(member, stream)
            if isinstance(content, BadRecord):
                yield content
            else:
                yield decoded_record(member, content, label)
        else:
            yield label
