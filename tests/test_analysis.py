"""From photos to faces, with a detector and a classifier that need no network."""

import dataclasses
import errno
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emotion_cnn.data.images import image_from_array
from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.inference.analysis import Analyzer, Face
from emotion_cnn.inference.cropping import crop_face
from emotion_cnn.inference.detection import Detection

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("dark", "middle", "bright")
SIZE = 8


class ByBrightness:
    """The brighter a face, the more probable `bright` is; notes what it is asked."""

    classes = CLASSES
    label_sets = ("original", "ferplus")
    input_size = SIZE

    def __init__(self):
        self.batches = []
        self.explained = []

    def predict(self, faces, *, labels=None, tta="none"):
        if tta not in ("none", "flip"):
            raise ConfigError(f"`tta` is not {tta}")
        if len(faces):
            assert faces.dtype == np.uint8
            assert faces.shape[1:] == (SIZE, SIZE)
            self.batches.append((len(faces), labels, tta))
        bright = faces.mean(axis=(1, 2)) / 255
        middle = np.minimum(bright, 1 - bright)
        columns = (1 - bright - middle / 2, middle, bright - middle / 2)
        return np.stack(columns, axis=1).astype(np.float32)

    def explain(self, face, *, method="layercam", emotion=None, labels=None):
        self.explained.append((method, emotion, labels))
        return (face / 255).astype(np.float32)


class Marked:
    """Finds a face of 20x20 at each pixel of pure red, scored by its row."""

    def detect(self, photo):
        red = (photo == (255, 0, 0)).all(axis=2)
        return [
            Detection((x - 10.0, y - 10.0, x + 10.0, y + 10.0), y / 100)
            for x, y in sorted((x, y) for y, x in np.argwhere(red).tolist())
        ]


