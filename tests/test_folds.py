"""Folds of the training images, and the soft labels that teachers on them give."""

import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_cnn.data.folds import choose_groups, divide_into_folds, parse_fold
from emotion_cnn.data.soft_labels import (
    OutOfFold,
    average_out_of_fold,
    mix_soft_labels,
)
from emotion_cnn.data.splits import Dataset, Split
from emotion_cnn.errors import ConfigError, DataError, RunError
from emotion_cnn.models.pair import read_pair
from emotion_cnn.training.out_of_fold import (
    predict_out_of_fold,
    read_out_of_fold,
    read_teachers,
    write_out_of_fold,
)

NAMES = tuple(f"train/{k}.png" for k in range(12))
CLASSES, LABEL_SETS = ("no", "yes", "perhaps"), ("original", "ferplus")


@pytest.mark.parametrize(("text", "fold"), [("1/2", (1, 2)), ("20/20", (20, 20))])
def test_a_fold_is_one_of_some(text, fold):
    assert parse_fold(text) == fold


@pytest.mark.parametrize(
    "text",
    ["", "1", "0/4", "5/4", "1/1", "1/21", "1/4 ", "-1/4", "1/4/2", "a/b", "²/4"],
)
def test_no_fold(text):
    with pytest.raises(ConfigError, match=f"found {re.escape(repr(text))}"):
        parse_fold(text)


NUMBERS = st.integers(0, 39)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40),
    st.integers(2, 6),
    st.randoms(use_true_random=False),
)
def test_connected_images_are_in_one_fold_whatever_the_order(
    labels, links, count, random
):
    """Links may lead by way of images that were left out: those from 30 on, say."""
    names = [f"train/{k}" for k in range(len(labels))]
    pairs = [(f"train/{one}", f"train/{other}") for one, other in links]
    folds = divide_into_folds(names, labels, pairs, count=count)
    assert len(folds) == len(names)
    assert set(folds) <= set(range(1, count + 1))
    reached = {name: {name} for pair in pairs for name in pair}
    for _ in reached:
        for one, other in pairs:
            reached[one] |= reached[other]
            reached[other] |= reached[one]
    fold_of = dict(zip(names, folds, strict=True))
    for name in names:
        for other in reached.get(name, ()):
            assert fold_of.get(other, fold_of[name]) == fold_of[name]
    order = random.sample(range(len(names)), len(names))
    again = divide_into_folds(
        [names[k] for k in order],
        [labels[k] for k in order],
        [(other, one) for one, other in reversed(pairs)],
        count=count,
    )
    assert again == [folds[k] for k in order]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.5, 0.9, 0.97, 0.98, 0.999])
