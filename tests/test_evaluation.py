"""Metrics against cases worked out by hand, and against scikit-learn."""

import json
from dataclasses import asdict
from math import log
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split
from emotion_cnn.evaluation.calibration import fit_temperature
from emotion_cnn.evaluation.evaluator import Evaluation
from emotion_cnn.evaluation.metrics import (
    ClassMetrics,
    compute_metrics,
    expected_calibration_error,
    reliability_bins,
    wilson_interval,
)
from emotion_cnn.evaluation.report import format_report

pytestmark = pytest.mark.filterwarnings("error")

ANGRY, DISGUST, FEAR, HAPPY, NEUTRAL, SAD, SURPRISE = range(7)


def probability_rows(predictions, runners_up):
    """0.62 for the prediction, 0.28 for the second, 0.02 for each other emotion."""
    rows = np.full((len(predictions), 7), 0.02)
    rows[np.arange(len(predictions)), predictions] = 0.62
    rows[np.arange(len(predictions)), runners_up] = 0.28
    return rows


@pytest.fixture
def six_images():
    labels = np.array([ANGRY, ANGRY, ANGRY, DISGUST, HAPPY, HAPPY])
    predictions = [ANGRY, ANGRY, DISGUST, DISGUST, HAPPY, SAD]
    runners_up = [FEAR, FEAR, ANGRY, FEAR, FEAR, FEAR]
    return labels, probability_rows(predictions, runners_up)


def random_predictions(n, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 7, n)
    return labels, generator.dirichlet(np.ones(7), n)


