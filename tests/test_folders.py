"""Reading a data folder: its arrays, what is left out, and what is wrong with it."""

import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.data import folders, images, listing, splits
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.listing import find_classes, has_images
from emotion_cnn.data.packed import packing
from emotion_cnn.data.splits import Dataset
from emotion_cnn.errors import DataError

FER2013 = os.environ.get("EMOTION_CNN_FER2013")

LEVELS = [10 * label + number for label in range(7) for number in range(2)]
"""Gray levels of the test images of `folder`, in their order."""


def save(path: Path, level: int = 100, mode: str = "L", size=(48, 48), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path, **options)
    return path


def read(folder: Path, *, share: float = 0.1, seed: int = 1, skip_bad=False) -> Dataset:
    train, test, notes = folders.read_splits(folder, skip_bad=skip_bad)
    return splits.split_dataset(
        train, test, validation_share=share, seed=seed, notes=notes
    )


def message_of(folder: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **options)
    return str(caught.value)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


@pytest.fixture
def folder(tmp_path):
    """Three train and two test images per class, gray level 10 x label + number."""
    for part, count in (("train", 3), ("test", 2)):
        for label, emotion in enumerate(EMOTIONS):
            for number in range(count):
                level = 10 * label + number
                save(tmp_path / part / emotion / f"{number}.png", level)
    return tmp_path


def test_arrays_are_what_they_are_said_to_be(folder):
    data = read(folder)
    test = data.test
    assert test.images.shape == (14, 48, 48, 1)
    assert test.images.dtype == np.uint8
    assert test.labels.dtype == np.int64
    assert test.labels.tolist() == [label for label in range(7) for _ in range(2)]
    assert test.names[:3] == (
        "test/angry/0.png",
        "test/angry/1.png",
        "test/disgust/0.png",
    )
    assert test.images[:, 5, 7, 0].tolist() == LEVELS
    assert data.notes == ()
    assert test.classes == EMOTIONS


def test_order_does_not_come_from_the_file_system(folder, monkeypatch):
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    before = read(folder)
    monkeypatch.setattr(os, "scandir", Backwards)
    after = read(folder)
    assert after.test.names == before.test.names
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize("several_threads", [False, True])
def test_threads_do_not_change_the_outcome(folder, monkeypatch, several_threads):
    before = read(folder).fingerprint
    least = 0 if several_threads else 10**9
    monkeypatch.setattr(folders, "_BYTES_WORTH_A_THREAD", least)
    assert read(folder).fingerprint == before


@pytest.mark.parametrize(("side", "alone"), [(48, True), (200, False)])
def test_only_large_images_are_read_by_several_threads(
    tmp_path, monkeypatch, side, alone
):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    for part in ("train", "test"):
        for name in ("sad", "happy"):
            path = tmp_path / part / name / "1.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    decode, on_main = images.decode_image, []

    def noting(*arguments):
        on_main.append(threading.current_thread() is threading.main_thread())
        return decode(*arguments)

    monkeypatch.setattr(folders, "decode_image", noting)
    folders.read_splits(tmp_path, skip_bad=False, classes=("sad", "happy"))
    assert on_main == 4 * [alone]


def test_nothing_is_printed_where_there_is_no_terminal(folder, capfd):
    read(folder)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- folders -----------------------------------------------------------------


def test_other_names_of_an_emotion_are_merged(folder):
    save(folder / "test/Anger/9.jpg", 200)
    (folder / "test/happy").rename(folder / "test/Happiness")
    test = read(folder).test
    assert test.names[:3] == (
        "test/Anger/9.jpg",
        "test/angry/0.png",
        "test/angry/1.png",
    )
    assert test.labels[:4].tolist() == [0, 0, 0, 1]
    assert splits.class_counts(test)["happy"] == 2