def photo(*faces: tuple[int, int, int]) -> np.ndarray:
    """A black photo with a gray square of 20x20 around each x, y, of a gray level."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    for x, y, level in faces:
        pixels[y - 10 : y + 10, x - 10 : x + 10] = level
    for x, y, _ in faces:
        pixels[y, x] = (255, 0, 0)
    return pixels


@pytest.fixture
def classifier():
    return ByBrightness()


@pytest.fixture
def analyzer(classifier):
    return Analyzer(classifier, Marked())


def many(analyzer, items, read, **settings):
    return list(analyzer.analyze_many(items, read, threads=2, **settings))


# --- One photo ---


def test_the_faces_of_a_photo_from_left_to_right(analyzer, classifier):
    seen = photo((70, 20, 250), (20, 30, 10))
    dark, bright = analyzer.analyze(seen)
    assert (dark.emotion, bright.emotion) == ("dark", "bright")
    assert dark.box == (10, 20, 30, 40)
    assert (dark.score, bright.score) == (0.3, 0.2)
    assert dark.classes == CLASSES
    assert dark.track is None
    np.testing.assert_array_equal(bright.image, crop_face(seen, bright.box, SIZE))
    expected = classifier.predict(bright.image[np.newaxis])[0]
    np.testing.assert_array_equal(bright.probabilities, expected)
    assert bright.confidence == expected.max()
    assert classifier.batches[0] == (2, "original", "none")


def test_no_face_is_a_result_and_runs_no_network(analyzer, classifier):
    assert analyzer.analyze(photo()) == []
    assert classifier.batches == []


@pytest.mark.parametrize("channels", [(), (3,)])
def test_without_a_detector_the_image_is_the_face(classifier, channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, *channels), np.uint8)
    (face,) = Analyzer(classifier, None).analyze(image)
    assert face.box is None
    assert face.score is None
    np.testing.assert_array_equal(face.image, image_from_array(image, SIZE))


def test_the_settings_reach_the_classifier_and_the_faces(classifier):
    analyzer = Analyzer(
        classifier, Marked(), labels="ferplus", tta="flip", unsure_below=0.9
    )
    unsure, sure = analyzer.analyze(photo((20, 30, 120), (60, 30, 1)))
    assert classifier.batches == [(2, "ferplus", "flip")]
    assert (unsure.unsure, sure.unsure) == (True, False)
    assert unsure.confidence < 0.9 < sure.confidence
    unsure.explain(method="occlusion")
    unsure.explain(emotion="dark")
    assert classifier.explained == [
        ("occlusion", unsure.emotion, "ferplus"),
        (None, "dark", "ferplus"),
    ]


def test_a_decision_needs_the_probability_that_is_asked_for(classifier):
    seen = photo((45, 30, 99))
    confidence = Analyzer(classifier, None).analyze(seen)[0].confidence
    for unsure_below, unsure in ((confidence, False), (confidence + 1e-6, True)):
        analyzer = Analyzer(classifier, None, unsure_below=unsure_below)
        assert analyzer.analyze(seen)[0].unsure is unsure


@pytest.mark.parametrize(
    ("unsure_below", "probabilities", "percents"),
    [
        (0.54, (0.5361, 0.2639, 0.2), [53, 26, 20]),
        (0.54, (0.5399, 0.2601, 0.2), [53, 26, 20]),
        (0.54, (0.54, 0.26, 0.2), [54, 26, 20]),
        (0.545, (0.5449, 0.4551, 0), [54, 46, 0]),
        (0.545, (0.5451, 0.4549, 0), [55, 45, 0]),
        (0.496, (0.4961, 0.4959, 0.008), [50, 50, 1]),
        (0.5, (0.499, 0.498, 0.003), [49, 49, 0]),
        (1.0, (0.9999, 0.0001, 0), [99, 0, 0]),
        (0.0, (0.0, 1.0, 0.0), [0, 100, 0]),
    ],
)
def test_percentages_do_not_contradict_the_decision(
    classifier, unsure_below, probabilities, percents
):
    analyzer = Analyzer(classifier, None, unsure_below=unsure_below)
    (face,) = analyzer.analyze(photo((45, 30, 99)))
    shown = dataclasses.replace(face, probabilities=np.array(probabilities, np.float32))
    assert shown.percents == percents
    assert shown.unsure == (max(percents) < 100 * unsure_below)


@pytest.mark.parametrize("unsure_below", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability(classifier, unsure_below):
    with pytest.raises(ConfigError, match="`unsure_below` is a probability from 0"):
        Analyzer(classifier, None, unsure_below=unsure_below)


def test_settings_that_the_classifier_refuses_are_refused_at_once(classifier):
    with pytest.raises(ConfigError, match="`tta` is not five"):
        Analyzer(classifier, Marked(), tta="five")
    assert classifier.batches == []


# --- Many photos ---


def test_many_photos_are_analyzed_as_one_by_one(analyzer):
    photos = [
        photo(*((15 + 20 * place, 30, 60 * place + count) for place in range(count)))
        for count in (1, 0, 3, 2, 4, 0, 1)
    ]
    found = many(analyzer, range(len(photos)), lambda item, _: photos[item])
    assert [each.item for each in found] == list(range(len(photos)))
    assert all(each.error is None and each.photo is None for each in found)
    for each, one in zip(found, map(analyzer.analyze, photos), strict=True):
        assert [face.box for face in each.faces] == [face.box for face in one]
        for first, second in zip(each.faces, one, strict=True):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_the_network_sees_the_faces_of_several_photos_at_once(analyzer, classifier):
    many(analyzer, range(40), lambda *_: photo((20, 30, 9), (60, 30, 9)))
    assert [count for count, _, _ in classifier.batches] == [32, 32, 16]


def test_the_order_is_kept_whichever_is_read_first(analyzer):
    second_is_read = threading.Event()

    def read(item, _):
        if item == 0:
            assert second_is_read.wait(timeout=30)
        second_is_read.set()
        return photo((20, 30, 200))

    assert [each.item for each in many(analyzer, range(5), read)] == [0, 1, 2, 3, 4]


def refuse(error):
    def read(*_):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda *_: "truncated", "truncated"),
        (refuse(OSError(errno.EACCES, "Permission denied")), "Permission denied"),
        (refuse(ValueError("not a regular file")), "not a regular file"),
        (refuse(DataError("Expected a photo.")), "Expected a photo."),
        (refuse(MemoryError()), "too large for the memory"),
    ],
)
def test_what_cannot_be_read_is_a_result_between_the_others(analyzer, read, reason):
    good = photo((20, 30, 200))
    found = many(analyzer, "abc", lambda item, _: read(item) if item == "b" else good)
    assert [each.error for each in found] == [None, reason, None]
    assert [len(each.faces) for each in found] == [1, 0, 1]


def test_mistakes_of_the_program_are_no_results(analyzer):
    with pytest.raises(KeyError):
        many(analyzer, "abc", lambda item, _: {}[item])


def test_photos_are_returned_where_they_are_asked_for(analyzer):
    photos = [photo((20, 30, 200)), "no photo", photo()]
    found = many(analyzer, [0, 1, 2], lambda item, _: photos[item], keep_photos=True)
    assert found[0].photo is photos[0]
    assert found[1].photo is None
    assert found[2].photo is photos[2]


def test_few_photos_are_in_memory_whatever_their_number(analyzer):
    ahead = []
    read = []

    def items():
        for item in range(200):
            read.append(item)
            yield item

    analyses = analyzer.analyze_many(items(), lambda *_: photo(), threads=2)
    for done, _ in enumerate(analyses):
        ahead.append(len(read) - done)
    assert max(ahead) <= 16 + 2 * 2 + 1


class InTheCorner:
    def detect(self, photo):
        return [Detection((0.0, 0.0, 20.0, 20.0), 0.9)]


def test_large_photos_are_not_kept_in_memory_by_the_batch(classifier):
    large = np.zeros((5000, 5000, 3), np.uint8)
    analyzer = Analyzer(classifier, InTheCorner())
    many(analyzer, range(4), lambda *_: large, keep_photos=True)
    assert [count for count, _, _ in classifier.batches] == [2, 2]


def test_who_stops_half_way_stops_the_reading(analyzer):
    read = []
    analyses = analyzer.analyze_many(
        range(1000), lambda item, _: read.append(item) or photo(), threads=2
    )
    assert next(analyses).item == 0
    analyses.close()
    assert len(read) < 40
    assert threading.active_count() < 10


class NoFace:
    def detect(self, photo):
        return []


class Alive:
    """Photos of 100 megapixels that no one looks at, and how many there are at once."""

    def __init__(self):
        self.most = self.most_decoded = 0
        self.alive = self.decoded = 0
        self.lock = threading.Lock()

    def read(self, item, reserve):
        # As a decoder does: several times what the photo takes afterwards.
        reserve(1_000_000_000)
        self.count(decoded=1, alive=1)
        time.sleep(0.005)
        pixels = np.empty((10_000, 10_000, 3), np.uint8)
        weakref.finalize(pixels, self.count, alive=-1)
        self.count(decoded=-1)
        return pixels

    def count(self, *, decoded=0, alive=0):
        with self.lock:
            self.decoded += decoded
            self.alive += alive
            self.most = max(self.most, self.alive)
            self.most_decoded = max(self.most_decoded, self.decoded)


@pytest.mark.parametrize("keep_photos", [False, True])
def test_memory_does_not_grow_with_the_number_of_threads(classifier, keep_photos):
    photos = Alive()
    analyses = Analyzer(classifier, NoFace()).analyze_many(
        range(40), photos.read, keep_photos=keep_photos, threads=32
    )
    assert [each.item for each in analyses] == list(range(40))
    # 2 GB hold two while they are decoded, or six afterwards; one may come on top, and
    # two are analysed, and not yet another's.
    assert photos.most_decoded <= 3
    assert photos.most <= 6 + 1 + 2


def test_small_photos_are_read_by_all_threads_at_once(classifier):
    together = threading.Barrier(16)

    def read(_, reserve):
        reserve(100_000_000)
        together.wait(timeout=30)
        return photo()

    analyses = Analyzer(classifier, NoFace()).analyze_many(range(32), read, threads=16)
    assert [each.error for each in analyses] == [None] * 32


def test_a_photo_larger_than_what_is_read_ahead_is_read_all_the_same(analyzer):
    def read(item, reserve):
        reserve(10_000_000_000 if item % 2 else 1000)
        return photo((20, 30, 200))

    found = many(analyzer, range(9), read, keep_photos=True)
    assert [len(each.faces) for each in found] == [1] * 9


def test_who_stops_half_way_ends_those_that_wait_for_memory(analyzer):
    read = []

    def wait_and_read(item, reserve):
        reserve(1_900_000_000)
        read.append(item)
        return photo()

    analyses = analyzer.analyze_many(range(100), wait_and_read, threads=8)
    assert next(analyses).item == 0
    analyses.close()
    assert len(read) < 40
    assert threading.active_count() < 20


# --- A face ---


def test_a_face_says_what_it_shows_and_where(analyzer, classifier):
    (face,) = analyzer.analyze(photo((20, 30, 250)))
    assert repr(face) == "<Face: bright 98%; box (10, 20, 30, 40)>"
    unsure = Analyzer(classifier, None, unsure_below=1.0).analyze(photo((20, 30, 250)))
    assert "unsure; whole image>" in repr(unsure[0])


def test_faces_are_a_table_in_one_line(analyzer):
    faces = analyzer.analyze(photo((20, 30, 250), (60, 30, 5)))
    table = pd.DataFrame(face.as_dict() for face in faces)
    assert list(table.columns) == [
        *("left", "top", "right", "bottom", "score", "track"),
        *CLASSES,
        *("emotion", "confidence", "unsure"),
    ]
    assert list(table["emotion"]) == ["bright", "dark"]
    assert list(table["left"]) == [10, 50]
    np.testing.assert_array_equal(
        table[list(CLASSES)], [face.probabilities for face in faces]
    )


def test_a_class_that_is_called_as_a_column_is_another_column(analyzer):
    (face,) = analyzer.analyze(photo((20, 30, 250)))
    face = dataclasses.replace(face, classes=("score", "emotion", "bright"))
    row = face.as_dict()
    assert (row["score"], row["emotion"]) == (face.score, "bright")
    assert row["class_score"] == face.probabilities[0]


@pytest.mark.parametrize(
    ("settings", "titles"),
    [
        ({}, ["bright 98%", ""]),
        ({"method": "occlusion"}, ["bright 98%", "occlusion: bright", ""]),
        (
            {"method": "layercam", "emotion": "dark"},
            ["bright 98%", "layercam: dark", ""],
        ),
    ],
)
def test_a_face_is_drawn_beside_its_probabilities(analyzer, settings, titles):
    face: Face = analyzer.analyze(photo((20, 30, 250)))[0]
    figure = face.plot(**settings)
    assert [axes.get_title() for axes in figure.axes] == titles
    bars = [bar.get_width() for bar in figure.axes[-1].patches]
    np.testing.assert_allclose(bars, face.probabilities)
    figure.canvas.draw()


def test_any_name_of_a_class_can_be_drawn(analyzer):
    (face,) = analyzer.analyze(photo((20, 30, 250)))
    face = dataclasses.replace(face, classes=("$dark$", "mid_$^$", r"$\frac{$"))
    figure = face.plot("layercam")
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert labels == list(face.classes)


def test_no_keras_is_needed():
    code = "import sys, emotion_cnn.inference.analysis; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"keras", "cv2", "matplotlib", "tensorflow", "jax", "torch"} & {*found}
