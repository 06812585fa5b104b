"""Videos: frames with their true times, within bounds, damage noticed."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

import numpy as np

from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.extras import require
from emotion_cnn.files import first_line, open_regular, shown

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CONTAINERS = (
    ("mov", 4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    ("matroska", 0, (b"\x1a\x45\xdf\xa3",)),
    ("avi", 8, (b"AVI ",)),
    ("ogg", 0, (b"OggS\0",)),
    ("flv", 0, (b"FLV\x01",)),
    ("asf", 0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",)),
    ("mpeg", 0, (b"\0\0\x01\xba",)),
)
"""FFmpeg's name of a container, and which bytes a file of it has at which place."""

_CODECS = (
    *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg1video", "mpeg2video"),
    *("mpeg4", "msmpeg4v2", "msmpeg4", "h263", "flv", "wmv1", "wmv2", "wmv3", "vc1"),
    *("theora", "mjpeg", "dvvideo", "prores", "dnxhd", "ffv1", "huffyuv", "rawvideo"),
)
"""Decoders, by FFmpeg's names, that a stranger's file may reach: those of cameras,
phones, editors and browsers, of the hundreds that FFmpeg has."""

_MOST_PIXELS = 36_000_000  # 8192x4320, the largest that cameras write.
_MOST_STRETCHED = 3  # Wider or narrower pixels are an error of the file.
_MOST_SECONDS = 10_000_000  # Four months: what is later is an error of the file.
_LEAST_MISSING = 0.5
"""Seconds that may lack at the end: containers round durations, also by a frame."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame of a video or a camera.

    Attributes:
        number: Its number in the video, from 0.
        seconds: When it is shown, from the start of the video.
        image: uint8 `(height, width, 3)`, RGB, upright, with square pixels.
    """

    number: int
    seconds: float
    image: np.ndarray


def check_part(stride: int, start: float, end: float | None) -> None:
    """Checks what chooses frames, as `Video.frames` describes it.

    Raises:
        ConfigError: It cannot be.
    """
    if stride < 1:
        raise ConfigError(f"`stride` is 1 or more; found {stride}.")
    if not (0 <= start < math.inf) or (end is not None and not end > start):
        raise ConfigError(
            "`start` and `end` are seconds from the start of the video, 0 or more, "
            f"`end` above `start`; found {start} and {end}."
        )


@contextmanager
def open_video(path: Path) -> Iterator["Video"]:
    """Opens a video file, which may be a stranger's.

    FFmpeg finds out by itself what a file is, and so follows a playlist that is named
    `x.mp4` to other files and into the network. Here the first bytes decide, FFmpeg
    gets the open file instead of its name, is told the container, and may open nothing
    else.

    Args:
        path: MP4 or MOV, Matroska or WebM, AVI, Ogg, FLV, ASF (WMV), MPEG-PS or -TS.

    Yields:
        The video.

    Raises:
        MissingPackageError: PyAV is not installed.
        DataError: It is no such file, or has no video that can be read.
    """
    av = require("av", extra="predict")
    name = shown(str(path))
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path))
            video = Video(av, file, name)
        except (OSError, ValueError) as error:
            raise DataError(
                f"Expected a video, but {name} cannot be read: {_reason(error)}."
            ) from error
        yield video


