"""What is known of a data set's images beside their labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from emotion_cnn.data.near_duplicates import KnownNearDuplicates
from emotion_cnn.data.votes import Votes


@dataclass(frozen=True)
class Annotations:
    """What is known of images beside their labels; None where it was not asked for.

    Attributes:
        votes: FER+ votes by the image's name.
        near_duplicates: What an audit of the images has found.
    """

    votes: Mapping[str, Votes] | None = None
    near_duplicates: KnownNearDuplicates | None = None


NOTHING_KNOWN = Annotations()
