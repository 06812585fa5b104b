"""What an audit finds in a data folder and writes down, and what is read from it."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.audit import facts, near_duplicates, text
from emotion_cnn.audit.facts import Pair
from emotion_cnn.audit.near_duplicates import NearDuplicates
from emotion_cnn.audit.page import render_page
from emotion_cnn.cli import main
from emotion_cnn.data import loading
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import read_splits, survey
from emotion_cnn.data.loading import load_test_data
from emotion_cnn.data.near_duplicates import (
    KnownNearDuplicates,
    read_known_near_duplicates,
)
from emotion_cnn.data.splits import Split, fingerprint
from emotion_cnn.data.votes import VOTE_COLUMNS
from emotion_cnn.errors import DataError

UNRELATED = np.random.default_rng(7)


def face() -> np.ndarray:
    """Returns an image that is no near-duplicate of another, uint8 (48, 48)."""
    coarse = UNRELATED.integers(0, 256, (6, 6), np.uint8)
    return np.asarray(
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)
    )


def save(path: Path, image: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Three train and two test images of each emotion, near-duplicates among them."""
    data = tmp_path / "data"
    images = {}
    for part, names in (
        ("train", ("Training_0", "Training_1", "Training_2")),
        ("test", ("PublicTest_0", "PrivateTest_1")),
    ):
        for emotion in EMOTIONS:
            for name in names:
                images[f"{part}/{emotion}/{name}"] = face()
    same = images["train/angry/Training_0"]
    images["test/angry/PublicTest_0"] = same
    images["test/fear/PrivateTest_1"] = images["train/happy/Training_1"][:, ::-1]
    images["train/sad/Training_2"] = images["train/neutral/Training_2"]
    images["test/sad/PublicTest_0"] = images["test/sad/PrivateTest_1"]
    for name in ("train/disgust/Training_0", "test/disgust/PublicTest_0"):
        images[name] = np.full((48, 48), 9, np.uint8)
    for name, image in images.items():
        save(data / f"{name}.png", image)
    # The same image as a JPEG: the noise is a few gray levels.
    noisy = data / "test/surprise/PrivateTest_1.jpg"
    save(noisy, images["train/surprise/Training_1"], quality=60)
    (data / "test/surprise/PrivateTest_1.png").unlink()
    return data


ACROSS = {
    ("test/angry/PublicTest_0.png", "train/angry/Training_0.png"),
    ("test/fear/PrivateTest_1.png", "train/happy/Training_1.png"),
    ("test/surprise/PrivateTest_1.jpg", "train/surprise/Training_1.png"),
}


def audit(folder: Path, votes=None, **options) -> facts.Audit:
    return facts.audit_images("data", survey(folder), votes, **options)


def run(folder: Path, *arguments: object) -> dict:
    output = folder.parent / "out"
    words = ("--mode", "audit", "--data", folder, "--output", output, *arguments)
    assert main([str(word) for word in words]) == 0
    return json.loads((output / "audit.json").read_text(encoding="utf-8"))


# --- near-duplicates ---


def test_near_duplicates_across_the_split(folder):
    found = audit(folder)
    assert {(pair.image, pair.near_duplicate) for pair in found.across} == ACROSS
    copy, noisy, flipped = sorted(found.across, key=lambda p: (p.flipped, p.rmse))
    assert copy == Pair(*min(ACROSS), "angry", "angry", 0.0, False)
    assert 0 < noisy.rmse < 12
    assert (flipped.label, flipped.near_duplicate_label) == ("fear", "happy")
    assert (flipped.rmse, flipped.flipped) == (0, True)
    assert found.leave_out == tuple(sorted(train for _, train in ACROSS))
    assert found.test_with_near_duplicate_in_train == tuple(
        sorted(test for test, _ in ACROSS)
    )


