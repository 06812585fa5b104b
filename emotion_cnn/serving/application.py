"""What the page is made of, and what it asks for, by path."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from emotion_cnn.errors import EmotionCnnError
from emotion_cnn.serving.frames import answer_frames
from emotion_cnn.serving.guard import Guard
from emotion_cnn.serving.limits import (
    LONGEST_NAME,
    MOST_CONNECTIONS,
    MOST_WAITING,
    PHOTO_BYTES,
    SECONDS_TO_SEND,
)
from emotion_cnn.serving.service import Service
from emotion_cnn.serving.workers import Workers

_log = logging.getLogger(__name__)

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_START = "index.html"
_NO_TURN = nullcontext()
_TRY_AGAIN_LATER = 1013


def make_application(
    service: Service,
    workers: Workers,
    *,
    token: str,
    port: int,
    shared_as: str | None = None,
) -> ASGIApp:
    """Returns what answers the page, for an ASGI server.

    Args:
        service: What analyses images.
        workers: Where it does.
        token: The first part of each path.
        port: The server's.
        shared_as: Name or address of this machine, where others may connect.
    """
    parts = _Parts(service, workers, is_shared=shared_as is not None)
    files = {
        path.name: path.read_bytes()
        for path in resources.files("emotion_cnn.serving").joinpath("page").iterdir()
        if path.name.rpartition(".")[2] in _TYPES
    }
    app = Starlette(
        routes=[
            Route("/photo", parts.photo, methods=["POST"]),
            Route("/annotated", parts.annotated, methods=["POST"]),
            Route("/explanation", parts.explanation, methods=["POST"]),
            Route("/about", parts.about),
            WebSocketRoute("/frames", parts.frames),
            *(
                Route(f"/{'' if name == _START else name}", _file(name, content))
                for name, content in files.items()
            ),
        ],
        exception_handlers={
            EmotionCnnError: _unusable,
            HTTPException: _refused,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )
    return Guard(app, token=token, port=port, shared_as=shared_as)


class _Parts:
    """What is asked for by the page."""

    def __init__(self, service: Service, workers: Workers, *, is_shared: bool) -> None:
        self._service = service
        self._workers = workers
        self._is_shared = is_shared
        # A photo may take seconds and a gigabyte: one at a time, so that there are
        # workers left for frames, and memory.
        self._photo_turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._connections = 0

    async def about(self, request: Request) -> Response:
        return JSONResponse({**self._service.about(), "shared": self._is_shared})

    async def photo(self, request: Request) -> Response:
        labels, name = _text(request, "labels"), _text(request, "name")
        async with self._turn(self._photo_turn):
            content = await _body(request, PHOTO_BYTES)
            answer = await self._workers.run(
                lambda: self._service.photo(content, name=name, labels=labels)
            )
        return JSONResponse(answer)

    async def annotated(self, request: Request) -> Response:
        labels, explain = _text(request, "labels"), "explain" in request.query_params
        async with self._turn(self._photo_turn):
            content = await _body(request, PHOTO_BYTES)
            answer = await self._workers.run(
                lambda: self._service.annotated(content, labels=labels, explain=explain)
            )
        return Response(answer, media_type="image/png")

    async def explanation(self, request: Request) -> Response:
        labels, emotion = _text(request, "labels"), _text(request, "emotion")
        async with self._turn():
            content = await _body(request, 2**20)
            answer = await self._workers.run(
                lambda: self._service.explanation(
                    content, emotion=emotion, labels=labels
                )
            )
        return Response(answer, media_type="application/octet-stream")

    async def frames(self, websocket: WebSocket) -> None:
        self._connections += 1
        try:
            await websocket.accept()
            if self._connections > MOST_CONNECTIONS:
                await websocket.close(_TRY_AGAIN_LATER, "too many pages are open")
            else:
                await answer_frames(websocket, self._service, self._workers)
        except WebSocketDisconnect:
            pass  # It has gone in the meantime.
        except Exception as error:
            _log_failure(error)
            raise
        finally:
            self._connections -= 1

    @asynccontextmanager
    async def _turn(
        self, turn: AbstractAsyncContextManager[None] = _NO_TURN
    ) -> AsyncIterator[None]:
        """Waits for a turn, unless too many do already."""
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "Too much is waiting for its turn. Try again.")
        self._waiting += 1
        try:
            async with turn:
                yield
        finally:
            self._waiting -= 1


def _file(name: str, content: bytes) -> Callable[[Request], Response]:
    """Returns what answers with a file of the page."""

    def answer(_: Request) -> Response:
        return Response(content, media_type=_TYPES[name.rpartition(".")[2]])

    return answer


def _text(request: Request, name: str) -> str:
    """Returns what the query says under a name."""
    text = request.query_params.get(name, "")
    if not 0 < len(text) <= LONGEST_NAME:
        raise HTTPException(400, f"Expected {name} of 1 to {LONGEST_NAME} characters.")
    return text


async def _body(request: Request, most: int) -> bytes:
    """Returns what is sent, up to so many bytes."""
    content = bytearray()
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
        raise HTTPException(413, f"It is larger than {most:,} bytes.")
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise HTTPException(413, f"It is larger than {most:,} bytes.")
    except TimeoutError:
        raise HTTPException(408, "It did not arrive in time.") from None
    return bytes(content)


async def _unusable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code)


async def _gone(_: Request, error: Exception) -> Response:
    return PlainTextResponse("", 400)


async def _failed(_: Request, error: Exception) -> Response:
    _log_failure(error)
    return JSONResponse({"error": "It cannot be analysed."}, 500)


def _log_failure(error: Exception) -> None:
    # Its text may tell what was looked at.
    _log.error("An answer failed: %s.", type(error).__name__)
