"""The folder of a training run: its files, their names and formats.

Imports no Keras: the backend a run was started with is read from its folder.
"""

import csv
import io
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from emotion_cnn.errors import RunError
from emotion_cnn.files import (
    create_folder,
    first_line,
    open_regular,
    read_json,
    read_limited,
    remove_half_written,
    replacing,
    shown,
    write_csv,
    write_json,
)
from emotion_cnn.models.pair_files import MODEL_NAME

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
)

OUT_OF_FOLD_NAME = "out_of_fold.npz"
INITIAL_WEIGHTS = "initial_weights_sha256"
"""What `environment.json` has of a run that did not start from random weights."""
KEPT_WEIGHTS_NAME = "epoch-{epoch:04d}.weights.h5"

# A run of 1,000 epochs has a history of 0.1 MB.
_MEGABYTE_LIMIT = 20
_COUNTERS = "counters"
_COUNTERS_LIMIT = 4 * 1_000_000 * _MEGABYTE_LIMIT  # NumPy takes four bytes a letter.
_KEPT_WEIGHTS = re.compile(r"epoch-[0-9]{4,6}\.weights\.h5")

History = dict[str, list[float]]
"""A list per column of `HISTORY_COLUMNS`, one entry an epoch, epochs from 1."""


def write_history(path: Path, history: History) -> None:
    """Writes one row an epoch."""
    columns = [history[name] for name in HISTORY_COLUMNS]
    write_csv(path, HISTORY_COLUMNS, zip(*columns, strict=True))


def read_history(path: Path) -> History:
    """Reads what `write_history` wrote.

    Raises:
        RunError: The file is missing or is no history.
    """
    try:
        content = read_limited(path, megabytes=_MEGABYTE_LIMIT)
        text = io.StringIO(content.decode("utf-8"), newline="")
        rows = list(csv.DictReader(text))
        history = {name: [float(row[name]) for row in rows] for name in HISTORY_COLUMNS}
    except FileNotFoundError:
        raise RunError(
            f"Expected the history of a run in {shown(str(path))}, found no such file. "
            "A run has one after its first epoch."
        ) from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(
            f"{shown(str(path))} is not the history of a run: expected the columns "
            f"{', '.join(HISTORY_COLUMNS)} with numbers in every row "
            f"({shown(first_line(error))})."
        ) from error
    if not rows:
        raise RunError(
            f"{shown(str(path))} holds no epoch; a run has one after its first epoch."
        )
    return history


class RunFolder:
    """The folder of one training run and the files in it."""

    def __init__(self, path: Path) -> None:
        """Names the files; creates nothing.

        Args:
            path: The folder.
        """
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.history = path / "history.csv"
        self.state = path / "training_state.npz"
        self.live_chart = path / "live_chart.png"
        self.loss_curves = path / "loss_curves.png"
        self.out_of_fold = path / OUT_OF_FOLD_NAME
        self.metrics = path / "metrics.json"
        self.tensorboard = path / "tensorboard"

    @property
    def resumed_from(self) -> tuple[str, ...]:
        """Patterns of the names of the files that a run is continued from."""
        files = (self.config, self.environment, self.history, self.state, self.metrics)
        return (*(path.name for path in files), "epoch-*.weights.h5")

    @property
    def finished(self) -> bool:
        """Whether the run ended well: its metrics are the last thing it writes."""
        return self.metrics.is_file() and not self.state.exists()

    @property
    def is_gone(self) -> bool:
        """Whether the run cannot be continued, as its folder was removed."""
        return not self.config.is_file()

    @property
    def kept(self) -> str:
        """What there is of an interrupted run, for messages."""
        return (
            "finished epochs are kept"
            if self.state.is_file()
            else "no epoch was finished yet"
        )

    def kept_weights(self, epoch: int) -> Path:
        """Returns where the weights after an epoch, from 1, are kept."""
        return self.path / KEPT_WEIGHTS_NAME.format(epoch=epoch)

    def remove_other_weights(self, epoch: int | None) -> None:
        """Removes kept weights that are not those of `epoch`, from 1."""
        kept = None if epoch is None else self.kept_weights(epoch)
        for path in self.path.glob("epoch-*.weights.h5"):
            if path != kept and _KEPT_WEIGHTS.fullmatch(path.name):
                path.unlink()

    def remove_half_written(self) -> None:
        """Removes what a killed command has left; the folder has to be locked."""
        remove_half_written(self.path, re.compile(".+"))

    def read_json(self, path: Path) -> dict[str, Any]:
        """Reads one of the run's JSON files.

        Raises:
            RunError: It is missing or damaged.
        """
        try:
            values = read_json(path, megabytes=_MEGABYTE_LIMIT)
        except (OSError, ValueError) as error:
            raise RunError(
                f"Expected a run with a readable {path.name} in "
                f"{shown(str(self.path))}, found none ({shown(first_line(error))})."
            ) from error
        if not isinstance(values, dict):
            raise RunError(
                f"{shown(str(path))} is damaged: expected a JSON object in it."
            )
        return values