def test_near_duplicates_within_a_part_and_conflicts(folder):
    found = audit(folder)
    (train,) = found.within_train
    assert {train.image, train.near_duplicate} == {
        "train/neutral/Training_2.png",
        "train/sad/Training_2.png",
    }
    (test,) = found.within_test
    assert test.label == test.near_duplicate_label == "sad"
    assert [pair.image for pair in found.conflicts] == [
        "test/fear/PrivateTest_1.png",
        train.image,
    ]


def test_blank_images_are_listed_and_have_no_near_duplicates(folder):
    found = audit(folder)
    assert found.blank == {
        "train/disgust/Training_0.png": 0.0,
        "test/disgust/PublicTest_0.png": 0.0,
    }
    named = {
        name for pair in found.across for name in (pair.image, pair.near_duplicate)
    }
    assert not named & set(found.blank)


def test_counts_of_near_duplicates(folder):
    found = audit(folder)
    last = {
        relation: counts[-1] for relation, counts in found.near_duplicate_counts.items()
    }
    assert list(found.near_duplicate_counts) == list(facts.RELATIONS)
    for relation in ("test_in_train", "train_in_test"):
        copies = found.near_duplicate_counts[relation][0]
        assert dataclasses.astuple(copies) == (1, 2, 1, 1)
        assert dataclasses.astuple(last[relation]) == (12, 3, 1, 1)
    assert dataclasses.astuple(last["within_train"]) == (12, 2, 0, 2)
    assert dataclasses.astuple(last["within_test"]) == (12, 2, 0, 0)


def test_an_image_with_several_near_duplicates_counts_once():
    near_duplicates = NearDuplicates(
        np.array([0, 0, 0]),
        np.array([2, 3, 1]),
        np.array([0.5, 4.0, 9.0]),
        np.array([True, False, False]),
    )
    is_test = np.array([False, False, True, True])
    counts = facts.count_near_duplicates(
        near_duplicates, is_test, np.array([0, 0, 0, 5])
    )
    assert [dataclasses.astuple(row) for row in counts["train_in_test"]] == [
        (1, 1, 1, 0),
        (5, 1, 0, 1),
        (12, 1, 0, 1),
    ]
    assert [row.images for row in counts["test_in_train"]] == [1, 2, 2]
    assert [row.flipped_only for row in counts["test_in_train"]] == [1, 1, 1]
    assert [row.images for row in counts["within_train"]] == [0, 0, 2]


def test_train_against_test_alone(folder, capsys):
    every = audit(folder)
    found = audit(folder, against="test")
    across = ("across", "leave_out", "test_with_near_duplicate_in_train", "blank")
    for name in across:
        assert getattr(found, name) == getattr(every, name)
    assert found.within_train is found.within_test is None
    assert found.near_duplicate_counts == {
        relation: every.near_duplicate_counts[relation]
        for relation in ("test_in_train", "train_in_test")
    }
    assert found.conflicts == tuple(p for p in found.across if p.is_conflict) != ()
    written = run(folder, "--against", "test")
    assert (written["against"], written["within_train"]) == ("test", None)
    said = " ".join(capsys.readouterr().out.split())
    assert "near-duplicates within train and within test were not looked for" in said
    assert "train images with a near-duplicate in train" not in said
    page = (folder.parent / "out/audit.html").read_text()
    assert "near-duplicates within train and within test were not looked for" in page


