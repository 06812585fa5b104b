"""Figures: learning curves, confusion matrices, calibration, mistakes.

The `draw_` functions draw on axes of the caller's; the `_figure` functions make a
`Figure` of their own, which needs neither pyplot's global state nor a display.
Nothing here computes a metric or writes a file.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emotion_cnn.data.rows import Images
from emotion_cnn.evaluation.metrics import ReliabilityBin

# Wong's palette ("Points of view: Color blindness", Nature Methods 8, 2011), as
# seaborn has it: told apart with any kind of colour vision.
_PALETTE = sns.color_palette("colorblind")
_TRAINING_COLOR, _VALIDATION_COLOR = _PALETTE[0], _PALETTE[1]
_SHEET_ROWS, _SHEET_COLUMNS = 4, 6
_LONGEST_NAME = 20
_MOST_INCHES = 24
_MOST_WITH_NUMBERS = 24


def draw_loss_curves(
    history: Mapping[str, Sequence[float]], loss_axes: Axes, accuracy_axes: Axes
) -> None:
    """Draws loss and accuracy over epochs, for training and validation.

    A star marks the epoch of the best validation accuracy (the first of equals)
    on both axes; dotted lines mark the epochs that began with a lower learning
    rate.

    Args:
        history: Equally long sequences, one value an epoch: `epoch` (from 1),
            `loss` and `val_loss` (nats), `accuracy` and `val_accuracy` (in
            [0, 1]) and `learning_rate`; at least one epoch.
        loss_axes: Where the losses go.
        accuracy_axes: Where the accuracies go.
    """
    epochs = history["epoch"]
    best = int(np.argmax(history["val_accuracy"]))
    rate_drops = _rate_drops(epochs, history["learning_rate"])
    for axes, metric in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
        curves = (
            ("training", _TRAINING_COLOR, history[metric]),
            ("validation", _VALIDATION_COLOR, history[f"val_{metric}"]),
        )
        for label, color, values in curves:
            axes.plot(epochs, values, color=color, marker=".", ms=4, label=label)
        axes.plot(
            epochs[best],
            history[f"val_{metric}"][best],
            marker="*",
            markersize=14,
            color=_VALIDATION_COLOR,
            markeredgecolor="black",
            linestyle="none",
            label=f"best validation accuracy:\n{history['val_accuracy'][best]:.2%} "
            f"in epoch {epochs[best]:.0f}",
        )
        for position, epoch in enumerate(rate_drops):
            axes.axvline(
                epoch,
                color="gray",
                linestyle=":",
                linewidth=1,
                zorder=0,
                label=None if position else "learning rate lowered",
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(
            MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize=9)
        sns.despine(ax=axes)
    loss_axes.set(title="Loss", ylabel="loss (nats)")
    accuracy_axes.set(title="Accuracy", ylabel="accuracy (share of images)")
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))


def _label(name: str) -> str:
    """Returns the name of a class as it is drawn: any folder's name can be one."""
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")  # What is between two would be a formula.


def _rate_drops(
    epochs: Sequence[float], learning_rates: Sequence[float]
) -> list[float]:
    """Returns the epochs with a lower learning rate than the one before."""
    drops = [
        epoch
        for epoch, before, rate in zip(
            epochs[1:], learning_rates[:-1], learning_rates[1:], strict=True
        )
        if rate < before
    ]
    # A smooth schedule lowers the rate in most epochs: lines would be a hatching.
    return drops if len(drops) <= len(epochs) / 2 else []


def draw_confusion_matrix(
    matrix: Sequence[Sequence[int]],
    classes: Sequence[str],
    axes: Axes,
    *,
    shares: bool,
) -> Axes:
    """Draws a confusion matrix, every cell with its value.

    Args:
        matrix: Counts of images; row = label, column = prediction, in the order of
            `classes`. The row of a class without images stays empty.
        classes: Names of the classes.
        axes: Where the matrix goes.
        shares: Whether to show each count as a percentage of its row.

    Returns:
        The axes given.
    """
    counts = np.asarray(matrix, dtype=float)
    supports = counts.sum(axis=1, keepdims=True)
    cells = np.where(supports > 0, counts, np.nan)
    if shares:
        cells = 100 * cells / np.where(supports > 0, supports, np.nan)
    with warnings.catch_warnings():
        # Names of classes may be in letters that the font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        sns.heatmap(
            cells,
            ax=axes,
            # Numbers of more classes would not be legible.
            annot=len(classes) <= _MOST_WITH_NUMBERS,
            fmt=".1f" if shares else ".0f",
            cmap="Blues",
            vmin=0,
            vmax=100 if shares else None,
            square=True,
            linewidths=0.5,
            xticklabels=[_label(name) for name in classes],
            yticklabels=[
                f"{_label(name)}\n({support:,.0f})"
                if len(classes) <= _MOST_WITH_NUMBERS
                else f"{_label(name)} ({support:,.0f})"
                for name, support in zip(classes, supports[:, 0], strict=True)
            ],
            cbar_kws={
                "label": "share of the label's images (%)"
                if shares
                else "number of images",
                "shrink": 0.8,
            },
        )
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="prediction", ylabel="label (number of images)")
    return axes


