"""The public `Classifier`: images of any kind in, probabilities out."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from emotion_cnn.backend import can_run_keras
from emotion_cnn.data.classes import parse_classes
from emotion_cnn.data.images import (
    decode_photo,
    image_from_array,
    photo_from_image,
    reason_of,
)
from emotion_cnn.errors import ConfigError, DataError, ModelError
from emotion_cnn.files import open_regular, shown
from emotion_cnn.inference.analysis import Analyzer, Face
from emotion_cnn.inference.backends import Backend, keras_network, read_network
from emotion_cnn.inference.backends.beside_pair import read_beside_pair
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.defaults import EXPLANATION_METHODS, SMOOTHING, UNSURE_BELOW
from emotion_cnn.inference.detection import Detector, YuNet
from emotion_cnn.inference.explanation import LayerCAM, occlusion
from emotion_cnn.inference.prediction import predict
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.models.shipped import shipped_folder

if TYPE_CHECKING:
    from emotion_cnn.inference.video_analysis import AnalyzedFrame

# Smaller or longer arrays are no faces: rows of a table, or one axis taken for another.
_LEAST_SIDE = 8
_GREATEST_RATIO = 4


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    class_order: str | Sequence[str] | None = None,
    input_range: str | None = None,
) -> "Classifier":
    """Loads a network.

    Args:
        path: Folder with `model.json` and `model_weights.h5`, such as a run folder,
            which Keras runs, on the backend that the environment variable
            `KERAS_BACKEND` names, or the first that is installed; or an exported
            network, which its own runtime runs: a `.onnx` or `.tflite` file, or the
            folder of an OpenVINO network or of a saved model. None for the shipped
            network.
        class_order: The classes in the order of the outputs, for a network of another
            tool, whose `model.json` does not say; None for FER2013's seven.
        input_range: What pixels such a network was trained on: `0-255`, the default,
            `0-1` or `-1-1`. Images are given as uint8 all the same.

    Raises:
        ConfigError: `class_order` or `input_range` is not as described.
        ModelError: A file is missing or damaged, or is not a network of this kind, or
            says otherwise.
        MissingPackageError: What runs the network is not installed; says how to
            install it.
    """
    if input_range is not None and input_range not in INPUT_RANGES:
        raise ConfigError(
            f"`input_range` is one of {', '.join(INPUT_RANGES)}; found {input_range!r}."
        )
    classes = None
    if class_order is not None:
        classes = parse_classes(class_order, setting="class_order")
    folder = shipped_folder()
    if path is None and class_order is None and input_range is None:
        light = read_beside_pair(folder)
        if light is not None:
            return Classifier(light, pair=folder)
    network = read_network(
        folder if path is None else Path(path),
        classes=classes,
        input_range=None if input_range is None else INPUT_RANGES[input_range],
    )
    return Classifier(network)


class Classifier:
    """A trained network that classifies faces.

    Attributes:
        classes: Names of the classes, in the order of the probabilities.
        label_sets: The label sets that the network predicts: `original` (FER2013's
            labels), `ferplus` (the majority of FER+'s votes).
        input_size: Height and width, in pixels, that images are converted to.
        weights_sha256: Of the file of its weights.
        explanation_methods: The ways to explain that work with it; the first is the
            default.
    """

    def __init__(self, network: Backend, *, pair: Path | None = None) -> None:
        """Takes a network.

        Args:
            network: As `read_network` returns it.
            pair: Folder of the network of Keras that an exported one was made of, which
                LayerCAM reads when it is first used; None if there is none.
        """
        self._network = network
        self.classes = network.description.classes
        self.label_sets = network.description.label_sets
        self.input_size = network.description.input_size
        self.weights_sha256 = network.weights_sha256
        self._pair = pair
        # Others than networks of Keras give no gradients.
        has_gradients = isinstance(network, KerasNetwork) or (
            pair is not None and can_run_keras()
        )
        self.explanation_methods = EXPLANATION_METHODS[0 if has_gradients else 1 :]

    def __repr__(self) -> str:
        """Says what is classified."""
        return (
            f"<Classifier: {self.input_size}x{self.input_size} grayscale to "
            f"{', '.join(self.classes)}; label sets: {', '.join(self.label_sets)}>"
        )

    def predict(
        self, faces: Any, *, labels: str | None = None, tta: str = "none"
    ) -> np.ndarray:
        """Predicts how probable each class is, for each face.

        Args:
            faces: uint8, one image (height, width), (height, width, 1) or (height,
                width, 3), or several of one size (n, height, width), (n, height,
                width, 1) or (n, height, width, 3), or a sequence of single images of
                any sizes, arrays or Pillow images. Gray levels from 0 to 255, or RGB.
                Each should show one face, cropped as FER2013's are. Other sizes are cut
                to the middle square and resized, colors converted to grayscale, as the
                tool converts image files.
            labels: One of `label_sets`; None for the first.
            tta: Test-time augmentation: `none`, `flip`, `shift` or `ten-crop`.

        Returns:
            float32 `(n, classes)`, in the order of `classes`; rows sum to 1. n is 1
            for a single image.

        Raises:
            DataError: The faces are not arrays as described; says what to pass.
            ConfigError: `labels` or `tta` is none of those.
        """
        labels = self.label_sets[0] if labels is None else labels
        _check_choice("labels", labels, self.label_sets)
        _check_choice("tta", tta, tuple(VIEWS))
        images = [
            image_from_array(face, self.input_size) for face in _single_images(faces)
        ]
        if not images:
            return np.empty((0, len(self.classes)), np.float32)
        batch = np.stack(images)[..., np.newaxis]
        return predict(self._network, batch, labels=labels, tta=tta)

    def explain(
        self,
        face: Any,
        *,
        method: str | None = None,
        emotion: str | None = None,
        labels: str | None = None,
    ) -> np.ndarray:
        """Finds which parts of a face speak for an emotion.

        Args:
            face: A single image, as for `predict`.
            method: `layercam`, which needs a network of Keras, or `occlusion`, which
                takes longer; docs/explanations.md says how faithful each is. None for
                the first of `explanation_methods`.
            emotion: One of `classes`; None for the most probable.
            labels: One of `label_sets`; None for the first.

        Returns:
            float32 `(input_size, input_size)`, from 0 to 1, in the place of the image
            as it is converted: its middle square, resized.

        Raises:
            DataError: The face is not one image, as described for `predict`.
            ConfigError: `method`, `emotion` or `labels` is none of those.
            ModelError: The network has no layer that the method needs, or is none of
                Keras.
        """
        labels = self.label_sets[0] if labels is None else labels
        _check_choice("labels", labels, self.label_sets)
        method = self.explanation_methods[0] if method is None else method
        _check_choice("method", method, EXPLANATION_METHODS)
        if emotion is not None:
            _check_choice("emotion", emotion, self.classes)
        images = _single_images(face)
        if len(images) != 1:
            raise DataError(
                f"Expected one face, found {len(images)}. Pass one at a time."
            )
        image = image_from_array(images[0], self.input_size)
        if emotion is None:
            emotion = self.classes[self.predict(image, labels=labels)[0].argmax()]
        if method == "layercam":
            return self._layercam(image, emotion=emotion, labels=labels)
        return occlusion(
            lambda images: self.predict(images, labels=labels),
            image,
            place=self.classes.index(emotion),
        )

    def analyze(
        self,
        photo: Any,
        *,
        faces: str = "detect",
        detector: Detector | None = None,
        labels: str | None = None,
        tta: str = "none",
        unsure_below: float = UNSURE_BELOW,
    ) -> list[Face]:
        """Finds the faces in a photo, and what they show.

        Args:
            photo: The path of an image file, a Pillow image, or an array of uint8, RGB
                `(height, width, 3)` or gray levels `(height, width)`. Files and Pillow
                images are turned upright as their EXIF data says.
            faces: `detect`, or `cropped` if the photo is one face, cropped as
                FER2013's are.
            detector: What finds the faces; None for YuNet, as it is by default.
            labels: One of `label_sets`; None for the first.
            tta: Test-time augmentation: `none`, `flip`, `shift` or `ten-crop`.
            unsure_below: Least probability that is a decision.

        Returns:
            The faces from left to right; none if there is none.

        Raises:
            DataError: The photo cannot be read, or is not as described.
            ConfigError: A setting is none of those.
            MissingPackageError: The detector is not installed; says how to install it.
        """
        analyzer = self._analyzer(faces, detector, labels, tta, unsure_below)
        return analyzer.analyze(_rgb(photo))

    def analyze_video(
        self,
        path: str | os.PathLike[str],
        *,
        stride: int = 1,
        start: float = 0,
        end: float | None = None,
        smoothing: float = SMOOTHING,
        faces: str = "detect",
        detector: Detector | None = None,
        labels: str | None = None,
        tta: str = "none",
        unsure_below: float = UNSURE_BELOW,
    ) -> Iterator["AnalyzedFrame"]:
        """Finds the faces in a video, follows them, and says what they show.

        Memory does not depend on the length of the video. Probabilities smoothed along
        a track decide, and `Face.probabilities` are those of the frame alone.

        Args:
            path: The video file.
            stride: Of so many frames, the first is analysed.
            start: Seconds from the start of the video from which on to analyse.
            end: Seconds at which to stop; None for the end of the video.
            smoothing: Time constant of the smoothing in seconds; 0 for none.
            faces: `detect`, or `cropped` if each frame is one face.
            detector: What finds the faces; None for YuNet, as it is by default.
            labels: One of `label_sets`; None for the first.
            tta: Test-time augmentation: `none`, `flip`, `shift` or `ten-crop`.
            unsure_below: Least probability that is a decision.

        Yields:
            Frames: `number`, `seconds`, `faces` (each with `track`) and `image`.

        Raises:
            DataError: It is no video; or, after all that could be read was yielded, it
                is damaged or cut short.
            ConfigError: A setting is none of those.
            MissingPackageError: What reads videos or the detector is not installed;
                says how to install it.
        """
        from emotion_cnn.inference.video import open_video
        from emotion_cnn.inference.video_analysis import analyze_frames

        analyzer = self._analyzer(faces, detector, labels, tta, unsure_below)
        with open_video(Path(path)) as video:
            frames = video.frames(stride=stride, start=start, end=end)
            yield from analyze_frames(analyzer, frames, smoothing=smoothing)

    def _analyzer(
        self,
        faces: str,
        detector: Detector | None,
        labels: str | None,
        tta: str,
        unsure_below: float,
    ) -> Analyzer:
        _check_choice("faces", faces, ("detect", "cropped"))
        if faces == "detect" and detector is None:
            detector = self._detector
        return Analyzer(
            self,
            detector if faces == "detect" else None,
            labels=labels,
            tta=tta,
            unsure_below=unsure_below,
        )

    @cached_property
    def _layercam(self) -> LayerCAM:
        network = self._network
        if self._pair is not None:
            network = keras_network.read(self._pair)
        if not isinstance(network, KerasNetwork):
            raise ModelError(
                "Expected a network of Keras, model.json and model_weights.h5, for "
                "`layercam`, which needs its gradients; found an exported one. Explain "
                "it by `occlusion`."
            )
        return LayerCAM(network.network)

    @cached_property
    def _detector(self) -> Detector:
        return YuNet()


def _rgb(photo: Any) -> np.ndarray:
    """Returns a photo as uint8 RGB `(height, width, 3)`, upright."""
    if isinstance(photo, str | os.PathLike):
        try:
            with open_regular(Path(photo)) as file:
                found = decode_photo(file)
        except (OSError, ValueError) as error:
            found = reason_of(error)
        if isinstance(found, str):
            raise DataError(
                f"Expected an image file, found {shown(str(photo))}, which cannot be "
                f"read: {found}. Leave it out."
            )
        return found
    if isinstance(photo, Image.Image):
        try:
            if not photo.width * photo.height:
                raise ValueError("it has no pixels")
            return photo_from_image(photo)
        except Exception as error:
            # Pillow decodes it now: almost any kind of error on damaged files.
            raise DataError(
                "Expected a Pillow image that can be read, but this one cannot: "
                f"{reason_of(error)}. Leave it out."
            ) from error
    if not isinstance(photo, np.ndarray):
        raise DataError(
            "Expected a photo as a path, a Pillow image or a NumPy array of uint8, "
            f"found {type(photo).__name__}."
        )
    _check_dtype(photo)
    if photo.ndim == 2:
        photo = photo[..., np.newaxis]
    if photo.ndim != 3 or photo.shape[2] not in (1, 3) or not photo.size:
        raise DataError(
            "Expected a photo as an array of (height, width) or (height, width, 3), "
            f"RGB, found one of shape {photo.shape}. Pass several one by one."
        )
    return np.repeat(photo, 3, axis=2) if photo.shape[2] == 1 else photo


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"`{name}` is one of {', '.join(choices)}; found {value!r}.")


def _single_images(faces: Any) -> Sequence[np.ndarray]:
    """Returns arrays of one image each, not yet checked."""
    if isinstance(faces, Image.Image):
        faces = [faces]
    if isinstance(faces, np.ndarray):
        _check_dtype(faces)
        # (n, height, width) and (height, width, channels) are told apart by the last.
        if faces.ndim == 2 or (faces.ndim == 3 and faces.shape[-1] in (1, 2, 3, 4)):
            return [_checked(faces)]
        if faces.ndim in (3, 4):
            return [_checked(face) for face in faces]
        raise DataError(
            "Expected faces as (height, width), (n, height, width), (n, height, width, "
            f"1) or (n, height, width, 3), found an array of shape {faces.shape}."
        )
    if isinstance(faces, str | bytes | os.PathLike) or not isinstance(faces, Sequence):
        raise DataError(
            "Expected faces as a NumPy array of uint8, or a sequence of such arrays, "
            f"found {type(faces).__name__}. Read images into arrays first, for example "
            "with numpy.asarray(PIL.Image.open(path).convert('L'))."
        )
    images = [_array_of(face) for face in faces]
    for image in images:
        _check_dtype(image)
        if image.ndim not in (2, 3):
            raise DataError(
                "Expected a sequence of single images, (height, width) or (height, "
                f"width, channels), found one of shape {image.shape}."
            )
    return [_checked(image) for image in images]


def _array_of(face: Any) -> np.ndarray:
    """Returns an array, of a Pillow image in colors rather than palette positions."""
    if isinstance(face, Image.Image) and face.mode not in ("L", "RGB", "RGBA"):
        face = face.convert("RGBA")
    return np.asarray(face)


def _checked(image: np.ndarray) -> np.ndarray:
    """Returns an image that can be one, rather than rows of pixels or a thin strip."""
    height, width = image.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    if shorter < _LEAST_SIDE or longer > _GREATEST_RATIO * shorter:
        raise DataError(
            f"Expected images of at least {_LEAST_SIDE} pixels a side, at most "
            f"{_GREATEST_RATIO} times as long as wide, found {height}x{width}. If "
            "these are rows of pixels, reshape them to (n, 48, 48)."
        )
    return image


def _check_dtype(faces: np.ndarray) -> None:
    if faces.dtype == np.uint8:
        return
    found = f"found {faces.dtype}"
    if faces.size and faces.dtype.kind in "fiu":
        low, high = faces.min(), faces.max()
        found += f" from {low:g} to {high:g}"
        if faces.dtype.kind == "f" and low >= 0 and high <= 1:
            found += ". Scale them: (255 * faces).round().astype('uint8')"
        elif low >= 0 and high <= 255:
            found += ". Convert them: faces.astype('uint8')"
    raise DataError(f"Expected uint8 gray levels from 0 to 255, {found}.")