def test_groups_hold_about_the_share_that_is_asked_for(share):
    labels = np.tile([0, 1], 200)
    groups = [str(number // 2) for number in range(400)]
    chosen = choose_groups(labels, groups, share=share, seed=1)
    assert chosen.mean() == pytest.approx(share, abs=0.05)
    assert 0 < chosen.sum() < 400


def test_classes_are_spread_evenly():
    names = [f"train/{k}" for k in range(403)]
    labels = [0] * 300 + [1] * 83 + [2] * 20
    pairs = [(names[k], names[k + 1]) for k in range(250, 310) if k % 6]
    folds = divide_into_folds(names, labels, pairs, count=4)
    counts = Counter(zip(labels, folds, strict=True))
    for label, total in enumerate((300, 83, 20)):
        sizes = [counts[label, fold] for fold in (1, 2, 3, 4)]
        assert sum(sizes) == total
        assert max(sizes) - min(sizes) <= 1


def predictions(
    fold: str = "1/2", seed: int = 1, names: tuple[str, ...] = NAMES, **changes
) -> OutOfFold:
    generator = np.random.default_rng([seed, *fold.encode()])
    probabilities = generator.dirichlet(np.ones(3), (len(names), 2))
    found = OutOfFold(
        names,
        generator.integers(-1, 3, (len(names), 2)),
        probabilities.astype(np.float32),
        CLASSES,
        LABEL_SETS,
        fold,
        seed,
        "a" * 64,
    )
    return replace(found, **changes)


def teachers(*seeds: int) -> dict[str, OutOfFold]:
    """Two folds for each seed, in their own order of images."""
    halves = {"1/2": NAMES[7:] + NAMES[:2], "2/2": NAMES[2:7]}
    return {
        f"run-{seed}-{fold}": predictions(fold, seed, names)
        for seed in seeds
        for fold, names in halves.items()
    }


def average(found: dict[str, OutOfFold]) -> np.ndarray:
    return average_out_of_fold(
        found,
        names=NAMES,
        classes=CLASSES,
        label_sets=LABEL_SETS,
        fingerprint="a" * 64,
    )


def test_the_mean_over_seeds_of_each_image_predicted_once():
    found = teachers(1, 2)
    mean = average(found)
    assert mean.dtype == np.float32
    assert mean.shape == (12, 2, 3)
    for place, name in enumerate(NAMES):
        rows = [
            each.probabilities[each.names.index(name)]
            for each in found.values()
            if name in each.names
        ]
        assert len(rows) == 2
        np.testing.assert_allclose(mean[place], np.mean(rows, axis=0), atol=1e-6)


def test_missing_folds_are_named():
    found = teachers(1, 2)
    del found["run-2-2/2"]
    found["third"] = predictions("2/3", 3)
    with pytest.raises(DataError) as caught:
        average(found)
    missing = "missing: 2/2 of seed 2, 1/3 of seed 3, 3/3 of seed 3."
    assert missing in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "b" * 64}, ["fingerprint aaaa", "found bbbb"]),
        ({"classes": ("yes", "no", "perhaps")}, ["classes no, yes", "found yes, no"]),
        ({"label_sets": ("ferplus", "original")}, ["label sets original, ferplus"]),
        # They may be a stranger's: nothing for the terminal, and no second line.
        ({"classes": ("\x1b[2J\n", "", "z")}, [r"found '\x1b[2J\n, , z' in run-1-2/2"]),
        ({"fold": "1/2"}, ["fold 1/2 of seed 1 in run-1-1/2 and in run-1-2/2"]),
        ({"names": ("other", *NAMES[3:7])}, ["exactly one fold", "run-1-1/2"]),
        ({"names": NAMES[1:6]}, ["exactly one fold"]),
    ],
)
def test_teachers_of_something_else(change, words):
    found = teachers(1)
    found["run-1-2/2"] = replace(found["run-1-2/2"], **change)
    with pytest.raises(DataError) as caught:
        average(found)
    for word in words:
        assert word in str(caught.value)


def split(targets: np.ndarray | None = None) -> Split:
    labels = np.array([2, 0], dtype=np.int64)
    images = np.zeros((2, 48, 48, 1), np.uint8)
    return Split(images, labels, ("b", "a"), targets, CLASSES)


SOFT = {
    "a": np.array([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]], np.float32),
    "b": np.array([[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]], np.float32),
}


def test_soft_labels_beside_labels_and_votes():
    votes = np.array([[0.8, 0.2, 0.0], [0, 0, 0]])
    given = np.stack([np.eye(3)[[2, 0]], votes], axis=1).astype(np.float32)
    mixed = mix_soft_labels(split(given), SOFT, LABEL_SETS, share=0.3).targets
    assert mixed.dtype == np.float32
    expected = [
        [[0.18, 0.09, 0.73], [0.8, 0.2, 0.0]],
        # Without votes, the soft label alone.
        [[0.76, 0.09, 0.15], [0.1, 0.9, 0.0]],
    ]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_soft_labels_beside_labels_alone():
    soft = {name: rows[:1] for name, rows in SOFT.items()}
    mixed = mix_soft_labels(split(), soft, ("original",), share=0.5)
    expected = [[[0.3, 0.15, 0.55]], [[0.6, 0.15, 0.25]]]
    np.testing.assert_allclose(mixed.targets, expected, atol=1e-6)
    np.testing.assert_array_equal(mixed.labels, [2, 0])


