"""Accuracy of faces that are found in photos and cropped, against that of originals.

    python -m benchmarks.cropping --data FOLDER --photos FOLDER2

Faces of FER2013's test parts are enlarged or not, pasted at random places into photos
without faces (those of benchmarks.detection), saved as JPEG of a random quality, and
then read, found, cropped and classified as the tool does. The originals of the same
faces are classified as they are.

FER2013's crops end within the head: hair, ears and chin are cut. A pasted crop ends in
the background instead, where a photo goes on with the head, and the detector sees a
head with straight edges. Each face is therefore pasted twice: bare, and with margins,
a quarter of its side wide, in which its edges go on and fade into the background. A
photo's own margins are better than these; the bare ones are a lower bound.

With `--part PublicTest --sides 0.8 0.95 1.1` the crop's side is chosen, on other faces
than those that the accuracy is stated of.
"""

import argparse
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.detection import Photo, photos_of
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.images import Box, decode_photo
from emotion_cnn.data.loading import load_test_data
from emotion_cnn.data.splits import Split, official_parts
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.boxes import intersection_over_union
from emotion_cnn.inference.cropping import SIDE, crop_face
from emotion_cnn.inference.detection import YuNet
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

_WIDTH, _HEIGHT = 640, 480
_SIZES = ((48, 64), (64, 96), (96, 144), (144, 216), (216, 300))
"""Sides of the pasted faces, from and up to, in pixels."""
_WITHIN_FROM = 96
_WITHIN = 1.5
_QUALITIES = (40, 96)
_MARGIN = 0.25
# Of the pasted face and what is found; else it is a false face, and this one missed.
_SHARED = 0.3


@dataclass(frozen=True)
class Crop:
    """A pasted face after the way through the tool.

    Attributes:
        face: Its place among the faces.
        sizes: Its place in `_SIZES`.
        has_margins: Whether it was pasted with margins.
        side: The crop's, in heights of the detector's box.
        pixels: uint8 `(size, size)`; None if it was not found.
    """

    face: int
    sizes: int
    has_margins: bool
    side: float
    pixels: np.ndarray | None


def crops_of(
    faces: np.ndarray,
    backgrounds: list[Photo],
    random: np.random.Generator,
    sides: list[float],
) -> Iterator[Crop]:
    """Yields each face without margins and with them, found, and cropped to each side.

    Args:
        faces: uint8 `(n, size, size, 1)`.
        backgrounds: Photos without faces.
        random: Chooses sizes, places, qualities and backgrounds.
        sides: Sides of the crops, in heights of the detector's box.
    """
    detector = YuNet()
    for number, face in enumerate(faces):
        kind = number % len(_SIZES)
        side = int(random.integers(*_SIZES[kind]))
        left = int(random.integers(0, _WIDTH - side))
        top = int(random.integers(0, _HEIGHT - side))
        quality = int(random.integers(*_QUALITIES))
        background = _part_of(backgrounds[number % len(backgrounds)].pixels, random)
        for margin in (0.0, _MARGIN):
            photo = background.copy()
            _paste(photo, face[:, :, 0], (left, top), side, margin=margin)
            file = io.BytesIO()
            photo.save(file, "JPEG", quality=quality)
            file.seek(0)
            pixels = decode_photo(file)
            assert isinstance(pixels, np.ndarray), pixels  # noqa: S101
            pasted: Box = (left, top, left + side, top + side)
            boxes = [each.box for each in detector.detect(pixels)]
            best = max(
                boxes,
                key=lambda box: intersection_over_union(box, pasted),
                default=None,
            )
            if best is not None and intersection_over_union(best, pasted) < _SHARED:
                best = None
            for crop_side in sides:
                crop = None
                if best is not None:
                    crop = crop_face(pixels, best, faces.shape[1], side=crop_side)
                yield Crop(number, kind, margin > 0, crop_side, crop)


