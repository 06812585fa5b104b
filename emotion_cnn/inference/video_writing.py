"""Writing annotated frames as a video that browsers play."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from emotion_cnn.extras import require
from emotion_cnn.files import first_line, replacing

if TYPE_CHECKING:
    from av.container import OutputContainer

_TIME_BASE = Fraction(1, 90_000)  # Whole in each common frame rate, and in ms.
# In that: 50 minutes. MP4 has no room for eight times as much, and the encoder has
# several frames in hand.
_LONGEST_GAP = 2**28


@contextmanager
def write_video(path: Path, *, height: int, width: int) -> Iterator["VideoWriter"]:
    """Writes frames as MP4, H.264, which all browsers play; without sound.

    The file takes its place when the block ends, also by Ctrl-C: what was written until
    then plays. It does not when the block ends with another error.

    Args:
        path: The file to write or replace, which ends with `.mp4`.
        height: Height of the frames, in pixels.
        width: Width of the frames, in pixels.

    Yields:
        What takes the frames, of which there must be one at least.

    Raises:
        MissingPackageError: PyAV is not installed.
        OSError: The file cannot be written.
    """
    av = require("av", extra="predict")
    interrupted = None
    with (
        replacing(path) as temporary,
        # Not by its name, which FFmpeg could take for an address.
        temporary.open("wb") as file,
        _as_os_errors(av, path),
        av.open(file, "w", format="mp4") as container,
    ):
        writer = VideoWriter(av, container, height=height, width=width)
        try:
            yield writer
        except KeyboardInterrupt as error:
            interrupted = error
        writer.finish()
    if interrupted is not None:
        raise interrupted


@contextmanager
def _as_os_errors(av: ModuleType, path: Path) -> Iterator[None]:
    """Raises what FFmpeg refuses to write as an `OSError`, as others are."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(None, first_line(error), str(path)) from error


class VideoWriter:
    """A video that is being written."""

    def __init__(
        self, av: ModuleType, container: "OutputContainer", *, height: int, width: int
    ) -> None:
        """Takes PyAV, an open container, and the size of the frames in pixels."""
        self._av = av
        self._container = container
        # Constant quality, so that frames may come at any times.
        options = {"preset": "veryfast", "crf": "21"}
        self._stream = container.add_stream("libx264", rate=25, options=options)
        # Colours are stored for each 2x2 pixels.
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TIME_BASE
        self._stream.time_base = _TIME_BASE
        self._last = -1
        self._left_out = 0

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Writes the next frame.

        Args:
            seconds: When it is shown; a frame of the same time is shown just after.
                Gaps of more than 50 minutes become as short.
            image: uint8 RGB, `(height, width, 3)`; another size is scaled.

        Raises:
            OSError: It cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format="rgb24"
        )
        frame = frame.reformat(
            width=self._stream.width, height=self._stream.height, format="yuv420p"
        )
        ticks = max(round(seconds / _TIME_BASE) - self._left_out, self._last + 1)
        too_many = max(0, ticks - self._last - _LONGEST_GAP)
        self._left_out += too_many
        self._last = ticks - too_many
        frame.pts, frame.time_base = self._last, _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes the frames that the encoder still holds."""
        self._container.mux(self._stream.encode(None))
