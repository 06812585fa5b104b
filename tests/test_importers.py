"""Recognising and reading each format: tables, archives, class folders, Parquet."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import re
import shutil
import struct
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from benchmarks.faults import importing as campaign
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import MissingPackageError, SourceError
from emotion_cnn.importing import containers
from emotion_cnn.importing.containers import open_container
from emotion_cnn.importing.formats import csv_table, find_source, label_list
from emotion_cnn.importing.names import numbered_name, row_in_name, safe_stem
from emotion_cnn.importing.records import BadRecord, ClassNames, ImageRecord, LeftOut

FER_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PIXELS = " ".join(["7"] * 2304)


def face(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48)).astype(np.uint8)


def text_of(image: np.ndarray) -> str:
    return " ".join(map(str, image.ravel().tolist()))


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def read(path: Path, **classes: str):
    """Returns the source and its records; class names begin with an underscore."""
    names = {name.removeprefix("_"): emotion for name, emotion in classes.items()}
    source = find_source(open_container(path), ClassNames(names))
    return source, list(source.records())


def message_of(path: Path, **classes: str) -> str:
    with pytest.raises(SourceError) as caught:
        read(path, **classes)
    return str(caught.value)


def rows_of(records) -> list[tuple[int | None, str, str | None]]:
    return [(r.row, EMOTIONS[r.label], r.usage) for r in records]


# --- tables ------------------------------------------------------------------

USAGES = ("Training", "PublicTest", "PrivateTest")
FER2013 = "emotion,pixels,Usage\n" + "".join(
    f"{n % 7},{text_of(face(n))},{USAGES[n % 3]}\n" for n in range(9)
)
ICML = "emotion, Usage, pixels\n" + "".join(
    f"{n % 7},{USAGES[n % 3]},{text_of(face(n))}\n" for n in range(9)
)
CHALLENGE = "emotion,pixels\n" + "".join(
    f'{n % 7},"{text_of(face(n))}"\n' for n in range(9)
)


def check_table(records, *, usages=True):
    expected = [
        (n, FER_ORDER[n % 7], USAGES[n % 3] if usages else None) for n in range(9)
    ]
    assert rows_of(records) == expected
    for n, record in enumerate(records):
        assert np.array_equal(record.image, face(n))
        assert record.name is None


@pytest.mark.parametrize("text", [FER2013, ICML])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_tables_with_usage(tmp_path, text, end, start):
    path = tmp_path / "any.name"
    path.write_bytes((start + text).replace("\n", end).encode())
    source, records = read(path)
    assert source.has_split
    assert source.kind == csv_table.KIND
    check_table(records)


def test_the_challenge_s_table_has_no_split(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(CHALLENGE.rstrip("\n"))
    source, records = read(path)
    assert not source.has_split
    check_table(records, usages=False)
    assert sum(record.advance for record in records) < source.total


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("packing", ["zip", "tar.gz", "tar.bz2", "tar.xz", "tar"])
def test_tables_in_archives(tmp_path, packing):
    path = tmp_path / "archive"  # recognised by content: the name says nothing
    files = {
        "fer2013/README": b"about",
        "fer2013/fer2013.csv": FER2013.encode(),
        "__MACOSX/fer2013/._fer2013.csv": b"emotion,pixels,Usage\n",
    }
    if packing == "zip":
        zipped(path, **files)
    else:
        mode = packing.removeprefix("tar").removeprefix(".")
        tarred(path, files, f"w:{mode}")
    source, records = read(path)
    assert source.total == len(FER2013)
    check_table(records)


@pytest.mark.parametrize("packer", [gzip, bz2, lzma])
def test_a_packed_table(tmp_path, packer):
    path = tmp_path / "fer2013.csv.gz"
    path.write_bytes(packer.compress(FER2013.encode()))
    source, records = read(path)
    assert source.total == (len(FER2013) if packer is gzip else None)
    check_table(records)


def test_of_the_challenge_s_files_the_whole_table_is_taken(tmp_path):
    zipped(
        tmp_path / "challenge.zip",
        **{
            "example_submission.csv": b"emotion\n0\n",
            "test.csv": f"pixels\n{PIXELS}\n".encode(),
            "train.csv": CHALLENGE.encode(),
            "icml_face_data.csv": ICML.encode(),
            "fer2013.tar.gz": b"\x1f\x8b...",
        },
    )
    source, records = read(tmp_path / "challenge.zip")
    assert [member.name for member in source.members] == ["icml_face_data.csv"]
    check_table(records)


def test_two_whole_tables_are_one_too_many(tmp_path):
    (tmp_path / "a.csv").write_text(FER2013)
    (tmp_path / "b.csv").write_text(ICML)
    assert "found a.csv, b.csv. Unpack the one" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("emotion,Usage", "misses the column pixels, or a column of image names"),
        ("pixels, Usage", "misses the column emotion"),
        ("emotion,pixels,Emotion", "has the column emotion 2 times"),
        ("a,b", "Nothing to import in"),
    ],
)
def test_columns_that_are_wrong(tmp_path, header, message):
    path = tmp_path / "x.csv"
    path.write_text(f"{header}\n0,1,2\n")
    assert message in message_of(path)


ROWS = {
    f"0,{PIXELS},Training": None,
    f"0,{PIXELS} 7,Training": "2,305 pixels instead of 2,304",
    "0,,Training": "0 pixels instead of 2,304",
    f"0,{PIXELS[:-1]}256,Training": "pixel '256' is no whole number from 0 to 255",
    f"0,{PIXELS[:-1]}-1,Training": "pixel '-1' is no whole number",
    f"0,{PIXELS[:-1]}1.5,Training": "pixel '1.5' is no whole number",
    f"0,{PIXELS[:-1]}٣,Training": "pixel '\\u0663' is no whole number",
    f"7,{PIXELS},Training": "unknown label '7' (`classes` says what labels stand",
    f"0,{PIXELS},Holdout": "unknown Usage 'Holdout' (Training, PublicTest",
    f"0,{PIXELS}": "2 columns instead of 3",
    f'0,"{PIXELS},Training': "not valid CSV: unexpected end of data",
    f"0,{PIXELS},Training" + " " * 2**20: "longer than 1,048,576 characters",
    f"6, {PIXELS} , publictest ": None,
    f"3,{PIXELS[:4000]}": "2 columns instead of 3; the file ends within this line",
}


def test_every_bad_row_has_its_number_and_reason(tmp_path):
    path = tmp_path / "fer2013.csv"
    lines = ["emotion,pixels,Usage", "", *ROWS]
    path.write_text("\n".join(lines), encoding="utf-8")
    _, records = read(path)
    assert len(records) == len(ROWS)
    for row, (record, reason) in enumerate(zip(records, ROWS.values(), strict=True)):
        if reason is None:
            assert isinstance(record, ImageRecord)
            assert record.row == row
        else:
            assert record.place == f"row {row} (line {row + 3})"
            assert record.reason.startswith(reason)
    assert [records[n].usage for n in (0, 12)] == ["Training", "PublicTest"]


def test_labels_may_be_names_or_numbers_of_one_s_own(tmp_path):
    path = tmp_path / "t.csv"
    labels = ("Happiness", "1", "7", "contempt")
    path.write_text("emotion,pixels\n" + "".join(f"{n},{PIXELS}\n" for n in labels))
    _, records = read(path)
    assert EMOTIONS[records[0].label] == "happy"
    assert EMOTIONS[records[1].label] == "disgust"
    assert isinstance(records[2], BadRecord)
    assert records[3].reason == "contempt"
    _, records = read(path, _1="surprise", _7="contempt")
    assert EMOTIONS[records[1].label] == "surprise"
    assert isinstance(records[2], LeftOut)


def test_names_and_votes_come_back(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        writer = csv_table.TableWriter(file, with_usage=True, with_votes=True)
        for name, votes in (("Training_0000123", (1,) * 10), ("../a b", None)):
            writer.write(ImageRecord(face(1), 2, "Test", name, 5, "p"), votes)
    source, (first, second) = read(path)
    assert source.has_votes
    assert EMOTIONS[first.label] == "fear"
    assert (first.name, first.row, first.votes) == ("Training_0000123", 123, (1,) * 10)
    assert (second.name, second.row, second.votes) == ("_a b", None, None)
    assert {first.usage, second.usage} == {"PrivateTest"}


def test_a_table_of_other_classes_has_their_names(tmp_path):
    path, classes = tmp_path / "t.csv", ("cat", "fear", "contempt")
    with path.open("w", newline="") as file:
        writer = csv_table.TableWriter(
            file, classes, with_usage=False, with_votes=False
        )
        for label in range(3):
            writer.write(ImageRecord(face(1), label, None, None, 5, "p"), None)
    rows = path.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["emotion", "cat", "2", "contempt"]
    assert rows[1].endswith(",Training_0000005")
    records = find_source(open_container(path), ClassNames({}, classes)).records()
    assert [record.label for record in records] == [0, 1, 2]
    # Without these classes, two of them mean nothing to import.
    _, records = read(path)
    assert [type(r) for r in records] == [BadRecord, ImageRecord, LeftOut]


# No deadline: how long an example takes is depends on what else the machine does.
@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 6),
            st.integers(0, 2**32 - 1).map(lambda seed: face(seed).tobytes()),
            st.sampled_from(USAGES),
        ),
        max_size=4,
    ),
    order=st.permutations(["emotion", "pixels", "Usage"]),
    blanks=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last_end=st.booleans(),
)
def test_any_table_is_read_as_it_was_written(
    rows, order, blanks, quoting, end, last_end
):
    file = io.StringIO()
    writer = csv.writer(file, quoting=quoting, lineterminator=end)
    writer.writerow([" " + name if blanks else name for name in order])
    for label, levels, usage in rows:
        cells = {
            "emotion": label,
            "pixels": " ".join(map(str, levels)),
            "Usage": usage,
        }
        writer.writerow([cells[name] for name in order])
    text = file.getvalue() if last_end else file.getvalue().rstrip("\r\n")
    content = text.encode()
    layout = csv_table.find_layout(content[:4096])
    records = list(csv_table.read_table(io.BytesIO(content), ClassNames({}), layout))
    assert [
        (FER_ORDER.index(EMOTIONS[r.label]), r.image.tobytes(), r.usage)
        for r in records
    ] == rows
    assert [r.row for r in records] == list(range(len(rows)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([f"0,{PIXELS},Training".encode(), b'"', b"0,1 2,Training"]),
        ),
        max_size=8,
    )
)
def test_no_bytes_make_the_reader_fail(lines):
    content = b"emotion,pixels,Usage\n" + b"\n".join(lines)
    layout = csv_table.find_layout(content[:21])
    records = list(csv_table.read_table(io.BytesIO(content), ClassNames({}), layout))
    assert sum(record.advance for record in records) <= len(content)
    for record in records:
        assert isinstance(record, (ImageRecord, BadRecord))


DIALECTS = {
    "semicolon": lambda text: text.replace(",", ";").encode(),
    "tab": lambda text: text.replace(",", "\t").encode(),
    "sep=,": lambda text: f"sep=,\n{text}".encode(),
    "sep=;": lambda text: f"sep=;\r\n{text.replace(',', ';')}".encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16, other order": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "line ends of old Macs": lambda text: text.replace("\n", "\r").encode(),
    "no header": lambda text: text.split("\n", 1)[1].encode(),
    "no header, semicolon": lambda text: (
        text.split("\n", 1)[1].replace(",", ";").encode()
    ),
    "no header, sep=;": lambda text: (
        f"sep=;\n\n{text.split(chr(10), 1)[1].replace(',', ';')}".encode()
    ),
    "blank lines first": lambda text: f"\n \n{text}".encode(),
    "numbers of a column with gaps": lambda text: re.sub(
        r"(?m)^([0-6]),", r"\1.0,", text
    ).encode(),
    "other names": lambda text: (
        text.replace("emotion", "Label", 1).replace("Usage", "split", 1).encode()
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tables_as_programs_write_them(tmp_path, dialect):
    for number, text in enumerate((FER2013, ICML)):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(DIALECTS[dialect](text))
        check_table(read(path)[1])
        path.write_bytes(gzip.compress(path.read_bytes()))
        check_table(read(path)[1])


def test_validation_in_a_table(tmp_path):
    path = tmp_path / "t.csv"
    for words, usages in (
        ("train,val,test", ["Training", "PublicTest", "PrivateTest"]),
        ("train,test,Validation", ["Training", "PrivateTest", "PublicTest"]),
        ("training,valid", ["Training", "Test"]),
        ("train,test", ["Training", "Test"]),
        ("Training,PrivateTest,val", ["Training", "PrivateTest", "PublicTest"]),
    ):
        rows = "".join(f"0,{PIXELS},{word}\n" for word in words.split(","))
        path.write_text(f"emotion,pixels,Usage\n{rows}")
        source, records = read(path)
        assert source.has_split
        assert [record.usage for record in records] == usages


def test_a_source_that_is_none_says_why(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("when,what\n1,2\n")
    message = message_of(path)
    assert "needs a header such as emotion,pixels,Usage" in message
    assert "classes" not in message
    zipped(tmp_path / "x.xlsx", **{"xl/workbook.xml": b"", "[Content_Types].xml": b""})
    assert "an Excel workbook: save it as CSV" in message_of(tmp_path / "x.xlsx")


# --- lists of labels ---------------------------------------------------------


def labels_of(path: Path, **classes: str):
    source, records = read(path, **classes)
    assert source.kind == label_list.KIND
    return source, found(records), [r for r in records if isinstance(r, BadRecord)]


LISTS = {
    "labels.csv": "image,emotion\na.png,happy\nb.png,Sadness\n",
    "labels.tsv": "emotion\tfile\nhappy\tphotos/a.png\nsad\t/x/photos/b.png\n",
    "labels.txt": "a.png happy\nb.png sad",
    "list.lst": "a.png 1\r\nb.png 2\r\n",
    "excel.csv": "sep=;\r\n;label;image\r\n0;1.0;A.PNG\r\n1;2.0;photos\\b.png\r\n",
    "stems.csv": "name,label\na,happy\nb,sad\n",
    "blank.csv": "\n \nimage,emotion\na.png,happy\nb.png,sad\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_labels(tmp_path, name):
    tree(tmp_path, "photos/a.png", "photos/b.png", "photos/c.png")
    (tmp_path / name).write_bytes(LISTS[name].encode())
    expected = {
        "photos/a.png": ("happy", None, "a"),
        "photos/b.png": ("sad", None, "b"),
    }
    numbers = {"_1": "happy", "_2": "sad"}
    source, images, bad = labels_of(tmp_path, **numbers)
    assert (images, bad) == (expected, [])
    assert not source.has_split
    assert labels_of(tmp_path / name, **numbers)[1] == expected
    files = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*.*")
    }
    archive = tarred(tmp_path / "archive", files)
    assert labels_of(archive, **numbers)[1] == expected


def test_a_list_that_names_what_is_not_there(tmp_path):
    tree(tmp_path, "a.png", "1/b.png", "2/b.png")
    lines = ["image,emotion,split", "a.png,happy,train", "a.png,sad,train"]
    lines += ["a.png,happy,train", "x.png,sad,test", "b.png,sad,test", "2/b.png,9,test"]
    lines += ["1/b.png,sad,holdout", '"c', "d.png"]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    _, images, bad = labels_of(tmp_path)
    assert images == {"a.png": ("happy", "Training", "a")}
    assert {record.place: record.reason for record in bad} == {
        "line 3 of l.csv": "another label for a.png than line 2 of l.csv",
        "line 5 of l.csv": "no image 'x.png'",
        "line 6 of l.csv": "2 images are called 'b.png', such as 2/b.png and 1/b.png",
        "line 7 of l.csv": "unknown label '9' (`classes` says what labels stand for)",
        "line 8 of l.csv": "unknown part of a split 'holdout'",
        "line 9 of l.csv": "not valid CSV: unexpected end of data",
        "line 10 of l.csv": "only 1 columns",
    }
    (tmp_path / "l.csv").write_text("image,emotion\nnowhere.png,sad\n")
    message = message_of(tmp_path)
    assert "lists beside it, found none of 1, such as nowhere.png" in message


def test_raf_db(tmp_path):
    tree(
        tmp_path,
        *(f"Image/aligned/{name}_aligned.jpg" for name in ("train_1", "test_1")),
        *(f"Image/original/{name}.jpg" for name in ("train_1", "test_1")),
    )
    path = tmp_path / "EmoLabel/list_patition_label.txt"
    path.parent.mkdir()
    path.write_text("train_1.jpg 5\ntest_1.jpg 4\n")
    source, images, _ = labels_of(tmp_path, _4="happy", _5="sad")
    assert source.has_split
    assert images == {
        "Image/aligned/train_1_aligned.jpg": ("sad", "Training", "train_1_aligned"),
        "Image/aligned/test_1_aligned.jpg": ("happy", "Test", "test_1_aligned"),
    }


def test_lists_with_boxes(tmp_path):
    photo = Image.new("L", (200, 100))
    photo.paste(100, (20, 20, 68, 68))
    photo.paste(200, (120, 30, 168, 78))
    (tmp_path / "image").mkdir()
    photo.save(tmp_path / "image/p.png")
    lines = ["p.png 0 20 20 68 68 40.5 3", "p.png 1 30 120 168 78 40.5 6"]
    (tmp_path / "label.lst").write_text("\n".join([*lines, "p.png 2 9 9 9 9 1 3"]))
    # ExpW: top, left, right, bottom.
    _, records = read(tmp_path, _3="happy", _6="neutral")
    *faces, bad = records
    assert [(EMOTIONS[f.label], set(f.image.ravel())) for f in faces] == [
        ("happy", {100}),
        ("neutral", {200}),
    ]
    assert bad.reason == "box without a pixel of the image in it"
    (tmp_path / "label.lst").unlink()
    columns = "subDirectory_filePath,face_x,face_y,face_width,face_height,expression"
    rows = "x/p.png,120,30,48,48,1\nx/p.png,NULL,NULL,NULL,NULL,10\n"
    for name in ("training.csv", "validation.csv"):
        (tmp_path / name).write_text(f"{columns}\n{rows if name[0] == 't' else ''}")
    _, records = read(tmp_path, _1="happy", _10="none")
    assert [r.reason for r in records if isinstance(r, LeftOut)] == [
        "of the label '10'"
    ]
    (face,) = (r for r in records if isinstance(r, ImageRecord))
    assert set(face.image.ravel()) == {200}


# --- names that carry the emotion --------------------------------------------


def test_jaffe_kdef_and_ck(tmp_path):
    tree(tmp_path / "jaffe", "KA.AN1.39.tiff", "YM.SU3.60.tiff", "notes/a.png")
    assert found(read(tmp_path / "jaffe")[1]) == {
        "KA.AN1.39.tiff": ("angry", None, "KA.AN1.39"),
        "YM.SU3.60.tiff": ("surprise", None, "YM.SU3.60"),
    }
    tree(tmp_path / "kdef", "KDEF/AF01/AF01AFS.JPG", "KDEF/BM35/BM35ANHL.JPG")
    images = found(read(tmp_path / "kdef")[1])
    assert [emotion for emotion, *_ in images.values()] == ["fear", "angry"]
    ck = tmp_path / "ck"
    tree(ck, *(f"cohn-kanade-images/S005/001/S005_001_{n:08}.png" for n in range(9)))
    tree(ck, "cohn-kanade-images/S010/001/S010_001_00000002.png")
    for stem, number in (
        ("S005/001/S005_001_00000008", 3),
        ("S010/001/S010_001_00000002", 2),
    ):
        path = ck / f"Emotion/{stem}_emotion.txt"
        path.parent.mkdir(parents=True)
        path.write_text(f"   {number}.0000000e+00\n")
    _, records = read(ck)
    assert [name for _, _, name in found(records).values()] == ["S005_001_00000008"]
    left_out = [record.reason for record in records if isinstance(record, LeftOut)]
    assert left_out.count("contempt") == 1
    assert left_out.count("image without a label in its name or beside it") == 8


# --- several sources in one --------------------------------------------------


def test_of_several_sources_one_is_taken_and_the_other_named(tmp_path, caplog):
    tree(tmp_path, "sad/a.png", "fear/b.png")
    (tmp_path / "fer2013.csv").write_text(FER2013)
    (tmp_path / "labels.csv").write_text("image,emotion\na.png,happy\nb.png,sad\n")
    source, records = read(tmp_path)
    assert found(records)["sad/a.png"][0] == "sad"
    assert len(source.notes) == 2
    assert "choose fer2013.csv itself with `source`" in source.notes[0]
    assert "choose labels.csv itself with `source`" in source.notes[1]
    assert all(note in caplog.text for note in source.notes)
    check_table(read(tmp_path / "fer2013.csv")[1])
    assert found(read(tmp_path / "labels.csv")[1])["sad/a.png"][0] == "happy"
    # A list without pixels or images of its own hides nothing, and no fault in one.
    (tmp_path / "fer2013.csv").write_text(f"pixels,other\n{PIXELS},1\n")
    (tmp_path / "labels.csv").write_text("image,emotion\nnowhere.png,happy\n")
    assert sorted(found(read(tmp_path)[1])) == ["fear/b.png", "sad/a.png"]


# --- class folders -----------------------------------------------------------


def test_every_still_format_in_class_folders(tmp_path):
    suffixes = ("jpg", "jpeg", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif")
    for suffix in suffixes:
        path = tmp_path / f"sad/a.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(face(1)).save(path, "JPEG" if suffix == "jfif" else None)
    for name in ("a.heic", "b.heic", "c.mp4", "d"):
        (tmp_path / "sad" / name).write_bytes(b"x")
    _, records = read(tmp_path)
    assert len(found(records)) == len(suffixes)
    reasons = Counter(r.reason for r in records if isinstance(r, LeftOut))
    assert reasons == {
        ".heic file in the class folders, no image": 2,
        ".mp4 file in the class folders, no image": 1,
        "nameless file in the class folders, no image": 1,
    }


def test_class_folders_of_other_classes(tmp_path):
    tree(tmp_path, "Dog/a.png", "cat/b.png", "sad/c.png", "contempt/d.png")
    names = ClassNames({"sad": "contempt"}, ("dog", "contempt", "cat"))
    records = list(find_source(open_container(tmp_path), names).records())
    labels = {r.place: r.label for r in records if isinstance(r, ImageRecord)}
    assert labels == {
        "Dog/a.png": 0,
        "cat/b.png": 2,
        "sad/c.png": 1,
        "contempt/d.png": 1,
    }
    names = ClassNames({}, ("dog", "cat"))
    records = list(find_source(open_container(tmp_path), names).records())
    # Other emotions than those declared are no mistake; other names may be one.
    assert [r.reason for r in records if isinstance(r, LeftOut)] == ["contempt", "sad"]
    tree(tmp_path, "bird/e.png")
    records = list(find_source(open_container(tmp_path), names).records())
    assert [r.place for r in records if isinstance(r, BadRecord)] == ["bird"]


def tree(folder: Path, *names: str, size=(48, 48)) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, number).save(path)
    return folder


def found(records) -> dict[str, tuple[str, str | None, str | None]]:
    return {
        r.place: (EMOTIONS[r.label], r.usage, r.name)
        for r in records
        if isinstance(r, ImageRecord)
    }


KAGGLE = (
    "train/happy/Training_10019449.jpg",
    "test/happy/PublicTest_10039193.jpg",
    "test/sad/PrivateTest_1.jpg",
)


@pytest.mark.parametrize("packing", ["folder", "zip", "tar.gz"])
def test_kaggle_s_images(tmp_path, packing):
    path = tree(tmp_path / "images", *KAGGLE, "notes.png")
    files = {name: (path / name).read_bytes() for name in (*KAGGLE, "notes.png")}
    if packing == "zip":
        path = zipped(tmp_path / "archive.zip", **files)
    elif packing == "tar.gz":
        path = tarred(tmp_path / "archive.tgz", {"./" + n: f for n, f in files.items()})
    source, records = read(path)
    assert source.has_split
    assert found(records) == {
        KAGGLE[0]: ("happy", "Training", "Training_10019449"),
        KAGGLE[1]: ("happy", "PublicTest", "PublicTest_10039193"),
        KAGGLE[2]: ("sad", "PrivateTest", "PrivateTest_1"),
    }
    assert all(r.row is None for r in records if isinstance(r, ImageRecord))
    assert [r.reason for r in records if isinstance(r, LeftOut)] == [
        "image outside the class folders"
    ]
    assert sum(record.advance for record in records) == source.total


def test_ck_has_contempt_and_no_split(tmp_path):
    tree(tmp_path, "CK+48/anger/S1.png", "CK+48/contempt/S2.png", "CK+48/fear/ä.png")
    source, records = read(tmp_path)
    assert not source.has_split
    assert found(records) == {
        "CK+48/anger/S1.png": ("angry", None, "S1"),
        "CK+48/fear/ä.png": ("fear", None, "ä"),
    }
    assert [r.reason for r in records if isinstance(r, LeftOut)] == ["contempt"]


def test_raf_s_numbers_need_classes(tmp_path):
    tree(
        tmp_path,
        "DATASET/train/1/train_1_aligned.jpg",
        "DATASET/test/4/test_1_aligned.jpg",
        "DATASET/train/9/train_2_aligned.jpg",
        size=(100, 100),
    )
    message = message_of(tmp_path)
    assert "Nothing to import" in message
    assert "need `classes`, such as 1=surprise,2=fear;" in message
    assert "1 in 'DATASET/test/4'" in message
    _, records = read(tmp_path, _1="surprise", _4="happy")
    assert found(records) == {
        "DATASET/train/1/train_1_aligned.jpg": (
            "surprise",
            "Training",
            "train_1_aligned",
        ),
        "DATASET/test/4/test_1_aligned.jpg": ("happy", "Test", "test_1_aligned"),
    }
    (bad,) = (r for r in records if isinstance(r, BadRecord))
    assert bad.place == "DATASET/train/9"
    assert bad.reason.startswith("unknown label '9' (`classes`")
    assert records[-1].changes == ("of another size",)
    assert records[-1].image.shape == (48, 48)


def test_validation_is_public_test_beside_test_and_test_alone(tmp_path):
    tree(tmp_path, "images/train/sad/a.png", "images/validation/sad/b.png")
    _, records = read(tmp_path)
    assert {r.usage for r in records} == {"Training", "Test"}
    tree(tmp_path, "images/test/sad/c.png")
    _, records = read(tmp_path)
    assert sorted(f[1:] for f in found(records).values()) == [
        ("PrivateTest", "PrivateTest_c"),
        ("PublicTest", "PublicTest_b"),
        ("Training", "a"),
    ]


def test_only_train_is_no_split(tmp_path):
    source, _ = read(tree(tmp_path, "train/sad/a.png", "train/fear/b.png"))
    assert not source.has_split


def test_images_that_differ_are_told_from_copies(tmp_path):
    """By their content: video frames of each person have the same names."""
    tree(tmp_path / "a", *(f"P00{n}/Anger/000.jpeg" for n in range(3)), "x/Fear/a.png")
    _, records = read(tmp_path / "a")
    names = sorted(record.name for record in records)
    assert names == ["P000_000", "P001_000", "P002_000", "x_a"]
    tree(
        tmp_path / "b",
        *(f"{part}/sad/P{n}/0.png" for part in ("train", "test") for n in (1, 2)),
    )
    _, records = read(tmp_path / "b")
    assert sorted((r.usage, r.name) for r in records) == [
        ("Test", "P1_0"),
        ("Test", "P2_0"),
        ("Training", "P1_0"),
        ("Training", "P2_0"),
    ]
    tree(tmp_path / "c", "train/sad/a.png", "test/sad/b.png")
    shutil.copytree(tmp_path / "c/train", tmp_path / "c/copy/train")
    _, records = read(tmp_path / "c")
    assert len(found(records)) == 2
    assert [r.reason for r in records if isinstance(r, LeftOut)] == [
        "identical copy under the same name"
    ]


def test_names_carry_the_split_where_folders_do_not(tmp_path):
    """PrivateTest's images must never be trained on."""
    official = [f"happy/{u}_{n}.jpg" for u in USAGES for n in range(3)]
    raf = [f"sad/{u}_0000{n}_aligned.jpg" for u in ("train", "test") for n in range(3)]
    for name, files in (("official", official), ("raf", raf)):
        tree(tmp_path / name, *files, "fear/mine.png")
        source, records = read(tmp_path / name)
        assert source.has_split
        assert "the split is that of the images' names, such as " in source.notes[0]
        assert "1 images without a part in their names" in source.notes[1]
        for place, (_, usage, stem) in found(records).items():
            expected = "train" if "test" not in place.lower() else "test"
            assert (usage == "Training") == (expected == "train"), place
            assert usage in ("Training", "Test") or stem.startswith(usage)
    # Where there are folders of a split, they are what the user means.
    tree(tmp_path / "own", "train/sad/PrivateTest_1.png", "test/sad/a.png")
    source, records = read(tmp_path / "own")
    assert found(records)["train/sad/PrivateTest_1.png"][1] == "Training"
    assert "called after another part of a split" in source.notes[0]
    # FER2013's names mean that whatever else there is, and whatever follows.
    names = ("PrivateTest_1", "PublicTest 2", "PrivateTest3", "PublicTest-4")
    for folder, others in (("most", 9), ("alone", 0)):
        tree(tmp_path / folder, *(f"sad/{name}.png" for name in names))
        tree(tmp_path / folder, *(f"sad/{n}.png" for n in range(others)))
        usages = [r.usage for r in read(tmp_path / folder)[1]]
        assert Counter(usages) == Counter(
            PrivateTest=2, PublicTest=2, **({"Training": others} if others else {})
        )
    # A few such names in a folder of others mean nothing.
    few = ["sad/train_1.png", "sad/test_1.png", *(f"sad/{n}.png" for n in range(5))]
    assert not read(tree(tmp_path / "few", *few))[0].has_split


