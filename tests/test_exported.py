"""What an exported file says of itself is read back, and a stranger's text refused."""

import dataclasses
import json

import pytest

from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.exported import (
    MOST_CHARACTERS,
    ExportedDescription,
    parse_exported,
)

WHOLE = ExportedDescription(
    network=NetworkDescription(
        classes=("glücklich", "müde"),
        label_sets=("original", "ferplus"),
        input_size=40,
        temperatures={"original": 0.9, "ferplus": 1.5},
        versions={"keras": "3.15.1"},
    ),
    format="litert",
    quantize="int8",
    source_sha256="0123456789abcdef" * 4,
    version="1.2.3",
    license="MIT",
    calibration={"images": 504, "seed": 42, "names_sha256": "ab" * 32},
)


@pytest.mark.parametrize("whole", [WHOLE, dataclasses.replace(WHOLE, calibration=None)])
def test_what_is_written_is_read(whole):
    assert parse_exported(whole.to_json()) == whole
    assert parse_exported(whole.to_json().encode()) == whole


def test_keys_of_later_versions_are_ignored():
    values = json.loads(WHOLE.to_json()) | {"new": [1, 2]}
    assert parse_exported(json.dumps(values)) == WHOLE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "in JSON"),
        ("\x1b[31m", r"\\x1b\[31m"),
        (b"\xff\xfe", "in JSON"),
        ("[" * 50_000, "in JSON"),
        ("7", "an object with network"),
        ("{}", "an object with network"),
        (" " * (MOST_CHARACTERS + 1), "at most 100,000 characters, found 100,001"),
    ],
)
def test_a_text_that_is_none_is_refused(text, expected):
    with pytest.raises(ModelError, match=expected):
        parse_exported(text)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"network": []}, "an object with classes"),
        ({"network": {"classes": ["one"]}}, "an object with classes"),
        (
            {"network": dataclasses.asdict(WHOLE.network) | {"input_range": (0, 1)}},
            r"`input_range` to be \(0, 255\)",
        ),
        ({"format": "pickle"}, "`format` to be one of onnx, litert"),
        ({"format": ["onnx"]}, "`format` to be one of"),
        ({"quantize": "int4"}, "`quantize` to be one of none, float16"),
        ({"source_sha256": "ab"}, "64 hexadecimal digits"),
        ({"source_sha256": None}, "64 hexadecimal digits"),
        ({"version": 3}, "`version` to be a text"),
        ({"license": "MIT\x1b[31m"}, r"found 'MIT\\x1b"),
        ({"license": "x" * 201}, "at most 200 characters"),
        ({"calibration": 504}, "`calibration` to be at most 20 facts"),
        ({"calibration": {str(n): n for n in range(21)}}, "at most 20 facts"),
        ({"calibration": {"images": [1]}}, "to be a text"),
        ({"calibration": {"a\nb": 1}}, "`calibration` to be a text"),
    ],
)
def test_values_of_another_kind_are_refused(changes, expected):
    values = json.loads(WHOLE.to_json()) | changes
    with pytest.raises(ModelError, match=expected):
        parse_exported(json.dumps(values))
