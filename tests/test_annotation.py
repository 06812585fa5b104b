"""What is drawn for people: where faces are, in words and bars, at every size."""

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.inference.analysis import Face
from emotion_cnn.inference.annotation import (
    ContactSheet,
    annotate,
    describe,
    describe_all,
)

CLASSES = ("angry", "happy", "sad")
ANGRY, HAPPY, WHITE = (213, 94, 0), (0, 158, 115), (255, 255, 255)


def face(*probabilities: float, box=None, track=None, classes=CLASSES) -> Face:
    return Face(
        box=box,
        score=None,
        image=np.full((48, 48), 200, np.uint8),
        probabilities=np.array(probabilities, np.float32),
        classes=classes,
        unsure_below=0.5,
        labels="original",
        classifier=None,
        track=track,
    )


def photo(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == color).all(axis=2).sum())


def places(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((np.asarray(image) == color).all(axis=2))


def test_decisions_in_words():
    assert describe(face(0.2, 0.7, 0.1)) == "happy 70%"
    assert describe(face(0.3, 0.4, 0.3)) == "unsure (happy 40%)"
    assert describe(face(0.3, 0.496, 0.204)) == "unsure (happy 49%)"


def test_all_faces_in_words():
    happy, unsure = face(0.2, 0.7, 0.1), face(0.3, 0.4, 0.3)
    assert describe_all([]) == "no face"
    assert describe_all([happy]) == "1 face: happy 70%"
    words = "3 faces: happy 70%, unsure (happy 40%), happy 70%"
    assert describe_all([happy, unsure, happy]) == words
    # Of more, the most frequent first.
    several = describe_all([unsure, happy, happy, happy])
    assert several == "4 faces: 3 happy, 1 unsure"
    assert describe_all(2_000 * [happy]) == "2,000 faces: 2,000 happy"


def test_a_box_has_the_colour_of_its_class_and_leaves_its_inside():
    image = annotate(photo(800, 700), [face(0, 1, 0, box=(100, 200, 300, 400))])
    marked = places(image.crop((0, 0, 800, 700)), HAPPY)
    (top, left), (bottom, right) = marked.min(axis=0), marked.max(axis=0)
    assert (left, right, bottom) == (100, 299, 399)  # With its label.
    assert 150 < top < 200  # The decision, above the box.
    inside = np.asarray(image)[210:390, 110:290]
    assert (inside == 90).all()


def test_a_bar_is_as_long_as_its_class_is_probable():
    lengths = []
    for share in (0.25, 0.5, 1.0):
        card = annotate(photo(800, 700), [face(share, 1 - share, 0)]).crop(
            (800, 30, 1200, 200)
        )
        lengths.append(np.ptp(places(card, ANGRY)[:, 1]))
    assert lengths == pytest.approx([23, 46, 92], abs=1)


def test_unsure_is_white():
    sure, unsure = (
        annotate(photo(800, 700), [face(*shares, box=(100, 200, 300, 400))])
        for shares in ((0.1, 0.8, 0.1), (0.3, 0.4, 0.3))
    )
    boxes = [count(image.crop((0, 0, 800, 700)), WHITE) for image in (sure, unsure)]
    assert boxes[0] == 0 < boxes[1]


def test_no_face_is_said_in_a_video():
    image = annotate(photo(800, 700), [], strips=1)
    assert count(image.crop((800, 0, image.width, 40)), WHITE) > 20
    assert count(image.crop((0, 0, 800, 700)), (90, 90, 90)) == 800 * 700


@pytest.mark.parametrize("faces", [0, 1, 7, 300])
@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (1, 300), (300, 1), (48, 48), (640, 480), (3000, 4000), (20_000, 100)],
)
def test_photos_of_every_size(width, height, faces):
    boxes = [
        (x - 0.2 * width, -5.5, x, height / 2 + 9.5)
        for x in np.linspace(0, width, faces)
    ]
    image = annotate(photo(width, height), [face(0, 1, 0, box=box) for box in boxes])
    assert image.mode == "RGB"
    assert 640 <= max(image.size) <= 8200
    assert image.width % 2 == image.height % 2 == 0
    if faces:
        assert (
            min(image.size) >= 180
        )  # There is room for a card, in letters to be read.