def test_damaged_images_are_bad_records(tmp_path):
    tree(tmp_path, "sad/a.png", "fear/b.png")
    (tmp_path / "sad/c.png").write_bytes(b"no image")
    (tmp_path / "sad/d.jpg").symlink_to("nowhere")
    _, records = read(tmp_path)
    bad = {r.place: r.reason for r in records if isinstance(r, BadRecord)}
    assert bad["sad/c.png"] == "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"
    assert "No such file" in bad["sad/d.jpg"]
    assert len(found(records)) == 2


def test_links_in_folders_are_followed_once(tmp_path):
    tree(tmp_path / "source", "sad/a.png")
    tree(tmp_path / "elsewhere", "b.png")
    (tmp_path / "source/fear").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/loop").symlink_to(tmp_path / "source")
    _, records = read(tmp_path / "source")
    assert sorted(found(records)) == ["fear/b.png", "sad/a.png"]


def test_nothing_to_import(tmp_path):
    assert "found no " in message_of(tmp_path / "missing")
    assert "Found no files" in message_of(tmp_path)
    (tmp_path / "text").write_text("Hello")
    message = message_of(tmp_path / "text")
    assert "a file that begins with b'Hello'" in message
    assert "CSV table with" in message
    assert "Parquet files with" in message
    assert "images in a folder per class" in message
    (tmp_path / "empty").write_bytes(b"")
    assert "Nothing to import" in message_of(tmp_path / "empty")


