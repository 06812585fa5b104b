"""Predicting videos and cameras: from a source to exact files."""

import importlib.util
import json
import sys
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import videos
from test_predict import TABLES, errors, files, network, predict, table
from test_video_analysis import Bright, FakeOpenCV, frame

import emotion_cnn
from emotion_cnn.commands import predict_videos
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import DataError
from emotion_cnn.inference.saving import file_name
from emotion_cnn.inference.video import open_video

__all__ = ["network", "predict"]  # Fixtures.

TIMES = videos.varying_times(24)


class Detector(Bright):
    def __init__(self, **settings: object) -> None:
        self.settings = settings


@pytest.fixture(autouse=True)
def workplace(monkeypatch, tmp_path, own_environment):
    """An empty working folder, and the detector that stands in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("emotion_cnn.inference.detection.YuNet", Detector)
    return folder


def write(name: str, *, without=(), times=TIMES, **settings) -> Path:
    """A video in which a bright square moves, but for frames without it."""
    images = []
    # Something to compress, so that a part of the file is a part of the frames.
    texture = np.random.default_rng(0).integers(0, 40, (64, 96, 3), np.uint8)
    for n in range(len(times)):
        face = frame(0, 0, None if n in without else 10 + n, 80 + 7 * n).image
        images.append(np.roll(texture, n * n, axis=1))
        images[-1][:60, :90] = np.maximum(images[-1][:60, :90], face)
    return videos.write(Path(name), times, images=images, **settings)


def smoothed(row: dict[str, str]) -> list[float]:
    return [float(row[f"smoothed_{name}"]) for name in EMOTIONS]


def raw(row: dict[str, str]) -> list[float]:
    return [float(row[name]) for name in EMOTIONS]


def test_a_video_becomes_tables_a_timeline_and_an_annotated_copy(predict, capsys):
    write("x.mp4")
    assert predict("--source=x.mp4", "--output=out", "--save=sheet,timeline,video") == 0
    name = file_name("x.mp4")
    assert files() == TABLES | {
        *("contact-sheet-001.png", f"videos/{name}.mp4"),
        f"videos/{name}-timeline.png",
    }
    rows = table()
    assert [row["source"] for row in rows] == ["x.mp4"] * 24
    assert [int(row["frame"]) for row in rows] == list(range(24))
    assert [round(1000 * float(row["seconds"])) for row in rows] == TIMES
    assert {row["track"] for row in rows} == {"1"}
    # Smoothing from the raw probabilities, by the times.
    expected = np.array(raw(rows[0]))
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None:
            stays = np.exp((float(before["seconds"]) - float(row["seconds"])) / 0.5)
            expected = stays * expected + (1 - stays) * np.array(raw(row))
        np.testing.assert_allclose(smoothed(row), expected, atol=1e-4)
        assert row["emotion"] == EMOTIONS[int(np.argmax(smoothed(row)))]
        assert float(row["confidence"]) == max(smoothed(row))
    lines = Path("out", "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(24))
    first = json.loads(lines[0])["faces"][0]
    assert list(first["smoothed"].values()) == smoothed(rows[0])
    with open_video(Path("out", "videos", f"{name}.mp4")) as video:
        frames = list(video.frames())
    assert [round(1000 * each.seconds) for each in frames] == TIMES
    output = capsys.readouterr().out
    assert "x.mp4: 24 frames, 24 faces: " in output
    assert "\n24 frames: 24 faces (" in output


def test_a_track_survives_three_missed_frames(predict):
    write("x.mp4", without=(5, 6, 7))
    assert predict("--source=x.mp4", "--output=out", "--save=none") == 0
    rows = table()
    assert [row["track"] for row in rows] == ["1"] * 5 + [""] * 3 + ["1"] * 16
    assert [row["emotion"] for row in rows[5:8]] == ["no face"] * 3
    assert files() == TABLES


def test_a_part_of_a_video_with_a_stride_and_no_smoothing(predict):
    write("x.mp4")
    assert predict(
        "--source=x.mp4", "--output=out", "--save=images,faces", "--stride=3",
        "--start=0.2", "--end=0.8", "--smoothing=0",
    ) == 0  # fmt: skip
    numbers = [n for n, t in enumerate(TIMES) if 200 <= t < 800 and n % 3 == 0]
    rows = table()
    assert [int(row["frame"]) for row in rows] == numbers
    assert "smoothed_happy" not in rows[0]
    name = file_name("x.mp4")
    assert files() == TABLES | {
        *(f"images/{name}-{n:06}.jpg" for n in numbers),
        *(f"faces/{name}-{n:06}-1.png" for n in numbers),
    }


@pytest.mark.parametrize("kind", ["cut", "damaged"])
def test_a_video_that_is_not_whole_gives_what_is_there(predict, capsys, kind):
    whole = write("whole.mp4", options={"movflags": "faststart"}, key_every=6)
    if kind == "cut":
        videos.cut(whole, Path("x.mp4"), 0.6)
    else:
        videos.zeroed(whole, Path("x.mp4"), 0.5, 1500)
    code = predict("--source=x.mp4", "--output=out", "--save=video,timeline")
    assert code == 2
    rows = table()
    assert 5 < len(rows) < 24
    (reason,) = errors().values()
    assert reason.startswith("Expected a whole video, but x.mp4 is ")
    assert reason.endswith(f"last frame is at {float(rows[-1]['seconds']):.2f} s")
    error = capsys.readouterr().err
    assert reason in error
    assert "Traceback" not in error
    with open_video(Path("out", "videos", f"{file_name('x.mp4')}.mp4")) as video:
        assert len(list(video.frames())) == len(rows)
    arguments = ("--source=x.mp4", "--output=out", "--save=video,timeline")
    assert predict(*arguments, "--resume") == 2
    assert "found 1 that cannot:\n  as was found before\n" in capsys.readouterr().err
    assert table() == rows


def test_bad_videos_do_not_end_the_others(predict):
    write("good.mp4")
    Path("empty.mp4").write_bytes(b"")
    Path("list.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    Path("names.txt").write_text("empty.mp4\nlist.mp4\nmissing.mp4\ngood.mp4\n")
    assert predict("--source=@names.txt", "--output=out", "--save=none") == 2
    assert set(errors()) == {"empty.mp4", "list.mp4", "missing.mp4"}
    assert {row["source"] for row in table()} == {"good.mp4"}


def test_no_frame_in_the_part_that_was_asked_for(predict):
    write("x.mp4")
    code = predict("--source=x.mp4", "--output=out", "--start=0.01", "--end=0.02")
    assert code == 2
    assert errors() == {"x.mp4": "no frame between `start` and `end`"}


def test_an_end_before_the_start(fails):
    text = fails("predict", "--source=x.mp4", "--start=3", "--end=2")
    assert "--end is after --start, or 0; found --start 3 and --end 2." in text


def test_without_pyav_nothing_is_begun(fails, monkeypatch):
    write("x.mp4")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "av" else find(name)
    )
    text = fails("predict", "--source=x.mp4", "--output=out")
    assert "Install it: pip install av (emotion-cnn's extra `[predict]`)." in text
    assert not Path("out").exists()


def test_a_whole_video_is_not_predicted_again(predict, capsys):
    write("a.mp4")
    assert predict("--source=a.mp4", "--output=out", "--save=none") == 0
    before = files(), table()
    capsys.readouterr()
    code = predict("--source=a.mp4", "--output=out", "--save=none", "--resume")
    assert code == 0
    assert "1 of 1 sources are done already." in capsys.readouterr().out
    assert (files(), table()) == before


def test_ctrl_c_keeps_what_is_done_and_resume_begins_the_video_anew(
    predict, monkeypatch, capsys
):
    write("a.mp4")
    write("b.mp4")
    Path("names.txt").write_text("a.mp4\nb.mp4\n")
    arguments = ("--source=@names.txt", "--output=out", "--save=video,timeline")
    pressed = count()

    def detect(self, photo):
        if next(pressed) == 40:
            raise KeyboardInterrupt
        return Bright.detect(self, photo)

    monkeypatch.setattr(Detector, "detect", detect)
    assert predict(*arguments) == 130
    kept = table()
    assert [row["source"] for row in kept][:24] == ["a.mp4"] * 24
    assert f"{len(kept)} frames done and kept." in capsys.readouterr().err
    assert predict(*arguments, "--resume") == 0
    rows = table()
    assert [row["source"] for row in rows] == ["a.mp4"] * 24 + ["b.mp4"] * 24
    assert [int(row["frame"]) for row in rows[24:]] == list(range(24))


def test_the_classifier_of_the_library_analyses_videos(network):
    write("x.mp4", without=(5, 6, 7))
    classifier = emotion_cnn.load(network)
    found = list(classifier.analyze_video("x.mp4", detector=Detector(), smoothing=0.5))
    assert [round(1000 * each.seconds) for each in found] == TIMES
    assert [each.number for each in found] == list(range(24))
    assert [len(each.faces) for each in found] == [1] * 5 + [0] * 3 + [1] * 16
    assert {face.track for each in found for face in each.faces} == {1}
    assert all(face.smoothed is not None for each in found for face in each.faces)
    Path("list.mp4").write_text("#EXTM3U\nx.mp4\n")
    with pytest.raises(DataError, match="does not begin as one"):
        next(classifier.analyze_video("list.mp4", detector=Detector()))


def test_a_camera_that_is_not_there_is_one_line(predict, capfd):
    assert predict("--source=93", "--output=out") == 2
    output, error = capfd.readouterr()
    assert list(errors()) == ["camera 93"]
    assert "Expected images from camera 93, found none: it is not there" in output
    assert "VIDEOIO" not in output + error, "OpenCV prints lines of its own"


class Camera(predict_videos.Camera):
    """Gives frames for ever, or is interrupted after some."""

    def __init__(self, interrupted_at):
        self.interrupted_at = interrupted_at

    def frames(self, *, stride=1, start=0, end=None):
        for number in count():
            if number == self.interrupted_at:
                raise KeyboardInterrupt
            yield frame(number, number / 25, 10 + number)


@pytest.fixture
def camera(monkeypatch):
    def install(interrupted_at=None):
        @contextmanager
        def open_camera(number):
            yield Camera(interrupted_at)

        monkeypatch.setattr(predict_videos, "open_camera", open_camera)

    return install


def test_a_camera_without_a_window_writes_until_ctrl_c(
    predict, camera, monkeypatch, capsys
):
    camera(interrupted_at=7)
    monkeypatch.setattr(predict_videos, "why_no_window", lambda: "there is no display")
    assert predict("--source=0", "--output=out", "--save=video,timeline") == 0
    output = capsys.readouterr().out
    assert (
        "No live window: there is no display. Results are written until Ctrl-C."
        in output
    )
    rows = table()
    assert [row["source"] for row in rows] == ["camera 0"] * 7
    assert {row["track"] for row in rows} == {"1"}
    name = file_name("camera 0")
    assert files() == TABLES | {f"videos/{name}.mp4", f"videos/{name}-timeline.png"}


def test_q_in_the_live_window_ends_the_camera(predict, camera, monkeypatch, capsys):
    camera()
    fake = FakeOpenCV(keys=["x"] * 4 + ["q"])
    monkeypatch.setitem(sys.modules, "cv2", fake)
    monkeypatch.setenv("DISPLAY", ":0")
    assert predict("--source=0", "--output=out", "--save=none") == 0
    assert len(table()) == len(fake.shown) == 5
    assert fake.shown[0].shape == fake.shown[4].shape
    assert fake.closed == 1
    assert "A live window opens; q ends it." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "is_said"), [(("--save=video",), True), (("--save=timeline",), False)]
)
def test_that_annotated_videos_have_no_sound_is_said(predict, capsys, flags, is_said):
    write("talk.mp4")
    assert predict("--source=talk.mp4", "--output=out", *flags) == 0
    said = capsys.readouterr().out
    assert ("The annotated videos are without sound." in said) == is_said


def test_a_video_without_a_face_is_a_line_on_the_contact_sheet(predict):
    write("wall.mp4", without=range(len(TIMES)))
    assert predict("--source=wall.mp4", "--output=out", "--save=sheet") == 0
    assert Path("out/contact-sheet-001.png").exists()
