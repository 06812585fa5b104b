"""Optional packages: imported where they are needed, or named with their extra."""

import importlib.util
import json
import sys

import pytest

from emotion_cnn.backend import BACKENDS, use_backend
from emotion_cnn.errors import MissingPackageError
from emotion_cnn.extras import require


def test_an_installed_package_is_imported():
    assert require("json", extra="any") is json


@pytest.mark.parametrize("state", ["absent", "broken"])
def test_a_package_that_cannot_be_imported_is_named(monkeypatch, tmp_path, state):
    if state == "absent":
        monkeypatch.setitem(sys.modules, "some_package", None)
    else:
        (tmp_path / "some_package.py").write_text("raise ImportError('no libfoo.so')")
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError) as caught:
        require("some_package", extra="some")
    message = str(caught.value)
    assert message.startswith("Expected the package some_package to be installed")
    assert message.endswith("pip install some_package (emotion-cnn's extra `[some]`).")
    assert ("no libfoo.so" in message) == (state == "broken")


def test_without_any_backend_all_are_named(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    find_spec = importlib.util.find_spec

    def no_backends(name, package=None):
        return None if name in BACKENDS else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", no_backends)
    with pytest.raises(MissingPackageError, match="tensorflow, jax, torch, to be"):
        use_backend()
