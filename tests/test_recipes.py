"""The settings of a recipe: schedules, optimisers, averages, sizes.

Passes on every backend: `test_other_backends.py` runs a part of it once more on JAX.
"""

import json
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from emotion_cnn.data.splits import Split
from emotion_cnn.models.architectures import Architecture, Convolution
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.models.in_memory import save_weights
from emotion_cnn.models.untrusted.weights import load_kept_weights
from emotion_cnn.training import finishing, resuming
from emotion_cnn.training.augmentation import Resolution, with_augmentation
from emotion_cnn.training.callbacks import StopAtNonFiniteLoss
from emotion_cnn.training.finishing import re_estimate_statistics
from emotion_cnn.training.fitting import (
    compile_model,
    computing_with,
    fit,
    fix_randomness,
)
from emotion_cnn.training.losses import (
    accuracy_of_first_labels,
    crossentropy_of_label_sets,
)
from emotion_cnn.training.recipes import PRECISIONS, RECIPES, Recipe
from emotion_cnn.training.run_folder import RunFolder, read_history
from emotion_cnn.training.schedules import WarmUpAndDecay

TINY = Architecture(
    blocks=((Convolution(2), Convolution(2)),),
    dense=(4,),
    residual=True,
    squeeze=2,
    average=True,
    bias=False,
)
TINY_WITHOUT_DROPOUT = replace(TINY, dropout=0.0, dense_dropout=0.0)
ONE, BOTH = NetworkDescription(), NetworkDescription(label_sets=("original", "ferplus"))
EVERYTHING = Recipe(
    epochs=4,
    batch_size=8,
    optimizer="sgd",
    learning_rate=0.05,
    weight_decay=0.01,
    schedule="linear",
    warmup_epochs=1.5,
    average_weights=0.9,
    precision="bfloat16",
    rotation=10,
    shift=0.1,
    zoom=0.1,
    brightness=0.1,
    contrast=0.1,
    erasing=0.5,
    mixup=0.5,
    cutmix=0.5,
    label_smoothing=0.1,
    balance=0.5,
    sizes=((20, 0.5), (48, 0.5)),
)


