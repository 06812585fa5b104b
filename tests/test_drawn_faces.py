"""The drawn faces: their form, their seeds, and whether expressions are visible."""

import dataclasses
import itertools

import numpy as np
import pytest

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import (
    ACTION_UNITS,
    EMOTION_UNITS,
    Face,
    draw_face,
    draw_faces,
    random_face,
)

COUNT = 30
VARIED = [field for field in dataclasses.fields(Face) if field.metadata]


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return draw_faces(COUNT, seed=1)


def pixels(face: Face) -> np.ndarray:
    return np.asarray(draw_face(face), float)


def test_images_are_bytes_and_labels_are_integers(drawn):
    images, labels = drawn
    assert images.shape == (7 * COUNT, 48, 48, 1)
    assert images.dtype == np.uint8
    assert images.min() < 20
    assert images.max() > 235
    assert labels.shape == (7 * COUNT,)
    assert labels.dtype == np.int64


def test_labels_are_balanced_and_in_the_order_of_the_emotions(drawn):
    _, labels = drawn
    assert labels.tolist() == [i for i in range(len(EMOTIONS)) for _ in range(COUNT)]


def test_no_images_for_a_count_of_zero():
    images, labels = draw_faces(0, seed=1)
    assert images.shape == (0, 48, 48, 1)
    assert labels.shape == (0,)


@pytest.mark.parametrize("seed", [7, (7, 1)])
def test_the_same_seed_draws_the_same_pixels(seed):
    np.testing.assert_array_equal(draw_faces(2, seed)[0], draw_faces(2, seed)[0])


@pytest.mark.parametrize("seed", [2, (1, 1)])
def test_another_seed_draws_other_images_throughout(drawn, seed):
    ours = drawn[0].reshape(7, COUNT, -1)[:, :2]
    others = draw_faces(2, seed)[0].reshape(7, 2, -1)
    assert (ours != others).any(axis=2).all()


def test_a_larger_set_begins_with_the_smaller_one(drawn):
    first_of_each = drawn[0].reshape(7, COUNT, 48, 48, 1)[:, :3]
    np.testing.assert_array_equal(
        draw_faces(3, seed=1)[0], first_of_each.reshape(-1, 48, 48, 1)
    )


def test_every_image_has_contrast(drawn):
    assert drawn[0].reshape(7 * COUNT, -1).std(axis=1).min() > 8


def test_no_two_images_are_equal(drawn):
    assert len({image.tobytes() for image in drawn[0]}) == 7 * COUNT


def test_mean_images_of_the_emotions_differ_visibly():
    rng = np.random.default_rng(3)
    person = {field.name: field.default for field in VARIED}
    means = [
        np.mean(
            [
                pixels(dataclasses.replace(random_face(emotion, rng), **person))
                for _ in range(20)
            ],
            axis=0,
        )
        for emotion in EMOTIONS
    ]
    for one, other in itertools.combinations(means, 2):
        assert (np.abs(one - other) > 30).mean() > 0.01


def test_every_emotion_has_units_and_every_unit_is_known():
    assert tuple(EMOTION_UNITS) == EMOTIONS
    for emotion, units in EMOTION_UNITS.items():
        assert bool(units) == (emotion != "neutral")
        assert units.keys() <= ACTION_UNITS.keys()
        assert all(low < high and high > 0 for low, high in units.values())


def test_no_two_emotions_have_the_same_units():
    assert len({frozenset(units) for units in EMOTION_UNITS.values()}) == 7


def test_units_change_only_the_fields_of_the_expression():
    at_rest = {field.name for field in dataclasses.fields(Face) if not field.default}
    for effects in ACTION_UNITS.values():
        assert effects
        assert effects.keys() <= at_rest


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_unit_is_visible(unit):
    changed = Face(**ACTION_UNITS[unit])
    assert np.abs(pixels(changed) - pixels(Face())).mean() > 0.3


def test_a_face_shows_the_units_of_its_emotion():
    rng = np.random.default_rng(5)
    faces = {name: [random_face(name, rng) for _ in range(20)] for name in EMOTIONS}
    assert min(face.lip_corner for face in faces["happy"]) > 0.03
    assert max(face.lip_corner for face in faces["sad"]) < 0
    assert max(face.inner_brow for face in faces["angry"]) < 0
    assert min(face.inner_brow for face in faces["surprise"]) > 0.1
    assert min(face.jaw_drop for face in faces["surprise"]) > 0.04
    assert min(face.nose_wrinkle for face in faces["disgust"]) > 0.5
    assert min(face.lip_stretch for face in faces["fear"]) > 0
    assert max(abs(face.lip_corner) for face in faces["neutral"]) < 0.1


def test_an_average_face_is_symmetric():
    # All but the nose, whose bridge is lit from one side.
    face = pixels(Face())
    face[:, 75:117] = 0
    assert np.abs(face - face[:, ::-1]).mean() < 2


def test_a_jaw_drop_opens_a_dark_mouth():
    mouth = (slice(125, 170), slice(86, 106))
    shouting = Face(**ACTION_UNITS["AU26 jaw drop"])
    assert pixels(shouting)[mouth].mean() < pixels(Face())[mouth].mean() - 20


@pytest.mark.parametrize("accessory", ["glasses", "hand", "fringe", "beard"])
def test_accessories_are_drawn_above_zero(accessory):
    bare = dataclasses.replace(Face(), **{accessory: -0.01})
    worn = dataclasses.replace(Face(), **{accessory: 0.9})
    np.testing.assert_array_equal(pixels(bare), pixels(Face()))
    assert np.abs(pixels(worn) - pixels(Face())).mean() > 0.5