def test_unknown_folders_and_files_are_left_out_and_noted(folder):
    save(folder / "train/contempt/0.png")
    save(folder / "test/.ipynb_checkpoints/0.png")
    save(folder / "test/happy/more/0.png")
    (folder / "test/happy/list.csv").write_text("x")
    (folder / "train/happy/face.heic").write_text("x")
    for hidden in (".DS_Store", "Thumbs.db", "._0.png"):
        (folder / "test/sad" / hidden).write_text("x")
    data = read(folder)
    assert len(data.test) == 14
    assert data.notes == (
        "left out: 3 folders (train/contempt, test/.ipynb_checkpoints, "
        "test/happy/more)",
        "left out: 2 files in class folders that are no images (1 .heic, 1 .csv)",
    )


def test_a_class_that_is_missing_in_train_is_named(folder):
    (folder / "train/fear").rename(folder / "train/Angst")
    for image in (folder / "train/sad").iterdir():
        image.unlink()
    message = message_of(folder)
    assert f"No images of fear, sad in {folder / 'train'}." in message
    assert "found the folders Angst, angry, disgust, happy, neutral, sad, " in message
    assert "Add the missing images, rename the folder" in message
    assert "name the classes that there are with `classes`" in message
    options = {"skip_bad": False, "may_lack": ("fear", "sad")}
    train, _, notes = folders.read_splits(folder, **options)
    assert splits.class_counts(train)["fear"] == 0
    assert "no images of fear, sad in train/" in notes


def test_test_may_lack_classes(folder):
    (folder / "test/fear").rename(folder / "elsewhere")
    for image in (folder / "test/sad").iterdir():
        image.write_text("no image")
    data = read(folder, skip_bad=True)
    assert len(data.test) == 10
    assert data.test.classes == EMOTIONS
    assert data.notes[0] == "no images of fear, sad in test/"


def test_classes_are_the_folders_with_images(tmp_path):
    for name in ("tired/0.png", "Joy/0.png", ".git/0.png", "P001/Anger/0.png", "0.png"):
        save(tmp_path / "train" / name)
    (tmp_path / "train/fear").mkdir()
    save(tmp_path / "test/bored/0.png")
    save(tmp_path / "test/Tired/0.png")
    save(tmp_path / "val/CONTEMPT/0.png")
    save(tmp_path / "elsewhere/sad/0.png")
    known = ("happy", "contempt", "bored", "Tired")
    assert find_classes(tmp_path) == known
    assert find_classes(tmp_path, "test") == ("bored", "Tired")
    assert find_classes(tmp_path / "none") == ()
    save(tmp_path / f"train/{51 * 'x'}/0.png")
    with pytest.raises(DataError, match=r"printable and not very long; found 'xxx"):
        find_classes(tmp_path)


def test_more_classes_than_a_network_has(tmp_path):
    for number in range(101):
        save(tmp_path / f"train/person {number}/0.png")
    with pytest.raises(DataError, match=r"at most 100 classes, .* not per person"):
        find_classes(tmp_path)


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_images_for_validation(folder, name):
    given = {"skip_bad": False, "classes": EMOTIONS}
    (folder / name / "sad").mkdir(parents=True)
    assert folders.read_validation(folder, **given) is None
    save(folder / name / "Sadness/1.png", 9)
    validation, notes = folders.read_validation(folder, **given)
    assert validation.names == (f"{name}/Sadness/1.png",)
    assert notes[0].startswith("no images of angry, disgust, fear, happy, neutral, s")
    save(folder / "valid/sad/1.png")
    save(folder / "val/sad/1.png")
    with pytest.raises(DataError, match="one folder with images for validation, found"):
        folders.read_validation(folder, **given)


