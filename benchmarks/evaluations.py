"""The paired difference of two networks on the test images that both were given.

Each folder is what `--mode evaluate` wrote, by the same labels.
"""

import argparse
import csv
from pathlib import Path

from benchmarks.out_of_fold import accuracy_row, difference_line, paired

PARTS = ("PublicTest", "PrivateTest", "")
"""Parts of the test images by what their names carry; all of them last."""


def correct_by_image(folder: Path) -> dict[str, bool]:
    """Returns whether a network is right, by image, of its `predictions.csv`."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["path"]: row["label"] == row["prediction"]
            for row in csv.DictReader(file)
        }


def main() -> None:
    """Prints accuracies and the difference, for each part of the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, metavar="FOLDER")
    parser.add_argument("second", type=Path, metavar="FOLDER2")
    arguments = parser.parse_args()
    first, second = map(correct_by_image, (arguments.first, arguments.second))
    for part in PARTS:
        found = [
            {name: right for name, right in each.items() if part in name}
            for each in (first, second)
        ]
        if not all(found):
            continue
        print(f"{part or 'test':<26} {'n':>8} {'accuracy':>9} {'error':>9}")
        for folder, each in zip(
            (arguments.first, arguments.second), found, strict=True
        ):
            print(accuracy_row(folder.name, each))
        print(f" {difference_line(paired(*found))}")


if __name__ == "__main__":
    main()
