"""Reading class folders, and setting validation images apart."""

import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.data import folders, images, splits
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Dataset, Split
from emotion_cnn.errors import DataError

FER2013 = os.environ.get("EMOTION_CNN_FER2013")


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


def made_up(count: int = 70, names=None, seed: int = 0) -> Split:
    """Images of noise, every seventh of the same class."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(EMOTIONS)
    return Split(images, labels, tuple(names or (f"train/{i}" for i in range(count))))


def split(train: Split, test: Split, *, share: float = 0.1, seed: int = 1) -> Dataset:
    return splits.split_dataset(train, test, validation_share=share, seed=seed)


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
    levels = [10 * label + number for label in range(7) for number in range(2)]
    assert test.images[:, 5, 7, 0].tolist() == levels
    assert data.notes == ()
    assert splits.class_counts(test) == dict.fromkeys(EMOTIONS, 2)
    assert list(splits.class_counts(test)) == list(EMOTIONS)


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
    monkeypatch.setattr(folders, "_are_large", lambda paths: several_threads)
    assert read(folder).fingerprint == before


def test_only_large_images_are_read_by_several_threads(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(1600))
    large.write_bytes(bytes(9000))
    assert not folders._are_large([small] * 500)
    assert folders._are_large([large] * 500)
    assert not folders._are_large([tmp_path / "missing"])


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
    (folder / "train/happy/face.gif").write_text("x")
    for hidden in (".DS_Store", "Thumbs.db", "._0.png"):
        (folder / "test/sad" / hidden).write_text("x")
    data = read(folder)
    assert len(data.test) == 14
    assert data.notes == (
        "left out: 3 folders (train/contempt, test/.ipynb_checkpoints, "
        "test/happy/more)",
        "left out: 2 files in class folders (not .jpg, .jpeg or .png)",
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_class_is_named(folder, part):
    (folder / part / "fear").rename(folder / part / "Angst")
    for image in (folder / part / "sad").iterdir():
        image.unlink()
    message = message_of(folder)
    assert f"No images of fear, sad in {folder / part}." in message
    assert "found the folders Angst, angry, disgust, happy, neutral, sad, " in message
    assert "Add the missing images, or rename the folder" in message


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
    assert message.startswith(f"No images in {folder / part}. Expected .jpg, .jpeg")
    assert found in message
    assert f"Unpack FER2013 into {folder}" in message
    assert "`--data FOLDER`" in message
    assert "`--data sample`" in message


def test_read_test_needs_no_train(folder):
    (folder / "train").rename(folder / "elsewhere")
    (folder / "test/sad/x.txt").write_text("x")
    test, notes = folders.read_test(folder, skip_bad=False)
    assert len(test) == 14
    assert notes == ("left out: 1 file in class folders (not .jpg, .jpeg or .png)",)


def test_has_images(tmp_path):
    assert not folders.has_images(tmp_path / "absent")
    assert not folders.has_images(tmp_path)
    save(tmp_path / "elsewhere/happy/0.png")
    save(tmp_path / "train/0.png")
    (tmp_path / "train/happy").mkdir()
    (tmp_path / "train/happy/notes.txt").write_text("x")
    (tmp_path / "train/happy/.0.png").write_text("x")
    assert not folders.has_images(tmp_path)
    (tmp_path / "test/joy").mkdir(parents=True)
    (tmp_path / "test/joy/0.JPEG").write_text("by its name alone")
    assert folders.has_images(tmp_path)


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "fear":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = message_of(folder)
    assert f"{folder / 'train/fear'} cannot be read: Permission denied." in message


# --- conversions -------------------------------------------------------------


def only_image(folder: Path, level_of: str = "test/angry/0.png") -> np.ndarray:
    test, _ = folders.read_test(folder, skip_bad=False)
    return test.images[test.names.index(level_of), :, :, 0]


def test_conversions_are_counted_in_one_note(folder):
    save(folder / "test/angry/0.png", 77, "RGB", (96, 60))
    save(folder / "train/angry/0.png", 77, "RGB")
    save(folder / "train/happy/0.JPG", 77, "L", (20, 20))
    assert read(folder).notes == (
        "converted to 48x48 grayscale: 3 images (2 of another size, 2 of another mode)",
    )
    assert (only_image(folder) == 77).all()


def test_sixteen_bits_are_scaled_not_clipped(folder):
    ramp = np.linspace(0, 65535, 48 * 48).astype(np.uint16).reshape(48, 48)
    Image.fromarray(ramp).save(folder / "test/angry/0.png")
    assert np.array_equal(only_image(folder), ramp // 256)


def test_transparent_pixels_are_white(folder):
    pixels = np.full((48, 48, 4), (50, 50, 50, 255), np.uint8)
    pixels[:, 24:, 3] = 0
    Image.fromarray(pixels).save(folder / "test/angry/0.png")
    image = only_image(folder)
    assert (image[:, :24] == 50).all()
    assert (image[:, 24:] == 255).all()


def test_laying_on_white_by_rows_changes_nothing(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 4), np.uint8)
    image = Image.fromarray(pixels)
    white = Image.new("RGBA", image.size, "white")
    expected = Image.alpha_composite(white, image).convert("L")
    assert images._laid_on_white(image) == expected
    monkeypatch.setattr(images, "_MEGAPIXELS_AT_ONCE", 0.0004)
    assert images._laid_on_white(image) == expected


def test_a_large_jpeg_is_decoded_small(tmp_path, monkeypatch):
    ramp = np.linspace(0, 255, 3000).astype(np.uint8)
    image = Image.fromarray(np.tile(ramp, (2000, 1))).convert("RGB")
    image.save(tmp_path / "a.jpg")
    sizes, load = [], Image.Image.load
    monkeypatch.setattr(
        Image.Image, "load", lambda image: sizes.append(image.size) or load(image)
    )
    decoded, before = folders._read_image(tmp_path / "a.jpg")
    assert max(sizes) <= (750, 500)
    assert (before.width, before.height, before.mode) == (3000, 2000, "RGB")
    middle = np.linspace(42, 213, 48)
    assert abs(decoded - middle).max() < 4


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory otherwise")
def test_a_large_transparent_image_fits_into_memory(tmp_path):
    Image.new("RGBA", (4900, 4890)).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import sys; from pathlib import Path\n"
        "from emotion_cnn.dataset import _read_image\n"
        "assert _read_image(Path(sys.argv[1]))[0].mean() == 255\n"
        # Not ru_maxrss: a child inherits that of the process it was forked from.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 250  # MB; 400 with the whole image at a time


def test_palette_with_a_transparent_colour(folder):
    image = Image.new("P", (48, 48), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.paste(0, (0, 0, 48, 10))
    image.save(folder / "test/angry/0.png", transparency=0)
    decoded = only_image(folder)
    assert (decoded[:10] == 255).all()
    assert (decoded[10:] == 90).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA"])
def test_modes_of_png(folder, mode):
    save(folder / "test/angry/0.png", 255, mode)
    assert (only_image(folder) == 255).all()


def test_cmyk_jpeg(folder):
    save(folder / "test/angry/0.jpg", 120, "CMYK")
    image = only_image(folder, "test/angry/0.jpg")
    assert abs(image.astype(int) - 120).max() <= 2


def test_exif_orientation_is_applied(folder):
    upright = np.zeros((48, 48), np.uint8)
    upright[:24] = 200  # bright above, dark below
    lying = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    lying.save(folder / "test/angry/0.png", exif=exif)
    assert np.array_equal(only_image(folder), upright)
    assert read(folder).notes == (
        "converted to 48x48 grayscale: 1 image "
        "(1 turned upright as their EXIF data says)",
    )


def test_other_shapes_keep_their_proportions(folder):
    wide = np.zeros((48, 144), np.uint8)
    wide[:, 48:96] = 255  # a square in the middle fills the result
    Image.fromarray(wide).save(folder / "test/angry/0.png")
    assert (only_image(folder)[:, 1:-1] == 255).all()


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
    "truncated.jpg": (truncated_jpeg, "image file is truncated"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "empty file"),
    "text.jpg": (
        lambda path: path.write_text("not an image"),
        "not a JPEG or PNG image",
    ),
    "gif.png": (lambda path: save(path, format="GIF"), "not a JPEG or PNG image"),
    "chunk.png": (broken_chunk, "broken PNG file"),
    "bomb.png": (bomb, "larger than 32 megapixels"),
    "warned.png": (lambda path: bomb(path, 10000), "larger than 32 megapixels"),
    "limit.png": (lambda path: bomb(path, 5700), "larger than 32 megapixels"),
    "link.png": (
        lambda path: path.symlink_to("nowhere.png"),
        "No such file or directory",
    ),
}


@pytest.fixture
def bad_folder(folder):
    for file, (make, _) in BAD.items():
        make(folder / "test/sad" / file)
    bomb(folder / "train/fear/bomb.png")
    return folder


def test_all_bad_images_are_named_together(bad_folder):
    lines = message_of(bad_folder).splitlines()
    assert lines[0] == "10 images cannot be read:"
    assert lines[1] == "  train/fear/bomb.png: larger than 32 megapixels"
    for line, (file, (_, reason)) in zip(lines[2:], sorted(BAD.items()), strict=False):
        assert line.startswith(f"  test/sad/{file}: {reason}")
        assert len(line) < 150
    assert lines[11:] == [
        "Fix or remove them, or go on without them with `--skip-bad`."
    ]


def test_bad_images_are_skipped_on_request(bad_folder, recwarn):
    data = read(bad_folder, skip_bad=True)
    assert len(data.test) == 14
    assert data.test.images[:, 0, 0, 0].tolist() == [
        10 * label + number for label in range(7) for number in range(2)
    ]
    (note,) = data.notes
    assert note.startswith(
        "skipped: 10 bad images (train/fear/bomb.png: larger than 32 megapixels; "
    )
    for file, (_, reason) in BAD.items():
        assert f"test/sad/{file}: {reason}" in note
    assert not recwarn.list


def test_a_bomb_is_never_decoded(bad_folder, monkeypatch):
    load = Image.Image.load

    def watched(image):
        assert image.width * image.height <= 24_000_000
        return load(image)

    monkeypatch.setattr(Image.Image, "load", watched)
    message = message_of(bad_folder)
    assert message.count("larger than 32 megapixels") == 4


def test_anything_a_decoder_raises_is_a_bad_image(folder, monkeypatch):
    def fail(image):
        raise struct.error("a\nb\x1b[31m")

    monkeypatch.setattr(images, "_to_grayscale", fail)
    message = message_of(folder)
    assert message.startswith("35 images cannot be read:\n  train/angry/0.png: ")
    assert "\x1b" not in message
    assert len(message.splitlines()) == 37


def test_a_long_list_of_bad_images_is_cut(folder):
    for number in range(107):
        (folder / f"test/sad/{number:03}.jpg").write_bytes(b"")
    lines = message_of(folder).splitlines()
    assert lines[0] == "107 images cannot be read:"
    assert lines[100:102] == ["  test/sad/099.jpg: empty file", "  ... and 7 more"]
    assert len(lines) == 103


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
def test_a_image_one_may_not_read(folder):
    save(folder / "test/sad/0.png").chmod(0)
    assert "  test/sad/0.png: Permission denied\n" in message_of(folder)


def test_a_refused_image_is_bad(folder, monkeypatch):
    path_open = Path.open

    def refuse(path, *arguments):
        if path.as_posix().endswith("test/sad/0.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return path_open(path, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    assert "  test/sad/0.png: Permission denied\n" in message_of(folder)


# --- splits ------------------------------------------------------------------


def official_names(count: int) -> list[str]:
    parts = ("PrivateTest", "PublicTest", "PrivateTest")
    return [f"test/happy/{parts[i % 3]}_{i}.jpg" for i in range(count)]


def test_official_parts():
    parts = splits.official_parts(made_up(7, official_names(7)))
    assert {part: found.tolist() for part, found in parts.items()} == {
        "PublicTest": [1, 4],
        "PrivateTest": [0, 2, 3, 5, 6],
    }


@pytest.mark.parametrize(
    "names",
    [
        ["test/sad/PublicTest_1.jpg", "test/sad/PublicTest_2.jpg"],
        ["test/sad/PrivateTest_1.jpg", "test/sad/PrivateTest_2.jpg"],
        ["test/sad/PrivateTest_1.jpg", "test/sad/PublicTest_1.jpg", "test/sad/me.jpg"],
        ["PublicTest/sad/1.jpg", "PrivateTest/sad/1.jpg"],
    ],
)
def test_no_official_parts(names):
    assert splits.official_parts(made_up(len(names), names)) == {}


def test_validation_is_public_test_where_there_is_one():
    train, test = made_up(70), made_up(30, official_names(30), seed=1)
    data = split(train, test)
    assert data.train is train
    assert data.test is test
    assert len(data.validation) == 10
    assert all("PublicTest" in name for name in data.validation.names)
    assert np.array_equal(data.validation.images, test.images[1::3])
    assert data.validation_source == "PublicTest (10 images of test/)"


def test_otherwise_a_share_of_every_class_is_held_out():
    train, test = made_up(1400), made_up(14, seed=1)
    data = split(train, test)
    assert splits.class_counts(data.validation) == dict.fromkeys(EMOTIONS, 20)
    assert not set(data.train.names) & set(data.validation.names)
    for part in (data.train, data.validation):
        positions = [train.names.index(name) for name in part.names]
        assert positions == sorted(positions)
        assert np.array_equal(part.images, train.images[positions])
        assert np.array_equal(part.labels, train.labels[positions])
    assert len(data.train) + len(data.validation) == 1400
    assert data.test is test
    assert data.validation_source == (
        "a stratified, seeded tenth of train/ (140 of 1,400 images)"
    )


def test_the_seed_decides_what_is_held_out():
    train, test = made_up(), made_up(14)
    first = split(train, test, share=0.3)
    assert split(train, test, share=0.3).fingerprint == first.fingerprint
    other = split(train, test, share=0.3, seed=2)
    assert other.validation.names != first.validation.names
    assert first.validation_source == (
        "a stratified, seeded 0.3 share of train/ (21 of 70 images)"
    )


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_tiny_class_keeps_a_image_on_each_side(share):
    data = split(made_up(14), made_up(7), share=share)
    assert splits.class_counts(data.train) == dict.fromkeys(EMOTIONS, 1)
    assert splits.class_counts(data.validation) == dict.fromkeys(EMOTIONS, 1)


def test_a_single_image_cannot_be_shared():
    with pytest.raises(DataError, match="found a single one of: neutral, sad, surp"):
        split(made_up(11), made_up(7))
    official = made_up(30, official_names(30))
    assert len(split(made_up(11), official).train) == 11


def test_notes_are_passed_on():
    data = splits.split_dataset(
        made_up(), made_up(7), validation_share=0.1, seed=1, notes=["drawn"]
    )
    assert data.notes == ("drawn",)


def test_select():
    images = made_up(5)
    picked = images.select([3, 1])
    assert picked.names == ("train/3", "train/1")
    assert picked.labels.tolist() == [3, 1]
    assert np.array_equal(picked.images, images.images[[3, 1]])
    assert images.select(images.labels > 2).names == ("train/3", "train/4")
    assert len(images.select([])) == 0


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", ["pixel", "label", "name", "order"])
def test_fingerprint_changes_with_any_change(part, change):
    parts = {"train": made_up(), "test": made_up(30, official_names(30))}
    before = split(**parts).fingerprint
    assert len(before) == 64
    given = parts[part]
    if change == "pixel":
        images = given.images.copy()
        images[4, 20, 20, 0] ^= 1
        parts[part] = replace(given, images=images)
    elif change == "label":
        labels = given.labels.copy()
        labels[4] += 1
        parts[part] = replace(given, labels=labels)
    elif change == "name":
        names = ("other/" + given.names[0], *given.names[1:])
        parts[part] = replace(given, names=names)
    else:
        parts[part] = given.select(np.arange(len(given))[::-1])
    assert split(**parts).fingerprint != before
    copies = {"train": made_up(), "test": made_up(30, official_names(30))}
    assert split(**copies).fingerprint == before


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
