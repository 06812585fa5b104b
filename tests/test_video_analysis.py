"""From videos and cameras to faces that are followed, and their timeline."""

import re
import sys
import types
from itertools import count

import numpy as np
import pytest
import videos
from test_analysis import CLASSES, ByBrightness

from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.inference import camera as cameras
from emotion_cnn.inference.analysis import Analyzer, Face
from emotion_cnn.inference.detection import Detection
from emotion_cnn.inference.timeline import Timeline
from emotion_cnn.inference.video import VideoFrame, open_video
from emotion_cnn.inference.video_analysis import analyze_frames


class Bright:
    """Finds a face of 20x20 around each column of a bright square, if there is one."""

    def detect(self, photo):
        columns = np.flatnonzero(photo[30, :, 0] > 60)
        if not len(columns):
            return []
        left = float(columns[0])
        return [Detection((left, 20.0, left + 20, 40.0), 0.9)]


def frame(number, seconds, left=None, level=200):
    """A dark frame with a bright square as a face, or none."""
    image = np.zeros((60, 90, 3), np.uint8)
    if left is not None:
        image[20:40, left : left + 20] = level
    return VideoFrame(number, seconds, image)


@pytest.fixture
def analyzer():
    return Analyzer(ByBrightness(), Bright())


def test_few_large_frames_are_in_memory_however_many_cores_there_are(monkeypatch):
    monkeypatch.setattr("emotion_cnn.inference.video_analysis.cores", lambda: 64)
    read = []

    def frames():
        for number in range(60):
            read.append(number)
            # Never looked at, so that the system need not provide it.
            yield VideoFrame(number, number / 25, np.empty((6000, 6000, 3), np.uint8))

    class NoFace:
        def detect(self, photo):
            return []

    analyzer = Analyzer(ByBrightness(), NoFace())
    ahead = [len(read) - n for n, _ in enumerate(analyze_frames(analyzer, frames()))]
    assert max(ahead) < 12


@pytest.mark.parametrize("live", [False, True])
def test_frames_come_in_order_with_followed_and_smoothed_faces(analyzer, live):
    frames = [frame(n, n / 25, 10 + n, 100 if n % 2 else 250) for n in range(40)]
    found = list(analyze_frames(analyzer, frames, smoothing=0.2, live=live))
    assert [each.number for each in found] == list(range(40))
    assert [each.seconds for each in found] == [n / 25 for n in range(40)]
    expected = None
    for each, given in zip(found, frames, strict=True):
        assert each.image is given.image
        (face,) = each.faces
        assert face.track == 1
        raw = face.probabilities
        stays = np.exp(-0.04 / 0.2)
        expected = raw if expected is None else stays * expected + (1 - stays) * raw
        np.testing.assert_allclose(face.smoothed, expected, atol=1e-5)
        assert face.emotion == CLASSES[int(face.smoothed.argmax())]
        assert face.confidence == pytest.approx(float(face.smoothed.max()))


def test_a_track_survives_three_frames_without_a_face(analyzer):
    frames = [frame(n, n / 25, None if n in (2, 3, 4) else 10) for n in range(8)]
    found = list(analyze_frames(analyzer, frames, smoothing=0.2))
    assert [[face.track for face in each.faces] for each in found] == [
        [1], [1], [], [], [], [1], [1], [1]
    ]  # fmt: skip


def scene(*, gain=1.0, shift=0, seed=1):
    """A frame of blurred colours, seen from one place or another, dark or bright."""
    generator = np.random.default_rng(seed)
    colors = generator.integers(0, 180, (6, 3))
    world = colors[generator.integers(0, 6, (8, 30))].repeat(20, 0).repeat(20, 1)
    return np.clip(gain * world[:, shift : shift + 240], 0, 255).astype(np.uint8)