def create_run(
    runs: Path,
    label: str,
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> RunFolder:
    """Creates the folder of a new run, `<time>-<label>`, which no other run has.

    Args:
        runs: Folder to create it in.
        label: The end of its name.
        config: What the run is started with, as JSON takes it.
        environment: What it is made with, and the fingerprint of its data.

    Raises:
        RunError: It cannot be created there.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    run = RunFolder(create_folder(runs, name, setting="runs"))
    try:
        write_json(run.config, config)
        write_json(run.environment, environment)
    except BaseException:
        # Without both it could not be resumed.
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def find_runs(runs: Path) -> list[RunFolder]:
    """Returns the training runs below a folder, oldest first."""
    paths = [path.parent for path in runs.glob("*/config.json")]
    return [RunFolder(path) for path in sorted(paths, key=lambda path: path.name)]


def find_run(reference: str, runs: Path) -> RunFolder:
    """Returns an existing training run.

    Args:
        reference: Its folder, or its name below `runs`.
        runs: Folder of the runs.

    Raises:
        RunError: There is none; lists the latest runs.
    """
    found = _named(reference, runs)
    if found is None:
        raise _not_found(reference, runs, expected="a training run")
    return found


def run_or_folder(reference: str, runs: Path) -> Path:
    """Returns the folder of a run, or another existing folder.

    Args:
        reference: The folder, or the name of a run below `runs`.
        runs: Folder of the runs.

    Raises:
        RunError: There is neither; lists the latest runs.
    """
    found = _named(reference, runs)
    if found is not None:
        return found.path
    if not Path(reference).is_dir():
        expected = "a training run or another folder with a network"
        raise _not_found(reference, runs, expected=expected)
    return Path(reference)


def _named(reference: str, runs: Path) -> RunFolder | None:
    for path in (Path(reference), runs / reference):
        if (path / "config.json").is_file():
            return RunFolder(path)
    return None


def _not_found(reference: str, runs: Path, *, expected: str) -> RunError:
    path = Path(reference)
    if path.is_file():
        folder = path.resolve().parent
        is_of_one = any(
            (folder / name).is_file() for name in ("config.json", MODEL_NAME)
        )
        hint = f" Name its folder, {shown(str(folder))}." if is_of_one else ""
        return RunError(
            f"Expected {expected}, found the file {shown(reference)}.{hint}"
        )
    names = [shown(run.path.name) for run in find_runs(runs)][-10:]
    return RunError(
        f"Expected {expected}, found none called {reference!r}, neither as a "
        f"folder nor below {shown(str(runs))}. "
        + (f"The latest there: {', '.join(names)}." if names else "There are none yet.")
    )


def write_training_state(
    path: Path, arrays: Mapping[str, np.ndarray], counters: Mapping[str, Any]
) -> None:
    """Writes all that a resumed run needs, whole or not at all.

    Args:
        path: File to replace.
        arrays: Variables of the network and the optimiser by name.
        counters: Everything else, as JSON takes it.
    """
    with replacing(path) as temporary:
        everything: dict[str, Any] = {_COUNTERS: json.dumps(counters), **arrays}
        np.savez(temporary, **everything)


def read_training_state(
    path: Path, expected: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Any]:
    """Reads what `write_training_state` wrote.

    Args:
        path: The file.
        expected: Arrays or variables by name, whose shapes and dtypes those in the file
            must have. No others are read.

    Returns:
        The arrays by name, and the counters: any JSON, in a stranger's file.

    Raises:
        RunError: The file is damaged, or of another network.
    """
    try:
        with open_regular(path) as stream:
            specified = {
                n: (tuple(e.shape), np.dtype(e.dtype)) for n, e in expected.items()
            }
            _check_size(stream, specified)
            with zipfile.ZipFile(stream) as archive:
                names = sorted(info.filename for info in archive.infolist())
                if names != sorted(f"{name}.npy" for name in (*specified, _COUNTERS)):
                    raise _OtherNetworkError
                arrays = {
                    name: _read_array(archive, name, *each)
                    for name, each in specified.items()
                }
                counters = json.loads(_read_text(archive, _COUNTERS))
    except _OtherNetworkError:
        raise RunError(
            f"{shown(str(path))} is the state of another network, or of another "
            "version of Keras, so this run cannot be continued. Start a new one."
        ) from None
    # A damaged file can make zipfile and NumPy raise almost anything.
    except Exception as error:
        raise damaged_state(path, first_line(error)) from error
    return arrays, counters


def damaged_state(path: Path, reason: str) -> RunError:
    """Returns the error of a training state in which something cannot be."""
    return RunError(
        f"{shown(str(path))} is damaged ({shown(reason)}), so this run cannot be "
        "continued. Start a new one."
    )


class _OtherNetworkError(Exception):
    pass


def _check_size(
    file: IO[bytes], specified: Mapping[str, tuple[tuple[int, ...], np.dtype]]
) -> None:
    arrays = sum(
        math.prod(shape) * dtype.itemsize for shape, dtype in specified.values()
    )
    # An entry of the archive takes half a kilobyte besides its array.
    limit = arrays + 1_000 * len(specified) + _COUNTERS_LIMIT
    if os.fstat(file.fileno()).st_size > limit:
        raise ValueError(f"more than {limit:,} bytes")


def _read_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        if _header(file) != (shape, dtype):
            raise _OtherNetworkError
        return _rest(file)


def _read_text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _header(file)
        if shape or dtype.kind != "U" or dtype.itemsize > _COUNTERS_LIMIT:
            raise ValueError(f"{name} is no text, or a very long one")
        return str(_rest(file))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and the dtype of an array before any of it is read."""
    if npy.read_magic(file) != (1, 0):
        raise ValueError("an array is in another format than this tool writes")
    shape, _, dtype = npy.read_array_header_1_0(file)
    return shape, dtype


def _rest(file: IO[bytes]) -> np.ndarray:
    file.seek(0)
    array = npy.read_array(file, allow_pickle=False)
    if file.read(1):  # The checksum is compared where the entry ends.
        raise ValueError("an array is followed by something")
    return array
