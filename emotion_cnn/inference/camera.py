"""A camera's frames, and a window that shows them live."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from emotion_cnn.errors import DataError
from emotion_cnn.extras import require
from emotion_cnn.inference.video import VideoFrame, check_part


@contextmanager
def open_camera(number: int) -> Iterator["Camera"]:
    """Opens a camera.

    Args:
        number: The camera's number, from 0.

    Yields:
        The camera.

    Raises:
        MissingPackageError: OpenCV is not installed.
        DataError: It is not there, or gives no image.
    """
    cv2 = require("cv2", extra="predict")
    # It prints lines of its own about cameras that are not there.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = None
    try:
        capture = cv2.VideoCapture(number)
        # A camera that another program uses can often be opened, but gives no image.
        if not capture.isOpened() or not capture.read()[0]:
            raise DataError(
                f"Expected images from camera {number}, found none: it is not there, "
                "another program uses it, or this one may not. Cameras are numbered "
                "from 0."
            )
        yield Camera(cv2, capture, number)
    finally:
        if capture is not None:
            capture.release()
        cv2.utils.logging.setLogLevel(level)


class Camera:
    """An open camera."""

    def __init__(self, cv2: ModuleType, capture: Any, number: int) -> None:
        """Takes OpenCV, its open camera, and the camera's number."""
        self._cv2 = cv2
        self._capture = capture
        self._number = number

    def frames(
        self, *, stride: int = 1, start: float = 0, end: float | None = None
    ) -> Iterator[VideoFrame]:
        """Yields frames until the caller stops.

        Args:
            stride: Of so many frames, the first is yielded.
            start: Seconds from now before which no frame is yielded.
            end: Seconds from now at which to stop; None for no end.

        Raises:
            ConfigError: A setting is not as `Video.frames` describes.
            DataError: The camera gives no more images.
        """
        check_part(stride, start, end)
        number, began = 0, time.monotonic()
        while True:
            there, image = self._capture.read()
            seconds = time.monotonic() - began
            if not there:
                raise DataError(
                    f"Expected images from camera {self._number}, found none any more "
                    f"after {seconds:.1f} s: it may be unplugged."
                )
            if end is not None and seconds >= end:
                return
            if seconds >= start and number % stride == 0:
                rgb = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)
                yield VideoFrame(number, seconds, rgb)
            number += 1


@contextmanager
def open_window(title: str) -> Iterator["Window"]:
    """Opens a window for live images; `why_no_window` says whether there can be one.

    Args:
        title: What stands above it, in ASCII.

    Yields:
        The window.
    """
    cv2 = require("cv2", extra="predict")
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    try:
        yield Window(cv2, title)
    finally:
        cv2.destroyAllWindows()


class Window:
    """An open window."""

    def __init__(self, cv2: ModuleType, title: str) -> None:
        """Takes OpenCV, and the title of its open window."""
        self._cv2 = cv2
        self._title = title

    def show(self, image: np.ndarray) -> bool:
        """Shows an image, uint8 RGB, until the next.

        Returns:
            Whether to go on: False once `q` was pressed, or the window closed.
        """
        self._cv2.imshow(
            self._title, self._cv2.cvtColor(image, self._cv2.COLOR_RGB2BGR)
        )
        pressed = self._cv2.waitKey(1) & 0xFF
        visible = self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE)
        return pressed != ord("q") and visible >= 1


def why_no_window() -> str | None:
    """Returns why no window can be opened, in a few words; None if one can.

    Raises:
        MissingPackageError: OpenCV is not installed.
    """
    cv2 = require("cv2", extra="predict")
    if re.search(r"GUI: +NONE", cv2.getBuildInformation()):
        return "opencv-python-headless is installed, which has none"
    displays = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform not in ("win32", "darwin") and not displays:
        return "there is no display"
    return None
