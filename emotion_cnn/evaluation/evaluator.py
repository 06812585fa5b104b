"""A network and test images in, an `Evaluation` out: figures, report, plots, files."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_cnn.data.annotations import NOTHING_KNOWN, Annotations
from emotion_cnn.data.classes import LABEL_NAMES
from emotion_cnn.data.source import source_name
from emotion_cnn.data.splits import Split, official_parts
from emotion_cnn.data.votes import over_half_of_all_votes
from emotion_cnn.evaluation.metrics import Metrics, compute_metrics
from emotion_cnn.evaluation.plotting import (
    confusion_matrix_figure,
    mistakes_figure,
    reliability_figure,
)
from emotion_cnn.evaluation.predicted import Predicted, predict_timed
from emotion_cnn.evaluation.report import format_report
from emotion_cnn.files import shown, write_csv, write_figure, write_json, write_text
from emotion_cnn.inference.backends import Backend
from emotion_cnn.tables import class_columns, write_parquet_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a network reaches on test images.

    Attributes:
        metrics: By part: the whole (`test`), then `PublicTest` and `PrivateTest` where
            file names carry FER2013's official split, before these the images beside
            it, if there are any; then parts of these.
        test: The images, with the labels of the evaluation.
        probabilities: float32 `(n, classes)`, in the order of `test.classes`.
        shown: Name of the part that plots show: the last of the official split.
        places: int64 `(m,)`, where in `test` the images of that part are.
        images_per_second: Of prediction alone.
        record: What was evaluated: `data`, `labels`, `tta`, `weights`, ...
        folder: Where the files were written.
    """

    metrics: Mapping[str, Metrics]
    test: Split
    probabilities: np.ndarray
    shown: str
    places: np.ndarray
    images_per_second: float
    record: Mapping[str, Any]
    folder: Path

    @property
    def report(self) -> str:
        """The figures as text, 80 columns wide but for long names of folders."""
        record = self.record
        return (
            f"{shown(record['weights'])}, evaluated on "
            f"{source_name(record['data'])},\n"
            f"{LABEL_NAMES[record['labels']]}, test-time augmentation: "
            f"{record['tta']}\n\n{format_report(self.metrics)}\n\n"
            f"{self.images_per_second:,.0f} images per second\n"
        )

    def plot(self) -> "Figure":
        """Returns the confusion matrix of the part that plots show, in shares."""
        return self._confusion_matrix(shares=True)

    def figures(self) -> dict[str, "Figure"]:
        """Returns all plots by the name of their file, without ending."""
        metrics, title, images = self.metrics[self.shown], self._title(), self.test
        return {
            "confusion_matrix": self._confusion_matrix(shares=False),
            "confusion_matrix_shares": self._confusion_matrix(shares=True),
            "reliability": reliability_figure(
                metrics.reliability, metrics.expected_calibration_error, title=title
            ),
            "mistakes": mistakes_figure(
                images.select(self.places).images,
                images.labels[self.places],
                self.probabilities[self.places],
                images.classes,
                title=title,
            ),
        }

    def write(self) -> None:
        """Writes all files into the folder; the metrics last, as a sign of the end."""
        classes = self.test.classes
        write_text(self.folder / "report.txt", self.report)
        rows = zip(self.test.names, self.test.labels, self.probabilities, strict=True)
        table, texts = self.folder / "predictions.csv", ("path", "label", "prediction")
        probabilities = class_columns(classes, texts)
        write_csv(
            table,
            (*texts, *probabilities),
            (
                (
                    name,
                    classes[label],
                    classes[row.argmax()],
                    *(f"{p:.6f}" for p in row),
                )
                for name, label, row in rows
            ),
        )
        columns = [(name, "string") for name in texts]
        write_parquet_beside(
            table, columns + [(name, "double") for name in probabilities]
        )
        for name, figure in self.figures().items():
            write_figure(self.folder / f"{name}.png", figure)
        parts = {name: _as_json(each) for name, each in self.metrics.items()}
        rate = {"images_per_second": self.images_per_second}
        values = {**self.record, **rate, "parts": parts}
        write_json(self.folder / "metrics.json", values)

    def _title(self) -> str:
        return f"{self.shown}, {LABEL_NAMES[self.record['labels']]}"

    def _confusion_matrix(self, *, shares: bool) -> "Figure":
        matrix = self.metrics[self.shown].confusion_matrix
        return confusion_matrix_figure(
            matrix, self.test.classes, shares=shares, title=self._title()
        )


def evaluate_network(
    network: Backend,
    test: Split,
    *,
    labels: str,
    tta: str,
    data: str,
    weights: str,
    folder: Path,
    part: str = "test",
    annotations: Annotations = NOTHING_KNOWN,
    predicted: Predicted | None = None,
) -> Evaluation:
    """Predicts every image of test, and computes the metrics of each part of it.

    Args:
        network: The network.
        test: The images, with the labels to evaluate against.
        labels: The label set that those are of.
        tta: Test-time augmentation, one of `VIEWS`.
        data: Where the images are from, for the record.
        weights: Where the network is from, for the record.
        folder: Where `Evaluation.write` writes to.
        part: What the images are called in the report.
        annotations: With votes, figures where over half of all votes agree are reported
            too; with near-duplicates, figures without the test images that have one in
            train.
        predicted: What the network predicts for these images, if that is known.

    Raises:
        ModelError: The network is of other classes, or of images of another size.
    """
    if predicted is None:
        predicted = predict_timed(network, test, labels=labels, tta=tta)
    probabilities = predicted.probabilities
    options = {"labels": labels, "tta": tta}
    record: dict[str, Any] = {"data": data, **options, "weights": weights}
    temperatures = network.description.temperatures
    if any(each != 1 for each in temperatures.values()):
        record["temperatures"] = dict(temperatures)
    parts = {part: np.arange(len(test))} | official_parts(test)
    # FER2013's figures are published on PrivateTest: the plots show that.
    shown = list(parts)[-1]
    places = parts[shown]
    if annotations.votes is not None:
        agreed = np.flatnonzero(
            over_half_of_all_votes(test.names, annotations.votes, test.classes)
        )
        parts |= _narrowed(parts, agreed, ", over half of all votes")
    if near_duplicates := annotations.near_duplicates:
        record["audit"] = str(near_duplicates.path)
        without = near_duplicates.clean_positions(test)
        parts |= _narrowed(parts, without, " without near-duplicates in train")
    metrics = {
        name: compute_metrics(test.labels[chosen], probabilities[chosen], test.classes)
        for name, chosen in parts.items()
    }
    rate = len(test) / predicted.seconds
    return Evaluation(metrics, test, probabilities, shown, places, rate, record, folder)


def _as_json(metrics: Metrics) -> dict[str, Any]:
    values = dataclasses.asdict(metrics)
    if not metrics.missing:
        del values["accuracy_among_present"]
    return values


def _narrowed(
    parts: Mapping[str, np.ndarray], to: np.ndarray, added_name: str
) -> dict[str, np.ndarray]:
    """Returns what of each part is among some images, where there is any."""
    left = {
        name + added_name: np.intersect1d(places, to) for name, places in parts.items()
    }
    return {name: places for name, places in left.items() if len(places)}