# The file


def test_predictions_read_back_are_the_same(tmp_path):
    path = tmp_path / "run" / "out_of_fold.npz"
    path.parent.mkdir()
    written = predictions(names=("train/ä.png", "train/\udcff.png"))
    write_out_of_fold(path, written)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    [found] = read_teachers(tmp_path).values()
    for name, value in vars(written).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
            assert getattr(found, name).dtype == value.dtype
        else:
            assert getattr(found, name) == value


def test_a_folder_without_teachers(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="found none"):
        read_teachers(tmp_path)


WHOLE = predictions()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"probabilities": WHOLE.probabilities * 0.9}, "sum to 1"),
        ({"probabilities": np.full_like(WHOLE.probabilities, np.nan)}, "0 to 1"),
        ({"probabilities": np.full_like(WHOLE.probabilities, -1)}, "0 to 1"),
        ({"probabilities": WHOLE.probabilities[:-1]}, "shapes"),
        ({"probabilities": WHOLE.probabilities.astype(float)}, "another type"),
        ({"labels": WHOLE.labels[:, :1]}, "shapes"),
        ({"labels": np.full_like(WHOLE.labels, 3)}, "without a class"),
        ({"labels": np.full_like(WHOLE.labels, None, dtype=object)}, "pickle"),
        ({"names": (*NAMES[:-1], NAMES[0])}, "twice"),
        ({"names": (*NAMES[:-1], 7)}, "no texts"),
        ({"names": ()}, "no names"),
        ({"classes": "abc"}, "no texts"),
        ({"fold": "5/4"}, "no such fold"),
        ({"fold": 3}, "another type"),
        ({"seed": "1"}, "another type"),
        ({"fingerprint": None}, "another type"),
    ],
)
def test_a_file_with_other_values_is_refused(tmp_path, change, word):
    path = tmp_path / "out_of_fold.npz"
    write_out_of_fold(path, replace(WHOLE, **change))
    with pytest.raises(RunError, match=word) as caught:
        read_out_of_fold(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_a_truncated_file_is_refused(tmp_path, cut):
    path = tmp_path / "out_of_fold.npz"
    write_out_of_fold(path, WHOLE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunError, match="none that can be used"):
        read_out_of_fold(path)


def test_a_file_that_unpacks_to_more_than_fits_is_refused(tmp_path):
    path = tmp_path / "out_of_fold.npz"
    np.savez_compressed(path, probabilities=np.zeros(600_000_000, np.uint8))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(RunError, match="more than 512 MB"):
        read_out_of_fold(path)


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    for path, word in ((tmp_path, "regular"), (tmp_path / "none.npz", "No such")):
        with pytest.raises(RunError, match=word):
            read_out_of_fold(path)


def test_every_split_of_a_pair_differs():
    """Both folds of two hold something, so that neither side is empty."""
    for names in itertools.combinations(NAMES, 2):
        assert sorted(divide_into_folds(names, [0, 0], [], count=2)) == [1, 2]


def test_a_label_of_the_held_out_fold_has_more_than_half_of_the_votes(network):
    votes = np.zeros((3, 1, 7), np.float32)
    votes[0, 0, :2], votes[1, 0, :2], votes[2, 0, 4] = 0.5, (0.4, 0.6), 1
    images = np.zeros((3, 48, 48, 1), np.uint8)
    split = Split(images, np.zeros(3, np.int64), NAMES[:3], targets=votes)
    data = Dataset(split, split, split, "a fold", (), "f" * 64, "t" * 64)
    found = predict_out_of_fold(read_pair(network), data, fold="1/4", seed=7)
    assert found.labels.tolist() == [[-1], [1], [4]]
    assert (found.fold, found.seed, found.fingerprint) == ("1/4", 7, "t" * 64)
