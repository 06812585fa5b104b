"""Training batches: every image once, flipped at random, the same for a seed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras._tf_keras.keras.preprocessing import image as keras_image

from emotion_cnn.data import batches
from emotion_cnn.data.batches import (
    BatchesInOrder,
    TrainingBatches,
    shuffled_by_blocks,
)
from emotion_cnn.data.rows import Rows
from emotion_cnn.data.splits import Split, one_hot, targets


def numbered_images(count: int) -> Split:
    """Image k is black but for gray level k + 1 in its left column."""
    images = np.zeros((count, 48, 48, 1), np.uint8)
    images[:, :, 0, 0] = np.arange(1, count + 1)[:, np.newaxis]
    # A label that follows from the number: an image parted from it shows.
    labels = np.arange(count, dtype=np.int64) * 3 % 7
    return Split(images, labels, tuple(f"train/{k}" for k in range(count)))


def batches_of(count: int, *, batch_size=8, flip=True, seed=1, epoch=0):
    batches = TrainingBatches(
        numbered_images(count), batch_size=batch_size, flip=flip, seed=seed
    )
    batches.start_epoch(epoch)
    return batches


def read(batches: TrainingBatches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns numbers, whether flipped, and targets of a whole epoch, in order."""
    pairs = [batches[index] for index in range(len(batches))]
    images = np.concatenate([images for images, _ in pairs])
    labels = np.concatenate([y_true[:, 0] for _, y_true in pairs])
    return images.max(axis=(1, 2, 3)) - 1, images[:, 0, -1, 0] > 0, labels


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_hot():
    encoded = one_hot(np.array([2, 0]), 3)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_targets_have_an_axis_for_label_sets_and_one_for_the_splits_classes():
    images, labels = np.zeros((2, 48, 48, 1), np.uint8), np.array([1, 0])
    split = Split(images, labels, ("a", "b"), classes=("calm", "excited", "tired"))
    assert targets(split).tolist() == [[[0, 1, 0]], [[1, 0, 0]]]
    soft = np.full((2, 2, 3), 1 / 3, np.float32)
    assert targets(replace(split, targets=soft)) is soft


@settings(deadline=None, max_examples=50, database=None)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(2, 70),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 100_000),
)
def test_every_image_once_an_epoch_with_its_label(count, batch_size, seed, epoch):
    batches = batches_of(count, batch_size=batch_size, seed=seed, epoch=epoch)
    numbers, _, labels = read(batches)
    assert sorted(numbers) == list(range(count))
    assert labels.argmax(axis=1).tolist() == (numbers * 3 % 7).tolist()
    assert len(batches) == -(-count // batch_size)


def test_batches_are_full_but_for_the_last():
    batches = batches_of(21, batch_size=8)
    assert len(batches) == 3
    for index, size in enumerate((8, 8, 5)):
        images, labels = batches[index]
        assert (images.shape, labels.shape) == ((size, 48, 48, 1), (size, 1, 7))


def test_raw_gray_values_come_out_as_float32():
    images, labels = batches_of(200, batch_size=200)[0]
    assert images.dtype == labels.dtype == np.float32
    assert images.max() == 200


def test_about_half_is_flipped():
    batches = batches_of(250, batch_size=16)
    flipped = []
    for epoch in range(4):
        batches.start_epoch(epoch)
        flipped.append(read(batches)[1])
    # 1000 throws of a coin: eight standard deviations around 500.
    assert 370 < np.sum(flipped) < 630
    assert all(80 < each.sum() < 170 for each in flipped)


def test_a_flipped_image_is_the_image_flipped():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 48, 1), np.uint8)
    labels = np.zeros(40, np.int64)
    split = Split(pixels, labels, tuple(map(str, range(40))))
    images, _ = TrainingBatches(split, batch_size=40, seed=0)[0]
    originals = {each.tobytes() for each in pixels.astype("float32")}
    as_they_are = [each.tobytes() in originals for each in images]
    turned = [each[:, ::-1].tobytes() in originals for each in images]
    assert [not each for each in as_they_are] == turned
    assert any(as_they_are)
    assert any(turned)


def test_without_flip_none_is_flipped():
    assert not read(batches_of(250, flip=False))[1].any()


def test_the_order_is_shuffled_and_differs_by_epoch_and_seed():
    orders = [
        tuple(read(batches_of(50, seed=seed, epoch=epoch))[0])
        for seed in (1, 2)
        for epoch in (0, 1, 2)
    ]
    assert len({*orders, tuple(range(50))}) == 7


def test_flipping_differs_by_epoch_seed_and_batch():
    def flipped(seed, epoch):
        numbers, turned, _ = read(batches_of(64, batch_size=16, seed=seed, epoch=epoch))
        return turned, turned[np.argsort(numbers)]

    in_order, by_image = flipped(1, 0)
    assert len({tuple(batch) for batch in in_order.reshape(4, 16)}) == 4
    assert not np.array_equal(by_image, flipped(1, 1)[1])
    assert not np.array_equal(by_image, flipped(2, 0)[1])


