"""The page in a real browser: Chromium, without a window, driven by Playwright.

What finds and classifies faces stands in (tests/pages.py). Skipped where there is no
Chromium, and what axe-core says where `AXE_CORE` does not name its file; .ci/run has
both.
"""

import base64
import csv
import io
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import TOKEN, ByGrayLevel, draw_photo, encoded, free_port, running_server
from PIL import Image

from emotion_cnn.inference.video_writing import write_video
from emotion_cnn.serving import server as serving_server
from emotion_cnn.serving import service as serving_service

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
AXE_CORE = os.environ.get("AXE_CORE")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1200, "height": 900}


def scene(step: int) -> Image.Image:
    """A frame of an endless video, in which a face goes to and fro."""
    image = Image.new("RGB", (640, 480), "black")
    left = 10 + 4 * abs(step % 60 - 30)
    image.paste(draw_photo(200, size=(300, 300)), (left, 60))
    return image


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    video = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    video.write_bytes(b"".join(encoded(scene(step)) for step in range(60)))
    # Where all tests run at once, a browser may take long.
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={video}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server():
    with running_server() as running:
        yield running


@pytest.fixture
def open_page(browser):
    """Opens the page of a server; at the end nothing may have gone wrong in it."""
    contexts, problems, origins = [], [], set()

    def open_it(server, *, script=None, permissions=("camera",), **options):
        context = browser.new_context(**({"viewport": WIDE} | options))
        contexts.append(context)
        context.grant_permissions(list(permissions))
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda request: origins.add(request.url.split("/")[2]))
        page.set_default_timeout(30_000)
        page.goto(server.address)
        page.locator(".connection.open").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    # The status of an answer to a wrong file, and of a server that has gone.
    told = ("Failed to load resource", "WebSocket connection")
    assert [each for each in problems if not each.startswith(told)] == []
    assert all(each.startswith("127.0.0.1:") or not each for each in origins)


def file(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "", "buffer": content}


def choose(page, *files):
    page.locator("#files").set_input_files(list(files))


def downloaded(page, button) -> bytes:
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path()).read_bytes()


def shares(card) -> dict[str, str]:
    return {
        bar.locator(".name").text_content(): bar.locator(".value").text_content()
        for bar in card.locator(".bar").all()
    }


def color_of(canvas) -> tuple[int, ...]:
    """The colour of a place below the middle of a face."""
    content = canvas.evaluate("e => e.toDataURL().split(',')[1]")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    return image.convert("RGB").getpixel((24, 44))


PHOTO = file("three.jpg", encoded(draw_photo(200, 120, 60)))


def test_a_photo_gets_boxes_bars_and_words(open_page, server):
    page = open_page(server)
    choose(page, PHOTO)
    verdict = page.locator(".photo .verdict")
    words = "3 faces: sad 90%, unsure (angry 14%), disgust 90%."
    playwright.expect(verdict).to_have_text(words)
    cards = page.locator(".photo .card")
    titles = [card.locator("h3").text_content() for card in cards.all()]
    assert titles == ["1: sad 90%", "2: unsure (angry 14%)", "3: disgust 90%"]
    assert list(shares(cards.first)) == list(ByGrayLevel.classes)
    assert shares(cards.first)["sad"] == "90%"
    fill = cards.first.locator(".bar.first .fill")
    assert fill.evaluate("e => getComputedStyle(e).transitionProperty") == "transform"
    # On the drawn face, whatever the size of the window.
    image = page.locator(".photo img").bounding_box()
    box = page.locator(".photo .box").first.bounding_box()
    middle = (box["x"] + box["width"] / 2 - image["x"]) / image["width"]
    assert middle == pytest.approx(1 / 6, abs=0.01)
    assert page.locator(".photo img").get_attribute("alt").startswith("three.jpg. 3 ")
    playwright.expect(page.locator("#announcer")).to_contain_text("3 faces")
    # By other labels it is answered anew.
    page.get_by_label("FER+ majority labels").check()
    title = page.locator(".photo .card h3").first
    playwright.expect(title).to_have_text("1: disgust 90%")
    # The token is in the address alone.
    assert TOKEN in page.url
    assert TOKEN not in page.content()


