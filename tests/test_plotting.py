"""What the figures show, read back from their axes."""

import warnings
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.evaluation.metrics import expected_calibration_error, reliability_bins
from emotion_cnn.evaluation.plotting import (
    confusion_matrix_figure,
    draw_confident_mistakes,
    draw_confusion_matrix,
    draw_loss_curves,
    draw_reliability_diagram,
    loss_curves_figure,
    mistakes_figure,
    reliability_figure,
)
from emotion_cnn.files import write_figure

pytestmark = pytest.mark.filterwarnings("error")

HISTORY = {
    "epoch": [1, 2, 3, 4, 5],
    "loss": [1.9, 1.5, 1.2, 1.0, 0.9],
    "accuracy": [0.25, 0.40, 0.52, 0.60, 0.66],
    "val_loss": [1.8, 1.6, 1.4, 1.3, 1.35],
    "val_accuracy": [0.28, 0.38, 0.55, 0.55, 0.54],
    "learning_rate": [1e-3, 1e-3, 1e-3, 5e-4, 5e-4],
}
MATRIX = [
    [5, 1, 0, 0, 0, 2, 0],
    [0, 3, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [1, 0, 0, 1200, 9, 0, 3],
    [0, 0, 0, 4, 6, 0, 0],
    [0, 0, 2, 0, 1, 4, 0],
    [0, 0, 1, 0, 0, 0, 7],
]


@pytest.fixture(autouse=True)
def no_pyplot_figure_is_left_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


def lines_by_label(axes):
    return {line.get_label(): line for line in axes.lines}


def test_loss_curves_show_the_history():
    loss_axes, accuracy_axes = Figure().subplots(1, 2)
    draw_loss_curves(HISTORY, loss_axes, accuracy_axes)

    for axes, metric in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
        lines = lines_by_label(axes)
        for label, key in (("training", metric), ("validation", f"val_{metric}")):
            assert list(lines[label].get_xdata()) == HISTORY["epoch"]
            assert list(lines[label].get_ydata()) == HISTORY[key]
        assert lines["training"].get_color() != lines["validation"].get_color()


def test_loss_curves_mark_the_first_best_epoch_and_the_learning_rate_drop():
    loss_axes, accuracy_axes = Figure().subplots(1, 2)
    draw_loss_curves(HISTORY, loss_axes, accuracy_axes)

    for axes, value in ((loss_axes, 1.4), (accuracy_axes, 0.55)):
        lines = lines_by_label(axes)
        star = lines["best validation accuracy:\n55.00% in epoch 3"]
        assert (list(star.get_xdata()), list(star.get_ydata())) == ([3], [value])
        assert list(lines["learning rate lowered"].get_xdata()) == [4, 4]


def test_a_learning_rate_lowered_every_epoch_is_not_marked():
    smooth = HISTORY | {"learning_rate": [5e-4, 4e-4, 3e-4, 2e-4, 1e-4]}
    for axes in loss_curves_figure(smooth).axes:
        assert "learning rate lowered" not in lines_by_label(axes)


def test_loss_curves_of_one_epoch_can_be_drawn():
    figure = loss_curves_figure({key: values[:1] for key, values in HISTORY.items()})
    figure.draw_without_rendering()
    assert "best validation accuracy:\n28.00% in epoch 1" in lines_by_label(
        figure.axes[1]
    )


def cell_texts(axes):
    """The texts by (row, column), from their places."""
    return {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
        for text in axes.texts
    }


def test_confusion_matrix_shows_counts_and_leaves_rows_without_images_empty():
    axes = Figure().subplots()
    assert draw_confusion_matrix(MATRIX, EMOTIONS, axes, shares=False) is axes

    assert cell_texts(axes) == {
        (row, column): str(MATRIX[row][column])
        for row in (0, 1, 3, 4, 5, 6)
        for column in range(7)
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(EMOTIONS)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "angry\n(8)",
        "disgust\n(3)",
        "fear\n(0)",
        "happy\n(1,213)",
        "neutral\n(10)",
        "sad\n(7)",
        "surprise\n(8)",
    ]
    assert "prediction" in axes.get_xlabel()
    assert "label" in axes.get_ylabel()


def test_shares_are_percentages_of_each_row():
    axes = draw_confusion_matrix(MATRIX, EMOTIONS, Figure().subplots(), shares=True)
    texts = cell_texts(axes)

    assert [texts[0, column] for column in range(7)] == [
        *("62.5", "12.5", "0.0", "0.0", "0.0", "25.0", "0.0")
    ]
    assert {row for row, _ in texts} == {0, 1, 3, 4, 5, 6}
    for row in (0, 1, 3, 4, 5, 6):
        total = sum(float(texts[row, column]) for column in range(7))
        assert total == pytest.approx(100, abs=0.35)


def test_confusion_matrix_title_states_the_part_and_n():
    figure = confusion_matrix_figure(MATRIX, EMOTIONS, shares=True, title="PrivateTest")
    assert figure.axes[0].get_title() == "PrivateTest, n = 1,249"


@pytest.mark.parametrize("count", [2, 7, 10])
def test_a_confusion_matrix_has_room_for_its_texts(count):
    classes = [f"class {number}" for number in range(count)]
    matrix = np.full((count, count), 12_345)
    figure = confusion_matrix_figure(matrix, classes, shares=False, title="test")
    figure.draw_without_rendering()
    [axes, _] = figure.axes
    [[left, _], [right, _]] = axes.transData.transform([[0, 0], [1, 0]])
    assert max(text.get_window_extent().width for text in axes.texts) < right - left
    ticks = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(ticks))
    assert axes.title.get_window_extent().x1 < figure.bbox.x1