def test_a_batch_depends_on_seed_epoch_and_number_alone():
    expected = [batches_of(50, epoch=3)[index] for index in range(7)]
    other = batches_of(50)
    for epoch in (0, 1, 3):
        other.start_epoch(epoch)
        other[4]
    np.random.seed(123)
    for index in (6, 0, 3, 3, 1, 5, 2, 4, 0):
        assert same(other[index], expected[index])
        np.random.random(index)


def test_several_threads_get_the_same_batches():
    batches = batches_of(250, batch_size=8)
    expected = [batches[index] for index in range(len(batches))]
    order = np.random.default_rng(0).permutation(8 * list(range(len(batches))))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: batches[int(index)], order))
    assert all(
        same(batch, expected[index]) for batch, index in zip(found, order, strict=True)
    )


@pytest.mark.parametrize("flip", [True, False])
def test_keras_generator_decides_on_each_image_and_changes_none(monkeypatch, flip):
    """Changing them one by one takes it longer than a GPU takes to train on them."""
    made, asked = [], []
    assert batches.ImageDataGenerator is keras_image.ImageDataGenerator

    class Recording(keras_image.ImageDataGenerator):
        def __init__(self, **options):
            made.append(options)
            super().__init__(**options)

        def get_random_transform(self, img_shape, seed=None):
            asked.append(img_shape)
            return super().get_random_transform(img_shape, seed)

        def apply_transform(self, x, transform_parameters):
            raise AssertionError("an image on its own")

    monkeypatch.setattr(batches, "ImageDataGenerator", Recording)
    read(batches_of(20, flip=flip))
    assert made == [{"horizontal_flip": flip}]
    assert asked == 20 * [(48, 48, 1)]


def mixed(count: int = 64, **settings):
    """Returns the images and targets of one batch, numbers in all pixels."""
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    split = Split(
        np.broadcast_to(images, (count, 48, 48, 1)),
        np.arange(count) % 7,
        tuple(map(str, range(count))),
    )
    batches = TrainingBatches(split, batch_size=count, seed=3, **settings)
    again = TrainingBatches(split, batch_size=count, seed=3, **settings)
    assert same(batches[0], again[0])
    mixed_images, y_true = batches[0]
    return mixed_images, y_true[:, 0]


def test_mixup_blends_images_and_labels_alike():
    images, y_true = mixed(mixup=1.0)
    assert (images == images[:, :1, :1]).all()
    assert len(np.unique(images)) > 7
    np.testing.assert_allclose(y_true.sum(axis=1), 1, atol=1e-6)
    shares = np.unique(y_true[(y_true > 0).sum(axis=1) == 2].round(5))
    # Zeros, and the two shares of this batch, which are one together.
    assert len(shares) == 3
    assert shares[1] + shares[2] == pytest.approx(1, abs=1e-4)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    images, y_true = mixed(cutmix=1.0)
    for image, target in zip(images[..., 0], y_true, strict=True):
        numbers, pixels = np.unique(image, return_counts=True)
        expected = np.zeros(7)
        np.add.at(expected, numbers.astype(int) % 7, pixels / 48**2)
        np.testing.assert_allclose(target, expected, atol=1e-6)
    own = images[:, :1, :1] == images
    inside = ~own[own.mean(axis=(1, 2, 3)) < 1][0, :, :, 0]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(rows) * len(columns)


def test_with_both_the_batches_take_turns():
    split = numbered_images(64)
    batches = TrainingBatches(split, batch_size=2, mixup=1.0, cutmix=1.0, seed=0)
    blended = [(batches[k][0].max(axis=(1, 2, 3)) % 1 > 0).any() for k in range(32)]
    assert 4 < sum(blended) < 28


def test_smoothing_spreads_labels_and_leaves_soft_labels_alone():
    split = numbered_images(4)
    votes = np.array([[0.5, 0.5, 0, 0, 0, 0, 0], np.zeros(7)] * 2, np.float32)
    both = np.stack([one_hot(split.labels, 7), votes], axis=1)
    with_votes = replace(split, targets=both)
    options = {"batch_size": 4, "flip": False, "label_smoothing": 0.14, "seed": 0}
    images, y_true = TrainingBatches(with_votes, **options)[0]
    order = images.max(axis=(1, 2, 3)).astype(int) - 1
    np.testing.assert_allclose(y_true[:, 0].max(axis=1), 0.86 + 0.02, atol=1e-6)
    np.testing.assert_allclose(y_true[:, 0].min(axis=1), 0.02, atol=1e-6)
    np.testing.assert_array_equal(y_true[:, 1], votes[order])


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_balance_evens_out_how_often_classes_come(balance, share):
    images = np.zeros((1000, 48, 48, 1), np.uint8)
    labels = np.repeat([1, 3], [100, 900])
    split = Split(images, labels, tuple(map(str, range(1000))))
    batches = TrainingBatches(split, batch_size=1000, balance=balance, seed=0)
    y_true = batches[0][1]
    assert y_true[:, 0, 1].mean() == pytest.approx(share, abs=0.05 if balance else 0)


