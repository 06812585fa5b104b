"""Training steps in one loop on the device: on JAX, the same as one by one."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emotion_cnn.data.batches import TrainingBatches
from emotion_cnn.data.splits import Split
from emotion_cnn.models.architectures import Architecture, Convolution
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import NetworkDescription
from emotion_cnn.training import fitting
from emotion_cnn.training.augmentation import with_augmentation
from emotion_cnn.training.callbacks import StopAtNonFiniteLoss
from emotion_cnn.training.device_loop import steps_per_execution
from emotion_cnn.training.fitting import compile_model, fit, fix_randomness
from emotion_cnn.training.losses import crossentropy_of_label_sets
from emotion_cnn.training.recipes import RECIPES
from emotion_cnn.training.run_folder import RunFolder

TINY = Architecture(blocks=((Convolution(2),),), dense=(4,), average=True)
RECIPE = replace(
    RECIPES["teacher"],
    epochs=3,
    warmup_epochs=1,
    batch_size=8,
    average_weights=0.9,
    precision="float32",
    sizes=((32, 2 / 3), (48, 1 / 3)),
)


def noise(count: int, seed: int) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 7
    return Split(images, labels, tuple(f"train/{place}" for place in range(count)))


def compiled(*, steps: int) -> keras.Model:
    network = build_model(TINY, NetworkDescription(), for_training=True)
    model = with_augmentation(network, RECIPE, image_size=48)
    compile_model(model, RECIPE, images=40, steps_per_execution=steps)
    return model


def history_of(folder, monkeypatch, *, steps: int) -> dict:
    monkeypatch.setattr(fitting, "LiveChart", lambda *_: keras.callbacks.Callback())
    folder.mkdir()
    fix_randomness(1)
    model = compiled(steps=steps)
    # 40 images are five batches: the last execution has fewer steps than the first.
    options = {"recipe": RECIPE, "seed": 1, "tensorboard": False}
    return fit(model, noise(40, 0), noise(14, 1), run=RunFolder(folder), **options)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="for JAX alone")
def test_steps_in_a_loop_train_as_one_by_one(tmp_path, monkeypatch):
    looped = history_of(tmp_path / "looped", monkeypatch, steps=3)
    single = history_of(tmp_path / "single", monkeypatch, steps=1)
    assert looped.keys() == single.keys()
    for name, values in single.items():
        np.testing.assert_allclose(looped[name], values, rtol=1e-4, err_msg=name)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="for JAX alone")
def test_between_start_and_end_of_a_loop_the_next_batches_are_made(
    tmp_path, monkeypatch
):
    happened = []

    class Recording(TrainingBatches):
        def start_epoch(self, epoch):
            super().start_epoch(epoch)
            happened.clear()

        def __getitem__(self, index):
            happened.append(index)
            return super().__getitem__(index)

    def loss(*arguments):
        # Asked for when a loop is started the first time, as in the last epoch, whose
        # images are of another size.
        if happened[-1] != "started":
            happened.append("started")
        return crossentropy_of_label_sets(*arguments)

    class Waiting(StopAtNonFiniteLoss):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            happened.append(f"waited for {batch}")

    monkeypatch.setattr(fitting, "crossentropy_of_label_sets", loss)
    monkeypatch.setattr(fitting, "TrainingBatches", Recording)
    monkeypatch.setattr(fitting, "StopAtNonFiniteLoss", Waiting)
    history_of(tmp_path / "looped", monkeypatch, steps=2)
    # Of the last epoch: nothing is made ahead for another.
    waits = ["waited for 1", "waited for 3", "waited for 5"]
    assert happened == [0, 1, "started", 2, 3, waits[0], 4, waits[1], waits[2]]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="for JAX alone")
def test_batches_of_a_loop_that_end_before_they_were_expected_to():
    model = compiled(steps=3)
    batches = TrainingBatches(noise(32, 0), batch_size=8, seed=1)
    few = (batches[index] for index in range(len(batches)))
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(few, steps_per_epoch=10, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="for JAX alone")
def test_an_error_in_the_batches_of_a_loop_is_told():
    model = compiled(steps=2)
    batches = TrainingBatches(noise(32, 0), batch_size=8, seed=1)

    def broken():
        yield from (batches[index] for index in range(2))
        raise OSError("an image that cannot be read")

    with pytest.raises(OSError, match="an image that cannot be read"):
        model.fit(broken(), steps_per_epoch=10, shuffle=False, verbose=0)
    # What was trained before it is kept.
    assert int(model.optimizer.iterations) == 2


def test_a_cpu_runs_one_step_at_a_time():
    assert steps_per_execution() == 1


@pytest.mark.parametrize(("images", "batch_size"), [(20, 8), (16, 8), (3, 8)])
def test_batches_of_one_shape_hold_every_image(images, batch_size):
    split = noise(images, 0)
    batches = TrainingBatches(
        split, batch_size=batch_size, seed=1, flip=False, one_shape=True
    )
    found = [batches[index] for index in range(len(batches))]
    assert {len(pixels) for pixels, _ in found} == {batch_size}
    assert len(found) == -(-images // batch_size)
    seen = {pixels.astype("uint8").tobytes() for each, _ in found for pixels in each}
    assert seen == {image.tobytes() for image in split.images}
