"""How long the recipe `quick` trains until it is good, against the default recipe.

Both are `--mode train`, a process each, stopped as soon as the accuracy is reached.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import ROOT
from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.training.run_folder import RunFolder, read_history


@dataclass(frozen=True)
class Training:
    """A training up to an accuracy.

    Attributes:
        seconds: From the line that names the run, just before the first epoch, to
            the line that ends the epoch.
        epoch: The epoch, from 1.
        accuracy: Its validation accuracy, 0 to 1.
        peak_memory: Of the process, in MB.
    """

    seconds: float
    epoch: int
    accuracy: float
    peak_memory: float

    def __str__(self) -> str:
        """Says what was reached when."""
        return f"{self.accuracy:.2%} after epoch {self.epoch}"


def train_until(least_accuracy: float, *, recipe: str, data: Path) -> Training:
    """Trains by a recipe until the validation accuracy is reached.

    Args:
        least_accuracy: From 0 to 1.
        recipe: Its name.
        data: Folder with `train/` and `test/`.

    Raises:
        SystemExit: The training ended before.
    """
    accuracies: list[float] = []
    with TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "main.py", "--mode", "train", "--recipe", recipe),
            *("--data", str(data), "--runs", folder, "--publish", folder),
        ]
        # This very interpreter, with arguments from this file.
        with subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            # The clock goes by the lines: each must come when it is printed.
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout or ():
                if line.startswith("Run: "):
                    start = time.perf_counter()
                    run = RunFolder(Path(line.removeprefix("Run: ").strip()))
                # The tool ends an epoch with a line, when all of its files are written.
                elif " - val_accuracy: " in line:
                    seconds = time.perf_counter() - start
                    accuracies = read_history(run.history)["val_accuracy"]
                    if accuracies[-1] >= least_accuracy:
                        break
            process.terminate()
            # Unlike `wait`, this tells the memory of this one process.
            _, _, used = os.wait4(process.pid, 0)
    if not accuracies or accuracies[-1] < least_accuracy:
        raise SystemExit(
            f"Expected --recipe {recipe} to reach a validation accuracy of "
            f"{least_accuracy:.2%}, but it ended before."
        )
    # Linux counts in kibibytes.
    peak_memory = used.ru_maxrss * 1024 / 1e6
    return Training(seconds, len(accuracies), accuracies[-1], peak_memory)


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument(
        "--accuracy",
        type=float,
        default=0.6,
        help="validation accuracy to reach, 0 to 1 (default: 0.6)",
    )
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        quick, default = (
            train_until(arguments.accuracy, recipe=recipe, data=folder.resolve())
            for recipe in ("quick", "default")
        )
    show(
        f"The recipe quick against the default one: {arguments.data}, training until "
        f"{arguments.accuracy:.0%} of the\nvalidation images are recognised",
        [
            Row(
                "time to that accuracy",
                "s",
                quick.seconds,
                default.seconds,
                at_most=0.2,
            ),
            Row("peak memory, quick", "MB", quick.peak_memory, at_most=3000),
            Row("peak memory, default", "MB", default.peak_memory, at_most=3000),
        ],
        notes=[
            "One training each, from the first epoch's start; validation, and what is "
            "written after\nevery epoch, counted.",
            f"Validation accuracy: quick {quick}; default {default}.",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