def noise(count: int, seed: int) -> Split:
    """Images with targets of two label sets, not all of them of the second one."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 7
    votes = generator.dirichlet(np.ones(7), count).astype("float32")
    votes[::5] = 0
    y_true = np.stack([np.eye(7, dtype="float32")[labels], votes], axis=1)
    return Split(images, labels, tuple(f"train/{k}" for k in range(count)), y_true)


TRAIN, VALIDATION = noise(28, 0), noise(14, 1)


pytestmark = pytest.mark.usefixtures("without_charts")


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path, "run")


def new_run(parent: Path, name: str) -> RunFolder:
    (parent / name).mkdir()
    return RunFolder(parent / name)


def train(run: RunFolder, recipe: Recipe):
    """Returns the network, the model around it, and the history."""
    fix_randomness(1)
    with computing_with(recipe.precision):
        network = build_model(TINY, BOTH, for_training=True)
        model = with_augmentation(network, recipe, image_size=48)
    compile_model(model, recipe, images=len(TRAIN))
    history = fit(
        model, TRAIN, VALIDATION, recipe=recipe, seed=1, run=run, tensorboard=False
    )
    return network, model, history


def compiled(recipe: Recipe):
    model = build_model(TINY, ONE, for_training=True)
    compile_model(model, recipe, images=80)
    return model


@pytest.mark.parametrize(
    "recipe",
    [
        EVERYTHING,
        Recipe(
            epochs=4,
            batch_size=8,
            optimizer="adamw",
            schedule="cosine",
            average_weights=0.9,
            keep="last",
            sizes=((20, 0.5), (48, 0.5)),
        ),
    ],
    ids=["best", "last"],
)
@pytest.mark.slow
def test_resumed_equals_uninterrupted(monkeypatch, tmp_path, recipe):
    expected, other = new_run(tmp_path, "whole"), new_run(tmp_path, "resumed")
    network, _, _ = train(expected, recipe)
    on_train_batch_end = StopAtNonFiniteLoss.on_train_batch_end
    # In the middle of an epoch, and before the images change their size.
    presses = [(2, 2)]

    def hooked(self, index, logs=None):
        on_train_batch_end(self, index, logs)
        if (self._epoch, index + 1) in presses:
            presses.pop(0)
            raise KeyboardInterrupt

    monkeypatch.setattr(StopAtNonFiniteLoss, "on_train_batch_end", hooked)
    with pytest.raises(KeyboardInterrupt):
        train(other, recipe)
    again, _, _ = train(other, recipe)
    assert not presses
    assert other.history.read_bytes() == expected.history.read_bytes()
    for one, another in zip(network.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(one, another)


@pytest.mark.slow
def test_history_holds_the_learning_rate_of_a_schedule(run):
    recipe = replace(EVERYTHING, minimum_learning_rate=0.001)
    _, _, history = train(run, recipe)
    # Four batches an epoch, six of sixteen to rise in: half-way down at eleven.
    assert history["learning_rate"] == pytest.approx(
        [0.05 * 5 / 7, 0.05 * 0.8, 0.05 * 0.4, 0.001]
    )


@pytest.mark.parametrize(
    ("schedule", "quarter"), [("linear", 0.75), ("cosine", 0.85355)], ids=str
)
def test_a_schedule_rises_to_its_peak_and_falls(schedule, quarter):
    recipe = Recipe(
        epochs=11,
        learning_rate=0.2,
        schedule=schedule,
        warmup_epochs=1,
        minimum_learning_rate=0.002,
    )
    rates = [float(WarmUpAndDecay(recipe, 10)(step)) for step in range(120)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) / 11 for k in range(10)])
    assert rates[10] == max(rates) == pytest.approx(0.2)
    assert rates[35] == pytest.approx(0.2 * quarter, rel=1e-4)
    assert rates[60] == pytest.approx(0.1)
    assert np.all(np.diff(rates[10:]) <= 0)
    assert rates[109:] == pytest.approx(11 * [0.002])


def test_optimisers():
    decayed = {"weight_decay": 0.01}
    sgd = compiled(Recipe(optimizer="sgd", momentum=0.8, **decayed)).optimizer
    assert type(sgd) is keras.optimizers.SGD
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.8, True, 0.01)
    adamw = compiled(Recipe(optimizer="adamw", **decayed)).optimizer
    assert type(adamw) is keras.optimizers.AdamW
    assert adamw.weight_decay == 0.01
    assert compiled(Recipe(optimizer="sgd", momentum=0)).optimizer.nesterov is False


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_decay_takes_off_kernels_alone(optimizer):
    recipe = Recipe(optimizer=optimizer, weight_decay=0.5, learning_rate=0.1)
    model = compiled(recipe)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    zeros = [keras.ops.zeros_like(v) for v in model.trainable_variables]
    model.optimizer.apply(zeros, model.trainable_variables)
    for variable in model.trainable_variables:
        factor = 0.95 if variable.name == "kernel" else 1
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable),
            factor * before[variable.path],
            rtol=1e-5,
        )


def test_averaged_weights_are_evaluated_and_kept(monkeypatch, run):
    """With a momentum near 1 the average stays at the first step's weights."""
    raw = []
    on_epoch_end = resuming.TrainingState.on_epoch_end

    def hooked(self, epoch, logs=None):
        raw.append(self.model.get_weights())
        on_epoch_end(self, epoch, logs)

    monkeypatch.setattr(resuming.TrainingState, "on_epoch_end", hooked)
    recipe = Recipe(epochs=3, batch_size=8, learning_rate=0.05, average_weights=0.99999)
    _, model, history = train(run, recipe)
    kept = model.get_weights()[0]
    assert np.abs(raw[2][0] - raw[0][0]).max() > 0.03
    best = int(np.argmax(history["val_accuracy"]))
    assert np.abs(raw[best][0] - kept).max() > 0.01
    loss, accuracy = model.evaluate(VALIDATION.images, VALIDATION.targets, verbose=0)
    assert history["val_accuracy"][best] == pytest.approx(accuracy, abs=1e-6)
    assert history["val_loss"][best] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("most", [28, 22])
