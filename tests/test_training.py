"""Training: what is fitted, kept, stopped, and continued, with a tiny network.

Passes on every backend: `test_other_backends.py` runs a part of it once more on JAX.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from emotion_cnn import cli
from emotion_cnn.data.batches import TrainingBatches
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split, targets
from emotion_cnn.errors import RunError, TrainingError
from emotion_cnn.evaluation.evaluator import Evaluation
from emotion_cnn.files import locked
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.pair import read_pair, write_pair
from emotion_cnn.training import experiment, fitting, live_chart
from emotion_cnn.training.callbacks import StopAtNonFiniteLoss
from emotion_cnn.training.fitting import compile_model, fit, fix_randomness
from emotion_cnn.training.live_chart import LiveChart
from emotion_cnn.training.losses import crossentropy_of_label_sets
from emotion_cnn.training.recipes import Recipe
from emotion_cnn.training.resuming import KeptWeights, TrainingState
from emotion_cnn.training.run_folder import (
    HISTORY_COLUMNS,
    RunFolder,
    read_history,
    write_training_state,
)

TINY = Architecture(blocks=((Convolution(2),),), dense=(4,))
DESCRIPTION = NetworkDescription()
RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=0.03, plateau_patience=1)


def noise(count: int, seed: int) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 7
    return Split(images, labels, tuple(f"train/{k}" for k in range(count)))


TRAIN, VALIDATION = noise(28, 0), noise(14, 1)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Leaves out the charts, which take longer than the tiny network."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "LiveChart", lambda *_: keras.callbacks.Callback())
        patched.setattr(Evaluation, "figures", lambda _: {})
        patched.setitem(ARCHITECTURES, "compact", TINY)
        yield


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path)


def new_run(parent: Path, name: str = "run") -> RunFolder:
    (parent / name).mkdir()
    return RunFolder(parent / name)


def train(run: RunFolder, recipe: Recipe = RECIPE, *, seed: int = 1, **options):
    """Returns the network and its history."""
    fix_randomness(seed)
    model = build_model(TINY, DESCRIPTION, for_training=True)
    compile_model(model, recipe, images=len(TRAIN))
    options = {"tensorboard": False} | options
    history = fit(
        model, TRAIN, VALIDATION, recipe=recipe, seed=seed, run=run, **options
    )
    return model, history


def script_validation(monkeypatch, **scripted):
    """Makes the validation of epoch k find the k-th of the values given."""
    remaining = {name: iter(values) for name, values in scripted.items()}
    monkeypatch.setattr(
        keras.Model,
        "evaluate",
        lambda *_, **__: {
            name: next(remaining[name]) if name in remaining else 1.0
            for name in ("loss", "accuracy")
        },
    )


def at_batch(monkeypatch, epoch: int, batch: int, act):
    """Does something, once, at the end of a batch, both counted from 1."""
    on_train_batch_end = StopAtNonFiniteLoss.on_train_batch_end
    done = []

    def hooked(self, index, logs=None):
        on_train_batch_end(self, index, logs)
        if (self._epoch, index + 1) == (epoch, batch) and not done:
            done.append(True)
            act()

    monkeypatch.setattr(StopAtNonFiniteLoss, "on_train_batch_end", hooked)


def press_ctrl_c():
    raise KeyboardInterrupt


def weights_after_each_epoch(monkeypatch) -> list:
    weights = []
    on_epoch_end = TrainingState.on_epoch_end

    def hooked(self, epoch, logs=None):
        weights.append(self.model.get_weights())
        on_epoch_end(self, epoch, logs)

    monkeypatch.setattr(TrainingState, "on_epoch_end", hooked)
    return weights


def saved(run: RunFolder) -> tuple[dict, dict]:
    """The arrays and the counters in the state of a run."""
    with np.load(run.state) as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("counters")))


def same(one: list, other: list) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The network, history and folder of a run of four epochs."""
    run = new_run(tmp_path_factory.mktemp("uninterrupted"))
    return *train(run), run


@pytest.fixture
def finished(uninterrupted, run):
    """A copy of that folder."""
    shutil.copytree(uninterrupted[2].path, run.path, dirs_exist_ok=True)
    return run


# What is fitted


def test_the_default_recipe():
    recipe = Recipe()
    assert (recipe.model, recipe.epochs, recipe.batch_size) == ("baseline", 15, 64)
    assert (recipe.learning_rate, recipe.flip) == (5e-4, True)
    assert recipe.plateau_factor == 0.1
    assert recipe.plateau_patience == 2
    assert recipe.minimum_learning_rate == 1e-5


