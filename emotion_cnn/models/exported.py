"""What an exported file says of itself: text that the file carries, as JSON.

Each format keeps it in a place of its own; here are the text and its checks. Imports no
Keras, so that exported files are used without it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emotion_cnn.errors import ModelError
from emotion_cnn.models.description import (
    NetworkDescription,
    parse_description,
    shortened,
)
from emotion_cnn.models.export_formats import FORMATS, LONGEST_TEXT, QUANTIZATIONS
from emotion_cnn.models.input_range import GRAY_LEVELS

KEY = "emotion_cnn"
"""The name of the text in ONNX and LiteRT metadata."""
FILE_NAME = "emotion_cnn.json"
"""The file with the text, of a format that is a folder."""
INPUT_NAME = "pixels"
"""The input: uint8 (batch, size, size, 1), gray levels from 0 to 255."""
OUTPUT_NAME = "probabilities"
"""The output: float32 (batch, label sets, classes), also for one label set."""

MOST_CHARACTERS = 100_000
"""The longest text that is parsed."""
_MOST_FACTS = 20
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ExportedDescription:
    """What an exported file is, where it is from, and how it was made.

    Attributes:
        network: What goes in and what the outputs mean. Its `input_range` is 0 to 255
            whatever that of the source is: the file scales gray levels itself.
        format: One of `FORMATS`.
        quantize: One of `QUANTIZATIONS`.
        source_sha256: SHA-256, in hexadecimal, of the weights that were exported.
        version: Version of this package that wrote the file.
        license: Licence of the weights, in a few words.
        calibration: On which images the ranges of 8-bit integers were measured: short
            texts and numbers by name; None where none were needed.
    """

    network: NetworkDescription
    format: str
    quantize: str
    source_sha256: str
    version: str
    license: str
    calibration: Mapping[str, str | int | float] | None = None

    def __post_init__(self) -> None:
        """Checks all of it.

        Raises:
            ModelError: A value is not as described.
        """
        for name, choices in (("format", FORMATS), ("quantize", QUANTIZATIONS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                raise ModelError(
                    f"Expected `{name}` to be one of {', '.join(choices)}, found "
                    f"{shortened(value)}."
                )
        if not (
            isinstance(self.source_sha256, str)
            and _DIGEST.fullmatch(self.source_sha256)
        ):
            raise ModelError(
                "Expected `source_sha256` to be 64 hexadecimal digits, found "
                f"{shortened(self.source_sha256)}."
            )
        if self.network.input_range != GRAY_LEVELS:
            raise ModelError(
                f"Expected `input_range` to be {GRAY_LEVELS}, as an exported network "
                f"scales gray levels itself, found {self.network.input_range}."
            )
        for name in ("version", "license"):
            _check_text(name, getattr(self, name))
        if self.calibration is not None:
            _check_calibration(self.calibration)

    def to_json(self) -> str:
        """Returns the text that `parse_exported` takes."""
        return json.dumps(asdict(self), sort_keys=True)


def parse_exported(text: str | bytes) -> ExportedDescription:
    """Returns what the text in an exported file says.

    Args:
        text: Anything, in a stranger's file; bytes are UTF-8. Keys that this version
            does not know are ignored.

    Raises:
        ModelError: It is no such text; says what is wrong.
    """
    if len(text) > MOST_CHARACTERS:
        raise ModelError(
            f"Expected a description of at most {MOST_CHARACTERS:,} characters, found "
            f"{len(text):,}."
        )
    try:
        values = json.loads(text)
    # Bytes that are no UTF-8 are a ValueError too.
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"Expected a description in JSON, found {shortened(text)}."
        ) from error
    names = ("network", "format", "quantize", "source_sha256", "version", "license")
    if not isinstance(values, dict) or not values.keys() >= {*names}:
        raise ModelError(
            f"Expected an object with {', '.join(names)}, found {shortened(values)}."
        )
    given: dict[str, Any] = {name: values[name] for name in names}
    given["network"] = parse_description(values["network"])
    return ExportedDescription(**given, calibration=values.get("calibration"))


def _check_text(name: str, value: Any) -> None:
    if not (
        isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT
    ):
        raise ModelError(
            f"Expected `{name}` to be a text of at most {LONGEST_TEXT} characters on "
            f"one line, found {shortened(value)}."
        )


def _check_calibration(values: Any) -> None:
    if not isinstance(values, Mapping) or len(values) > _MOST_FACTS:
        raise ModelError(
            f"Expected `calibration` to be at most {_MOST_FACTS} facts by name, found "
            f"{shortened(values)}."
        )
    for name, value in values.items():
        _check_text("calibration", name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            _check_text(f"calibration.{shortened(name)}", value)
