"""Predictions of several processes, a file each, put together to those of one.

What the images are, which network predicts and how is not taken from the files: whoever
merges them says it anew, and each file has to be of the same.
"""

import base64
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.data.splits import Split
from emotion_cnn.errors import ConfigError, ModelError, RunError
from emotion_cnn.evaluation.predicted import Predicted
from emotion_cnn.files import first_line, read_json, shown, write_json
from emotion_cnn.inference.backends import Backend
from emotion_cnn.inference.prediction import positions
from emotion_cnn.inference.shards import Shard, parse_shard
from emotion_cnn.models.probabilities import check_probabilities

SHARD_NAME = "shard.json"

_KIND = "emotion-cnn evaluation shard"
_FORMAT = 1
_NAMED_AT_MOST = 5


def write_shard(
    folder: Path, shard: Shard, predicted: Predicted, made_with: Mapping[str, str]
) -> None:
    """Writes what a process has predicted, whole or not at all.

    Args:
        folder: An existing folder, for this shard alone.
        shard: Which part it is.
        predicted: The predictions of this part.
        made_with: What they depend on: a text, such as a fingerprint, for each setting.
    """
    probabilities = predicted.probabilities.astype("<f4").tobytes()
    write_json(
        folder / SHARD_NAME,
        {
            "kind": _KIND,
            "format": _FORMAT,
            "shard": str(shard),
            "made_with": dict(made_with),
            "images": len(predicted.probabilities),
            "seconds": predicted.seconds,
            # Little-endian float32, row by row: no digit of them is lost.
            "probabilities": base64.b64encode(probabilities).decode(),
        },
    )


def read_shards(
    folder: Path,
    network: Backend,
    test: Split,
    *,
    tta: str,
    made_with: Mapping[str, str],
) -> Predicted:
    """Reads the predictions of all shards, which may be a stranger's.

    Args:
        folder: The folder that holds the folders of the shards.
        network: The network that predicted them.
        test: All images.
        tta: Test-time augmentation, one of `VIEWS`.
        made_with: What the predictions have to depend on, as for `write_shard`.

    Returns:
        What one process predicts, to the last bit; the seconds are those of all.

    Raises:
        RunError: A shard is missing, there twice, damaged, or was made with other
            weights, images or settings.
    """
    classes = len(test.classes)
    # Base64 takes four characters for three bytes.
    megabytes = 1 + len(test) * classes * 6 // 1_000_000
    probabilities = np.empty((len(test), classes), np.float32)
    found: dict[int, str] = {}
    count, seconds = 0, 0.0
    for path in _files(folder):
        record = _read_record(path, megabytes)
        shard = _shard_of(path, record)
        place = shown(path.parent.name)
        if count not in (0, shard.count):
            raise RunError(
                f"Expected shards of one division in {shown(str(folder))}, found one "
                f"of {count} in {found.popitem()[1]} and one of {shard.count} in "
                f"{place}. Move those of the other division away."
            )
        if shard.number in found:
            raise RunError(
                f"Expected each shard once in {shown(str(folder))}, found {shard} in "
                f"{found[shard.number]} and in {place}. Move one away."
            )
        _check_made_with(path, record, made_with)
        count, found[shard.number] = shard.count, place
        places = positions(network, len(test), tta=tta, shard=shard)
        probabilities[places] = _probabilities(path, record, (len(places), classes))
        seconds += _seconds(path, record)
    _require_all(folder, found, count)
    return Predicted(probabilities, seconds)


def _files(folder: Path) -> list[Path]:
    """Returns the files of the shards; what else is in the folder does not matter."""
    try:
        files = sorted(folder.glob(f"*/{SHARD_NAME}"))
    except OSError as error:
        raise _nothing(folder, first_line(error)) from error
    if not files:
        raise _nothing(folder, "none")
    return files


def _nothing(folder: Path, found: str) -> RunError:
    return RunError(
        f"Expected folders with a {SHARD_NAME} each in {shown(str(folder))}, found "
        f"{found}. Name with `merge` the folder that holds the outputs of "
        "`emotion-cnn evaluate` with `shard`."
    )


def _read_record(path: Path, megabytes: int) -> dict[str, Any]:
    try:
        record = read_json(path, megabytes=megabytes)
        if not isinstance(record, dict) or record.get("kind") != _KIND:
            raise ValueError("it is something else")
        if record.get("format") != _FORMAT:
            raise ValueError("it is of another version of this tool")
    except (OSError, ValueError) as error:
        raise _damaged(path, first_line(error)) from error
    return record


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        f"Expected a shard of an evaluation in {shown(str(path))}, but it cannot be "
        f"used: {shown(reason)}. Evaluate that shard again, or move its folder away."
    )


def _shard_of(path: Path, record: Mapping[str, Any]) -> Shard:
    try:
        return parse_shard(str(record.get("shard")))
    except ConfigError:
        raise _damaged(path, "it does not say which shard it is") from None


def _check_made_with(
    path: Path, record: Mapping[str, Any], made_with: Mapping[str, str]
) -> None:
    found = record.get("made_with")
    old = found if isinstance(found, dict) else {}
    changed = [name for name, value in made_with.items() if old.get(name) != value]
    if changed:
        raise RunError(
            f"Expected the shard in {shown(str(path.parent))} to be of the same "
            "weights, images and settings as given now, found others: "
            f"{', '.join(f'`{name}`' for name in changed)}. Give those that it was "
            "made with, or evaluate it again."
        )


def _probabilities(
    path: Path, record: Mapping[str, Any], shape: tuple[int, int]
) -> np.ndarray:
    """Returns the rows of a shard, float32 of a shape.

    Raises:
        RunError: They are of another shape, or no probabilities.
    """
    try:
        content = base64.b64decode(str(record.get("probabilities")), validate=True)
        if len(content) != 4 * math.prod(shape):
            raise ValueError(
                f"it is of {len(content) // 4:,} numbers in place of "
                f"{math.prod(shape):,}"
            )
        return check_probabilities(np.frombuffer(content, "<f4").reshape(shape), shape)
    except (ValueError, ModelError) as error:
        reason = "it holds no probabilities" if isinstance(error, ModelError) else error
        raise _damaged(path, str(reason)) from error


def _seconds(path: Path, record: Mapping[str, Any]) -> float:
    seconds = record.get("seconds")
    if not (isinstance(seconds, float) and 0 < seconds < 1e9):
        raise _damaged(path, "it does not say how long prediction took")
    return seconds


def _require_all(folder: Path, found: Mapping[int, str], count: int) -> None:
    missing = count - len(found)
    if missing:
        absent = (number for number in range(1, count + 1) if number not in found)
        names = [f"{number}/{count}" for number in islice(absent, _NAMED_AT_MOST)]
        more = f" and {missing - len(names):,} more" if missing > len(names) else ""
        raise RunError(
            f"Expected all {count:,} shards in {shown(str(folder))}, found "
            f"{len(found):,}: without {', '.join(names)}{more}. Evaluate what is "
            "missing, with `shard` and the same settings."
        )