def test_compiled_with_adam_and_cross_entropy():
    model = build_model(TINY, DESCRIPTION, for_training=True)
    compile_model(model, Recipe(), images=64)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-4)
    assert model.loss is crossentropy_of_label_sets


@pytest.fixture
def handed_to_keras(monkeypatch, run):
    """What `fit` gives Keras' own `fit`."""

    class StopHereError(Exception):
        pass

    def record(self, x, **options):
        given.update(options, x=x)
        raise StopHereError

    given = {}
    monkeypatch.setattr(keras.Model, "fit", record)
    with pytest.raises(StopHereError):
        train(run, Recipe())
    return given


def callback_of(handed_to_keras, kind):
    (found,) = [c for c in handed_to_keras["callbacks"] if type(c) is kind]
    return found


def test_plateau_parameters(handed_to_keras):
    plateau = callback_of(handed_to_keras, keras.callbacks.ReduceLROnPlateau)
    assert plateau.monitor == "val_loss"
    assert (plateau.factor, plateau.patience, plateau.min_lr) == (0.1, 2, 1e-5)


def test_checkpoint_parameters(handed_to_keras):
    checkpoint = callback_of(handed_to_keras, KeptWeights)
    assert isinstance(checkpoint, keras.callbacks.ModelCheckpoint)
    assert checkpoint.monitor == "val_accuracy"
    assert checkpoint.save_best_only
    assert checkpoint.save_weights_only


def test_validation_images_are_never_flipped(handed_to_keras):
    (images, labels), *others = handed_to_keras["validation_data"]
    assert not others
    np.testing.assert_array_equal(images, VALIDATION.images)
    np.testing.assert_array_equal(labels, targets(VALIDATION))


@pytest.mark.parametrize("too_many", [False, True])
def test_training_batches_are_made_as_the_recipe_says(monkeypatch, run, too_many):
    def record(split, **options):
        assert split is TRAIN
        made.append(options)
        raise KeyboardInterrupt

    made = []
    monkeypatch.setattr(fitting, "TrainingBatches", record)
    monkeypatch.setattr(fitting, "exceed_memory", lambda images: too_many)
    settings = {
        "batch_size": 16,
        "flip": False,
        "balance": 0.1,
        "mixup": 0.2,
        "cutmix": 0.3,
        "label_smoothing": 0.4,
    }
    with pytest.raises(KeyboardInterrupt):
        train(run, Recipe(**settings), seed=5)
    assert made == [settings | {"seed": 5, "one_shape": False, "by_blocks": too_many}]


def test_every_batch_is_trained_on_once_in_its_own_epoch(monkeypatch, run):
    trained_on, expected = Counter(), Counter()

    class Recording(TrainingBatches):
        def start_epoch(self, epoch):
            super().start_epoch(epoch)
            self.epoch = epoch

        def __getitem__(self, index):
            images, labels = super().__getitem__(index)
            trained_on[self.epoch, index, images.tobytes()] += 1
            return images, labels

    monkeypatch.setattr(fitting, "TrainingBatches", Recording)
    train(run)
    reference = TrainingBatches(TRAIN, batch_size=RECIPE.batch_size, seed=1)
    for epoch in range(4):
        reference.start_epoch(epoch)
        for index in range(4):
            expected[epoch, index, reference[index][0].tobytes()] += 1
    assert set(trained_on) == set(expected)
    # Keras looks at the first batches before it trains, in epoch 0.
    assert {key: n for key, n in trained_on.items() if key[0] > 0} == {
        key: n for key, n in expected.items() if key[0] > 0
    }


# What is kept


def test_best_weights_alone_are_kept_and_restored(monkeypatch, run, drawn):
    script_validation(monkeypatch, accuracy=[0.3, 0.6, 0.6, 0.5])
    after_epoch = weights_after_each_epoch(monkeypatch)
    model, _ = train(run)
    assert same(model.get_weights(), after_epoch[1])
    assert not same(after_epoch[1], after_epoch[2])
    assert files_of(run.path) == {
        "history.csv",
        "live_chart.png",  # Left out of most tests here, see `quick`.
        "training_state.npz",
        "epoch-0002.weights.h5",
    }


def test_learning_rate_falls_when_the_validation_loss_does_not(monkeypatch, run):
    losses = [1.0, 0.9, 0.95, 0.9, 0.9, 0.9, 0.8]
    script_validation(monkeypatch, loss=losses)
    recipe = Recipe(
        epochs=7,
        batch_size=16,
        learning_rate=0.01,
        plateau_factor=0.1,
        plateau_patience=2,
        minimum_learning_rate=0.0005,
    )
    _, history = train(run, recipe)
    assert history["val_loss"] == losses
    assert history["learning_rate"] == pytest.approx(4 * [0.01] + 2 * [1e-3] + [5e-4])


