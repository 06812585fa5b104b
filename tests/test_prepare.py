"""The command prepare: what it writes, what it leaves unchanged, and what it prints."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults import importing as campaign
from emotion_cnn.cli import main
from emotion_cnn.commands.prepare import PrepareSettings
from emotion_cnn.data import bad_images, folders
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.groups import find_groups
from emotion_cnn.data.listing import has_images
from emotion_cnn.data.splits import class_counts, official_parts, split_dataset
from emotion_cnn.data.votes import VOTE_COLUMNS
from emotion_cnn.errors import ConfigError, DataError, SourceError
from emotion_cnn.files import LOCK_NAME
from emotion_cnn.importing import grouping, staging
from emotion_cnn.importing.containers import open_container
from emotion_cnn.importing.copying import copy_images
from emotion_cnn.importing.data_folder import FolderWriter, write_record
from emotion_cnn.importing.formats import find_source
from emotion_cnn.importing.records import ClassNames, ImageRecord

ROOT = Path(__file__).resolve().parent.parent
USAGES = ("Training", "Training", "PublicTest", "PrivateTest")
FER_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
ROW_COUNT = 56


def face(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48)).astype(np.uint8)


def write_table(path: Path, *, count=ROW_COUNT, usage=True, bad=()) -> Path:
    """Rows of all labels; every fourth of the same usage."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels"] + ["Usage"] * usage)
        for row in range(count):
            pixels = " ".join(map(str, face(row).ravel().tolist()))
            label = row // 4 % 7
            cells = [9 if row in bad else label, pixels, USAGES[row % 4]]
            writer.writerow(cells[: 2 + usage])
    return path


def write_ferplus(path: Path, count=ROW_COUNT) -> Path:
    """All ten votes are for the label; row 5 was dropped, which shifts names."""
    columns = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Usage", "Image name", *VOTE_COLUMNS])
        for row in range(count):
            votes = dict.fromkeys(VOTE_COLUMNS, 0)
            name = (*columns, "neutral")[row // 4 % 7]
            votes["NF" if row == 5 else name] = 10
            image = "" if row == 5 else f"fer{row - (row > 5):07}.png"
            writer.writerow([USAGES[row % 4], image, *votes.values()])
    return path


def prepare(*arguments: object) -> int:
    return main(["--mode", "prepare", *map(str, arguments)])


@pytest.fixture
def fails(capsys):
    def run(*arguments: object) -> str:
        assert prepare(*arguments) == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "fer2013.csv")


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; nothing where there is none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK_NAME
    }


