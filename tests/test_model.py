"""The networks: what they are made of, and what goes in and comes out."""

import numpy as np
import pytest

from emotion_cnn.config import MODELS
from emotion_cnn.model import ARCHITECTURES, Architecture, Convolution, build_model

UNIT = ["BatchNormalization", "ReLU"]
BLOCK_END = ["MaxPooling2D", "Dropout"]
DENSE = 2 * ["Dense", *UNIT, "Dropout"]


@pytest.fixture(scope="module")
def models():
    return {name: build_model(each) for name, each in ARCHITECTURES.items()}


@pytest.fixture(scope="module")
def baseline(models):
    return models["baseline"]


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)


def layers_of(model, kind: str) -> list:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


def test_config_offers_exactly_the_architectures():
    assert tuple(ARCHITECTURES) == MODELS


@pytest.mark.parametrize(
    ("name", "count"), [("baseline", 4_478_727), ("compact", 625_655)]
)
def test_parameter_count(models, name, count):
    assert models[name].count_params() == count


@pytest.mark.parametrize(("name", "convolutions"), [("baseline", 1), ("compact", 2)])
def test_layer_order(models, name, convolutions):
    block = convolutions * ["Conv2D", *UNIT] + BLOCK_END
    assert [type(layer).__name__ for layer in models[name].layers] == [
        "InputLayer",
        "Rescaling",
        *(4 * block),
        "Flatten",
        *DENSE,
        "Dense",
    ]


def test_baseline_convolutions(baseline):
    convolutions = layers_of(baseline, "Conv2D")
    assert [each.filters for each in convolutions] == [64, 128, 512, 512]
    assert [each.kernel_size[0] for each in convolutions] == [3, 5, 3, 3]
    for each in convolutions:
        assert each.kernel_size[0] == each.kernel_size[1]
        assert (each.padding, each.strides) == ("same", (1, 1))


@pytest.mark.parametrize(
    ("name", "units"), [("baseline", [256, 512, 7]), ("compact", [256, 128, 7])]
)
def test_dense_layers(models, name, units):
    dense = layers_of(models[name], "Dense")
    assert [each.units for each in dense] == units
    assert [each.activation.__name__ for each in dense] == [
        "linear",
        "linear",
        "softmax",
    ]


def test_compact_convolutions(models):
    convolutions = layers_of(models["compact"], "Conv2D")
    assert [c.filters for c in convolutions] == [16, 16, 32, 32, 64, 64, 128, 128]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}


@pytest.mark.parametrize("name", MODELS)
def test_pooling_and_dropout(models, name):
    pools = layers_of(models[name], "MaxPooling2D")
    assert {(each.pool_size, each.strides) for each in pools} == {((2, 2), (2, 2))}
    assert {each.rate for each in layers_of(models[name], "Dropout")} == {0.25}


@pytest.mark.parametrize("name", MODELS)
def test_raw_pixels_in_probabilities_out(models, name, pictures):
    probabilities = models[name].predict_on_batch(pictures)
    assert probabilities.shape == (5, 7)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    as_floats = models[name].predict_on_batch(pictures.astype("float32"))
    np.testing.assert_allclose(as_floats, probabilities, rtol=1e-6)


def test_rescaling_maps_gray_levels_to_0_1(baseline):
    (rescaling,) = layers_of(baseline, "Rescaling")
    scaled = np.asarray(rescaling(np.array([0, 51, 255], np.uint8)))
    np.testing.assert_allclose(scaled, [0, 0.2, 1], rtol=1e-6)


def test_another_architecture_is_only_data():
    sizes = ((Convolution(2), Convolution(3, kernel=1)), (Convolution(4, kernel=5),))
    model = build_model(Architecture(blocks=sizes, dense=(6,), dropout=0.5))
    convolutions = layers_of(model, "Conv2D")
    assert [c.filters for c in convolutions] == [2, 3, 4]
    assert [c.kernel_size for c in convolutions] == [(3, 3), (1, 1), (5, 5)]
    assert len(layers_of(model, "MaxPooling2D")) == 2
    assert [each.units for each in layers_of(model, "Dense")] == [6, 7]
    assert {each.rate for each in layers_of(model, "Dropout")} == {0.5}
