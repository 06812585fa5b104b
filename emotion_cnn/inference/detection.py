"""Where the faces of a photo are."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emotion_cnn.data.images import Box


@dataclass(frozen=True)
class Detection:
    """A face that a detector found.

    Attributes:
        box: Where it is, in pixels of the photo; may reach beyond it.
        score: How sure the detector is, from 0 to 1.
    """

    box: Box
    score: float


class Detector(Protocol):
    """What finds faces."""

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """Returns the faces of a photo, by their left edges.

        Args:
            photo: uint8 RGB `(height, width, 3)`, upright.
        """


class YuNet:
    """Stands in until h-detect's."""

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """Finds nothing."""
        return []