# --- Parquet -----------------------------------------------------------------


def hugging_face(path: Path, count=14, *, names=True, struct_column=True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [png(face(n)) for n in range(count)]
    images = [{"bytes": c, "path": None} for c in contents]
    table = pa.table(
        {
            "image": images if struct_column else pa.array(contents, pa.binary()),
            "label": pa.array([n % 7 for n in range(count)], pa.int64()),
        }
    )
    if names:
        features = {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": list(FER_ORDER)},
        }
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, path)
    return path


def test_parquet_with_class_names(tmp_path):
    source, records = read(hugging_face(tmp_path / "any"))
    assert not source.has_split
    assert source.total == len(records) == 14
    expected = [(n, FER_ORDER[n % 7], None) for n in range(14)]
    assert rows_of(records) == expected
    assert all(np.array_equal(r.image, face(n)) for n, r in enumerate(records))


def test_parquet_with_names_as_a_mapping(tmp_path):
    path = hugging_face(tmp_path / "a.parquet", names=False)
    names = {str(n): name for n, name in enumerate(FER_ORDER)}
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
    table = parquet.read_table(path)
    meta = {"huggingface": json.dumps(info)}
    parquet.write_table(table.replace_schema_metadata(meta), path)
    assert rows_of(read(path)[1])[4] == (4, "sad", None)


