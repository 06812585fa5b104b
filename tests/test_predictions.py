"""The files of predictions: what is in them, and what is left when a command is cut."""

import csv
import errno
import io
import json
import os
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from emotion_cnn.errors import RunError
from emotion_cnn.inference.predictions import (
    Layout,
    Predictions,
    probability_columns,
    written,
)

CLASSES = ("happy", "sad")
SETTINGS = {"labels": "original", "tta": "none"}


def face(happy: float, **others: object) -> dict[str, object]:
    return {
        **{"left": 1.25, "top": -2.0, "right": 31.04, "bottom": 40.0},
        **{"score": 0.9123456, "track": None, "happy": happy, "sad": 1 - happy},
        **{"emotion": "happy", "confidence": happy, "unsure": happy < 0.6},
        **others,
    }


WHOLE = {"left": None, "top": None, "right": None, "bottom": None, "score": None}

HEADER = (
    "source,frame,seconds,face,left,top,right,bottom,score,track,happy,sad,"
    "emotion,confidence,unsure"
)


def opened(folder, **settings: object) -> Predictions:
    folder.mkdir(exist_ok=True)
    return Predictions(folder, CLASSES, SETTINGS, **settings)


def table(folder) -> list[str]:
    return (folder / "predictions.csv").read_text().splitlines()


def lines(folder) -> list[dict]:
    text = (folder / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        (("happy", "sad"), ("happy", "sad")),
        (("score", "sad"), ("class_score", "sad")),
        (("score", "class_score"), ("class_class_score", "class_score")),
        (("class_score", "score"), ("class_score", "class_class_score")),
        (("happy", "smoothed_happy"), ("happy", "class_smoothed_happy")),
    ],
)
def test_a_class_that_is_called_as_another_column(classes, columns):
    assert probability_columns(classes) == columns


def test_what_a_killed_command_left_half_written_is_removed(tmp_path):
    folder = tmp_path / "out"
    with opened(folder) as results:
        results.write("a.jpg", [face(0.75)])
    half = ".writing-0123456789abcdef-"
    (folder / "images").mkdir()
    left = [f"{half}errors.csv", f"{half}contact-sheet-001.png", f"images/{half}a.jpg"]
    others = [".writing-mine.png", f"{half}notes.txt", "images/a.jpg"]
    for name in left + others:
        (folder / name).touch()
    opened(folder, resume=True).__exit__(None, None, None)
    assert not [name for name in left if (folder / name).exists()]
    assert all((folder / name).exists() for name in others)


def test_no_column_of_a_class_takes_the_place_of_another(tmp_path):
    classes = ("source", "score", "class_score", "unsure", "emotion", "smoothed_score")
    values = [0.01, 0.02, 0.03, 0.04, 0.4, 0.5]
    given = dict(zip(probability_columns(classes), values, strict=True))
    others = {"left": 1.0, "top": 2.0, "right": 3.0, "bottom": 4.0, "score": 0.9}
    found = {"track": None, "emotion": "score", "confidence": 0.5, "unsure": True}
    with Predictions(tmp_path, classes, SETTINGS, smoothed=True) as results:
        results.write("a.jpg", [given | others | found], smoothed=[values[::-1]])
    (row,) = csv.DictReader(table(tmp_path))
    columns = Layout(classes, smoothed=True).columns
    assert len(row) == len(set(columns)) == len(columns)
    assert [row["source"], row["score"], row["emotion"]] == ["a.jpg", "0.9", "score"]
    assert row["class_source"] == "0.01"
    assert row["smoothed_class_source"] == "0.5"
    (entry,) = lines(tmp_path)[0]["faces"]
    assert entry["score"] == 0.9
    assert entry["probabilities"] == dict(zip(classes, values, strict=True))
    assert entry["smoothed"] == dict(zip(classes, values[::-1], strict=True))


