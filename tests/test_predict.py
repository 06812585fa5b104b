"""Predicting images: from a source to exact files, whatever is among them.

A detector stands in that finds marks; the real one has tests of its own, and is run
here by what is about privacy.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from emotion_cnn.cli import main
from emotion_cnn.commands.predict import LIMITS
from emotion_cnn.commands.predict_job import Job
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.inference.defaults import UNSURE_BELOW
from emotion_cnn.inference.detection import Detection
from emotion_cnn.inference.saving import file_name


class Marked:
    """Finds a face of 24x40 at each pixel of pure red."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def detect(self, photo):
        red = (photo == (255, 0, 0)).all(axis=2)
        return [
            Detection((x - 20.0, y - 20.0, x + 20.0, y + 20.0), 0.9)
            for x, y in sorted((x, y) for y, x in np.argwhere(red).tolist())
        ]


@pytest.fixture(autouse=True)
def workplace(monkeypatch, tmp_path, own_environment):
    """An empty working folder, and the detector that stands in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("emotion_cnn.inference.detection.YuNet", Marked)
    return folder


def scene(*marks: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A photo with a face around each mark."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 200, (90, 120, 3), np.uint8)
    for x, y in marks:
        pixels[y, x] = (255, 0, 0)
    return pixels


def write(path: str, pixels: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def table(folder: str = "out") -> list[dict[str, str]]:
    text = Path(folder, "predictions.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def errors(folder: str = "out") -> dict[str, str]:
    with Path(folder, "errors.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row["reason"] for row in csv.DictReader(file)}


def files(folder: str = "out") -> set[str]:
    found = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


TABLES = {"predictions.csv", "predictions.jsonl", "errors.csv", "predict.json"}
TABLES |= {".emotion-cnn.lock"}


@pytest.fixture
def photos():
    """Two photos of one name, and one without a face."""
    write("photos/a.png", scene((30, 30), (80, 50)))
    write("photos/b/a.png", scene((60, 40), seed=1))
    write("photos/wall.png", scene())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A folder with a small network whose predictions differ from face to face."""
    import keras

    from emotion_cnn.models.architectures import Architecture, Convolution
    from emotion_cnn.models.builder import build_model
    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import write_pair

    keras.utils.set_random_seed(0)
    description = NetworkDescription()
    model = build_model(Architecture(((Convolution(4),),) * 4, (8,)), description)
    folder = tmp_path_factory.mktemp("network")
    write_pair(folder, Network(model, description))
    return folder


@pytest.fixture
def predict(network):
    """Runs the command with a small network; returns the exit code."""

    def run(*arguments: object) -> int:
        words = [str(argument) for argument in arguments]
        return main(["predict", "--weights", str(network), *words])

    return run


# --- What a command leaves ---


def test_a_folder_of_photos(predict, photos, capsys):
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.png")}
    Path("photos/bad.jpg").write_bytes(b"no image")
    code = predict("--source=photos", "--output=out", "--save=images,faces,sheet")
    assert code == 2
    two, one, none = (
        file_name(str(Path("photos", name)))
        for name in ("a.png", "b/a.png", "wall.png")
    )
    assert len({two, one}) == 2
    assert files() == TABLES | {
        *("contact-sheet-001.png", f"images/{two}.jpg", f"images/{one}.jpg"),
        *(f"images/{none}.jpg", f"faces/{two}-1.png", f"faces/{two}-2.png"),
        f"faces/{one}-1.png",
    }
    rows = table()
    places = [(row["source"], row["face"]) for row in rows]
    a, b, wall = (str(Path("photos", n)) for n in ("a.png", "b/a.png", "wall.png"))
    assert places == [(a, "1"), (a, "2"), (wall, ""), (b, "1")]
    assert [row["left"] for row in rows] == ["10.0", "60.0", "", "40.0"]
    assert [row["emotion"] for row in rows if not row["face"]] == ["no face"]
    for row in rows:
        if row["face"]:
            shares = [float(row[name]) for name in EMOTIONS]
            assert sum(shares) == pytest.approx(1, abs=1e-5)
            assert row["emotion"] == EMOTIONS[int(np.argmax(shares))]
            assert float(row["confidence"]) == max(shares)
            assert row["unsure"] == str(max(shares) < UNSURE_BELOW).lower()
    bad = str(Path("photos/bad.jpg"))
    reason = "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"
    assert errors() == {bad: reason}
    said = capsys.readouterr()
    assert (
        f"error: Expected sources that can be read, found 1 that cannot:\n  {bad}: "
        f"{reason}\n{Path('out/errors.csv')} has them all; the predictions of the "
        "others are kept.\n" in said.err
    )
    assert LIMITS in said.out
    assert f"{wall}: no face\n" in said.out
    assert "3 images: 3 faces (" in said.out
    assert "1 without a face; " in said.out
    assert {path: path.read_bytes() for path in before} == before