def test_six_images_by_hand(six_images):
    metrics = compute_metrics(*six_images, EMOTIONS)

    assert metrics.n == 6
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.accuracy_interval == pytest.approx((0.29999, 0.90323), abs=1e-5)
    # Recalls: angry 2/3, disgust 1/1, happy 1/2; the other four have no images.
    assert metrics.balanced_accuracy == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert metrics.macro_f1 == pytest.approx((4 / 5 + 2 / 3 + 2 / 3) / 3)
    # The sixth, which is predicted as sad, has as much of angry as of happy.
    assert metrics.accuracy_among_present == pytest.approx(4 / 6)
    assert metrics.missing == ("fear", "neutral", "sad", "surprise")
    # The third image's label is the runner-up, the sixth's is neither.
    assert metrics.top2_accuracy == pytest.approx(5 / 6)
    assert metrics.log_loss == pytest.approx(
        -(4 * log(0.62) + log(0.28) + log(0.02)) / 6
    )
    assert metrics.expected_calibration_error == pytest.approx(4 / 6 - 0.62)
    assert metrics.confusion_matrix == [
        [2, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_answers_among_the_classes_that_have_images():
    labels = np.array([ANGRY, HAPPY, HAPPY])
    probabilities = probability_rows([ANGRY, SAD, HAPPY], [SAD, HAPPY, SAD])
    metrics = compute_metrics(labels, probabilities, EMOTIONS)
    assert metrics.accuracy == pytest.approx(2 / 3)
    assert metrics.accuracy_among_present == 1
    assert "among all classes" in format_report({"test": metrics})
    assert format_report({"test": metrics}).endswith("with images it is\n100.00%.")
    labels, probabilities = random_predictions(500)
    whole = compute_metrics(labels, probabilities, EMOTIONS)
    assert whole.accuracy_among_present is None
    assert whole.missing == ()


def test_metrics_of_each_class_by_hand(six_images):
    classes = compute_metrics(*six_images, EMOTIONS).classes

    assert tuple(classes) == EMOTIONS
    expected = {
        "angry": (1, 2 / 3, 4 / 5, 3),
        "disgust": (1 / 2, 1, 2 / 3, 1),
        "happy": (1, 1 / 2, 2 / 3, 2),
    }
    for emotion, (precision, recall, f1, support) in expected.items():
        found = classes[emotion]
        assert found.precision == pytest.approx(precision)
        assert found.recall == pytest.approx(recall)
        assert found.f1 == pytest.approx(f1)
        assert found.support == support
    # Neither predicted nor labelled, and predicted but never labelled.
    assert classes["fear"] == ClassMetrics(0.0, 0.0, 0.0, 0)
    assert classes["sad"] == ClassMetrics(0.0, 0.0, 0.0, 0)


def test_agrees_with_scikit_learn_where_every_class_has_images():
    labels, probabilities = random_predictions(500)
    metrics = compute_metrics(labels, probabilities, EMOTIONS)

    assert metrics.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    )
    assert metrics.top2_accuracy == pytest.approx(
        top_k_accuracy_score(labels, probabilities, k=2)
    )


def test_every_image_of_an_uneven_count_weighs_the_same():
    labels, probabilities = random_predictions(131)
    predictions = probabilities.argmax(axis=1)
    labels[:128] = predictions[:128]
    labels[128:] = (predictions[128:] + 1) % 7

    metrics = compute_metrics(labels, probabilities, EMOTIONS)

    assert metrics.n == np.sum(metrics.confusion_matrix) == 131
    assert metrics.accuracy == pytest.approx(128 / 131)
    assert sum(each.support for each in metrics.classes.values()) == 131
    assert sum(each.count for each in metrics.reliability) == 131


def test_ties_go_to_the_first_class_and_keep_top2_above_accuracy():
    uniform = np.full((7, 7), 1 / 7)
    metrics = compute_metrics(np.arange(7), uniform, EMOTIONS)

    assert metrics.accuracy == pytest.approx(1 / 7)
    assert metrics.classes["angry"].recall == 1
    # The top two are angry and disgust for every image.
    assert metrics.top2_accuracy == pytest.approx(2 / 7)
    assert compute_metrics([DISGUST], uniform[:1], EMOTIONS).top2_accuracy == 1
    assert compute_metrics([FEAR], uniform[:1], EMOTIONS).top2_accuracy == 0


def test_float32_rows_are_scaled_to_sum_to_one():
    labels, probabilities = random_predictions(50)
    exact = compute_metrics(labels, probabilities, EMOTIONS)
    rounded = compute_metrics(
        labels, (probabilities * 1.0005).astype(np.float32), EMOTIONS
    )

    assert rounded.log_loss == pytest.approx(exact.log_loss, rel=1e-6)
    assert rounded.confusion_matrix == exact.confusion_matrix


def test_one_image_predicted_with_certainty():
    metrics = compute_metrics(np.array([HAPPY]), np.eye(7)[[HAPPY]], EMOTIONS)

    assert metrics.accuracy == metrics.balanced_accuracy == metrics.top2_accuracy == 1
    assert metrics.accuracy_interval[1] == 1
    assert metrics.macro_f1 == 1
    assert metrics.log_loss == pytest.approx(0, abs=1e-12)
    assert metrics.reliability[-1].count == 1


@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [
        (50, 100, (0.4038, 0.5962)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_wilson_interval_against_published_values(successes, n, interval):
    assert wilson_interval(successes, n) == pytest.approx(interval, abs=5e-5)


@pytest.mark.parametrize("n", [1, 9, 21, 7178])
def test_wilson_interval_stays_between_zero_and_one(n):
    assert wilson_interval(0, n)[0] >= 0
    assert wilson_interval(n, n)[1] <= 1


def test_calibration_of_four_images_by_hand():
    bins = reliability_bins(
        np.array([0.95, 0.97, 0.55, 0.35]), np.array([True, False, True, False])
    )

    assert len(bins) == 15
    # 0.35 * 15 = 5.25, 0.55 * 15 = 8.25, 0.95 * 15 = 14.25.
    assert [i for i, each in enumerate(bins) if each.count] == [5, 8, 14]
    assert bins[14].count == 2
    assert bins[14].accuracy == pytest.approx(0.5)
    assert bins[14].confidence == pytest.approx(0.96)
    assert bins[0].accuracy is None
    assert bins[0].confidence is None
    assert expected_calibration_error(bins) == pytest.approx(
        (2 * abs(0.5 - 0.96) + abs(1 - 0.55) + abs(0 - 0.35)) / 4
    )


def test_bins_hold_their_upper_edge_and_cover_zero_to_one():
    bins = reliability_bins(np.array([0.0, 1.0]), np.array([True, True]))
    assert bins[0].count == bins[14].count == 1
    assert (bins[0].lower, bins[14].upper) == (0, 1)

    at_edge = reliability_bins(np.array([bins[4].upper]), np.array([True]))
    assert at_edge[4].count == 1


@pytest.fixture
def calibrated():
    """Twenty images; each class is the label as often as its probability says."""
    counts = np.array([8, 4, 2, 2, 2, 1, 1])
    return np.repeat(np.arange(7), counts), np.tile(counts / 20, (20, 1))


def test_the_temperature_of_calibrated_probabilities_is_one(calibrated):
    assert fit_temperature(*calibrated) == pytest.approx(1, abs=1e-4)


def with_temperature(probabilities, temperature):
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2, 4, 15])
def test_the_temperature_undoes_a_scale_of_the_logits(calibrated, scale):
    labels, probabilities = calibrated
    scaled = with_temperature(probabilities, 1 / scale)
    temperature = fit_temperature(labels, scaled)
    assert temperature == pytest.approx(scale, rel=1e-3)
    np.testing.assert_allclose(
        with_temperature(scaled, temperature), probabilities, atol=1e-3
    )


def test_the_temperature_has_the_least_log_loss():
    labels, probabilities = random_predictions(300)
    probabilities[np.arange(150), labels[:150]] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    fitted = fit_temperature(labels, probabilities)

    def loss(temperature):
        after = with_temperature(probabilities, temperature)
        return compute_metrics(labels, after, EMOTIONS).log_loss

    assert 1 < fitted < 20
    assert loss(fitted) < min(loss(0.99 * fitted), loss(1.01 * fitted), loss(1))


@pytest.mark.parametrize(
    ("labels", "end"), [(np.arange(7), 0.05), ((np.arange(7) + 1) % 7, 20)]
)
def test_the_temperature_stays_within_its_range(labels, end):
    probabilities = (np.ones((7, 7)) + np.eye(7)) / 8
    assert fit_temperature(labels, probabilities) == pytest.approx(end, rel=1e-3)


def test_a_temperature_is_not_fitted_to_nothing():
    with pytest.raises(ValueError, match="at least one image"):
        fit_temperature(np.zeros(0, int), np.zeros((0, 7)))


def test_metrics_survive_a_json_round_trip(six_images):
    as_dictionary = asdict(compute_metrics(*six_images, EMOTIONS))
    restored = json.loads(json.dumps(as_dictionary))

    assert restored["accuracy_interval"] == list(as_dictionary["accuracy_interval"])
    assert restored["reliability"] == list(as_dictionary["reliability"])
    for key in as_dictionary.keys() - {"accuracy_interval", "reliability"}:
        assert restored[key] == as_dictionary[key]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros(0, int), np.zeros((0, 7)), "at least one image.*none"),
        (np.zeros(2, int), np.eye(7)[:3], r"\(2,\) and \(3, 7\)"),
        (np.zeros((2, 1), int), np.eye(7)[:2], r"\(2, 1\) and \(2, 7\)"),
        (np.zeros(2, int), np.eye(6)[:2], r"\(2,\) and \(2, 6\)"),
        (np.array([0, 7]), np.eye(7)[:2], r"from 0 to 6.*\[0, 7\]"),
        (np.zeros(2, int), 2 * np.eye(7)[:2], "sums from 2.0 to 2.0"),
        (np.zeros(1, int), np.full((1, 7), np.nan), "sums from nan"),
        (np.zeros(1, int), np.array([[1.5, -0.5, 0, 0, 0, 0, 0]]), "value of -0.5"),
    ],
)
def test_unfit_arrays_are_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(labels, probabilities, EMOTIONS)