def noise(count: int = 150) -> Split:
    generator = np.random.default_rng(5)
    images = generator.integers(0, 256, (count, 48, 48, 1), np.uint8)
    return Split(images, generator.integers(0, 7, count), tuple(map(str, range(count))))


@pytest.mark.parametrize("flip", [True, False])
def test_batches_are_those_of_one_flow_over_all_images(flip):
    """What Keras' generator makes of all images in memory, as float32."""
    split, seed, epoch = noise(), 11, 2
    entropy = np.random.SeedSequence([seed, epoch])
    flow = keras_image.ImageDataGenerator(horizontal_flip=flip).flow(
        split.images.astype("float32"), targets(split), batch_size=32
    )
    flow.index_array = np.random.default_rng(entropy).permutation(len(split))
    flow.seed = int(entropy.generate_state(1)[0] >> 1)
    expected = [flow[index] for index in range(len(flow))]
    made = TrainingBatches(split, batch_size=32, seed=seed, flip=flip)
    made.start_epoch(epoch)
    assert len(made) == len(expected)
    found = [made[index] for index in range(len(made))]
    assert all(map(same, found, expected))
    assert all(images.dtype == np.float32 for images, _ in found)


@pytest.mark.parametrize("options", [{}, {"by_blocks": True}, {"balance": 0.7}])
def test_rows_of_a_map_make_the_batches_of_an_array(tmp_path, options):
    split = noise()
    np.save(tmp_path / "images.npy", split.images[::-1])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = replace(split, images=Rows(mapped, np.arange(150)[::-1]))
    one, other = (
        TrainingBatches(each, batch_size=32, seed=1, mixup=0.4, **options)
        for each in (split, rows)
    )
    assert all(same(one[index], other[index]) for index in range(len(one)))


def test_no_copy_of_all_images_is_made():
    everything = np.broadcast_to(np.zeros(1, np.uint8), (10**9, 48, 48, 1))
    positions = np.arange(0, 10**9, 10**7)
    labels, names = np.arange(100) % 7, tuple(map(str, range(100)))
    split = Split(Rows(everything, positions), labels, names).select(slice(3, None))
    assert TrainingBatches(split, batch_size=32, seed=1)[0][0].shape == (32, 48, 48, 1)
    assert BatchesInOrder(split, batch_size=32)[0][0].shape == (32, 48, 48, 1)


def test_batches_in_order():
    split = noise(70)
    made = BatchesInOrder(split, batch_size=32)
    found = [made[index] for index in range(len(made))]
    assert [len(images) for images, _ in found] == [32, 32, 6]
    assert all(images.dtype == np.uint8 for images, _ in found)
    assert np.array_equal(np.concatenate([each[0] for each in found]), split.images)
    assert np.array_equal(np.concatenate([each[1] for each in found]), targets(split))
    with pytest.raises(IndexError):
        made[3]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200_001])
def test_an_order_by_blocks_has_every_image_once(count):
    order = shuffled_by_blocks(count, np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(count))
    again = shuffled_by_blocks(count, np.random.default_rng(0))
    assert np.array_equal(order, again)


def test_an_order_by_blocks_reads_whole_blocks_and_mixes_them():
    order = shuffled_by_blocks(640_000, np.random.default_rng(0))
    assert not np.array_equal(
        order, shuffled_by_blocks(640_000, np.random.default_rng(1))
    )
    window = order[:65_536]
    blocks, counts = np.unique(window // 64, return_counts=True)
    assert (counts == 64).all()
    # From everywhere, and hardly two images of a batch from one block.
    assert 0.4 < blocks.mean() / 10_000 < 0.6
    assert all(
        len(np.unique(window[k : k + 128] // 64)) > 100 for k in range(0, 9000, 128)
    )


def test_balanced_draws_by_blocks_are_the_same_images():
    options = {"batch_size": 150, "flip": False, "balance": 1.0, "seed": 4}
    plain, blocks = (
        TrainingBatches(numbered_images(150), by_blocks=by_blocks, **options)[0][0]
        for by_blocks in (False, True)
    )
    plain, blocks = (each.max(axis=(1, 2, 3)) for each in (plain, blocks))
    # The same generator shuffles the blocks after it has drawn the images.
    assert sorted(plain) == sorted(blocks) != list(range(1, 151))