def test_a_nearly_complete_search_says_so(folder, capsys):
    pytest.importorskip("faiss")
    every = audit(folder)
    found = run(folder, "--search", "nearly-complete")
    for name in ("leave_out", "near_duplicate_counts"):
        expected = json.loads(json.dumps(dataclasses.asdict(every)[name]))
        assert found[name] == expected
    assert (found["complete"], found["within_train"] != []) == (False, True)
    said = " ".join(capsys.readouterr().out.split())
    assert "The search for near-duplicates was nearly complete" in said
    assert every.complete
    assert "nearly complete" not in text.format_audit(every)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Install it: pip install faiss-cpu (emotion-cnn's extra `[faiss]`)."),
        (("--against", "test"), "--search nearly-complete is for --against all"),
    ],
)
def test_a_nearly_complete_search_that_cannot_be(
    folder, tmp_path, monkeypatch, capsys, flags, message
):
    # The work: not to be called.
    monkeypatch.setattr("emotion_cnn.data.folders.survey", None)
    monkeypatch.setitem(sys.modules, "faiss", None)
    words = ("audit", "--data", folder, "--output", tmp_path / "o", *flags)
    assert main([*map(str, words), "--search", "nearly-complete"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_of_very_many_images_the_quicker_ways_are_named(folder, monkeypatch, caplog):
    monkeypatch.setattr(facts, "_MANY", 30)
    audit(folder, against="test")
    assert not caplog.records
    audit(folder)
    (record,) = caplog.records
    assert record.getMessage().startswith("Comparing all of 33 images with all takes")
    assert "`against=test` and `search=nearly-complete`" in record.getMessage()


def load_training_data(folder: Path, **options):
    return loading.load_training_data(
        str(folder),
        labels="original",
        distribution=False,
        leave_out=str(folder.parent / "out"),
        skip_bad=False,
        validation_share=0.1,
        seed=1,
        vote_smoothing=0,
        **options,
    )


def test_train_against_test_is_enough_to_leave_out_but_not_for_folds(folder):
    run(folder, "--against", "test")
    data, _ = load_training_data(folder)
    assert len(data.train) == 18
    assert not set(data.train.names) & {train for _, train in ACROSS}
    with pytest.raises(DataError) as caught:
        load_training_data(folder, fold="1/2")
    message = str(caught.value)
    assert message.startswith("Expected an audit of all images against all")
    assert str(folder.parent / "out/audit.json") in message
    assert message.endswith("Run `emotion-cnn audit` again without `against`.")


def test_images_are_read_by_blocks_and_never_copied_whole(folder, monkeypatch):
    """As they may lie in a memory map, larger than the memory."""
    monkeypatch.setattr(facts, "_BLOCK", 4)
    monkeypatch.setattr(near_duplicates, "_ROWS", 4)
    monkeypatch.setattr(near_duplicates, "_CHUNK", 4)
    for path in folder.rglob("P*Test_*"):
        path.rename(path.with_name(path.name.replace("Test", "")))
    found = survey(folder)
    train, test = (
        dataclasses.replace(split, images=split.images.view(OnlyInBlocks))
        for split in (found.train, found.test)
    )
    lazy = dataclasses.replace(found, train=train, test=test)
    # It reads one after the other, and has tests of its own.
    monkeypatch.setattr(facts, "fingerprint", lambda split: "")
    expected = facts.audit_images("data", found, None)
    assert facts.audit_images("data", lazy, None) == expected
    created = datetime(2026, 1, 2, tzinfo=UTC)
    page = render_page(expected, lazy.train, lazy.test, created)
    assert page == render_page(expected, found.train, found.test, created)


class OnlyInBlocks(np.ndarray):
    """Images that are read when they are indexed, few at a time."""

    def __getitem__(self, key):
        part = np.asarray(self)[key]
        assert part.ndim == 3 or len(part) <= 4
        return part

    def __array_function__(self, function, *_):
        raise AssertionError(f"numpy.{function.__name__} of all images")

    def __array_ufunc__(self, function, *_, **__):
        raise AssertionError(f"numpy.{function.__name__} of all images")

    def __iter__(self):
        raise AssertionError("a walk over all images")


# --- classes and files ---


def test_counts_and_imbalance(folder):
    for number in range(3, 6):
        save(folder / f"train/happy/Training_{number}.png", face())
    found = audit(folder)
    assert list(found.counts) == ["train", "test", "PublicTest", "PrivateTest"]
    assert found.counts["train"] == dict.fromkeys(EMOTIONS, 3) | {"happy": 6}
    assert found.counts["PublicTest"] == dict.fromkeys(EMOTIONS, 1)
    assert found.imbalance == {
        "train": 2.0,
        "test": 1.0,
        "PublicTest": 1.0,
        "PrivateTest": 1.0,
    }
    save(folder / "test/happy/mine.png", face())
    counts = audit(folder).counts
    assert list(counts)[2:] == ["other images of test", "PublicTest", "PrivateTest"]
    assert sum(counts["other images of test"].values()) == 1


def test_faults_are_reported_and_no_error(folder, capsys):
    (folder / "train/angry/broken.jpg").write_bytes(b"no image")
    (folder / "test/happy/empty.png").write_bytes(b"")
    save(folder / "train/happy/large.png", np.zeros((60, 96), np.uint8))
    Image.new("RGB", (48, 48)).save(folder / "train/happy/colour.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "train/happy/lying.png", face(), exif=exif)
    save(folder / "train/contempt/0.png", face())
    save(folder / "train/loose.png", face())
    save(folder / "valid/happy/0.png", face())
    (folder / "docs").mkdir()
    (folder / "test/sad/list.csv").write_text("x")
    for image in (folder / "test/fear").iterdir():
        image.unlink()
    found = run(folder)
    assert found["unreadable"] == {
        "train/angry/broken.jpg": "not a JPEG, PNG, WebP, BMP, TIFF or GIF image",
        "test/happy/empty.png": "empty file",
    }
    # As many as there may be, readers of audit.json have no use for their names.
    assert found["converted"] == 3
    assert (folder.parent / "out/converted.csv").read_text().splitlines() == [
        "path,width,height,mode,turned",
        "train/happy/colour.png,48,48,RGB,false",
        "train/happy/large.png,96,60,L,false",
        "train/happy/lying.png,48,48,L,true",
    ]
    assert found["unused_folders"] == ["valid"]
    assert found["unused_files"] == ["test/sad/list.csv", "train/loose.png"]
    assert found["imbalance"]["test"] is None
    text = capsys.readouterr().out
    for words in (
        "In test there is no image of fear, contempt.",
        "Images to check: 2 unreadable, 4 blank, 3 of another size or mode.",
        "  train/happy/large.png: 96x60, L\n",
        "  train/happy/lying.png: 48x48, L, rotated by its EXIF data\n",
        "  valid\n",
    ):
        assert words in text


def test_a_folder_without_test_images(folder):
    (folder / "test").rename(folder / "elsewhere")
    found = audit(folder)
    assert found.across == ()
    assert sum(found.counts["test"].values()) == 0
    assert "In test there is no image of angry, " in text.format_audit(found)


# --- votes ---


def votes_file(folder: Path, rows: dict[str, list[object]]) -> Path:
    path = folder / "votes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *VOTE_COLUMNS])
        writer.writerows([name, *votes] for name, votes in rows.items())
    return path


def test_labels_and_crowd(folder, capsys):
    happy = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    votes_file(
        folder,
        {
            "train/happy/Training_0.png": happy,
            "train/happy/Training_1.png": [8, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            "train/happy/Training_2.png": [3, 3, 4, 0, 0, 0, 0, 0, 0, 0],
            "test/sad/PrivateTest_1.png": happy,
            "train/happy/no_such.png": happy,
        },
    )
    crowd = run(folder)["crowd"]
    assert list(crowd) == ["train", "test", "PublicTest", "PrivateTest"]
    assert crowd["train"]["happy"] == {
        "images": 3,
        "voted": 3,
        "majority": dict.fromkeys(EMOTIONS, 0) | {"happy": 1, "neutral": 1},
        "agreed": 1,
    }
    assert crowd["PublicTest"]["sad"]["voted"] == 0
    assert crowd["PrivateTest"]["sad"]["majority"]["happy"] == 1
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "majority of FER+ votes on 50% of the images whose votes have one (1 of 2)"
        in text
    )
    assert "happy 3 3 2 50.0%" in text


# --- what is written ---


def test_files_and_schema(folder, capsys):
    found = run(folder)
    output = folder.parent / "out"
    assert sorted(path.name for path in output.iterdir()) == [
        "audit.html",
        "audit.json",
        "audit.txt",
    ]
    fields = [field.name for field in dataclasses.fields(facts.Audit)]
    assert list(found) == ["kind", "format", "version", "created", *fields]
    assert (found["kind"], found["format"]) == ("emotion-cnn audit", 2)
    assert found["crowd"] is None
    assert found["across"][0] == {
        "image": "test/angry/PublicTest_0.png",
        "near_duplicate": "train/angry/Training_0.png",
        "label": "angry",
        "near_duplicate_label": "angry",
        "rmse": 0.0,
        "flipped": False,
    }
    assert found["near_duplicate_counts"]["within_test"][2] == {
        "rmse": 12,
        "images": 2,
        "flipped_only": 0,
        "conflicting": 0,
    }
    text = (output / "audit.txt").read_text(encoding="utf-8")
    assert text.strip() in capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "- 3 of 14 test images (21.4%) have a near-duplicate in train; 2 of" in text


def test_without_output_a_folder_below_runs(folder, tmp_path):
    words = ("--mode", "audit", "--data", folder, "--runs", tmp_path / "runs")
    assert main([str(word) for word in words]) == 0
    (output,) = (tmp_path / "runs").iterdir()
    assert output.name.endswith("-audit")


def test_an_audit_needs_no_keras(folder):
    code = (
        "import sys; from emotion_cnn.cli import main; "
        f"code = main(['--mode', 'audit', '--data', {str(folder)!r}, "
        f"'--output', {str(folder.parent / 'out')!r}]); "
        "sys.exit(code or 3 * bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_to_audit(tmp_path, capsys):
    words = ("--mode", "audit", "--data", tmp_path / "none", "--output", tmp_path / "o")
    assert main([str(word) for word in words]) == 2
    expected = f"error: The folder {tmp_path / 'none'} does not exist. Unpack "
    assert capsys.readouterr().err.startswith(expected)
    assert not list(tmp_path.iterdir())


def test_a_link_to_itself_is_no_folder_to_audit(tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    words = ("--mode", "audit", "--data", loop, "--output", tmp_path / "o")
    assert main([str(word) for word in words]) == 2
    assert f"The folder {loop} does not exist." in capsys.readouterr().err


def test_where_results_cannot_go_is_found_before_the_work(
    folder, tmp_path, capsys, monkeypatch
):
    # The work: not to be called.
    monkeypatch.setattr("emotion_cnn.data.folders.survey", None)
    (tmp_path / "file").write_text("x")
    output = tmp_path / "file" / "out"
    words = ("--mode", "audit", "--data", folder, "--output", output)
    assert main([str(word) for word in words]) == 2
    assert "Choose another with --output" in capsys.readouterr().err


# --- what is read again ---


def test_near_duplicates_are_excluded_from_train(folder):
    run(folder)
    near_duplicates = read_known_near_duplicates(folder.parent / "out", images=42)
    assert near_duplicates.path == folder.parent / "out" / "audit.json"
    train, test, _ = read_splits(folder, skip_bad=False)
    near_duplicates.check(train=train, test=test)
    remaining = near_duplicates.exclude_from(train)
    assert len(remaining) == len(train) - 3
    assert not set(remaining.names) & {name for _, name in ACROSS}
    clean = {test.names[p] for p in near_duplicates.clean_positions(test)}
    assert set(test.names) - clean == {name for name, _ in ACROSS}
    (pair,) = near_duplicates.within_train
    assert set(pair) == {"train/neutral/Training_2.png", "train/sad/Training_2.png"}


def known(
    train: Split, near_duplicates: frozenset[str] = frozenset()
) -> KnownNearDuplicates:
    fingerprints = {"train": fingerprint(train), "test": ""}
    return KnownNearDuplicates(
        Path("audit.json"), fingerprints, near_duplicates, frozenset(), ()
    )


@pytest.mark.parametrize("change", ["renamed", "pixel", "fewer"])
def test_an_audit_of_other_images_is_refused(folder, change):
    train, _, _ = read_splits(folder, skip_bad=False)
    near_duplicates = known(train)
    if change == "renamed":
        train = Split(train.images, train.labels, ("x", *train.names[1:]))
    elif change == "pixel":
        train.images[3, 3, 3] ^= 1
    else:
        train = train.select(range(20))
    with pytest.raises(DataError, match="audit of other images: expected a train/ wi"):
        near_duplicates.check(train=train)


def test_a_class_must_not_vanish(folder):
    train, _, _ = read_splits(folder, skip_bad=False)
    sad = frozenset(name for name in train.names if "/sad/" in name)
    with pytest.raises(DataError) as caught:
        known(train, sad).exclude_from(train)
    assert "found none of sad, by audit.json" in str(caught.value)
    assert "train without `leave_out`" in str(caught.value)


WHOLE = {
    "kind": "emotion-cnn audit",
    "format": 2,
    "fingerprints": {"train": "", "test": ""},
    "counts": {"train": {"happy": 3, "sad": 4}},
    "leave_out": ["a"],
    "test_with_near_duplicate_in_train": ["b"],
    "within_train": [{"image": "c", "near_duplicate": "d", "rmse": 0.0}],
}


def write_audit(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(WHOLE | changes))
    return path


def test_a_file_that_is_an_audit(tmp_path):
    path = write_audit(tmp_path / "mine.json")
    assert read_known_near_duplicates(path, images=1) == KnownNearDuplicates(
        path,
        {"train": "", "test": ""},
        frozenset("a"),
        frozenset("b"),
        (("c", "d"),),
        ("happy", "sad"),
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "at {}, found: No such file or directory."),
        ("{", "at {}, found: Expecting property name"),
        ("[" * 100_000, "at {}, found: nested too deeply"),
        ("[]", "at {}, found another JSON file."),
        ("{}", "at {}, found another JSON file."),
        ('{"kind": "x", "format": 1}', "at {}, found another JSON file."),
    ],
)
def test_a_file_that_is_no_audit(tmp_path, content, found):
    path = tmp_path / "audit.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_known_near_duplicates(path, images=1)
    assert found.format(path) in str(caught.value)
    assert str(caught.value).endswith("Create one with `emotion-cnn audit`.")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format": 1}, "Expected an audit of format 2 at {}, found format 1."),
        ({"format": 9}, "Expected an audit of format 2 at {}, found format 9."),
        ({"format": True}, "found bool in place of int."),
        ({"fingerprints": {"train": ""}}, "found no 'test'."),
        ({"fingerprints": {"train": "", "test": 1}}, "found int in place of str."),
        ({"leave_out": "all"}, "found str in place of list."),
        ({"leave_out": [["a"]]}, "found list in place of str."),
        ({"test_with_near_duplicate_in_train": None}, "found NoneType in place of li"),
        ({"within_train": [["c", "d"]]}, "found list in place of dict."),
        ({"within_train": [{"image": "c"}]}, "found no 'near_duplicate'."),
    ],
)
def test_an_audit_of_another_format_or_damaged(tmp_path, changes, found):
    path = write_audit(tmp_path / "audit.json", **changes)
    with pytest.raises(DataError) as caught:
        read_known_near_duplicates(path, images=1)
    assert found.format(path) in str(caught.value)
    assert str(caught.value).endswith("Run `emotion-cnn audit` again.")


def test_an_audit_that_is_too_large(tmp_path):
    path = write_audit(tmp_path / "audit.json")
    with path.open("a") as file:
        file.write(64_000_000 * " ")
    with pytest.raises(DataError, match="found: more than 64 MB"):
        read_known_near_duplicates(path, images=1_999)
    # Whoever has more images has longer lists of them.
    assert read_known_near_duplicates(path, images=2_000).train == {"a"}


def load_test(folder: Path):
    audit = str(folder.parent / "out/audit.json")
    return load_test_data(str(folder), labels="original", audit=audit, skip_bad=False)


@pytest.mark.parametrize(
    ("load", "images"), [(load_test, 14), (load_training_data, 21 + 14)]
)
def test_an_audit_may_be_as_long_as_the_data_need(folder, monkeypatch, load, images):
    run(folder)
    module = "emotion_cnn.data.near_duplicates"
    monkeypatch.setattr(f"{module}._MEGABYTE_LIMIT", 0)
    with pytest.raises(DataError, match="more than 0 MB"):
        load(folder)
    monkeypatch.setattr(f"{module}._BYTES_AN_IMAGE", 1_000_000 // images + 1)
    assert load(folder)[1].near_duplicates.path == folder.parent / "out/audit.json"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_audit(tmp_path):
    path = tmp_path / "audit.json"
    os.mkfifo(path)
    with pytest.raises(DataError, match="found: not a regular file"):
        read_known_near_duplicates(path, images=1)


@pytest.mark.slow
def test_training_and_evaluation_take_an_audit(
    folder, tmp_path, without_charts, capsys, caplog, monkeypatch
):
    """The only test here that trains a network."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    found = run(folder)
    audit_file = tmp_path / "out/audit.json"
    runs, publish = tmp_path / "runs", tmp_path / "publish"
    publish.mkdir()
    places = ("--data", folder, "--runs", runs)
    settings = ("--model", "compact", "--epochs", 1, "--batch-size", 16)
    words = ("--mode", "train", *places, "--publish", publish, *settings)
    words += ("--leave-out", audit_file)
    assert main([str(word) for word in words]) == 0
    (trained,) = runs.glob("*-default")
    assert "left out of train: 3 of 21 images" in capsys.readouterr().out
    config = json.loads((trained / "config.json").read_text())
    assert config["leave_out"] == str(audit_file)
    environment = json.loads((trained / "environment.json").read_text())
    assert sum(environment["data"]["counts"]["train"].values()) == 18
    assert sum(environment["data"]["counts"]["test"].values()) == 14
    parts = json.loads((trained / "metrics.json").read_text())["parts"]
    assert {part: metrics["n"] for part, metrics in parts.items()} == {
        "test": 14,
        "PublicTest": 7,
        "PrivateTest": 7,
        "test without near-duplicates in train": 11,
        "PublicTest without near-duplicates in train": 6,
        "PrivateTest without near-duplicates in train": 5,
    }

    words = ("--mode", "evaluate", *places, "--weights", trained)
    words += ("--output", tmp_path / "evaluated", "--audit", audit_file)
    assert main([str(word) for word in words]) == 0
    assert "test without near-duplicates in train, n = 11" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "evaluated/metrics.json").read_text())
    assert metrics["audit"] == str(audit_file)
    assert metrics["parts"] == parts

    # An audit beside train/ and test/ is at hand without a flag, if it is of them.
    def at_hand():
        options = {"labels": "original", "audit": None, "skip_bad": False}
        return load_test_data(str(folder), **options)[1].near_duplicates

    assert at_hand() is None
    beside = folder / "audit.json"
    beside.write_text(audit_file.read_text())
    assert at_hand().path == beside
    beside.write_text(json.dumps(found | {"fingerprints": {"train": "", "test": ""}}))
    caplog.clear()
    assert at_hand() is None
    assert "is an audit of other images" in caplog.text
    words = (*words[:-1], beside)
    assert main([str(word) for word in words]) == 2
    assert "is an audit of other images" in capsys.readouterr().err