def draw_reliability_diagram(
    bins: Sequence[ReliabilityBin], axes: Axes, expected_calibration_error: float
) -> Axes:
    """Draws accuracy against confidence, bin by bin.

    Bars show a bin's accuracy, dashes its mean confidence, numbers its count of
    images. Bars below the dashes: the network is overconfident.

    Args:
        bins: Bins of confidence; empty ones are left out.
        axes: Where the diagram goes.
        expected_calibration_error: The error in [0, 1] to state in the legend.

    Returns:
        The axes given.
    """
    filled = [each for each in bins if each.count]
    centers = [(each.lower + each.upper) / 2 for each in filled]
    axes.plot([0, 1], [0, 1], "--", color="gray", label="perfect calibration")
    axes.bar(
        centers,
        np.array([each.accuracy for each in filled], dtype=float),
        width=[each.upper - each.lower for each in filled],
        color=_PALETTE[9],
        edgecolor="white",
        label="accuracy in the bin, with its number of images",
    )
    axes.plot(
        centers,
        np.array([each.confidence for each in filled], dtype=float),
        linestyle="none",
        marker="_",
        markersize=14,
        markeredgewidth=2.5,
        color=_PALETTE[3],
        label="mean confidence in the bin",
    )
    for center, each in zip(centers, filled, strict=True):
        axes.text(
            center, 0.01, f"{each.count:,}", rotation=90, ha="center", va="bottom"
        )
    axes.set(
        xlabel="confidence (highest probability)",
        ylabel="accuracy (share of images)",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.legend(
        # Below the label of the axis: inside there is no place that bars never reach.
        loc="upper left",
        bbox_to_anchor=(0, -0.1),
        title=f"expected calibration error: {expected_calibration_error:.2%}",
        alignment="left",
    )
    sns.despine(ax=axes)
    return axes


def draw_confident_mistakes(
    images: Images,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    axes_grid: np.ndarray,
) -> int:
    """Draws the wrong predictions with the highest probability, most confident first.

    Args:
        images: Gray images, uint8, of shape (n, height, width) or
            (n, height, width, 1).
        labels: Integers of shape (n,), positions in `classes`.
        probabilities: Floats of shape (n, classes) whose rows sum to 1.
        classes: Names of the classes.
        axes_grid: Array of axes, filled row by row, one image each; those left
            over stay blank.

    Returns:
        The number of mistakes there are, drawn or not.
    """
    predictions = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    mistakes = np.flatnonzero(predictions != labels)
    most_confident_first = mistakes[np.argsort(-confidence[mistakes], kind="stable")]
    for axes in axes_grid.flat:
        axes.set_axis_off()
    for axes, image in zip(axes_grid.flat, most_confident_first, strict=False):
        axes.imshow(images[image], cmap="gray", vmin=0, vmax=255)
        axes.set_title(
            f"{_label(classes[labels[image]])} \N{RIGHTWARDS ARROW} "
            f"{_label(classes[predictions[image]])}\n{confidence[image]:.1%}",
            fontsize=10,
        )
    return len(mistakes)


def loss_curves_figure(history: Mapping[str, Sequence[float]]) -> Figure:
    """Makes a figure of `draw_loss_curves`, loss and accuracy side by side."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    draw_loss_curves(history, *figure.subplots(1, 2))
    return figure


def confusion_matrix_figure(
    matrix: Sequence[Sequence[int]],
    classes: Sequence[str],
    *,
    shares: bool,
    title: str,
) -> Figure:
    """Makes a figure of `draw_confusion_matrix`; n is added to the title."""
    side = min(max(5, len(classes)), _MOST_INCHES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    # Otherwise seaborn has a new canvas made to measure each name, which takes half of
    # the time where there are 100.
    FigureCanvasAgg(figure)
    axes = draw_confusion_matrix(matrix, classes, figure.subplots(), shares=shares)
    axes.set_title(f"{title}, n = {np.sum(matrix):,}")
    return figure


def reliability_figure(
    bins: Sequence[ReliabilityBin], expected_calibration_error: float, *, title: str
) -> Figure:
    """Makes a figure of `draw_reliability_diagram`; n is added to the title."""
    figure = Figure(figsize=(7, 8), layout="constrained")
    axes = draw_reliability_diagram(bins, figure.subplots(), expected_calibration_error)
    axes.set_title(f"{title}, n = {sum(each.count for each in bins):,}")
    return figure


def mistakes_figure(
    images: Images,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Makes a sheet of `draw_confident_mistakes`, up to 4 rows of 6 images.

    The title is followed by n, the number of mistakes and how to read a cell, or
    by the statement that there are none.
    """
    wrong = int((probabilities.argmax(axis=1) != labels).sum())
    rows = min(max(math.ceil(wrong / _SHEET_COLUMNS), 1), _SHEET_ROWS)
    figure = Figure(figsize=(11, 0.5 + 2 * rows), layout="constrained")
    axes_grid = figure.subplots(rows, _SHEET_COLUMNS, squeeze=False)
    mistakes = draw_confident_mistakes(
        images, labels, probabilities, classes, axes_grid
    )
    if mistakes:
        shown = min(mistakes, axes_grid.size)
        verdict = (
            f"the {shown} most confident of {mistakes:,} mistakes\n"
            "(label \N{RIGHTWARDS ARROW} prediction, probability of the prediction)"
        )
    else:
        verdict = "no mistakes"
    figure.suptitle(f"{title}, n = {len(labels):,}: {verdict}")
    return figure
