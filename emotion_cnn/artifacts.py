"""What a run leaves on disk: its folder, its files, their names and formats.

Imports no Keras: the backend a run was started with stands in its folder.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.emotions import EMOTIONS
from emotion_cnn.errors import RunError

if TYPE_CHECKING:
    # Modes that draw nothing start seconds sooner without it.
    from matplotlib.figure import Figure

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
)
History = dict[str, list[float]]
"""A list per column of `HISTORY_COLUMNS`, one entry an epoch, epochs from 1."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Writes a file so that it is either the old one whole or the new one whole.

    Args:
        path: File to write or replace.

    Yields:
        A path in the same folder to write to. It takes the place of `path`
        when the block ends well, and is removed when it does not.
    """
    # Keras and matplotlib go by the ending of a name, so it stays last.
    temporary = path.with_name(f".writing-{path.name}")
    try:
        yield temporary
        force_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        # A full disk names no file, and nobody knows the temporary one.
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Returns once a file would outlast a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_figure(path: Path, figure: "Figure") -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file, whole or not at all."""
    with (
        replacing(path) as temporary,
        # A file name may be in no known encoding.
        temporary.open(
            "w", newline="", encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


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
        self.metrics = path / "metrics.json"
        self.tensorboard = path / "tensorboard"

    @property
    def finished(self) -> bool:
        """Whether the run ended well: its metrics are the last thing it writes."""
        return self.metrics.is_file() and not self.state.exists()

    def best_weights(self, epoch: int) -> Path:
        """Returns where the weights after an epoch, from 1, are kept."""
        return self.path / f"best-epoch-{epoch:04d}.weights.h5"

    def remove_other_best_weights(self, epoch: int | None) -> None:
        """Removes best weights that are not those of `epoch`, from 1."""
        kept = None if epoch is None else self.best_weights(epoch)
        for path in self.path.glob("best-epoch-*.weights.h5"):
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


def create_folder(parent: Path, name: str) -> Path:
    """Creates a folder that did not exist before, and its parents.

    Args:
        parent: Folder to create it in.
        name: Its name; `-2`, `-3`, ... follow where it is taken.

    Raises:
        RunError: It cannot be created there.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path, count = parent / name, 1
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                count += 1
                path = parent / f"{name}-{count}"
            else:
                return path
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {parent} cannot be used: "
            f"{error.strerror}. Choose another with --runs or --output."
        ) from error


def open_output(path: Path) -> Path:
    """Returns a folder that the user has named for results, created if need be.

    Raises:
        RunError: It holds something already, which results must not mix with, or
            cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {path} cannot be used: "
            f"{error.strerror}. Choose another with --output."
        ) from error
    if taken:
        raise RunError(
            f"Expected an empty or new folder for results, but {path} holds something "
            "already. Choose another with --output, or empty it."
        )
    return path


def create_run(runs: Path, label: str) -> RunFolder:
    """Creates the folder of a new run, `<time>-<label>`, which no other run has.

    Raises:
        RunError: It cannot be created there.
    """
    return RunFolder(create_folder(runs, f"{datetime.now():%Y%m%d-%H%M%S}-{label}"))


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


def first_line(error: BaseException) -> str:
    """Returns the message of an error, short enough for one line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else line[:200] + " ..."


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
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        counters = json.loads(str(arrays.pop("counters")))
    # A damaged file can make zipfile and NumPy raise almost anything.
    except Exception as error:
        raise RunError(
            f"{path} is damaged ({first_line(error)}), so this run cannot be "
            "continued. Start it anew."
        ) from error
    return arrays, counters


def write_evaluation(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    report: str,
    names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    figures: Mapping[str, "Figure"],
) -> None:
    """Writes what judging a network leaves; the metrics last, as a sign of the end.

    Args:
        folder: Existing folder.
        metrics: Goes to `metrics.json`.
        report: The same for people; goes to `report.txt`.
        names: Path of each picture; goes to `predictions.csv` with what follows.
        labels: int (n,).
        probabilities: float (n, 7).
        figures: By file name without ending; each goes to a PNG.
    """
    write_text(folder / "report.txt", report)
    write_csv(
        folder / "predictions.csv",
        ("path", "label", "prediction", *EMOTIONS),
        (
            (name, EMOTIONS[label], EMOTIONS[row.argmax()], *(f"{p:.6f}" for p in row))
            for name, label, row in zip(names, labels, probabilities, strict=True)
        ),
    )
    for name, figure in figures.items():
        write_figure(folder / f"{name}.png", figure)
    write_json(folder / "metrics.json", metrics)