BLANK = np.zeros_like(scene())


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("images", "tracks"),
    [
        pytest.param([scene()] * 3, [1, 1, 1], id="the same"),
        pytest.param([scene(shift=4 * n) for n in range(3)], [1, 1, 1], id="moves"),
        pytest.param([scene(shift=0), scene(shift=80)], [1, 1], id="moves fast"),
        pytest.param([scene(), scene(gain=1.4)], [1, 1], id="light"),
        pytest.param([scene(), BLANK, scene()], [1, 1, 1], id="lost frame"),
        pytest.param([BLANK, scene(), scene(seed=2)], [1, 1, 2], id="cut"),
        pytest.param([scene(), BLANK, scene(seed=2)], [1, 1, 2], id="cut by black"),
        pytest.param([scene(), scene(seed=2), scene()], [1, 2, 3], id="there and back"),
    ],
)
def test_nobody_is_followed_from_one_scene_to_another(images, tracks, live):
    frames = [VideoFrame(n, n / 25, image) for n, image in enumerate(images)]
    analyzer = Analyzer(ByBrightness(), None)
    found = list(analyze_frames(analyzer, frames, smoothing=10, live=live))
    assert [face.track for each in found for face in each.faces] == tracks
    begun = {face.track: face for each in found[::-1] for face in each.faces}
    for face in begun.values():
        np.testing.assert_allclose(face.smoothed, face.probabilities, atol=1e-6)


def test_without_smoothing_the_frame_alone_decides(analyzer):
    frames = [frame(0, 0, 10, 250), frame(1, 0.04, 10, 70)]
    found = list(analyze_frames(analyzer, frames, smoothing=0))
    assert [each.faces[0].smoothed for each in found] == [None, None]
    assert [each.faces[0].track for each in found] == [1, 1]
    assert [each.faces[0].emotion for each in found] == ["bright", "dark"]


def test_a_frame_that_is_one_face_needs_no_detector():
    frames = [frame(n, n / 25, 10) for n in range(3)]
    found = list(analyze_frames(Analyzer(ByBrightness(), None), frames))
    assert [each.faces[0].box for each in found] == [None] * 3
    assert [each.faces[0].track for each in found] == [1] * 3


def test_no_frame_before_an_error_is_lost(analyzer):
    def damaged():
        for number in range(20):
            yield frame(number, number / 25, 10)
        raise DataError("damaged")

    found = []
    with pytest.raises(DataError, match="damaged"):
        for each in analyze_frames(analyzer, damaged()):
            found.append(each)
    assert len(found) == 20


def test_a_frame_that_cannot_be_analysed_is_named():
    class Failing:
        def detect(self, photo):
            raise DataError("the detector fails")

    with pytest.raises(DataError, match=re.escape("at 0.50 s cannot: the detector")):
        list(analyze_frames(Analyzer(ByBrightness(), Failing()), [frame(0, 0.5, 10)]))


def test_few_frames_are_read_ahead(analyzer):
    """An endless video would fill the memory otherwise."""
    read = 0

    def endless():
        nonlocal read
        for number in count():
            read += 1
            yield frame(number, number / 25, 10)

    frames = analyze_frames(analyzer, endless())
    for _ in range(100):
        next(frames)
    assert read < 200
    frames.close()


def test_a_camera_frame_is_predicted_before_the_next_is_read(analyzer):
    read = 0

    def live():
        nonlocal read
        for number in count():
            read += 1
            yield frame(number, number / 25, 10)

    frames = analyze_frames(analyzer, live(), live=True)
    for number in range(5):
        next(frames)
        assert read == number + 1


def test_a_video_file_from_end_to_end(tmp_path, analyzer):
    times = videos.varying_times(30)
    images = [frame(0, 0, 10 + n).image[:, :, :] for n in range(30)]
    images = [np.pad(image, ((0, 4), (0, 6), (0, 0))) for image in images]
    path = videos.write(tmp_path / "x.mp4", times, images=images)
    with open_video(path) as video:
        found = list(analyze_frames(analyzer, video.frames(stride=3)))
    assert [each.number for each in found] == list(range(0, 30, 3))
    assert [round(1000 * each.seconds) for each in found] == times[::3]
    assert {face.track for each in found for face in each.faces} == {1}
    assert all(each.faces for each in found)


def face(track, probabilities):
    values = np.array(probabilities, np.float32)
    return Face(
        None, None, np.zeros((8, 8), np.uint8), values, CLASSES, 0.5, "original",
        ByBrightness(), track,
    )  # fmt: skip


def drawn(figure):
    """For each row: its name, and the heights of the first class' bars."""
    return {
        axes.get_ylabel(): np.asarray(axes.patches[0].get_data().values)
        for axes in figure.axes
    }


