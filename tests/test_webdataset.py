"""WebDataset tars: what is read of them, and what is refused."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import SourceError
from emotion_cnn.importing.containers import open_container
from emotion_cnn.importing.formats import find_source, webdataset
from emotion_cnn.importing.records import BadRecord, ClassNames, ImageRecord, LeftOut


def face(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 48)).astype(np.uint8)


def png(seed):
    file = io.BytesIO()
    Image.fromarray(face(seed)).save(file, "PNG")
    return file.getvalue()


def tarred(path: Path, files: dict[str, bytes], mode="w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(start, count):
    files = {}
    for number in range(start, start + count):
        files[f"{number:06}.png"] = png(number)
        files[f"{number:06}.cls"] = f"{number % 7}\n".encode()
    return files


NUMBERS = {str(label): emotion for label, emotion in enumerate(EMOTIONS)}


def read(path, names=NUMBERS):
    source = find_source(open_container(path), ClassNames(names))
    return source, list(source.records())


def check(records, count):
    assert [r.label for r in records] == [number % 7 for number in range(count)]
    assert [r.name for r in records] == [f"{number:06}" for number in range(count)]
    for number, record in enumerate(records):
        assert np.array_equal(record.image, face(number))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_one_tar(tmp_path, mode):
    source, records = read(tarred(tmp_path / "any.name", samples(0, 10), mode))
    assert source.kind == webdataset.KIND
    assert not source.has_split
    assert {r.usage for r in records} == {None}
    check(records, 10)


def test_a_folder_of_tars(tmp_path):
    tarred(tmp_path / "data/000.tar", samples(0, 4))
    tarred(tmp_path / "data/001.tar.gz", samples(4, 4), "w:gz")
    tarred(tmp_path / "data/002.tar", samples(8, 1))
    (tmp_path / "README.md").write_text("about")
    source, records = read(tmp_path)
    check(records, 9)
    assert [r.path for r in records][3:5] == [
        "data/000.tar/000003.png",
        "data/001.tar.gz/000004.png",
    ]
    assert len(source.members) == 3


def test_numbered_tars(tmp_path):
    for number in range(12):
        tarred(tmp_path / f"faces-{number:03}.tar", samples(2 * number, 2))
    check(read(tmp_path / "faces-{000..011}.tar")[1], 24)
    check(read(tmp_path / "faces-{000..002}.tar")[1], 6)
    for name, found in {
        "faces-{000..012}.tar": "found no .*faces-012.tar",
        "faces-{0..1}.tar": "found no .*faces-0.tar",
        "faces-{003..001}.tar": "found no number",
        "faces-{0..999999999}.tar": "at most 1,000,000 files",
    }.items():
        with pytest.raises(SourceError, match=found):
            open_container(tmp_path / name)


def test_the_split_is_in_the_names_of_the_tars(tmp_path):
    for number, part in enumerate(("test", "train", "validation")):
        tarred(tmp_path / f"{part}-00000.tar", samples(number, 1))
    source, records = read(tmp_path)
    assert source.has_split
    assert [(r.usage, r.name) for r in records] == [
        ("PrivateTest", "PrivateTest_000000"),
        ("Training", "000001"),
        ("PublicTest", "PublicTest_000002"),
    ]


LABELS = {
    ".cls": (b"3", "happy"),
    ".CLS": (b"sad", "sad"),
    ".txt": (b" Fear \n", "fear"),
    ".json": (b'{"x": 1, "label": 5}', "sad"),
    ".Json": (b'{"emotion": "anger"}', "angry"),
    # Whatever `json.dump` writes.
    "..json": (b"", None),
    ".json ": (b"2", None),
}


@pytest.mark.parametrize("suffix", LABELS)
def test_labels(tmp_path, suffix):
    content, expected = LABELS[suffix]
    files = {"a/b.png": png(0), f"a/b{suffix}": content, **samples(1, 1)}
    first, second = read(tarred(tmp_path / "a.tar", files))[1]
    assert second.name == "000001"
    if expected is None:
        assert isinstance(first, BadRecord)
        assert "without a label" in first.reason
    else:
        assert EMOTIONS[first.label] == expected


def test_the_first_kind_of_label_counts(tmp_path):
    files = {"1.json": b'{"label": 1}', "1.txt": b"a face", "1.cls": b"4"}
    (record,) = read(tarred(tmp_path / "a.tar", {**files, "1.jpg": png(0)}))[1]
    assert record.label == 4


BAD = {
    "unknown": ({"x.cls": b"\xff\x1b[31m"}, "unknown label"),
    "number": ({"x.cls": b"9" * 5000}, "unknown label"),
    "long": ({"x.cls": b"1" * 70_000}, "more than 65,536 bytes"),
    "no JSON": ({"x.json": b"{"}, "no valid JSON"),
    "deep": ({"x.json": b"[" * 60_000}, "no valid JSON"),
    "endless": ({"x.json": b"1" * 60_000}, "no valid JSON"),
    "no label": ({"x.json": b'{"width": 48}'}, "no label (cls, label, emotion, ...)"),
    "a list": ({"x.json": b"[1]"}, "no label"),
    "label of none": ({"x.json": b'{"label": null}'}, "no label"),
    "without": ({}, "image without a label"),
    "two": ({"x.jpg": png(1), "x.cls": b"1"}, "2 images of one name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_samples(tmp_path, case):
    files, reason = BAD[case]
    files = {**samples(0, 1), "x.png": png(0), **files, **samples(1, 1)}
    records = read(tarred(tmp_path / "a.tar", files))[1]
    assert [isinstance(r, ImageRecord) for r in records] == [True, False, True]
    assert reason in records[1].reason
    assert records[1].reason.isprintable()


def test_what_is_no_sample(tmp_path):
    files = {
        **samples(0, 1),
        "y.json": b'{"label": 1}',
        "y.mask.png": png(0),
        "z.png": b"no image",
        "z.cls": b"1",
    }
    image, label, bad = read(tarred(tmp_path / "a.tar", files))[1]
    assert image.label == 0
    assert label == LeftOut("label without an image", 0)
    assert bad.place == "z.png"


def test_names_are_not_taken_at_their_word(tmp_path):
    files = {"a\n;b.png": png(0), "a\n;b.cls": b"1", **samples(0, 1)}
    records = read(tarred(tmp_path / "a.tar", files))[1]
    assert [r.name for r in records] == ["a__b", "000000"]
    for name in ("../x", "/x", "C:x"):
        files = {f"{name}.png": png(0), f"{name}.cls": b"1"}
        with pytest.raises(SourceError, match="leads out of the folder"):
            read(tarred(tmp_path / "a.tar", files))


def test_each_tar_is_checked(tmp_path):
    tarred(tmp_path / "0.tar", samples(0, 2))
    damaged = tarred(tmp_path / "1.tar", samples(2, 2))
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(SourceError, match=r"1\.tar cannot be read to its end"):
        read(tmp_path)
    with tarfile.open(damaged, "w") as archive:
        info = tarfile.TarInfo("2.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(SourceError, match="is a link or a device"):
        read(tmp_path)
    damaged.write_bytes(b"PK")
    with pytest.raises(SourceError):
        read(tmp_path)
    damaged.write_text("text")
    with pytest.raises(SourceError, match=r"Expected a tar in .*found a file"):
        read(tmp_path)


def test_tars_without_labels_are_none(tmp_path):
    tarred(tmp_path / "a.tar", {"1.png": png(0), "2.cls": b"1"})
    for path in (tmp_path, tmp_path / "a.tar"):
        with pytest.raises(SourceError, match="WebDataset tars, with an image and a"):
            read(path)


def test_json_of_one_number(tmp_path):
    files = {"1.png": png(0), "1.json": json.dumps(6).encode()}
    (record,) = read(tarred(tmp_path / "a.tar", files))[1]
    assert record.label == 6