def images(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


# --- what is written ---------------------------------------------------------


def test_a_table_becomes_a_data_folder(table, tmp_path, capsys):
    data = tmp_path / "data"
    assert prepare("--source", table, "--data", data) == 0
    found = images(data)
    assert len(found) == ROW_COUNT
    for row in range(ROW_COUNT):
        usage, emotion = USAGES[row % 4], FER_ORDER[row // 4 % 7]
        part = "train" if usage == "Training" else "test"
        image = found[f"{part}/{emotion}/{usage}_{row:07}.png"]
        assert image.dtype == np.uint8
        assert np.array_equal(image, face(row))
    others = {name for name in contents(data) if not name.endswith(".png")}
    assert others == {"dataset.json", ".gitignore"}
    assert (data / ".gitignore").read_text() == "*\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fer2013.csv"]
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert max(len(line.replace(str(tmp_path), "")) for line in lines[1:]) <= 80
    assert lines[3].split() == ["train", "PublicTest", "PrivateTest", "total"]
    assert lines[4].split() == ["angry", "4", "2", "2", "8"]
    assert lines[11].split() == ["total", "28", "14", "14", "56"]
    assert len(lines) == 13


def test_training_reads_what_was_written(table, tmp_path):
    prepare("--source", table, "--data", tmp_path / "data")
    train, test, notes = read_splits(tmp_path / "data", skip_bad=False)
    assert notes == ()
    assert len(train) == 28
    assert [len(part) for part in official_parts(test).values()] == [14, 14]


def test_dataset_json(table, tmp_path):
    data = tmp_path / "data"
    prepare("--source", table, "--data", data, "--classes", "0=angry,1=disgust")
    assert prepare("--source", table, "--data", data, "--replace") == 0
    text = (data / "dataset.json").read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)
    assert list(record["counts"]) == ["train", "test"]
    assert record["counts"]["test"] == dict.fromkeys(EMOTIONS, 4)
    assert list(record["usages"]) == ["Training", "PublicTest", "PrivateTest"]
    assert record["images"] == ROW_COUNT
    assert record["source"]["name"] == "fer2013.csv"
    assert record["options"]["split"] == "of the source"
    digest = subprocess.run(
        ["sha256sum", str(table)],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    assert record["source"]["sha256"] == digest.stdout.split()[0]


def test_without_a_split_every_class_gives_a_share(tmp_path, capsys):
    table, data = write_table(tmp_path / "train.csv", usage=False), tmp_path / "data"
    assert prepare("--source", table, "--data", data, "--test-share", "0.25") == 0
    found = images(data)
    for emotion in EMOTIONS:
        names = [n for n in found if f"/{emotion}/" in n]
        assert sum(n.startswith("test/") for n in names) == 2
        assert len(names) == 8
    for name, image in found.items():
        prefix, _, row = Path(name).stem.partition("_")
        assert prefix == ("Test" if name.startswith("test/") else "Training")
        assert np.array_equal(image, face(int(row)))
    record = json.loads((data / "dataset.json").read_text())
    assert record["options"]["split"] == "0.25 of every class to test, seed 42"
    assert record["counts"]["test"] == dict.fromkeys(EMOTIONS, 2)
    assert capsys.readouterr().out.splitlines()[3].split() == ["train", "test", "total"]
    again = tmp_path / "again"
    prepare("--source", table, "--data", again, "--test-share", "0.25")
    assert list(images(again)) == list(found)
    other = tmp_path / "other"
    prepare("--source", table, "--data", other, "--test-share", "0.25", "--seed", "1")
    assert list(images(other)) != list(found)


def test_a_table_without_test_images_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(globals(), "USAGES", ("Training",) * 4)
    table = write_table(tmp_path / "fer2013.csv")
    assert prepare("--source", table, "--data", tmp_path / "data") == 0
    out = capsys.readouterr().out
    assert "\nno images for test/: training needs some. A table without" in out
    shown = out.replace(str(tmp_path), "").splitlines()
    assert max(map(len, shown[1:])) <= 80


def test_a_tree_without_a_split(tmp_path, capsys):
    for name in ("anger", "contempt", "fear"):
        (tmp_path / "CK+48" / name).mkdir(parents=True)
        for number in range(5):
            path = tmp_path / "CK+48" / name / f"S{number}.png"
            Image.new("RGB", (60, 50), (number, 0, 0)).save(path)
    (tmp_path / "CK+48/Fear").mkdir()
    Image.new("L", (48, 48), 77).save(tmp_path / "CK+48/Fear/s0.jpg")
    assert prepare("--source", tmp_path / "CK+48", "--data", tmp_path / "data") == 0
    names = [Path(name).parts[1:] for name in images(tmp_path / "data")]
    # Fear/ comes before fear/, and file systems may not tell s0 and S0 apart.
    fear = ["S0-2.png", "S1.png", "S2.png", "S3.png", "S4.png", "s0.png"]
    assert sorted(name for emotion, name in names if emotion == "fear") == fear
    assert len(names) == 11
    record = json.loads((tmp_path / "data/dataset.json").read_text())
    assert record["left_out"] == {"contempt": 5}
    out = capsys.readouterr().out
    assert "left out: 5 contempt\n" in out
    assert "10 of another size, 10 of another mode" in out
    assert "no images of disgust, happy, neutral, sad, surprise: training" in out


@pytest.mark.parametrize(("share", "part"), [(0, "train"), (1, "test")])
def test_none_or_all_becomes_test(tmp_path, capsys, share, part):
    table, data = write_table(tmp_path / "train.csv", usage=False), tmp_path / "data"
    assert prepare("--source", table, "--data", data, "--test-share", share) == 0
    found = images(data)
    assert len(found) == ROW_COUNT
    assert all(name.startswith(f"{part}/") for name in found)
    assert ": training needs some" in capsys.readouterr().out


def test_declared_classes(tmp_path, capsys):
    for name in ("cat", "Dog", "bird", "happy"):
        for number in range(5):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(face(number)).save(path)
    arguments = ("--source", tmp_path / "pets", "--data", tmp_path / "data")
    assert prepare(*arguments, "--classes", "dog,cat,tired,bird=tired") == 0
    record = json.loads((tmp_path / "data/dataset.json").read_text())
    assert record["classes"] == ["dog", "cat", "tired"]
    assert record["counts"]["train"] == {"dog": 4, "cat": 4, "tired": 4}
    assert record["left_out"] == {"happy": 5}
    assert "left out: 5 happy" in capsys.readouterr().out
    # An export of them comes back.
    table = tmp_path / "pets.csv"
    classes = ("--classes", "dog,cat,tired")
    assert prepare("--source", tmp_path / "data", "--export", table, *classes) == 0
    again = ("--source", table, "--data", tmp_path / "again")
    assert prepare(*again, *classes) == 0
    assert list(images(tmp_path / "again")) != []
    assert contents(tmp_path / "again/train") == contents(tmp_path / "data/train")


def test_contempt_as_an_eighth_class(tmp_path):
    """And a number that is given adds to those that are known."""
    table = write_table(tmp_path / "fer2013.csv")
    pixels = " ".join(["9"] * 2304)
    with table.open("a") as file:
        file.write(f"7,{pixels},Training\n")
    arguments = ("--source", table, "--data", tmp_path / "data", "--replace")
    assert prepare(*arguments, "--classes", "7=contempt") == 0
    record = json.loads((tmp_path / "data/dataset.json").read_text())
    assert (record["images"], record["left_out"]) == (ROW_COUNT, {"contempt": 1})
    eight = ",".join((*EMOTIONS, "contempt", "7=contempt"))
    assert prepare(*arguments, "--classes", eight) == 0
    record = json.loads((tmp_path / "data/dataset.json").read_text())
    assert record["images"] == ROW_COUNT + 1
    assert record["counts"]["train"]["contempt"] == 1


# --- groups ------------------------------------------------------------------


def sequences(folder: Path, name: str, people: int = 10) -> Path:
    """Images of people, each with every emotion twice; a blank in the name is both."""
    for person in range(people):
        for label, emotion in enumerate(EMOTIONS):
            for number in range(2):
                path = folder / name.format(
                    emotion=emotion, p=person, n=10 * label + number
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 100 * person + 10 * label + number
                Image.fromarray(face(seed)).save(path)
    return folder


NAMES_OF_PEOPLE = {
    "{emotion}/S{p:03}_001_{n:08}.png": (),
    "{emotion}/test_s{p:03}_001_{n:08}_x.png": (),
    "P{p:03}/{emotion}/{n}.png": ("--group-by", "1"),
    "{emotion}/x/P{p:03}/{n}.png": ("--group-by", "-1"),
    "{emotion}/{n}-of-person-{p}.png": ("--group-by", "person-([0-9]+)"),
    "{emotion}/{p}_{n}.png": ("--group-by", "^[0-9]+"),
}


@pytest.mark.parametrize("name", NAMES_OF_PEOPLE)
def test_people_are_on_one_side_of_every_split(tmp_path, name, capsys):
    source, data = sequences(tmp_path / "source", name), tmp_path / "data"
    options = NAMES_OF_PEOPLE[name]
    for seed in ("1", "2"):
        arguments = ("--source", source, "--data", data, "--replace", *options)
        assert prepare(*arguments, "--seed", seed) == 0
        assert ": 10, each kept on one side of a split" in capsys.readouterr().out
        groups = find_groups(data, [])
        assert set(groups) == set(images(data))
        train, test, _ = read_splits(data, skip_bad=False)
        assert len(test) == 28
        split = split_dataset(train, test, validation_share=0.1, seed=3, groups=groups)
        assert "groups kept together" in split.validation_source
        parts = [
            {groups[name] for name in part.names}
            for part in (split.train, split.validation, split.test)
        ]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10
        assert len(split.validation) == 14
        # Every class is in every part, as far as groups allow.
        assert all(class_counts(part).values() for part in (split.train, test))
    assert json.loads((data / "dataset.json").read_text())["options"]["groups"]


def test_known_people_are_held_out_together_without_an_import(tmp_path):
    names = ("{emotion}/S{p:03}_001_{n:08}.png", "{emotion}/mine{p}x{n}.png")
    for part, people in (("train", 8), ("test", 2)):
        for name in names:
            sequences(tmp_path / part, name, people)
    train, test, _ = read_splits(tmp_path, skip_bad=False)
    groups = find_groups(tmp_path, train.names)
    data = split_dataset(train, test, validation_share=0.2, seed=1, groups=groups)
    assert "groups kept together" in data.validation_source
    held_out, trained = (
        {name.split("/")[2].split("_")[0] for name in part.names if "/S" in name}
        for part in (data.validation, data.train)
    )
    assert held_out
    assert len(held_out) + len(trained) == len(held_out | trained) == 8


def test_known_people_beside_others_are_kept_together(tmp_path, capsys):
    names = ("{emotion}/S{p:03}_001_{n:08}.png", "{emotion}/mine{p}x{n}.png")
    for name, people in zip(names, (5, 20), strict=True):
        sequences(tmp_path / "source", name, people)
    assert prepare("--source", tmp_path / "source", "--data", tmp_path / "data") == 0
    output = capsys.readouterr().out
    assert "groups by the names of CK+: 5, each kept" in output
    assert "280 images are of no group: each is its own" in output
    found = find_groups(tmp_path / "data", [])
    sides = {(group, path.partition("/")[0]) for path, group in found.items()}
    assert len(found) == 70
    assert len(sides) == 5


def test_groups_that_cannot_be_kept(tmp_path, fails, monkeypatch):
    name = "{emotion}/{p}_" + 40 * "a" + "_{n}.png"
    source = sequences(tmp_path / "source", name, people=2)
    arguments = ("--source", source, "--data", tmp_path / "data", "--group-by")
    message = fails(*arguments, "nobody")
    assert "by the expression nobody, found none in the names of 28 images" in message
    assert "Change --group-by." in message
    assert "Expected at least two groups of images" in fails(*arguments, "_")
    monkeypatch.setattr(grouping, "_SECONDS", 1)
    assert "within 1 seconds" in fails(*arguments, "(a+)+x")
    assert not (tmp_path / "data").exists()


def test_groups_on_both_sides_of_a_source_s_own_split(tmp_path, capsys):
    for part in ("train", "test"):
        sequences(tmp_path / "source", part + "/{emotion}/S{p:03}_001_{n:08}.png", 2)
    assert prepare("--source", tmp_path / "source", "--data", tmp_path / "data") == 0
    assert "2 of these groups are on both sides" in capsys.readouterr().out


def test_other_classes(tmp_path):
    """As a library: a source, a writer and a tally that know their classes."""
    for label, name in enumerate(("Dog", "cat", "bird")):
        for number in range(4 if name != "bird" else 0):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(face(10 * label + number)).save(path)
    classes = ("dog", "bird", "cat")
    container = open_container(tmp_path / "pets")
    source = find_source(container, ClassNames({}, classes))
    writer = FolderWriter(tmp_path, classes)
    counts = copy_images(source, writer, None, skip_bad=False)
    writer.split(counts, test_share=0.25, seed=1)
    write_record(tmp_path, {}, counts)
    assert counts.usages == ["Training", "Test"]
    expected = {"dog": 3, "bird": 0, "cat": 3}
    record = json.loads((tmp_path / "dataset.json").read_text())
    assert record["counts"]["train"] == record["usages"]["Training"] == expected
    assert record["counts"]["test"] == {"dog": 1, "bird": 0, "cat": 1}
    assert counts.format_notes() == [
        "no images of bird: training takes the other classes"
    ]
    rows = [line.split() for line in counts.format_counts().splitlines()]
    assert rows == [
        ["train", "test", "total"],
        ["dog", "3", "1", "4"],
        ["bird", "0", "0", "0"],
        ["cat", "3", "1", "4"],
        ["total", "6", "2", "8"],
    ]
    # Every class needs images, so bird is left out here.
    train, _, _ = read_splits(tmp_path, skip_bad=False, classes=("cat", "dog"))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_one_name_for_all_images(tmp_path, monkeypatch):
    """In a time that does not grow with the square of their number."""
    monkeypatch.setattr(Image.Image, "save", lambda *arguments, **options: None)
    writer, image = FolderWriter(tmp_path), face(1)
    start = time.process_time()
    for row in range(16_000):
        writer.write(ImageRecord(image, 0, "Test", "a", row, "p", (1,) * 10), (1,) * 10)
    assert time.process_time() - start < 60
    writer.write_votes()
    assert len(votes_of(tmp_path)) == 16_000


def test_no_image_replaces_another_in_a_split(tmp_path):
    """Rows without a name are called after their part, as another's name may be."""
    table = write_table(tmp_path / "t.csv", count=28, usage=False)
    lines = table.read_text().splitlines()
    named = [f"{row},{'' if n % 2 else f'Test_{n:07}'}" for n, row in enumerate(lines)]
    table.write_text("\n".join([lines[0] + ",name", *named[1:]]) + "\n")
    data = tmp_path / "data"
    for seed in range(5):
        prepare("--source", table, "--data", data, "--seed", seed, "--replace")
        assert len(images(data)) == 28


def test_messages_of_the_library_name_settings(tmp_path):
    bad = write_table(tmp_path / "bad.csv", bad=(3,))
    source = find_source(open_container(bad), ClassNames({}))
    writer = FolderWriter(tmp_path / "new")
    with pytest.raises(SourceError) as caught:
        copy_images(source, writer, None, skip_bad=False)
    lines = str(caught.value).splitlines()
    assert lines[1].endswith("label '9' (`classes` says what labels stand for)")
    assert lines[2].endswith("leave them out with `skip_bad=True`.")
    (tmp_path / "a.csv").write_text("mine")
    with (
        pytest.raises(DataError, match=r"in `export`, .*with `replace=True`\."),
        staging.staged_file(tmp_path / "a.csv", replace=False),
    ):
        pass


# --- bad rows ----------------------------------------------------------------


def test_bad_rows_stop_an_import_and_are_all_named(tmp_path, fails):
    table = write_table(tmp_path / "fer2013.csv", bad=(3, 50))
    message = fails("--source", table, "--data", tmp_path / "data")
    assert message.splitlines() == [
        "error: 2 bad rows or files:",
        "  row 3 (line 5): unknown label '9' (--classes says what labels stand for)",
        "  row 50 (line 52): unknown label '9' (--classes says what labels stand for)",
        "Fix the source, or leave them out with --skip-bad.",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013.csv"]


def test_bad_rows_are_skipped_and_listed(tmp_path, capsys):
    table = write_table(tmp_path / "fer2013.csv", bad=(3,))
    with table.open("a") as file:
        file.write("0,1 2 3")
    data = tmp_path / "data"
    assert prepare("--source", table, "--data", data, "--skip-bad") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-3] == "skipped: 2 bad rows or files:"
    assert out[-1].startswith("  row 56 (line 58): 2 columns instead of 3; the file e")
    assert len(images(data)) == ROW_COUNT - 1
    record = json.loads((data / "dataset.json").read_text())
    assert record["bad"]["count"] == 2
    assert record["bad"]["first"][0].startswith("row 3 (line 5): unknown label")


def test_a_long_list_of_bad_rows_goes_to_a_file(tmp_path, fails, monkeypatch):
    monkeypatch.setattr(bad_images, "LISTED_AT_MOST", 3)
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "fer2013.csv", bad=range(20))
    lines = fails("--source", table, "--data", tmp_path / "data").splitlines()
    assert lines[0] == "error: 20 bad rows or files:"
    (listed,) = tmp_path.glob("bad-images-*.txt")
    named = f"... and 17 more, listed in {listed.name} in the working folder"
    assert lines[4] == f"  {named}"
    assert len(listed.read_text().splitlines()) == 20


def test_one_bad_row_is_one(tmp_path, fails):
    table = write_table(tmp_path / "fer2013.csv", bad=(3,))
    message = fails("--source", table, "--data", tmp_path / "data")
    assert message.startswith("error: 1 bad row or file:\n")


def test_what_readers_make_in_a_clone_is_ignored_by_git():
    names = ("dataset.json", "votes.csv", "audit.json", "my.csv", "bad-images-2.txt")
    paths = (*names, ".prepare-writing-1-2/new/a.png", "faces/.prepare-filling-1-2/a")
    if not (ROOT / ".git").exists():
        pytest.skip("no clone")
    command = ["git", "check-ignore", "--no-index", *paths]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == list(paths)


def test_a_source_without_images(tmp_path, fails):
    (tmp_path / "t.csv").write_text("emotion,pixels\n")
    message = fails("--source", tmp_path / "t.csv", "--data", tmp_path / "data")
    assert "Expected images in --source, found none (nothing was left" in message


# --- all or nothing ----------------------------------------------------------


def test_a_folder_with_images_is_refused_unless_replaced(table, tmp_path, fails):
    data = tmp_path / "data"
    (data / "train/happy").mkdir(parents=True)
    (data / "train/README.md").write_text("read me")
    (data / "mine.txt").write_text("mine")
    Image.new("L", (48, 48)).save(data / "train/happy/old.webp")
    before = contents(data)
    message = fails("--source", table, "--data", data)
    assert f"found {data / 'train/happy/old.webp'}. Choose another" in message
    assert "with --replace" in message
    assert contents(data) == before
    assert prepare("--source", table, "--data", data, "--replace") == 0
    after = contents(data)
    assert "train/happy/old.webp" not in after
    assert after["train/README.md"] == b"read me"
    assert after["mine.txt"] == b"mine"
    assert len(images(data)) == ROW_COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fer2013.csv"]


def test_a_clone_s_own_files_stay(table, tmp_path):
    data = tmp_path / "clone"
    for part in ("train", "test"):
        (data / part).mkdir(parents=True)
        (data / part / "README.md").write_text(part)
    assert prepare("--source", table, "--data", data) == 0
    for part in ("train", "test"):
        assert (data / part / "README.md").read_text() == part
    assert not (data / ".gitignore").exists()


@pytest.mark.parametrize("name", ["votes.csv", "audit.json"])
def test_old_records_are_refused_and_replaced(table, tmp_path, fails, name):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_text("old")
    assert f"found {path}" in fails("--source", table, "--data", tmp_path / "data")
    prepare("--source", table, "--data", tmp_path / "data", "--replace")
    assert not path.exists()


def test_a_failing_import_changes_nothing(table, tmp_path, fails):
    data = tmp_path / "data"
    prepare("--source", table, "--data", data)
    before = contents(data)
    bad = write_table(tmp_path / "bad.csv", bad=(55,))
    fails("--source", bad, "--data", data, "--replace")
    assert contents(data) == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bad.csv", "data", "fer2013.csv"]


SLOWLY = """
import signal
# A shell that starts pytest in the background makes it ignore Ctrl-C, and that
# is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys, time
from emotion_cnn.cli import main
from emotion_cnn.importing.data_folder import FolderWriter
write = FolderWriter.write
def slow(*arguments):
    write(*arguments)
    time.sleep(0.05)
FolderWriter.write = slow
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", SLOWLY, "--mode", "prepare", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def wait_for_images(folder: Path, pattern: str) -> None:
    end = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_an_import_killed_half_way(table, tmp_path, fails):
    data = tmp_path / "data"
    small = write_table(tmp_path / "small.csv", count=28)
    prepare("--source", small, "--data", data)
    before = contents(data)
    process = start("--source", table, "--data", data, "--replace")
    wait_for_images(data, ".prepare-*/**/*.png")
    message = fails("--source", table, "--data", data, "--replace")
    assert "is needed for an import, but one is. Wait until it ends" in message
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert before.items() <= contents(data).items()
    assert list(data.glob(".prepare-*/**/*.png"))
    assert prepare("--source", table, "--data", data, "--replace") == 0
    assert len(images(data)) == ROW_COUNT
    assert not list(data.glob(".prepare-*"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_ctrl_c_leaves_nothing_behind(table, tmp_path):
    data = tmp_path / "data"
    process = start("--source", table, "--data", data)
    wait_for_images(data, ".prepare-*/**/*.png")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013.csv"]


@pytest.fixture(scope="module")
def replacing(tmp_path_factory):
    """An import that replaces an old data set; and its changes of the file system."""
    case = campaign.Import(tmp_path_factory.mktemp("import"), has_old=True)
    campaign.count_changes(case)
    return case, campaign.faults.events


def renamings(case: campaign.Import, events: list[str]):
    """Kills the import at every renaming; yields the working folder that is left."""
    for at, event in enumerate(events):
        if event.startswith("os.rename"):
            case.reset()
            campaign.killed_at(case, at)
            for work in case.data.glob(".prepare-*-*-*"):
                yield work, work.name.split("-")[1]


@pytest.mark.slow
def test_killed_before_any_change_of_the_file_system(replacing):
    """Old or new are whole, readers read nothing else, and the next command ends it."""
    case, events = replacing
    assert len(events) > 90
    for at, event in enumerate(events):
        case.reset()
        campaign.killed_at(case, at, leaves_empty=at % 2 == 0)
        assert case.after() == "", f"killed at {event}"


def test_killed_while_old_is_replaced_by_new(replacing):
    case, events = replacing
    phases = []
    for _, phase in renamings(case, events):
        if phase in ("clearing", "filling"):
            with pytest.raises(DataError, match="not put it into its place"):
                has_images(case.data)
        phases.append(phase)
        assert case.after() == ""
    # Five are moved out, and three in.
    assert phases.count("clearing") == 5 + 1
    assert phases.count("filling") == 3 + 1


@pytest.mark.parametrize(
    ("fault", "code"), [(campaign.full_disk, 2), (KeyboardInterrupt, 130)]
)
def test_one_message_for_a_full_disk_and_for_ctrl_c(replacing, fault, code):
    case, events = replacing
    for at in range(0, len(events), 11):
        case.reset()
        with campaign.faults.at(at, fault):
            found, message = case.run()
        assert found in (code, 0)
        assert len(message.strip().splitlines()) == (found > 0)
        assert case.visible() in (case.old, case.new)
        assert case.after() == ""


def test_no_other_import_begins_meanwhile(replacing):
    case, events = replacing
    answers = []

    def start_another():
        campaign.faults.is_on = False
        arguments = ("--source", case.old_table, "--data", case.data, "--replace")
        answers.append(campaign.prepare(*arguments))
        campaign.faults.is_on = True

    first = next(at for at, event in enumerate(events) if ".prepare-" in event)
    for at in (first, len(events) // 2, len(events) - 1):
        case.reset()
        with campaign.faults.at(at, start_another):
            assert case.run() == (0, "")
        assert campaign.contents(case.data) == case.new
    assert len(answers) == 3
    for code, message in answers:
        assert code == 2
        assert "is needed for an import, but one is. Wait until it ends" in message


def test_what_only_looks_like_a_working_folder_is_left_alone(replacing, fails):
    case, events = replacing
    home = case.data.parent / "home"
    (home / "new/train").mkdir(parents=True)
    (home / "new/train/photo.png").write_bytes(b"mine")
    # Even one that was copied after a kill.
    names = {f".prepare-{phase}-1-1" for _, phase in renamings(case, events)}
    for name in [*names, ".prepare-0123456789abcdef", "link", LOCK_NAME]:
        case.reset()
        planted = case.data / name.replace("link", ".prepare-clearing-1-2")
        if name in ("link", LOCK_NAME):
            planted.symlink_to(home)
        else:
            shutil.copytree(home, planted)
        message = fails("--source", case.new_table, "--data", case.data, "--replace")
        assert planted.name in message
        assert (planted / "new/train/photo.png").exists()
        assert case.old.items() <= contents(case.data).items()
    assert (home / "new/train/photo.png").read_bytes() == b"mine"


def test_what_has_come_after_a_kill_is_kept(replacing, fails):
    case, events = replacing
    found = set()
    for work, phase in renamings(case, events):
        if phase == "clearing":
            is_between = (work / "old/train").exists()
        else:
            is_between = phase == "filling" and (work / "new/train").exists()
        if not is_between or phase in found:
            continue
        found.add(phase)
        (case.data / "train/sad").mkdir(parents=True)
        (case.data / "train/sad/mine.png").write_bytes(b"mine")
        arguments = ("--source", case.new_table, "--data", case.data, "--replace")
        assert f"{case.data / 'train'} has come since" in fails(*arguments)
        (case.data / "train").rename(case.data / "mine")
        assert prepare(*arguments) == 0
        assert (case.data / "mine/sad/mine.png").read_bytes() == b"mine"
        shutil.rmtree(case.data / "mine")
        assert campaign.contents(case.data) == case.new
    assert found == {"clearing", "filling"}


def test_links_are_moved_and_not_followed(table, tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (elsewhere / "sad").mkdir(parents=True)
    (elsewhere / "sad/a.png").write_bytes(b"mine")
    (elsewhere / "secret").write_text("secret")
    (data / "train").mkdir(parents=True)
    (data / "test").symlink_to(elsewhere)
    (data / "train/link").symlink_to(elsewhere / "secret")
    assert prepare("--source", table, "--data", data, "--replace") == 0
    assert (data / "train/link").is_symlink()
    assert not (data / "test").is_symlink()
    assert len(images(data)) == ROW_COUNT
    assert (elsewhere / "sad/a.png").read_bytes() == b"mine"


def test_images_replaced_while_they_are_read(replacing, monkeypatch):
    case, _ = replacing
    case.reset()
    decode = folders.decode_image

    def replace_first(*arguments):
        monkeypatch.setattr(folders, "decode_image", decode)
        assert case.run() == (0, "")
        return decode(*arguments)

    monkeypatch.setattr(folders, "decode_image", replace_first)
    with pytest.raises(DataError, match="were replaced while they were read"):
        read_splits(case.data, skip_bad=True)
    assert len(read_splits(case.data, skip_bad=True)[0]) == 14


def test_a_folder_that_cannot_be_written(table, tmp_path, fails):
    (tmp_path / "file").write_text("x")
    for options, reason in (
        (("--data", tmp_path / "file"), "it is a file. This import has replaced noth"),
        (("--data", tmp_path / "file/data"), "Not a directory. This"),
        (("--export", tmp_path / "none/a.csv"), "Create its folder, or choose another"),
    ):
        message = fails("--source", table, *options)
        assert " failed: " in message
        assert reason in message
        assert "space" not in message


def test_a_full_disk(table, tmp_path, fails, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    message = fails("--source", table, "--data", tmp_path / "data")
    assert (
        "failed: No space left on device. This import has replaced nothing" in message
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013.csv"]


# --- votes -------------------------------------------------------------------


def votes_of(data: Path) -> dict[str, list[int]]:
    with (data / "votes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", *VOTE_COLUMNS]
    return {row[0]: [int(cell) for cell in row[1:]] for row in rows[1:]}


def test_votes_by_row_number(table, tmp_path, capsys):
    data, ferplus = tmp_path / "data", write_ferplus(tmp_path / "fer2013new.csv")
    assert prepare("--source", table, "--data", data, "--ferplus", ferplus) == 0
    votes = votes_of(data)
    assert set(votes) == set(images(data))
    assert votes["train/disgust/Training_0000005.png"] == [0] * 9 + [10]
    assert votes["test/fear/PublicTest_0000010.png"][6] == 10
    assert "votes: on 56 of 56 images; the majority is" in capsys.readouterr().out
    record = json.loads((data / "dataset.json").read_text())
    assert record["votes"]["crowd_agrees_with_label"] == 55
    assert record["options"]["rows_found_by"] == "row numbers"


@pytest.fixture
def folder(tmp_path):
    """Images as Kaggle has them: JPEG, in numbers that are no rows."""
    rows = {}
    for row in range(ROW_COUNT):
        usage, emotion = USAGES[row % 4], FER_ORDER[row // 4 % 7]
        part = "train" if usage == "Training" else "test"
        name = f"{part}/{emotion}/{usage}_{7_654_321 + 97 * row}.jpg"
        path = tmp_path / "kaggle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Noise is not what JPEG is for: faces are blurred, and so are these.
        image = Image.fromarray(face(row)).resize((6, 6)).resize((48, 48), 3)
        image.save(path, quality=95)
        rows[name] = row
    return tmp_path / "kaggle", rows


def test_votes_by_a_list(folder, tmp_path):
    source, rows = folder
    ferplus = write_ferplus(tmp_path / "fer2013new.csv")
    for reading in ("row numbers", "numbers of FER+'s image names"):
        with (tmp_path / "rows.csv").open("w") as file:
            file.write("image,row\n")
            for name, row in rows.items():
                number = row if reading == "row numbers" else row - (row > 5)
                if row != 5:
                    file.write(f"{name},{number}\n")
        data = tmp_path / reading
        listed = ("--ferplus-rows", tmp_path / "rows.csv")
        options = ("--ferplus", ferplus, *listed)
        assert prepare("--source", source, "--data", data, *options) == 0
        record = json.loads((data / "dataset.json").read_text())
        assert record["votes"]["images"] == ROW_COUNT - 1
        assert record["votes"]["crowd_agrees_with_label"] == ROW_COUNT - 1
        assert record["options"]["rows_found_by"] == f"a list of {reading}"


def test_votes_by_ferplus_s_own_names(tmp_path):
    """Without row 5, whose image was dropped: later numbers are not those of rows."""
    for row in range(ROW_COUNT):
        usage, emotion = USAGES[row % 4], FER_ORDER[row // 4 % 7]
        part = "train" if usage == "Training" else "test"
        start = "FER" if row % 2 else "fer"
        path = tmp_path / f"own/{part}/{emotion}/{start}{row - (row > 5):07}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if row != 5:
            Image.fromarray(face(row)).save(path)
    ferplus = write_ferplus(tmp_path / "fer2013new.csv")
    arguments = ("--source", tmp_path / "own", "--data", tmp_path / "data")
    assert prepare(*arguments, "--ferplus", ferplus) == 0
    record = json.loads((tmp_path / "data/dataset.json").read_text())
    assert record["votes"]["images"] == ROW_COUNT - 1
    assert record["votes"]["crowd_agrees_with_label"] == ROW_COUNT - 1


def test_votes_that_cannot_be_joined(folder, tmp_path, fails):
    source, _ = folder
    ferplus = write_ferplus(tmp_path / "fer2013new.csv")
    arguments = ("--source", source, "--data", tmp_path / "data", "--ferplus", ferplus)
    message = fails(*arguments)
    assert "Expected to find the rows of images by row numbers, found none" in message
    assert "name the row of each image with --ferplus-rows." in message


# --- the round trip ----------------------------------------------------------


def test_folder_to_table_to_folder(folder, tmp_path):
    source, rows = folder
    ferplus = write_ferplus(tmp_path / "fer2013new.csv")
    lines = [f"{name},{row}\n" for name, row in rows.items() if row % 3 and row != 5]
    (tmp_path / "rows.csv").write_text("image,row\n" + "".join(lines))
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    listed = ("--ferplus", ferplus, "--ferplus-rows", tmp_path / "rows.csv")
    assert prepare("--source", source, "--data", first, *listed) == 0
    assert prepare("--source", first, "--export", tmp_path / "a.csv") == 0
    assert prepare("--source", tmp_path / "a.csv", "--data", second) == 0
    assert prepare("--source", second, "--data", third) == 0
    expected = contents(first)
    expected.pop("dataset.json")
    assert len(votes_of(first)) == len(lines)
    for data in (second, third):
        assert {n: c for n, c in contents(data).items() if n != "dataset.json"} == (
            expected
        )
    assert prepare("--source", third, "--export", tmp_path / "b.csv") == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_an_exported_table_keeps_the_rows_it_came_from(table, tmp_path):
    data = tmp_path / "data"
    prepare("--source", table, "--data", data)
    (data / "train/angry/Training_0000000.png").unlink()
    prepare("--source", data, "--export", tmp_path / "a.csv")
    ferplus = write_ferplus(tmp_path / "fer2013new.csv")
    again = tmp_path / "again"
    assert (
        prepare("--source", tmp_path / "a.csv", "--data", again, "--ferplus", ferplus)
        == 0
    )
    assert set(votes_of(again)) == set(images(data)) == set(images(again))
    assert votes_of(again)["train/disgust/Training_0000005.png"][9] == 10


def test_an_exported_table_is_one_of_fer2013_s(table, tmp_path):
    prepare("--source", table, "--export", tmp_path / "a.csv")
    with table.open() as expected, (tmp_path / "a.csv").open() as found:
        rows = [{k: r[k] for k in r if k != "name"} for r in csv.DictReader(found)]
        assert rows == list(csv.DictReader(expected))


def test_without_a_split_there_is_none_in_the_export(tmp_path, capsys):
    table = write_table(tmp_path / "train.csv", usage=False)
    prepare("--source", table, "--export", tmp_path / "a.csv")
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == "emotion,pixels,name"
    assert capsys.readouterr().out.splitlines()[3].split() == ["images", "total"]


def test_an_export_replaces_nothing_unasked(table, tmp_path, fails):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    assert "a.csv exists" in fails("--source", table, "--export", path)
    bad = write_table(tmp_path / "bad.csv", bad=(55,))
    fails("--source", bad, "--export", path, "--replace")
    assert path.read_text() == "mine"
    assert prepare("--source", table, "--export", path, "--replace") == 0
    assert path.read_text().startswith("emotion,pixels,Usage,name\n")
    assert not list(tmp_path.glob(".*"))
    message = fails("--source", table, "--export", tmp_path / "none" / "a.csv")
    assert "failed: No such file or directory" in message


# --- settings ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Expected `source`, which says what to import"),
        ({"source": "a", "data": "b", "export": "c"}, "leave one of them out"),
        ({"source": "a", "data": "sample"}, "built-in drawn faces"),
        (
            {"source": "a", "ferplus_rows": "b"},
            "`ferplus_rows` says which votes belong",
        ),
        ({"source": "a", "classes": "1"}, "names 2 to 100 classes"),
        ({"source": "a", "classes": "1=bored"}, "sad, surprise, contempt, none;"),
        ({"source": "a", "classes": "1=bored"}, "such as cat,dog,1=cat,2=dog"),
        ({"source": "a", "classes": "cat,dog,Cat"}, "the class Cat twice"),
        ({"source": "a", "classes": "happy,sad,joy"}, "the class happy twice"),
        ({"source": "a", "classes": "cat,dog,cat=dog"}, "two meanings, cat and dog"),
        ({"source": "a", "classes": "cat,dog,1=sad"}, "cat, dog, contempt, none;"),
        ({"source": "a", "classes": "cat,a/b"}, "found 'a/b'"),
        ({"source": "a", "classes": "cat,None"}, "no class can be called that"),
        ({"source": "a", "group_by": "(x"}, "found '(x' (missing ), unterminated"),
        ({"source": "a", "group_by": "x" * 1001}, "more than 1,000 characters"),
        ({"source": "a", "export": "b", "group_by": "1"}, "leave one of them out"),
        ({"source": "a", "test_share": 1.1}, "test_share"),
        ({"source": "a", "classes": "=sad"}, "found '=sad'"),
        ({"source": "a", "classes": "1=sad,1=fear"}, "two meanings, sad and fear"),
    ],
)
def test_settings_that_do_not_work(settings, message):
    with pytest.raises(ConfigError) as caught:
        PrepareSettings(**settings)
    assert message in str(caught.value)


def test_classes():
    settings = PrepareSettings(source="a", classes="1=Surprise, 2 = fear,8=contempt")
    expected = {"1": "surprise", "2": "fear", "8": "contempt"}
    assert settings.class_names() == expected


def test_no_keras_is_imported(table, tmp_path):
    code = (
        "import sys\nfrom emotion_cnn.cli import main\nmain(sys.argv[1:])\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'matplotlib', 'pyarrow'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    arguments = ["--mode", "prepare", "--source", table, "--data", tmp_path / "data"]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
