"""The networks: what they are made of, and what goes in and comes out."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from emotion_cnn.errors import ModelError
from emotion_cnn.models.architectures import ARCHITECTURES, Architecture, Convolution
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription
from emotion_cnn.models.layers import FusedBatchNormalization
from emotion_cnn.models.untrusted.architecture import build_from_json
from emotion_cnn.models.weights import average_weights, divide_logits, start_from

UNIT = ["BatchNormalization", "ReLU"]
BLOCK_END = ["MaxPooling2D", "Dropout"]
DENSE = 2 * ["Dense", *UNIT, "Dropout"]
ONE, BOTH = NetworkDescription(), NetworkDescription(label_sets=("original", "ferplus"))


@pytest.fixture(scope="module")
def models():
    return {name: build_model(each, ONE) for name, each in ARCHITECTURES.items()}


@pytest.fixture(scope="module")
def baseline(models):
    return models["baseline"]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)


LIGHT = """
import sys
import emotion_cnn.models.description
import emotion_cnn.inference.test_time_augmentation
import emotion_cnn.training.recipes
assert not {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
"""


def test_what_the_command_line_lists_is_imported_without_keras():
    subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=60)


def layers_of(model, kind: str) -> list:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("baseline", 4_478_727),
        ("compact", 625_655),
        ("residual", 3_114_031),
        ("residual-narrow", 781_467),
        ("residual-wide", 12_432_471),
    ],
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
        "Softmax",
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
    assert {each.activation.__name__ for each in dense} == {"linear"}


def test_compact_convolutions(models):
    convolutions = layers_of(models["compact"], "Conv2D")
    assert [c.filters for c in convolutions] == [16, 16, 32, 32, 64, 64, 128, 128]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}


@pytest.mark.parametrize("name", ["baseline", "compact"])
def test_pooling_and_dropout(models, name):
    pools = layers_of(models[name], "MaxPooling2D")
    assert {(each.pool_size, each.strides) for each in pools} == {((2, 2), (2, 2))}
    assert {each.rate for each in layers_of(models[name], "Dropout")} == {0.25}


@pytest.mark.parametrize("name", ARCHITECTURES)
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
    architecture = Architecture(sizes, dense=(6,), dropout=0.5, dense_dropout=0.4)
    model = build_model(architecture, ONE)
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
    model = build_model(SMALL, ONE)
    assert len(layers_of(model, "Add")) == len(layers_of(model, "Multiply")) == 2
    assert layers_of(model, "GlobalAveragePooling2D")[-1].output.shape == (None, 4)
    assert not layers_of(model, "Flatten")
    assert not any(each.use_bias for each in layers_of(model, "Conv2D"))
    assert [each.rate for each in layers_of(model, "Dropout")] == [0.1, 0.1, 0.3]
    # Two for the weighing of each block's channels come before the dense block's.
    assert [each.units for each in layers_of(model, "Dense")] == [1, 2, 2, 4, 6, 7]


def test_a_shortcut_carries_what_the_convolutions_after_it_lose():
    model = build_model(SMALL, ONE)
    second = layers_of(model, "BatchNormalization")[1]
    second.set_weights([np.zeros_like(each) for each in second.get_weights()])
    first, add = layers_of(model, "ReLU")[0], layers_of(model, "Add")[0]
    inner = keras.Model(model.inputs, [first.output, add.output])
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), np.uint8)
    before, after = inner.predict_on_batch(images)
    assert before.any()
    np.testing.assert_array_equal(before, after)


def test_classes_label_sets_and_size_are_those_of_the_description():
    options = {"classes": ("bored", "curious", "tired"), "input_size": 32}
    description = NetworkDescription(label_sets=("a", "b"), **options)
    model = build_model(SMALL, description)
    assert model.input_shape == (None, 32, 32, 1)
    assert model.output_shape == description.output_shape == (None, 2, 3)
    one_label_set = NetworkDescription(label_sets=("a",), **options)
    assert build_model(SMALL, one_label_set).output_shape == (None, 3)


@pytest.mark.parametrize("description", [ONE, BOTH], ids=["one", "both"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_built_for_training_it_is_the_same_network(name, description, images):
    architecture = ARCHITECTURES[name]
    keras.utils.set_random_seed(0)
    trained = build_model(architecture, description, for_training=True)
    finished = build_model(architecture, description)
    finished.set_weights(trained.get_weights())
    assert finished.input_shape == (None, 48, 48, 1)
    probabilities = trained.predict_on_batch(images)
    assert probabilities.shape == (5, len(description.label_sets), 7)
    np.testing.assert_allclose(
        finished.predict_on_batch(images).reshape(probabilities.shape),
        probabilities,
        atol=1e-6,
    )
    assert "emotion_cnn" not in finished.to_json()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_is_read_back(name):
    """Its layers are among those that networks from files may have."""
    model = build_model(ARCHITECTURES[name], BOTH)
    again = build_from_json(json.loads(model.to_json()))
    assert again.count_params() == model.count_params()
    assert [type(each) for each in again.layers] == [type(e) for e in model.layers]


def test_several_label_sets_have_probabilities_each(images):
    probabilities = build_model(SMALL, BOTH).predict_on_batch(images)
    assert probabilities.shape == (5, 2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(probabilities[:, 0] - probabilities[:, 1]).max() > 1e-3


def test_a_network_that_averages_trains_on_images_of_any_size():
    network = build_model(SMALL, ONE, for_training=True)
    for size in (16, 33, 48):
        assert network(np.zeros((2, size, size, 1), "float32")).shape == (2, 1, 7)


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


@pytest.mark.parametrize("description", [ONE, BOTH], ids=["one", "both"])
def test_dividing_logits_is_temperature_scaling(description, images):
    network = Network(build_model(SMALL, description), description)
    shape = (5, len(description.label_sets), 7)
    logits = np.log(network.model.predict_on_batch(images).reshape(shape))
    given = dict(zip(("original", "ferplus"), (2.0, 0.5), strict=True))
    temperatures = {name: given[name] for name in description.label_sets}
    scaled = divide_logits(network, temperatures)
    assert scaled.description == replace(description, temperatures=temperatures)
    divisors = np.array(list(temperatures.values()))
    expected = np.exp(logits / divisors[:, np.newaxis])
    expected /= expected.sum(axis=-1, keepdims=True)
    found = scaled.model.predict_on_batch(images).reshape(shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def untrained(description: NetworkDescription = ONE, **options) -> Network:
    return Network(build_model(SMALL, description, **options), description)


def trained_like(description: NetworkDescription) -> Network:
    """A network whose every weight differs from a new one's."""
    network = untrained(description)
    generator = np.random.default_rng(0)
    network.model.set_weights(
        [
            generator.uniform(0.1, 1, each.shape).astype("float32")
            for each in network.model.get_weights()
        ]
    )
    return network


@pytest.mark.parametrize("description", [ONE, BOTH], ids=["one", "both"])
def test_starts_from_what_another_has_learned(images, description):
    trained = trained_like(description)
    network = untrained(description)
    start_from(network, trained)
    np.testing.assert_array_equal(
        network.model.predict_on_batch(images), trained.model.predict_on_batch(images)
    )


@pytest.mark.parametrize(
    ("label_sets", "heads"),
    [(["original"], [0]), (["ferplus"], [1]), (["ferplus", "original"], [1, 0])],
)
def test_label_sets_start_from_those_of_the_same_name(images, label_sets, heads):
    trained = trained_like(BOTH)
    network = untrained(NetworkDescription(label_sets=tuple(label_sets)))
    start_from(network, trained)
    expected = trained.model.predict_on_batch(images)
    assert np.abs(expected[:, 0] - expected[:, 1]).max() > 0.1
    np.testing.assert_allclose(
        network.model.predict_on_batch(images).reshape(5, -1, 7),
        expected[:, heads],
        rtol=1e-5,
    )


def test_a_single_label_set_starts_any_other(images):
    trained, network = (
        trained_like(ONE),
        untrained(NetworkDescription(label_sets=("ferplus",))),
    )
    start_from(network, trained)
    np.testing.assert_array_equal(
        network.model.predict_on_batch(images), trained.model.predict_on_batch(images)
    )


def test_another_network_is_refused_as_a_start():
    network = Network(build_model(ARCHITECTURES["compact"], ONE), ONE)
    before = network.model.get_weights()
    with pytest.raises(ModelError, match=r"625,655 numbers; found .* Choose `model`"):
        start_from(network, trained_like(ONE))
    with pytest.raises(ModelError, match="found those of another one"):
        start_from(untrained(BOTH), trained_like(ONE))
    with pytest.raises(ModelError, match="found those of another one"):
        start_from(untrained(NetworkDescription(label_sets=("c",))), trained_like(BOTH))
    for one, other in zip(before, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "classes", [("bored", *ONE.classes[1:]), ("bored", "tired"), (*"abcdefgh",)]
)
@pytest.mark.parametrize("theirs", [ONE, BOTH])
def test_a_network_of_other_classes_gives_all_layers_but_the_last(classes, theirs):
    network = untrained(NetworkDescription(classes=classes))
    before, trained = network.model.get_weights(), trained_like(theirs)
    start_from(network, trained)
    after = network.model.get_weights()
    for found, expected in zip(
        after, [*trained.model.get_weights()[:-2], *before[-2:]], strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_network_of_another_input_range_is_refused_as_a_start():
    scaled = NetworkDescription(input_range=(0, 1))
    with pytest.raises(ModelError, match=r"pixels from 0 to 255; found one of 0 to 1"):
        start_from(untrained(), trained_like(scaled))


def test_a_strangers_last_weight_may_be_a_single_number():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    stranger = build_model(SMALL, BOTH)
    stranger = keras.Model(stranger.inputs, Scale()(stranger.outputs[0]))
    with pytest.raises(ModelError, match="found those of another one"):
        start_from(untrained(), Network(stranger, BOTH))


def test_averaged_weights_are_the_mean_of_logits_without_temperatures():
    networks = [untrained(BOTH) for _ in range(3)]
    expected = np.mean([each.model.get_weights()[-2] for each in networks], axis=0)
    first = np.mean([each.model.get_weights()[0] for each in networks], axis=0)
    calibrated = [
        divide_logits(each, {"original": place + 0.5, "ferplus": 2.0})
        for place, each in enumerate(networks)
    ]
    mean = average_weights(calibrated)
    assert set(mean.description.temperatures.values()) == {1.0}
    found = mean.model.get_weights()
    np.testing.assert_allclose(found[-2], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[0], first, rtol=1e-5)


def test_different_networks_are_not_averaged():
    with pytest.raises(ModelError, match="one architecture"):
        average_weights([trained_like(ONE), trained_like(BOTH)])
