"""The two files of a network in a folder: replaced as one, and found as one.

`model.json` names the SHA-256 of the weights that it belongs to. New weights are
first written under a hidden name that follows from it; the new `model.json` is then
renamed into place, which is the decisive step; the weights are renamed last. Whenever
that is interrupted, the folder holds a whole pair, and readers find it: they take the
weights that `model.json` names, from whichever of the two places. Readers write
nothing.

Imports no Keras.
"""

import errno
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from emotion_cnn.errors import ModelError, RunError
from emotion_cnn.files import (
    first_line,
    folder_to_disk,
    is_plain_file,
    locked,
    make_folder,
    open_regular,
    read_limited,
    read_open,
    remove_half_written,
    replacing,
    shown,
    write_json,
)

MODEL_NAME = "model.json"
WEIGHTS_NAME = "model_weights.h5"
DESCRIPTION_KEY = "emotion_cnn"
DIGEST_KEY = "weights_sha256"

# The shipped pair takes 0.1 MB and 13 MB.
_MODEL_MEGABYTES = 5
_WEIGHTS_MEGABYTES = 1_000
_DIGEST = re.compile("[0-9a-f]{64}")
_HIDDEN_WEIGHTS = re.compile(r"\.model_weights-[0-9a-f]{16}\.h5")
_WRITTEN = re.compile(rf"{re.escape(MODEL_NAME)}|{_HIDDEN_WEIGHTS.pattern}")
# Another publisher takes well under a second.
_SECONDS_TO_WAIT = 10
# The steps of a publisher, between which a reader can come, take milliseconds.
_PATIENCE = 0.2


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair, as they were at one moment.

    Attributes:
        architecture: The JSON object in `model.json`; its values can be anything.
        path: Where the weights are that belong to it, for messages.
        digest: Their SHA-256.
    """

    architecture: dict[str, Any]
    path: Path
    digest: str
    _file: BufferedReader

    def read_weights(self, *, megabytes: int) -> bytes:
        """Reads the weights, which no publisher changes meanwhile.

        Args:
            megabytes: The most that they may take.

        Raises:
            ValueError: They take more.
        """
        return read_open(self._file, megabytes=megabytes)


def hidden_weights(folder: Path, digest: str) -> Path:
    """Returns where weights of that SHA-256 are until their `model.json` is there."""
    return folder / f".model_weights-{digest[:16]}.h5"


def replace_pair(folder: Path, architecture: Mapping[str, Any], weights: bytes) -> None:
    """Replaces the pair in a folder, or writes the first one.

    Nobody else may write one there at the same time: `locked` sees to that.

    Args:
        folder: Existing folder.
        architecture: What `model.json` holds, as JSON takes it, with an object under
            `DESCRIPTION_KEY`; the SHA-256 of the weights is added to it.
        weights: The content of `model_weights.h5`.

    Raises:
        OSError: A file cannot be written. The folder holds a whole pair even so: the
            old one, or the new one where only the last step has failed.
    """
    digest = hashlib.sha256(weights).hexdigest()
    described = {**architecture[DESCRIPTION_KEY], DIGEST_KEY: digest}
    hidden = hidden_weights(folder, digest)
    with replacing(hidden) as temporary:
        temporary.write_bytes(weights)
    # A power cut must not bring the second step to the disk without the first.
    folder_to_disk(folder)
    write_json(folder / MODEL_NAME, {**architecture, DESCRIPTION_KEY: described})
    folder_to_disk(folder)
    hidden.replace(folder / WEIGHTS_NAME)


def publish(folder: Path, architecture: Mapping[str, Any], weights: bytes) -> None:
    """Replaces a pair, as `replace_pair` does, where others may publish theirs too.

    The folder is made if it does not exist. What killed publishers have left in it is
    removed.

    Raises:
        FolderError: Others have been publishing there for seconds, or the folder
            cannot be written to.
        OSError: As for `replace_pair`.
    """
    make_folder(folder)
    with locked(folder, "publishing", seconds=_SECONDS_TO_WAIT):
        replace_pair(folder, architecture, weights)
        # Not before: hidden weights can be those of the old pair.
        for path in folder.glob(".model_weights-*"):
            if _HIDDEN_WEIGHTS.fullmatch(path.name) and is_plain_file(path):
                path.unlink()
        remove_half_written(folder, _WRITTEN)


def check_publishable(folder: Path) -> None:
    """Finds out before hours of training what would stop a publisher at their end.

    Args:
        folder: Where the pair is to be published; if there is none yet, it could be
            made, and is not, as many a training never gets that far.

    Raises:
        RunError: It cannot be written to, or holds one of the two files alone.
    """
    if _holds_half_a_pair(folder):
        raise RunError(
            f"Expected both or neither of {MODEL_NAME} and {WEIGHTS_NAME} in "
            f"{shown(str(folder))}, which the finished network replaces, found one of "
            "them. Choose another folder with `publish`, or move it away."
        )
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        if folder.is_file():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise RunError(
            f"Expected a folder for the finished {MODEL_NAME} and {WEIGHTS_NAME}, but "
            f"{shown(str(folder))} cannot be written to: {first_line(error)}. Choose "
            "another with `publish`."
        ) from error


@contextmanager
def open_pair(folder: Path) -> Iterator[PairFiles]:
    """Opens the two files of a pair that belong together.

    A pair whose `model.json` names no SHA-256 is taken as it is, but not while a
    publisher replaces it.

    Args:
        folder: The folder, which may be a stranger's.

    Raises:
        ModelError: A file is missing or cannot be read, or the weights are not those
            that `model.json` names.
    """
    with ExitStack() as opened:
        yield _find_pair(folder, opened)


def _find_pair(folder: Path, opened: ExitStack) -> PairFiles:
    deadline = time.monotonic() + _PATIENCE
    while True:
        before = _version(folder / MODEL_NAME)
        architecture = _read_architecture(folder / MODEL_NAME)
        named = _digest_in(architecture, folder)
        missing = True
        for path in _places_of_weights(folder, named):
            try:
                file = opened.enter_context(open_regular(path))
                missing = False
                digest = _digest_of(file)
                # Publishers replace `model.json` first: these are no later weights.
                if digest == named or (
                    named is None and _version(folder / MODEL_NAME) == before
                ):
                    return PairFiles(architecture, path, digest, file)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from error
        # A publisher may have gone from one step to the next meanwhile.
        is_same = _version(folder / MODEL_NAME) == before
        if is_same and (named is None or time.monotonic() > deadline):
            break
        opened.close()
        time.sleep(0.02)
    if missing:
        raise _missing(folder, WEIGHTS_NAME)
    raise ModelError(
        f"Expected the weights that {shown(str(folder / MODEL_NAME))} names (SHA-256 "
        f"{str(named)[:12]}...), found others in {WEIGHTS_NAME}: one of the two files "
        "is damaged, or was replaced alone. Copy both files of one run again. If you "
        f"changed the weights yourself, remove `{DIGEST_KEY}` from {MODEL_NAME}."
    )


def _places_of_weights(folder: Path, digest: str | None) -> list[Path]:
    places = [folder / WEIGHTS_NAME]
    if digest is not None:
        hidden = hidden_weights(folder, digest)
        # A publisher makes no links.
        places += [] if hidden.is_symlink() else [hidden]
    return places


def _version(path: Path) -> tuple[int, ...]:
    """Returns what is another once a file has been replaced."""
    with suppress(OSError, ValueError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return ()


def _read_architecture(path: Path) -> dict[str, Any]:
    try:
        content = read_limited(path, megabytes=_MODEL_MEGABYTES)
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_file():
            raise ModelError(
                f"Expected a folder with {MODEL_NAME} and {WEIGHTS_NAME}, found the "
                f"file {shown(str(path.parent))}. Name its folder, "
                f"{shown(str(path.parent.resolve().parent))}."
            ) from None
        raise _missing(path.parent, MODEL_NAME) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        architecture = json.loads(content)
        if not isinstance(architecture, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{shown(str(path))} is damaged: expected the JSON that a run writes "
            f"({shown(first_line(error))})."
        ) from error
    return architecture


def _digest_in(architecture: Mapping[str, Any], folder: Path) -> str | None:
    """Returns the SHA-256 that a `model.json` names."""
    described = architecture.get(DESCRIPTION_KEY)
    digest = described.get(DIGEST_KEY) if isinstance(described, dict) else None
    if digest is None:
        return None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ModelError(
            f"Expected `{DIGEST_KEY}` in {shown(str(folder / MODEL_NAME))} to be the "
            "SHA-256 of the weights, 64 digits from 0 to f, found something else. Copy "
            "both files of one run again, or remove it."
        )
    return digest


def _digest_of(file: BufferedReader) -> str:
    if os.fstat(file.fileno()).st_size > _WEIGHTS_MEGABYTES * 1_000_000:
        raise ValueError(f"more than {_WEIGHTS_MEGABYTES} MB")
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def _missing(folder: Path, name: str) -> ModelError:
    return ModelError(
        f"Expected {MODEL_NAME} and {WEIGHTS_NAME} in {shown(str(folder))}, found no "
        f"{name}. Choose a folder with both, such as a finished run."
    )


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = first_line(error)
    return ModelError(
        f"Expected {shown(str(path))} as a run writes it, but it cannot be read: "
        f"{reason}. Choose a folder with a whole {MODEL_NAME} and {WEIGHTS_NAME}."
    )


def _holds_half_a_pair(folder: Path) -> bool:
    """Returns whether one of the files is there alone, as no publisher leaves it."""
    has_model, has_weights = (
        (folder / name).is_file() for name in (MODEL_NAME, WEIGHTS_NAME)
    )
    # The first publisher there may have been killed before its last step.
    almost = has_model and any(
        _HIDDEN_WEIGHTS.fullmatch(path.name) for path in folder.glob(".model_weights-*")
    )
    return has_model != has_weights and not almost