def test_crops_that_were_saved_are_predicted_alike(predict, photos):
    assert predict("--source=photos", "--output=out", "--save=faces") == 0
    code = predict("--source=out/faces/*", "--faces=cropped", "--output=again")
    assert code == 0
    found = sorted([row[name] for name in EMOTIONS] for row in table() if row["face"])
    again = table("again")
    assert sorted([row[name] for name in EMOTIONS] for row in again) == found
    assert {row["left"] for row in again} == {""}
    assert {row["score"] for row in again} == {""}


def test_no_face_is_no_failure(predict, capsys):
    write("wall.png", scene())
    assert predict("--source=wall.png", "--save=none") == 0
    out = capsys.readouterr().out
    assert "wall.png: no face\n1 image: 0 faces (0 unsure), 1 without a face" in out
    [folder] = Path("runs").iterdir()
    assert folder.name.endswith("-predict")
    assert files(str(folder)) == TABLES


def test_settings_reach_the_predictions(predict, photos):
    flags = ("--source=photos", "--save=none")
    assert predict(*flags, "--output=sure", "--unsure-below=0") == 0
    assert predict(*flags, "--output=unsure", "--unsure-below=1") == 0
    assert {row["unsure"] for row in table("sure") if row["face"]} == {"false"}
    assert {row["unsure"] for row in table("unsure") if row["face"]} == {"true"}
    assert predict(*flags, "--output=flip", "--tta=flip") == 0
    assert [row["happy"] for row in table("flip")] != [
        r["happy"] for r in table("sure")
    ]
    record = json.loads(Path("flip/predict.json").read_text())
    assert record["settings"]["tta"] == "flip"


def test_a_pattern_and_a_list_on_standard_input(predict, photos, monkeypatch):
    code = predict("--source=photos", "--pattern=w*", "--output=out")
    assert code == 0
    assert [row["source"] for row in table()] == [str(Path("photos/wall.png"))]
    lines = io.TextIOWrapper(io.BytesIO(b"photos/b/a.png\nphotos/wall.png\n"))
    monkeypatch.setattr(sys, "stdin", lines)
    assert predict("--source=-", "--output=listed") == 0
    listed = [row["source"] for row in table("listed")]
    assert listed == ["photos/b/a.png", "photos/wall.png"]


def test_shards_together_predict_all_once(predict, photos):
    found = []
    for number in (1, 2):
        output = f"part-{number}"
        shard = f"--shard={number}/2"
        assert predict("--source=photos", shard, "--output", output) == 0
        found += [row["source"] for row in table(output)]
    assert predict("--source=photos", "--output=whole") == 0
    assert sorted(found) == sorted(row["source"] for row in table("whole"))


@pytest.fixture
def parts(predict, photos):
    """Three shards of four sources, one of which cannot be read."""
    Path("photos/bad.png").write_bytes(b"no image")
    for number in (1, 2, 3):
        code = predict(
            "--source=photos", f"--shard={number}/3", f"--output=parts/{number}"
        )
        assert code == (2 if number == 2 else 0)
    return Path("parts")


def test_merged_shards_are_the_predictions_of_one_process(predict, parts, capsys):
    assert predict("--source=photos", "--save=none", "--output=one") == 2
    said = capsys.readouterr().err
    assert main(["predict", "--source=photos", "--merge=parts", "--output=merged"]) == 2
    merged = capsys.readouterr()
    assert merged.err.replace("merged", "one") == said
    assert "4 sources." in merged.out
    one, other = (
        {path.name: path.read_bytes() for path in Path(name).glob("[!.]*")}
        for name in ("one", "merged")
    )
    assert len(other) == 4
    assert one == other
    assert len(table("merged")) == 4
    # It can be gone on with, as any other.
    assert predict("--source=photos", "--output=merged", "--resume") == 2
    assert "3 of 4 sources are done already" in capsys.readouterr().out


def remove_part(parts):
    shutil.rmtree(parts / "3")


def copy_part(parts):
    shutil.copytree(parts / "3", parts / "4")


