"""From photos to faces: detected, cropped and classified, several photos at a time.

Imports no Keras: whatever predicts as a `Classifier` does will do.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from emotion_cnn.data.images import Box, image_from_array, reason_of
from emotion_cnn.errors import ConfigError, EmotionCnnError
from emotion_cnn.inference.cores import cores
from emotion_cnn.inference.cropping import crop_face
from emotion_cnn.inference.defaults import UNSURE_BELOW
from emotion_cnn.inference.detection import Detector
from emotion_cnn.inference.memory import PhotoMemory, Reserve
from emotion_cnn.inference.predictions import probability_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PHOTOS_AT_ONCE = 16
_FACES_AT_ONCE = 64
_PIXELS_AT_ONCE = 50_000_000
PHOTOS_AHEAD = 2
"""How many photos a thread are submitted before they are needed."""
# Those that are read ahead take up to this, however many cores read them: the largest
# photo while it is decoded, or eight of 12 megapixels, and 35 more whose faces are
# looked for.
_BYTES_AHEAD = 2_000_000_000

Item = TypeVar("Item")


class FaceClassifier(Protocol):
    """What classifies and explains cropped faces, such as `Classifier`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""

    @property
    def label_sets(self) -> tuple[str, ...]:
        """The label sets that can be predicted."""

    @property
    def input_size(self) -> int:
        """Height and width of the images, in pixels."""

    def predict(
        self, faces: Any, *, labels: str | None = None, tta: str = "none"
    ) -> np.ndarray:
        """Returns float32 `(n, classes)` for uint8 `(n, size, size)`."""

    def explain(
        self,
        face: Any,
        *,
        method: str | None = None,
        emotion: str | None = None,
        labels: str | None = None,
    ) -> np.ndarray:
        """Returns float32 `(size, size)` from 0 to 1: what speaks for an emotion."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo, and what it shows.

    Attributes:
        box: Where it is, in pixels of the upright photo; None where the whole image
            was given as the face.
        score: How sure the detector is, from 0 to 1; None without a detector.
        image: What the network saw, uint8 `(size, size)`, gray levels.
        probabilities: How probable each class is, float32 `(classes,)`; sums to 1.
        classes: Names of the classes.
        unsure_below: Least probability that is a decision.
        labels: The label set that is predicted.
        classifier: What predicted it, and explains it.
        track: Number of the person along a video, from 1; None elsewhere.
        smoothed: Probabilities smoothed along the track, float32 `(classes,)`, which
            then decide; None elsewhere.
    """

    box: Box | None
    score: float | None
    image: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    unsure_below: float = field(repr=False)
    labels: str
    classifier: FaceClassifier = field(repr=False)
    track: int | None = None
    smoothed: np.ndarray | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Says what is seen, and where."""
        place = "whole image"
        if self.box is not None:
            place = "box ({:.0f}, {:.0f}, {:.0f}, {:.0f})".format(*self.box)
        unsure = ", unsure" if self.unsure else ""
        confidence = max(self.percents)
        return f"<Face: {self.emotion} {confidence}%{unsure}; {place}>"

    @property
    def decisive(self) -> np.ndarray:
        """The probabilities that decide: smoothed ones where there are any."""
        return self.probabilities if self.smoothed is None else self.smoothed

    @property
    def emotion(self) -> str:
        """The most probable class."""
        return self.classes[int(self.decisive.argmax())]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return float(self.decisive.max())

    @property
    def unsure(self) -> bool:
        """Whether no class is probable enough for a decision."""
        return self.confidence < self.unsure_below

    @property
    def percents(self) -> list[int]:
        """The probabilities that decide as they are shown, in whole percent.

        Rounded so that the greatest is below `unsure_below` if the face is unsure, and
        else not: 53.6% would be shown as 54%, and as too little for a bound of 54%.
        """
        bound = math.ceil(round(100 * self.unsure_below, 6))
        greatest = round(100 * self.confidence)
        greatest = min(greatest, bound - 1) if self.unsure else max(greatest, bound)
        return [min(round(100 * share), greatest) for share in self.decisive.tolist()]

    def as_dict(self) -> dict[str, Any]:
        """Returns the columns of `predictions.csv` that are about the face itself.

        `pandas.DataFrame(face.as_dict() for face in faces)` is a table of faces.
        """
        columns = probability_columns(self.classes)
        return {
            **dict(zip(("left", "top", "right", "bottom"), self._edges, strict=True)),
            "score": self.score,
            "track": self.track,
            **dict(zip(columns, self.probabilities.tolist(), strict=True)),
            "emotion": self.emotion,
            "confidence": self.confidence,
            "unsure": self.unsure,
        }

    def explain(
        self, method: str | None = None, emotion: str | None = None
    ) -> np.ndarray:
        """Returns which parts of the face speak for an emotion.

        Test-time augmentation has no part in it: it is about the image as it is.

        Args:
            method: `layercam`, or `occlusion`, which takes longer; None for the first
                that works with the network.
            emotion: One of `classes`; None for the most probable.

        Returns:
            float32 `(size, size)`, from 0 to 1, in the place of `image`.

        Raises:
            ConfigError: The method or the emotion is none of those.
            ModelError: The network has no layer that the method needs, or is none of
                Keras.
        """
        return self.classifier.explain(
            self.image,
            method=method,
            emotion=self.emotion if emotion is None else emotion,
            labels=self.labels,
        )

    def plot(self, method: str | None = None, emotion: str | None = None) -> "Figure":
        """Draws the face and the probabilities, and an explanation if asked for.

        Args:
            method: How to explain, as for `explain`; None for no explanation.
            emotion: What to explain; None for the most probable class.

        Returns:
            A Matplotlib figure, which a notebook shows and `savefig` saves.
        """
        from emotion_cnn.inference.face_figure import face_figure

        return face_figure(self, method=method, emotion=emotion)

    @property
    def _edges(self) -> tuple[float | None, ...]:
        return (None,) * 4 if self.box is None else self.box


@dataclass(frozen=True, eq=False)
class Analysis(Generic[Item]):
    """What became of one of several photos.

    Attributes:
        item: What was given in the photo's place.
        faces: The faces in it, from left to right; empty where there is none.
        error: Why there is no prediction, in a few words; None where there is one.
        photo: The photo, uint8 RGB `(height, width, 3)`, if it was asked for and could
            be read.
    """

    item: Item
    faces: list[Face]
    error: str | None = None
    photo: np.ndarray | None = None


_Crop = tuple[Box | None, float | None, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Found(Generic[Item]):
    """A photo whose faces are not yet classified."""

    item: Item
    crops: Sequence[_Crop] = ()
    error: str | None = None
    photo: np.ndarray | None = None


class Analyzer:
    """Finds and classifies the faces of photos."""

    def __init__(
        self,
        classifier: FaceClassifier,
        detector: Detector | None,
        *,
        labels: str | None = None,
        tta: str = "none",
        unsure_below: float = UNSURE_BELOW,
    ) -> None:
        """Takes what classifies and what detects.

        Args:
            classifier: Predicts and explains.
            detector: Finds the faces, from several threads at a time; None where every
                image is a face, cropped as FER2013's are.
            labels: One of the classifier's label sets; None for the first.
            tta: Test-time augmentation: `none`, `flip`, `shift` or `ten-crop`.
            unsure_below: Least probability, from 0 to 1, that is a decision.

        Raises:
            ConfigError: `unsure_below` is no probability, or the classifier knows no
                such `labels` or `tta`.
        """
        if not 0 <= unsure_below <= 1:
            raise ConfigError(
                f"`unsure_below` is a probability from 0 to 1; found {unsure_below!r}."
            )
        self._classifier = classifier
        self._detector = detector
        self._labels = classifier.label_sets[0] if labels is None else labels
        self._tta = tta
        self._unsure_below = unsure_below
        # Checks the settings before any photo is read; the network does not run.
        size = classifier.input_size
        classifier.predict(np.empty((0, size, size), np.uint8), labels=labels, tta=tta)

    def analyze(self, photo: np.ndarray) -> list[Face]:
        """Finds and classifies the faces of one photo.

        Args:
            photo: uint8 RGB `(height, width, 3)`, upright; without a detector also
                grayscale `(height, width)`.

        Returns:
            The faces from left to right; none if there is none.

        Raises:
            DataError: The photo is none, or too large.
            ModelError: The network fails.
        """
        return self._classified([self._crops(photo)])[0]

    def analyze_many(
        self,
        items: Iterable[Item],
        read: Callable[[Item, Reserve], "np.ndarray | str"],
        *,
        keep_photos: bool = False,
        threads: int | None = None,
    ) -> Iterator[Analysis[Item]]:
        """Finds and classifies the faces of many photos.

        Photos are read, and their faces found, in threads, ahead of the network, which
        sees the faces of several photos at a time. Batches depend on the photos alone,
        so that no prediction depends on timing. Whatever their number, those that
        are read ahead take 2 GB of memory together, and one of them what it needs; with
        `keep_photos` there are those of a batch too: 16, or fewer that have 50
        megapixels together.

        Args:
            items: What stands for photos, such as paths. The iterator is read in the
                calling thread, as far ahead as there is room.
            read: Returns a photo of an item, as for `analyze`, or why there is none, in
                a few words. An `OSError` or a `ValueError`, as `open_regular` raises
                them, is a reason too. Called from several threads. It also gets a
                function that it calls with the bytes that the photo takes while it is
                read, as soon as they are known, and which returns when there is room.
            keep_photos: Whether to return the photos too, such as to draw on them.
            threads: How many read and detect; None for one a core.

        Yields:
            An analysis for each item, in their order.

        Raises:
            ModelError: The network fails.
        """
        batch: list[_Found[Item]] = []
        faces = pixels = 0
        for found in self._found(items, read, keep_photos, threads or cores()):
            batch.append(found)
            faces += len(found.crops)
            pixels += 0 if found.photo is None else found.photo.size // 3
            if (
                len(batch) == _PHOTOS_AT_ONCE
                or faces >= _FACES_AT_ONCE
                or pixels >= _PIXELS_AT_ONCE
            ):
                yield from self._analyses(batch)
                batch, faces, pixels = [], 0, 0
        yield from self._analyses(batch)

    def _found(
        self,
        items: Iterable[Item],
        read: Callable[[Item, Reserve], "np.ndarray | str"],
        keep_photos: bool,
        threads: int,
    ) -> Iterator[_Found[Item]]:
        """Yields the photos in their order, read and searched by threads."""
        memory = PhotoMemory(_BYTES_AHEAD)

        def find(number: int, item: Item) -> _Found[Item]:
            hold = functools.partial(memory.hold, number)
            kept: np.ndarray | None = None
            try:
                photo = read(item, hold)
                if isinstance(photo, str):
                    return _Found(item, error=photo)
                # Decoded, it takes less than while it is.
                hold(photo.nbytes)
                crops = self._crops(photo)
                kept = photo if keep_photos else None
                return _Found(item, crops, photo=kept)
            except EmotionCnnError as error:
                return _Found(item, error=str(error))
            except (OSError, ValueError) as error:
                return _Found(item, error=reason_of(error))
            except MemoryError:
                return _Found(item, error="too large for the memory")
            finally:
                if kept is None:
                    hold(0)

        pool = ThreadPoolExecutor(threads)
        ahead: deque[Future[_Found[Item]]] = deque()
        try:
            for number, item in enumerate(items):
                ahead.append(pool.submit(find, number, item))
                if len(ahead) > PHOTOS_AHEAD * threads:
                    memory.need(number + 1 - len(ahead))
                    yield ahead.popleft().result()
            while ahead:
                memory.need(number + 1 - len(ahead))
                yield ahead.popleft().result()
        finally:
            # The caller may have stopped half-way.
            memory.close()
            pool.shutdown(cancel_futures=True)

    def _analyses(self, batch: Sequence[_Found[Item]]) -> Iterator[Analysis[Item]]:
        faces = self._classified([found.crops for found in batch])
        for found, each in zip(batch, faces, strict=True):
            yield Analysis(found.item, each, found.error, found.photo)

    def _crops(self, photo: np.ndarray) -> list[_Crop]:
        """Returns box, score and image of each face, from left to right."""
        size = self._classifier.input_size
        if self._detector is None:
            return [(None, None, image_from_array(photo, size))]
        return [
            (found.box, found.score, crop_face(photo, found.box, size))
            for found in self._detector.detect(photo)
        ]

    def _classified(self, photos: Sequence[Sequence[_Crop]]) -> list[list[Face]]:
        """Returns the faces of each photo, classified all at once."""
        images = [image for crops in photos for _, _, image in crops]
        if not images:
            return [[] for _ in photos]
        classes = self._classifier.classes
        probabilities = iter(
            self._classifier.predict(
                np.stack(images), labels=self._labels, tta=self._tta
            )
        )
        return [
            [
                Face(
                    box=box,
                    score=score,
                    image=image,
                    probabilities=next(probabilities),
                    classes=classes,
                    unsure_below=self._unsure_below,
                    labels=self._labels,
                    classifier=self._classifier,
                )
                for box, score, image in crops
            ]
            for crops in photos
        ]