def test_statistics_are_re_estimated_from_unchanged_images(monkeypatch, most):
    """From every batch that is used, weighted by its images."""
    monkeypatch.setattr(finishing, "STATISTICS_BATCH_SIZE", 8)
    monkeypatch.setattr(finishing, "STATISTICS_IMAGES", most)
    fix_randomness(1)
    without_dropout = build_model(TINY_WITHOUT_DROPOUT, ONE)
    before = without_dropout.get_weights()
    inputs = keras.Model(
        without_dropout.inputs,
        [each.input for each in without_dropout.layers if "batch_norm" in each.name],
    )
    order = np.random.default_rng(3).permutation(28)[:most]
    batches = np.array_split(order, math.ceil(most / 8))
    # In training mode the layers before it normalise by the batch, too.
    seen = [
        [
            keras.ops.convert_to_numpy(each)
            for each in inputs([TRAIN.images[places]], training=True)
        ]
        for places in batches
    ]
    network = build_model(TINY, ONE)
    network.set_weights(before)
    layers = [each for each in network.layers if "batch_norm" in each.name]
    layers[0].moving_mean.assign([1e3, -1e3])
    as_built = network.to_json()
    re_estimate_statistics(network, TRAIN.images, seed=3)
    assert network.to_json() == as_built
    sizes = [len(places) for places in batches]
    for place, layer in enumerate(layers):
        found = [batch[place].reshape(-1, batch[place].shape[-1]) for batch in seen]
        for kept, measure in (
            (layer.moving_mean, np.mean),
            (layer.moving_variance, np.var),
        ):
            expected = [measure(each, axis=0) for each in found]
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(kept),
                np.average(expected, axis=0, weights=sizes),
                rtol=1e-3,
                atol=1e-5,
            )
    convolution = next(each for each in network.layers if "conv" in each.name)
    np.testing.assert_array_equal(
        before[0], keras.ops.convert_to_numpy(convolution.kernel)
    )


@pytest.mark.parametrize("count", [60, 20, 1])
def test_sizes_are_shares_of_the_epochs(count):
    recipe = replace(RECIPES["foundation"], epochs=count, warmup_epochs=0)
    sizes = [recipe.size_in_epoch(epoch) for epoch in range(count)]
    small = round(count * 33 / 60)
    assert sizes == small * [32] + (count - small) * [48]
    full = replace(recipe, progressive_sizes=False)
    assert {full.size_in_epoch(epoch) for epoch in range(count)} == {None}


