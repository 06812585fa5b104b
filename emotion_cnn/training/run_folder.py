"""The folder of a training run: its files, their names and formats.

Imports no Keras: the backend a run was started with is read from its folder.
"""

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.errors import RunError
from emotion_cnn.files import create_folder, first_line, replacing, write_csv

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
)

OUT_OF_FOLD_NAME = "out_of_fold.npz"

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
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        history = {name: [float(row[name]) for row in rows] for name in HISTORY_COLUMNS}
    except FileNotFoundError:
        raise RunError(
            f"Expected the history of a run in {path}, found no such file. A run "
            "has one after its first epoch."
        ) from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} is not the history of a run: expected the columns "
            f"{', '.join(HISTORY_COLUMNS)} with numbers in every row ({error})."
        ) from error
    if not rows:
        raise RunError(f"{path} holds no epoch; a run has one after its first epoch.")
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
    def finished(self) -> bool:
        """Whether the run ended well: its metrics are the last thing it writes."""
        return self.metrics.is_file() and not self.state.exists()

    def kept_weights(self, epoch: int) -> Path:
        """Returns where the weights after an epoch, from 1, are kept."""
        return self.path / f"epoch-{epoch:04d}.weights.h5"

    def remove_other_weights(self, epoch: int | None) -> None:
        """Removes kept weights that are not those of `epoch`, from 1."""
        kept = None if epoch is None else self.kept_weights(epoch)
        for path in self.path.glob("epoch-*.weights.h5"):
            if path != kept:
                path.unlink()

    def read_json(self, path: Path) -> dict[str, Any]:
        """Reads one of the run's JSON files.

        Raises:
            RunError: It is missing or damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"Expected a run with a readable {path.name} in {self.path}, found "
                f"none ({error})."
            ) from error
        if not isinstance(values, dict):
            raise RunError(f"{path} is damaged: expected a JSON object in it.")
        return values


def create_run(runs: Path, label: str) -> RunFolder:
    """Creates the folder of a new run, `<time>-<label>`, which no other run has.

    Raises:
        RunError: It cannot be created there.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    return RunFolder(create_folder(runs, name, setting="runs"))


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
    for path in (Path(reference), runs / reference):
        if (path / "config.json").is_file():
            return RunFolder(path)
    names = [run.path.name for run in find_runs(runs)][-10:]
    raise RunError(
        f"Expected a training run, found none called {reference!r}, neither as a "
        f"folder nor below {runs}. "
        + (f"The latest there: {', '.join(names)}." if names else "There are none yet.")
    )


def run_or_folder(reference: str, runs: Path) -> Path:
    """Returns the folder of a run, or another existing folder.

    Args:
        reference: The folder, or the name of a run below `runs`.
        runs: Folder of the runs.

    Raises:
        RunError: There is neither; lists the latest runs.
    """
    try:
        return find_run(reference, runs).path
    except RunError:
        if not Path(reference).is_dir():
            raise
        return Path(reference)


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
        everything: dict[str, Any] = {"counters": json.dumps(counters), **arrays}
        np.savez(temporary, **everything)


def read_training_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write_training_state` wrote.

    Returns:
        The arrays by name, and the counters.

    Raises:
        RunError: The file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        counters = json.loads(str(arrays.pop("counters")))
    # A damaged file can make zipfile and NumPy raise almost anything.
    except Exception as error:
        raise RunError(
            f"{path} is damaged ({first_line(error)}), so this run cannot be "
            "continued. Start a new one."
        ) from error
    return arrays, counters
