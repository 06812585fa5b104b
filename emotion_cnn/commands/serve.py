"""Open a page that says what faces show: in photos, videos, before the camera.

What a face shows is not what a person feels. Not for decisions about people.
(docs/model-card.md says what else this is not meant for.) The page is on this
machine, for its browsers alone, and its address holds a secret. Images are
analysed in memory: nothing is kept, and nothing leaves the machine. Ctrl-C ends
it.

Examples of settings:
  --port 8080 --no-browser
  --weights runs/20261125-120000-default
"""

import contextlib
import os
import secrets
import sys
import threading
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from emotion_cnn.backend import BACKENDS
from emotion_cnn.commands import shared
from emotion_cnn.commands.predict_job import counted
from emotion_cnn.data.classes import parse_classes
from emotion_cnn.errors import ConfigError
from emotion_cnn.serving import LOOPBACK
from emotion_cnn.settings import check_settings, from_keywords, setting

if TYPE_CHECKING:
    from emotion_cnn.serving.service import Service

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - Only with `share`.
SWITCHES = ("browser",)
_STOPPED = 130


@dataclass(frozen=True)
class ServeSettings:
    """Where the page is, and what answers it."""

    browser: bool = setting(
        True, "open the page in the browser", group="where the page is"
    )
    port: int = setting(
        0,
        "port of the page; 0 for any that is free",
        minimum=0,
        maximum=65535,
        metavar="NUMBER",
    )
    host: str = setting(
        LOOPBACK[0],
        "address or name of this machine under which the page is reached; one that "
        "other machines can connect to needs `share`",
        metavar="ADDRESS",
        is_path=False,
    )
    share: bool = setting(
        False,
        "let other machines connect to `host`: whoever learns the address can use the "
        "page, and images cross the network unencrypted",
    )
    weights: str | None = shared.weights()
    class_order: str | None = shared.class_order()
    input_range: str | None = shared.input_range()
    faces: str = shared.faces()
    unsure_below: float = shared.unsure_below()
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")

    def __post_init__(self) -> None:
        """Checks names and combinations."""
        check_settings(self)
        if self.class_order is not None:
            parse_classes(self.class_order, setting="class_order")
        if self.host not in LOOPBACK and not self.share:
            raise ConfigError(
                f"Expected a page for this machine alone, found `host={self.host}`, to "
                "which other machines may connect: they could use it, and images would "
                "cross the network unencrypted. Add `share=True` if that is meant, or "
                "leave `host` out."
            )
        if self.share and self.host in LOOPBACK:
            raise ConfigError(
                "`share` needs the address of this machine that others connect to; "
                f"found `host={self.host}`, which is for this machine alone. Name it "
                "with `host`, or leave `share` out."
            )


SETTINGS = (ServeSettings,)


def run(**keywords: Any) -> None:
    """Serves the page until Ctrl-C.

    Args:
        **keywords: The settings of `ServeSettings`.

    Raises:
        EmotionCnnError: The network cannot be used, the port is in use, or a package
            is missing.
    """
    settings = ServeSettings(**from_keywords(SETTINGS, keywords))
    from emotion_cnn.extras import check_installed
    from emotion_cnn.inference.cores import cores

    for package in ("starlette", "uvicorn", "websockets"):
        check_installed(package, extra="serve")
    from emotion_cnn.serving.application import make_application
    from emotion_cnn.serving.server import listen, make_server
    from emotion_cnn.serving.workers import Workers

    # Before what takes seconds, as a port may be in use.
    with listen(settings.host, settings.port) as listener:
        service = _make_service(settings)
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        # One for a photo, which may take seconds, and at least one for frames.
        workers = Workers(max(2, cores()))
        server = make_server(
            make_application(
                service,
                workers,
                token=token,
                port=port,
                shared_as=settings.host if settings.share else None,
            )
        )
        _announce(settings, f"http://{_in_address(settings.host)}:{port}/{token}/")
        # Where a parent has this process ignore Ctrl-C, the server notices it alone.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        print(_counted(service))
        _end_at_once()


def _make_service(settings: ServeSettings) -> "Service":
    from emotion_cnn.inference.detection import YuNet
    from emotion_cnn.serving.service import Service

    # First: a package may be missing, and a network can take seconds to load.
    detector = YuNet() if settings.faces == "detect" else None
    classifier = shared.load_classifier(
        weights=settings.weights,
        runs=settings.runs,
        backend=settings.backend,
        class_order=settings.class_order,
        input_range=settings.input_range,
        # Where Keras need not be loaded to predict, heat maps do without it too: it
        # would be, for seconds, while pages wait.
        explains=False,
    )
    return Service(classifier, detector, unsure_below=settings.unsure_below)


def _announce(settings: ServeSettings, address: str) -> None:
    """Says where the page is, and opens it."""
    if settings.share:
        print(
            "Other machines can connect: whoever has this address can use the page, "
            "and images cross the network unencrypted."
        )
    if settings.host in ANY_ADDRESS:
        print(f"Elsewhere, an address of this machine stands for {settings.host}.")
    print(f"The page is at {address}\nCtrl-C ends it.", flush=True)
    if settings.browser and _has_display():
        # A browser may be waited for until it ends; the page must be there before.
        threading.Thread(target=_open, args=(address,), daemon=True).start()


def _open(address: str) -> None:
    # The address is printed: whatever fails here, there is a way.
    with contextlib.suppress(Exception):
        webbrowser.open(address)


def _has_display() -> bool:
    """Returns whether a browser has a window: one of text would take the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _counted(service: "Service") -> str:
    counts = service.counts
    parts = ("photo", "frame", "face", "heat map")
    found = ", ".join(counted(counts[each], each) for each in parts)
    return f"\n{found}: analysed, and not kept."


def _end_at_once() -> NoReturn:
    """Ends the process, as Ctrl-C does elsewhere, but without tidying up.

    A photo may take many seconds, and no thread can be stopped; Python's own end takes
    seconds with TensorFlow. Nothing is lost by it, as there is nothing to write.
    """
    print("Stopped.", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(_STOPPED)
