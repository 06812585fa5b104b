"""How long `--mode audit` takes, and how much memory, as a command of its own."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import ROOT
from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.source import SAMPLE_DATA


def main() -> None:
    """Audits the data once, all of it from disk, and shows what that took."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, help=DATA_HELP)
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder, TemporaryDirectory() as output:
        target = Path(output, "audit")
        command = [
            *(sys.executable, "main.py", "--mode", "audit"),
            *("--data", str(folder.resolve()), "--output", str(target)),
        ]
        start = time.perf_counter()
        # This very interpreter, with arguments from this file.
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        seconds = time.perf_counter() - start
        page = (target / "audit.html").stat().st_size / 1e6
    # The audit is this program's only child. Linux counts its peak in kibibytes.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    show(
        f"--mode audit of {arguments.data}",
        [
            Row("from start to end", "s", seconds, at_most=120),
            Row("processor time", "s", used.ru_utime + used.ru_stime),
            Row("peak memory", "MB", used.ru_maxrss * 1024 / 1e6, at_most=2000),
            Row("audit.html", "MB", page),
        ],
        notes=[
            "The targets are for FER2013's 35,886 images on two cores. The first "
            "run may wait for\nthe disk; the next finds the files in memory."
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