def test_history_csv(uninterrupted):
    _, history, run = uninterrupted
    lines = run.history.read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert read_history(run.history) == history
    assert tuple(history) == HISTORY_COLUMNS
    assert all(0 <= value <= 1 for value in history["val_accuracy"])


def test_history_holds_the_validation_figures_of_the_best_weights(uninterrupted):
    model, history, _ = uninterrupted
    loss, accuracy = model.evaluate(VALIDATION.images, targets(VALIDATION), verbose=0)
    best = int(np.argmax(history["val_accuracy"]))
    assert history["val_accuracy"][best] == pytest.approx(accuracy, abs=1e-6)
    assert history["val_loss"][best] == pytest.approx(loss, abs=1e-5)


def test_tensorboard_logs_on_request(run):
    pytest.importorskip("tensorboard")
    train(run, Recipe(epochs=1, batch_size=16), tensorboard=True)
    assert list(run.tensorboard.rglob("events.out.tfevents*"))


def test_same_seed_same_history_and_weights(uninterrupted, run):
    model, history, _ = uninterrupted
    again, history_again = train(run)
    assert history_again == history
    assert same(again.get_weights(), model.get_weights())


def test_another_seed_another_history(uninterrupted, run):
    _, history = train(run, seed=2)
    assert history["loss"] != uninterrupted[1]["loss"]


# The live chart


@pytest.fixture
def drawn(monkeypatch):
    """The curves of each chart that is drawn, as {(title, label): epochs}."""
    monkeypatch.setattr(fitting, "LiveChart", LiveChart)
    charts = []
    write_figure = live_chart.write_figure

    def record(path, figure):
        charts.append(
            {
                (axes.get_title(), line.get_label()): line.get_xdata().tolist()
                for axes in figure.axes
                for line in axes.lines
            }
        )
        write_figure(path, figure)

    monkeypatch.setattr(live_chart, "write_figure", record)
    return charts


def test_live_chart_is_redrawn_as_epochs_end(run, drawn, monkeypatch):
    monkeypatch.setattr(live_chart, "_DRAWING_SHARE", 1e9)
    chart = LiveChart(run.live_chart, {name: [] for name in HISTORY_COLUMNS})
    images = []
    for epoch in range(3):
        logs = dict.fromkeys(HISTORY_COLUMNS[1:], 1 / (epoch + 1))
        chart.on_epoch_end(epoch, logs)
        images.append(run.live_chart.read_bytes())
        assert plt.get_fignums() == []
    assert len(set(images)) == 3
    assert all(each.startswith(b"\x89PNG") for each in images)
    for epochs, curves in zip(([1], [1, 2], [1, 2, 3]), drawn, strict=True):
        assert len(curves) == 5
        assert all(drawn_epochs == epochs for drawn_epochs in curves.values())


def test_live_chart_takes_little_of_the_time_of_short_epochs(run, drawn):
    chart = LiveChart(run.live_chart, {name: [] for name in HISTORY_COLUMNS})
    for epoch in range(3):
        chart.on_epoch_end(epoch, dict.fromkeys(HISTORY_COLUMNS[1:], 1.0))
    assert len(drawn) == 1
    chart.on_train_end()
    chart.on_train_end()
    for epochs, curves in zip(([1], [1, 2, 3]), drawn, strict=True):
        assert all(drawn_epochs == epochs for drawn_epochs in curves.values())


def test_live_chart_begins_with_the_epochs_before_a_resume(finished, drawn):
    train(finished, replace(RECIPE, epochs=5))
    (chart,) = drawn
    assert len(chart) == 5
    assert all(epochs == [1, 2, 3, 4, 5] for epochs in chart.values())
    assert plt.get_fignums() == []


# What stops


def spoil_batch(monkeypatch, epoch: int, batch: int):
    """Makes images of a batch, counted from 1, such as no image is."""

    class Spoilt(TrainingBatches):
        def start_epoch(self, number):
            super().start_epoch(number)
            self.epoch = number + 1

        def __getitem__(self, index):
            images, labels = super().__getitem__(index)
            if (self.epoch, index + 1) == (epoch, batch):
                images = np.full_like(images, np.nan)
            return images, labels

    monkeypatch.setattr(fitting, "TrainingBatches", Spoilt)


@pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (2, 3)])
def test_loss_that_is_no_number_stops_at_its_batch(monkeypatch, run, epoch, batch):
    spoil_batch(monkeypatch, epoch, batch)
    with pytest.raises(TrainingError) as caught:
        train(run)
    message = str(caught.value)
    assert f"found nan in epoch {epoch}, batch {batch}." in message
    assert "lower `learning_rate`" in message
    if epoch > 1:
        assert len(read_history(run.history)["epoch"]) == epoch - 1


