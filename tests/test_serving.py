"""The page's server: who may ask, how much, and that answers are those of `predict`."""

import asyncio
import base64
import contextlib
import http.client
import io
import itertools
import json
import re
import socket
import struct
import threading
import time
from importlib import resources
from urllib.parse import urlencode

import numpy as np
import pytest
from pages import (
    TOKEN,
    BrightRegions,
    ByGrayLevel,
    draw_photo,
    encoded,
    running_server,
)
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from emotion_cnn import serving
from emotion_cnn.errors import ConfigError, ModelError
from emotion_cnn.inference.analysis import Analyzer
from emotion_cnn.inference.annotation import annotate, describe, describe_all
from emotion_cnn.inference.explanation import heat_map
from emotion_cnn.inference.predictions import Predictions
from emotion_cnn.serving import application, frames, limits
from emotion_cnn.serving import server as serving_server
from emotion_cnn.serving.guard import HEADERS, Guard
from emotion_cnn.serving.server import listen
from emotion_cnn.serving.workers import Workers


def start_of(**changes):
    """Returns the message with which a camera or a video begins."""
    start = {"source": "camera", "labels": "original", "tracks": 0}
    return json.dumps({"start": start | changes})


START = start_of()
PHOTO = encoded(draw_photo(200, 120, 60))
PHOTO_QUERY = {"name": "a.jpg", "labels": "original"}
SLOW_SECONDS = 0.05


@pytest.fixture(scope="module")
def server():
    with running_server() as running:
        yield running


