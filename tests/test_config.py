"""Settings: their defaults, their checks, the recipes."""

import dataclasses

import pytest

from emotion_cnn import config
from emotion_cnn.config import CurvesConfig, EvaluateConfig, ResumeConfig, TrainConfig
from emotion_cnn.errors import ConfigError
from emotion_cnn.training.recipes import RECIPES, Recipe

CONFIGS = (Recipe, TrainConfig, ResumeConfig, EvaluateConfig, CurvesConfig)
SETTINGS = [
    pytest.param(declared, id=f"{owner.__name__}-{declared.name}")
    for owner in CONFIGS
    for declared in dataclasses.fields(owner)
    if declared.metadata
]


@pytest.mark.parametrize("declared", SETTINGS)
def test_a_setting_has_help_and_a_default_that_its_checks_let_pass(declared):
    rules, default = declared.metadata, declared.default
    assert rules["help"].strip(" .") == rules["help"] != ""
    assert rules["choices"] is None or default in (None, *rules["choices"])
    assert (rules["minimum"] is None) == (rules["maximum"] is None)
    if rules["minimum"] is not None:
        assert rules["minimum"] <= default <= rules["maximum"]


@pytest.mark.parametrize("owner", CONFIGS)
def test_a_config_cannot_be_changed_afterwards(owner):
    name = dataclasses.fields(owner)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(owner(), name, "other")


def test_the_default_recipe_is_the_published_one():
    assert RECIPES["default"] == Recipe(
        model="baseline",
        epochs=15,
        batch_size=64,
        learning_rate=5e-4,
        flip=True,
        plateau_factor=0.1,
        plateau_patience=2,
        minimum_learning_rate=1e-5,
    )
    assert RECIPES["default"] == Recipe()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_by_name(name):
    given = TrainConfig(recipe=name, labels="both", weights="folder")
    assert given.resolve_recipe(drawn_faces=False) == RECIPES[name]


@pytest.mark.parametrize(
    ("drawn_faces", "name"), [(False, "default"), (True, "sample")]
)
def test_without_a_name_the_data_choose_the_recipe(drawn_faces, name):
    given = TrainConfig()
    assert given.recipe_name(drawn_faces=drawn_faces) == name
    assert given.resolve_recipe(drawn_faces=drawn_faces) == RECIPES[name]


def test_a_named_recipe_holds_for_drawn_faces_too():
    given = TrainConfig(recipe="default")
    assert given.recipe_name(drawn_faces=True) == "default"
    assert given.resolve_recipe(drawn_faces=True) == RECIPES["default"]


def test_single_settings_replace_those_of_the_recipe_and_no_others():
    given = TrainConfig(recipe="sample", settings={"epochs": 3, "flip": False})
    expected = dataclasses.replace(RECIPES["sample"], epochs=3, flip=False)
    assert given.resolve_recipe(drawn_faces=False) == expected
    assert RECIPES["sample"].epochs != 3


def test_the_recipe_best_is_not_for_random_weights():
    with pytest.raises(ConfigError, match=r"--recipe foundation .* with --weights"):
        TrainConfig(recipe="best", labels="both")


def test_single_settings_are_checked_at_once():
    with pytest.raises(ConfigError, match=r"--epochs .* from 1 to .* found 0"):
        TrainConfig(settings={"epochs": 0})


def test_the_learning_rate_cannot_begin_below_its_minimum():
    with pytest.raises(ConfigError) as caught:
        Recipe(learning_rate=1e-4, minimum_learning_rate=1e-3)
    for word in ("--minimum-learning-rate", "0.001", "--learning-rate", "0.0001"):
        assert word in str(caught.value)
    assert Recipe(learning_rate=1e-3, minimum_learning_rate=1e-3)


def test_a_setting_that_suits_the_recipe_of_the_drawn_faces_is_not_refused():
    # Above the learning rate of "default", below that of "sample".
    settings = {"minimum_learning_rate": 7e-4}
    given = TrainConfig(data=config.SAMPLE_DATA, settings=settings)
    assert given.resolve_recipe(drawn_faces=True).minimum_learning_rate == 7e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight_decay": 0.1}, ("--weight-decay", "adamw or sgd")),
        ({"warmup_epochs": 1}, ("--warmup-epochs", "cosine or linear")),
        (
            {"warmup_epochs": 15, "schedule": "cosine"},
            ("--warmup-epochs (15)", "--epochs (15)"),
        ),
        ({"low_resolution_epochs": 20}, ("--low-resolution-epochs (20)", "(15)")),
        ({"mixup": -1}, ("--mixup", "from 0 to 10", "-1")),
        ({"optimizer": "lion"}, ("--optimizer", "adam, adamw, sgd", "'lion'")),
        ({"precision": "int8"}, ("--precision", "bfloat16", "'int8'")),
    ],
)
def test_settings_that_do_not_agree(settings, words):
    with pytest.raises(ConfigError) as caught:
        Recipe(**settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Recipe(model="huge"), ("--model", "baseline, compact", "'huge'")),
        (lambda: TrainConfig(weights=""), ("--weights", "empty")),
        (lambda: TrainConfig(recipe="x"), ("--recipe", "default, sample", "'x'")),
        (lambda: TrainConfig(backend="x"), ("--backend", "tensorflow, jax, torch")),
        (lambda: EvaluateConfig(backend="x"), ("--backend", "jax", "'x'")),
        (lambda: EvaluateConfig(tta="x"), ("--tta", "none, flip, ten-crop", "'x'")),
    ],
)
def test_a_name_that_does_not_exist_is_met_with_those_that_do(build, words):
    with pytest.raises(ConfigError) as caught:
        build()
    for word in words:
        assert word in str(caught.value)


def test_the_models_of_the_help_are_the_architectures():
    from emotion_cnn.models.architectures import ARCHITECTURES

    assert set(config.MODELS) == set(ARCHITECTURES)


def test_flag_names():
    assert config.flag_name("batch_size") == "--batch-size"
