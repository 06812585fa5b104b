"""The cache of decoded images: used while it is right, and never a reason to fail."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.data import cache as cache_module
from emotion_cnn.data import folders
from emotion_cnn.data.cache import CACHED_FROM, ImageCache, default_folder
from emotion_cnn.data.packed import PackedWriter
from emotion_cnn.data.splits import fingerprint

CLASSES = ("happy", "sad")
COUNT, FEW = 80, 50


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch):
    """A twentieth of the images makes the tests quick."""
    assert CACHED_FROM == 20 * FEW
    monkeypatch.setattr(cache_module, "CACHED_FROM", FEW)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A data folder with enough images in train to be kept, and too few in test.

    It is not to be changed.
    """
    folder = tmp_path_factory.mktemp("many")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), np.uint8)
    for number, image in enumerate(images):
        part = "test" if number % 40 == 0 else "train"
        path = folder / part / CLASSES[number % 2] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    # May be missing in test.
    (folder / "test" / "sad").mkdir(exist_ok=True)
    extra = folder / "train" / "sad"
    for number in range(5):
        shutil.copy(extra / "1.bmp", extra / f"copy-{number}.bmp")
    return folder


@pytest.fixture
def data(many, tmp_path):
    """A copy that may be changed."""
    return Path(shutil.copytree(many, tmp_path / "data"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def read(folder: Path, cache: Path | None, *, skip_bad: bool = False, **options):
    """Returns the fingerprint of train, and the notes."""
    train, _, notes = folders.read_splits(
        folder,
        skip_bad=skip_bad,
        classes=CLASSES,
        size=8,
        cache=None if cache is None else ImageCache(cache, **options),
    )
    return fingerprint(train), notes


def kept(cache: Path) -> list[Path]:
    """Returns the entries, and anything else but the lock."""
    return sorted(path for path in cache.iterdir() if path.name != ".emotion-cnn.lock")


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded."""
    names = []
    decode = folders.decode_image

    def counting(file, size):
        names.append(file.name)
        return decode(file, size)

    monkeypatch.setattr(folders, "decode_image", counting)
    return names


def test_images_are_decoded_once(many, cache, decoded):
    without = read(many, None)
    first = len(decoded)
    assert read(many, cache) == without
    assert len(decoded) == 2 * first
    assert read(many, cache) == without
    # Those of test are too few.
    assert len(decoded) - 2 * first == len(list((many / "test").rglob("*.bmp")))
    (entry,) = kept(cache)
    assert cache.stat().st_mode & 0o777 == entry.stat().st_mode & 0o777 == 0o700


def test_a_survey_shares_the_images(many, cache, decoded):
    read(many, cache)
    before = len(decoded)
    found = folders.survey(many, classes=CLASSES, size=8, cache=ImageCache(cache))
    assert len(decoded) - before < FEW
    assert len(kept(cache)) == 1
    assert len(found.train) >= FEW


def rewritten_as_it_was(data: Path) -> None:
    """Other pixels in a file of the same size and time."""
    path = data / "train" / "sad" / "1.bmp"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "an image more": lambda d: shutil.copy(
        d / "train" / "sad" / "1.bmp", d / "train" / "happy" / "x.bmp"
    ),
    "an image less": lambda d: (d / "train" / "sad" / "1.bmp").unlink(),
    "another name": lambda d: (d / "train" / "sad" / "1.bmp").rename(
        d / "train" / "sad" / "2.bmp"
    ),
    "other pixels": rewritten_as_it_was,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_files_is_noticed(data, cache, change):
    before = read(data, cache)
    CHANGES[change](data)
    after = read(data, cache)
    assert after == read(data, None) != before
    assert len(kept(cache)) == 2


def test_the_size_of_the_images_counts(many, cache):
    read(many, cache)
    train, _, _ = folders.read_splits(
        many, skip_bad=False, classes=CLASSES, size=6, cache=ImageCache(cache)
    )
    assert train.images.shape[1:] == (6, 6, 1)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def make_a_link(entry: Path) -> None:
    entry.rename(entry.with_name("elsewhere"))
    entry.symlink_to("elsewhere")


def swap(entry: Path) -> None:
    """The entry of other images, whole in itself."""
    table = entry / "images.csv"
    table.write_bytes(table.read_bytes().replace(b"/1.bmp", b"/one.bmp"))
    facts = json.loads((entry / "images.json").read_text())
    facts["table_crc32"] = zlib.crc32(table.read_bytes())
    (entry / "images.json").write_text(json.dumps(facts))


DAMAGE = {
    "pixels": lambda e: flip_a_bit(e / "images.npy"),
    "table": lambda e: flip_a_bit(e / "images.csv"),
    "truncated": lambda e: os.truncate(e / "images.npy", 1000),
    "no facts": lambda e: (e / "images.json").unlink(),
    "a link": make_a_link,
    "others may write": lambda e: e.chmod(0o777),
    "other names": swap,
    "empty": lambda e: (e / "images.json").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(many, cache, damage, decoded, caplog):
    expected = read(many, cache)
    (entry,) = kept(cache)
    DAMAGE[damage](entry)
    before = len(decoded)
    assert read(many, cache) == expected
    assert len(decoded) - before > FEW
    assert "not used, but decoded anew" in caplog.text
    before = len(decoded)
    assert read(many, cache) == expected
    assert len(decoded) - before < FEW


def test_a_strangers_entry_is_not_used(many, cache, decoded, monkeypatch, caplog):
    expected = read(many, cache)
    before = len(decoded)
    monkeypatch.setattr(os, "geteuid", lambda: 123456, raising=False)
    assert read(many, cache) == expected
    assert len(decoded) - before > FEW
    assert "is somebody else's" in caplog.text


def test_what_is_not_ours_stays(many, cache, caplog):
    read(many, cache)
    (entry,) = kept(cache)
    (entry / "images.json").unlink()
    (entry / "mine").touch()
    (cache / "notes").mkdir()
    (cache / f"{64 * '0'}.txt").touch()
    assert read(many, cache) == read(many, None)
    assert (entry / "mine").exists()
    assert (cache / "notes").exists()
    assert "not kept" in caplog.text


def test_nothing_goes_of_a_folder_that_is_partly_ours(many, cache):
    """A digest can be the name of anybody's folder."""
    mine = cache / (64 * "0")
    mine.mkdir(parents=True, mode=0o700)
    (mine / "images.csv").touch()
    (mine / "mine").write_bytes(bytes(20_000))
    read(many, cache, limit=10_000)
    assert (mine / "images.csv").exists()


@pytest.mark.parametrize(("mode", "count"), [(0o777, 0), (0o775, 0), (0o1777, 1)])
def test_a_folder_in_which_others_can_rename_is_not_used(
    many, cache, caplog, mode, count
):
    cache.mkdir()
    cache.chmod(mode)
    assert read(many, cache) == read(many, None)
    assert len(kept(cache)) == count
    assert ("others can change what is in" in caplog.text) is (count == 0)


def test_what_is_half_written_takes_no_room(many, cache, tmp_path):
    read(many, cache)
    (entry,) = kept(cache)
    left = cache / ".filling-abcdefgh"
    left.mkdir(mode=0o700)
    (left / "images.npy").write_bytes(bytes(50_000))
    copy = Path(shutil.copytree(many, tmp_path / "copy"))
    read(copy, cache, limit=50_000)
    assert entry in kept(cache)
    assert len(kept(cache)) == 2


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_cache_that_cannot_be_written_is_no_error(
    many, cache, tmp_path, monkeypatch, caplog
):
    expected = read(many, None)
    (tmp_path / "file").touch()
    assert read(many, tmp_path / "file") == expected
    assert read(many, tmp_path / "file" / "below") == expected
    monkeypatch.setattr(PackedWriter, "add", no_space)
    assert read(many, cache) == expected
    assert kept(cache) == []
    assert caplog.text.count("Decoded images are not kept") == 3
    assert "No space left on device" in caplog.text


def test_what_a_killed_command_has_left_goes(many, cache):
    left = cache / ".filling-abcdefgh"
    left.mkdir(parents=True, mode=0o700)
    (left / ".writing-0123456789abcdef-images.npy").touch()
    read(many, cache)
    assert left not in kept(cache)
    assert len(kept(cache)) == 1


def test_bad_images_are_known_the_second_time(data, cache, decoded):
    (data / "train" / "sad" / "bad.bmp").write_bytes(b"BM")
    expected = read(data, None, skip_bad=True)
    assert "bad.bmp" in str(expected[1])
    assert read(data, cache, skip_bad=True) == expected
    before = len(decoded)
    assert read(data, cache, skip_bad=True) == expected
    assert len(decoded) - before < FEW
    with pytest.raises(
        folders.DataError, match=r"1 image cannot be read.*\n.*bad\.bmp"
    ):
        read(data, cache)


def test_a_file_that_cannot_be_opened_now_may_be_later(data, cache, monkeypatch):
    expected = read(data, None)
    opened = folders.open_regular

    def failing(path):
        if path.name == "1.bmp":
            raise OSError(errno.EIO, "Input/output error")
        return opened(path)

    with monkeypatch.context() as patched:
        patched.setattr(folders, "open_regular", failing)
        assert "1.bmp" in str(read(data, cache, skip_bad=True)[1])
    assert kept(cache) == []
    assert read(data, cache) == expected


def test_images_that_change_meanwhile_are_not_kept(data, cache, monkeypatch):
    decode = folders.decode_image

    def changing(file, size):
        (data / "train" / "happy" / "2.bmp").touch()
        return decode(file, size)

    monkeypatch.setattr(folders, "decode_image", changing)
    assert read(data, cache) == read(data, None)
    assert kept(cache) == []


def test_the_cache_stays_below_its_limit(many, cache, tmp_path):
    copies = [shutil.copytree(many, tmp_path / name) for name in "abc"]
    read(Path(copies[0]), cache)
    (entry,) = kept(cache)
    limit = int(2.5 * sum(file.stat().st_size for file in entry.iterdir()))
    sizes = []
    for number, folder in enumerate((*copies[:2], copies[0], copies[2])):
        read(Path(folder), cache, limit=limit)
        sizes.append(len(kept(cache)))
        # Coarse clocks: what is used later is newer.
        for entry in kept(cache):
            if entry.stat().st_mtime > 10**9:
                os.utime(entry, (number, number))
    assert sizes == [1, 2, 2, 2]
    left = {entry: entry.stat().st_ino for entry in kept(cache)}
    # The first was used after the second, which had to go.
    read(Path(copies[0]), cache, limit=limit)
    assert {entry: entry.stat().st_ino for entry in kept(cache)} == left


def test_more_than_the_limit_is_not_kept(many, cache, caplog):
    caplog.set_level(logging.INFO)
    assert read(many, cache, limit=1000) == read(many, None)
    assert not cache.exists()
    assert "which may hold" in caplog.text


def test_several_processes_at_once(many, cache):
    program = (
        "import sys; from pathlib import Path\n"
        "from emotion_cnn.data import cache\n"
        "from emotion_cnn.data.cache import ImageCache\n"
        "from emotion_cnn.data.folders import read_splits\n"
        "from emotion_cnn.data.splits import fingerprint\n"
        f"cache.CACHED_FROM = {FEW}\n"
        "train, _, _ = read_splits(Path(sys.argv[1]), skip_bad=False, size=8,\n"
        "    classes=('happy', 'sad'), cache=ImageCache(Path(sys.argv[2])))\n"
        "print(fingerprint(train))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, many, cache],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [out.strip() for out, _ in outputs] == 3 * [read(many, None)[0]]
    assert not any("not" in error for _, error in outputs)
    assert len(kept(cache)) == 1


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/caches"}, "linux", "/caches/emotion-cnn"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/me/.cache/emotion-cnn"),
        ({}, "linux", "/home/me/.cache/emotion-cnn"),
        ({}, "darwin", "/home/me/Library/Caches/emotion-cnn"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/emotion-cnn"),
    ],
)
def test_the_default_folder(monkeypatch, environment, platform, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_folder() == Path(expected)


def test_without_a_home_there_is_none(monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", none)
    assert default_folder() is None