def test_the_exact_files(tmp_path):
    with opened(tmp_path / "out") as results:
        results.write("a.jpg", [face(0.75), face(0.5, **WHOLE, track=2)])
        results.write("wall.jpg", [])
        results.fail("b.jpg", "not an image")
        results.finish()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("predictions.csv", "predictions.jsonl", "errors.csv", "predict.json"),
    }
    assert table(tmp_path / "out") == [
        HEADER,
        "a.jpg,,,1,1.2,-2.0,31.0,40.0,0.912346,,0.75,0.25,happy,0.75,false",
        "a.jpg,,,2,,,,,,2,0.5,0.5,happy,0.5,true",
        "wall.jpg,,,,,,,,,,,,no face,,",
    ]
    whole = {"source": "a.jpg", "frame": None, "seconds": None}
    assert lines(tmp_path / "out") == [
        whole
        | {
            "faces": [
                {
                    **{"face": 1, "box": [1.2, -2.0, 31.0, 40.0], "score": 0.912346},
                    **{"track": None, "probabilities": {"happy": 0.75, "sad": 0.25}},
                    **{"emotion": "happy", "confidence": 0.75, "unsure": False},
                },
                {
                    **{"face": 2, "box": None, "score": None, "track": 2},
                    "probabilities": {"happy": 0.5, "sad": 0.5},
                    **{"emotion": "happy", "confidence": 0.5, "unsure": True},
                },
            ]
        },
        whole | {"source": "wall.jpg", "faces": []},
    ]
    errors = (tmp_path / "out/errors.csv").read_text()
    assert errors == "source,reason\nb.jpg,not an image\n"
    record = json.loads((tmp_path / "out/predict.json").read_text())
    assert record["settings"] == SETTINGS
    assert record["columns"] == HEADER.split(",")
    assert record["finished"] is True


def test_frames_of_a_video_and_smoothed_probabilities(tmp_path):
    with opened(tmp_path / "out", smoothed=True) as results:
        smoothed = np.array([[0.70000001, 0.3]], np.float32)
        results.write("v.mp4", [face(0.75)], frame=3, seconds=0.1, smoothed=smoothed)
        results.write("v.mp4", [], frame=4, seconds=1 / 7)
    assert table(tmp_path / "out") == [
        HEADER + ",smoothed_happy,smoothed_sad",
        "v.mp4,3,0.1,1,1.2,-2.0,31.0,40.0,0.912346,,0.75,0.25,happy,0.75,false,0.7,0.3",
        "v.mp4,4,0.1429,,,,,,,,,,no face,,,,",
    ]
    first, second = lines(tmp_path / "out")
    assert first["faces"][0]["smoothed"] == {"happy": 0.7, "sad": 0.3}
    assert second == {"source": "v.mp4", "frame": 4, "seconds": 0.1429, "faces": []}


def test_each_photo_is_in_the_files_before_the_next(tmp_path):
    with opened(tmp_path / "out") as results:
        for number in range(1, 4):
            results.write(f"{number}.jpg", [face(0.9)])
            results.fail(f"{number}.txt", "not an image")
            assert len(table(tmp_path / "out")) == 1 + number
            assert len(lines(tmp_path / "out")) == number
            text = (tmp_path / "out/errors.csv").read_text()
            assert text.count("\n") == 1 + number


