"""Which data a command works on: a folder, or the built-in drawn faces."""

import pytest
from PIL import Image

from emotion_cnn.data.source import SAMPLE_DATA, find_source


@pytest.fixture
def working(tmp_path, monkeypatch):
    """An empty working folder, and beside it a link to it."""
    folder = tmp_path / "working"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("data", [".", "../working", "../link", SAMPLE_DATA])
def test_drawn_faces_where_the_working_folder_has_no_images(working, caplog, data):
    assert find_source(data) == SAMPLE_DATA
    assert f"unpack its train/ and test/ into\n{working}" in caplog.text


@pytest.mark.parametrize("data", [".", "../working", "../link"])
def test_a_working_folder_with_images_is_the_data(working, caplog, data):
    (working / "train/sad").mkdir(parents=True)
    Image.new("L", (48, 48)).save(working / "train/sad/1.png")
    assert find_source(data) == data
    assert not caplog.text


def test_another_folder_without_images_is_not_replaced_by_drawn_faces(working):
    (working / "other").mkdir()
    assert find_source("other") == "other"
