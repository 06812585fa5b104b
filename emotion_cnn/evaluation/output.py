"""The files that an evaluation leaves in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.files import write_csv, write_figure, write_json, write_text

if TYPE_CHECKING:
    # Modes that draw nothing start seconds sooner without it.
    from matplotlib.figure import Figure


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
    """Writes what evaluating a network leaves; the metrics last, as a sign of the end.

    Args:
        folder: Existing folder.
        metrics: Goes to `metrics.json`.
        report: The same for people; goes to `report.txt`.
        names: Path of each image; goes to `predictions.csv` with what follows.
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