NAMES = ["caf\udce9.jpg", 'a,"b".jpg', "two\nlines.jpg", "re\rturn.jpg", "\u8868.jpg"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_names_are_found_again(tmp_path, name):
    with opened(tmp_path / "out") as results:
        for each in (name, "next.jpg"):
            results.write(each, [face(0.9)])
            results.fail(each, "why")
    for file in ("predictions.csv", "errors.csv"):
        text = (tmp_path / "out" / file).read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert [row[0] for row in rows[1:]] == [written(name), "next.jpg"]
    assert lines(tmp_path / "out")[0]["source"] == written(name)
    with opened(tmp_path / "out", resume=True) as results:
        assert results.done == {written(name)}


def write_three(folder, *, finished: bool = False) -> None:
    """Two photos, the second with two faces, and a video of two frames."""
    with opened(folder) as results:
        results.write("a.jpg", [face(0.9)])
        results.fail("bad.jpg", "not an image")
        results.write("b.jpg", [face(0.8), face(0.7)])
        results.write("v.mp4", [face(0.9)], frame=0, seconds=0)
        results.write("v.mp4", [], frame=1, seconds=1)
        if finished:
            results.finish()


def test_resuming_what_is_finished_adds_to_it(tmp_path):
    write_three(tmp_path / "out", finished=True)
    before = table(tmp_path / "out")
    with opened(tmp_path / "out", resume=True) as results:
        assert results.done == {"a.jpg", "b.jpg", "v.mp4"}
        results.write("c.jpg", [])
    assert table(tmp_path / "out") == [*before, "c.jpg,,,,,,,,,,,,no face,,"]


def test_resuming_tries_again_what_could_not_be_read(tmp_path):
    write_three(tmp_path / "out", finished=True)
    with opened(tmp_path / "out", resume=True) as results:
        results.fail("b.jpg", "cut short")
        results.finish()
    with opened(tmp_path / "out", resume=True) as results:
        assert results.failed == 1
    text = (tmp_path / "out/errors.csv").read_text()
    assert text == "source,reason\nb.jpg,cut short\n"


@pytest.mark.parametrize("file", ["predictions.csv", "predictions.jsonl"])
def test_a_command_cut_anywhere_is_resumed_to_the_same_files(tmp_path, file):
    write_three(tmp_path / "whole")
    expected = [
        (tmp_path / "whole" / name).read_bytes()
        for name in ("predictions.csv", "predictions.jsonl")
    ]
    content = (tmp_path / "whole" / file).read_bytes()
    seen = set()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    around = {end + step for end in ends for step in (0, 1, 2)}
    for length in sorted({*range(0, len(content), 60), *around} - {len(content) + 1}):
        folder = tmp_path / f"cut-{length}"
        write_three(folder)
        with (folder / file).open("rb+") as cut:
            cut.truncate(length)
        with opened(folder, resume=True) as results:
            done = results.done
            if "a.jpg" not in done:
                results.write("a.jpg", [face(0.9)])
            if "b.jpg" not in done:
                results.write("b.jpg", [face(0.8), face(0.7)])
            results.write("v.mp4", [face(0.9)], frame=0, seconds=0)
            results.write("v.mp4", [], frame=1, seconds=1)
        assert [
            (folder / name).read_bytes()
            for name in ("predictions.csv", "predictions.jsonl")
        ] == expected
        seen.add(frozenset(done))
    assert seen == {frozenset(), frozenset({"a.jpg"}), frozenset({"a.jpg", "b.jpg"})}


def test_resuming_where_nothing_is_yet(tmp_path):
    with opened(tmp_path / "out", resume=True) as results:
        assert results.done == set()
    assert table(tmp_path / "out") == [HEADER]


def test_resuming_with_other_settings(tmp_path):
    write_three(tmp_path / "out")
    before = table(tmp_path / "out")
    with pytest.raises(RunError) as caught:
        Predictions(tmp_path / "out", CLASSES, SETTINGS | {"tta": "flip"}, resume=True)
    assert "were made with, found others: `tta`. Give the same" in str(caught.value)
    with pytest.raises(RunError, match="found others: other columns, as of other cl"):
        Predictions(tmp_path / "out", ("x", "y"), SETTINGS, resume=True)
    assert table(tmp_path / "out") == before


@pytest.mark.parametrize("file", ["predictions.csv", "predictions.jsonl"])
def test_resuming_where_a_file_is_missing_loses_nothing(tmp_path, file):
    write_three(tmp_path / "out")
    (tmp_path / "out" / file).unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(RunError, match="as this tool wrote them, found one missing"):
        opened(tmp_path / "out", resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_resuming_what_a_spreadsheet_program_has_written_loses_nothing(tmp_path):
    write_three(tmp_path / "out")
    path = tmp_path / "out/predictions.csv"
    content = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(content)
    with pytest.raises(RunError, match="found another program's table"):
        opened(tmp_path / "out", resume=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found files, but no predict.json"),
        ("{}", "found that it is something else"),
        ("[", "found that "),
        ('{"kind": "emotion-cnn predictions", "format": 9}', "of another version"),
    ],
)
def test_resuming_what_is_something_else(tmp_path, content, message):
    (tmp_path / "holiday.jpg").touch()
    if content is not None:
        (tmp_path / "predict.json").write_text(content)
    with pytest.raises(RunError) as caught:
        opened(tmp_path, resume=True)
    assert message in str(caught.value)
    assert "Choose another `output`." in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "file"),
    [
        (CLASSES, "predictions.jsonl"),
        # Their names are in the table's first line: it is the longer file.
        (tuple(f"{n:050}" for n in range(100)), "predictions.csv"),
    ],
    ids=["lines", "table"],
)
def test_a_full_disk_keeps_whole_what_is_there(tmp_path, classes, file):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Predictions(tmp_path, classes, SETTINGS) as results:
        for number in range(3):
            results.write(f"{number}.jpg", [])
        before = table(tmp_path), lines(tmp_path)
        size = (tmp_path / file).stat().st_size + 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                results.write("c.jpg", [])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.filename == str(tmp_path / file)
        assert (table(tmp_path), lines(tmp_path)) == before
        results.write("c.jpg", [])
    assert table(tmp_path) == [*before[0], table(tmp_path)[1].replace("0.jpg", "c.jpg")]


