"""Frames of a camera or a video over a WebSocket: the newest first, never a queue.

A page sends text, `{"start": {"source": "camera", "labels": "original", "tracks": 0}}`,
and then a message of bytes for each frame: its number (4 bytes) and time in seconds (8
bytes, a float), big-endian, and an image. Each answer is JSON with the frame's number.
After seeking in a video, or by other labels, a page starts again, with the greatest
number of a face as `tracks`. What is not such a message ends the connection.
"""

import asyncio
import contextlib
import json
import struct
import time
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from emotion_cnn.errors import DataError, EmotionCnnError
from emotion_cnn.serving.limits import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MESSAGES_PER_SECOND,
    MOST_TRACKS,
    SECONDS_TO_READ,
)
from emotion_cnn.serving.service import LiveSession, Service
from emotion_cnn.serving.workers import Workers

HEADER = struct.Struct(">Id")
"""The number of a frame, and its time in seconds."""

_SECONDS_TO_CLOSE = 1
_BAD_MESSAGE, _REFUSED, _FAILED = 1007, 1008, 1011


class _EndError(Exception):
    """The connection has to end: a code of WebSockets, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, eq=False)
class _Frame:
    session: LiveSession
    number: int
    seconds: float
    content: bytes


class _Newest:
    """Holds one frame; a newer one takes its place."""

    def __init__(self) -> None:
        self._frame: _Frame | None = None
        self._arrived = asyncio.Event()

    def put(self, frame: _Frame) -> None:
        self._frame = frame
        self._arrived.set()

    def clear(self) -> None:
        self._frame = None
        self._arrived.clear()

    async def take(self) -> _Frame:
        """Waits for a frame, and hands it over."""
        while (frame := self._frame) is None:
            await self._arrived.wait()
        self.clear()
        return frame


async def answer_frames(
    websocket: WebSocket, service: Service, workers: Workers
) -> None:
    """Answers the frames of an accepted connection until it ends.

    Args:
        websocket: The connection.
        service: What answers.
        workers: Where it does.
    """
    newest = _Newest()
    tasks = [
        asyncio.create_task(_read(websocket, service, newest)),
        asyncio.create_task(_answer(websocket, newest, workers)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Also where the server stops.
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect):
            told = end
            if not isinstance(told, _EndError):
                told = _EndError(_FAILED, "the analysis fails")
            # Whoever does not read is not told either.
            with contextlib.suppress(TimeoutError, WebSocketDisconnect):
                async with asyncio.timeout(_SECONDS_TO_CLOSE):
                    await websocket.close(told.code, told.reason)
            if told is not end:
                raise end
            return


async def _read(websocket: WebSocket, service: Service, newest: _Newest) -> None:
    """Reads messages as they come; keeps only the newest frame."""
    session: LiveSession | None = None
    second, count = 0, 0
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        now = int(time.monotonic())
        second, count = now, count + 1 if now == second else 1
        if count > MESSAGES_PER_SECOND:
            raise _EndError(
                _REFUSED, f"more than {MESSAGES_PER_SECOND} messages a second"
            )
        content = message.get("bytes")
        if content is None:
            newest.clear()
            session = _started(message["text"], service)
        elif session is None:
            raise _EndError(_BAD_MESSAGE, "expected a start before frames")
        elif len(content) <= HEADER.size:
            raise _EndError(_BAD_MESSAGE, "expected a frame, found too few bytes")
        else:
            number, seconds = HEADER.unpack_from(content)
            newest.put(_Frame(session, number, seconds, content[HEADER.size :]))


def _started(text: str, service: Service) -> LiveSession:
    """Returns what a message starts."""
    try:
        if len(text) > LONGEST_TEXT:
            raise ValueError
        start = json.loads(text)["start"]
        source, labels, tracks = start["source"], start["labels"], start["tracks"]
        if not (isinstance(source, str) and isinstance(labels, str)):
            raise ValueError
        if type(tracks) is not int or not 0 <= tracks <= MOST_TRACKS:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _EndError(_BAD_MESSAGE, "expected a start as JSON") from None
    try:
        return service.live(source=source[:LONGEST_NAME], labels=labels, tracks=tracks)
    except DataError:
        raise _EndError(_BAD_MESSAGE, "expected one of the label sets") from None


async def _answer(websocket: WebSocket, newest: _Newest, workers: Workers) -> None:
    """Answers one frame after the other."""
    while True:
        frame = await newest.take()
        try:
            answer = await workers.run(
                frame.session.answer, frame.number, frame.seconds, frame.content
            )
        except DataError as error:
            answer = {"number": frame.number, "error": str(error)}
        except EmotionCnnError as error:
            raise _EndError(_FAILED, "the network fails") from error
        try:
            async with asyncio.timeout(SECONDS_TO_READ):
                await websocket.send_text(json.dumps(answer))
        except TimeoutError:
            raise _EndError(_REFUSED, "answers are not read") from None
