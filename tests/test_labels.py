"""Training and evaluation by FER+'s labels in place of the folders'."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from emotion_cnn.cli import main
from emotion_cnn.commands import train_settings
from emotion_cnn.commands.train_settings import TrainSettings
from emotion_cnn.data import loading
from emotion_cnn.data.batches import TrainingBatches
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import read_splits, read_test
from emotion_cnn.data.splits import Split, fingerprint, official_parts, one_hot, targets
from emotion_cnn.data.vote_smoothing import smooth_labels
from emotion_cnn.data.votes import (
    VOTE_COLUMNS,
    add_votes,
    find_votes,
    relabel,
    vote_shares,
    write_votes,
)
from emotion_cnn.errors import DataError
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.pair import read_pair, write_pair
from emotion_cnn.training import experiment, finishing, fitting
from emotion_cnn.training.out_of_fold import read_teachers
from emotion_cnn.training.recipes import Recipe

TINY = Architecture(blocks=((Convolution(2),),), dense=(4,))
SAD, HAPPY = EMOTIONS.index("sad"), EMOTIONS.index("happy")


def votes(**counts: int) -> tuple[int, ...]:
    return tuple(counts.get(column, 0) for column in VOTE_COLUMNS)


def images(*names: str) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (len(names), 48, 48, 1))
    return Split(images.astype(np.uint8), np.zeros(len(names), np.int64), names)


def test_vote_shares_are_of_the_seven_emotions_without_single_votes():
    given = np.array([votes(sadness=6, happiness=2, anger=1, contempt=1)])
    [shares] = vote_shares(given)
    assert shares.dtype == np.float32
    assert shares[SAD] == pytest.approx(0.75)
    assert shares[HAPPY] == pytest.approx(0.25)
    assert shares.sum() == pytest.approx(1)


def test_relabelled_images_keep_their_pixels():
    split = images("a", "b", "c", "d")
    crowd = {
        "a": votes(happiness=5, sadness=5),
        "c": votes(sadness=9),
        "d": votes(NF=10),
        "elsewhere": votes(sadness=10),
    }
    kept, left_out = relabel(split, crowd, distribution=False)
    assert kept.names == ("c",)
    assert kept.labels.tolist() == [SAD]
    assert kept.targets is None
    np.testing.assert_array_equal(kept.images[0], split.images[2])
    assert {why: n for why, n in left_out.items() if n} == {
        "no votes": 1,
        "no majority": 1,
        "not a face": 1,
    }


def test_a_distribution_is_what_training_aims_at():
    crowd = {"a": votes(sadness=6, happiness=4), "b": votes(sadness=10)}
    plain, _ = relabel(images("a", "b"), crowd, distribution=False)
    soft, _ = relabel(images("a", "b"), crowd, distribution=True)
    np.testing.assert_array_equal(targets(plain)[:, 0], one_hot(plain.labels, 7))
    assert targets(soft)[0, 0, [SAD, HAPPY]] == pytest.approx([0.6, 0.4])
    assert targets(soft.select([1]))[0, 0, SAD] == 1
    batches = TrainingBatches(soft, batch_size=2, flip=False, seed=0)
    np.testing.assert_array_equal(np.sort(batches[0][1], 0), np.sort(soft.targets, 0))
    assert fingerprint(soft) != fingerprint(plain)


def write_data(folder: Path) -> None:
    """Four train and two test images per class; the crowd calls "angry" sad."""
    random, crowd = np.random.default_rng(0), {}
    for part, kinds in (
        ("train", ["Training"] * 4),
        ("test", ["PublicTest", "PrivateTest"]),
    ):
        for label, emotion in enumerate(EMOTIONS):
            (folder / part / emotion).mkdir(parents=True)
            for number, kind in enumerate(kinds):
                name = f"{part}/{emotion}/{kind}_{number}.png"
                noise = random.integers(0, 256, (48, 48), np.uint8)
                Image.fromarray(noise).save(folder / name)
                column = (4, 5, 6, 1, 0, 3, 2)[label]
                if emotion == "angry" and number < 2:
                    column = VOTE_COLUMNS.index("sadness")
                counts = [0] * 10
                counts[column], counts[9] = 8, 2
                if (emotion, kind) == ("happy", "PublicTest"):
                    # A majority without the single vote, but half of all ten.
                    counts[column], counts[8], counts[9] = 5, 1, 4
                crowd[name] = tuple(counts)
    del crowd["test/fear/PrivateTest_1.png"]
    write_votes(folder / "votes.csv", crowd)


@pytest.fixture
def folder(tmp_path, monkeypatch, own_environment, without_charts):
    """A folder with `data/`, for runs of a tiny network."""
    monkeypatch.setitem(ARCHITECTURES, "compact", TINY)
    write_data(tmp_path / "data")
    (tmp_path / "publish").mkdir()
    return tmp_path


def run(folder, *arguments: str) -> int:
    places = ("--data", str(folder / "data"), "--runs", str(folder / "runs"))
    return main([*arguments, *places])


def trained(folder, *arguments: str):
    flags = ("--mode=train", "--model=compact", "--epochs=1", "--batch-size=8")
    assert run(folder, *flags, f"--publish={folder / 'publish'}", *arguments) == 0
    [path] = (folder / "runs").iterdir()
    return path


@pytest.mark.slow
def test_training_and_evaluating_by_the_crowd(folder, monkeypatch, capsys):
    seen_targets = []
    fit = fitting.TrainingBatches.__init__

    def noting(self, split, **options):
        seen_targets.append(targets(split))
        fit(self, split, **options)

    monkeypatch.setattr(fitting.TrainingBatches, "__init__", noting)
    path = trained(folder, "--labels=ferplus", "--label-mode=distribution")
    assert seen_targets[0].shape == (28, 1, 7)
    assert seen_targets[0].sum(axis=0)[0, SAD] == 6
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["labels"] == "ferplus"
    assert metrics["parts"]["test"]["n"] == 13
    assert {name: part["n"] for name, part in metrics["parts"].items()} == {
        "test": 13,
        "PublicTest": 7,
        "PrivateTest": 6,
        "test, over half of all votes": 12,
        "PublicTest, over half of all votes": 6,
        "PrivateTest, over half of all votes": 6,
    }
    assert metrics["parts"]["test"]["classes"]["sad"]["support"] == 4
    output = capsys.readouterr().out
    assert "FER+ majority labels" in output
    assert "FER+ labels: 13 of 14 images of test/; left out: 1 no votes" in output
    assert "FER+ majority labels" in (path / "report.txt").read_text()
    assert json.loads((path / "config.json").read_text())["labels"] == "ferplus"


@pytest.mark.slow
def test_labels_are_chosen_when_evaluating(folder, capsys):
    path = trained(folder)
    for labels, sad in (("original", 2), ("ferplus", 4)):
        output = folder / labels
        evaluated = ("--mode=evaluate", f"--weights={path}", f"--labels={labels}")
        assert run(folder, *evaluated, f"--output={output}") == 0
        metrics = json.loads((output / "metrics.json").read_text())
        assert metrics["labels"] == labels
        assert metrics["parts"]["test"]["classes"]["sad"]["support"] == sad
        narrowed = "PrivateTest, over half of all votes" in metrics["parts"]
        assert narrowed == (labels == "ferplus")


def test_where_the_crowd_agrees_is_reported_without_near_duplicates_too(
    folder, network
):
    data, audit = folder / "data", folder / "audit"
    near_duplicate = data / "test" / "sad" / "PrivateTest_1.png"
    near_duplicate.write_bytes((data / "train" / "sad" / "Training_0.png").read_bytes())
    assert run(folder, "--mode=audit", f"--output={audit}") == 0
    evaluated = ("--mode=evaluate", f"--weights={network}", "--labels=ferplus")
    output = folder / "evaluated"
    assert run(folder, *evaluated, f"--audit={audit}", f"--output={output}") == 0
    parts = json.loads((output / "metrics.json").read_text())["parts"]
    counts = {name: part["n"] for name, part in parts.items()}
    assert counts["PrivateTest, over half of all votes"] == 6
    assert counts["PrivateTest without near-duplicates in train"] == 5
    assert (
        counts["PrivateTest, over half of all votes without near-duplicates in train"]
        == 5
    )
    assert counts["test, over half of all votes without near-duplicates in train"] == 11


def test_labels_choose_the_head_of_a_network_with_two(folder):
    """One head always says happy, the other sad."""
    pixels = keras.Input((48, 48, 1))
    dense = keras.layers.Dense(14, kernel_initializer="zeros")
    outputs = keras.layers.Reshape((2, 7))(dense(keras.layers.Flatten()(pixels)))
    model = keras.Model(pixels, keras.layers.Softmax()(outputs))
    dense.bias.assign(np.eye(14)[HAPPY] + np.eye(14)[7 + SAD])
    description = NetworkDescription(label_sets=("original", "ferplus"))
    write_pair(folder, Network(model, description))
    for labels, emotion in (("original", "happy"), ("ferplus", "sad")):
        output = folder / labels
        evaluated = ("--mode=evaluate", f"--weights={folder}", f"--labels={labels}")
        assert run(folder, *evaluated, "--tta=flip", f"--output={output}") == 0
        parts = json.loads((output / "metrics.json").read_text())["parts"]
        assert parts["test"]["classes"][emotion]["recall"] == 1


@pytest.mark.slow
def test_one_network_learns_both_and_evaluate_chooses(folder, monkeypatch, capsys):
    seen_targets = []
    fit = fitting.TrainingBatches.__init__

    def noting(self, split, **options):
        seen_targets.append(targets(split))
        fit(self, split, **options)

    monkeypatch.setattr(fitting.TrainingBatches, "__init__", noting)
    path = trained(folder, "--labels=both", "--calibrate")
    assert seen_targets[0].shape == (28, 2, 7)
    # The folder says angry, the crowd sad.
    assert seen_targets[0].sum(axis=0)[:, SAD].tolist() == [4, 6]
    output = capsys.readouterr().out
    assert "FER+ votes on 28 of 28 images of train/, 13 of 14 of test/" in output
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["labels"] == "original"
    assert metrics["parts"]["test"]["n"] == 14
    assert list(metrics["temperatures"]) == ["original", "ferplus"]
    assert "Temperature for original labels: " in output
    assert "Temperature for FER+ majority labels: " in output
    assert json.loads((path / "config.json").read_text())["labels"] == "both"
    probabilities = []
    for labels, count in (("original", 14), ("ferplus", 13)):
        evaluated = ("--mode=evaluate", f"--weights={path}", f"--labels={labels}")
        assert run(folder, *evaluated, f"--output={folder / labels}") == 0
        found = json.loads((folder / labels / "metrics.json").read_text())
        assert found["parts"]["test"]["n"] == count
        rows = (folder / labels / "predictions.csv").read_text().splitlines()
        probabilities.append(rows[1].split(",")[3:])
    assert probabilities[0] != probabilities[1]


@pytest.mark.slow
def test_the_fitted_temperature_is_built_into_the_network(folder, monkeypatch):
    def fitted(labels, probabilities):
        given.append((labels.tolist(), probabilities))
        return 2.5

    given = []
    monkeypatch.setattr(finishing, "fit_temperature", fitted)
    path = trained(folder, "--calibrate")
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["temperatures"] == {"original": 2.5}
    test, _ = read_test(folder / "data", skip_bad=False)
    validation = test.select(official_parts(test)["PublicTest"])
    [(labels, before)] = given
    assert labels == validation.labels.tolist()
    after = predict(KerasNetwork(read_pair(path)), validation.images, labels="original")
    powers = before ** (1 / 2.5)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after, expected, atol=1e-5)


@pytest.mark.parametrize(("labels", "momentum"), [("original", 0), ("both", 0.5)])
@pytest.mark.slow
def test_averaged_weights_end_with_statistics_of_their_own(folder, labels, momentum):
    """Of images as they are, one batch here, and of a network that drops nothing."""
    averaged = (f"--labels={labels}", f"--average-weights={momentum}")
    path = trained(folder, *averaged, "--brightness=0.5")
    train, _, _ = read_splits(folder / "data", skip_bad=False)
    network = read_pair(path).model
    layers = [each for each in network.layers if "batch_norm" in each.name]
    inputs = keras.Model(network.inputs, [each.input for each in layers])
    for layer, seen in zip(layers, inputs.predict(train.images), strict=True):
        seen = seen.reshape(-1, seen.shape[-1])
        assert layer.momentum == 0.99
        for kept, found in (
            (layer.moving_mean, seen.mean(axis=0)),
            (layer.moving_variance, seen.var(axis=0)),
        ):
            kept = keras.ops.convert_to_numpy(kept)
            assert np.allclose(kept, found, atol=1e-3) == bool(momentum)


@pytest.mark.slow
def test_a_network_of_the_crowd_alone_is_calibrated_as_such(folder):
    path = trained(folder, "--labels=ferplus", "--calibrate")
    metrics = json.loads((path / "metrics.json").read_text())
    assert list(metrics["temperatures"]) == ["ferplus"]


@pytest.mark.slow
def test_labels_that_validation_lacks_are_not_calibrated_for(folder, capsys):
    path = folder / "data" / "votes.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "PublicTest" not in line))
    run_path = trained(folder, "--labels=both", "--calibrate")
    metrics = json.loads((run_path / "metrics.json").read_text())
    assert metrics["temperatures"]["ferplus"] == 1
    assert metrics["temperatures"]["original"] != 1
    assert "Not calibrated for FER+ majority labels" in capsys.readouterr().out


def test_both_without_votes_is_an_error(folder, fails):
    (folder / "data" / "votes.csv").unlink()
    message = fails("--mode=train", "--labels=both", "--data", folder / "data")
    assert "--labels both needs votes" in message


def test_votes_beside_labels():
    counts = {
        "a": votes(sadness=6, happiness=3, fear=1),
        "b": votes(sadness=4, contempt=6),
        "c": votes(sadness=3, fear=3, contempt=4),
    }
    with_votes, voted = add_votes(images("a", "b", "c", "d"), counts)
    assert voted == 2
    assert with_votes.targets.shape == (4, 2, 7)
    assert with_votes.targets.dtype == np.float32
    assert (with_votes.targets[:, 0] == one_hot(with_votes.labels, 7)).all()
    assert with_votes.targets[0, 1][[SAD, HAPPY]] == pytest.approx([2 / 3, 1 / 3])
    # Most of b's votes are for contempt, and d has none: zero targets.
    assert with_votes.targets[[1, 3], 1].sum() == 0
    assert with_votes.targets[2, 1].sum() == pytest.approx(1)


def crowd_and_labels() -> tuple[Split, dict[str, tuple[int, ...]]]:
    """Three in four of 40 images are labelled as seen by a crowd; one has none."""
    names = tuple(str(number) for number in range(41))
    seen = (votes(happiness=9, neutral=1), votes(sadness=9, neutral=1))
    counts = {name: seen[int(name) % 2] for name in names[:40]}
    labels = np.array([HAPPY, SAD, HAPPY, SAD, HAPPY, SAD, SAD, HAPPY] * 5 + [SAD])
    split = Split(images(*names).images, labels, names)
    return add_votes(split, counts)[0], counts


def test_labels_are_mixed_with_soft_labels_predicted_from_the_votes():
    with_votes, counts = crowd_and_labels()
    before = with_votes.targets.copy()
    # Only the distribution of the votes counts, not their number.
    counts["0"] = votes(happiness=18, neutral=2)
    smoothed = smooth_labels(with_votes, counts, share=1)
    np.testing.assert_array_equal(with_votes.targets, before)
    assert smoothed.names == with_votes.names
    expected = smoothed.targets
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected[:40].sum(axis=-1), 1, atol=1e-6)
    # Whatever their labels, images with the same votes have the same soft labels.
    for position, emotion in ((0, HAPPY), (1, SAD)):
        [shares] = np.unique(expected[position:40:2, 0], axis=0)
        assert shares[emotion] == pytest.approx(0.75, abs=0.05)
        assert shares[[HAPPY, SAD]].sum() == pytest.approx(1)
    np.testing.assert_array_equal(expected[:, 1], before[:, 1])
    np.testing.assert_array_equal(expected[40], before[40])
    half = smooth_labels(with_votes, counts, share=0.5).targets
    np.testing.assert_allclose(half, (before + expected) / 2, atol=1e-6)


def test_labels_are_predicted_from_votes_and_teachers_together():
    """The teachers know which images of the same votes have which label."""
    with_votes, counts = crowd_and_labels()
    known = {
        name: np.stack([0.8 * label + 0.2 / 7, np.full(7, 1 / 7)])
        for name, label in zip(
            with_votes.names, one_hot(with_votes.labels, 7), strict=True
        )
    }
    by_votes = smooth_labels(with_votes, counts, share=1).targets
    by_both = smooth_labels(with_votes, counts, share=1, soft_labels=known).targets
    voted, labels = range(40), with_votes.labels[:40]
    assert by_votes[voted, 0, labels].min() < 0.3
    assert by_both[voted, 0, labels].min() > 0.6
    np.testing.assert_allclose(by_both[:40].sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(by_both[:, 1], by_votes[:, 1])
    np.testing.assert_array_equal(by_both[40], by_votes[40])
    # A teacher that is certain has no finite logarithm.
    certain = {name: np.round(rows) for name, rows in known.items()}
    sure = smooth_labels(with_votes, counts, share=1, soft_labels=certain).targets
    assert np.isfinite(sure).all()


@pytest.mark.parametrize("voted", [0, 1])
def test_smoothing_needs_votes_on_two_emotions(voted):
    with_votes, counts = crowd_and_labels()
    counts = {name: counts[name] for name in list(counts)[:voted]}
    with pytest.raises(DataError, match="expects votes on images of two classes"):
        smooth_labels(with_votes, counts, share=0.5)


@pytest.mark.parametrize("named", [True, False], ids=["PublicTest", "held out"])
@pytest.mark.slow
def test_training_smooths_labels_by_votes(folder, monkeypatch, capsys, named):
    def noting(split, votes, **options):
        given.append((split, options["share"]))
        return smooth_labels(split, votes, **options)

    def seen_targets(model, train, validation, **options):
        given.append((train, validation))
        return fit(model, train, validation, **options)

    if not named:
        for path in (folder / "data" / "test").rglob("PublicTest*"):
            path.unlink()
    given, fit = [], experiment.fit
    monkeypatch.setattr(loading, "smooth_labels", noting)
    monkeypatch.setattr(experiment, "fit", seen_targets)
    trained(folder, "--labels=both", "--vote-smoothing=0.4", "--validation-share=0.5")
    [(split, share), (train, validation)] = given
    assert share == 0.4
    assert split.names == train.names
    assert not set(train.names) & set(validation.names)
    assert ((train.targets[:, 0] > 0.6) == (split.targets[:, 0] == 1)).all()
    assert train.targets[:, 0].min() > 0
    assert train.targets[:, 0].max() < 1
    np.testing.assert_array_equal(
        validation.targets[:, 0], one_hot(validation.labels, 7)
    )
    assert (
        "labels of train/: 40% soft labels predicted from the votes"
        in capsys.readouterr().out
    )


def fingerprint_with(folder, *, leave_out=None, vote_smoothing=0, teachers=None):
    data, _ = loading.load_training_data(
        str(folder / "data"),
        labels="both",
        distribution=False,
        leave_out=leave_out,
        skip_bad=False,
        validation_share=0.1,
        seed=1,
        vote_smoothing=vote_smoothing,
        teachers=teachers,
    )
    return data.fingerprint


def test_other_votes_are_another_data_set_where_they_smooth(folder):
    """Also where they have the same shares, so a run is not resumed with them."""

    before = [fingerprint_with(folder, vote_smoothing=s) for s in (0, 0.5, 0.5)]
    votes_file = folder / "data" / "votes.csv"
    found = find_votes(folder / "data")
    found["train/sad/Training_0.png"] = votes(sadness=8, NF=1, contempt=1)
    write_votes(votes_file, found)
    after = [fingerprint_with(folder, vote_smoothing=s) for s in (0, 0.5)]
    assert before[1] == before[2]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_a_recipe_smooths_by_votes_where_both_are_learnt(monkeypatch):
    recipes = {"foundation": Recipe(vote_smoothing=0.5)}
    monkeypatch.setattr(train_settings, "RECIPES", recipes)
    for labels, share in (("both", 0.5), ("original", 0), ("ferplus", 0)):
        given = TrainSettings(recipe="foundation", labels=labels)
        recipe = given.resolve_recipe(drawn_faces=False)
        assert recipe.vote_smoothing == share
        # As the run folder keeps it.
        dataclasses.replace(given, settings=dataclasses.asdict(recipe))


@pytest.mark.parametrize("labels", ["original", "ferplus"])
def test_smoothing_by_votes_is_for_both_labels(fails, labels):
    message = fails("--mode=train", f"--labels={labels}", "--vote-smoothing=0.5")
    assert f"is for --labels both, found --labels {labels}" in message


def test_no_votes_are_an_error(folder, fails):
    (folder / "data" / "votes.csv").unlink()
    message = fails("--mode=train", "--labels=ferplus", "--data", folder / "data")
    assert "found no votes.csv" in message
    assert "emotion-cnn prepare" in message


def test_votes_on_other_images_are_an_error(folder, fails):
    path = folder / "data" / "votes.csv"
    path.write_text(path.read_text().replace("train/", "elsewhere/"))
    message = fails("--mode=train", "--labels=both", "--data", folder / "data")
    assert "needs votes on images of train/, found a votes.csv in" in message


def test_drawn_faces_have_no_votes(fails):
    message = fails("--mode=train", "--labels=ferplus", "--data=sample")
    assert "found no votes.csv in built-in drawn faces" in message


def test_an_emotion_that_the_crowd_never_sees(folder, fails):
    path = folder / "data" / "votes.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "train/disgust" not in line))
    message = fails("--mode=train", "--labels=ferplus", "--data", folder / "data")
    assert "found no image with a majority for disgust" in message


def test_a_distribution_needs_votes(fails):
    message = fails("--mode=train", "--label-mode=distribution")
    assert "is for --labels ferplus, found --labels original" in message


@pytest.fixture(scope="module")
def trained_teachers(tmp_path_factory):
    """Networks trained on halves of train/; two images there are copies."""
    folder = tmp_path_factory.mktemp("teachers")
    write_data(folder / "data")
    copy = folder / "data" / "train" / "sad" / "Training_9.png"
    copy.write_bytes(
        (folder / "data" / "train" / "fear" / "Training_2.png").read_bytes()
    )
    flags = ("--mode=train", "--labels=both", "--model=compact", "--epochs=1")
    places = (f"--leave-out={folder / 'audit'}", "--publish", str(folder / "none"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ARCHITECTURES, "compact", TINY)
        patched.setenv("KERAS_BACKEND", keras.backend.backend())
        assert run(folder, "--mode=audit", f"--output={folder / 'audit'}") == 0
        for fold in ("1/2", "2/2"):
            assert run(folder, *flags, *places, f"--fold={fold}") == 0
    return folder


@pytest.fixture
def teachers(folder, trained_teachers):
    """Their predictions by fold; `folder` gets their data, audit and runs."""
    shutil.rmtree(folder / "data")
    shutil.copytree(trained_teachers, folder, dirs_exist_ok=True)
    found = {each.fold: each for each in read_teachers(folder / "runs").values()}
    assert sorted(found) == ["1/2", "2/2"]
    return found


def soft_label_flags(folder) -> tuple[str, ...]:
    return (
        *("--mode=train", "--model=compact", "--epochs=1", "--labels=both"),
        *("--data", str(folder / "data"), "--leave-out", str(folder / "audit")),
        *("--runs", str(folder / "own"), "--publish", str(folder / "publish")),
        *("--soft-labels", str(folder / "runs")),
    )


@pytest.mark.slow
def test_teachers_predict_the_fold_that_they_were_not_trained_on(folder, teachers):
    train = read_splits(folder / "data", skip_bad=False)[0]
    assert sorted(teachers["1/2"].names + teachers["2/2"].names) == sorted(train.names)
    copies = {"train/fear/Training_2.png", "train/sad/Training_9.png"}
    for path in (folder / "runs").iterdir():
        config = json.loads((path / "config.json").read_text())
        assert config["settings"]["progressive_sizes"] is True
        found = teachers[config["fold"]]
        assert copies <= set(found.names) or not copies & set(found.names)
        assert found.label_sets == ("original", "ferplus")
        environment = json.loads((path / "environment.json").read_text())
        held_out = f"({len(found.names)} of 29 images)"
        assert held_out in environment["data"]["validation_source"]
        positions = [train.names.index(name) for name in found.names]
        np.testing.assert_array_equal(found.labels[:, 0], train.labels[positions])
        network = KerasNetwork(read_pair(path))
        for head, labels in enumerate(("original", "ferplus")):
            np.testing.assert_allclose(
                found.probabilities[:, head],
                predict(network, train.images[positions], labels=labels),
                atol=1e-6,
            )
        right = found.probabilities[:, 0].argmax(axis=1) == found.labels[:, 0]
        # Not on test: PrivateTest is not looked at for every teacher.
        parts = json.loads((path / "metrics.json").read_text())["parts"]
        assert list(parts) == [f"held-out fold {found.fold}"]
        [part] = parts.values()
        assert part["accuracy"] == pytest.approx(right.mean())
    # Teachers are no networks to ship.
    assert not (folder / "none").exists()


@pytest.mark.slow
def test_soft_labels_are_mixed_into_the_targets(folder, teachers, monkeypatch, capsys):
    def seen_targets(model, train, validation, **options):
        given.append((train, validation))
        return fit(model, train, validation, **options)

    given, fit = [], experiment.fit
    monkeypatch.setattr(experiment, "fit", seen_targets)
    assert main([*soft_label_flags(folder), "--soft-share=0.25"]) == 0
    [(train, validation)] = given
    predicted = {
        name: row
        for each in teachers.values()
        for name, row in zip(each.names, each.probabilities, strict=True)
    }
    soft = np.stack([predicted[name] for name in train.names])
    np.testing.assert_allclose(
        train.targets[:, 0],
        0.75 * one_hot(train.labels, 7) + 0.25 * soft[:, 0],
        atol=1e-6,
    )
    voted = np.array([name != "train/sad/Training_9.png" for name in train.names])
    votes = add_votes(train, find_votes(folder / "data"))[0].targets[:, 1]
    np.testing.assert_array_equal(train.targets[voted, 1], votes[voted])
    np.testing.assert_array_equal(train.targets[~voted, 1], soft[~voted, 1])
    assert set(np.unique(validation.targets)) == {0, 1}
    assert "soft labels of 2 teachers mixed in" in capsys.readouterr().out
    assert (folder / "publish" / "model.json").exists()


@pytest.mark.slow
def test_other_teachers_are_another_data_set(folder, teachers):
    """So a run is not resumed with them."""

    def with_teachers(found):
        audit = str(folder / "audit")
        return fingerprint_with(folder, leave_out=audit, teachers=found)

    first = teachers["1/2"]
    flipped = dataclasses.replace(first, probabilities=first.probabilities[:, :, ::-1])
    before = with_teachers(teachers)
    assert with_teachers(teachers) == before
    assert with_teachers(teachers | {"1/2": flipped}) != before


@pytest.mark.slow
def test_soft_labels_that_do_not_fit_are_refused(folder, teachers, fails):
    flags = soft_label_flags(folder)
    message = fails(*flags, "--labels=original")
    assert "predictions for the label sets original, found original, fer" in message
    (run_of_second,) = [
        path
        for path in (folder / "runs").iterdir()
        if json.loads((path / "config.json").read_text())["fold"] == "2/2"
    ]
    (run_of_second / "out_of_fold.npz").unlink()
    assert "missing: 2/2 of seed 42." in fails(*flags)
    assert not (folder / "own").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--fold=1/4"], "--fold needs the audit"),
        (["--fold=5/4", "--leave-out=a"], "--fold is K/N, such as 1/4"),
        (["--fold=1/4", "--leave-out=a", "--soft-labels=b"], "exclude each other"),
        (["--soft-labels=nowhere", "--data=sample"], "--recipe teacher and --fold"),
        (["--soft-labels=a", "--labels=ferplus"], "change nothing with --labels fer"),
    ],
)
def test_folds_and_soft_labels_that_cannot_be(own_environment, fails, flags, word):
    assert word in fails("--mode=train", *flags)


def test_soft_labels_take_the_place_of_a_recipes_smoothing_by_votes():
    given = TrainSettings(recipe="foundation", labels="both", soft_labels="runs")
    assert given.resolve_recipe(drawn_faces=False).vote_smoothing == 0
    asked = dataclasses.replace(given, settings={"vote_smoothing": 0.3})
    assert asked.resolve_recipe(drawn_faces=False).vote_smoothing == 0.3