def test_validation_loss_that_is_no_number_stops(monkeypatch, run):
    """The last step of an epoch can spoil the weights: no training loss shows it."""
    script_validation(monkeypatch, loss=[1.0, float("nan"), 1.0, 1.0])
    with pytest.raises(TrainingError, match=r"validation loss.*nan.* epoch 2"):
        train(run)
    assert len(read_history(run.history)["epoch"]) == 1


# What is continued


@pytest.mark.parametrize(("epoch", "batch"), [(1, 2), (4, 4)], ids=str)
@pytest.mark.slow
def test_resumed_equals_uninterrupted(monkeypatch, run, uninterrupted, epoch, batch):
    at_batch(monkeypatch, epoch, batch, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert run.history.exists() == (epoch > 1)
    model, _ = train(run)
    other, _, expected = uninterrupted
    assert run.history.read_bytes() == expected.history.read_bytes()
    assert same(model.get_weights(), other.get_weights())
    assert files_of(run.path) == files_of(expected.path)
    for one, other in zip(saved(run), saved(expected), strict=True):
        assert one.keys() == other.keys()
        # Of a file with names of layers, which Keras numbers within a process.
        one.pop("kept_weights_sha256", None)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_counters_of_the_plateau_survive(monkeypatch, run):
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.01, plateau_patience=2)
    script_validation(monkeypatch, loss=[1.0, 1.0, 1.0, 1.0])
    at_batch(monkeypatch, 3, 1, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(run, recipe)
    _, history = train(run, recipe)
    assert history["learning_rate"] == pytest.approx([0.01, 0.01, 0.01, 0.001])


def test_best_value_survives(monkeypatch, run):
    script_validation(monkeypatch, accuracy=[0.6, 0.2, 0.4, 0.5])
    after_epoch = weights_after_each_epoch(monkeypatch)
    at_batch(monkeypatch, 3, 1, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    model, _ = train(run)
    assert same(model.get_weights(), after_epoch[0])
    assert [path.name for path in run.path.glob("epoch-*")] == ["epoch-0001.weights.h5"]


def test_a_run_stopped_after_its_last_epoch_trains_no_more(finished, uninterrupted):
    time_of_history = finished.history.stat().st_mtime_ns
    model, history = train(finished)
    assert same(model.get_weights(), uninterrupted[0].get_weights())
    assert history == uninterrupted[1]
    assert finished.history.stat().st_mtime_ns == time_of_history


def test_state_is_the_old_one_whole_where_writing_fails(monkeypatch, finished):
    def fill_the_disk(path, **arrays):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = finished.state.read_bytes()
    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        train(finished, replace(RECIPE, epochs=5))
    assert finished.state.read_bytes() == before
    assert not list(finished.path.glob(".writing*"))


def test_damaged_state_is_refused(finished):
    whole = finished.state.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        finished.state.write_bytes(damaged)
        with pytest.raises(
            RunError, match=r"training_state\.npz is damaged .* Start a new one"
        ):
            train(finished)


def test_state_of_another_network_is_refused(finished):
    arrays, counters = saved(finished)
    arrays.popitem()
    write_training_state(finished.state, arrays, counters)
    with pytest.raises(RunError, match="state of another network"):
        train(finished)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["history"], {}),
        (["history"], [1]),
        (["history", "epoch"], [1, 2, 4, 3]),
        (["history", "epoch"], []),
        (["history", "loss"], [0.5]),
        (["history", "val_loss"], [float("nan")] * 4),
        (["history", "val_loss"], [10**400] * 4),
        (["history", "val_accuracy"], [0.1, 0.2, 0.3, 7]),
        (["history", "val_accuracy"], ["a"] * 4),
        (["history", "val_accuracy"], 5),
        (["plateau"], None),
        (["plateau", "best"], float("inf")),
        (["plateau", "best"], True),
        (["plateau", "wait"], -1),
        (["plateau", "wait"], 5),
        (["plateau", "wait"], 0.5),
    ],
)
def test_counters_that_cannot_be_are_refused(finished, path, value):
    arrays, counters = saved(finished)
    *parents, name = path
    for parent in parents:
        counters = counters[parent]
    counters[name] = value
    if parents:
        counters = saved(finished)[1] | {parents[0]: counters}
    write_training_state(finished.state, arrays, counters)
    with pytest.raises(
        RunError, match=r"training_state\.npz is damaged .* Start a new"
    ):
        train(finished)


