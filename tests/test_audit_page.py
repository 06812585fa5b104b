"""The HTML page of an audit: complete, escaped, and loading nothing."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.audit.facts import audit_images
from emotion_cnn.audit.page import render_page
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import Survey
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.splits import Split

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ATTACK = (
    "\"'><img src=http://127.0.0.1:9/x><script>fetch('http://127.0.0.1:9')</script>"
)
CONTROL = "\x1b[31m\u202e\udcff"
"""An escape sequence, a switch to right-to-left, and a byte in no known encoding."""


class Page(HTMLParser):
    """Collects elements and text, and checks that every element is closed."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def images(part: str, count: int, seed: int, name: str = "{}.png") -> Split:
    """Random images, `count` of each emotion."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(EMOTIONS)), count)
    images = generator.integers(0, 256, (len(labels), 48, 48, 1), np.uint8)
    names = [
        f"{part}/{EMOTIONS[label]}/{name.format(place)}"
        for place, label in enumerate(labels)
    ]
    return Split(images, labels, tuple(names))


def render(train: Split, test: Split, votes=None, **survey) -> str:
    nothing = {
        "unreadable": {},
        "converted": {},
        "unused_folders": (),
        "unused_files": (),
    }
    found = Survey(train, test, **nothing | survey)
    audit = audit_images("my <data>", found, votes)
    return render_page(audit, train, test, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def hostile() -> str:
    """A page on a data folder in which every name is an attack."""
    train = images("train", 2, 1, ATTACK + "{}.png")
    test = images("test", 2, 2, ATTACK + "{}.png")
    test.images[0] = train.images[3]
    test.images[5] = train.images[4][:, ::-1]
    train.images[9] = 80
    return render(
        train,
        test,
        {train.names[2]: [0, 9, 0, 1, 0, 0, 0, 0, 0, 0]},
        unreadable={f"train/sad/{ATTACK}": ATTACK},
        converted={train.names[1]: ImageFormat(9, 9, "RGB", True)},
        unused_folders=(f"train/{ATTACK}", CONTROL),
        unused_files=(f"test/sad/{ATTACK}",),
    )


def test_names_are_escaped_everywhere(hostile):
    page = Page(hostile)
    assert {tag for tag, _ in page.elements} == {
        *("html", "head", "meta", "title", "style", "body", "header", "main"),
        *("section", "h1", "h2", "h3", "p", "ul", "li", "div", "span"),
        *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
    }
    allowed = {
        *("lang", "charset", "http-equiv", "content", "name", "class", "style"),
        *("tabindex", "scope", "src", "width", "height", "alt", "title"),
    }
    assert {name for _, attributes in page.elements for name in attributes} == allowed
    assert page.text.count(ATTACK) > 10
    assert "my <data>" in page.text
    described = [a["alt"] for tag, a in page.elements if tag == "img"]
    assert sum(ATTACK in text for text in described) == len(described)


def test_control_characters_are_spelled_out_everywhere():
    train = images("train", 2, 1, CONTROL + "{}.png")
    test = images("test", 2, 2, CONTROL + "{}.png")
    test.images[:2] = train.images[2:4]
    train.images[9] = 80
    text = render(
        train,
        test,
        unreadable={CONTROL: CONTROL},
        converted={CONTROL: ImageFormat(9, 9, CONTROL, False)},
        unused_folders=(CONTROL,),
        unused_files=(CONTROL,),
    )
    assert all(character.isprintable() for character in text.replace("\n", ""))
    page = Page(text)
    # Two pairs, both conflicts; a blank image; two names and a reason; two formats.
    assert page.text.count(r"\x1b[31m\u202e\udcff") == 2 * 2 * 2 + 1 + 2 + 2 + 2
    assert all(
        r"\x1b[31m\u202e\udcff" in attributes[name]
        for tag, attributes in page.elements
        if tag == "img"
        for name in ("alt", "title")
    )


def test_classes_are_those_of_the_images():
    classes = ("a.b", "<i>", "items")
    generator = np.random.default_rng(0)
    train, test = (
        Split(
            generator.integers(0, 256, (9, 48, 48, 1), np.uint8),
            np.repeat(np.arange(3), 3),
            tuple(f"{part}/{number}.png" for number in range(9)),
            classes=classes,
        )
        for part in ("train", "test")
    )
    votes = {"train/0.png": (0, 9, 0, 0, 0, 0, 0, 0, 0, 0)}
    page = Page(render(train, test, votes))
    for name in classes:
        assert f"Sample: {name}" in page.text
    assert "a.b3110.0%happy 1" in page.text
    assert "angry" not in page.text


def test_images_are_in_the_page_and_described(hostile):
    images = [attributes for tag, attributes in Page(hostile).elements if tag == "img"]
    # Two pairs across; one of them, and no other, is a conflict; one is blank.
    assert len(images) == 2 * 2 + 2 + 1 + 28
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert image["alt"].partition(": ")[0] in (*EMOTIONS, "blank")


def test_the_policy_allows_nothing_from_elsewhere(hostile):
    (policy,) = (
        attributes["content"]
        for tag, attributes in Page(hostile).elements
        if attributes.get("http-equiv")
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in hostile
    assert "@import" not in hostile


def test_pairs_say_what_they_are(hostile):
    text = Page(hostile).text
    assert "all 2 pairs, nearest first." in text
    assert "identical, flipped" in text
    assert "angry / disgust" in text
    assert "9x9, RGB, rotated by its EXIF data" in text
    assert "Blank (standard deviation below 5): 1" in text


def test_many_pairs_are_shown_in_part():
    train, test = images("train", 30, 1), images("test", 30, 2)
    test.images[:] = train.images
    steps = np.random.default_rng(0).integers(-6, 7, test.images[60:].shape)
    test.images[60:] = (train.images[60:] + steps).clip(0, 255)
    page = render(train, test)
    assert "120 of 210 pairs, nearest first." in page
    assert "24 of 30 images" in page
    assert page.count("<figure>") == 120


def test_no_near_duplicates_no_votes_no_test():
    train = images("train", 1, 1)
    page = Page(render(train, train.select([])))
    assert "No test image has a near-duplicate in train." in page.text
    assert "Labels and FER+ votes" not in page.text
    assert page.text.count("None.") == 2


@pytest.mark.skipif(not BROWSER, reason="neither chromium nor google-chrome is here")
def test_a_browser_shows_it_and_requests_nothing(hostile, tmp_path):
    def requests_of(page: str, name: str) -> list[str]:
        """Returns the URLs that the page, not the browser itself, requests."""
        path, log = tmp_path / f"{name}.html", tmp_path / f"{name}.json"
        path.write_text(page, encoding="utf-8")
        command = [
            *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-background-networking", "--window-size=500,1500"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}",
            f"--screenshot={tmp_path / f'{name}.png'}",
            path.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        events = json.loads(log.read_text(encoding="utf-8"))["events"]
        parameters = [event.get("params", {}) for event in events]
        return [p["url"] for p in parameters if p.get("initiator") == "null"]

    # Without the policy and the escaping the same name does cause a request.
    (first, *_) = requests_of(f"<p>{ATTACK}", "control")
    assert first.startswith("http://127.0.0.1:9")
    assert requests_of(hostile, "audit") == []
    shot = np.asarray(Image.open(tmp_path / "audit.png").convert("L"))
    assert shot.std() > 10