def test_very_many_folders_are_not_all_named(folder):
    for number in range(150):
        (folder / f"train/{number:03}").mkdir()
    (folder / "train/fear").rename(folder / "train/Angst")
    message = message_of(folder)
    assert "098, 099, ... and 57 more. Add the missing" in message


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("absent", "found no such folder."),
        ("empty", "found no folders in it."),
        ("unknown", "found the folders Freude."),
    ],
)
def test_a_missing_part_says_what_to_do(folder, part, state, found):
    (folder / part).rename(folder / "elsewhere")
    if state == "empty":
        (folder / part).mkdir()
    elif state == "unknown":
        save(folder / part / "Freude/0.png")
    message = message_of(folder)
    assert message.startswith(
        f"No images in {folder / part}. Expected images in a folder"
    )
    assert found in message
    assert f"Unpack FER2013 into {folder}" in message
    assert "another folder with `data`" in message
    assert "`data=sample`" in message


def test_read_test_needs_no_train(folder):
    (folder / "train").rename(folder / "elsewhere")
    (folder / "test/sad/x.txt").write_text("x")
    test, notes = folders.read_test(folder, skip_bad=False)
    assert len(test) == 14
    (note,) = notes
    assert note == "left out: 1 file in class folders that are no images (1 .txt)"


def test_has_images(tmp_path):
    assert not has_images(tmp_path / "absent")
    assert not has_images(tmp_path)
    save(tmp_path / "elsewhere/happy/0.png")
    save(tmp_path / "train/0.png")
    (tmp_path / "train/happy").mkdir()
    (tmp_path / "train/happy/notes.txt").write_text("x")
    (tmp_path / "train/happy/.0.png").write_text("x")
    assert not has_images(tmp_path)
    (tmp_path / "test/joy").mkdir(parents=True)
    (tmp_path / "test/joy/0.JPEG").write_text("by its name alone")
    assert has_images(tmp_path)


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "fear":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = message_of(folder)
    assert f"{folder / 'train/fear'} cannot be read: Permission denied." in message


def test_conversions_are_counted_in_one_note(folder):
    save(folder / "test/angry/0.png", 77, "RGB", (96, 60))
    save(folder / "train/angry/0.png", 77, "RGB")
    save(folder / "train/happy/0.JPG", 77, "L", (20, 20))
    assert read(folder).notes == (
        "converted to 48x48 grayscale: 3 images (2 of another size, 2 of another mode)",
    )


def test_another_size_of_the_arrays(folder):
    train, test, notes = folders.read_splits(folder, skip_bad=False, size=32)
    assert train.images.shape == (21, 32, 32, 1)
    assert test.images[:, 5, 7, 0].tolist() == LEVELS
    assert notes == ("converted to 32x32 grayscale: 35 images (35 of another size)",)


def test_other_classes(tmp_path):
    for part in ("train", "test"):
        for level, name in enumerate(("Dog", "cat", "sad", "joy")):
            save(tmp_path / part / name / "0.png", level)
    classes = ("dog", "Happy", "cat")
    train, test, notes = folders.read_splits(tmp_path, skip_bad=False, classes=classes)
    assert train.classes == test.classes == classes
    assert test.labels.tolist() == [0, 1, 2]
    assert test.images[:, 0, 0, 0].tolist() == [0, 3, 1]
    assert notes == ("left out: 2 folders (train/sad, test/sad)",)
    survey = folders.survey(tmp_path, classes=classes)
    assert survey.train.classes == classes
    assert survey.unused_folders == ("train/sad", "test/sad")
    with pytest.raises(DataError, match=r"No images of bird in .*each of dog, bird; f"):
        folders.read_splits(tmp_path, skip_bad=False, classes=("dog", "bird"))


# --- bad images ------------------------------------------------------------


