"""Who may ask: the page that was opened here, and no other page or program.

Any page in the same browser can send requests to this machine, and a name that an
attacker owns can be made to lead here (DNS rebinding): `Host` and `Origin` tell.
Another user of the machine can connect too, but does not know the token.
"""

import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emotion_cnn.serving import LOOPBACK

_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

HEADERS: Mapping[str, str] = {
    # `blob:` is what the page itself holds in memory: previews, and a dropped video.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    # The address holds the token.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""What every answer says."""


class Guard:
    """Lets through what comes from the page, as if the token were not in its path."""

    def __init__(
        self, app: ASGIApp, *, token: str, port: int, shared_as: str | None = None
    ) -> None:
        """Takes what to guard.

        Args:
            app: What answers.
            token: The first part of each path.
            port: The port of the server.
            shared_as: Name or address of this machine, where others may connect: then
                any address in numbers will do too, which no attacker's name is.
        """
        self._app = app
        self._token = token
        self._port = port
        # Names in `Host` are compared in lower case.
        self._names = {*LOOPBACK, *([shared_as.lower()] if shared_as else [])}
        self._is_shared = shared_as is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses to."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        refusal = self._refusal(scope, token)
        if refusal is None and slash:
            await self._app({**scope, "path": f"/{rest}"}, receive, send_with_headers)
        elif scope["type"] == "websocket":
            # Before it is accepted: the browser is told 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text = refusal or (404, "Not found")
            # Whoever may not ask is not kept waiting for more, either.
            headers = {"Connection": "close"}
            response = PlainTextResponse(f"{text}\n", status, headers)
            await response(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, token: str) -> tuple[int, str] | None:
        """Returns the status and the text of a refusal; None if there is none."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "This name does not belong to this server"
        # A browser leaves it out where a page is opened, or fetches a file of its own.
        may_lack = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if origins != [f"http://{hosts[0]}"] and (origins or not may_lack):
            return 403, "Another page asks"
        given = token.encode(errors="replace")
        if not hmac.compare_digest(given, self._token.encode()):
            return 404, "Not found"
        return None

    def _is_ours(self, host: str) -> bool:
        """Returns whether this server is meant, with its name and port."""
        if not _HOST.fullmatch(host):
            return False
        try:
            parts = urlsplit(f"http://{host}")
            name, port = parts.hostname, parts.port or 80
        except ValueError:
            return False
        if port != self._port:
            return False
        return name in self._names or (self._is_shared and _is_address(name))


def _is_address(name: Any) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
