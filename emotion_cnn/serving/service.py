"""What the page asks for, answered by the same code as `predict`; nothing is kept."""

import base64
import io
import math
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from emotion_cnn import __version__
from emotion_cnn.data.classes import LABEL_NAMES
from emotion_cnn.data.images import decode_photo
from emotion_cnn.errors import DataError
from emotion_cnn.inference.analysis import Analyzer, Face, FaceClassifier
from emotion_cnn.inference.annotation import (
    CLASS_COLORS,
    annotate,
    describe,
    describe_all,
)
from emotion_cnn.inference.cropping import crop_box
from emotion_cnn.inference.defaults import SMOOTHING, UNSURE_BELOW
from emotion_cnn.inference.detection import Detector
from emotion_cnn.inference.explanation import heat_map
from emotion_cnn.inference.predictions import Layout
from emotion_cnn.inference.video import VideoFrame
from emotion_cnn.inference.video_analysis import AnalyzedFrame, analyze_frames
from emotion_cnn.serving.limits import FRAME_BYTES, FRAME_MEGAPIXELS, PHOTO_BYTES

_PREVIEW_SIDE, _PREVIEW_QUALITY = 1600, 88
_MOST_SECONDS = 1_000_000.0


class Service:
    """Finds faces and says what they show; several threads may ask at a time.

    Attributes:
        counts: How many of each `photo`, `frame`, `face` and `heat map` there were.
    """

    def __init__(
        self,
        classifier: FaceClassifier,
        detector: Detector | None,
        *,
        unsure_below: float = UNSURE_BELOW,
    ) -> None:
        """Takes what classifies and what detects, and tries both once.

        Args:
            classifier: Predicts and explains.
            detector: Finds faces; None where every image is one face.
            unsure_below: Least probability that is a decision.

        Raises:
            ModelError: The network fails.
        """
        self._classifier = _OneAtATime(classifier)
        self._unsure_below = unsure_below
        self._is_detecting = detector is not None
        self._analyzers = {
            labels: Analyzer(
                self._classifier, detector, labels=labels, unsure_below=unsure_below
            )
            for labels in classifier.label_sets
        }
        self.counts = _Counts()
        # The first time takes longest, and no face need be waiting then.
        size = classifier.input_size
        for labels in classifier.label_sets:
            self._classifier.predict(np.zeros((size, size), np.uint8), labels=labels)

    def about(self) -> dict[str, Any]:
        """Returns what the page has to know."""
        classes = self._classifier.classes
        return {
            "version": __version__,
            "classes": classes,
            "colors": [
                CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(classes))
            ],
            "label_sets": {
                name: LABEL_NAMES.get(name, name) for name in self._analyzers
            },
            "size": self._classifier.input_size,
            "detects": self._is_detecting,
            "unsure_below": self._unsure_below,
            "photo_bytes": PHOTO_BYTES,
            "frame_bytes": FRAME_BYTES,
            "csv": {
                "photo": Layout(classes).header,
                "live": Layout(classes, smoothed=True).header,
            },
        }

    def photo(self, content: bytes, *, name: str, labels: str) -> dict[str, Any]:
        """Analyses a photo.

        Args:
            content: The file.
            name: What it is called, for the tables.
            labels: The label set to predict by.

        Returns:
            The answer as the page takes it, with a smaller copy to show.

        Raises:
            DataError: It cannot be read.
            ModelError: The network fails.
        """
        photo, faces = self._analyzed(content, labels)
        self.counts.add({"photo": 1, "face": len(faces)})
        rows, line = Layout(self._classifier.classes).write(
            name, [face.as_dict() for face in faces]
        )
        image = Image.fromarray(photo)
        image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), reducing_gap=2)
        preview = io.BytesIO()
        image.save(preview, "JPEG", quality=_PREVIEW_QUALITY)
        return {
            "width": photo.shape[1],
            "height": photo.shape[0],
            "preview": _as_text(preview.getvalue()),
            **_answer(rows, line, faces),
        }

    def annotated(self, content: bytes, *, labels: str, explain: bool) -> bytes:
        """Returns a photo with its faces marked, as a PNG file.

        Args:
            content: The photo's file.
            labels: The label set to predict by.
            explain: Whether to add a heat map to each face.

        Raises:
            DataError: It cannot be read.
            ModelError: The network fails, or cannot be explained.
        """
        photo, faces = self._analyzed(content, labels)
        maps = None
        if explain:
            maps = [heat_map(face.image, face.explain()) for face in faces]
        file = io.BytesIO()
        annotate(photo, faces, maps=maps).save(file, "PNG")
        return file.getvalue()

    def explanation(self, pixels: bytes, *, emotion: str, labels: str) -> bytes:
        """Returns a heat map of what speaks for an emotion, as bytes of RGB.

        Args:
            pixels: What the network saw of a face: a byte for each pixel, row by row.
            emotion: One of the classes.
            labels: The label set to predict by.

        Raises:
            DataError: They are not as many.
            ConfigError: There is no such class, or label set.
            ModelError: The network fails, or cannot be explained.
        """
        size = self._classifier.input_size
        if len(pixels) != size * size:
            raise DataError(
                f"Expected {size}x{size} gray levels, found {len(pixels):,} bytes."
            )
        self.counts.add({"heat map": 1})
        face = np.frombuffer(pixels, np.uint8).reshape(size, size)
        relevance = self._classifier.explain(face, emotion=emotion, labels=labels)
        return heat_map(face, relevance).tobytes()

    def live(self, *, source: str, labels: str, tracks: int = 0) -> "LiveSession":
        """Returns what answers the frames of a camera or a video.

        Args:
            source: What it is called, for the tables.
            labels: The label set to predict by.
            tracks: How many faces have been followed before in what goes on.

        Raises:
            DataError: There is no such label set.
        """
        return LiveSession(
            self._analyzer(labels),
            self._classifier.classes,
            source,
            self.counts,
            tracks,
        )

    def _analyzed(self, content: bytes, labels: str) -> tuple[np.ndarray, list[Face]]:
        analyzer = self._analyzer(labels)
        photo = _decoded(content, megapixels=None)
        return photo, analyzer.analyze(photo)

    def _analyzer(self, labels: str) -> Analyzer:
        if labels not in self._analyzers:
            raise DataError(
                f"Expected one of the label sets {', '.join(self._analyzers)}, found "
                f"{labels[:50]!a}."
            )
        return self._analyzers[labels]


