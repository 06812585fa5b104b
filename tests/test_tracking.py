"""Tracks and smoothing, by cases computed by hand."""

import math

import numpy as np
import pytest

from emotion_cnn.errors import ConfigError
from emotion_cnn.inference.tracking import Tracker

HAPPY = np.array([1, 0], np.float32)
SAD = np.array([0, 1], np.float32)


def box(left, top=0, size=100):
    return (float(left), float(top), float(left + size), float(top + size))


def tracks(tracker, seconds, *lefts):
    """The numbers of the tracks of faces of 100 pixels at these left edges."""
    boxes = [box(left) for left in lefts]
    return [face.track for face in tracker.update(seconds, boxes, [HAPPY] * len(boxes))]


def test_a_face_that_moves_keeps_its_track():
    tracker = Tracker(smoothing=0)
    for step in range(20):
        assert tracks(tracker, step / 25, 20 * step) == [1]


def test_two_faces_that_change_places_in_the_list_keep_theirs():
    tracker = Tracker(smoothing=0)
    assert tracks(tracker, 0, 0, 300) == [1, 2]
    assert tracks(tracker, 0.04, 290, 10) == [2, 1]


def test_the_sum_of_overlaps_decides_and_not_the_first_come():
    tracker = Tracker(smoothing=0)
    assert tracks(tracker, 0, 0, 60) == [1, 2]
    # The first overlaps the track 2 most, which the second one needs.
    assert tracks(tracker, 0.04, 35, 95) == [1, 2]


def test_a_face_elsewhere_is_another():
    tracker = Tracker(smoothing=0)
    assert tracks(tracker, 0, 0) == [1]
    assert tracks(tracker, 0.04, 500) == [2]
    assert tracks(tracker, 0.08, 0, 500) == [1, 2]


@pytest.mark.parametrize("interval", [0.01, 0.04, 0.2, 2.0, 60.0])
def test_a_track_survives_three_missed_frames(interval):
    tracker = Tracker(smoothing=0)
    assert tracks(tracker, 0, 0) == [1]
    for missed in (1, 2, 3):
        assert tracks(tracker, missed * interval) == []
    assert tracks(tracker, 4 * interval, 5) == [1]


@pytest.mark.parametrize(
    ("interval", "missed", "track"),
    [
        # Whatever the frame rate, it survives a second.
        (0.04, 24, 1),
        (0.04, 26, 2),
        (0.01, 99, 1),
        (0.01, 101, 2),
        # At long intervals, three frames.
        (2.0, 3, 1),
        (2.0, 4, 2),
    ],
)
def test_how_long_a_track_survives(interval, missed, track):
    tracker = Tracker(smoothing=0)
    tracks(tracker, 0, 0)
    for frame in range(1, missed + 1):
        tracks(tracker, frame * interval)
    assert tracks(tracker, (missed + 1) * interval, 0) == [track]


def test_numbers_go_on_after_those_that_are_taken():
    tracker = Tracker(smoothing=0, begun=7)
    assert tracks(tracker, 0, 0, 500) == [8, 9]
    assert tracks(tracker, 0.1, 500) == [9]


def smoothed(tracker, seconds, probabilities):
    (face,) = tracker.update(seconds, [box(0)], [probabilities])
    return face.smoothed


def test_smoothing_computed_by_hand():
    tracker = Tracker(smoothing=0.5)
    # The first frame of a track stands for itself.
    np.testing.assert_allclose(smoothed(tracker, 2.0, HAPPY), [1, 0])
    # After 0.5 s, exp(-1) = 0.3679 of what was before stays.
    np.testing.assert_allclose(
        smoothed(tracker, 2.5, SAD), [0.367879, 0.632121], atol=1e-6
    )
    # After another second, exp(-2) = 0.1353: 0.1353 * 0.3679 + 0.8647.
    np.testing.assert_allclose(
        smoothed(tracker, 3.5, HAPPY), [0.914452, 0.085548], atol=1e-6
    )


@pytest.mark.parametrize("frames", [1, 2, 10, 50])
def test_smoothing_is_by_time_and_not_by_the_number_of_frames(frames):
    tracker = Tracker(smoothing=2.0)
    smoothed(tracker, 0.0, HAPPY)
    for frame in range(1, frames + 1):
        last = smoothed(tracker, frame / frames, SAD)
    np.testing.assert_allclose(last[0], math.exp(-0.5), atol=1e-6)
    assert last.dtype == np.float32


def test_smoothing_spans_missed_frames():
    tracker = Tracker(smoothing=1.0)
    smoothed(tracker, 0.0, HAPPY)
    for seconds in (0.1, 0.2, 0.3):
        tracker.update(seconds, [], [])
    np.testing.assert_allclose(
        smoothed(tracker, 0.4, SAD)[0], math.exp(-0.4), atol=1e-6
    )


def test_without_smoothing_each_frame_stands_for_itself():
    tracker = Tracker(smoothing=0)
    for seconds, values in ((0.0, HAPPY), (0.0, SAD), (0.001, HAPPY)):
        np.testing.assert_array_equal(smoothed(tracker, seconds, values), values)


def test_frames_of_one_time_count_as_one():
    tracker = Tracker(smoothing=1.0)
    smoothed(tracker, 1.0, HAPPY)
    np.testing.assert_array_equal(smoothed(tracker, 1.0, SAD), HAPPY)


def test_each_track_is_smoothed_by_itself():
    tracker = Tracker(smoothing=1.0)
    boxes = [box(0), box(400)]
    tracker.update(0, boxes, [HAPPY, SAD])
    one, other = tracker.update(1, boxes[::-1], [SAD, HAPPY])
    assert (one.track, other.track) == (2, 1)
    np.testing.assert_allclose(one.smoothed, SAD)
    np.testing.assert_allclose(other.smoothed, HAPPY)


@pytest.mark.parametrize("smoothing", [-1, float("inf"), float("nan")])
def test_smoothing_that_cannot_be(smoothing):
    with pytest.raises(ConfigError, match="`smoothing` is a number of seconds"):
        Tracker(smoothing=smoothing)


def test_boxes_without_area_are_faces_of_their_own():
    tracker = Tracker(smoothing=0)
    empty = (5.0, 5.0, 5.0, 5.0)
    assert [face.track for face in tracker.update(0, [empty, empty], [HAPPY, SAD])] == [
        1,
        2,
    ]
    assert [face.track for face in tracker.update(0.04, [empty], [HAPPY])] == [3]