@pytest.mark.parametrize(
    "name", ["predictions.csv", "predictions.jsonl", "errors.csv", "images", "pipe"]
)
def test_resuming_writes_through_no_link(tmp_path, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    with opened(out) as results:
        results.write("a.jpg", [face(0.75)])
    if name == "pipe":
        os.mkfifo(out / "images")
    elif (out / name).exists():
        (out / name).rename(elsewhere)
        (out / name).symlink_to(elsewhere)
    else:
        elsewhere.mkdir()
        (out / name).symlink_to(elsewhere)
    before = elsewhere.read_bytes() if elsewhere.is_file() else b""
    with pytest.raises(RunError, match="is a link, a pipe or a device"):
        opened(out, resume=True)
    assert not elsewhere.is_file() or elsewhere.read_bytes() == before


@pytest.mark.parametrize("writes", range(3))
def test_a_disk_that_is_full_at_once_is_resumed(tmp_path, monkeypatch, writes):
    replace, left = Path.replace, [None] * writes

    def full(path, target):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        # All that is replaced is written by then.
        with pytest.raises(OSError, match="No space") if writes < 2 else nullcontext():
            opened(tmp_path / "out").__exit__(None, None, None)
    (tmp_path / "out/.writing-0123456789abcdef-predict.json").touch()
    with opened(tmp_path / "out", resume=True) as results:
        results.write("a.jpg", [face(0.9)])
    assert len(table(tmp_path / "out")) == 2


def test_resuming_writes_into_no_file_of_two_names(tmp_path):
    with opened(tmp_path / "out"):
        pass
    (tmp_path / "out/predictions.jsonl").unlink()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out/predictions.jsonl").hardlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"found predictions\.jsonl, which is a link"):
        opened(tmp_path / "out", resume=True)
    assert (tmp_path / "precious").read_text() == "mine"


def test_what_another_command_has_written_meanwhile_stays(tmp_path):
    write_three(tmp_path / "out", finished=True)
    before = table(tmp_path / "out")
    with pytest.raises(RunError, match="holds those of another command by now"):
        opened(tmp_path / "out")
    assert table(tmp_path / "out") == before


@pytest.mark.parametrize("file", ["predictions.csv", "predictions.jsonl", "errors.csv"])
def test_a_line_without_end_takes_no_memory(tmp_path, file):
    write_three(tmp_path / "out")
    with (tmp_path / "out" / file).open("rb+") as opened_file:
        opened_file.truncate(2**27)  # Of zeros, which take no room on the disk.
    tracemalloc.start()
    try:
        with opened(tmp_path / "out", resume=True) as results:
            assert results.done == {"a.jpg", "b.jpg"}
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_lines_nested_without_end_are_predicted_again(tmp_path):
    write_three(tmp_path / "out")
    (tmp_path / "out/predictions.jsonl").write_text(100_000 * "[" + "\n")
    with opened(tmp_path / "out", resume=True) as results:
        assert results.done == set()


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@SUM(1).jpg"])
def test_no_name_is_a_formula(tmp_path, name):
    with opened(tmp_path / "out") as results:
        results.write(name, [])
        results.fail(name, "why")
    row = table(tmp_path / "out")[1]
    assert row.startswith(f"{os.curdir}{os.sep}{name},")  # The same file.
    errors = (tmp_path / "out/errors.csv").read_text()
    assert errors.splitlines()[1] == f"{os.curdir}{os.sep}{name},why"


def test_resuming_tries_again_what_damaged_errors_said(tmp_path):
    with opened(tmp_path / "out") as results:
        results.write("a.jpg", [face(0.75)])
    (tmp_path / "out" / "errors.csv").write_bytes(b"\xff\0\r\n" + 200_000 * b"a,")
    with opened(tmp_path / "out", resume=True) as results:
        assert results.failed == 0
