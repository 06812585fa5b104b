"""The networks: what they are made of, and what goes in and comes out."""

import keras
import numpy as np
import pytest

from emotion_cnn.errors import ModelError
from emotion_cnn.models.architectures import (
    ARCHITECTURES,
    MODELS,
    Architecture,
    Convolution,
)
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.layers import FusedBatchNormalization
from emotion_cnn.models.weights import divide_logits, start_from

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
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)


def layers_of(model, kind: str) -> list:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


def test_config_offers_exactly_the_architectures():
    assert tuple(ARCHITECTURES) == MODELS


@pytest.mark.parametrize(
    ("name", "count"),
    [("baseline", 4_478_727), ("compact", 625_655), ("residual", 3_114_031)],
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


@pytest.mark.parametrize("name", ["baseline", "compact"])
def test_pooling_and_dropout(models, name):
    pools = layers_of(models[name], "MaxPooling2D")
    assert {(each.pool_size, each.strides) for each in pools} == {((2, 2), (2, 2))}
    assert {each.rate for each in layers_of(models[name], "Dropout")} == {0.25}


@pytest.mark.parametrize("name", MODELS)
def test_raw_pixels_in_probabilities_out(models, name, images):
    probabilities = models[name].predict_on_batch(images)
    assert probabilities.shape == (5, 7)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    as_floats = models[name].predict_on_batch(images.astype("float32"))
    np.testing.assert_allclose(as_floats, probabilities, rtol=1e-6)


def test_rescaling_maps_gray_levels_to_0_1(baseline):
    (rescaling,) = layers_of(baseline, "Rescaling")
    scaled = np.asarray(rescaling(np.array([0, 51, 255], np.uint8)))
    np.testing.assert_allclose(scaled, [0, 0.2, 1], rtol=1e-6)


def test_another_architecture_is_only_data():
    sizes = ((Convolution(2), Convolution(3, kernel=1)), (Convolution(4, kernel=5),))
    model = build_model(Architecture(sizes, dense=(6,), dropout=0.5, dense_dropout=0.4))
    convolutions = layers_of(model, "Conv2D")
    assert [c.filters for c in convolutions] == [2, 3, 4]
    assert [c.kernel_size for c in convolutions] == [(3, 3), (1, 1), (5, 5)]
    assert len(layers_of(model, "MaxPooling2D")) == 2
    assert [each.units for each in layers_of(model, "Dense")] == [6, 7]
    assert [each.rate for each in layers_of(model, "Dropout")] == [0.5, 0.5, 0.4]


SMALL = Architecture(
    blocks=((Convolution(2), Convolution(2)), (Convolution(4), Convolution(4))),
    dense=(6,),
    dropout=0.1,
    dense_dropout=0.3,
    residual=True,
    squeeze=2,
    average=True,
    bias=False,
)


def test_what_an_architecture_can_ask_for():
    model = build_model(SMALL)
    assert len(layers_of(model, "Add")) == len(layers_of(model, "Multiply")) == 2
    assert layers_of(model, "GlobalAveragePooling2D")[-1].output.shape == (None, 4)
    assert not layers_of(model, "Flatten")
    assert not any(each.use_bias for each in layers_of(model, "Conv2D"))
    assert [each.rate for each in layers_of(model, "Dropout")] == [0.1, 0.1, 0.3]
    # Two for the weighing of each block's channels come before the dense block's.
    assert [each.units for each in layers_of(model, "Dense")] == [1, 2, 2, 4, 6, 7]


def test_a_shortcut_carries_what_the_convolutions_after_it_lose():
    model = build_model(SMALL)
    second = layers_of(model, "BatchNormalization")[1]
    second.set_weights([np.zeros_like(each) for each in second.get_weights()])
    first, add = layers_of(model, "ReLU")[0], layers_of(model, "Add")[0]
    inner = keras.Model(model.inputs, [first.output, add.output])
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), np.uint8)
    before, after = inner.predict_on_batch(images)
    assert before.any()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("label_sets", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_built_for_training_it_is_the_same_network(name, label_sets, images):
    architecture = ARCHITECTURES[name]
    keras.utils.set_random_seed(0)
    trained = build_model(architecture, label_sets=label_sets, for_training=True)
    finished = build_model(architecture, label_sets=label_sets)
    finished.set_weights(trained.get_weights())
    assert finished.input_shape == (None, 48, 48, 1)
    np.testing.assert_allclose(
        finished.predict_on_batch(images),
        trained.predict_on_batch(images),
        atol=1e-6,
    )
    assert "emotion_cnn" not in finished.to_json()


def test_several_label_sets_have_probabilities_each(images):
    probabilities = build_model(SMALL, label_sets=2).predict_on_batch(images)
    assert probabilities.shape == (5, 2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(probabilities[:, 0] - probabilities[:, 1]).max() > 1e-3


def test_a_network_that_averages_trains_on_images_of_any_size():
    network = build_model(SMALL, for_training=True)
    for size in (16, 33, 48):
        assert network(np.zeros((2, size, size, 1), "float32")).shape == (2, 7)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_normalisation_is_that_of_keras(dtype):
    generator = np.random.default_rng(0)
    # As many values a channel as make n/(n-1) vanish in the tolerance.
    inputs = generator.normal(3, 2, (16, 12, 12, 4)).astype("float32")
    ours = FusedBatchNormalization(dtype=dtype)
    theirs = keras.layers.BatchNormalization(dtype=dtype)
    weights = [generator.uniform(0.5, 1.5, 4) for _ in range(4)]
    outputs = []
    for layer in (ours, theirs):
        layer.build(inputs.shape)
        layer.set_weights(weights)
        outputs.append(
            keras.ops.convert_to_numpy(
                keras.ops.cast(layer(inputs, training=True), "float32")
            )
        )
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(outputs[0], outputs[1], atol=tolerance)
    for one, other, before in zip(
        ours.get_weights(), theirs.get_weights(), weights, strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-2 if tolerance > 1e-3 else 1e-4)
        assert one.shape == before.shape
    assert not np.allclose(ours.get_weights()[2], weights[2], rtol=1e-3)


@pytest.mark.parametrize("label_sets", [1, 2])
def test_dividing_logits_is_temperature_scaling(label_sets, images):
    model = build_model(SMALL, label_sets=label_sets)
    logits = np.log(model.predict_on_batch(images).reshape(5, label_sets, 7))
    temperatures = [2.0, 0.5][:label_sets]
    divide_logits(model, temperatures)
    expected = np.exp(logits / np.array(temperatures)[:, np.newaxis])
    expected /= expected.sum(axis=-1, keepdims=True)
    found = model.predict_on_batch(images).reshape(5, label_sets, 7)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def trained_like(label_sets: int):
    """A network whose every weight differs from a new one's."""
    model = build_model(SMALL, label_sets=label_sets)
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            generator.uniform(0.1, 1, each.shape).astype("float32")
            for each in model.get_weights()
        ]
    )
    return model


