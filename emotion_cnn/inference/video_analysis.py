"""From the frames of a video or a camera to faces that are followed over time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from emotion_cnn.data.images import Box
from emotion_cnn.errors import DataError, EmotionCnnError
from emotion_cnn.inference.analysis import PHOTOS_AHEAD, Analyzer, Face
from emotion_cnn.inference.cores import cores
from emotion_cnn.inference.defaults import SMOOTHING
from emotion_cnn.inference.scenes import Scenes
from emotion_cnn.inference.tracking import Tracker
from emotion_cnn.inference.video import VideoFrame

# However many cores there are: 50 frames of 1920x1080.
_BYTES_AHEAD = 1_000_000_000


@dataclass(frozen=True, eq=False)
class AnalyzedFrame:
    """A frame, and what its faces show.

    Attributes:
        number: The frame's number in the video, from 0.
        seconds: When it is shown, from the start of the video.
        faces: Its faces from left to right, with `track` and `smoothed`.
        image: uint8 `(height, width, 3)`, RGB.
    """

    number: int
    seconds: float
    faces: list[Face]
    image: np.ndarray = field(repr=False)


def analyze_frames(
    analyzer: Analyzer,
    frames: Iterable[VideoFrame],
    *,
    smoothing: float = SMOOTHING,
    live: bool = False,
    tracks_before: int = 0,
) -> Iterator[AnalyzedFrame]:
    """Finds, classifies and follows the faces of frames.

    Args:
        analyzer: Finds and classifies the faces.
        frames: The frames, in the order of time.
        smoothing: Time constant of the smoothing of probabilities, in seconds; 0 for
            none.
        live: Whether a prediction must come before the next frame is read. Otherwise
            frames are read ahead, to find and classify the faces of several at once.
        tracks_before: How many tracks there are of frames before these, such as of a
            video up to where a user jumps: numbers go on after theirs.

    Yields:
        The frames with their faces.

    Raises:
        ConfigError: `smoothing` is negative.
        EmotionCnnError: The frames end with an error; after all before it are yielded.
        DataError: A frame cannot be analysed.
        ModelError: The network fails.
    """
    tracker = Tracker(smoothing=smoothing, begun=tracks_before)
    scenes = Scenes()
    for frame, faces in (_one_by_one if live else _several)(analyzer, frames):
        if scenes.is_cut(frame.image):
            tracker.forget()
        tracked = tracker.update(
            frame.seconds,
            [_box(face, frame.image) for face in faces],
            [face.probabilities for face in faces],
        )
        faces = [
            replace(face, track=t.track, smoothed=t.smoothed if smoothing else None)
            for face, t in zip(faces, tracked, strict=True)
        ]
        yield AnalyzedFrame(frame.number, frame.seconds, faces, frame.image)


def _one_by_one(
    analyzer: Analyzer, frames: Iterable[VideoFrame]
) -> Iterator[tuple[VideoFrame, list[Face]]]:
    for frame in frames:
        yield frame, analyzer.analyze(frame.image)


def _several(
    analyzer: Analyzer, frames: Iterable[VideoFrame]
) -> Iterator[tuple[VideoFrame, list[Face]]]:
    failure: EmotionCnnError | None = None

    def readable() -> Iterator[VideoFrame]:
        # Frames that are being analysed must not be lost to the error after them.
        nonlocal failure
        try:
            yield from frames
        except EmotionCnnError as error:
            failure = error

    decoded = readable()
    first = next(decoded, None)
    if first is None:
        threads = 1
    else:
        # Frames are in memory before their turn, unlike photos.
        most = _BYTES_AHEAD // ((PHOTOS_AHEAD + 1) * first.image.nbytes)
        threads = min(cores(), max(1, most))
        decoded = chain([first], decoded)
    # The photos are the frames' images; kept, they count for what is in memory.
    for analysis in analyzer.analyze_many(
        decoded, lambda frame, _: frame.image, keep_photos=True, threads=threads
    ):
        if analysis.error is not None:
            raise DataError(
                f"Expected frames that can be analysed, but that at "
                f"{analysis.item.seconds:.2f} s cannot: {analysis.error}"
            )
        yield analysis.item, analysis.faces
    if failure is not None:
        raise failure


def _box(face: Face, image: np.ndarray) -> Box:
    if face.box is not None:
        return face.box
    height, width = image.shape[:2]
    return (0.0, 0.0, float(width), float(height))
