"""Predictions in, metrics out: pure functions of arrays.

Every metric is a sum over all images, never a mean of batch means, so the last,
uneven batch weighs what its images weigh. scikit-learn computes what it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import NormalDist

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

RELIABILITY_BINS = 15
"""Equal-width bins of confidence, the number Guo et al. (2017) report with."""


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class is told from the others; shares lie in [0, 1].

    Attributes:
        precision: Share of the images predicted as the class that are
            labelled so; 0 where none is predicted.
        recall: Share of the images labelled as the class that are predicted
            so; 0 where none is labelled.
        f1: Harmonic mean of precision and recall; 0 where both are 0.
        support: Number of images labelled as the class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose highest probability lies in `(lower, upper]`.

    Attributes:
        lower: Lower edge, outside the bin.
        upper: Upper edge, inside the bin.
        count: Number of images in the bin.
        accuracy: Share of them predicted correctly; None in an empty bin.
        confidence: Mean of their highest probability; None in an empty bin.
    """

    lower: float
    upper: float
    count: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True)
class Metrics:
    """All that is measured on one part of a data set.

    Holds plain Python numbers only, so `dataclasses.asdict` of it is ready for
    JSON. Shares lie in [0, 1].

    Attributes:
        n: Number of images, every one of them counted.
        accuracy: Share of images predicted correctly.
        accuracy_interval: 95% Wilson interval of `accuracy`.
        balanced_accuracy: Mean recall over the classes that have images.
        macro_f1: Mean F1 over the classes that have images.
        top2_accuracy: Share of images whose label is among the two most
            probable classes.
        log_loss: Mean of -ln(probability of the label), in nats.
        expected_calibration_error: Mean distance between confidence and
            accuracy; see `expected_calibration_error`.
        classes: Metrics of each class by name, in their order.
        confusion_matrix: Counts of images; row = label, column = prediction,
            both in the order of the classes.
        reliability: The `RELIABILITY_BINS` bins of a reliability diagram.
        accuracy_among_present: Accuracy if only classes that have images are predicted;
            None where all have.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    top2_accuracy: float
    log_loss: float
    expected_calibration_error: float
    classes: dict[str, ClassMetrics]
    confusion_matrix: list[list[int]]
    reliability: tuple[ReliabilityBin, ...]
    accuracy_among_present: float | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The classes without images."""
        return tuple(name for name, each in self.classes.items() if not each.support)


def compute_metrics(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Metrics:
    """Evaluates predictions against labels.

    Of equally probable classes the one that comes first is taken as the more
    probable, for the prediction as for the top two.

    Args:
        labels: Integers of shape (n,), positions in `classes`.
        probabilities: Floats of shape (n, classes) whose rows sum to 1, give or take
            the rounding of float32.
        classes: The names of two or more classes, in their order.

    Returns:
        The metrics over all n images.

    Raises:
        ValueError: There are no images, or the arrays are not as described.
    """
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    check_predictions(labels, probabilities, len(classes))
    # Float32 rows miss 1 by more than scikit-learn lets pass without a warning.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)

    # scikit-learn's top_k_accuracy_score prefers the last of tied emotions where
    # argmax prefers the first: top-2 accuracy could then be below accuracy.
    ranking = np.argsort(-probabilities, axis=1, kind="stable")
    predictions = ranking[:, 0]
    correct = predictions == labels

    positions = range(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=positions, zero_division=0
    )
    reliability = reliability_bins(probabilities.max(axis=1), correct)
    among_present = np.where(support > 0, probabilities, -1).argmax(axis=1) == labels
    n = len(labels)
    return Metrics(
        n=n,
        accuracy=float(correct.mean()),
        accuracy_interval=wilson_interval(int(correct.sum()), n),
        # What balanced_accuracy_score gives, less its warning about predictions
        # of a class that has no images.
        balanced_accuracy=float(recall[support > 0].mean()),
        macro_f1=float(f1[support > 0].mean()),
        top2_accuracy=float((ranking[:, :2] == labels[:, None]).any(axis=1).mean()),
        log_loss=float(log_loss(labels, probabilities, labels=positions)),
        expected_calibration_error=expected_calibration_error(reliability),
        classes={
            name: ClassMetrics(
                precision=float(precision[label]),
                recall=float(recall[label]),
                f1=float(f1[label]),
                support=int(support[label]),
            )
            for label, name in enumerate(classes)
        },
        confusion_matrix=confusion_matrix(
            labels, predictions, labels=positions
        ).tolist(),
        reliability=reliability,
        accuracy_among_present=None if support.all() else float(among_present.mean()),
    )


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Returns the 95% score interval of a share, `successes` out of `n`.

    Unlike share +- 1.96 standard errors it stays within [0, 1] and holds for
    shares near 0 and 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association
    22(158), 1927.

    Args:
        successes: A count in [0, n].
        n: A count above 0.

    Returns:
        The lower and the upper end, both in [0, 1].
    """
    z = NormalDist().inv_cdf(0.975)
    share = successes / n
    center = share + z**2 / (2 * n)
    margin = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # Rounding may carry the ends of a share of 0 or 1 just past them.
    return max(0.0, (center - margin) / scale), min(1.0, (center + margin) / scale)


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray
) -> tuple[ReliabilityBin, ...]:
    """Sorts predictions into equal-width bins of confidence.

    Args:
        confidence: Floats in [0, 1] of shape (n,): the probability of each
            predicted class.
        correct: Booleans of shape (n,): whether the prediction is the label.

    Returns:
        `RELIABILITY_BINS` bins from 0 to 1, empty ones included.
    """
    edges = np.linspace(0, 1, RELIABILITY_BINS + 1)
    bin_of = np.digitize(confidence, edges[1:-1], right=True)
    bins = []
    for position, (lower, upper) in enumerate(pairwise(edges.tolist())):
        inside = bin_of == position
        count = int(inside.sum())
        bins.append(
            ReliabilityBin(
                lower=lower,
                upper=upper,
                count=count,
                accuracy=float(correct[inside].mean()) if count else None,
                confidence=float(confidence[inside].mean()) if count else None,
            )
        )
    return tuple(bins)


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Returns the mean of |accuracy - confidence| over bins, weighted by count.

    Sources: M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated
    probabilities using Bayesian binning", AAAI 2015; C. Guo, G. Pleiss, Y. Sun,
    K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017,
    equation 5, with 15 equal-width bins.

    Args:
        bins: Bins with at least one image among them.

    Returns:
        The error in [0, 1]; 0 is perfect calibration.
    """
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / sum(each.count for each in bins)


def check_predictions(
    labels: np.ndarray, probabilities: np.ndarray, classes: int
) -> None:
    """Checks arrays that metrics are computed from, against the number of classes.

    Raises:
        ValueError: They are not labels and probabilities of the same images.
    """
    shape = (len(labels), classes)
    if labels.ndim != 1 or probabilities.shape != shape:
        raise ValueError(
            f"Expected labels of shape (n,) and probabilities of shape (n, {classes}). "
            f"Received: {labels.shape} and {probabilities.shape}."
        )
    if len(labels) == 0:
        raise ValueError("Expected at least one image to evaluate. Received: none.")
    if not np.isin(labels, range(classes)).all():
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}. "
            f"Received: {sorted(set(labels.tolist()))}."
        )
    sums = probabilities.sum(axis=1)
    # Written so that a sum that is not a number fails too.
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError(
            "Expected probabilities of at least 0 in rows that sum to 1. Received: "
            f"a least value of {probabilities.min()} and sums from {sums.min()} "
            f"to {sums.max()}."
        )
