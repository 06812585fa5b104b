"""Videos: true times, damage noticed, nothing else opened."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import videos

from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.inference.video import open_video
from emotion_cnn.inference.video_writing import write_video

TIMES = videos.varying_times(60)
KINDS = {
    "mp4": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "ts": "libx264",
    "avi": "mjpeg",
    "mpg": "mpeg2video",
    "wmv": "wmv2",
}


def read(path: Path, **settings):
    """The frames of a video, and the text of the error that they end with."""
    frames = []
    try:
        with open_video(path) as video:
            for frame in video.frames(**settings):
                frames.append(frame)
    except DataError as error:
        return frames, str(error)
    return frames, None


def milliseconds(frames):
    return [round(1000 * frame.seconds) for frame in frames]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return videos.write(tmp_path_factory.mktemp("video") / "whole.mp4", TIMES)


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "ts"])
def test_times_are_those_of_the_container_with_a_variable_rate(tmp_path, kind):
    path = videos.write(tmp_path / f"x.{kind}", TIMES, codec=KINDS[kind])
    frames, error = read(path)
    assert error is None
    assert milliseconds(frames) == TIMES
    assert [frame.number for frame in frames] == list(range(60))


@pytest.mark.parametrize("kind", ["avi", "mpg"])
def test_times_with_a_constant_rate(tmp_path, kind):
    times = list(range(0, 1000, 40))
    path = videos.write(tmp_path / f"x.{kind}", times, codec=KINDS[kind])
    frames, error = read(path)
    assert error is None
    assert milliseconds(frames) == times


def test_the_content_and_not_the_name_says_what_a_video_is(tmp_path, whole):
    path = tmp_path / "x.avi"
    path.write_bytes(whole.read_bytes())
    assert milliseconds(read(path)[0]) == TIMES


def test_images_are_rgb(tmp_path):
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 255
    frames, _ = read(videos.write(tmp_path / "x.mp4", [0, 40], images=[red, red]))
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.shape == (64, 96, 3)
    assert np.abs(frames[0].image.astype(int) - red).max() < 8


def test_a_video_of_a_telephone_held_upright_is_turned(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = 255
    path = videos.write(tmp_path / "x.mp4", [0], images=[image], rotation=-90)
    (frame,), _ = read(path)
    assert frame.image.shape == (96, 64, 3)
    # Turned clockwise, what was at the upper left is at the upper right.
    assert frame.image[:40, 40:].min() > 200
    assert frame.image[:, :24].max() < 50


@pytest.mark.parametrize("stride", [1, 2, 7, 100])
def test_stride(whole, stride):
    frames, error = read(whole, stride=stride)
    assert error is None
    assert [frame.number for frame in frames] == list(range(0, 60, stride))
    assert milliseconds(frames) == TIMES[::stride]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "webm"])
@pytest.mark.parametrize(
    ("start", "end"), [(0.5, None), (1.0, 1.5), (0, 0.9), (2.7, None), (0.001, 0.2)]
)
def test_a_part_of_a_video_is_that_part_of_the_whole(tmp_path, kind, start, end):
    path = videos.write(tmp_path / f"x.{kind}", TIMES, codec=KINDS[kind])
    everything, _ = read(path)
    part, error = read(path, start=start, end=end, stride=2)
    wanted = [
        frame
        for frame in everything
        if start <= frame.seconds and (end is None or frame.seconds < end)
        if frame.number % 2 == 0
    ]
    assert error is None
    assert wanted
    assert [(f.number, f.seconds) for f in part] == [
        (f.number, f.seconds) for f in wanted
    ]
    for one, other in zip(part, wanted, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_start_after_the_end_says_where_that_is(whole):
    frames, error = read(whole, start=100)
    assert frames == []
    assert error.startswith("Expected frames from 100 s on (`start`), but the last one")
    assert error.endswith(f"is at {TIMES[-1] / 1000:.2f} s.")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"stride": 0}, "`stride` is 1 or more; found 0."),
        ({"start": -1}, "found -1 and None."),
        ({"start": float("nan")}, "found nan and None."),
        ({"start": 2, "end": 2}, "found 2 and 2."),
        ({"end": float("nan")}, "found 0 and nan."),
    ],
)
def test_settings_that_cannot_work(whole, settings, found):
    with open_video(whole) as video, pytest.raises(ConfigError) as error:
        next(video.frames(**settings))
    assert str(error.value).endswith(found)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi"])
def test_a_video_cut_short_gives_what_is_there_and_says_where_it_ends(tmp_path, kind):
    times = TIMES if kind != "avi" else list(range(0, 2400, 40))
    path = videos.write(
        tmp_path / f"whole.{kind}",
        times,
        codec=KINDS[kind],
        options={"movflags": "faststart"} if kind == "mp4" else None,
    )
    everything, _ = read(path)
    frames, error = read(videos.cut(path, tmp_path / f"cut.{kind}", 0.5))
    assert 10 < len(frames) < 50
    for one, other in zip(frames, everything, strict=False):
        assert (one.number, one.seconds) == (other.number, other.seconds)
    assert error.startswith("Expected a whole video, but ")
    assert error.endswith(f"the last frame is at {frames[-1].seconds:.2f} s.")


def test_a_video_cut_short_before_its_index(tmp_path, whole):
    _, error = read(videos.cut(whole, tmp_path / "x.mp4", 0.5))
    assert "it is damaged, or cut short before its index" in error
    assert "\n" not in error


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_damage_half_way_is_noticed_and_no_frame_is_made_up(tmp_path, kind):
    path = videos.write(tmp_path / f"whole.{kind}", TIMES, codec=KINDS[kind])
    everything = {frame.seconds: frame.image for frame in read(path)[0]}
    frames, error = read(videos.zeroed(path, tmp_path / f"x.{kind}", 0.5, 3000))
    assert "is damaged from " in error
    assert 30 <= len(frames) < 60
    # What comes after the damage is there again.
    assert frames[-1].seconds > 0.9 * TIMES[-1] / 1000
    images = {image.tobytes() for image in everything.values()}
    assert all(frame.image.tobytes() in images for frame in frames)
    assert all(one.seconds < other.seconds for one, other in pairwise(frames))


def test_damage_before_the_part_that_is_read_does_no_harm(tmp_path, whole):
    path = videos.zeroed(whole, tmp_path / "x.mp4", 0.3, 2000)
    frames, error = read(path, start=1.8)
    assert error is None
    assert frames


def test_sound_that_lasts_longer_is_no_damage(tmp_path):
    path = videos.write(tmp_path / "x.mp4", [0, 40, 80], seconds_of_sound=3)
    frames, error = read(path)
    assert error is None
    assert milliseconds(frames) == [0, 40, 80]


def test_a_video_without_frames(tmp_path):
    path = videos.write(tmp_path / "x.mp4", [0], seconds_of_sound=0)
    content = path.read_bytes()
    place = content.index(b"stsz")
    # No sample is left in the index.
    path.write_bytes(content[: place + 12] + bytes(4) + content[place + 16 :])
    frames, error = read(path)
    assert frames == []
    assert error.startswith("Expected a video")


def test_a_file_of_sound_alone(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert read(path)[1].endswith("has no stream of images.")


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {video}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'type="static"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1">'
    "<BaseURL>{video}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "imf": '<?xml version="1.0"?><CompositionPlaylist></CompositionPlaylist>',
    "text": "a face\n",
    "empty": "",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_file_that_names_other_files_is_no_video(tmp_path, monkeypatch, whole, kind):
    """The decoder must not even see it: what it does by itself is its own affair."""
    path = tmp_path / "x.mp4"
    path.write_text(PLAYLISTS[kind].format(video=whole, port=5004))
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("the decoder saw it"))
    _, error = read(path)
    assert error.endswith("does not begin as one.")


@pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
@pytest.mark.parametrize(
    "begins", [b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS\0"]
)
def test_a_playlist_that_begins_as_a_video_is_not_followed(
    tmp_path, whole, kind, begins
):
    text = PLAYLISTS[kind].format(video=whole, port=5004)
    path = tmp_path / "x.mp4"
    path.write_bytes(begins + b"\n" + text.encode())
    frames, error = read(path)
    assert frames == []
    assert error.startswith("Expected a video")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "missing"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "x.mp4"
    match kind:
        case "device":
            if not Path("/dev/zero").exists():
                pytest.skip("no such device here")
            path.symlink_to("/dev/zero")
        case "pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("no named pipes here")
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    _, error = read(path)
    assert error.startswith("Expected a video, but ")
    assert "\n" not in error


def test_frames_that_are_too_large_are_refused(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 6400
        frame = av.VideoFrame(6400, 6400, "yuv420p")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, error = read(path)
    assert frames == []
    assert error.startswith("Expected frames of at most 36 megapixels, but those of ")


def test_a_codec_that_is_not_common_is_refused(tmp_path):
    path = videos.write(tmp_path / "x.mkv", [0, 40], codec="snow", options=None)
    _, error = read(path)
    assert error.endswith("is snow. Convert it, for example to H.264.")


def test_a_strangers_name_does_not_reach_the_terminal(tmp_path):
    path = tmp_path / "\x1b[2Jx.mp4"
    path.write_text("nothing")
    _, error = read(path)
    assert "\x1b" not in error


def test_errors_of_the_reader_of_frames_are_its_own(whole):
    with pytest.raises(OSError, match="full"), open_video(whole):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts", "wmv"])
def test_random_damage_is_an_error_of_ours_or_none(tmp_path, capfd, kind):
    times = range(0, 800, 40)
    path = videos.write(tmp_path / f"whole.{kind}", times, codec=KINDS[kind])
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    ends = set()
    for case in range(40):
        damaged = np.frombuffer(content, np.uint8).copy()
        within = len(content) if case % 2 else 900
        places = rng.integers(12, within, rng.choice([1, 5, 50]))
        damaged[places] = rng.choice([0, 255, rng.integers(256)], len(places))
        path.write_bytes(damaged.tobytes())
        frames, error = read(path, start=0.3 * (case % 3 == 0))
        assert len(frames) <= 100
        ends.add(error is None)
    assert ends == {True, False}
    assert capfd.readouterr() == ("", ""), "the libraries print lines of their own"


def test_memory_does_not_grow_with_the_video(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    peaks = []
    for count in (50, 500):
        path = videos.write(tmp_path / f"{count}.mp4", range(0, 40 * count, 40))
        tracemalloc.start()
        with open_video(path) as video:
            assert sum(1 for _ in video.frames()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_a_written_video_has_the_times_and_plays_in_browsers(tmp_path):
    path = tmp_path / "x.mp4"
    images = np.random.default_rng(0).integers(0, 255, (5, 33, 65, 3), np.uint8)
    times = [0, 0.04, 0.5, 0.5, 7]
    with write_video(path, height=33, width=65) as writer:
        for seconds, image in zip(times, images, strict=True):
            writer.write(seconds, image)
    frames, error = read(path)
    assert error is None
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=1e-4)
    # Colours are stored for each 2x2 pixels.
    assert frames[0].image.shape == (34, 66, 3)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.format.name) == ("h264", "yuv420p")
    assert [each.name for each in tmp_path.iterdir()] == ["x.mp4"]


def test_what_was_written_until_ctrl_c_plays(tmp_path):
    path = tmp_path / "x.mp4"
    with (
        pytest.raises(KeyboardInterrupt),
        write_video(path, height=32, width=32) as writer,
    ):
        writer.write(0, np.zeros((32, 32, 3), np.uint8))
        writer.write(0.04, np.zeros((32, 32, 3), np.uint8))
        raise KeyboardInterrupt
    assert milliseconds(read(path)[0]) == [0, 40]


def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        write_video(tmp_path / "x.mp4", height=32, width=32) as writer,
    ):
        writer.write(0, np.zeros((32, 32, 3), np.uint8))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_gap_that_mp4_has_no_room_for_is_shortened(tmp_path):
    path = tmp_path / "gap.mp4"
    image = np.zeros((16, 16, 3), np.uint8)
    with write_video(path, height=16, width=16) as writer:
        for seconds in (0, 0.5, 1e6, 1e6 + 0.25):
            writer.write(seconds, image)
    assert times_of(path) == pytest.approx([0, 0.5, 2983.1162, 2983.3662], abs=1e-3)


def test_gaps_between_all_frames(tmp_path):
    path = tmp_path / "gaps.mp4"
    with write_video(path, height=16, width=16) as writer:
        for number in range(12):
            writer.write(1e5 * number, np.zeros((16, 16, 3), np.uint8))
    assert len(times_of(path)) == 12


def test_what_ffmpeg_refuses_to_write_is_an_error_of_the_system(tmp_path):
    path = tmp_path / "wide.mp4"
    with (
        pytest.raises(OSError, match="external library") as caught,
        write_video(path, height=2, width=40_000) as writer,
    ):
        writer.write(0, np.zeros((2, 40_000, 3), np.uint8))
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_frame_at_the_end_of_time_is_an_error_of_the_file(tmp_path):
    path = videos.write(tmp_path / "v.mkv", [0, 40, 2**50, 2**50 + 40], codec="mjpeg")
    found = []
    with (
        open_video(path) as video,
        pytest.raises(DataError, match="has a frame at 1,125,899,906,843 s, where 10"),
    ):
        for frame in video.frames():
            found.append(frame.seconds)
    assert found == pytest.approx([0, 0.04])


def test_a_matroska_video_that_begins_late_is_whole(tmp_path):
    path = videos.write(tmp_path / "v.mkv", range(60_000, 62_000, 40), codec="mjpeg")
    found = times_of(path)
    assert (found[0], found[-1]) == (0, pytest.approx(1.96))


def times_of(path: Path) -> list[float]:
    with open_video(path) as video:
        return [frame.seconds for frame in video.frames()]