def _part_of(pixels: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Returns a random part of a photo, of the size that faces are pasted into."""
    image = Image.fromarray(pixels)
    scale = max(_WIDTH / image.width, _HEIGHT / image.height)
    size = (
        max(_WIDTH, round(image.width * scale)),
        max(_HEIGHT, round(image.height * scale)),
    )
    left = int(random.integers(0, size[0] - _WIDTH + 1))
    top = int(random.integers(0, size[1] - _HEIGHT + 1))
    part = (left, top, left + _WIDTH, top + _HEIGHT)
    return image.resize(size, Image.Resampling.BICUBIC).crop(part)


def _paste(
    photo: Image.Image,
    face: np.ndarray,
    place: tuple[int, int],
    side: int,
    *,
    margin: float,
) -> None:
    """Pastes a gray face of a side in pixels, its left upper corner at a place."""
    image = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
    width = round(margin * side)
    if not width:
        photo.paste(image.convert("RGB"), place)
        return
    whole = Image.fromarray(np.pad(np.asarray(image), width, mode="edge"))
    whole = whole.filter(ImageFilter.GaussianBlur(side / 24))
    whole.paste(image, (width, width))
    # From opaque at the face to transparent at the end of the margin.
    away = np.arange(1, width + 1) / (width + 1)
    ramp = np.concatenate([away, np.ones(side), away[::-1]])
    mask = Image.fromarray((255 * np.minimum.outer(ramp, ramp)).astype(np.uint8))
    place = (place[0] - width, place[1] - width)
    photo.paste(whole.convert("RGB"), place, mask)


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="FER2013")
    parser.add_argument(
        "--photos",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="of the packages, as in benchmarks.detection",
    )
    parser.add_argument(
        "--faces", type=int, default=1000, help="how many (default: 1000)"
    )
    parser.add_argument(
        "--part",
        choices=("PublicTest", "PrivateTest"),
        default="PrivateTest",
        help="of the test images (default: PrivateTest)",
    )
    parser.add_argument(
        "--sides",
        type=float,
        nargs="+",
        default=[SIDE],
        metavar="HEIGHTS",
        help="sides of the crop to compare, in heights of the detector's box "
        f"(default: {SIDE})",
    )
    arguments = parser.parse_args()
    test, _ = load_test_data(
        arguments.data, labels="original", audit=None, skip_bad=False
    )
    backgrounds = [each for each in photos_of(arguments.photos) if not each.faces]
    measure(test, backgrounds, arguments)


def measure(
    test: Split, backgrounds: list[Photo], arguments: argparse.Namespace
) -> None:
    """Crops and classifies.

    Args:
        test: Images with FER2013's names.
        backgrounds: Photos without faces.
        arguments: What the command line says.
    """
    random = np.random.default_rng(0)
    places = random.permutation(official_parts(test)[arguments.part])
    places = places[: arguments.faces]
    faces, labels = test.images[places], test.labels[places]
    network = KerasNetwork(read_pair(shipped_folder()))

    def is_right(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        found = predict(network, images, labels="original").argmax(axis=1)
        return found == labels

    original = is_right(faces, labels)
    crops = list(crops_of(faces, backgrounds, random, arguments.sides))
    rows, notes = [], []
    for side, has_margins in itertools.product(arguments.sides, (False, True)):
        name = "with margins" if has_margins else "bare"
        if len(arguments.sides) > 1:
            name = f"side {side:g}, {name}"
        for first, last in _groups():
            some = [
                each
                for each in crops
                if (each.side, each.has_margins) == (side, has_margins)
                and first <= each.sizes <= last
            ]
            found = [
                (each.face, each.pixels) for each in some if each.pixels is not None
            ]
            numbers = np.array([face for face, _ in found])
            images = np.stack([pixels for _, pixels in found])[..., np.newaxis]
            right = is_right(images, labels[numbers])
            lost = 100 * (original[numbers].mean() - right.mean())
            changed = original[numbers].astype(int) - right
            error = 100 * changed.std() / np.sqrt(len(found))
            what = f"{name}, {_SIZES[first][0]}-{_SIZES[last][1]} pixels"
            accuracy, of_originals = (
                100 * right.mean(),
                100 * original[numbers].mean(),
            )
            # For all of these sizes together; bare ones are only a lower bound.
            is_target = has_margins and first < last and side == SIDE
            rows += [
                Row(f"{what}: found", "%", 100 * len(found) / len(some)),
                Row(f"{what}: right", "%", accuracy, of_originals),
                Row(
                    f"{what}: points lost",
                    "",
                    lost,
                    at_most=_WITHIN if is_target else None,
                ),
            ]
            notes.append(
                f"{what}: {len(some)} faces, standard error {error:.1f} points."
            )
    show(
        f"{len(faces):,} faces of {arguments.part} pasted into {len(backgrounds)} "
        "photos, found and cropped, against the originals of those found",
        rows,
        notes=notes,
        json=arguments.json,
    )


def _groups() -> list[tuple[int, int]]:
    """Returns the first and last sizes of each row: one by one, and where it counts."""
    from_target = [low for low, _ in _SIZES].index(_WITHIN_FROM)
    single = [(place, place) for place in range(len(_SIZES))]
    return [*single, (from_target, len(_SIZES) - 1)]


if __name__ == "__main__":
    main()