def ask(
    server, path, *, method="GET", body=None, headers=None, token=TOKEN, timeout=20
):
    """Returns the status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    given = {"Host": f"127.0.0.1:{server.port}"} | (headers or {})
    connection.putrequest(method, f"/{token}/{path}", skip_host=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(server, path, query, body, *, timeout=20):
    """Sends something as the page does; returns the status and the content."""
    status, _, content = ask(
        server,
        f"{path}?{urlencode(query)}",
        method="POST",
        body=body,
        headers={"Origin": server.origin},
        timeout=timeout,
    )
    return status, content


@contextlib.contextmanager
def connected(server, *, start=START, **options):
    """Yields a connection for frames, as the page opens it."""
    address = f"{server.address.replace('http', 'ws', 1)}frames"
    options = {"origin": server.origin, "compression": None} | options
    with connect(address, **options) as connection:
        if start is not None:
            connection.send(start)
        yield connection


def frame(number, *, seconds=None, content=None):
    seconds = number / 10 if seconds is None else seconds
    return struct.pack(">Id", number, seconds) + (PHOTO if content is None else content)


def answered(connection, number, **options):
    """Sends a frame, and returns its answer."""
    connection.send(frame(number, **options))
    answer = json.loads(connection.recv(timeout=20))
    assert answer["number"] == number
    return answer


class Slow(BrightRegions):
    """Takes a while to find faces."""

    def detect(self, photo):
        time.sleep(SLOW_SECONDS)
        return super().detect(photo)


# --- Who may ask ---


OTHER_PORT = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("path", "method", "headers", "token", "status"),
    [
        ("", "GET", {}, TOKEN, 200),
        ("", "GET", {"Host": "localhost:{port}"}, TOKEN, 200),
        ("", "GET", {"Host": "[::1]:{port}"}, TOKEN, 200),
        ("about", "GET", {"Origin": "http://127.0.0.1:{port}"}, TOKEN, 200),
        # A name that leads here, as by DNS rebinding.
        ("", "GET", {"Host": "attacker.example:{port}"}, TOKEN, 421),
        ("", "GET", {"Host": "127.0.0.1.attacker.example:{port}"}, TOKEN, 421),
        ("", "GET", {"Host": "192.168.0.1:{port}"}, TOKEN, 421),
        ("", "GET", {"Host": OTHER_PORT}, TOKEN, 421),
        ("", "GET", {"Host": "127.0.0.1"}, TOKEN, 421),
        ("", "GET", {"Host": "127.0.0.1:{port}@attacker.example"}, TOKEN, 421),
        ("", "GET", {"Host": "[::1"}, TOKEN, 421),
        ("", "GET", {"Host": "127.0.0.1:99999"}, TOKEN, 421),
        ("", "GET", {"Host": ""}, TOKEN, 421),
        # Another page.
        ("about", "GET", {"Origin": "http://attacker.example"}, TOKEN, 403),
        ("about", "GET", {"Origin": "null"}, TOKEN, 403),
        ("photo", "POST", {"Origin": "http://127.0.0.1:1"}, TOKEN, 403),
        ("photo", "POST", {"Origin": "https://127.0.0.1:{port}"}, TOKEN, 403),
        ("photo", "POST", {"Origin": "http://localhost:{port}"}, TOKEN, 403),
        ("photo", "POST", {}, TOKEN, 403),
        ("explanation", "POST", {}, TOKEN, 403),
        ("annotated", "POST", {}, TOKEN, 403),
        # Without the token, and other paths.
        ("", "GET", {}, "another-token", 404),
        ("", "GET", {}, TOKEN[:-1], 404),
        ("about", "GET", {}, "%ff", 404),
        ("../limits.py", "GET", {}, TOKEN, 404),
        ("%2e%2e/limits.py", "GET", {}, TOKEN, 404),
        ("page/main.js", "GET", {}, TOKEN, 404),
        ("limits.py", "GET", {}, TOKEN, 404),
        ("about", "PUT", {"Origin": "http://127.0.0.1:{port}"}, TOKEN, 405),
    ],
)
def test_only_the_page_itself_may_ask(server, path, method, headers, token, status):
    given = {name: each.format(port=server.port) for name, each in headers.items()}
    body = b"" if method == "POST" else None
    found, answer_headers, content = ask(
        server, path, method=method, body=body, headers=given, token=token
    )
    assert found == status
    for name, value in HEADERS.items():
        assert answer_headers[name] == value
    assert (b"<!doctype html>" in content) == (status == 200 and path == "")


@pytest.mark.parametrize("path", ["/", "//", "/favicon.ico", f"/{TOKEN}", "*"])
def test_a_path_without_a_token_is_not_found(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET" if path != "*" else "OPTIONS", path)
    assert connection.getresponse().status in (403, 404)
    connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://attacker.example"},
        {"origin": None},
        {"additional_headers": {"Host": "attacker.example"}},
    ],
)
def test_another_page_cannot_connect(server, headers):
    with (
        pytest.raises((InvalidStatus, ConnectionClosed, EOFError)) as caught,
        connected(server, **headers),
    ):
        pass
    if isinstance(caught.value, InvalidStatus):
        # Of two hosts the server itself makes 400.
        assert caught.value.response.status_code in (400, 403)


def test_without_the_token_nothing_connects(server):
    address = f"ws://127.0.0.1:{server.port}/another/frames"
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(address, origin=server.origin),
    ):
        pass


@pytest.mark.parametrize(
    ("shared_as", "host", "is_let_in"),
    [
        (None, "192.168.0.7:80", False),
        ("192.168.0.7", "192.168.0.7:80", True),
        ("192.168.0.7", "192.168.0.7", True),
        ("0.0.0.0", "192.168.0.7:80", True),  # noqa: S104
        ("0.0.0.0", "attacker.example:80", False),  # noqa: S104
        ("desk.lan", "desk.lan:80", True),
        ("Desk.lan", "desk.lan:80", True),
        ("desk.lan", "Desk.LAN:80", True),
        ("desk.lan", "attacker.example:80", False),
    ],
)
def test_a_shared_page_has_its_own_name_and_addresses_alone(shared_as, host, is_let_in):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def status():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/{TOKEN}/",
            "headers": [(b"host", host.encode())],
        }
        guard = Guard(app, token=TOKEN, port=80, shared_as=shared_as)
        await guard(scope, None, send)
        return sent[0]["status"]

    assert asyncio.run(status()) == (204 if is_let_in else 421)


REFUSED = b"GET /other/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP", REFUSED], ids=str)
def test_idle_connections_do_not_shut_the_page_out(monkeypatch, sent):
    monkeypatch.setattr(serving_server, "SECONDS_TO_ASK", 1.5)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server())
        idle = []
        with connected(server) as connection:
            for _ in range(150):
                client = socket.create_connection(("127.0.0.1", server.port), 20)
                client.sendall(sent % server.port if sent == REFUSED else sent)
                idle.append(stack.enter_context(client))
            assert ask(server, "about")[0] == 200
            assert post(server, "photo", PHOTO_QUERY, PHOTO)[0] == 200
            # They are closed; what is in use is not.
            for client in idle:
                while client.recv(1000):
                    pass
            assert answered(connection, 1)["line"]["faces"]


def test_nothing_of_the_page_is_from_elsewhere(server):
    names = [path.name for path in resources.files(serving).joinpath("page").iterdir()]
    assert {"index.html", "main.js", "style.css"} <= set(names)
    for name in names:
        path = "" if name == "index.html" else name
        status, headers, content = ask(server, path)
        assert status == 200
        addresses = set(re.findall(rb"(?:https?:|wss?:)?//[\w.]+", content))
        addresses -= {b"http://www.w3.org"}  # The name of SVG.
        comments = {each for each in addresses if each.startswith(b"// ")}
        assert addresses == comments
        # The policy would stop both.
        assert b"innerHTML" not in content
        assert not re.search(rb"<[^>]+\s(style|on\w+)=", content)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")


# --- Photos ---


def test_a_photo_is_answered_as_predict_answers_it(server, tmp_path):
    status, content = post(server, "photo", PHOTO_QUERY, PHOTO)
    assert status == 200
    answer = json.loads(content)
    pixels = np.asarray(Image.open(io.BytesIO(PHOTO)))
    faces = Analyzer(ByGrayLevel(), BrightRegions()).analyze(pixels)
    assert len(faces) == 3
    with Predictions(tmp_path, ByGrayLevel.classes, {}) as predictions:
        predictions.write("a.jpg", [face.as_dict() for face in faces])
    lines = (tmp_path / "predictions.jsonl").read_text()
    header, rows = (tmp_path / "predictions.csv").read_text().split("\n", 1)
    assert answer["line"] == json.loads(lines)
    assert answer["csv"] == rows
    assert answer["words"] == [describe(face) for face in faces]
    assert answer["summary"] == f"{describe_all(faces)}."
    assert answer["percents"] == [face.percents for face in faces]
    about = json.loads(ask(server, "about")[2])
    assert about["csv"]["photo"] == header + "\n"
    for face, text in zip(faces, answer["images"], strict=True):
        assert base64.b64decode(text) == face.image.tobytes()
    preview = Image.open(io.BytesIO(base64.b64decode(answer["preview"])))
    assert preview.size == (answer["width"], answer["height"]) == (640, 480)


def test_a_photo_is_answered_by_the_other_labels(server):
    emotions = []
    for labels in ByGrayLevel.label_sets:
        _, content = post(server, "photo", PHOTO_QUERY | {"labels": labels}, PHOTO)
        emotions.append(json.loads(content)["line"]["faces"][0]["emotion"])
    assert emotions == ["sad", "disgust"]


@pytest.mark.parametrize("explain", [False, True])
def test_an_annotated_photo_is_that_of_predict(server, explain):
    query = {"labels": "original"} | ({"explain": "1"} if explain else {})
    status, content = post(server, "annotated", query, PHOTO)
    assert status == 200
    pixels = np.asarray(Image.open(io.BytesIO(PHOTO)))
    faces = Analyzer(ByGrayLevel(), BrightRegions()).analyze(pixels)
    maps = [heat_map(face.image, face.explain()) for face in faces]
    wanted = annotate(pixels, faces, maps=maps if explain else None)
    found = Image.open(io.BytesIO(content))
    assert found.format == "PNG"
    assert np.array_equal(np.asarray(found), np.asarray(wanted))


def test_a_heat_map_is_that_of_predict(server):
    face = np.arange(48 * 48).reshape(48, 48).astype(np.uint8)
    query = {"emotion": "happy", "labels": "original"}
    status, content = post(server, "explanation", query, face.tobytes())
    assert status == 200
    wanted = heat_map(face, ByGrayLevel().explain(face))
    assert content == wanted.tobytes()


def large_jpeg(width: int, height: int) -> bytes:
    """A JPEG file whose header says another size than it has."""
    content = bytearray(encoded(Image.new("L", (8, 8))))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize(
    ("path", "query", "body", "status", "text"),
    [
        ("photo", PHOTO_QUERY, b"just text", 422, "not a JPEG"),
        ("photo", PHOTO_QUERY, b"", 422, "cannot be read"),
        ("photo", PHOTO_QUERY, PHOTO[:5000], 422, "cannot be read"),
        ("photo", PHOTO_QUERY, large_jpeg(30_000, 30_000), 422, "megapixels"),
        ("photo", PHOTO_QUERY | {"labels": "x"}, PHOTO, 422, "label sets"),
        ("photo", {"labels": "original"}, PHOTO, 400, "Expected name"),
        ("photo", PHOTO_QUERY | {"name": "x" * 256}, PHOTO, 400, "Expected name"),
        ("annotated", {}, PHOTO, 400, "Expected labels"),
        ("annotated", {"labels": "original"}, b"text", 422, "cannot be read"),
        ("explanation", {"labels": "original", "emotion": "sad"}, b"x", 422, "48x48"),
        ("explanation", {"labels": "original"}, b"x" * 2304, 400, "Expected emotion"),
        (
            "explanation",
            {"labels": "original", "emotion": "sad"},
            b"x" * (2**20 + 1),
            413,
            "larger",
        ),
    ],
)
def test_what_cannot_be_answered_is_said(server, path, query, body, status, text):
    found, content = post(server, path, query, body)
    assert found == status
    assert text in json.loads(content)["error"]


@pytest.mark.slow
def test_a_photo_of_200_megapixels_is_answered():
    height, width = 10_000, 20_000
    photo = Image.new("L", (width, height), "black")
    photo.paste(200, (4000, 3000, 8000, 7000))
    content = encoded(photo)
    with running_server() as server, connected(server) as connection:
        status, answer = post(server, "photo", PHOTO_QUERY, content, timeout=120)
        assert answered(connection, 1)["line"]["faces"]
    assert status == 200
    found = json.loads(answer)
    assert (found["width"], found["height"]) == (width, height)
    (face,) = found["line"]["faces"]
    assert face["box"] == pytest.approx([4000, 3000, 8000, 7000], abs=20)
    preview = Image.open(io.BytesIO(base64.b64decode(found["preview"])))
    assert preview.size == (1600, 800)


@pytest.mark.parametrize("length", [str(limits.PHOTO_BYTES + 1), "9" * 400])
def test_a_file_too_large_is_refused_before_it_is_sent(server, length):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(
            f"POST /{TOKEN}/photo?{urlencode(PHOTO_QUERY)} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{server.port}\r\nOrigin: {server.origin}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        # h11 itself refuses the longer number.
        assert client.recv(100).split()[1] in (b"413", b"400")


@pytest.mark.parametrize("trickles", [False, True])
def test_a_photo_that_never_comes_is_not_waited_for(server, monkeypatch, trickles):
    monkeypatch.setattr(application, "SECONDS_TO_SEND", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(
            f"POST /{TOKEN}/photo?{urlencode(PHOTO_QUERY)} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{server.port}\r\nOrigin: {server.origin}\r\n"
            f"Content-Length: 1000\r\n\r\nabc".encode()
        )
        if trickles:
            # Each part is in time.
            for _ in range(10):
                time.sleep(0.1)
                client.sendall(b"x")
        assert client.recv(100).split()[1] == b"408"
    assert post(server, "photo", PHOTO_QUERY, PHOTO)[0] == 200


def test_too_many_photos_at_a_time_are_refused(monkeypatch):
    monkeypatch.setattr(application, "MOST_WAITING", 2)
    with running_server(detector=Slow()) as server:
        found = []
        threads = [
            threading.Thread(
                target=lambda: found.append(
                    post(server, "photo", PHOTO_QUERY, PHOTO)[0]
                )
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {200, 503}
        assert found.count(200) >= 2


# --- Frames ---


def test_frames_are_followed_and_smoothed(server):
    with connected(server) as connection:
        first = answered(connection, 1, content=encoded(draw_photo(200)))
        second = answered(connection, 2, content=encoded(draw_photo(60)))
        again = answered(connection, 3, seconds=0, content=encoded(draw_photo(60)))
    (face,) = first["line"]["faces"]
    assert face["track"] == 1
    assert face["emotion"] == "sad"
    (face,) = second["line"]["faces"]
    assert face["track"] == 1
    assert face["probabilities"]["disgust"] == pytest.approx(0.9)
    # After a tenth of a second, most of what was before stays.
    assert face["emotion"] == "sad"
    assert face["smoothed"]["sad"] == pytest.approx(0.9 * np.exp(-0.2), abs=0.02)
    # Time has gone back: nothing of what was before stays, and numbers go on.
    (face,) = again["line"]["faces"]
    assert face["emotion"] == "disgust"
    assert face["track"] == 2
    assert second["line"] | {"faces": []} == {
        "source": "camera",
        "frame": 2,
        "seconds": 0.2,
        "faces": [],
    }
    header = json.loads(ask(server, "about")[2])["csv"]["live"]
    assert header.count(",") == second["csv"].count(",")
    assert (second["width"], second["height"]) == (640, 480)


def test_another_start_means_other_labels_and_faces(server):
    with connected(server) as connection:
        first = answered(connection, 1)
        connection.send(start_of(source="=1+1", labels="ferplus", tracks=7))
        second = answered(connection, 2)
    emotions = [each["line"]["faces"][0]["emotion"] for each in (first, second)]
    assert emotions == ["sad", "disgust"]
    # As before, from left to right.
    numbers = [face["track"] for face in second["line"]["faces"]]
    assert numbers == [8, 9, 10]
    # No formula for programs that open tables.
    assert second["line"]["source"].startswith("./=")


def test_no_face_is_an_answer(server):
    with connected(server) as connection:
        answer = answered(connection, 1, content=encoded(draw_photo()))
    assert answer["line"]["faces"] == []
    assert "no face" in answer["csv"]
    assert answer["summary"] == "No face."


def test_the_newest_frame_is_answered_and_no_queue_grows():
    sent = 100
    with running_server(detector=Slow()) as server, connected(server) as connection:
        answered(connection, 1)
        start = time.monotonic()
        for number in range(2, sent + 1):
            connection.send(frame(number))
        numbers = []
        while not numbers or numbers[-1] < sent:
            numbers.append(json.loads(connection.recv(timeout=20))["number"])
        seconds = time.monotonic() - start
    assert numbers == sorted(numbers)
    assert len(numbers) < 20
    assert seconds < 20 * SLOW_SECONDS + 2


def test_pages_take_turns():
    counts = [0, 0, 0]
    # A page that connects late has no turn before.
    are_connected = threading.Barrier(len(counts))
    with running_server(detector=Slow(), workers=1) as server:

        def send(page):
            with connected(server) as connection:
                are_connected.wait(timeout=30)
                while max(counts) < 6:
                    answered(connection, counts[page] + 1, content=PHOTO)
                    counts[page] += 1

        threads = [threading.Thread(target=send, args=(page,)) for page in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert min(counts) >= max(counts) - 2
    assert max(counts) >= 6


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["garbage"], 1007),
        (["{}"], 1007),
        (["[1]"], 1007),
        (["[" * 100_000], 1007),
        ([start_of(source=1)], 1007),
        ([start_of(labels="none such")], 1007),
        ([start_of(source="x" * 3000)], 1007),
        ([start_of(tracks=-1)], 1007),
        ([start_of(tracks=True)], 1007),
        ([start_of(tracks=float("inf"))], 1007),
        ([start_of(tracks=10**1000)], 1007),
        ([frame(1)], 1007),
        ([START, b""], 1007),
        ([START, b"123456789012"], 1007),
        ([START, bytes(limits.FRAME_BYTES + 100)], 1009),
        ([START] * (2 * limits.MESSAGES_PER_SECOND + 2), 1008),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value[0])[:20],
)
def test_garbage_ends_the_connection_and_no_other(server, messages, code):
    with connected(server) as other:
        with (
            pytest.raises(ConnectionClosed) as caught,
            connected(server, start=None) as connection,
        ):
            for message in messages:
                connection.send(message)
            connection.recv(timeout=20)
        assert caught.value.rcvd.code == code
        assert answered(other, 1)["line"]["faces"]


@pytest.mark.parametrize(
    ("seconds", "content"),
    [
        (float("nan"), PHOTO),
        (float("inf"), PHOTO),
        (-1.0, PHOTO),
        (1e300, PHOTO),
        (0.0, b"no image"),
        (0.0, PHOTO[:3000]),
        # What a photo may have is too much for a frame.
        (0.0, large_jpeg(3000, 3000)),
    ],
    ids=str,
)
def test_a_frame_that_cannot_be_used_is_said_and_the_next_is_answered(
    server, seconds, content
):
    with connected(server) as connection:
        assert answered(connection, 1)["line"]["faces"]
        answer = answered(connection, 2, seconds=seconds, content=content)
        assert set(answer) == {"number", "error"}
        assert answered(connection, 3)["line"]["faces"]


def is_accepted(server):
    """Whether there is room for one more connection."""
    with contextlib.suppress(ConnectionClosed), connected(server) as connection:
        return bool(answered(connection, 1))
    return False


def test_a_page_that_never_reads_is_left_and_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(frames, "SECONDS_TO_READ", 0.3)
    monkeypatch.setattr(application, "MOST_CONNECTIONS", 2)
    # Answers of 48 faces soon fill what the system keeps for a reader.
    many = encoded(draw_photo(*(48 * [200]), size=(1920, 300)), "PNG")
    with running_server() as server, connected(server) as other:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        with connected(server, sock=deaf, max_queue=1, close_timeout=0.1) as connection:
            assert len(answered(connection, 1, content=many)["images"]) == 48
            assert not is_accepted(server)
            end = time.monotonic() + 20
            for number in itertools.count(2):
                with contextlib.suppress(ConnectionClosed):
                    connection.send(frame(number, content=many))
                time.sleep(0.02)
                if number % 10 == 0:
                    assert answered(other, number)["line"]["faces"]
                    if is_accepted(server):
                        break
                assert time.monotonic() < end


def test_a_page_that_pings_and_never_reads_is_left(server):
    ping = b"\x89\xfd" + bytes(4) + bytes(125)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", server.port))
    with deaf, connected(server) as other:
        deaf.sendall(
            f"GET /{TOKEN}/frames HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Origin: {server.origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
        )
        assert deaf.recv(12).endswith(b"101")
        # What is sent is answered in as many bytes, and the system keeps a part.
        with pytest.raises(ConnectionError):
            for _ in range(30 * 2**20 // len(100 * ping)):
                deaf.sendall(100 * ping)
        assert answered(other, 1)["line"]["faces"]


def test_too_many_connections_are_told(monkeypatch):
    monkeypatch.setattr(application, "MOST_CONNECTIONS", 1)
    with running_server() as server, connected(server) as first:
        answered(first, 1)
        with (
            pytest.raises(ConnectionClosed) as caught,
            connected(server) as second,
        ):
            second.recv(timeout=20)
        assert caught.value.rcvd.code == 1013
        answered(first, 2)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RuntimeError("secret: what was seen"), 500, "It cannot be analysed."),
        (ModelError("Expected finite values."), 422, "Expected finite values."),
    ],
)
def test_a_network_that_fails_ends_the_connection_and_is_said(error, status, text):
    class Failing(ByGrayLevel):
        def predict(self, faces, *, labels=None, tta="none"):
            if np.any(faces):
                raise error
            return super().predict(faces, labels=labels, tta=tta)

    with running_server(classifier=Failing()) as server:
        found, content = post(server, "photo", PHOTO_QUERY, PHOTO)
        assert (found, json.loads(content)) == (status, {"error": text})
        with (
            connected(server) as connection,
            pytest.raises(ConnectionClosed) as caught,
        ):
            answered(connection, 1)
        assert caught.value.rcvd.code == 1011
        assert "fails" in caught.value.rcvd.reason


def test_nothing_connects_elsewhere_and_nothing_is_written(monkeypatch, tmp_path):
    connect_to, look_up = socket.socket.connect, socket.getaddrinfo

    def only_here(self, address):
        assert address[0] in ("127.0.0.1", "::1"), address
        return connect_to(self, address)

    def only_here_by_name(host, *arguments, **options):
        assert host in ("127.0.0.1", "localhost"), host
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.setattr(socket, "getaddrinfo", only_here_by_name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with running_server() as server:
        large = encoded(draw_photo(200, size=(1500, 1500)), "BMP")
        assert post(server, "photo", PHOTO_QUERY, large)[0] == 200
        assert post(server, "annotated", {"labels": "original"}, large)[0] == 200
        with connected(server) as connection:
            answered(connection, 1)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_logged_but_counts(caplog, capfd):
    with caplog.at_level("DEBUG"), running_server() as server:
        post(server, "photo", PHOTO_QUERY | {"name": "secret.jpg"}, PHOTO)
        # The same photo is not counted again.
        post(server, "annotated", PHOTO_QUERY, PHOTO)
        post(server, "photo", PHOTO_QUERY | {"name": "secret.txt"}, b"secret")
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"secret garbage\r\n\r\n")
            client.recv(100)
        with connected(server) as connection:
            answered(connection, 1)
            connection.send("secret")
            time.sleep(0.1)
        assert server.service.counts == {"photo": 1, "frame": 1, "face": 6}
    ours = [
        r for r in caplog.records if not r.name.startswith(("websockets", "asyncio"))
    ]
    assert [r.getMessage() for r in ours if r.levelname != "DEBUG"] == []
    assert not any(TOKEN in r.getMessage() or "secret" in r.getMessage() for r in ours)
    assert capfd.readouterr() == ("", "")


# --- Threads and sockets ---


def test_what_was_asked_for_first_is_done_first():
    workers = Workers(1)
    done = []

    async def ask_for_all():
        await asyncio.gather(
            *(workers.run(done.append, number) for number in range(20))
        )

    asyncio.run(ask_for_all())
    assert done == list(range(20))


def test_an_error_reaches_who_asked_and_the_next_is_done():
    workers = Workers(1)

    async def ask_for_two():
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 / 0)
        return await workers.run(lambda: 7)

    assert asyncio.run(ask_for_two()) == 7


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_port_is_found_on_this_machine_alone(host):
    with listen(host, 0) as listener:
        address, port = listener.getsockname()[:2]
        assert port
        assert address in ("127.0.0.1", "::1")


def test_a_port_in_use_is_said():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port} cannot be used"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name", "x" * 300])
def test_an_address_of_another_machine_is_said(host, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror("unknown name")

    if host != "192.0.2.1":
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="cannot be used"):
        listen(host, 0)
