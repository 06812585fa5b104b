"""What a user can name to predict, and what is said of what cannot be."""

import io
import logging
import os
import sys
from pathlib import Path

import pytest

from emotion_cnn.errors import ConfigError, SourceError
from emotion_cnn.inference.predictions import RESULT_FILES
from emotion_cnn.inference.shards import Shard, parse_shard
from emotion_cnn.inference.sources import Kind, Source, find_sources


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with files of all kinds; what is in them does not matter."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("photos/b.jpg", "photos/a.PNG", "photos/notes.txt", "photos/.hidden.jpg"),
        *("photos/deep/er/c.webp", "photos/.thumbnails/d.jpg", "photos/film.MP4"),
        *("photos/._b.jpg", "7", "@odd.jpg", "[odd].jpg"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(source: str, **settings: object) -> list[str]:
    return [each.name for each in find_sources(source, **settings)]


def at(*paths: str) -> list[str]:
    return [str(Path(path)) for path in paths]


def test_a_folder_with_all_folders_in_it(photos, caplog):
    caplog.set_level(logging.INFO, "emotion_cnn")
    found = at("photos/a.PNG", "photos/b.jpg", "photos/deep/er/c.webp")
    assert names("photos") == found
    assert names("photos/") == found
    assert "Left out 1 video in photos: name one as `source`" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["photos/a.PNG"]),
        ("*.mp4", ["photos/film.MP4"]),
        ("?.*", ["photos/a.PNG", "photos/b.jpg", "photos/deep/er/c.webp"]),
        ("*.txt", ["photos/notes.txt"]),
    ],
)
def test_a_pattern_chooses_in_a_folder(photos, pattern, found):
    assert names("photos", pattern=pattern) == at(*found)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("photos/b.jpg", Kind.IMAGE),
        ("photos/notes.txt", Kind.IMAGE),
        ("photos/film.MP4", Kind.VIDEO),
        ("7", Kind.IMAGE),
        ("@odd.jpg", Kind.IMAGE),
        ("[odd].jpg", Kind.IMAGE),
    ],
)
def test_what_exists_comes_before_all_that_its_name_could_mean(photos, source, kind):
    [found] = find_sources(source)
    assert (found.name, found.kind, found.problem) == (source, kind, None)


def test_a_file_is_predicted_once_however_it_is_named(photos):
    paths = ["photos/b.jpg", str(photos / "photos/b.jpg"), "./photos//b.jpg"]
    for listed in (paths, paths[::-1]):
        Path("names.txt").write_text("\n".join(listed))
        assert names("@names.txt") == listed[:1]


def test_a_folder_in_a_list_is_told_what_to_do(photos):
    Path("names.txt").write_text("photos\nphotos/b.jpg\nphotos/film.MP4")
    folder, image, video = find_sources("@names.txt")
    assert folder.find_problem().startswith("a folder: list the files in it")
    assert image.find_problem() is None
    assert video.find_problem() is None


def test_a_camera_is_a_number(photos):
    [found] = find_sources("0")
    assert found == Source("camera 0", camera=0)
    assert found.kind is Kind.CAMERA


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("photos/*.jpg", ["photos/b.jpg"]),
        ("photos/**/*.webp", ["photos/deep/er/c.webp"]),
        ("photos/*", ["photos/a.PNG", "photos/b.jpg", "photos/film.MP4"]),
    ],
)
def test_a_glob(photos, source, found):
    (photos / "photos/notes.txt").unlink()
    assert names(source) == at(*found)