def copy_errors(parts):
    shutil.copy(parts / "2/errors.csv", parts / "1/errors.csv")


def unfinish(parts):
    change_record(parts, finished=False)


def change_settings(parts):
    record = json.loads((parts / "2/predict.json").read_text())
    change_record(parts, settings=record["settings"] | {"tta": "flip"})


def change_columns(parts):
    change_record(parts, columns=["source"])


def change_record(parts, **values):
    path = parts / "2/predict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def nest_settings(parts):
    record = json.loads((parts / "2/predict.json").read_text())
    change_record(parts, settings=record["settings"] | {"tta": [["flip"]]})


def cut_table(parts):
    path = parts / "1/predictions.csv"
    path.write_bytes(path.read_bytes()[:-20])


def cut_lines(parts):
    path = parts / "1/predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


def remove_table(parts):
    (parts / "1/predictions.csv").unlink()


def damage_errors(parts):
    (parts / "1/errors.csv").write_text("source,reason\na\n")


CHANGES = {
    remove_part: "of all 4 sources in changed, found none of photos/wall.png.",
    copy_part: "Expected each of 4 sources once in changed, found photos/wall.png",
    copy_errors: "photos/bad.png is in another folder, too",
    unfinish: "they are not finished: go on with --resume",
    change_settings: "found others in 2 than in 1",
    nest_settings: "predict.json does not name their settings",
    change_columns: "predictions.csv has other columns than predict.json",
    cut_table: "predictions.csv or predictions.jsonl is damaged",
    cut_lines: "predictions.csv or predictions.jsonl is damaged",
    remove_table: "found that predictions.csv: No such file",
    damage_errors: "errors.csv is damaged",
    shutil.rmtree: "with a predict.json each in changed, found none",
}


def test_shards_that_cannot_be_merged(fails, parts, capsys):
    for change, reason in CHANGES.items():
        shutil.rmtree("changed", ignore_errors=True)
        change(Path(shutil.copytree(parts, "changed")))
        capsys.readouterr()
        arguments = ("--source=photos", "--merge=changed", "--output=merged")
        assert reason in fails("predict", *arguments)
        assert not Path("merged").exists()


def test_nothing_of_a_stranger_reaches_the_terminal_or_the_settings(
    fails, parts, capsys
):
    capsys.readouterr()
    errors = parts / "2/errors.csv"
    errors.write_text("source,reason\nphotos/bad.png,no \x1b[31mimage\n")
    change_record(parts, note=["strange"])
    message = fails("predict", "--source=photos", "--merge=parts", "--output=merged")
    assert "photos/bad.png: 'no \\x1b[31mimage'" in message
    assert "strange" not in Path("merged/predict.json").read_text()


MERGED_WITH = {
    "--shard": ("--shard=1/2",),
    "--resume": ("--resume", "--output=out"),
    "--tta": ("--tta=none",),
    "--save, --weights": ("--weights=network", "--save=none"),
}


@pytest.mark.parametrize("refused", MERGED_WITH)
def test_a_merge_takes_no_settings_of_predictions(fails, photos, refused):
    said = fails("predict", "--source=photos", "--merge=parts", *MERGED_WITH[refused])
    assert said.startswith("--merge puts together what all shards have written, and")
    assert said.endswith(f"predicts nothing; leave out {refused}.\n")
    assert not Path("out").exists()


def test_an_output_folder_among_the_photos_is_not_predicted(predict, photos, capsys):
    flags = ("--source=photos", "--save=images,faces")
    for number in (1, 2):
        assert predict(*flags, f"--output=photos/out{number}") == 0
        assert "3 images: 3 faces" in capsys.readouterr().out


def test_explanations_are_drawn(predict, photos):
    flags = ("--source=photos/a.png", "--save=images,sheet")
    sizes = {}
    for name, more in {
        "plain": (),
        "explained": ("--explain",),
        "occlusion": ("--explain", "--explain-method=occlusion", "--explain-class=sad"),
    }.items():
        assert predict(*flags, "--output", name, *more) == 0
        [image] = Path(name, "images").iterdir()
        with Image.open(image) as opened:
            sizes[name] = opened.width
    assert sizes["plain"] < sizes["explained"] == sizes["occlusion"]
    one, other = (
        np.asarray(Image.open(f"{name}/contact-sheet-001.png"))
        for name in ("explained", "occlusion")
    )
    assert (one != other).any()


