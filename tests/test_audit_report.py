"""The page that an audit leaves: whole, escaped, and loading nothing."""

import json
import shutil
import subprocess
from datetime import datetime, timezone
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.audit.page import render_report
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import Survey
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.splits import Split

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ATTACK = (
    "\"'><img src=http://127.0.0.1:9/x><script>fetch('http://127.0.0.1:9')</script>"
)


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
    """Made-up faces, `count` of each emotion."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(EMOTIONS)), count)
    images = generator.integers(0, 256, (len(labels), 48, 48, 1), np.uint8)
    names = [
        f"{part}/{EMOTIONS[label]}/{name.format(place)}"
        for place, label in enumerate(labels)
    ]
    return Split(images, labels, tuple(names))


def page_of(train: Split, test: Split, votes=None, **survey) -> str:
    facts = {
        "unreadable": {},
        "converted": {},
        "unused_folders": (),
        "unused_files": (),
    }
    found = Survey(train, test, **facts | survey)
    audit = facts.audit("my <data>", found, votes)
    return render_report(audit, train, test, datetime(2026, 1, 2, tzinfo=timezone.utc))


@pytest.fixture
def hostile() -> str:
    """A page on a data folder in which every name is an attack."""
    train = images("train", 2, 1, ATTACK + "{}.png")
    test = images("test", 2, 2, ATTACK + "{}.png")
    test.images[0] = train.images[3]
    test.images[5] = train.images[4][:, ::-1]
    train.images[9] = 80
    return page_of(
        train,
        test,
        {train.names[2]: [0, 9, 0, 1, 0, 0, 0, 0, 0, 0]},
        unreadable={f"train/sad/{ATTACK}": ATTACK},
        converted={train.names[1]: ImageFormat(9, 9, "RGB", True)},
        unused_folders=(f"train/{ATTACK}", "\x1b[31m\udcff"),
        unused_files=(f"test/sad/{ATTACK}",),
    )


def test_names_are_text_wherever_they_stand(hostile):
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
    assert "\x1b" not in hostile
    hostile.encode("utf-8")


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
    assert "9x9, RGB, turned by its EXIF data" in text
    assert "Blank (standard deviation below 5): 1" in text


def test_many_pairs_are_shown_in_part():
    train, test = images("train", 30, 1), images("test", 30, 2)
    test.images[:] = train.images
    steps = np.random.default_rng(0).integers(-6, 7, test.images[60:].shape)
    test.images[60:] = (train.images[60:] + steps).clip(0, 255)
    page = page_of(train, test)
    assert "120 of 210 pairs, nearest first." in page
    assert "24 of 30 images" in page
    assert page.count("<figure>") == 120


def test_no_near_duplicates_no_votes_no_test():
    train = images("train", 1, 1)
    page = Page(page_of(train, train.select([])))
    assert "No test image stands in train too." in page.text
    assert "Labels and crowd" not in page.text
    assert page.text.count("None.") == 2


@pytest.mark.skipif(not BROWSER, reason="neither chromium nor google-chrome is here")
def test_a_browser_shows_it_and_asks_for_nothing(hostile, tmp_path):
    def requests_of(page: str, name: str) -> list[str]:
        """Returns what the page, not the browser itself, asks the network for."""
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

    # Without the policy and the escaping the same name does reach the network.
    (first, *_) = requests_of(f"<p>{ATTACK}", "control")
    assert first.startswith("http://127.0.0.1:9")
    assert requests_of(hostile, "audit") == []
    shot = np.asarray(Image.open(tmp_path / "audit.png").convert("L"))
    assert shot.std() > 10
