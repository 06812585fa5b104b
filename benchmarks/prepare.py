"""Time and peak memory of importing a `fer2013.csv` of full size.

FER2013's original table may not be passed on, so one of the same format is made
from a folder with its images first: the same rows per part, the same columns.
"""

import argparse
import csv
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import ROOT
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.importing.formats.csv_table import CLASS_NUMBERS

TABLE_NAME = "fer2013.csv"
DATA_NAME = "imported"
PARTS = ("Training", "PublicTest", "PrivateTest")


def rows(images: Path) -> Iterator[tuple[str, str, str]]:
    """Yields label, pixels and usage of every image, part by part.

    Args:
        images: Folder with train/ and test/, file names as in FER2013.
    """
    numbers = {emotion: number for number, emotion in CLASS_NUMBERS.items()}
    paths = sorted(images.glob("*/*/*.[jp][pn]g"), key=lambda path: path.name)
    for part in PARTS:
        for path in paths:
            if path.name.startswith(part) and path.parent.name in EMOTIONS:
                with Image.open(path) as image:
                    pixels = np.asarray(image).ravel().tolist()
                yield numbers[path.parent.name], " ".join(map(str, pixels)), part


def write_table(images: Path, table: Path) -> None:
    """Writes a table in the format of `fer2013.csv`, once."""
    temporary = table.with_suffix(".part")
    with temporary.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("emotion", "pixels", "Usage"))
        writer.writerows(rows(images))
    temporary.replace(table)


def main() -> None:
    """Imports the table in a process of its own and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    table, data = arguments.work / TABLE_NAME, arguments.work / DATA_NAME
    if not table.is_file():
        write_table(arguments.images, table)
    command = [sys.executable, str(ROOT / "main.py"), "--mode", "prepare", "--replace"]
    command += ["--source", str(table), "--data", str(data)]
    start = time.perf_counter()
    status = os.spawnv(os.P_WAIT, sys.executable, command)  # noqa: S606
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    count = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["images"]
    size = table.stat().st_size / 1e6
    print(
        f"{count:,} images from {size:.0f} MB in {seconds:.0f} s "
        f"({used.ru_utime + used.ru_stime:.0f} s of processor time); peak memory "
        f"{used.ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
