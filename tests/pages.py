"""A server of the page for tests: what finds and classifies faces stands in.

The stand-in for the detector finds what is not dark, column by column; that for the
network tells faces by their gray level, and needs no Keras.
"""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.inference.detection import Detection
from emotion_cnn.serving.application import make_application
from emotion_cnn.serving.server import listen, make_server
from emotion_cnn.serving.service import Service
from emotion_cnn.serving.workers import Workers

TOKEN = "a-token-for-tests"  # noqa: S105
DARK = 40
SURE = 0.9


class BrightRegions:
    """Finds regions of columns that are not dark."""

    def detect(self, photo: np.ndarray) -> list[Detection]:
        # As a detector, which scales large photos down first.
        step = max(1, max(photo.shape) // 2000)
        bright = photo[::step, ::step].max(axis=2) > DARK
        columns = np.flatnonzero(
            np.diff(bright.any(axis=0), prepend=False, append=False)
        )
        found = []
        for left, right in columns.reshape(-1, 2).tolist():
            rows = np.flatnonzero(bright[:, left:right].any(axis=1))
            if right - left >= 8:
                box = (left, rows[0], right, rows[-1] + 1)
                edges = tuple(float(step * edge) for edge in box)
                found.append(Detection(edges, 0.95))
        return found


class ByGrayLevel:
    """Classifies by the mean gray level; unsure of the middle one in seven."""

    classes = EMOTIONS
    label_sets = ("original", "ferplus")
    input_size = 48

    def predict(self, faces, *, labels=None, tta="none"):
        faces = np.asarray(faces).reshape(-1, 48, 48)
        places = (faces.mean(axis=(1, 2)) / 256 * len(EMOTIONS)).astype(int)
        if labels == "ferplus":
            places = len(EMOTIONS) - 1 - places
        found = np.full((len(faces), len(EMOTIONS)), (1 - SURE) / 6, np.float32)
        found[np.arange(len(faces)), places] = SURE
        found[places == 3] = 1 / 7
        return found

    def explain(self, face, *, method=None, emotion=None, labels=None):
        return np.linspace(0, 1, 48 * 48, dtype=np.float32).reshape(48, 48)


@dataclass(frozen=True)
class RunningServer:
    """A server of the page, in a thread of its own."""

    port: int
    service: Service

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/{TOKEN}/"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_server(
    *,
    port: int = 0,
    detector=None,
    classifier=None,
    workers: int = 2,
    shared_as: str | None = None,
) -> Iterator[RunningServer]:
    """Serves the page with stand-ins."""
    with listen("127.0.0.1", port) as listener:
        port = listener.getsockname()[1]
        service = Service(classifier or ByGrayLevel(), detector or BrightRegions())
        threads = Workers(workers)
        server = make_server(
            make_application(
                service, threads, token=TOKEN, port=port, shared_as=shared_as
            )
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield RunningServer(port, service)
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def draw_photo(*levels: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A dark photo with a drawn face of each gray level, from left to right."""
    image = Image.new("RGB", size, "black")
    draw = ImageDraw.Draw(image)
    width, height = size
    for number, level in enumerate(levels):
        side = 0.6 * min(height, width / len(levels))
        x = (number + 0.5) * width / len(levels)
        y = height / 2
        box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        draw.rectangle(box, fill=(level, level, level))
        for eye in (-0.2, 0.2):
            at = (x + side * eye, y - 0.15 * side)
            draw.circle(at, 0.06 * side, fill="black")
        mouth = (x - 0.25 * side, y - 0.1 * side, x + 0.25 * side, y + 0.3 * side)
        draw.arc(mouth, 20, 160, fill="black", width=max(1, round(side / 20)))
    return image


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
