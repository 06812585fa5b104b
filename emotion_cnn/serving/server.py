"""The server of the page, on this machine's loopback address unless told otherwise."""

import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

from emotion_cnn.errors import ConfigError
from emotion_cnn.files import first_line
from emotion_cnn.serving.frames import HEADER
from emotion_cnn.serving.limits import FRAME_BYTES, MOST_UNREAD, SECONDS_TO_ASK


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; browsers may connect from then on.

    Args:
        host: An address or a name of this machine.
        port: 0 for a free one.

    Raises:
        ConfigError: The address is not this machine's, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"Expected an address of this machine (`host`) and a port that is free "
            f"(`port`), but {host} and {port} cannot be used: {first_line(error)}. "
            "Leave them out for any free port."
        ) from error


class _Protocol(H11Protocol):
    """HTTP; who connects, but does not ask for anything, is not kept."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(SECONDS_TO_ASK, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        # `cycle` is the latest request. What has become a WebSocket is no longer among
        # the connections.
        if self.cycle is None and self in self.connections:
            self.transport.close()


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets; who sends pings, but reads no answer to them, is not kept."""

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            # Unlike `close`, which would wait until all is read.
            self.transport.abort()


def make_server(application: ASGIApp) -> uvicorn.Server:
    """Returns a server that logs nothing; `run(sockets=[...])` serves until Ctrl-C.

    Args:
        application: What answers.
    """
    return uvicorn.Server(
        uvicorn.Config(
            application,
            loop="asyncio",
            http=_Protocol,
            ws=_WebSocketProtocol,
            lifespan="off",
            # Addresses hold the token, and messages may hold what was sent.
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=FRAME_BYTES + HEADER.size,
            # JPEG does not get smaller.
            ws_per_message_deflate=False,
            # Whoever still reads an answer is not waited for.
            timeout_graceful_shutdown=1,
        )
    )