def test_six_faces_are_seen_beside_their_photo(open_page, server):
    window = {"width": 1280, "height": 720}
    page = open_page(server, viewport=window)
    photo = draw_photo(200, 120, 60, 220, 180, 250, size=(1200, 800))
    choose(page, file("six.jpg", encoded(photo)))
    playwright.expect(page.locator(".photo .card")).to_have_count(6)
    # The page moves so that the first photo is seen.
    page.wait_for_function("() => scrollY > 0")
    places = [each.bounding_box() for each in page.locator(".photo .bars").all()]
    places.append(page.locator(".photo .frame").bounding_box())
    for place in places:
        assert 0 <= place["x"] <= place["x"] + place["width"] <= window["width"]
        assert 0 <= place["y"] <= place["y"] + place["height"] <= window["height"]


@pytest.mark.parametrize("shared_as", [None, "127.0.0.1"])
def test_the_page_says_where_images_go(open_page, shared_as):
    with running_server(shared_as=shared_as) as server:
        page = open_page(server)
        page.locator("summary").last.click()
        words = page.locator("[data-shared]:visible").all_text_contents()
    assert len(words) == 2
    is_told = ["unencrypted" in words[0], "read along" in words[1]]
    assert is_told == [shared_as is not None] * 2
    assert all(("on this computer" in each) == (not shared_as) for each in words)


def test_the_keyboard_is_enough_for_a_heat_map(open_page, server):
    page = open_page(server)
    choose(page, PHOTO)
    box = page.locator(".photo .box").first
    box.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if box.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    playwright.expect(box).to_have_attribute("aria-pressed", "true")
    box.locator("canvas").wait_for()
    seen = page.locator(".photo .seen").first
    red, _, blue = color_of(seen)
    assert red > blue + 50
    page.keyboard.press("Enter")
    playwright.expect(box.locator("canvas")).to_have_count(0)
    red, green, blue = color_of(seen)
    assert red == green == blue