def test_metrics_are_of_the_classes_given():
    labels, probabilities = (
        np.array([0, 1, 1]),
        np.array([[0.9, 0.1]] * 2 + [[0.2, 0.8]]),
    )
    metrics = compute_metrics(labels, probabilities, ("calm", "excited"))
    assert list(metrics.classes) == ["calm", "excited"]
    assert metrics.classes["excited"] == ClassMetrics(1, 1 / 2, pytest.approx(2 / 3), 2)
    assert metrics.confusion_matrix == [[1, 0], [1, 1]]
    assert metrics.accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [2, 10])
def test_a_report_has_a_row_for_each_class(count):
    classes = [f"a rather long name {number}" for number in range(count)]
    metrics = compute_metrics(np.arange(count), np.eye(count), classes)
    lines = format_report({"test": metrics}).splitlines()
    assert len(lines) == 2 + max(count, 7)
    for name in classes:
        [line] = [line for line in lines if f" {name} " in line]
        assert line.split()[-4:] == ["100.00%", "100.00%", "100.00%", "1"]
    assert len({len(line) for line in lines[1 : count + 2]}) == 1
    assert any(line.startswith("ECE") for line in lines)


def test_report_shows_every_figure_within_80_columns(six_images):
    parts = {
        "test, all": compute_metrics(*six_images, EMOTIONS),
        "PrivateTest": compute_metrics(*random_predictions(3589), EMOTIONS),
        "all right": compute_metrics(np.arange(7), np.eye(7), EMOTIONS),
    }
    report = format_report(parts)
    lines = report.splitlines()

    assert max(map(len, lines)) <= 80
    blocks = report.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "test, all, n = 6",
        "PrivateTest, n = 3589",
        "all right, n = 7",
    ]
    rows = [" ".join(line.split()) for line in blocks[0].splitlines()[2:]]
    assert rows == [
        "accuracy 66.67% angry 100.00% 66.67% 80.00% 3",
        "95% interval 30.00-90.32% disgust 50.00% 100.00% 66.67% 1",
        "balanced accuracy 72.22% fear - - - 0",
        "macro-F1 71.11% happy 100.00% 50.00% 66.67% 2",
        "top-2 accuracy 83.33% neutral - - - 0",
        "log loss 1.1829 sad - - - 0",
        "ECE 4.67% surprise - - - 0",
        "No images of fear, neutral, sad, surprise: means are over the others.",
    ]
    assert "No images" not in blocks[1] + blocks[2]


def test_the_name_of_a_folder_is_no_line_of_the_report():
    labels = np.arange(7)
    probabilities = np.eye(7, dtype=np.float32)
    images = np.zeros((7, 48, 48, 1), np.uint8)
    names = tuple(f"test/{name}/1.png" for name in EMOTIONS)
    record = {"data": "faces", "labels": "original", "tta": "none"}
    evaluation = Evaluation(
        {"test": compute_metrics(labels, probabilities, EMOTIONS)},
        Split(images, labels, names),
        probabilities,
        shown="test",
        places=labels,
        images_per_second=1.0,
        record=record | {"weights": "runs/1\x1b[31m\naccuracy 100%"},
        folder=Path("results"),
    )
    first = evaluation.report.splitlines()[0]
    assert first == r"'runs/1\x1b[31m\naccuracy 100%', evaluated on faces,"