@pytest.mark.parametrize("label_sets", [1, 2])
def test_starts_from_what_another_has_learned(images, label_sets):
    trained = trained_like(label_sets)
    network = build_model(SMALL, label_sets=label_sets, for_training=True)
    start_from(network, trained, labels="original")
    np.testing.assert_array_equal(
        network.predict_on_batch(images), trained.predict_on_batch(images)
    )


@pytest.mark.parametrize(("labels", "head"), [("original", 0), ("ferplus", 1)])
def test_one_head_starts_from_one_of_two(images, labels, head):
    trained, network = trained_like(2), build_model(SMALL)
    start_from(network, trained, labels=labels)
    answers = trained.predict_on_batch(images)
    assert np.abs(answers[:, 0] - answers[:, 1]).max() > 0.1
    np.testing.assert_allclose(
        network.predict_on_batch(images), answers[:, head], rtol=1e-5
    )


def test_another_network_is_nothing_to_start_from():
    network = build_model(ARCHITECTURES["compact"])
    before = network.get_weights()
    with pytest.raises(ModelError, match=r"625,655 numbers; found .* Choose --model"):
        start_from(network, trained_like(1), labels="original")
    with pytest.raises(ModelError, match="found those of another one"):
        start_from(build_model(SMALL, label_sets=2), trained_like(1), labels="original")
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_strangers_last_weight_may_be_a_single_number():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    stranger = build_model(SMALL, label_sets=2)
    stranger = keras.Model(stranger.inputs, Scale()(stranger.outputs[0]))
    with pytest.raises(ModelError, match="found those of another one"):
        start_from(build_model(SMALL), stranger, labels="original")