def test_parquet_with_names_of_a_column_that_was_dropped(tmp_path):
    """As pyarrow leaves them where some columns alone are read and written again."""
    path = hugging_face(tmp_path / "a.parquet", names=False)
    features = {
        name: {"_type": "ClassLabel", "names": list(names)}
        for name, names in (("other", FER_ORDER[::-1]), ("label", FER_ORDER))
    }
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    table = parquet.read_table(path).replace_schema_metadata(meta)
    parquet.write_table(table, path)
    assert rows_of(read(path)[1])[4] == (4, "sad", None)


def test_parquet_labels_through_classes(tmp_path):
    path = hugging_face(tmp_path / "a.parquet", names=False, struct_column=False)
    _, records = read(path)
    assert {r.reason[:17] for r in records} >= {"unknown label '0'"}
    given = {f"_{n}": name for n, name in enumerate(FER_ORDER)} | {"_6": "contempt"}
    _, records = read(path, **given)
    assert sum(isinstance(r, LeftOut) for r in records) == 2
    assert sum(isinstance(r, ImageRecord) for r in records) == 12


def test_the_split_of_parquet_files_is_in_their_names(tmp_path):
    for split in ("test", "train", "validation"):
        hugging_face(tmp_path / f"data/{split}-00000-of-00001.parquet", 2)
    source, records = read(tmp_path)
    assert source.has_split
    assert [(r.row, r.usage) for r in records] == [
        (0, "Training"),
        (1, "Training"),
        (2, "PublicTest"),
        (3, "PublicTest"),
        (4, "PrivateTest"),
        (5, "PrivateTest"),
    ]
    assert records[0].place == "row 0 (data/train-00000-of-00001.parquet)"
    (tmp_path / "data/validation-00000-of-00001.parquet").unlink()
    assert {r.usage for r in read(tmp_path)[1]} == {"Training", "Test"}