def test_with_one_strip_all_frames_of_a_video_have_one_size():
    def size(count: int) -> tuple[int, int]:
        faces = [face(0, 1, 0, box=(9, 9, 50, 60), track=n) for n in range(count)]
        return annotate(photo(640, 360), faces, strips=1).size

    assert size(0) == size(1) == size(2) == size(30)


def test_an_explanation_stands_beside_its_face():
    relevance = np.full((48, 48, 3), (1, 2, 250), np.uint8)
    plain = annotate(photo(800, 700), [face(0, 1, 0)])
    explained = annotate(photo(800, 700), [face(0, 1, 0)], maps=[relevance])
    assert count(plain, (1, 2, 250)) == 0
    assert count(explained, (1, 2, 250)) > 100 * 100
    assert explained.width > plain.width


def test_of_many_classes_the_most_probable_are_drawn():
    classes = tuple(f"class {number}" for number in range(100))
    shares = np.zeros(100)
    shares[[70, 75]] = 0.6, 0.4
    image = annotate(photo(800, 700), [face(*shares, classes=classes)])
    assert count(image.crop((800, 30, 1200, 200)), ANGRY) > 200  # The color of 70.


def test_a_contact_sheet_has_pages(tmp_path):
    sheet = ContactSheet(tmp_path)
    page = sheet.COLUMNS * sheet.ROWS
    for number in range(page + 1):
        sheet.add(face(0, 1, 0), f"{number}.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["contact-sheet-001.png"]
    sheet.close()
    sheet.close()
    sizes = []
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            sizes.append(image.size)
    (width, height), (one_width, one_height) = sizes
    assert (width, height) == (sheet.COLUMNS * one_width, sheet.ROWS * one_height)


def test_a_contact_sheet_goes_on_after_the_pages_that_are_there_and_ends(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ContactSheet, "PAGES", 2)
    (tmp_path / "contact-sheet-001.png").write_bytes(b"before")
    sheet = ContactSheet(tmp_path)
    for number in range(sheet.COLUMNS * sheet.ROWS + 3):
        sheet.add(face(0, 1, 0), f"{number}.jpg")
    sheet.close()
    assert sheet.left_out == 3
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "contact-sheet-001.png").read_bytes() == b"before"


def test_a_page_says_what_is_not_on_it(tmp_path):
    heights = []
    for without_face in (0, 3):
        folder = tmp_path / str(without_face)
        folder.mkdir()
        sheet = ContactSheet(folder)
        sheet.add(face(0, 1, 0), "a.jpg")
        for _ in range(without_face):
            sheet.add_without_face()
        sheet.close()
        with Image.open(folder / "contact-sheet-001.png") as image:
            heights.append(image.height)
            bottom = np.asarray(image)[-20:]
        # Letters, on the background.
        assert (len(np.unique(bottom)) > 10) == bool(without_face)
    assert 20 < heights[1] - heights[0] < 50


def test_a_page_for_what_has_no_face_alone(tmp_path):
    sheet = ContactSheet(tmp_path)
    sheet.close()
    assert list(tmp_path.iterdir()) == []
    sheet.add_without_face()
    sheet.close()
    with Image.open(tmp_path / "contact-sheet-001.png") as image:
        assert len(np.unique(np.asarray(image))) > 10
    sheet.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_stands_beside_a_photo_without_a_face():
    image = annotate(photo(800, 601), [])
    assert image.size == (800, 602)
    np.testing.assert_array_equal(np.asarray(image)[:601], photo(800, 601))


def test_a_page_stays_also_where_the_one_before_is_gone(tmp_path):
    (tmp_path / "contact-sheet-002.png").write_bytes(b"before")
    sheet = ContactSheet(tmp_path)
    sheet.add(face(0, 1, 0), "a.jpg")
    sheet.close()
    assert (tmp_path / "contact-sheet-002.png").read_bytes() == b"before"
    assert (tmp_path / "contact-sheet-003.png").exists()
