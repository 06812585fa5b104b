"""`serve`: what it refuses, what it opens, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser

import pytest
from conftest import ROOT
from pages import ByGrayLevel, draw_photo, encoded
from websockets.sync.client import connect

from emotion_cnn import extras
from emotion_cnn.cli import main
from emotion_cnn.commands import serve
from emotion_cnn.serving import server
from emotion_cnn.serving.service import Service

SECONDS_TO_END = 5
GUARDED = """
import os, sys

def guard(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1"):
        print("connected to", arguments[1], file=sys.stderr)
        os._exit(99)
    if event == "import" and arguments[0] in os.environ["UNNEEDED"].split():
        print("imported", arguments[0], file=sys.stderr)
        os._exit(98)

sys.addaudithook(guard)
from emotion_cnn.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The tool, which ends with 99 where it connects to another machine, with 98 where it
imports what it need not."""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--host", "0.0.0.0"), "Add --share if that is meant"),  # noqa: S104
        (("--host", "192.168.0.7"), "Expected a page for this machine alone"),
        (("--share",), "--share needs the address"),
        (("--port", "70000"), "--port is a number from 0 to 65535"),
        (("--host", "192.0.2.1", "--share"), "cannot be used"),
    ],
)
def test_a_page_for_others_needs_consent(fails, arguments, text):
    assert text in fails("serve", *arguments)


def test_a_port_in_use_is_said_before_anything_is_loaded(fails):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = fails("serve", "--port", port)
    assert f"{port} cannot be used" in message
    assert "(--port)" in message


def test_a_missing_package_is_named(fails, monkeypatch):
    find = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util,
        "find_spec",
        lambda name: None if name == "uvicorn" else find(name),
    )
    assert "emotion-cnn's extra `[serve]`" in fails("serve")


class Stopped:
    """Stands in for the server: ends once the browser has had its chance."""

    def __init__(self, opened: threading.Event) -> None:
        self._opened = opened

    def run(self, sockets):
        self._opened.wait(0.3)


@pytest.mark.parametrize(
    ("display", "arguments", "is_opened"),
    [
        (":0", (), True),
        (":0", ("--no-browser",), False),
        (None, (), False),
    ],
)
@pytest.mark.parametrize("fails_to_open", [False, True])
@pytest.mark.skipif(sys.platform != "linux", reason="others always have a display")
def test_a_browser_is_opened_where_there_is_one(
    monkeypatch, capsys, display, arguments, is_opened, fails_to_open
):
    opened, addresses = threading.Event(), []

    def open_browser(address):
        addresses.append(address)
        opened.set()
        if fails_to_open:
            raise webbrowser.Error("there is none")

    monkeypatch.setattr(webbrowser, "open", open_browser)
    monkeypatch.setattr(server, "make_server", lambda _: Stopped(opened))
    # Keras takes ten seconds.
    service = Service(ByGrayLevel(), None)
    monkeypatch.setattr(serve, "_make_service", lambda _: service)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    # The command ends its process, and this one has tests to run.
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match=r"^130$"):
        main(["serve", *arguments])
    output = capsys.readouterr().out
    address = re.search(r"http://127\.0\.0\.1:\d+/\S{32}/", output)[0]
    assert addresses == ([address] if is_opened else [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there, a process has no Ctrl-C")
@pytest.mark.parametrize("is_light", [False, True])
def test_it_serves_until_ctrl_c_and_connects_nowhere(tmp_path, is_light):
    """The real thing, with the shipped network: a photo, a heat map, a camera."""
    command = [sys.executable, "-u", "-c", GUARDED, "serve", "--no-browser"]
    command += ["--faces", "cropped"]
    unneeded = "keras tensorflow jax torch"
    if not is_light:
        # Keras' own network, in place of the exported one beside it.
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        command, unneeded = [*command, "--backend", backend], ""
    work = tmp_path
    before = sorted(work.iterdir())
    process = subprocess.Popen(
        command,
        cwd=work,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "TMPDIR": str(work), "UNNEEDED": unneeded},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = re.fullmatch(r"The page is at (http://\S+)\n", line)[1]
        origin = "/".join(address.split("/")[:3])
        photo = encoded(draw_photo(200, size=(96, 96)))

        def post(path, body):
            request = urllib.request.Request(  # noqa: S310
                address + path, data=body, headers={"Origin": origin}
            )
            return urllib.request.urlopen(request, timeout=60).read()  # noqa: S310

        answer = json.loads(post("photo?labels=original&name=secret.jpg", photo))
        (face,) = answer["line"]["faces"]
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        query = f"explanation?labels=original&emotion={face['emotion']}"
        assert len(post(query, bytes(48 * 48))) == 3 * 48 * 48
        with connect(
            f"{address.replace('http', 'ws', 1)}frames", origin=origin, proxy=None
        ) as connection:
            start = {"source": "camera", "labels": "original", "tracks": 0}
            connection.send(json.dumps({"start": start}))
            connection.send(bytes(12) + photo)
            assert json.loads(connection.recv(timeout=60))["line"]["faces"]
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert time.monotonic() - began < SECONDS_TO_END
        rest = process.stdout.read()
        assert "1 photo, 1 frame, 2 faces, 1 heat map: analysed, and not kept." in rest
        errors = process.stderr.read()
        assert "Stopped." in errors
        assert "secret" not in rest + errors
        assert "Traceback" not in errors
        assert sorted(work.iterdir()) == before
    finally:
        process.kill()
        process.communicate()