LIST = (
    b"\xef\xbb\xbfphotos/b.jpg\r\n\r\n photos/a b.jpg \nphotos/film.MP4\n./photos/b.jpg"
)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (LIST, ["photos/b.jpg", " photos/a b.jpg ", "photos/film.MP4"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"caf\xe9.jpg\n", ["caf\udce9.jpg"]),
    ],
    ids=["lines", "null characters", "no UTF-8"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths are no bytes there")
def test_a_list_in_a_file_or_on_standard_input(photos, content, found):
    (photos / "list.txt").write_bytes(content)
    assert names("@list.txt") == found
    assert names("-", standard_input=io.BytesIO(content)) == found


def test_an_address_in_a_list_is_one_bad_source(photos):
    (photos / "list.txt").write_text("photos/b.jpg\nhttps://example.org/a.jpg\n")
    good, bad = find_sources("@list.txt")
    assert good.problem is None
    assert bad.problem == "an address on a network: nothing is read from there"


def test_links_that_lead_round_in_a_circle(photos, caplog):
    caplog.set_level(logging.INFO, "emotion_cnn")
    found = names("photos")
    (photos / "photos/deep/loop").symlink_to(photos / "photos")
    (photos / "photos/deep/self").symlink_to("self")
    assert names("photos") == found
    assert f"Left out {at('photos/deep/loop')[0]}: found it before." in caplog.text
    assert names("photos/**/*.jpg") == at("photos/b.jpg")


def test_a_glob_through_two_links_in_a_circle_ends(photos):
    for number in "12":
        (photos / "photos/deep" / number).symlink_to(photos / "photos")
    assert names("photos/**/*.webp") == at("photos/deep/er/c.webp")
    assert names("**/deep/**/*.webp") == at("photos/deep/er/c.webp")
    assert names(f"{photos}/photos/**") == at(
        *(f"{photos}/photos/{name}" for name in ("a.PNG", "b.jpg")),
        *(f"{photos}/photos/{name}" for name in ("deep/er/c.webp", "film.MP4")),
        f"{photos}/photos/notes.txt",
    )


def test_a_glob_does_not_find_what_it_led_to(photos):
    (photos / "photos/results/images").mkdir(parents=True)
    for name in (*RESULT_FILES, "images/b.jpg"):
        (photos / "photos/results" / name).touch()
    assert names("**/*.jpg") == at("@odd.jpg", "[odd].jpg", "photos/b.jpg")
    assert names("photos/results/images/**") == at("photos/results/images/b.jpg")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"a\n" + 40_000 * b"b", "one of 40,000"), (b"a\nb\nc\nd", "more lines")],
    ids=["long", "many"],
)
def test_a_list_that_is_none(photos, monkeypatch, content, found):
    monkeypatch.setattr("emotion_cnn.inference.sources._LIST_LINES", 3)
    (photos / "list.txt").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        find_sources("@list.txt")
    expected = "Expected up to 3 lines of up to 32,768 bytes, a path each, in list.txt"
    assert f"{expected}, found {found}." in str(caught.value)


def test_results_in_a_folder_of_photos_are_no_photos(photos, caplog):
    caplog.set_level(logging.INFO, "emotion_cnn")
    found = names("photos")
    (photos / "photos/results/images").mkdir(parents=True)
    for name in (*RESULT_FILES, "images/b.jpg", "contact-sheet-1.png"):
        (photos / "photos/results" / name).touch()
    assert names("photos") == found
    assert f"Left out {at('photos/results')[0]}: results of pred" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders refuse nobody there")
def test_a_folder_that_refuses_is_one_bad_source(photos, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    *good, bad = find_sources("photos")
    assert [each.name for each in good] == at("photos/a.PNG", "photos/b.jpg")
    assert bad.name == at("photos/deep")[0]
    assert bad.problem == "the folder cannot be listed: Permission denied"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "found nothing named nowhere.jpg. Check its spelling"),
        ("photos/*.gif", "Expected files that match photos/*.gif"),
        ("photos/.thumbnails/deeper", "found nothing named"),
        ("empty", "Expected images in the folder empty or in folders in it"),
        ("@nowhere.txt", "but nowhere.txt cannot be read: No such file"),
        ("@photos", "but photos cannot be read: not a regular file"),
        ("@blank.txt", "Expected a path a line in blank.txt, found none"),
        ("-", "Expected a path a line in standard input, found none"),
        ("https://example.org/a.jpg", "nothing is read over a network"),
        ("rtsp://camera", "nothing is read over a network"),
        ("1234567890", "found nothing named 1234567890"),
    ],
)
def test_sources_that_there_are_not(photos, source, message):
    (photos / "empty").mkdir()
    (photos / "blank.txt").write_bytes(b"\n \r\n")
    with pytest.raises(SourceError) as caught:
        find_sources(source, standard_input=io.BytesIO(b"\n"))
    assert message in str(caught.value)


def test_nothing_in_a_folder_matches(photos):
    with pytest.raises(SourceError, match=r"Expected files that match \*\.gif in the"):
        find_sources("photos", pattern="*.gif")


def test_a_pattern_without_a_folder(photos):
    with pytest.raises(ConfigError, match="`pattern` chooses among the files of a fol"):
        find_sources("photos/b.jpg", pattern="*.jpg")


@pytest.mark.parametrize("count", [1, 3, 7, 30])
def test_shards_together_are_all_sources_once(count):
    sources = [Source(f"{number}.jpg") for number in range(20)]
    parts = [parse_shard(f"{n}/{count}").of(sources) for n in range(1, count + 1)]
    assert sorted(each.name for part in parts for each in part) == sorted(
        each.name for each in sources
    )
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard():
    assert parse_shard("3/16") == Shard(3, 16)


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_shards_that_there_are_not(text):
    with pytest.raises(ConfigError, match="`shard` is a part of so many, 1/16 to"):
        parse_shard(text)
