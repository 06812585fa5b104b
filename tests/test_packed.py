"""Packed folders: what is written is read, and a stranger's is refused."""

import json
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from emotion_cnn.data import packed as packed_module
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.packed import PACKED_NAMES, is_packed, packing, read_packed
from emotion_cnn.errors import DataError

NAMES = ("train/happy/b,1.png", 'train/sad/"two"\nlines.png', "test/sad/\udc80.png")
BEFORE = ImageFormat(640, 480, "RGB", True)


def pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)


@pytest.fixture
def packed(tmp_path):
    """A packed folder of three images, one of them converted, and one unreadable."""
    with packing(tmp_path, size=8) as writer:
        for name, image in zip(NAMES, pixels(), strict=True):
            writer.add(name, image[..., 0], BEFORE if name == NAMES[1] else None)
        writer.add_unreadable("test/sad/bad.png", "empty file")
    return tmp_path


def test_what_is_packed_is_read(packed):
    assert is_packed(packed)
    assert sorted(path.name for path in packed.iterdir()) == sorted(PACKED_NAMES)
    found = read_packed(packed)
    assert np.array_equal(found.images, pixels())
    assert not found.images.flags.writeable
    assert isinstance(found.images.base, np.memmap)
    assert found.names == NAMES
    assert found.converted == {NAMES[1]: BEFORE}
    assert found.unreadable == {"test/sad/bad.png": "empty file"}


def test_numpy_reads_the_pixels(packed):
    assert np.array_equal(np.load(packed / "images.npy"), pixels())


def test_names_may_change_until_the_end(tmp_path):
    with packing(tmp_path, size=8) as writer:
        writer.add("train/sad/1.png", pixels()[0, ..., 0])
        writer.names[0] = "test/sad/1.png"
    assert read_packed(tmp_path).names == ("test/sad/1.png",)


def test_no_image_at_all(tmp_path):
    with packing(tmp_path, size=8):
        pass
    assert read_packed(tmp_path).images.shape == (0, 8, 8, 1)


def test_a_second_time_at_once_and_a_changed_one_anew(packed):
    first = read_packed(packed)
    assert read_packed(packed) is first
    with packing(packed, size=8) as writer:
        writer.add("train/sad/1.png", pixels()[2, ..., 0])
    assert read_packed(packed).names == ("train/sad/1.png",)
    assert np.array_equal(first.images, pixels())


def test_nothing_is_left_of_what_fails(tmp_path):
    with pytest.raises(ValueError, match="an image of float64"), packing(tmp_path) as w:
        w.add("train/sad/1.png", np.zeros((48, 48)))
    assert not list(tmp_path.iterdir())
    assert not is_packed(tmp_path)


def change(folder: Path, **facts) -> None:
    path = folder / "images.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def rewrite(folder: Path, name: str, old: bytes, new: bytes) -> None:
    """Changes a file, and its checksum too, as a stranger can."""
    path = folder / name
    content = path.read_bytes()
    assert old in content
    content = content.replace(old, new, 1)
    path.write_bytes(content)
    if name == "images.csv":
        change(folder, table_crc32=zlib.crc32(content))
    else:
        change(folder, crc32=zlib.crc32(content[128:]))


def in_place_of(folder: Path, name: str, array: np.ndarray, **options) -> None:
    np.save(folder / name, array, **options)


def a_link(folder: Path, name: str) -> None:
    (folder / name).rename(folder / "elsewhere")
    (folder / name).symlink_to("elsewhere")


def a_pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def huge(folder: Path) -> None:
    with (folder / "images.json").open("r+b") as file:
        file.truncate(65_000_000)


