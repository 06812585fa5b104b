"""The files that an evaluation leaves in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.files import write_csv, write_figure, write_json, write_text

if TYPE_CHECKING:
    # Modes that draw nothing start seconds sooner without it.
    from matplotlib.figure import Figure


def write_evaluation(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    report: str,
    classes: Sequence[str],
    names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    figures: Mapping[str, "Figure"],
) -> None:
    """Writes the results of an evaluation; `metrics.json` last, as a sign of the end.

    Args:
        folder: Existing folder.
        metrics: Goes to `metrics.json`.
        report: The same in words; goes to `report.txt`.
        classes: Names of the classes, in their order.
        names: Path of each image; goes to `predictions.csv` with what follows.
        labels: int (n,), positions in `classes`.
        probabilities: float (n, classes).
        figures: By file name without ending; each goes to a PNG.
    """
    write_text(folder / "report.txt", report)
    write_csv(
        folder / "predictions.csv",
        ("path", "label", "prediction", *classes),
        (
            (name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row))
            for name, label, row in zip(names, labels, probabilities, strict=True)
        ),
    )
    for name, figure in figures.items():
        write_figure(folder / f"{name}.png", figure)
    write_json(folder / "metrics.json", metrics)