def test_a_network_that_cannot_be_explained_is_said_before_a_source_is_read(
    photos, capsys, tmp_path
):
    import keras

    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import write_pair

    inputs = keras.Input((48, 48, 1))
    maps = keras.layers.Conv2D(2, 4, strides=4)(keras.layers.Rescaling(1 / 255)(inputs))
    flat = keras.layers.Flatten()(maps)
    outputs = keras.layers.Dense(7, activation="softmax")(flat)
    model = keras.Model(inputs, outputs)
    write_pair(tmp_path, Network(model, NetworkDescription()))
    flags = ["predict", "--source=photos", "--output=out", "--explain"]
    assert main([*flags, "--weights", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "found none. Explain it by occlusion." in said.err
    assert LIMITS not in said.out
    assert not Path("out").exists()
    flags.append("--explain-method=occlusion")
    assert main([*flags, "--weights", str(tmp_path)]) == 0


# --- Stopped and resumed ---


def test_nobody_reads_what_is_said(predict, photos, monkeypatch):
    """As after `| head`: no disk is full, and nothing needs room."""

    def closed(job: Job, text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Job, "say", closed)
    ended = []
    monkeypatch.setattr(os, "dup2", lambda *_: ended.append(True))
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert predict("--source=photos", "--output=out") == 1
    assert ended


def write_many(count: int) -> None:
    for number in range(count):
        write(f"many/{number:02}.png", scene((30 + number, 40), seed=number))


def written(folder: str) -> tuple[bytes, bytes]:
    names = ("predictions.csv", "predictions.jsonl")
    csv_text, lines = (Path(folder, name).read_bytes() for name in names)
    return csv_text, lines


def test_ctrl_c_keeps_what_is_done_and_resuming_does_the_rest(
    predict, monkeypatch, capsys
):
    write_many(24)
    assert predict("--source=many", "--output=whole", "--save=none") == 0
    seen = []

    class Interrupted(Marked):
        def detect(self, photo):
            seen.append(1)
            if len(seen) == 22:
                raise KeyboardInterrupt
            return super().detect(photo)

    flags = ("--source=many", "--output=out", "--save=images,sheet")
    with monkeypatch.context() as patch:
        patch.setattr("emotion_cnn.inference.detection.YuNet", Interrupted)
        assert predict(*flags) == 130
    error = capsys.readouterr().err
    done = len(table())
    assert 16 <= done < 24
    assert f"{done} images done and kept. The same command goes on from there" in error
    assert error.endswith("--output out --resume\n\nStopped.\n")
    assert predict(*flags, "--resume") == 0
    assert f"{done - 1} of 24 sources are done already." in capsys.readouterr().out
    assert written("out") == written("whole")
    assert len(list(Path("out/images").iterdir())) == 24
    assert len(list(Path("out").glob("contact-sheet-*.png"))) == 2
    assert predict(*flags, "--resume") == 0
    assert "24 of 24 sources are done already." in capsys.readouterr().out
    assert written("out") == written("whole")


def test_resuming_tries_again_what_could_not_be_read(predict, photos):
    Path("photos/c.png").write_bytes(b"no image")
    flags = ("--source=photos", "--output=out", "--resume")
    assert predict(*flags) == 2
    write("photos/c.png", scene((30, 30)))
    assert predict(*flags) == 0
    assert errors() == {}
    assert table()[-1]["source"] == str(Path("photos/c.png"))


def test_resuming_with_other_predictions(predict, photos, fails, network):
    assert predict("--source=photos", "--output=out") == 0
    flags = ("predict", "--weights", network, "--source=photos", "--output=out")
    message = fails(*flags, "--resume", "--tta=flip")
    assert "found others: --tta. Give the same, or choose another --output." in message
    message = fails(*flags)
    assert "Expected an empty or new folder for results, but out holds" in message


def test_strict_stops_at_the_first(predict, photos, fails, network):
    Path("photos/aa.png").write_bytes(b"no image")
    flags = ("--weights", network, "--source=photos", "--output=out", "--strict")
    message = fails("predict", *flags)
    assert "Expected sources that can be read, as --strict says, found " in message
    assert "aa.png: not a JPEG" in message
    assert "What was done before is kept in out" in message
    assert [row["source"] for row in table()] == 2 * [str(Path("photos/a.png"))]


def test_a_full_disk_keeps_what_is_done(predict, fails, network):
    resource = pytest.importorskip("resource")
    write_many(24)
    flags = ("--weights", network, "--source=many", "--output=out", "--save=none")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        message = fails("predict", *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith("Expected room for results, but out/predictions.jsonl ")
    assert "make room and go on with --output out and --resume." in message
    assert 0 < len(table()) < 24
    assert predict(*flags[2:], "--resume") == 0
    assert len(table()) == 24


# --- Images of every kind ---


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def converted(mode: str, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(file, kind)
    return file.getvalue()


def animated() -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(scene(seed=seed)) for seed in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


WHOLE = encoded(scene(), "JPEG")
READ = {
    "one pixel": encoded(np.zeros((1, 1, 3), np.uint8), "PNG"),
    "one row": encoded(np.zeros((1, 300, 3), np.uint8), "PNG"),
    "alpha": converted("RGBA", "PNG"),
    "palette": converted("P", "PNG"),
    "CMYK": converted("CMYK", "JPEG"),
    "16 bits": encoded(np.full((90, 120), 40_000, np.uint16), "PNG"),
    "animated GIF": animated(),
    "panorama": encoded(np.zeros((200, 20_000, 3), np.uint8), "JPEG"),
}
NOT_READ = {
    "text": (b"no image", "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"),
    "empty": (b"", "empty file"),
    "cut": (WHOLE[: len(WHOLE) // 2], "corrupt JPEG data: the file ends early"),
    "HTML": (b"<html><img src='http://example.org/a.png'>", "not a JPEG, PNG"),
}


@pytest.mark.parametrize("faces", ["detect", "cropped"])
def test_images_of_every_kind(predict, faces, capsys):
    Path("kinds").mkdir()
    for name, content in READ.items():
        Path("kinds", f"{name}.jpg").write_bytes(content)
    flags = ("--source=kinds", "--output=out", "--save=images,sheet")
    assert predict(*flags, "--faces", faces) == 0
    expected = sorted(str(Path("kinds", f"{name}.jpg")) for name in READ)
    assert [row["source"] for row in table()] == expected
    assert {row["face"] for row in table()} == {"" if faces == "detect" else "1"}
    assert len(list(Path("out/images").iterdir())) == len(READ)


def test_a_list_with_all_that_cannot_be_read(predict, photos, capsys):
    expected = {}
    for name, (content, reason) in NOT_READ.items():
        Path(f"{name}.jpg").write_bytes(content)
        expected[f"{name}.jpg"] = reason
    expected |= {
        "missing.jpg": "No such file",
        "photos": "a folder: list the files in it",
    }
    expected |= {"photos/wall.png/x": "Not a directory", "https://a.b/c": "network"}
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.jpg")
        expected["pipe.jpg"] = "not a regular file"
        Path("loop.jpg").symlink_to("loop.jpg")
        expected["loop.jpg"] = "Too many levels of symbolic links"
    lines = [*expected, "photos/wall.png"]
    Path("names.txt").write_text("\n".join(lines))
    assert predict("--source=@names.txt", "--output=out") == 2
    found = errors()
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name]
        assert "\n" not in found[name]
    assert [row["source"] for row in table()] == ["photos/wall.png"]
    error = capsys.readouterr().err
    assert f"found {len(expected)} that cannot:\n  text.jpg: not a JPEG" in error
    assert f"\n  and {len(expected) - 3} more\nout" in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_no_utf_8(predict, capsys):
    name = os.fsdecode(b"photos/caf\xe9\n.png")
    write(name, scene((30, 30)))
    Path(os.fsdecode(b"photos/bad\xff.png")).write_bytes(b"")
    flags = ("--source=photos", "--output=out", "--save=images,faces,sheet", "--resume")
    for _ in range(2):
        assert predict(*flags) == 2
        [row] = table()
        assert row["source"] == "photos/caf\\udce9\n.png"
        assert errors() == {"photos/bad\\udcff.png": "empty file"}
    out = capsys.readouterr().out
    assert "'photos/caf\\udce9\\n.png': 1 face: " in out
    assert "1 of 2 sources are done already." in out


# --- What cannot be ---


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--source is missing: name an image, a folder"),
        (("--source=nowhere",), "found nothing named nowhere. Check its spelling"),
        (("--source=photos", "--save=image"), "--save names images, faces, sheet,"),
        (("--source=photos", "--shard=4/3"), "--shard is a part of so many, 1/16"),
        (("--source=photos", "--resume"), "name it with --output."),
        (("--source=photos", "--output=photos"), "Expected another folder for the"),
        (("--source=photos/a.png", "--pattern=*"), "--pattern chooses among the files"),
        (("--source=photos", "--explain-class=sad"), "--explain-class needs --explain"),
        (
            ("--source=photos", "--faces=cropped", "--minimum-face=50"),
            "--minimum-face is for --faces detect",
        ),
        (
            ("--source=photos", "--explain-method=occlusion"),
            "--explain-method needs --explain",
        ),
        (
            ("--source=photos", "--explain", "--save=faces"),
            "found --save faces. Add images or sheet.",
        ),
        (
            ("--source=photos", "--explain", "--explain-class=tired"),
            "--explain-class is one of angry, disgust",
        ),
        (("--source=photos", "--unsure-below=2"), "--unsure-below is a number from 0"),
        (("--source=photos", "--weights=nowhere"), "nowhere"),
        (("--source=photos", "--labels=ferplus"), "--labels is one of original"),
        (("--source=photos", "--output=photos/a.png"), "it is a file"),
    ],
)
def test_settings_that_cannot_be(fails, photos, network, flags, message):
    weights = () if "--weights=nowhere" in flags else ("--weights", network)
    before = files(".")
    assert message in fails("predict", *weights, *flags)
    assert files(".") == before


def test_the_limits_are_in_the_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert LIMITS in text
    assert "docs/model-card.md" in text


# --- Privacy ---

WITHOUT_NETWORK = """
import ctypes
import os
import platform
import struct
import sys

def forbid_in_compiled_code():
    # A filter of system calls, as Linux' seccomp takes it: the process ends where it
    # connects or sends to an address of the Internet, which has 16 bytes, or 28.
    calls = {"x86_64": (0xC000003E, 42, 44), "aarch64": (0xC00000B7, 203, 206)}
    if sys.platform != "linux" or platform.machine() not in calls:
        return
    architecture, connect, send_to = calls[platform.machine()]
    LOAD, JUMP, EQUAL, RETURN = 0x20, 0x05, 0x15, 0x06
    ALLOWED, ENDED = 0x7FFF0000, 0x80000000
    steps = (
        (LOAD, 0, 0, 4), (EQUAL, 0, 9, architecture),
        (LOAD, 0, 0, 0), (EQUAL, 1, 0, connect), (EQUAL, 2, 6, send_to),
        (LOAD, 0, 0, 32), (JUMP, 0, 0, 1), (LOAD, 0, 0, 56),
        (EQUAL, 1, 0, 16), (EQUAL, 0, 1, 28),
        (RETURN, 0, 0, ENDED), (RETURN, 0, 0, ALLOWED),
    )
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    packed = ctypes.create_string_buffer(packed)
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(packed))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    words = [ctypes.c_ulong(0)] * 3
    assert prctl(38, ctypes.c_ulong(1), *words) == 0  # No new privileges.
    # Where a container forbids it, the other way to notice is left.
    prctl(22, ctypes.c_ulong(2), ctypes.create_string_buffer(program), *words[:2])

forbid_in_compiled_code()

def forbid(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.bind"):
        os.write(2, f"NETWORK: {event} {arguments}".encode())
        os._exit(99)
    if event == "import" and arguments[0] == "onnxruntime":
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

sys.addaudithook(forbid)
from emotion_cnn.cli import main
assert main(["predict", "--source=photos", "--save=none", "--output=plain"]) == 0
unneeded = {"IPython", "jax", "matplotlib", "pandas", "scipy", "sklearn", "torch"}
assert not unneeded & sys.modules.keys(), unneeded & sys.modules.keys()
for arguments in (["--source=photos"], ["--source=photos", "--faces=cropped"]):
    flags = ["--save=images,faces,sheet", "--explain", "--output", arguments[-1][2:]]
    assert main(["predict", *arguments, *flags]) == 0
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""


@pytest.mark.slow
def test_nothing_is_asked_of_a_network_or_imported_in_vain(photos, workplace):
    """The shipped network and the real detector, from the import on."""
    ours = ("ORT_DISABLE_TELEMETRY", "TF_CPP_MIN_LOG_LEVEL")
    environment = {name: os.environ[name] for name in os.environ if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_NETWORK)],
        cwd=workplace,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "NETWORK" not in done.stderr
    assert done.returncode == 0, done.stderr
    # Nothing of TensorFlow's either.
    assert done.stderr == ""
    assert len(table("faces=cropped")) == 3