class Video:
    """An open video.

    Attributes:
        duration: Its length in seconds, as the file says; None if it does not.
    """

    def __init__(self, av: ModuleType, file: BufferedReader, name: str) -> None:
        """Takes PyAV, and an open file with its name for messages."""
        self._av = av
        self._file = file
        self._name = name
        self._container = _container_of(file.peek(1024)[:1024])
        if self._container is None:
            raise DataError(
                f"Expected a video (MP4, MOV, Matroska, WebM, AVI, Ogg, FLV, WMV, "
                f"MPEG), but {name} does not begin as one."
            )
        with self._opened() as (container, _):
            duration = container.duration
            if duration and self._container == "matroska":
                # It counts from zero, whenever the first frame is.
                duration -= container.start_time or 0
        self.duration = duration / av.time_base if duration else None

    def frames(
        self, *, stride: int = 1, start: float = 0, end: float | None = None
    ) -> Iterator[VideoFrame]:
        """Yields frames as they are read; one at a time is held in memory.

        Damaged frames are left out, and those after them up to the next that needs no
        other, so that none is shown that is made up. (VP8 and VP9 hardly notice
        damage.)

        Args:
            stride: Of so many frames, the first is yielded: those whose number it
                divides.
            start: Seconds from the start of the video, from which on frames are
                yielded; earlier ones are not decoded.
            end: Seconds from which on no frame is yielded; None for all.

        Raises:
            ConfigError: A setting is not as described.
            DataError: After what could be read was yielded: there is no frame, or the
                video is damaged or ends too early; says where.
        """
        check_part(stride, start, end)
        first, number = self._key_frame_before(start) if start else (None, 0)
        last, odd, damaged, lost = -math.inf, None, None, 0
        with self._opened() as (container, stream):
            decoder = _Decoder(self._av, container, stream)
            for frame in decoder.frames(first):
                if frame is None:
                    damaged = max(last, 0) if damaged is None else damaged
                    lost += 1
                    number += 1
                    continue
                seconds = decoder.seconds(frame, last)
                if seconds > _MOST_SECONDS:
                    odd = seconds
                    break
                last = seconds
                if end is not None and last >= end:
                    break
                if last >= start and number % stride == 0:
                    yield VideoFrame(number, last, self._image(decoder, frame, last))
                number += 1
        if last == -math.inf and odd is None:
            raise DataError(
                f"Expected a video with frames, but {self._name} has none that can be "
                "read."
            )
        facts = []
        if damaged is not None:
            facts.append(
                f"is damaged from {damaged:.2f} s on, where at least {lost} frames are "
                "left out"
            )
        whole = self.duration or 0
        if odd is not None:
            facts.append(
                f"has a frame at {odd:,.0f} s, where {_MOST_SECONDS:,} are the most"
            )
        elif (end is None or last < end) and decoder.end < whole - _LEAST_MISSING:
            facts.append(f"is cut short of its {whole:.2f} s")
        if facts:
            raise DataError(
                f"Expected a whole video, but {self._name} {' and '.join(facts)}; "
                f"what could be read was, the last frame is at {max(last, 0):.2f} s."
            )
        if last < start:
            raise DataError(
                f"Expected frames from {start:g} s on (`start`), but the last one of "
                f"{self._name} is at {last:.2f} s."
            )

    def _image(
        self, decoder: "_Decoder", frame: "av.VideoFrame", seconds: float
    ) -> np.ndarray:
        try:
            return decoder.image(frame)
        except (self._av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise DataError(
                f"Expected frames that can be converted to RGB, but the one of "
                f"{self._name} at {seconds:.2f} s cannot: {_reason(error)}."
            ) from error

    def _key_frame_before(self, start: float) -> tuple[int | None, int]:
        """Finds where to begin to decode.

        Reading packets without decoding them is hundreds of times as fast as decoding,
        and exact, which seeking is not in every container.

        Returns:
            The container's time of the last key frame that is not after `start`, None
            for the first; and the number of frames that are shown before it.
        """
        first, number, packets = None, 0, 0
        with self._opened() as (container, stream):
            origin = _Decoder(self._av, container, stream).origin
            limit = (start + origin) / stream.time_base
            try:
                for packet in container.demux(stream):
                    if packet.pts is None:
                        continue
                    if packet.dts is not None and packet.dts > limit:
                        break
                    if packet.is_keyframe and packet.pts <= limit:
                        first, number = packet.pts, packets
                    elif first is not None and packet.pts < first:
                        number += 1  # Stored after the key frame, but shown before it.
                    packets += 1
            except (self._av.FFmpegError, ValueError):
                pass  # Decoding meets it again, and says so.
        return first, number

    @contextmanager
    def _opened(self) -> Iterator[tuple["InputContainer", "VideoStream"]]:
        """Yields the container, from its start, and its first stream of video."""
        limits = {"codec_whitelist": ",".join(_CODECS), "max_pixels": str(_MOST_PIXELS)}
        self._file.seek(0)
        try:
            container = self._av.open(
                _QuietFile(self._file),
                "r",
                format=self._container,
                options={**limits, "format_whitelist": str(self._container)},
                metadata_errors="replace",
                io_open=_nothing,
            )
        except (self._av.FFmpegError, ValueError, MemoryError) as error:
            raise DataError(
                f"Expected a video, but {self._name} cannot be opened: it is damaged, "
                f"or cut short before its index ({_reason(error)})."
            ) from error
        with container:
            stream = self._stream_of(container)
            # Those of `open` are only for finding out what the streams are.
            stream.codec_context.options = limits
            stream.thread_type = "AUTO"
            yield container, stream

    def _stream_of(self, container: "InputContainer") -> "VideoStream":
        cover = self._av.stream.Disposition.attached_pic  # Of a piece of music.
        streams = (s for s in container.streams.video if not s.disposition & cover)
        stream = next(streams, None)
        if stream is None:
            raise DataError(
                f"Expected a video, but {self._name} has no stream of images."
            )
        context = stream.codec_context
        if context is None or context.codec.name not in _CODECS:
            codec = "unknown" if context is None else context.codec.name
            raise DataError(
                f"Expected a video in a common codec, but that of {self._name} is "
                f"{shown(codec)}. Convert it, for example to H.264."
            )
        # FFmpeg, told to refuse larger frames, leaves their size unknown.
        if not 0 < context.width * context.height <= _MOST_PIXELS:
            raise DataError(
                f"Expected frames of at most {_MOST_PIXELS // 1_000_000} megapixels, "
                f"but those of {self._name} are larger, or of no known size."
            )
        return stream


class _Decoder:
    """One pass through a video.

    Attributes:
        origin: The container's time, in seconds, at which the video starts.
        end: When the last packet of any stream ends, in seconds from there.
    """

    def __init__(
        self, av: ModuleType, container: "InputContainer", stream: "VideoStream"
    ) -> None:
        """Takes PyAV, the open container, and its stream of video."""
        self._errors = (av.FFmpegError, OSError, ValueError)
        self._container = container
        self._stream = stream
        self.origin = (container.start_time or 0) / av.time_base
        self.end = -math.inf

    def frames(self, first: int | None) -> Iterator["av.VideoFrame | None"]:
        """Yields whole frames in the order in which they are shown.

        Args:
            first: Container's time of the key frame to begin at, None for the start.

        Yields:
            A frame, or None in the place of one that is lost: its data are damaged, or
            it needs another that is lost.
        """
        # Container's time from which on frames wait for a key frame, None if they
        # need not.
        broken: float | None = None
        waiting = first is not None
        lost = 0  # Frames there that are not yet yielded as None.
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except self._errors:
                lost += 1
                break
            if packet is None:
                break
            if packet.pts is not None and packet.time_base:
                end = packet.pts + (packet.duration or 0)
                self.end = max(self.end, float(end * packet.time_base) - self.origin)
            if packet.stream is not self._stream:
                continue
            if waiting and packet.pts != first:
                continue
            waiting = False
            if packet.is_corrupt:
                place = -math.inf if packet.pts is None else packet.pts
                broken = place if broken is None else min(broken, place)
                lost += 1
                continue
            try:
                frames = self._stream.decode(packet)
            except self._errors:
                broken = -math.inf
                yield None
                continue
            for frame in frames:
                pts = math.inf if frame.pts is None else frame.pts
                if first is not None and pts < first:
                    continue  # It needs frames before the key frame.
                if frame.is_corrupt:
                    broken = -math.inf
                if broken is not None and pts >= broken:
                    yield from repeat(None, lost)
                    lost = 0
                    if frame.is_corrupt or not frame.key_frame:
                        yield None
                        continue
                    broken = None
                yield frame
        yield from repeat(None, lost)

    def seconds(self, frame: "av.VideoFrame", last: float) -> float:
        """Returns when a frame is shown, in seconds from the start of the video.

        Args:
            frame: The frame.
            last: The time of the frame before it: times never go back.
        """
        if frame.pts is None or not frame.time_base:
            rate = self._stream.average_rate or 25
            return max(last, 0) + float(1 / rate)
        return max(last, 0.0, float(frame.pts * frame.time_base) - self.origin)

    def image(self, frame: "av.VideoFrame") -> np.ndarray:
        """Returns a frame's pixels as players show them, uint8 RGB."""
        width = frame.width
        ratio = self._stream.sample_aspect_ratio
        if ratio and 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
            width = max(1, round(width * ratio))
        image = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
        # A telephone held upright writes images that lie, and how far to turn them.
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _reason(error: BaseException) -> str:
    return shown(first_line(error))


def _nothing(url: str, flags: int, options: dict[str, str]) -> IO[bytes]:
    """Returns an empty file for whatever else a video names."""
    return BytesIO()


class _QuietFile:
    """A file for PyAV, which prints the error when FFmpeg tries a place before it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, place: int, whence: int = 0) -> int:
        try:
            return self._file.seek(place, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _container_of(beginning: bytes) -> str | None:
    """Returns FFmpeg's name of a file's container, None if it is none of ours."""
    for name, place, marks in _CONTAINERS:
        if beginning.startswith(marks, place):
            return name
    # MPEG-TS: packets of one size, each with the same first byte; M2TS adds a time.
    for place, size in ((0, 188), (4, 192)):
        if len(beginning) > place + 4 * size and all(
            beginning[place + index * size] == 0x47 for index in range(5)
        ):
            return "mpegts"
    return None