def test_counters_set_no_attributes_that_a_file_names(finished):
    arrays, counters = saved(finished)
    counters["plateau"] |= {"factor": 0.9, "__class__": 5, "patience": 100}
    write_training_state(finished.state, arrays, counters | {"more": 1})
    _, history = train(finished)
    assert len(history["epoch"]) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype("float64"),
        lambda array: array[..., np.newaxis],
        lambda array: np.array([{"a": array}], dtype=object),
        lambda array: array.astype(str),
    ],
    ids=["dtype", "shape", "object", "text"],
)
def test_arrays_of_a_state_are_looked_at_before_they_are_read(
    monkeypatch, finished, change
):
    arrays, counters = saved(finished)
    arrays["0000"] = change(arrays["0000"])
    with finished.state.open("wb") as file:
        np.savez(file, counters=json.dumps(counters), **arrays)
    read = np.lib.format.read_array

    def read_small(file, **options):
        array = read(file, **options)
        assert array.dtype.kind in "fiuU"
        return array

    monkeypatch.setattr(np.lib.format, "read_array", read_small)
    with pytest.raises(RunError, match=r"state of another network"):
        train(finished)


def test_a_state_far_larger_than_the_network_is_not_read(monkeypatch, finished):
    with finished.state.open("ab") as file:
        file.truncate(10**9)
    monkeypatch.setattr("zipfile.ZipFile", None)
    with pytest.raises(RunError, match="more than"):
        train(finished)


def test_a_bit_that_flips_in_a_state_is_noticed(finished):
    content = bytearray(finished.state.read_bytes())
    content[len(content) // 2] ^= 1
    finished.state.write_bytes(content)
    with pytest.raises(RunError, match="training_state"):
        train(finished)


def test_links_in_a_run_folder_are_replaced_and_not_followed(run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for epoch in range(1, 5):
        run.kept_weights(epoch).symlink_to(victim)
    for path in (run.history, run.live_chart):
        path.symlink_to(victim)
    train(run)
    assert victim.read_text() == "precious"
    assert not run.history.is_symlink()
    [kept] = run.path.glob("epoch-*")
    assert not kept.is_symlink()


def test_tensorboard_logs_are_not_written_through_links(run, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "elsewhere").mkdir()
    run.tensorboard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="found the link tensorboard"):
        train(run, tensorboard=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_braces_in_a_path_are_no_placeholders(tmp_path):
    run = new_run(tmp_path, "{a} {epoch}{{")
    train(run, replace(RECIPE, epochs=1))
    assert run.kept_weights(1).is_file()


def test_a_folder_that_is_gone_is_not_made_again(monkeypatch, run):
    at_batch(monkeypatch, 2, 1, lambda: shutil.rmtree(run.path))
    with pytest.raises(FileNotFoundError):
        train(run)
    assert not run.path.exists()


def write_other_numbers(path: Path) -> None:
    """Writes what only a checksum notices."""
    model = build_model(TINY, DESCRIPTION, for_training=True)
    compile_model(model, RECIPE, images=len(TRAIN))
    model.save_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"nonsense"),
        write_other_numbers,
    ],
    ids=["missing", "empty", "nonsense", "other numbers"],
)
def test_missing_or_damaged_best_weights_are_refused(finished, change):
    (best,) = finished.path.glob("epoch-*")
    change(best)
    before = finished.state.read_bytes()
    with pytest.raises(RunError, match=r"weights of epoch \d .* cannot be continued"):
        train(finished, replace(RECIPE, epochs=5))
    # It is said at once, not after hours of training in vain.
    assert finished.state.read_bytes() == before


# The command, from the command line to the published pair


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    files = {
        "train": [f"Training_{k}.png" for k in range(4)],
        "test": [f"{part}Test_{k}.png" for part in ("Public", "Private") for k in "12"],
    }
    rng = np.random.default_rng(0)
    for part, names in files.items():
        for emotion in EMOTIONS:
            (folder / part / emotion).mkdir(parents=True)
            for name in names:
                pixels = rng.integers(0, 256, (48, 48), np.uint8)
                Image.fromarray(pixels).save(folder / part / emotion / name)
    return folder


UNTOUCHED = 2 * [b"published before"]


def published(folder: Path) -> list[bytes]:
    return [(folder / n).read_bytes() for n in ("model.json", "model_weights.h5")]


def the_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def command(folder: Path, *arguments: str) -> int:
    """Trains, with runs/ and a pair published before in the folder."""
    for name in ("model.json", "model_weights.h5"):
        if not (folder / name).exists():
            (folder / name).write_bytes(b"published before")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KERAS_BACKEND", keras.backend.backend())
        return cli.main(
            ["--mode", "train", "--runs", str(folder / "runs"), *map(str, arguments)]
        )