def test_the_timeline_shows_means_of_all_faces_and_of_each_track():
    timeline = Timeline(CLASSES)
    for number in range(100):
        faces = [face(1, (0.8, 0.1, 0.1))]
        if number >= 50:
            faces.append(face(2, (0.2, 0.4, 0.4)))
        timeline.add(number / 10, faces)
    rows = drawn(timeline.figure("talk.mp4"))
    assert list(rows) == ["all faces", "track 1", "track 2"]
    np.testing.assert_allclose(rows["track 1"], 0.8, atol=1e-6)
    half = len(rows["track 2"]) // 2
    assert np.isnan(rows["track 2"][: half - 1]).all()
    np.testing.assert_allclose(rows["track 2"][half + 1 :], 0.2, atol=1e-6)
    np.testing.assert_allclose(rows["all faces"][: half - 1], 0.8, atol=1e-6)
    np.testing.assert_allclose(rows["all faces"][half + 1 :], 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("interval", "frames", "start"),
    [(0.04, 10, 0), (0.04, 5_000, 0), (10, 20, 0), (0.5, 50, 3600), (0.04, 1, 5)],
)
def test_a_timeline_has_no_gaps_whatever_the_length(interval, frames, start):
    timeline = Timeline(CLASSES)
    for number in range(frames):
        timeline.add(start + number * interval, [face(1, (0.5, 0.3, 0.2))])
    figure = timeline.figure("talk.mp4")
    left, right = figure.axes[0].get_xlim()
    values = drawn(figure)["all faces"]
    edges = figure.axes[0].patches[0].get_data().edges
    shown = (edges[:-1] >= left) & (edges[1:] <= right)
    assert 1 <= shown.sum() <= 600
    np.testing.assert_allclose(values[shown], 0.5, atol=1e-6)
    assert left <= start <= start + (frames - 1) * interval <= right


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0.04, ["0:00"]),
        (3, ["0:00", "0:00.5", "0:01"]),
        (18, ["0:00", "0:02", "0:04"]),
        (1_100, ["0:00", "2:00", "4:00"]),
        (7_000, ["0:00", "15:00", "30:00", "45:00", "1:00:00"]),
        (90_000, ["0:00", "3:00:00", "6:00:00"]),
    ],
)
def test_a_timeline_has_the_ticks_of_a_clock(seconds, ticks):
    timeline = Timeline(CLASSES)
    for number in range(101):
        timeline.add(number * seconds / 100, [face(1, (0.5, 0.3, 0.2))])
    axis = timeline.figure("talk.mp4").axes[-1].xaxis
    shown = axis.get_major_formatter().format_ticks(axis.get_majorticklocs())
    first = shown.index("0:00")
    assert shown[first : first + len(ticks)] == ticks


def test_a_timeline_without_a_face_says_so():
    timeline = Timeline(CLASSES)
    timeline.add(0, [])
    timeline.add(1, [])
    assert timeline.figure("wall.mp4").get_suptitle().startswith("wall.mp4: ")


def test_a_timeline_draws_the_longest_of_many_tracks():
    timeline = Timeline(CLASSES)
    for number in range(60):
        present = [face(t, (0.5, 0.3, 0.2)) for t in range(1, 21) if number < 3 * t]
        timeline.add(number / 25, present)
    figure = timeline.figure("talk.mp4")
    assert list(drawn(figure)) == ["all faces", *(f"track {t}" for t in range(13, 21))]
    assert figure.get_suptitle().endswith("(the 8 longest of 20 tracks)")


