"""Explanations, of networks whose predictions are known to come from one quarter."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import emotion_cnn
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import sample_test
from emotion_cnn.errors import ConfigError, DataError, MissingPackageError, ModelError
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.classifier import Classifier
from emotion_cnn.inference.defaults import EXPLANATION_METHODS as METHODS
from emotion_cnn.inference.detection import Detection
from emotion_cnn.inference.explanation import heat_map
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

QUARTERS = {
    "top left": (slice(0, 24), slice(0, 24)),
    "top right": (slice(0, 24), slice(24, 48)),
    "bottom left": (slice(24, 48), slice(0, 24)),
    "bottom right": (slice(24, 48), slice(24, 48)),
}
CLASSES = tuple(QUARTERS)


def by_quarters(*, heads: int = 1, strength: float = 1.0, size: int = 48) -> Network:
    """A network whose n-th class is the more probable, the brighter the n-th quarter.

    Its second label set has the classes in reverse.
    """
    description = NetworkDescription(CLASSES, ("original", "ferplus")[:heads], size)
    inputs = keras.Input((size, size, 1))
    outputs = layers.Rescaling(1 / 255)(inputs)
    outputs = layers.Conv2D(2, 1, activation="relu")(outputs)
    outputs = layers.AveragePooling2D(2)(outputs)
    outputs = layers.Conv2D(2, 1, activation="relu")(outputs)
    outputs = layers.AveragePooling2D(size // 4)(outputs)
    outputs = layers.Flatten()(outputs)
    outputs = layers.Dense(4 * heads, use_bias=False)(outputs)
    outputs = layers.Reshape(description.output_shape[1:])(outputs)
    model = keras.Model(inputs, layers.Softmax()(outputs))
    of_quarters = strength * np.repeat(np.eye(4), 2, axis=0)
    dense = np.concatenate([of_quarters, of_quarters[:, ::-1]], axis=1)[:, : 4 * heads]
    identity = np.eye(2)[np.newaxis, np.newaxis]
    model.set_weights(
        [np.ones((1, 1, 1, 2)), np.zeros(2), identity, np.zeros(2), dense]
    )
    return Network(model, description)


@pytest.fixture(scope="module")
def classifier():
    return Classifier(KerasNetwork(by_quarters(heads=2)))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(100, 200, (48, 48), np.uint8)


def share_in(relevance: np.ndarray, quarter: str) -> float:
    rows, columns = QUARTERS[quarter]
    return relevance[rows, columns].sum() / relevance.sum()


# --- Both methods ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("quarter", CLASSES)
def test_what_speaks_for_a_class_is_found(classifier, image, method, quarter):
    image = image.copy()
    # Occlusion hides by the mean, so there must be something brighter to hide.
    image[QUARTERS[quarter]] += 50
    relevance = classifier.explain(image, method=method, emotion=quarter)
    assert relevance.dtype == np.float32
    assert relevance.shape == (48, 48)
    assert relevance.min() >= 0
    assert relevance.max() == 1
    # Occlusion's patches reach over borders, and brighten what they hide elsewhere.
    assert share_in(relevance, quarter) > {"layercam": 0.95, "occlusion": 0.6}[method]


@pytest.mark.parametrize("method", METHODS)
def test_the_class_explained_is_the_most_probable_unless_named(
    classifier, image, method
):
    image = image.copy()
    image[QUARTERS["top right"]] += 50
    for labels, decided in (("original", "top right"), ("ferplus", "bottom left")):
        found = classifier.explain(image, method=method, labels=labels)
        named = classifier.explain(image, method=method, labels=labels, emotion=decided)
        np.testing.assert_array_equal(found, named)
        assert share_in(found, "top right") > 0.6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strength", [0.0, -1.0])
def test_where_nothing_speaks_for_a_class_the_map_is_zero(method, strength):
    classifier = Classifier(KerasNetwork(by_quarters(strength=strength)))
    uniform = np.full((48, 48), 128, np.uint8)
    found = classifier.explain(uniform, method=method, emotion="top left")
    if method == "layercam" and strength < 0:
        # The three other quarters speak against the other three classes.
        assert share_in(found, "top left") < 0.05
    else:
        np.testing.assert_array_equal(found, np.zeros((48, 48), np.float32))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [24, 60])
def test_maps_have_the_size_of_the_network(method, size):
    classifier = Classifier(KerasNetwork(by_quarters(size=size)))
    face = np.full((80, 80, 3), 100, np.uint8)
    face[:40, :40] = 200
    found = classifier.explain(face, method=method, emotion="top left")
    assert found.shape == (size, size)
    assert found[: size // 2, : size // 2].sum() > 0.5 * found.sum()


@pytest.mark.parametrize("method", METHODS)
def test_explaining_changes_nothing(classifier, image, method):
    before = classifier.predict(image)
    first = classifier.explain(image, method=method)
    np.testing.assert_array_equal(classifier.explain(image, method=method), first)
    np.testing.assert_array_equal(classifier.predict(image), before)


# --- LayerCAM ---


def test_the_shipped_network_is_explained_by_all_of_its_weights():
    network = read_pair(shipped_folder())
    classifier = Classifier(KerasNetwork(network))
    face = sample_test().images[0, :, :, 0]
    happy, sad = (classifier.explain(face, emotion=each) for each in ("happy", "sad"))
    assert np.corrcoef(happy.ravel(), sad.ravel())[0, 1] < 0.9
    last = network.model.get_layer("emotions")
    last.set_weights([np.roll(each, 1, axis=-1) for each in last.get_weights()])
    shuffled = classifier.explain(face, emotion="happy")
    assert np.corrcoef(happy.ravel(), shuffled.ravel())[0, 1] < 0.9


def test_gradients_are_left_where_the_network_is_certain(image):
    certain, unsure = (
        Classifier(KerasNetwork(by_quarters(strength=strength)))
        for strength in (20.0, 1.0)
    )
    image = image // 4
    image[QUARTERS["bottom right"]] = 255
    assert certain.predict(image)[0, 3] == 1
    assert unsure.predict(image)[0, 3] < 0.9
    for emotion in ("bottom right", "top left"):
        found, expected = (
            each.explain(image, emotion=emotion) for each in (certain, unsure)
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_pixels_are_scaled_as_the_network_takes_them(image):
    description = NetworkDescription(CLASSES, input_range=(0, 1))
    network = by_quarters(strength=3.0)
    layer = network.model.layers[1]
    layer.scale = 1.0
    scaled = Classifier(
        KerasNetwork(dataclasses.replace(network, description=description))
    )
    np.testing.assert_allclose(
        scaled.explain(image, emotion="top left"),
        Classifier(KerasNetwork(by_quarters(strength=3.0))).explain(
            image, emotion="top left"
        ),
        atol=1e-5,
    )


def small_maps() -> keras.Model:
    inputs = keras.Input((48, 48, 1))
    outputs = layers.Conv2D(3, 4, strides=4)(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, layers.Dense(7, "softmax")(layers.Flatten()(outputs)))


def bypassed() -> keras.Model:
    inputs = keras.Input((48, 48, 1))
    pixels = layers.Rescaling(1 / 255)(inputs)
    maps = layers.Conv2D(3, 3, strides=2, padding="same")(pixels)
    both = [layers.Flatten()(maps), layers.Flatten()(pixels)]
    return keras.Model(inputs, layers.Dense(7, "softmax")(layers.Concatenate()(both)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (small_maps, "a layer of several maps of at least 24x24 for `layercam`"),
        (bypassed, "that follow the one of 24x24 to depend on it alone"),
    ],
)
def test_a_network_without_the_layer_is_explained_by_occlusion(build, words, image):
    classifier = Classifier(KerasNetwork(Network(build(), NetworkDescription())))
    with pytest.raises(ModelError, match=words) as caught:
        classifier.explain(image)
    assert "by `occlusion`" in str(caught.value)
    assert classifier.explain(image, method="occlusion").max() == 1


# --- What is asked for ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "lime"}, "`method` is one of layercam, occlusion; found 'lime'"),
        ({"emotion": "left"}, "`emotion` is one of top left, top right, bottom left"),
        ({"labels": "votes"}, "`labels` is one of original, ferplus; found 'votes'"),
    ],
)
def test_unknown_settings_of_explain(classifier, image, settings, words):
    with pytest.raises(ConfigError, match=words):
        classifier.explain(image, **settings)


def test_one_face_is_explained_at_a_time(classifier, image):
    with pytest.raises(DataError, match="Expected one face, found 2"):
        classifier.explain([image, image])


def test_a_heat_map_leaves_alone_what_says_nothing(image):
    relevance = np.zeros((48, 48), np.float32)
    relevance[10, 20] = 1
    for face in (image, np.repeat(image[..., np.newaxis], 3, axis=2)):
        found = heat_map(face, relevance)
        assert found.dtype == np.uint8
        assert found.shape == (48, 48, 3)
        changed = (found != image[..., np.newaxis]).any(axis=2)
        assert changed[10, 20]
        assert changed.sum() == 1


# --- Classifier.analyze ---


class InTheMiddle:
    def detect(self, photo):
        height, width = photo.shape[:2]
        box = (width / 2 - 10, height / 2 - 10, width / 2 + 10, height / 2 + 10)
        return [Detection(box, 0.9)]


@pytest.fixture
def photo():
    return np.random.default_rng(3).integers(0, 256, (50, 70, 3), np.uint8)


def test_a_photo_is_a_path_an_array_or_a_pillow_image(classifier, photo, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    found = [
        classifier.analyze(each, detector=InTheMiddle())
        for each in (photo, path, str(path), Image.fromarray(photo))
    ]
    for (face,) in found:
        np.testing.assert_array_equal(face.image, found[0][0].image)
        assert face.box == (25, 15, 45, 35)
        np.testing.assert_allclose(face.explain(), classifier.explain(face.image))


def test_a_pillow_image_is_turned_upright_as_a_file_is(classifier, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path, exif=exif)
    with Image.open(path) as opened:
        (of_image,) = classifier.analyze(opened, detector=InTheMiddle())
    (of_file,) = classifier.analyze(path, detector=InTheMiddle())
    assert of_image.box == of_file.box == (15, 25, 35, 45)
    np.testing.assert_array_equal(of_image.image, of_file.image)


def test_a_gray_photo_is_one_too(classifier, photo):
    gray = np.asarray(Image.fromarray(photo).convert("L"))
    for each in (gray, gray[..., np.newaxis], Image.fromarray(gray)):
        (face,) = classifier.analyze(each, detector=InTheMiddle())
        assert face.image.std() > 0


def test_a_cropped_face_is_the_whole_image(classifier, image):
    (face,) = classifier.analyze(image, faces="cropped", labels="ferplus")
    assert face.box is None
    np.testing.assert_array_equal(face.image, image)
    np.testing.assert_array_equal(
        face.probabilities, classifier.predict(image, labels="ferplus")[0]
    )
    np.testing.assert_array_equal(
        face.explain("occlusion"),
        classifier.explain(image, method="occlusion", labels="ferplus"),
    )


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (3, "found int"),
        (np.zeros((50, 70, 3)), "Expected uint8"),
        (np.zeros((2, 50, 70, 3), np.uint8), "Pass several one by one"),
        (np.zeros((50, 70, 2), np.uint8), "found one of shape (50, 70, 2)"),
        (np.zeros((0, 70, 3), np.uint8), "found one of shape (0, 70, 3)"),
        ("nowhere.png", "found nowhere.png, which cannot be read: No such file"),
        (".", "which cannot be read: not a regular file"),
    ],
)
def test_what_is_no_photo_says_what_to_pass(classifier, photo, words):
    with pytest.raises(DataError) as caught:
        classifier.analyze(photo, detector=InTheMiddle())
    assert words in str(caught.value)


def test_unknown_settings_of_analyze(classifier, photo):
    for settings, words in (
        ({"faces": "all"}, "`faces` is one of detect, cropped; found 'all'"),
        ({"labels": "votes"}, "`labels` is one of original, ferplus; found 'votes'"),
        ({"tta": "five"}, "`tta` is one of none, flip, shift, ten-crop; found 'five'"),
        ({"unsure_below": 2}, "`unsure_below` is a probability from 0 to 1; found 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            classifier.analyze(photo, **settings)


def test_the_detector_is_yunet_by_default(photo):
    classifier = emotion_cnn.load()
    try:
        found = classifier.analyze(photo)
    except MissingPackageError:
        pytest.skip("the detector is not installed")
    assert found == []
    assert classifier.classes == EMOTIONS