def first_command(folder: Path, images: Path, *arguments: str) -> int:
    return command(
        folder,
        *("--data", images, "--publish", folder, "--model", "compact"),
        *("--epochs", 2, "--batch-size", 8, "--backend", keras.backend.backend()),
        *arguments,
    )


@pytest.mark.slow
def test_starts_from_the_weights_of_another_run(tmp_path, images, capsys):
    """With next to no learning rate the second run ends with the first one's.

    It is stopped in its first epoch, before there is anything of its own.
    """
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert first_command(tmp_path / "first", images) == 0
    first = the_run(tmp_path / "first")
    flags = ("--optimizer", "sgd", "--learning-rate", 1e-9, "--seed", 7)
    small = ("--minimum-learning-rate", 0, "--weights", first)
    with pytest.MonkeyPatch.context() as patched:
        at_batch(patched, 1, 1, press_ctrl_c)
        assert first_command(tmp_path / "second", images, *flags, *small) == 130
    second = the_run(tmp_path / "second")
    pair = {path: path.read_bytes() for path in first.glob("model*")}
    write_pair(first, Network(build_model(TINY, DESCRIPTION), DESCRIPTION))
    capsys.readouterr()
    assert command(tmp_path / "second", "--resume", second) == 2
    assert f"found others in {first}" in capsys.readouterr().err
    for path, content in pair.items():
        path.write_bytes(content)
    assert command(tmp_path / "second", "--resume", second) == 0
    one, other = (
        read_pair(folder).model.trainable_variables for folder in (first, second)
    )
    for before, after in zip(one, other, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)
    config = json.loads((second / "config.json").read_text())
    assert config["weights"] == str(first)
    environment = json.loads((second / "environment.json").read_text())
    digest = hashlib.sha256((first / "model_weights.h5").read_bytes()).hexdigest()
    assert environment["initial_weights_sha256"] == digest
    # Another network is refused before there is a run.
    flags = ("--model", "baseline", "--weights", first)
    assert first_command(tmp_path / "first", images, *flags) == 2
    assert "Expected weights of the network" in capsys.readouterr().err
    assert the_run(tmp_path / "first") == first


class PowerCutError(BaseException):
    """Nothing catches it."""


def cut_power(*_, **__):
    raise PowerCutError


