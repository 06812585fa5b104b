"""Synthetic videos for tests: written with given times, then cut or damaged."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MS = Fraction(1, 1000)


def varying_times(count: int) -> list[int]:
    """Milliseconds of frames of a variable rate: 10 a second, then 50."""
    times = [0]
    while len(times) < count:
        times.append(times[-1] + (100 if len(times) % 3 == 1 else 20))
    return times


def write(
    path: Path,
    times: Sequence[int],
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 96),
    images: Sequence[np.ndarray] = (),
    key_every: int = 10,
    options: dict[str, str] | None = None,
    rotation: int | None = None,
    seconds_of_sound: float = 0,
) -> Path:
    """Writes a video whose frames get brighter, with hard-to-compress texture."""
    height, width = images[0].shape[:2] if len(images) else size
    texture = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        # MPEG-2 knows a few rates only.
        time_base = Fraction(1, 25) if codec == "mpeg2video" else MS
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.gop_size = key_every
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=8000) if seconds_of_sound else None
        for index, milliseconds in enumerate(times):
            image = images[index] if len(images) else texture + np.uint8(index % 100)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = milliseconds, MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for index in range(int(seconds_of_sound * 8000) // 1024):
            silence = np.zeros((2, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 8000, 1024 * index
            frame.time_base = Fraction(1, 8000)
            container.mux(sound.encode(frame))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def cut(path: Path, to: Path, share: float) -> Path:
    """Writes the beginning of a file."""
    content = path.read_bytes()
    to.write_bytes(content[: int(share * len(content))])
    return to


def zeroed(path: Path, to: Path, share: float, count: int) -> Path:
    """Writes a file of which some bytes are zeros."""
    content = bytearray(path.read_bytes())
    place = int(share * len(content))
    content[place : place + count] = bytes(count)
    to.write_bytes(content)
    return to
