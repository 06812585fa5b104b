"""Which label set is predicted, and test-time augmentation against Pillow's views."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from scipy import ndimage

from emotion_cnn.data.classes import LABELS
from emotion_cnn.errors import ModelError
from emotion_cnn.inference.backends import keras_network
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.description import Network, NetworkDescription


def network(*, heads: int = 1, size: int = 48) -> KerasNetwork:
    """A network whose weights are random and depend on the number of heads."""
    description = NetworkDescription(label_sets=LABELS[:heads], input_size=size)
    top = [
        layers.Flatten(),
        layers.Dense(7 * heads),
        layers.Reshape(description.output_shape[1:]),
    ]
    pixels = [keras.Input((size, size, 1)), layers.Rescaling(1 / 255)]
    model = keras.Sequential([*pixels, *top, layers.Softmax()])
    generator = np.random.default_rng(heads)
    model.set_weights([generator.normal(0, 0.1, w.shape) for w in model.get_weights()])
    return KerasNetwork(Network(model, description))


@pytest.fixture(scope="module")
def one_head():
    return network()


@pytest.fixture(scope="module")
def two_heads():
    return network(heads=2)


@pytest.fixture(scope="module")
def images():
    shape = (5, 48, 48, 1)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def outputs(network: KerasNetwork, images: np.ndarray) -> np.ndarray:
    return network.network.model.predict(images.astype("float32"), verbose=0)


def flipped(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def ten_crops(images: np.ndarray) -> list[np.ndarray]:
    """The views as Pillow makes them, which knows nothing of Keras."""
    views = []
    for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
        crop = images[:, top : top + 44, left : left + 44, 0].astype("float32")
        crops = [Image.fromarray(each) for each in crop]
        resized = [each.resize((48, 48), Image.Resampling.BILINEAR) for each in crops]
        view = np.stack([np.asarray(each) for each in resized])[..., None]
        views += [view, flipped(view)]
    return views


def shifts(images: np.ndarray) -> list[np.ndarray]:
    """The views by SciPy, which names the continuation by reflection `reflect`."""
    return [
        view
        for move in ((0, 0), (0, 2), (0, -2), (2, 0), (-2, 0))
        for shifted in [ndimage.shift(images, (0, *move, 0), order=0, mode="reflect")]
        for view in (shifted, flipped(shifted))
    ]


def test_without_augmentation_the_networks_own_outputs_are_returned(one_head, images):
    found = predict(one_head, images, labels="original")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs(one_head, images), atol=1e-6)
    as_floats = predict(one_head, images.astype("float64"), labels="original")
    np.testing.assert_array_equal(as_floats, found)


@pytest.mark.parametrize("tta", VIEWS)
def test_each_label_set_has_its_head(two_heads, images, tta):
    both = [predict(two_heads, images, labels=each, tta=tta) for each in LABELS]
    assert [each.shape for each in both] == [(5, 7), (5, 7)]
    assert abs(both[0] - both[1]).max() > 0.01
    if tta == "none":
        expected = outputs(two_heads, images).swapaxes(0, 1)
        np.testing.assert_allclose(both, expected, atol=1e-6)


def test_one_head_predicts_any_label_set(one_head, images):
    original, ferplus = (predict(one_head, images, labels=each) for each in LABELS)
    np.testing.assert_array_equal(original, ferplus)


def test_a_label_set_that_the_network_lacks_is_an_error(two_heads, images):
    with pytest.raises(ModelError, match="original, ferplus; found 'crowd'"):
        predict(two_heads, images, labels="crowd")


@pytest.mark.parametrize("tta", VIEWS)
def test_images_have_the_size_of_the_network(tta):
    large = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 1), np.uint8)
    found = predict(network(size=60), large, labels="original", tta=tta)
    assert found.shape == (3, 7)


@pytest.mark.parametrize(
    ("tta", "views_of"),
    [
        ("flip", lambda given: [given, flipped(given)]),
        ("shift", shifts),
        ("ten-crop", ten_crops),
    ],
)
@pytest.mark.parametrize("heads", [1, 2])
def test_probabilities_are_averaged_over_the_views(images, tta, views_of, heads):
    model = network(heads=heads)
    found = predict(model, images, labels="ferplus", tta=tta)
    expected = np.mean([outputs(model, view) for view in views_of(images)], axis=0)
    expected = expected if heads == 1 else expected[:, 1]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(found - predict(model, images, labels="ferplus")).max() > 0.01
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("tta", ["flip", "shift", "ten-crop"])
def test_a_flipped_image_is_evaluated_the_same(one_head, images, tta):
    found, of_flipped_images = (
        predict(one_head, each, labels="original", tta=tta)
        for each in (images, flipped(images))
    )
    np.testing.assert_allclose(of_flipped_images, found, atol=1e-6)


@pytest.mark.parametrize("tta", VIEWS)
def test_batches_are_bounded_and_do_not_show(one_head, images, tta, monkeypatch):
    many = np.concatenate([images] * 11)
    whole = predict(one_head, many, labels="original", tta=tta)
    # Another one, which has not yet said how many images it predicts at a time.
    again = KerasNetwork(one_head.network)
    sizes = []
    predict_on_batch = again.network.model.predict_on_batch

    def noting_the_size(views):
        sizes.append(len(views))
        return predict_on_batch(views)

    monkeypatch.setattr(keras_network, "BATCH_SIZE", 20)
    monkeypatch.setattr(again.network.model, "predict_on_batch", noting_the_size)
    in_batches = predict(again, many, labels="original", tta=tta)
    assert len(sizes) > 1
    assert max(sizes) == 20
    np.testing.assert_allclose(in_batches, whole, atol=1e-6)
    np.testing.assert_allclose(in_batches[5:10], in_batches[:5], atol=1e-6)