@pytest.mark.parametrize(
    ("count", "shares"), [(2, False), (2, True), (25, True), (100, False)]
)
def test_a_confusion_matrix_of_any_names(count, shares, tmp_path):
    odd = ("a$b$", r"$\no{formula", "\u559c\u3073", 50 * "W")
    classes = [*odd, *(f"class {k}" for k in range(96))][:count]
    figure = confusion_matrix_figure(
        np.eye(count), classes, shares=shares, title="test"
    )
    write_figure(tmp_path / "figure.png", figure)
    with Image.open(tmp_path / "figure.png") as written:
        assert max(written.size) <= 3000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of letters that the font lacks.
        ticks = [t.get_window_extent() for t in figure.axes[0].get_yticklabels()]
    assert all(one.y0 > other.y1 for one, other in pairwise(ticks))


def test_reliability_diagram_shows_each_filled_bin():
    bins = reliability_bins(
        np.array([0.95, 0.97, 0.55, 0.35]), np.array([True, False, True, False])
    )
    axes = Figure().subplots()
    error = expected_calibration_error(bins)
    assert draw_reliability_diagram(bins, axes, error) is axes

    assert [bar.get_height() for bar in axes.patches] == [0, 1, 0.5]
    assert [bar.get_x() for bar in axes.patches] == pytest.approx(
        [5 / 15, 8 / 15, 14 / 15]
    )
    assert [text.get_text() for text in axes.texts] == ["1", "1", "2"]
    confidence = lines_by_label(axes)["mean confidence in the bin"]
    assert list(confidence.get_ydata()) == pytest.approx([0.35, 0.55, 0.96])
    assert axes.get_legend().get_title().get_text().endswith("43.00%")

    figure = reliability_figure(bins, error, title="PublicTest")
    assert figure.axes[0].get_title() == "PublicTest, n = 4"


def test_the_legend_of_a_reliability_diagram_covers_nothing():
    confidence = np.linspace(0.01, 0.99, 99)
    bins = reliability_bins(confidence, np.ones(99, bool))
    figure = reliability_figure(bins, 0.5, title="tall bars everywhere")
    figure.draw_without_rendering()
    [axes] = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert legend.y1 < axes.xaxis.label.get_window_extent().y0
    assert figure.bbox.y0 <= legend.y0
    assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1


@pytest.fixture
def five_images():
    """Mistakes are images 1 (60%), 3 (90%) and 4 (70%); image i has gray 10 i."""
    images = np.full((5, 48, 48), 10 * np.arange(5)[:, None, None], dtype=np.uint8)
    labels = np.array([0, 1, 2, 3, 4])
    predictions = np.array([0, 5, 2, 6, 0])
    confidence = np.array([0.99, 0.6, 0.95, 0.9, 0.7])
    probabilities = np.repeat((1 - confidence)[:, None] / 6, 7, axis=1)
    probabilities[np.arange(5), predictions] = confidence
    return images, labels, probabilities


@pytest.mark.parametrize("shape", [(5, 48, 48), (5, 48, 48, 1)])
def test_mistakes_are_drawn_most_confident_first_and_cells_left_over_stay_blank(
    five_images, shape
):
    images, labels, probabilities = five_images
    grid = Figure().subplots(2, 2)
    found = draw_confident_mistakes(
        images.reshape(shape), labels, probabilities, EMOTIONS, grid
    )

    assert found == 3
    assert [axes.get_title() for axes in grid.flat] == [
        "happy → surprise\n90.0%",
        "neutral → angry\n70.0%",
        "disgust → sad\n60.0%",
        "",
    ]
    drawn = [axes.images[0].get_array() for axes in grid.flat if axes.images]
    assert [int(image.max()) for image in drawn] == [30, 40, 10]
    assert not any(axes.axison for axes in grid.flat)


def test_only_the_most_confident_mistakes_are_drawn_when_cells_are_few(five_images):
    grid = Figure().subplots(1, 2)
    assert draw_confident_mistakes(*five_images, EMOTIONS, grid) == 3
    assert [axes.get_title().split("\n")[1] for axes in grid.flat] == ["90.0%", "70.0%"]


@pytest.mark.parametrize(("wrong", "rows"), [(0, 1), (6, 1), (7, 2), (100, 4)])
def test_a_sheet_of_mistakes_has_no_empty_rows(wrong, rows):
    probabilities = np.tile(np.eye(7)[0], (101, 1))
    labels = np.zeros(101, int)
    labels[:wrong] = 1
    images = np.zeros((101, 48, 48), np.uint8)
    sheet = mistakes_figure(images, labels, probabilities, EMOTIONS, title="test")
    assert sheet.axes[0].get_gridspec().nrows == rows
    assert sheet.get_figheight() == 0.5 + 2 * rows


def test_mistakes_title_counts_them_or_says_there_are_none(five_images):
    images, labels, probabilities = five_images
    some = mistakes_figure(images, labels, probabilities, EMOTIONS, title="PrivateTest")
    none = mistakes_figure(
        images,
        probabilities.argmax(axis=1),
        probabilities,
        EMOTIONS,
        title="PrivateTest",
    )

    assert some.get_suptitle().startswith(
        "PrivateTest, n = 5: the 3 most confident of 3 mistakes"
    )
    assert none.get_suptitle() == "PrivateTest, n = 5: no mistakes"
    assert not any(axes.images for axes in none.axes)