def test_a_timeline_of_very_many_tracks_forgets_the_shortest(monkeypatch):
    monkeypatch.setattr("emotion_cnn.inference.timeline._MOST_TRACKS_KEPT", 20)
    timeline = Timeline(CLASSES)
    for number in range(300):
        # Track 1 all the time, 2 to 9 for a while, and each second one that passes by.
        tracks = [1, *range(2, 10 if number < 10 else 2), 100 + number // 2]
        timeline.add(number / 10, [face(track, (0.5, 0.3, 0.2)) for track in tracks])
    figure = timeline.figure("a.mp4")
    assert list(drawn(figure)) == ["all faces", *(f"track {t}" for t in range(1, 9))]
    assert figure.get_suptitle().endswith("(the 8 longest of 159 tracks)")


class FakeOpenCV(types.ModuleType):
    """As much of OpenCV as cameras and windows need."""

    WINDOW_NORMAL = WINDOW_KEEPRATIO = COLOR_BGR2RGB = COLOR_RGB2BGR = 0
    WND_PROP_VISIBLE = 4

    def __init__(self, images=(), opens=True, keys=(), gui="GTK3"):
        super().__init__("cv2")
        self.images, self.opens, self.keys = list(images), opens, list(keys)
        self.levels, self.released, self.closed, self.shown = [7], 0, 0, []
        self.gui, self.visible = gui, 1.0
        logging = types.SimpleNamespace(
            LOG_LEVEL_SILENT=0,
            getLogLevel=lambda: self.levels[-1],
            setLogLevel=self.levels.append,
        )
        self.utils = types.SimpleNamespace(logging=logging)

    def VideoCapture(self, number):  # noqa: N802
        return types.SimpleNamespace(
            isOpened=lambda: self.opens, read=self.read, release=self.release
        )

    def read(self):
        return (True, self.images.pop(0)) if self.images else (False, None)

    def release(self):
        self.released += 1

    def cvtColor(self, image, _):  # noqa: N802
        return image[..., ::-1]

    def getBuildInformation(self):  # noqa: N802
        return f"  GUI:                           {self.gui}\n"

    def namedWindow(self, *_):  # noqa: N802
        pass

    def imshow(self, _, image):
        self.shown.append(image)

    def waitKey(self, _):  # noqa: N802
        return ord(self.keys.pop(0)) if self.keys else -1

    def getWindowProperty(self, *_):  # noqa: N802
        return self.visible

    def destroyAllWindows(self):  # noqa: N802
        self.closed += 1


@pytest.fixture
def opencv(monkeypatch):
    def install(**settings):
        fake = FakeOpenCV(**settings)
        monkeypatch.setitem(sys.modules, "cv2", fake)
        return fake

    return install


@pytest.mark.parametrize("opens", [True, False])
def test_a_camera_that_is_not_there_or_busy_is_one_line(opencv, opens):
    fake = opencv(opens=opens)
    with pytest.raises(DataError) as error, cameras.open_camera(3):
        pytest.fail("it was opened")
    assert str(error.value) == (
        "Expected images from camera 3, found none: it is not there, another program "
        "uses it, or this one may not. Cameras are numbered from 0."
    )
    assert fake.released == 1
    assert fake.levels == [7, 0, 7], "OpenCV prints lines of its own"


def test_the_frames_of_a_camera(opencv):
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    fake = opencv(images=[blue] * 8)
    found = []
    with pytest.raises(DataError) as error, cameras.open_camera(0) as camera:
        for each in camera.frames(stride=3):
            found.append(each)
    # The first image only showed that the camera works.
    assert [each.number for each in found] == [0, 3, 6]
    assert found[0].image[0, 0].tolist() == [0, 0, 255]
    assert 0 <= found[0].seconds <= found[1].seconds
    assert "found none any more after" in str(error.value)
    assert fake.released == 1


def test_a_stride_that_no_camera_can_have(opencv):
    opencv(images=[np.zeros((4, 6, 3), np.uint8)] * 2)
    with cameras.open_camera(0) as camera, pytest.raises(ConfigError, match="`stride`"):
        next(camera.frames(stride=0))


def test_q_or_closing_the_window_ends_it(opencv):
    fake = opencv(keys=["x", "q"])
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 255
    with cameras.open_window("faces") as window:
        assert window.show(red)
        assert not window.show(red)
        fake.visible = 0.0
        assert not window.show(red)
    assert fake.shown[0][0, 0].tolist() == [0, 0, 255]
    assert fake.closed == 1


@pytest.mark.parametrize(
    ("gui", "platform", "display", "reason"),
    [
        ("NONE", "linux", ":0", "opencv-python-headless is installed, which has none"),
        ("NONE", "win32", None, "opencv-python-headless is installed, which has none"),
        ("QT5", "linux", None, "there is no display"),
        ("QT5", "linux", ":0", None),
        ("WIN32UI", "win32", None, None),
        ("COCOA", "darwin", None, None),
    ],
)
def test_why_there_is_no_window(opencv, monkeypatch, gui, platform, display, reason):
    opencv(gui=gui)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    assert cameras.why_no_window() == reason