def test_parquet_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 truncated")
    assert "is not a valid Parquet file" in message_of(path)
    zipped(tmp_path / "a.zip", **{"a.parquet": b"PAR1"})
    assert "found a.parquet packed in" in message_of(tmp_path / "a.zip")
    parquet.write_table(pa.table({"image": [b"x"], "what": [1]}), path)
    message = message_of(path)
    assert "Expected one column of labels" in message
    assert "found none among the columns image, what" in message
    parquet.write_table(pa.table({"a": [b"x"], "b": [b"x"], "label": [1]}), path)
    assert "Expected one column of images" in message_of(path)
    parquet.write_table(pa.table({"a": [b"x", None], "label": ["sad", "sad"]}), path)
    reasons = [record.reason for record in read(path)[1]]
    assert reasons == [
        "not a JPEG, PNG, WebP, BMP, TIFF or GIF image",
        "not the bytes of an image",
    ]


def test_damaged_text_in_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    sound = pa.table({"image": [b"x"], "label": ["happyhappy"]})
    parquet.write_table(sound, path, store_schema=False, compression="none")
    content = path.read_bytes()
    for text in (b"image", b"happyhappy"):
        path.write_bytes(content.replace(text, b"\xff" * len(text)))
        message = message_of(path)
        assert "is not a valid Parquet file ('utf-8' codec can't decode" in message


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = hugging_face(tmp_path / "any")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"extra `\[parquet\]`"):
        read(path)