class LiveSession:
    """The frames of one camera or video: faces are followed, and smoothed over time."""

    def __init__(
        self,
        analyzer: Analyzer,
        classes: tuple[str, ...],
        source: str,
        counts: "_Counts",
        tracks: int,
    ) -> None:
        """Takes what analyses the frames, what they are of, and the latest track."""
        self._analyzer = analyzer
        self._layout = Layout(classes, smoothed=True)
        self._source = source
        self._counts = counts
        self._tracks = tracks
        self._seconds = math.inf
        self._waiting: deque[VideoFrame] = deque()
        self._answers: Iterator[AnalyzedFrame] = iter(())

    def answer(self, number: int, seconds: float, content: bytes) -> dict[str, Any]:
        """Analyses a frame. Where its time goes back, faces are followed anew.

        Their numbers go on then, so that two faces never have the same.

        Args:
            number: The frame's number.
            seconds: When it is shown.
            content: A JPEG file, or another image.

        Returns:
            The answer as the page takes it.

        Raises:
            DataError: It cannot be read.
            ModelError: The network fails.
        """
        if not 0 <= seconds <= _MOST_SECONDS:
            raise DataError(
                f"Expected a time from 0 to {_MOST_SECONDS:,.0f} seconds, found "
                f"{seconds}."
            )
        image = _decoded(content, megapixels=FRAME_MEGAPIXELS)
        if seconds < self._seconds:
            # One frame at a time is put in and taken out.
            frames = iter(self._waiting.popleft, None)
            self._answers = analyze_frames(
                self._analyzer,
                frames,
                smoothing=SMOOTHING,
                live=True,
                tracks_before=self._tracks,
            )
        self._seconds = seconds
        self._waiting.append(VideoFrame(number, seconds, image))
        try:
            frame = next(self._answers)
        except BaseException:
            # What has failed once ends; the next frame begins anew.
            self._seconds = math.inf
            self._waiting.clear()
            raise
        for face in frame.faces:
            self._tracks = max(self._tracks, face.track or 0)
        rows, line = self._layout.write(
            self._source,
            [face.as_dict() for face in frame.faces],
            frame=frame.number,
            seconds=frame.seconds,
            smoothed=[face.decisive.tolist() for face in frame.faces],
        )
        self._counts.add({"frame": 1, "face": len(frame.faces)})
        return {
            "number": number,
            "width": image.shape[1],
            "height": image.shape[0],
            **_answer(rows, line, frame.faces),
        }


class _Counts(Counter[str]):
    """Counts, to which several threads add."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, amounts: Mapping[str, int]) -> None:
        with self._lock:
            self.update(amounts)


class _OneAtATime:
    """A classifier that is asked for one thing at a time.

    Not every runtime lets several threads use a network, and each uses all cores for
    itself.
    """

    def __init__(self, classifier: FaceClassifier) -> None:
        self._classifier = classifier
        self._lock = threading.Lock()
        self.classes = classifier.classes
        self.label_sets = classifier.label_sets
        self.input_size = classifier.input_size

    def predict(
        self, faces: Any, *, labels: str | None = None, tta: str = "none"
    ) -> np.ndarray:
        with self._lock:
            return self._classifier.predict(faces, labels=labels, tta=tta)

    def explain(
        self,
        face: Any,
        *,
        method: str | None = None,
        emotion: str | None = None,
        labels: str | None = None,
    ) -> np.ndarray:
        with self._lock:
            return self._classifier.explain(
                face, method=method, emotion=emotion, labels=labels
            )


def _decoded(content: bytes, *, megapixels: int | None) -> np.ndarray:
    try:
        found = decode_photo(io.BytesIO(content), megapixels=megapixels)
    except MemoryError:
        found = "too large for the memory"
    if isinstance(found, str):
        raise DataError(f"It cannot be read: {found}.")
    return found


def _answer(rows: str, line: dict[str, Any], faces: Sequence[Face]) -> dict[str, Any]:
    """Returns what answers have in common."""
    summary = describe_all(faces)
    return {
        "summary": f"{summary[0].upper()}{summary[1:]}.",
        "csv": rows,
        "line": line,
        "words": [describe(face) for face in faces],
        "percents": [face.percents for face in faces],
        "crops": [
            None
            if face.box is None
            else [round(edge, 1) for edge in crop_box(face.box)]
            for face in faces
        ],
        "images": [_as_text(face.image.tobytes()) for face in faces],
    }


def _as_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