def test_downloads_are_what_predict_writes(open_page, server):
    page = open_page(server)
    choose(page, PHOTO, file("dark.jpg", encoded(draw_photo())))
    verdict = page.locator(".photo .verdict").last
    playwright.expect(verdict).to_have_text("No face.")
    text = downloaded(page, page.locator("#photos-csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["source"] for row in rows] == [*3 * ["three.jpg"], "dark.jpg"]
    assert [row["emotion"] for row in rows] == ["sad", "angry", "disgust", "no face"]
    lines = json.loads(downloaded(page, page.locator("#photos-json")))
    assert [len(line["faces"]) for line in lines] == [3, 0]
    assert lines[0]["faces"][0]["probabilities"]["sad"] == pytest.approx(0.9)
    content = downloaded(page, page.locator(".photo .png").first)
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    assert image.width > 640


WRONG = {
    "note.txt": (b"hello", "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"),
    "empty.jpg": (b"", "cannot be read"),
    "cut.jpg": (encoded(draw_photo(200))[:4000], "cannot be read"),
}


def test_wrong_files_are_said_and_the_next_is_answered(open_page, server):
    page = open_page(server)
    choose(page, *(file(name, content) for name, (content, _) in WRONG.items()), PHOTO)
    playwright.expect(page.locator(".photo .verdict").last).to_contain_text("3 faces")
    for name, (_, text) in WRONG.items():
        photo = page.locator(".photo.failed", has_text=name)
        playwright.expect(photo.locator(".state")).to_contain_text(text)
        page.get_by_role("button", name=f"Remove: {name}").click()
        playwright.expect(photo).to_have_count(0)


def test_images_can_be_dropped_and_pasted(open_page, server):
    page = open_page(server)
    pixels = list(encoded(draw_photo(200)))
    for count, kind in enumerate(("drop", "paste"), start=1):
        page.evaluate(
            """([kind, pixels]) => {
                const data = new DataTransfer();
                data.items.add(new File([Uint8Array.from(pixels)], "image.jpg"));
                const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
                const name = kind === "drop" ? "dataTransfer" : "clipboardData";
                const event = new Kind(kind, { [name]: data, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [kind, pixels],
        )
        verdicts = page.locator(".photo .verdict")
        playwright.expect(verdicts).to_have_text(count * ["1 face: sad 90%."])


WHAT_IS_DRAWN = """
window.drawn = new Set();
const fill = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  drawn.add(text);
  fill.call(this, text, ...place);
};
"""


def test_the_camera_is_followed_over_time(open_page, server):
    page = open_page(server, script=WHAT_IS_DRAWN)
    before = server.service.counts["frame"]
    page.get_by_role("button", name="Use the camera").click()
    card = page.locator("#live .card").first
    playwright.expect(card.locator("h3")).to_contain_text("sad")
    box = page.locator("#live .box").first
    first = box.bounding_box()["x"]
    page.wait_for_function(
        """first => {
            const { x } = document.querySelector("#live .box").getBoundingClientRect();
            return Math.abs(x - first) > 9;
        }""",
        arg=first,
    )
    timeline = page.locator("#timeline-text")
    playwright.expect(timeline).to_contain_text("Mean of all faces: sad")
    playwright.expect(page.locator("#rate")).to_contain_text("a second")
    drawn = set(page.evaluate("[...drawn]"))
    assert {"mean probability", "0%", "100%", "time (minutes:seconds)"} <= drawn
    assert any(each.startswith("0:0") for each in drawn)
    card.get_by_role("button", name="Heat map").click()
    box.locator("canvas").wait_for()
    rows = list(
        csv.DictReader(
            io.StringIO(downloaded(page, page.locator("#live-csv")).decode())
        )
    )
    assert len(rows) > 3
    assert {row["source"] for row in rows} == {"camera"}
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert (
        Image.open(io.BytesIO(downloaded(page, page.locator("#live-png")))).format
        == "PNG"
    )
    page.locator("#live-stop").click()
    page.wait_for_timeout(500)
    stopped = server.service.counts["frame"]
    page.wait_for_timeout(500)
    assert server.service.counts["frame"] == stopped > before
    playwright.expect(page.locator("#rate")).to_have_text("stopped")
    # What is shown is flipped, what is saved is not.
    lines = json.loads(downloaded(page, page.locator("#live-json")))
    (face,) = lines[-1]["faces"]
    whole, shown = page.locator("#video").bounding_box(), box.bounding_box()
    left = (shown["x"] - whole["x"]) / whole["width"]
    assert left == pytest.approx(1 - face["box"][2] / 640, abs=0.01)
    assert (
        page.evaluate(
            "document.getElementById('video').srcObject.getTracks()[0].readyState"
        )
        == "ended"
    )
    # Its last image stays, of which a tenth is the bright face.
    page.locator("#live .boxes").evaluate("e => { e.hidden = true; }")
    last = Image.open(io.BytesIO(page.locator("#live .frame").screenshot()))
    assert (np.asarray(last.convert("L")) > 150).mean() > 0.05


# Dark noise below the face, of which a JPEG of high quality keeps all.
NOISE = """
const noise = new ImageData(640, 100);
for (let place = 0; place < noise.data.length; place += 1) {
  noise.data[place] = place % 4 === 3 ? 255 : ((place * place) % 9973) % 20;
}
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...given) {
  draw.apply(this, given);
  this.putImageData(noise, 0, 380);
};
"""


def test_large_frames_are_sent_in_less_detail(open_page, monkeypatch):
    for module in (serving_service, serving_server):
        monkeypatch.setattr(module, "FRAME_BYTES", 12_000)
    with running_server() as server:
        page = open_page(server, script=NOISE)
        page.get_by_role("button", name="Use the camera").click()
        page.locator("#live .card").first.wait_for()
        page.wait_for_timeout(500)
        playwright.expect(page.locator("#connection")).to_have_text("Ready")


def test_a_refused_camera_is_said(open_page, server):
    page = open_page(server, permissions=())
    page.get_by_role("button", name="Use the camera").click()
    message = page.get_by_role("alert")
    playwright.expect(message).to_contain_text("The browser may not use the camera")
    choose(page, PHOTO)
    playwright.expect(page.locator(".photo .verdict")).to_contain_text("3 faces")


# As Firefox does with `privacy.resistFingerprinting`.
NOISE_FOR_CANVASES = """
const read = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...place) {
  const image = read.apply(this, place);
  return { data: image.data.map((value, at) => value ^ (noise * (at % 2))) };
};
"""


def test_a_browser_that_hides_frames_is_said(open_page, server, tmp_path):
    path = tmp_path / "talk.mp4"
    with write_video(path, height=480, width=640) as writer:
        writer.write(0, np.asarray(scene(0)))
    script = NOISE_FOR_CANVASES.replace("noise", "255")
    page = open_page(server, script=script)
    before = server.service.counts["frame"]
    message = page.get_by_role("alert")
    page.get_by_role("button", name="Use the camera").click()
    playwright.expect(message).to_contain_text("hides from pages what a video shows")
    choose(page, file("talk.mp4", path.read_bytes()))
    playwright.expect(message).to_have_count(1)
    playwright.expect(page.locator("#live")).to_be_hidden()
    assert server.service.counts["frame"] == before
    choose(page, PHOTO)
    playwright.expect(page.locator(".photo .verdict")).to_contain_text("3 faces")


def test_a_little_noise_of_a_browser_does_no_harm(open_page, server):
    page = open_page(server, script=NOISE_FOR_CANVASES.replace("noise", "1"))
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#live .card").first.wait_for()


def test_no_camera_is_said(open_page, server):
    page = open_page(server)
    for script, text in (
        ("throw new DOMException('x', 'NotFoundError')", "No camera was found"),
        ("throw new DOMException('x', 'NotReadableError')", "may be using it"),
        (None, "only to pages of this computer"),
    ):
        function = f"async () => {{ {script} }}" if script else "0"
        page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {function}; }}")
        page.get_by_role("button", name="Use the camera").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text(text)


def test_a_video_is_played_and_its_frames_are_answered(open_page, server, tmp_path):
    path = tmp_path / "talk.mp4"
    with write_video(path, height=480, width=640) as writer:
        for step in range(25):
            writer.write(step / 10, np.asarray(scene(step)))
    page = open_page(server)
    choose(page, file("talk.mp4", path.read_bytes()))
    playwright.expect(page.locator("#live-heading")).to_have_text("talk.mp4")
    playwright.expect(page.locator("#live .card h3").first).to_contain_text("sad")
    video = page.locator("#video")
    playwright.expect(video).to_have_js_property("ended", True)
    page.wait_for_timeout(300)
    lines = json.loads(downloaded(page, page.locator("#live-json")))
    # As many as this machine has time for while the video plays.
    assert len(lines) >= 2
    assert {face["track"] for line in lines for face in line["faces"]} == {1}
    assert lines[-1]["seconds"] > 1.5
    # The last frame, which stays, is answered anew.
    page.get_by_label("FER+ majority labels").check()
    title = page.locator("#live .card h3").first
    playwright.expect(title).to_have_text("2: disgust 90%")
    # In the table, nobody has the number of somebody else.
    video.evaluate("e => { e.currentTime = 0.5; }")
    playwright.expect(title).to_have_text("3: disgust 90%")
    lines = json.loads(downloaded(page, page.locator("#live-json")))
    numbers = [face["track"] for line in lines for face in line["faces"]]
    assert numbers == sorted(numbers)
    # Nothing of it is left where something else begins.
    page.get_by_role("button", name="Use the camera").click()
    playwright.expect(page.locator("#live-heading")).to_have_text("Camera")
    page.locator("#live .card").first.wait_for()
    lines = json.loads(downloaded(page, page.locator("#live-json")))
    assert {line["source"] for line in lines} == {"camera"}


# As Firefox does now and then.
TIMES_OF_LATER_FRAMES = """
const next = HTMLVideoElement.prototype.requestVideoFrameCallback;
window.calls = 0;
HTMLVideoElement.prototype.requestVideoFrameCallback = function (take) {
  return next.call(this, (now, frame) => {
    calls += 1;
    take(now, { mediaTime: frame.mediaTime + (calls % 3 ? 0 : 1) });
  });
};
"""


def test_times_of_a_video_never_run_ahead_of_it(open_page, server, tmp_path):
    path = tmp_path / "talk.mp4"
    with write_video(path, height=480, width=640) as writer:
        for step in range(40):
            writer.write(step / 10, np.asarray(scene(step)))
    page = open_page(server, script=TIMES_OF_LATER_FRAMES)
    choose(page, file("talk.mp4", path.read_bytes()))
    video = page.locator("#video")
    playwright.expect(video).to_have_js_property("ended", True)
    page.wait_for_timeout(300)
    lines = json.loads(downloaded(page, page.locator("#live-json")))
    seconds = [line["seconds"] for line in lines]
    assert len(seconds) >= 3
    assert seconds == sorted(seconds)
    assert seconds[-1] <= 4
    # Times that run back would begin the tracks anew.
    assert {face["track"] for line in lines for face in line["faces"]} == {1}


def test_a_video_of_no_known_codec_is_said(open_page, server):
    page = open_page(server)
    choose(page, file("talk.mkv", b"\x1a\x45\xdf\xa3" + bytes(5000)))
    message = page.get_by_role("alert")
    playwright.expect(message).to_contain_text("this browser cannot play it")
    playwright.expect(page.locator("#live")).to_be_hidden()


SLOW_TO_READ = """
const read = Blob.prototype.arrayBuffer;
Blob.prototype.arrayBuffer = async function () {
  await new Promise((done) => setTimeout(done, 300));
  return read.call(this);
};
"""


def test_a_server_that_goes_is_noticed_and_found_again(open_page):
    port = free_port()
    with running_server(port=port) as server:
        # It goes while a frame is on its way.
        page = open_page(server, script=SLOW_TO_READ)
        page.get_by_role("button", name="Use the camera").click()
        page.locator("#live .card").first.wait_for()
    connection = page.locator("#connection")
    playwright.expect(connection).to_contain_text("does not answer")
    choose(page, PHOTO)
    state = page.locator(".photo .state")
    playwright.expect(state).to_contain_text("does not answer")
    with running_server(port=port) as server:
        playwright.expect(connection).to_have_text("Ready")
        page.get_by_role("button", name="Try again: three.jpg").click()
        playwright.expect(page.locator(".photo .verdict")).to_contain_text("3 faces")
        # The camera goes on by itself.
        page.wait_for_timeout(1000)
        assert server.service.counts["frame"] > 0


def test_two_pages_are_answered_side_by_side(open_page, server):
    pages = [open_page(server) for _ in range(2)]
    for page in pages:
        page.get_by_role("button", name="Use the camera").click()
    for page in pages:
        page.bring_to_front()
        page.locator("#live .card").first.wait_for()


def test_the_page_fits_any_window_and_everyone(open_page, server):
    page = open_page(server)
    choose(page, PHOTO, file("note.txt", b"hello"))
    page.locator(".photo.failed").wait_for()
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#live .card").first.wait_for()
    page.locator("#live-stop").click()
    choose(page, file("talk.mkv", bytes(100)))
    page.get_by_role("alert").get_by_text("cannot play").wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    if AXE_CORE is not None:
        page.evaluate(Path(AXE_CORE).read_text(encoding="utf-8"))
    for viewport, scheme in itertools.product((WIDE, NARROW), ("light", "dark")):
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(background.removeprefix("rgb(").split(",")[0])
        assert (red < 60) == (scheme == "dark")
        if AXE_CORE is not None:
            found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
            assert [
                (each["id"], [node["html"] for node in each["nodes"]])
                for each in found["violations"]
            ] == []
    if AXE_CORE is None:
        pytest.skip("AXE_CORE does not name the file of axe-core")
