"""Files: written whole or not at all, never through a link; read within bounds."""

import errno
import os
import tempfile
import threading

import pytest

from emotion_cnn.errors import FolderError
from emotion_cnn.files import (
    LOCK_NAME,
    locked,
    open_regular,
    read_json,
    read_limited,
    replacing,
)


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_nothing_is_written_through_a_link(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "a.json"
    victim.write_text("precious")
    link.symlink_to(victim)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert victim.read_text() == "precious"
    assert link.read_text() == "new"
    assert not link.is_symlink()


def test_temporary_names_cannot_be_known_before(tmp_path):
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "a.json") as temporary:
            names.add(temporary.name)
    assert len(names) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises(ValueError, match="not a regular file"):
            read_limited(tmp_path / name, megabytes=1)
    with pytest.raises(FileNotFoundError), open_regular(tmp_path / "none"):
        pass


def test_reading_is_bounded(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(1_000_000))
    assert len(read_limited(path, megabytes=1)) == 1_000_000
    path.write_bytes(bytes(1_000_001))
    with pytest.raises(ValueError, match="more than 1 MB"):
        read_limited(path, megabytes=1)


def test_what_is_no_json_is_a_value_error(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"{", b"[" * 100_000, b"\xff", b"9" * 5_000):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            read_json(path, megabytes=1)
    path.write_bytes(b'{"a": [1]}')
    assert read_json(path, megabytes=1) == {"a": [1]}


def in_another_thread(work):
    """Returns the error that work ends with; a thread of its own has its own lock."""
    errors = []

    def run():
        try:
            work()
        except FolderError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


def test_a_folder_is_locked_for_one_at_a_time(tmp_path):
    def lock(seconds=0):
        with locked(tmp_path, "a test", seconds=seconds):
            pass

    with locked(tmp_path, "a test"):
        [error] = in_another_thread(lock)
        assert f"no other command at work in {tmp_path}" in str(error)
        assert "locked for a test" in str(error)
        waiting = threading.Thread(target=lock, args=(60,))
        waiting.start()
    waiting.join()
    # What a killed command leaves does no harm.
    (tmp_path / LOCK_NAME).touch()
    assert in_another_thread(lock) == []


@pytest.mark.parametrize("kind", ["link", "file", "folder", "pipe"])
def test_what_is_no_lock_is_left_alone(tmp_path, kind):
    victim, path = tmp_path / "victim", tmp_path / LOCK_NAME
    victim.write_text("precious")
    plant = {
        "link": lambda: path.symlink_to(victim),
        "file": lambda: path.write_text("precious"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }
    plant[kind]()
    with pytest.raises(FolderError, match="is no lock"), locked(tmp_path, "a test"):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
@pytest.mark.parametrize(
    "code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.EIO]
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog, code):
    import fcntl

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path, "a test"):
        pass
    assert f"{tmp_path} is on a file system without locks" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    expected = rf"can be written to, but {tmp_path} cannot: Permission denied\."
    with pytest.raises(FolderError, match=expected), locked(tmp_path, "a test"):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path):
    with pytest.raises(FolderError, match="cannot: "), locked(tmp_path / "none", "x"):
        pass