@pytest.fixture(scope="module")
def stopped_runs(tmp_path_factory, images):
    """One run stopped in epoch 2 of 2, and one after it, by name."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("early", "late")}
    with pytest.MonkeyPatch.context() as patched:
        at_batch(patched, 2, 1, press_ctrl_c)
        assert first_command(folders["early"], images) == 130
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(experiment, "write_pair", cut_power)
        with pytest.raises(PowerCutError):
            first_command(folders["late"], images)
    for folder in folders.values():
        assert published(folder) == UNTOUCHED
    return folders


@pytest.fixture
def stopped_run(stopped_runs, tmp_path):
    """Copies one of the stopped runs here."""

    def copy(name: str) -> Path:
        shutil.copytree(stopped_runs[name], tmp_path, dirs_exist_ok=True)
        run = the_run(tmp_path)
        config = json.loads((run / "config.json").read_text())
        config["publish"] = str(tmp_path)
        (run / "config.json").write_text(json.dumps(config))
        return run

    return copy


CLASS_SETS = {
    "three": ("happy", "bored", "tired"),
    "eight": (*EMOTIONS, "contempt"),
}


@pytest.mark.slow
@pytest.mark.parametrize("names", CLASS_SETS)
def test_a_network_of_other_classes(tmp_path, monkeypatch, capsys, names):
    """Trained, stopped, resumed, evaluated, audited, and gone on from."""
    monkeypatch.setitem(ARCHITECTURES, "compact", TINY)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    classes, data = CLASS_SETS[names], tmp_path / "data"
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("validation", 2), ("test", 4)):
        # As they may be called; the last one is missing where it may be.
        for label, name in enumerate(classes if part == "train" else classes[:-1]):
            folder = data / part / {"happy": "Happiness"}.get(name, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(30 * label, 10, (48, 48)).clip(0, 255)
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / f"{number}.png")
    # Files that lie between classes are no classes.
    (data / "train" / "notes").mkdir()
    (data / "train" / "notes" / "read.me").write_text("mine")
    with pytest.MonkeyPatch.context() as patched:
        at_batch(patched, 2, 1, press_ctrl_c)
        assert first_command(tmp_path, data) == 130
    run = the_run(tmp_path)
    extra = data / "train" / "surprised by nothing" / "0.png"
    extra.parent.mkdir()
    shutil.copy(data / "train" / classes[-1] / "0.png", extra)
    assert command(tmp_path, "--resume", run) == 2
    assert "the images and targets that" in capsys.readouterr().err
    shutil.rmtree(extra.parent)
    assert command(tmp_path, "--resume", run) == 0
    network = read_pair(run)
    assert network.description.classes == classes
    assert network.model.output_shape == (None, len(classes))
    said = capsys.readouterr().out
    assert f"{len(classes)} classes: {', '.join(classes)}" in said
    assert f"validation: validation/ ({2 * len(classes) - 2} images)" in said
    assert f"No images of {classes[-1]}: means are over the others." in said
    header = (run / "predictions.csv").read_text().splitlines()[0]
    assert header == "path,label,prediction," + ",".join(classes)
    evaluated = tmp_path / "evaluated"
    flags = ("--data", data, "--weights", run, "--output", evaluated)
    assert cli.main(["evaluate", *map(str, flags)]) == 0
    parts = [json.loads((f / "metrics.json").read_text()) for f in (run, evaluated)]
    assert parts[0]["parts"] == parts[1]["parts"]
    assert list(parts[0]["parts"]["test"]["classes"]) == list(classes)
    assert cli.main(["audit", "--data", str(data), "--output", str(data / "a")]) == 0
    audit = json.loads((data / "a" / "audit.json").read_text())
    assert list(audit["counts"]["train"]) == list(classes)
    # Two of its classes, of its trunk, with its audit.
    capsys.readouterr()
    flags = ("--weights", run, "--classes", f"{classes[1]},{classes[0]}")
    (tmp_path / "other").mkdir()
    assert first_command(tmp_path / "other", data, *flags, "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert f"all layers but the last from {run}, which is of other classes" in said
    two = the_run(tmp_path / "other")
    assert read_pair(two).description.classes == (classes[1], classes[0])
    # The whole data set has a class more than this network knows.
    flags = ("--data", data, "--weights", two, "--output", tmp_path / "unknown")
    code = 2 if names == "eight" else 0
    assert cli.main(["evaluate", *map(str, flags)]) == code


def test_finished_run_is_published_and_not_resumed(tmp_path, images, capsys):
    assert first_command(tmp_path, images) == 0
    run = the_run(tmp_path)
    assert published(tmp_path) == published(run) != UNTOUCHED
    capsys.readouterr()
    assert command(tmp_path, "--resume", run.name) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Expected an interrupted run")
    assert "is finished: there is nothing to resume" in error


def test_loss_that_is_no_number_exits_with_2(tmp_path, images, monkeypatch, capsys):
    spoil_batch(monkeypatch, 2, 3)
    assert first_command(tmp_path, images) == 2
    error = capsys.readouterr().err
    assert "error: Expected the training loss to be a number" in error
    assert "epoch 2, batch 3" in error
    assert "Traceback" not in error
    assert published(tmp_path) == UNTOUCHED


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_says_how_to_resume(
    tmp_path, images, monkeypatch, capsys
):
    at_batch(monkeypatch, 2, 1, press_ctrl_c)
    assert first_command(tmp_path, images) == 130
    run = the_run(tmp_path)
    hint = f"emotion-cnn train --resume {run}"
    assert hint in capsys.readouterr().err
    assert published(tmp_path) == UNTOUCHED
    # As in a notebook, the process is still the same.
    assert command(tmp_path, "--resume", run) == 0
    assert published(tmp_path) == published(run) != UNTOUCHED
    assert read_history(run / "history.csv")["epoch"] == [1, 2]


@pytest.mark.slow
def test_changed_images_are_not_resumed_on(stopped_run, tmp_path, images, capsys):
    run, moved = stopped_run("late"), tmp_path / "moved"
    shutil.copytree(images, moved)
    (moved / "train" / "sad" / "Training_0.png").unlink()
    assert command(tmp_path, "--resume", run, "--data", moved) == 2
    error = capsys.readouterr().err
    assert re.search(r"fingerprint \w{12}\), found others in .*moved \(\w{12}\)", error)
    assert published(tmp_path) == UNTOUCHED
    # The same images elsewhere are welcome.
    shutil.copytree(images, moved, dirs_exist_ok=True)
    assert command(tmp_path, "--resume", run, "--data", moved) == 0


@pytest.mark.parametrize("epoch", [1, 2])
def test_what_is_said_of_a_run_whose_folder_is_gone(
    tmp_path, images, monkeypatch, capsys, epoch
):
    at_batch(monkeypatch, epoch, 1, lambda: shutil.rmtree(the_run(tmp_path)))
    assert first_command(tmp_path, images) == 2
    error = capsys.readouterr().err
    assert "is gone, with the finished epochs. Train again." in error
    assert "kept" not in error
    assert "--resume" not in error


def test_ctrl_c_before_the_first_epoch_says_how_to_go_on(
    tmp_path, images, monkeypatch, capsys
):
    monkeypatch.setattr(experiment, "compile_model", lambda *_, **__: press_ctrl_c())
    assert first_command(tmp_path, images) == 130
    error = capsys.readouterr().err
    assert error.startswith("\nStopped; no epoch was finished yet. Continue with: ")
    assert f"--resume {the_run(tmp_path)}" in error


def test_a_run_is_resumed_by_one_command_at_a_time(stopped_run, tmp_path, capsys):
    run = stopped_run("early")
    with locked(run, "a training"):
        thread = threading.Thread(target=command, args=(tmp_path, "--resume", run))
        thread.start()
        thread.join()
    error = capsys.readouterr().err
    assert f"error: Expected no other command at work in {run}" in error
    assert "needed for a training" in error


def test_damaged_state_exits_with_2(stopped_run, tmp_path, capsys):
    run = stopped_run("early")
    state = run / "training_state.npz"
    state.write_bytes(state.read_bytes()[:100])
    assert command(tmp_path, "--resume", run) == 2
    assert "training_state.npz is damaged" in capsys.readouterr().err
    assert published(tmp_path) == UNTOUCHED


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"data": 1, "other": 2}'])
def test_damaged_run_exits_with_2(stopped_run, tmp_path, capsys, name, text):
    run = stopped_run("early")
    (run / name).write_text(text)
    assert command(tmp_path, "--resume", run) == 2
    error = capsys.readouterr().err
    assert name in error
    assert "Traceback" not in error


def test_full_disk_exits_with_2_and_can_be_resumed(
    stopped_run, tmp_path, monkeypatch, capsys
):
    def fill_the_disk(path, figure):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = stopped_run("late")
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "write_figure", fill_the_disk)
        assert command(tmp_path, "--resume", run) == 2
    error = capsys.readouterr().err
    assert f"Writing to {run} failed: No space left on device" in error
    assert f"--resume {run}" in error
    assert published(tmp_path) == UNTOUCHED
    assert command(tmp_path, "--resume", run) == 0
    assert published(tmp_path) == published(run)


@pytest.mark.parametrize("step", ["evaluate_network", "publish_pair"])
@pytest.mark.slow
def test_power_cut_at_the_end_leaves_a_run_that_can_be_resumed(
    stopped_run, tmp_path, monkeypatch, step
):
    run = stopped_run("late")
    with monkeypatch.context() as patched:
        patched.setattr(experiment, step, cut_power)
        with pytest.raises(PowerCutError):
            command(tmp_path, "--resume", run)
    assert published(tmp_path) == UNTOUCHED
    assert command(tmp_path, "--resume", run) == 0
    assert published(tmp_path) == published(run) != UNTOUCHED


def test_power_cut_while_cleaning_up_loses_nothing(
    stopped_run, tmp_path, monkeypatch, capsys
):
    run = stopped_run("late")
    remove = RunFolder.remove_other_weights

    def remove_and_cut_power(self, epoch):
        remove(self, epoch)
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "remove_other_weights", remove_and_cut_power)
        with pytest.raises(PowerCutError):
            command(tmp_path, "--resume", run)
    assert published(tmp_path) == published(run) != UNTOUCHED
    assert command(tmp_path, "--resume", run) == 2
    assert "is finished" in capsys.readouterr().err


def test_tensorboard_flag_without_tensorboard(tmp_path, images, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert first_command(tmp_path, images, "--tensorboard") == 2
    assert "Expected the package tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_ctrl_c_that_python_drops_stops_training(monkeypatch, run):
    """As when it is pressed while Python collects garbage."""

    def press_and_drop():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    at_batch(monkeypatch, epoch=2, batch=1, act=press_and_drop)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert read_history(run.history)["epoch"] == [1]


@pytest.mark.slow
def test_an_old_audit_beside_the_data_is_left_alone(tmp_path, images, capsys):
    audit = images / "audit.json"
    audit.write_text("{}")
    try:
        assert first_command(tmp_path, images) == 0
    finally:
        audit.unlink()
    assert f"{audit} is not used." in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_kept_of_a_run_names_whole_paths(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(images, tmp_path)
    assert first_command(Path(), Path(relative)) == 0
    [config] = tmp_path.glob("runs/*/config.json")
    kept = json.loads(config.read_text())
    assert kept["data"] == str(images.resolve())
    assert kept["runs"] == str((tmp_path / "runs").resolve())
    assert Path(kept["publish"]).is_absolute()