# --- archives are not trusted ------------------------------------------------

OUTSIDE = (
    "../evil.png",
    "/etc/evil.png",
    "a/../../evil.png",
    "C:/evil.png",
    "..\\e.png",
)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_path_leads_out(tmp_path, name, kind):
    path, files = tmp_path / "archive", {"sad/a.png": b"", name: b""}
    zipped(path, **files) if kind == "zip" else tarred(path, files)
    message = message_of(path)
    assert "leads out of the folder it is for" in message
    assert "is not safe to import" in message


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_no_links_or_devices_in_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("sad/a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert "'sad/a.png' is a link or a device" in message_of(tmp_path / "a.tar")


def test_no_links_in_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("sad/a.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "'sad/a.png' is a link or a device" in message_of(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "csv.gz"])
def test_bombs(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(containers, "ALWAYS_ALLOWED", 2**20)
    path, zeros = tmp_path / "bomb", bytes(2**24)
    if kind == "zip":
        zipped(path, **{"sad/a.png": zeros})
    elif kind == "tar.gz":
        tarred(path, {"sad/a.png": zeros, "sad/b.png": b""})
    else:
        path.write_bytes(gzip.compress(b"emotion,pixels\n" + zeros))
    assert "as a decompression bomb does" in message_of(path)


def test_a_bomb_of_members(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "MEMBER_LIMIT", 10)
    files = {f"sad/{n}.png": b"" for n in range(11)}
    for path in (
        zipped(tmp_path / "a.zip", **files),
        tarred(tmp_path / "a.tgz", files),
    ):
        assert "Expected at most 10 files" in message_of(path)


def test_a_tar_header_that_would_fill_the_memory(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    assert "holds a header of 1,073,741,824 bytes" in message_of(tmp_path / "a.tar")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "tar.gz", "csv.gz"])
def test_truncated_archives(tmp_path, kind, share):
    path, table = tmp_path / "truncated", FER2013.encode()
    if kind == "zip":
        zipped(path, **{"fer2013.csv": table})
    elif kind == "tar.gz":
        tarred(path, {"fer2013.csv": table})
    else:
        path.write_bytes(gzip.compress(table))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    message = message_of(path)
    assert "damaged or truncated" in message
    assert "download or copy it again" in message


def test_a_damaged_member_of_a_zip_is_one_bad_image(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("sad/a.png", "fear/b.png"):
            archive.writestr(name, png(face(1)))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[1000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    _, records = read(tmp_path / "a.zip")
    assert [type(r) for r in records] == [BadRecord, ImageRecord]
    assert "Bad CRC-32" in records[0].reason


# --- damage is noticed -------------------------------------------------------


def test_hostile_sources(tmp_path):
    for name, content in campaign.hostile():
        path = tmp_path / name
        path.write_bytes(content)
        code, message = campaign.prepare("--source", path, "--data", tmp_path / "data")
        assert (code, message.count("error: ")) == (2, 1), name
        assert not (tmp_path / "data").exists(), name


def test_some_damage_of_every_kind(tmp_path):
    assert campaign.damage_is_noticed(cases=130, seed=1, work=tmp_path) == 0


def test_no_bit_of_a_tar_s_header_ends_it_early(tmp_path):
    files = {f"sad/{n}.png": png(face(n)) for n in range(3)}
    sound = campaign.tarred(files)
    start = 512 + 512 * -(-len(files["sad/0.png"]) // 512)
    assert sound[start:].startswith(b"sad/1.png")
    for position in range(512):
        content = bytearray(sound)
        content[start + position] ^= 1
        (tmp_path / "a.tar").write_bytes(content)
        # The last byte of the field of the sum is in no sum.
        if position == 155:
            assert sorted(found(read(tmp_path / "a.tar")[1])) == sorted(files)
        else:
            assert "damaged or truncated" in message_of(tmp_path / "a.tar"), position


@pytest.mark.parametrize("packer", [bz2, lzma])
def test_all_of_several_streams_is_read(tmp_path, packer):
    path, middle = tmp_path / "fer2013.csv.x", len(FER2013) // 2
    first, second = (
        packer.compress(text.encode()) for text in (FER2013[:middle], FER2013[middle:])
    )
    path.write_bytes(first + second + bytes(8))
    check_table(read(path)[1])
    path.write_bytes(first + b"?" + second[1:])
    assert "damaged or truncated" in message_of(path)
    path.write_bytes(first + second[:-1])
    assert "damaged or truncated" in message_of(path)


def test_long_names_in_a_tar(tmp_path):
    name = f"{'long/' * 30}train/sad/{'x' * 99}.png"
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        files = {name: png(face(1)), "train/fear/b.png": png(face(2))}
        (tmp_path / "a.tar").write_bytes(campaign.tarred(files, layout))
        assert sorted(found(read(tmp_path / "a.tar")[1])) == sorted(files)


@pytest.mark.parametrize("below", ["", "P1/", "P1/a/"])
def test_other_files_in_class_folders_are_counted(tmp_path, below):
    files = {"sad/a.png": png(face(1)), f"sad/{below}b.qng": b"", "c": b""}
    _, records = read(zipped(tmp_path / "a.zip", **files))
    assert [r.reason for r in records if isinstance(r, LeftOut)] == [
        ".qng file in the class folders, no image"
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_bad_images(tmp_path):
    tree(tmp_path, "sad/a.png")
    for name in ("sad/b.png", "sad/votes.csv", "x.csv"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "sad/c.png").symlink_to("b.png")
    (tmp_path / "sad/d.png").symlink_to("/dev/zero")
    message = message_of(tmp_path)
    assert "votes.csv cannot be read to its end" in message
    (tmp_path / "sad/votes.csv").unlink()
    _, records = read(tmp_path)
    bad = [r for r in records if isinstance(r, BadRecord)]
    assert [r.place for r in bad] == ["sad/b.png", "sad/c.png", "sad/d.png"]
    assert all("not a regular file" in r.reason for r in bad)
    assert list(found(records)) == ["sad/a.png"]


def test_folders_one_in_the_other(tmp_path):
    with contextlib.chdir(tmp_path):
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        try:
            message = message_of(tmp_path)
        finally:
            # pytest cannot: its way of removing folders calls itself for each.
            for _ in range(1500):
                os.chdir("..")
                Path("d").rmdir()
    # Later Pythons list them all.
    assert "folders one in the other" in message or "Found no files" in message


def test_bombs_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    for name, content in campaign.bombs():
        if not name.endswith(".parquet"):
            break
        path.write_bytes(content)
        message = message_of(path)
        assert "decompression bomb" in message or "Expected at most 16,384" in message


def test_a_large_image_that_is_stored_once_is_unpacked_once_at_a_time(tmp_path):
    image, path = bytes(20_000_000), tmp_path / "a.parquet"
    column = pa.array([image] * 8).dictionary_encode()
    table = pa.table({"image": column, "label": [3] * 8})
    parquet.write_table(table, path)
    before, counted = (
        pa.default_memory_pool(),
        pa.proxy_memory_pool(pa.default_memory_pool()),
    )
    pa.set_memory_pool(counted)
    try:
        message_of(path)
    finally:
        pa.set_memory_pool(before)
    assert counted.max_memory() < 5 * len(image)


def test_parquet_with_fewer_rows_than_it_says(tmp_path, monkeypatch):
    path = hugging_face(tmp_path / "a.parquet")
    source = find_source(open_container(path), ClassNames({}))
    hugging_face(path, count=13)
    with pytest.raises(SourceError, match="13 rows instead of 14"):
        list(source.records())


# --- zip ---------------------------------------------------------------------


def test_an_encrypted_zip(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"sad/a.png": b"x"})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 8 : place + 10] = struct.pack("<H", 1)
    path.write_bytes(content)
    assert "is encrypted. Unpack it" in message_of(path)


# --- names -------------------------------------------------------------------


def test_rows_in_names():
    assert row_in_name(numbered_name("PublicTest", 28709)) == 28709
    for name in ("Training_10118481", "Training_1206794", "fer0000001", "x_0000001"):
        assert row_in_name(name) is None


@settings(deadline=None)
@given(st.text())
def test_any_name_becomes_a_safe_one(name):
    safe = safe_stem(name)
    assert safe == safe_stem(safe)
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe.strip(" .") == safe != ""
    assert len(safe.encode()) <= 150