STRANGERS = {
    "other header": (
        lambda f: rewrite(f, "images.npy", b"'|u1'", b"'|i1'"),
        "images.npy is no array of uint8",
    ),
    "Fortran order": (
        lambda f: in_place_of(f, "images.npy", np.asfortranarray(pixels())),
        "images.npy is no array of uint8",
    ),
    "objects, which are pickled": (
        lambda f: in_place_of(f, "images.npy", np.array([print], object)),
        "images.npy is no array of uint8",
    ),
    "fewer pixels than said": (
        lambda f: os.truncate(f / "images.npy", 200),
        "200 bytes in place of 320",
    ),
    "more images than there are": (
        lambda f: change(f, shape=[4, 8, 8, 1]),
        "does not name 4 different images",
    ),
    "a side that is no whole number": (
        lambda f: change(f, shape=[3, 8.0, 8, 1]),
        "no shape of grayscale images",
    ),
    "as many images as no disk holds": (
        lambda f: change(f, shape=[2**62, 8, 8, 1]),
        "no shape of grayscale images",
    ),
    "colours": (lambda f: change(f, shape=[1, 8, 8, 3]), "no shape of grayscale"),
    "changed pixels": (
        lambda f: (
            rewrite(f, "images.npy", pixels().tobytes()[:8], bytes(8))
            or change(f, crc32=0)
        ),
        "images.npy is damaged",
    ),
    "a changed table": (
        lambda f: (
            rewrite(f, "images.csv", b"happy", b"angry") or change(f, table_crc32=0)
        ),
        "images.csv is damaged",
    ),
    "a name twice": (
        lambda f: rewrite(
            f, "images.csv", b"test/sad/\xed\xb2\x80.png", b'"train/happy/b,1.png"'
        ),
        "does not name 3 different images",
    ),
    **{
        f"the name {name}": (
            lambda f, name=name: rewrite(f, "images.csv", b"train/happy/b,1.png", name),
            "has no path in row 1",
        )
        for name in (
            b"/etc/passwd",
            b"../../x",
            b"train/../x.png",
            b"train/happy/..",
            b"train/x.png",
            b"train/a/b/c.png",
            b"train/happy/" + 5000 * b"x",
        )
    },
    "no UTF-8": (lambda f: rewrite(f, "images.csv", b"happy", b"\xff"), "utf-8"),
    "an open quote": (lambda f: rewrite(f, "images.csv", b'"\n', b"\n"), "found that"),
    "other columns": (
        lambda f: rewrite(f, "images.csv", b"width", b"breadth"),
        "has other columns",
    ),
    "a format that is none": (
        lambda f: rewrite(f, "images.csv", b"640", b"-640"),
        "has no format of",
    ),
    "a huge width": (
        lambda f: rewrite(f, "images.csv", b"640", b"9999999999"),
        "has no format of",
    ),
    "unreadable images of odd names": (
        lambda f: change(f, unreadable={"/etc/passwd": "mine"}),
        "does not say which",
    ),
    "unreadable images without a reason": (
        lambda f: change(f, unreadable={"test/sad/x.png": None}),
        "does not say which",
    ),
    **{
        f"a reason {what}": (
            lambda f, reason=reason: change(f, unreadable={"test/sad/x.png": reason}),
            "does not say which",
        )
        for what, reason in (("for a terminal", "\x1b[2J"), ("too long", 201 * "x"))
    },
    "a mode for a terminal": (
        lambda f: rewrite(f, "images.csv", b"RGB", b"\x1b[2J"),
        "has no format of",
    ),
    "huge JSON": (huge, "more than 64 MB"),
    "deep JSON": (
        lambda f: (f / "images.json").write_text(100_000 * "["),
        "nested too deeply",
    ),
    "a list": (lambda f: (f / "images.json").write_text("[]"), "of another kind"),
    "another kind": (lambda f: change(f, kind="\x1b[2J"), "of another kind"),
    "a later format": (lambda f: change(f, format=2), "of format 2 in place of 1"),
    "an odd format": (lambda f: change(f, format="\x1b[2J"), r"'\x1b[2J' in place"),
    **{
        f"{what} for {name}": (
            lambda f, make=make, name=name: make(f, name),
            f"{name} is not a regular file",
        )
        for what, make in (("a link", a_link), ("a pipe", a_pipe))
        for name in PACKED_NAMES
    },
    "no table": (lambda f: (f / "images.csv").unlink(), "No such file"),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_a_strangers_folder_is_refused(packed, case):
    spoil, reason = STRANGERS[case]
    spoil(packed)
    with pytest.raises(DataError) as refused:
        read_packed(packed)
    message = str(refused.value)
    assert message.startswith("Expected packed images in ")
    assert reason in message
    assert message.isprintable()


def test_a_line_of_any_length_takes_little_memory(packed, monkeypatch):
    """Such as the zeros of a sparse file, which takes no place on a disk."""
    rewrite(packed, "images.csv", b"train/happy/b,1.png", 30_000_000 * b"x")
    # That many bytes are set aside for the facts.
    monkeypatch.setattr(packed_module, "_FACTS_MEGABYTES", 1)
    tracemalloc.start()
    with pytest.raises(DataError, match="field larger than"):
        read_packed(packed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
