"""How long `--mode audit` takes, and how much memory, as a command of its own.

With --growth: how both grow with the images, up to as many as it is given time for.
"""

import importlib.util
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import ROOT
from benchmarks.audit_growth import Measured, made_images, measured_apart
from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.source import SAMPLE_DATA

_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
# Linux says of a process that it had at least the memory of the one that started it: so
# a small one does. It counts in kibibytes.
_MEASURING = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
_TEST = 10_000
"""Images of test where train alone grows."""


@dataclass(frozen=True)
class Search:
    """One way to look for near-duplicates.

    Attributes:
        options: What `audit_images` takes for it.
        counts: How many images to try.
        power: What power of these its time should grow with, at most.
        memory: Bytes that an image should take, at most.
    """

    options: dict[str, Any]
    counts: tuple[int, ...]
    power: float
    memory: float

    def sizes(self, count: int) -> tuple[int, int]:
        """Returns the images of train and of test, of those that count."""
        if self.options.get("against") == "test":
            return count, _TEST
        return count - count // 10, count // 10


# Of an image, name and label alone take 100 bytes here.
_SEARCHES = {
    "train with 10,000 of test": Search({"against": "test"}, _SIZES[::2], 1.1, 250),
    "all with all": Search({}, _SIZES, 2.1, 500),
}
_NEARLY = {"nearly complete": Search({"complete": False}, _SIZES, 1.7, 500)}


def main() -> None:
    """Audits the data once, all of it from disk, and shows what that took."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, help=DATA_HELP)
    parser.add_argument(
        "--growth",
        type=float,
        metavar="SECONDS",
        help="in place of the data, audit made images, ever more, for about so long "
        "(and half a minute to make them, in 2.3 GB of temporary files)",
    )
    arguments = parser.parse_args()
    if arguments.growth:
        show_growth(arguments.growth, arguments.json)
        return
    with data_folder(arguments.data) as folder, TemporaryDirectory() as output:
        target = Path(output, "audit")
        command = [
            *(sys.executable, "main.py", "--mode", "audit"),
            *("--data", str(folder.resolve()), "--output", str(target)),
        ]
        start = time.perf_counter()
        # This very interpreter, with arguments from this file.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _MEASURING, *command],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
        )
        seconds = time.perf_counter() - start
        page = (target / "audit.html").stat().st_size / 1e6
    processor_seconds, kibibytes = map(float, done.stdout.split())
    show(
        f"--mode audit of {arguments.data}",
        [
            Row("from start to end", "s", seconds, at_most=120),
            Row("processor time", "s", processor_seconds),
            Row("peak memory", "MB", kibibytes * 1024 / 1e6, at_most=500),
            Row("audit.html", "MB", page),
        ],
        notes=[
            "The targets are for FER2013's 35,886 images on two cores. The first "
            "run may wait for\nthe disk; the next finds the files in memory."
        ],
        json=arguments.json,
    )


def show_growth(seconds: float, json: Path | None) -> None:
    """Audits ever more images in each way, and shows time, memory and their growth.

    Args:
        seconds: How long all of it may take.
        json: File to write the same to, or None.
    """
    searches = dict(_SEARCHES)
    if importlib.util.find_spec("faiss"):
        searches |= _NEARLY
    rows: list[Row] = []
    found: dict[str, dict[int, set[str]]] = {}
    with made_images(_SIZES[-1] + _TEST) as path:
        for number, (name, search) in enumerate(searches.items()):
            start = time.perf_counter()
            # What one way leaves of its time is for the next ones.
            share = seconds / (len(searches) - number)
            measured = measure(path, search, share)
            seconds -= time.perf_counter() - start
            rows += rows_of(name, search, measured)
            found[name] = {count: set(each.found) for count, each in measured.items()}
    if "nearly complete" in found:
        common = found["all with all"].keys() & found["nearly complete"].keys()
        every, some = (
            found[n][max(common)] for n in ("all with all", "nearly complete")
        )
        share = 100 * len(every & some) / len(every)
        rows.append(
            Row(
                f"of {len(every):,} images with near-duplicates",
                "%",
                share,
                at_least=99,
            )
        )
    show(
        "The audit of ever more images, in a memory map",
        rows,
        notes=[
            "A tenth of the images are copies of others, flipped or not, up to 14 gray "
            "levels away.\nMemory is the peak of what is anonymous: not what is mapped."
        ],
        json=json,
    )


def measure(path: Path, search: Search, seconds: float) -> dict[int, Measured]:
    """Audits ever more images, as long as the next time is likely to be short enough.

    Args:
        path: The images.
        search: How to look for near-duplicates.
        seconds: How long all of it may take.

    Returns:
        What it took, by the number of images that grows.
    """
    measured: dict[int, Measured] = {}
    expected = 0.0
    for count, following in pairwise((*search.counts, 0)):
        if expected > seconds and len(measured) > 1:
            break
        measured[count] = measured_apart(path, *search.sizes(count), search.options)
        seconds -= measured[count].seconds
        expected = measured[count].seconds * (following / count) ** search.power
    return measured


def rows_of(name: str, search: Search, measured: dict[int, Measured]) -> list[Row]:
    """Returns what one way took, and how that grows between the last two."""
    rows = []
    for count, each in measured.items():
        rows.append(Row(f"{name}: {count:,} images", "s", each.seconds))
        rows.append(Row("  processor time", "s", each.processor_seconds))
        rows.append(Row("  memory", "MB", each.megabytes))
    # What is done once, whatever the images, weighs least in the last two.
    (least, first), (most, last) = list(measured.items())[-2:]
    power = math.log(last.seconds / first.seconds) / math.log(most / least)
    size = (last.megabytes - first.megabytes) * 1e6 / (most - least)
    return [
        *rows,
        Row("  time grows with the power of", "", power, at_most=search.power),
        Row("  memory grows an image by", "bytes", size, at_most=search.memory),
    ]


if __name__ == "__main__":
    main()