def truncated_jpeg(path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def broken_chunk(path):
    save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 0xFF
    path.write_bytes(content)


def bomb(path, side=60000):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


BAD = {
    "truncated.jpg": (truncated_jpeg, "corrupt JPEG data: the file ends early"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "empty file"),
    "text.jpg": (
        lambda path: path.write_text("not an image"),
        "not a JPEG, PNG, WebP, BMP, TIFF or GIF image",
    ),
    "icon.png": (
        lambda path: save(path, format="ICO"),
        "not a JPEG, PNG, WebP, BMP, TIFF or GIF image",
    ),
    "chunk.png": (broken_chunk, "broken PNG file"),
    "bomb.png": (bomb, "larger than 32 megapixels"),
    "warned.png": (lambda path: bomb(path, 10000), "larger than 32 megapixels"),
    "limit.png": (lambda path: bomb(path, 5700), "larger than 32 megapixels"),
    "link.png": (
        lambda path: path.symlink_to("nowhere.png"),
        "No such file or directory",
    ),
    "loop.png": (lambda path: path.symlink_to(path.name), "Too many levels of"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.fixture
def bad_folder(folder):
    for file, (make, _) in BAD.items():
        make(folder / "test/sad" / file)
    bomb(folder / "train/fear/bomb.png")
    return folder


def test_all_bad_images_are_named_together(bad_folder):
    lines = message_of(bad_folder).splitlines()
    assert lines[0] == "12 images cannot be read:"
    assert lines[1] == "  train/fear/bomb.png: larger than 32 megapixels"
    for line, (file, (_, reason)) in zip(lines[2:], sorted(BAD.items()), strict=False):
        assert line.startswith(f"  test/sad/{file}: {reason}")
        assert len(line) < 150
    assert lines[13:] == ["Fix or remove them, or leave them out with `skip_bad=True`."]


def test_bad_images_are_skipped_on_request(bad_folder, recwarn):
    data = read(bad_folder, skip_bad=True)
    assert len(data.test) == 14
    assert data.test.images[:, 0, 0, 0].tolist() == LEVELS
    (note,) = data.notes
    assert note.startswith(
        "skipped: 12 bad images (train/fear/bomb.png: larger than 32 megapixels; "
    )
    for file, (_, reason) in BAD.items():
        assert f"test/sad/{file}: {reason}" in note
    assert not recwarn.list


def test_a_decompression_bomb_is_never_decoded(bad_folder, monkeypatch):
    load = Image.Image.load

    def watched(image):
        assert image.width * image.height <= 24_000_000
        return load(image)

    monkeypatch.setattr(Image.Image, "load", watched)
    message = message_of(bad_folder)
    assert message.count("larger than 32 megapixels") == 4


def test_anything_a_decoder_raises_is_a_bad_image(folder, monkeypatch):
    def fail(image, size):
        raise struct.error("a\nb\x1b[31m")

    monkeypatch.setattr(images, "_to_grayscale", fail)
    message = message_of(folder)
    assert message.startswith("35 images cannot be read:\n  train/angry/0.png: ")
    assert "\x1b" not in message
    assert len(message.splitlines()) == 37


def test_a_long_list_of_bad_images_goes_to_a_new_file(
    folder, tmp_path_factory, monkeypatch
):
    working = tmp_path_factory.mktemp("working")
    monkeypatch.chdir(working)
    for number in range(100):
        (folder / f"test/sad/{number:03}.jpg").write_bytes(b"")
    assert "more" not in message_of(folder)
    assert list(working.iterdir()) == []
    for number in range(100, 107):
        (folder / f"test/sad/{number:03}.jpg").write_bytes(b"")
    lines = message_of(folder).splitlines()
    assert lines[0] == "107 images cannot be read:"
    (listed,) = working.iterdir()
    named = f"... and 7 more, listed in {listed.name} in the working folder"
    assert lines[100:102] == ["  test/sad/099.jpg: empty file", f"  {named}"]
    assert len(lines) == 103
    expected = [f"test/sad/{number:03}.jpg: empty file" for number in range(107)]
    assert listed.read_text().splitlines() == expected
    # The same images are listed once.
    (note,) = read(folder, skip_bad=True).notes
    assert note.endswith(f"; {named})")
    assert list(working.iterdir()) == [listed]
    # Nothing is written through a link.
    listed.unlink()
    listed.symlink_to(working / "elsewhere")
    assert "listed in" not in message_of(folder)
    assert not (working / "elsewhere").exists()


def test_a_list_that_cannot_be_written_is_not_named(folder, monkeypatch):
    for number in range(107):
        (folder / f"test/sad/{number:03}.jpg").write_bytes(b"")

    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "\n  ... and 7 more\nFix or remove" in message_of(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_a_bad_image_and_nobody_waits_for_it(folder, linked):
    path = folder / "test/sad/pipe.png"
    pipe = path.with_suffix("") if linked else path
    os.mkfifo(pipe)
    if linked:
        path.symlink_to(pipe)
    assert "  test/sad/pipe.png: not a regular file\n" in message_of(folder)
    assert "pipe.png: not a regular file" in read(folder, skip_bad=True).notes[-1]


def test_a_class_without_a_good_image_is_missing(folder):
    for image in (folder / "train/fear").iterdir():
        image.write_bytes(b"")
    message = message_of(folder, skip_bad=True)
    assert f"No images of fear in {folder / 'train'}." in message
    assert "skipped 3 bad images" in message


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="whoever runs this may read every file",
)
def test_an_image_without_read_permission(folder):
    save(folder / "test/sad/0.png").chmod(0)
    assert "  test/sad/0.png: Permission denied\n" in message_of(folder)


def test_a_refused_image_is_bad(folder, monkeypatch):
    system_open = os.open

    def refuse(path, *arguments):
        if Path(path).as_posix().endswith("test/sad/0.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return system_open(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    assert "  test/sad/0.png: Permission denied\n" in message_of(folder)


def test_fingerprint_does_not_depend_on_where_the_folder_is(folder, tmp_path_factory):
    before = read(folder).fingerprint
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data"
    folder.rename(elsewhere)
    assert read(elsewhere).fingerprint == before


# --- the real data -----------------------------------------------------------


@pytest.mark.skipif(
    not FER2013, reason="EMOTION_CNN_FER2013 does not name a folder with FER2013"
)
def test_fer2013():
    data = read(Path(str(FER2013)))
    train = (3995, 436, 4097, 7214, 4965, 4830, 3171)
    test = (958, 111, 1024, 1774, 1233, 1247, 831)
    assert tuple(splits.class_counts(data.train).values()) == train
    assert tuple(splits.class_counts(data.test).values()) == test
    assert (len(data.train), len(data.validation), len(data.test)) == (
        28_708,
        3_589,
        7_178,
    )
    assert data.validation_source == "PublicTest (3,589 images of test/)"
    assert data.notes == ()
    path = Path(str(FER2013)) / data.test.names[1234]
    assert np.array_equal(data.test.images[1234, :, :, 0], np.asarray(Image.open(path)))


def packed_from(folder: Path, to: Path, *, size: int = 48) -> Path:
    """Packs the images of a data folder, in an order of no meaning."""
    to.mkdir()
    train, test, _ = folders.read_splits(
        folder, skip_bad=False, classes=find_classes(folder), size=size
    )
    images = {
        name: image
        for split in (train, test)
        for name, image in zip(split.names, split.images, strict=True)
    }
    with packing(to, size=size) as writer:
        for name in sorted(images, key=lambda name: name[::-1]):
            writer.add(name, images[name][..., 0])
    return to


def test_packed_images_are_those_of_the_folder(faces, tmp_path):
    packed = packed_from(faces, tmp_path / "packed")
    assert has_images(packed)
    assert find_classes(packed) == find_classes(faces) == EMOTIONS
    assert find_classes(packed, "validation") == ()
    assert folders.read_validation(packed, skip_bad=False, classes=EMOTIONS) is None
    expected = folders.read_splits(faces, skip_bad=False)
    found = folders.read_splits(packed, skip_bad=False)
    assert found[2] == expected[2] == ()
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.names == other.names
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.images, other.images)
    assert splits.fingerprint(*found[:2]) == splits.fingerprint(*expected[:2])
    test, _ = folders.read_test(packed, skip_bad=False)
    assert np.array_equal(test.images, found[1].images)


def test_classes_of_packed_images(faces, tmp_path):
    packed = packed_from(faces, tmp_path / "packed")
    chosen = ("sad", "happy")
    train, _, notes = folders.read_splits(packed, skip_bad=False, classes=chosen)
    assert {name.split("/")[1] for name in train.names} == {*chosen}
    assert train.labels.tolist() == [
        chosen.index(name.split("/")[1]) for name in train.names
    ]
    assert notes[0].startswith("left out: 10 folders (train/angry, ")
    with pytest.raises(DataError, match=r"No images of tired in .*the folders angry"):
        folders.read_splits(packed, skip_bad=False, classes=("sad", "tired"))


def test_a_survey_of_packed_images(faces, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    before = ImageFormat(10, 20, "RGB", False)
    with packing(packed) as writer:
        for part in ("train", "test", "other"):
            image = np.zeros((48, 48), np.uint8)
            writer.add(f"{part}/sad/1.png", image, before)
            writer.add(f"{part}/odd/1.png", image)
            writer.add_unreadable(f"{part}/sad/2.png", "empty file")
    found = folders.survey(packed, classes=("sad", "happy"))
    assert found.train.names == ("train/sad/1.png",)
    assert found.test.names == ("test/sad/1.png",)
    assert found.unreadable == {
        "train/sad/2.png": "empty file",
        "test/sad/2.png": "empty file",
    }
    assert found.converted == {"train/sad/1.png": before, "test/sad/1.png": before}
    assert found.unused_folders == ("train/odd", "test/odd", "other")


def test_packed_images_of_another_size(faces, tmp_path):
    packed = packed_from(faces, tmp_path / "packed", size=32)
    with pytest.raises(DataError, match=r"of 48x48 pixels in .*, found 32x32"):
        folders.read_splits(packed, skip_bad=False)


def test_packed_images_beside_others(faces, tmp_path):
    packed_from(faces, tmp_path / "packed")
    for path in (tmp_path / "packed").iterdir():
        path.rename(faces / path.name)
    with pytest.raises(DataError, match=r"found both: images\.npy and train and test"):
        folders.read_splits(faces, skip_bad=False)


def test_damaged_packed_images(faces, tmp_path):
    packed = packed_from(faces, tmp_path / "packed")
    (packed / "images.csv").write_text("")
    with pytest.raises(
        DataError, match=r"Expected packed images .*images\.csv is dama"
    ):
        folders.read_splits(packed, skip_bad=False)


@pytest.mark.parametrize("part", ["train", "val"])
def test_packed_images_beside_folders_of_any_part(faces, tmp_path, part):
    packed = packed_from(faces, tmp_path / "packed")
    save(packed / part / "sad" / "1.png")
    with pytest.raises(DataError, match=rf"found both: images\.npy and {part}\."):
        folders.read_validation(packed, skip_bad=False, classes=EMOTIONS)


def test_packed_images_that_are_replaced_while_they_are_read(
    faces, tmp_path, monkeypatch
):
    packed = packed_from(faces, tmp_path / "packed")
    read_packed = listing.read_packed

    def replaced(folder):
        found = read_packed(folder)
        with packing(packed) as writer:
            writer.add("train/sad/1.png", np.zeros((48, 48), np.uint8))
        return found

    monkeypatch.setattr(listing, "read_packed", replaced)
    with pytest.raises(DataError, match="were replaced while they were read"):
        folders.read_test(packed, skip_bad=False)


def test_bad_packed_images_of_other_classes_are_none(tmp_path):
    with packing(tmp_path) as writer:
        for part in ("train", "test"):
            writer.add(f"{part}/sad/1.png", np.zeros((48, 48), np.uint8))
            before = ImageFormat(10, 20, "RGB", False)
            writer.add(f"{part}/odd/1.png", np.zeros((48, 48), np.uint8), before)
            writer.add_unreadable(f"{part}/odd/2.png", "empty file")
    _, _, notes = folders.read_splits(tmp_path, skip_bad=False, classes=("sad",))
    assert notes == ("left out: 2 folders (train/odd, test/odd)",)
