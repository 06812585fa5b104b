"""Metrics as plain text, in tables."""

from collections.abc import Mapping
from itertools import zip_longest

from emotion_cnn.evaluation.metrics import Metrics


def format_report(parts: Mapping[str, Metrics]) -> str:
    """Lays metrics out as plain text in tables, 80 columns wide for short names.

    Args:
        parts: The metrics of each part by its name, such as `PrivateTest`.

    Returns:
        One block for each part, in the order given: on the left the metrics of
        the whole part, on the right those of each class.
    """
    return "\n\n".join(_format_part(part, metrics) for part, metrics in parts.items())


def _format_part(part: str, metrics: Metrics) -> str:
    lower, upper = metrics.accuracy_interval
    whole = [
        ("accuracy", f"{metrics.accuracy:.2%}"),
        ("95% interval", f"{100 * lower:.2f}-{upper:.2%}"),
        ("balanced accuracy", f"{metrics.balanced_accuracy:.2%}"),
        ("macro-F1", f"{metrics.macro_f1:.2%}"),
        ("top-2 accuracy", f"{metrics.top2_accuracy:.2%}"),
        ("log loss", f"{metrics.log_loss:.4f}"),
        ("ECE", f"{metrics.expected_calibration_error:.2%}"),
    ]
    left = ["", *(f"{metric:<17}{value:>14}" for metric, value in whole)]
    width = max(9, *(len(name) for name in metrics.classes))
    right = [
        f"{'class':<{width}}{'precision':>9}{'recall':>9}{'F1':>9}{'support':>9}",
        *(
            f"{name:<{width}}{each.precision:>9.2%}{each.recall:>9.2%}"
            f"{each.f1:>9.2%}{each.support:>9}"
            if each.support
            else f"{name:<{width}}{'-':>9}{'-':>9}{'-':>9}{0:>9}"
            for name, each in metrics.classes.items()
        ),
    ]
    rows = [
        f"{a:<31}    {b}".rstrip() for a, b in zip_longest(left, right, fillvalue="")
    ]
    if metrics.missing:
        rows.append(_describe_missing(metrics))
    return "\n".join([f"{part}, n = {metrics.n}", *rows])


def _describe_missing(metrics: Metrics) -> str:
    among = metrics.accuracy_among_present
    figures = f"No images of {', '.join(metrics.missing)}: means are over the others."
    if among is None or among == metrics.accuracy:
        return figures
    return (
        f"{figures}\nAccuracy is that of predictions among all classes; among those "
        f"with images it is\n{among:.2%}."
    )
