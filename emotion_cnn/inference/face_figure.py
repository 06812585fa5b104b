"""A face, its probabilities and an explanation, as a Matplotlib figure."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from emotion_cnn.inference.annotation import describe
from emotion_cnn.inference.explanation import heat_map

if TYPE_CHECKING:
    from emotion_cnn.inference.analysis import Face

# Wong's palette, as in `evaluation.plotting`: told apart with any colour vision.
_BLUE, _GRAY = "#0173b2", "#949494"


def face_figure(
    face: "Face", *, method: str | None = None, emotion: str | None = None
) -> Figure:
    """Draws what `Face.plot` describes."""
    columns = 2 if method is None else 3
    figure = Figure(figsize=(3 * columns, 3), layout="constrained")
    axes = list(figure.subplots(1, columns))
    axes[0].imshow(face.image, cmap="gray", vmin=0, vmax=255)
    # A class may be called $x$, which would be a formula.
    axes[0].set_title(describe(face), parse_math=False)
    if method is not None:
        explained = face.emotion if emotion is None else emotion
        axes[1].imshow(heat_map(face.image, face.explain(method, explained)))
        axes[1].set_title(f"{method}: {explained}", parse_math=False)
    for image_axes in axes[:-1]:
        image_axes.set_axis_off()
    bars = axes[-1]
    colors = [_BLUE if each == face.emotion else _GRAY for each in face.classes]
    rows = range(len(face.classes))
    bars.barh(rows, face.decisive, color=colors)
    bars.set_yticks(rows, face.classes, parse_math=False)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xlabel="probability")
    bars.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    bars.spines[["top", "right"]].set_visible(False)
    return figure
