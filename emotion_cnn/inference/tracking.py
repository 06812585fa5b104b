"""Faces followed from frame to frame, and their probabilities smoothed over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from emotion_cnn.data.images import Box
from emotion_cnn.errors import ConfigError
from emotion_cnn.inference.boxes import intersection_over_union

_LEAST_OVERLAP = 0.2
"""Intersection over union of two boxes of one face in two frames: heads turn and move,
but two heads do not overlap by half of that."""
_MOST_MISSED = 3
_PATIENCE = 1.0
"""Seconds; and frames, above: a face is given up when it is missed for longer than
both, so that neither a high frame rate nor a long stride cuts a track."""


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face of a frame, and what its track adds.

    Attributes:
        track: The track's number, from 1, in the order in which tracks begin.
        smoothed: float32 `(classes,)`, the probabilities smoothed along the track;
            they sum to 1.
    """

    track: int
    smoothed: np.ndarray


@dataclass
class _Track:
    number: int
    box: Box
    seconds: float
    frame: int
    smoothed: np.ndarray


class Tracker:
    """Follows faces through the frames of a video.

    A face belongs to the track whose last box it overlaps most, so that the sum of all
    overlaps is the greatest (intersection over union; assignment as in SORT, Bewley et
    al. 2016, without its motion model: the detector sees nearly every frame).
    Probabilities are smoothed by the moving average with exponential weights for
    irregular times (Zumbach and Müller 2001, next point): of what was before,
    `exp(-elapsed / smoothing)` stays. Tracks that have ended take no memory.
    """

    def __init__(self, *, smoothing: float, begun: int = 0) -> None:
        """Takes how to smooth.

        Args:
            smoothing: Time constant in seconds; 0 for none.
            begun: How many tracks began before: the next has the number after.

        Raises:
            ConfigError: `smoothing` is negative, or no number.
        """
        if not 0 <= smoothing < math.inf:
            raise ConfigError(
                f"`smoothing` is a number of seconds, 0 or more; found {smoothing}."
            )
        self._smoothing = smoothing
        self._tracks: list[_Track] = []
        self._begun = begun
        self._frame = 0

    def forget(self) -> None:
        """Ends all tracks: whoever comes next is somebody else."""
        self._tracks = []

    def update(
        self, seconds: float, boxes: Sequence[Box], probabilities: Sequence[np.ndarray]
    ) -> list[TrackedFace]:
        """Takes the faces of the next frame, which may be none.

        Args:
            seconds: When the frame is shown, not before the last one.
            boxes: Where its faces are.
            probabilities: float32 `(classes,)` of each of them.

        Returns:
            What is known of each face, in their order.
        """
        self._frame += 1
        self._tracks = [
            track
            for track in self._tracks
            if seconds - track.seconds <= _PATIENCE
            or self._frame - track.frame <= _MOST_MISSED + 1
        ]
        overlaps = np.array(
            [
                [intersection_over_union(box, track.box) for track in self._tracks]
                for box in boxes
            ]
        ).reshape(len(boxes), len(self._tracks))
        # What may not be matched must not take part in the sum either.
        overlaps[overlaps < _LEAST_OVERLAP] = 0
        followed = {
            int(face): self._tracks[track]
            for face, track in zip(
                *linear_sum_assignment(overlaps, maximize=True), strict=True
            )
            if overlaps[face, track] > 0
        }
        return [
            self._continued(followed.get(index), seconds, box, values)
            for index, (box, values) in enumerate(
                zip(boxes, probabilities, strict=True)
            )
        ]

    def _continued(
        self, track: _Track | None, seconds: float, box: Box, values: np.ndarray
    ) -> TrackedFace:
        """Returns a face of a track, or of a new one."""
        if track is None:
            self._begun += 1
            track = _Track(self._begun, box, seconds, self._frame, values)
            self._tracks.append(track)
        else:
            before = 0.0
            if self._smoothing:
                before = math.exp((track.seconds - seconds) / self._smoothing)
            track.smoothed = before * track.smoothed + (1 - before) * values
            track.box, track.seconds, track.frame = box, seconds, self._frame
        return TrackedFace(track.number, track.smoothed.astype("float32"))