def test_sizes_of_the_named_recipes():
    counts = {
        name: Counter(map(recipe.size_in_epoch, range(recipe.epochs)))
        for name, recipe in RECIPES.items()
        if recipe.sizes
    }
    assert counts == {
        "foundation": {32: 33, 48: 27},
        "best": {32: 24, 48: 47},
        "student": {32: 67, 40: 50, 48: 33},
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_outlives_json(name):
    recipe = RECIPES[name]
    kept = json.loads(json.dumps(asdict(recipe)))
    assert replace(Recipe(), **kept) == recipe


@pytest.mark.slow
def test_progressive_sizes(monkeypatch, run):
    sizes = []
    on_train_batch_end = StopAtNonFiniteLoss.on_train_batch_end

    def hooked(self, index, logs=None):
        on_train_batch_end(self, index, logs)
        (layer,) = [each for each in self.model.layers if type(each) is Resolution]
        sizes.append(layer.size)

    seen = set()
    call = Resolution.call

    def noted(self, images, training=None):
        outputs = call(self, images, training=training)
        if training:
            seen.add(outputs.shape[1])
        return outputs

    monkeypatch.setattr(StopAtNonFiniteLoss, "on_train_batch_end", hooked)
    monkeypatch.setattr(Resolution, "call", noted)
    sizes_of_epochs = ((20, 0.25), (24, 0.5), (48, 0.25))
    train(run, Recipe(epochs=4, batch_size=8, sizes=sizes_of_epochs))
    assert sizes == 4 * [20] + 8 * [24] + 4 * [48]
    assert seen == {20, 24, 48}


def test_the_last_epoch_is_kept_however_good_others_were(monkeypatch, run):
    after_epoch = []
    on_epoch_end = resuming.TrainingState.on_epoch_end

    def hooked(self, epoch, logs=None):
        after_epoch.append(self.model.get_weights())
        on_epoch_end(self, epoch, logs)
        assert sorted(path.name for path in run.path.glob("*.weights.h5")) == [
            f"epoch-{epoch + 1:04d}.weights.h5"
        ]

    accuracies = iter([0.9, 0.5, 0.4])
    monkeypatch.setattr(
        keras.Model,
        "evaluate",
        lambda *_, **__: {"loss": 1.0, "accuracy": next(accuracies)},
    )
    monkeypatch.setattr(resuming.TrainingState, "on_epoch_end", hooked)
    recipe = Recipe(epochs=3, batch_size=8, learning_rate=0.05, keep="last")
    _, model, _ = train(run, recipe)
    for kept, last, first in zip(
        model.get_weights(), after_epoch[2], after_epoch[0], strict=True
    ):
        np.testing.assert_array_equal(kept, last)
        assert not np.array_equal(kept, first)


def test_stops_early_and_has_nothing_left_to_resume(monkeypatch, run):
    accuracies = iter([0.3, 0.5, 0.4, 0.5, 0.6, 0.7])
    monkeypatch.setattr(
        keras.Model,
        "evaluate",
        lambda *_, **__: {"loss": 1.0, "accuracy": next(accuracies)},
    )
    recipe = Recipe(epochs=6, batch_size=8, early_stopping=2)
    _, _, history = train(run, recipe)
    assert history["val_accuracy"] == [0.3, 0.5, 0.4, 0.5]
    assert len(read_history(run.history)["epoch"]) == 4
    _, _, again = train(run, recipe)
    assert again == history


def test_accuracy_is_that_of_the_first_labels(run):
    y_true = np.eye(7, dtype="float32")[[[0, 3], [1, 4], [2, 5]]]
    y_pred = np.eye(7, dtype="float32")[[[0, 6], [1, 6], [6, 5]]]
    correct = keras.ops.convert_to_numpy(accuracy_of_first_labels(y_true, y_pred))
    assert correct.tolist() == [1, 1, 0]
    network, _, history = train(run, Recipe(epochs=1, batch_size=8))
    predictions = network.predict(VALIDATION.images, verbose=0)[:, 0].argmax(axis=1)
    assert history["val_accuracy"][0] == pytest.approx(
        (predictions == VALIDATION.labels).mean(), abs=1e-6
    )


def test_the_loss_is_the_cross_entropy_and_zero_targets_carry_no_weight(run):
    network, model, _ = train(run, Recipe(epochs=1, batch_size=8))
    y_true = VALIDATION.targets.copy()
    loss = model.evaluate(VALIDATION.images, y_true, verbose=0)[0]
    logarithms = np.log(network.predict(VALIDATION.images, verbose=0))
    assert loss == pytest.approx(-(y_true * logarithms).sum(axis=2).mean(), rel=1e-4)


def test_gradients_are_weighted_by_the_sum_of_the_targets():
    """On every backend, after a softmax too: none for zero targets."""
    y_true = np.zeros((1, 3, 7), "float32")
    y_true[0, 1] = np.eye(7)[2]
    y_true[0, 2] = 0.5 * np.eye(7)[2]
    inputs = keras.Input((1,))
    bias = keras.layers.Dense(21)
    outputs = keras.layers.Softmax()(keras.layers.Reshape((3, 7))(bias(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1.0), loss=crossentropy_of_label_sets)
    before = model.predict(np.zeros((1, 1)), verbose=0)
    model.fit(np.zeros((1, 1)), y_true, verbose=0)
    moved = bias.get_weights()[1].reshape(3, 7)
    np.testing.assert_array_equal(moved[0], 0)
    # The mean over three label sets of what a softmax's cross-entropy gives.
    expected = (np.eye(7)[2] - before[0, 1]) / 3
    np.testing.assert_allclose(moved[1], expected, atol=1e-6)
    np.testing.assert_allclose(moved[2], expected / 2, atol=1e-6)


def test_precision_is_of_the_numbers_not_of_the_weights():
    with computing_with("bfloat16"):
        model = build_model(TINY, ONE, for_training=True)
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    convolution = next(each for each in model.layers if "conv" in each.name)
    assert convolution.compute_dtype == "bfloat16"
    assert model.layers[-1].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kept_weights_of_a_large_network_are_read_back(tmp_path, precision):
    recipe = Recipe(optimizer="adamw", average_weights=0.9, precision=precision)
    with computing_with(precision):
        # So many weights that the room for the rest of the file is not enough.
        model = build_model(replace(TINY, dense=(150_000,)), ONE, for_training=True)
    compile_model(model, recipe, images=8)
    path = tmp_path / "epoch-0001.weights.h5"
    sha256 = save_weights(model, path)
    expected = model.get_weights()
    model.set_weights([np.zeros_like(each) for each in expected])
    load_kept_weights(model, path, sha256)
    for one, another in zip(model.get_weights(), expected, strict=True):
        assert np.array_equal(one, another)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_compiles(name):
    recipe = RECIPES[name]
    assert compiled(recipe).optimizer.built
