"""Settings: their declarations, their checks, the recipes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from emotion_cnn.commands.audit import AuditSettings
from emotion_cnn.commands.evaluate import EvaluateSettings
from emotion_cnn.commands.prepare import PrepareSettings
from emotion_cnn.commands.train_settings import ResumeSettings, TrainSettings
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.errors import ConfigError
from emotion_cnn.settings import from_keywords, settings_of
from emotion_cnn.training.recipes import RECIPES, Recipe

OWNERS = (
    Recipe,
    TrainSettings,
    ResumeSettings,
    EvaluateSettings,
    AuditSettings,
    PrepareSettings,
)


@pytest.mark.parametrize("owner", OWNERS)
def test_declarations(owner):
    for name, declared in settings_of(owner).items():
        rules, default = declared.metadata, declared.default
        assert rules["help"].strip(" .") == rules["help"] != "", name
        assert rules["choices"] is None or default in (None, *rules["choices"]), name
        assert (rules["minimum"] is None) == (rules["maximum"] is None), name
        if rules["minimum"] is not None:
            assert rules["minimum"] <= default <= rules["maximum"], name


@pytest.mark.parametrize("owner", [Recipe, TrainSettings])
def test_a_number_may_reach_its_bounds_and_no_further(owner):
    # So that settings agree that depend on each other.
    agreeing = {"learning_rate": 10.0, "minimum_learning_rate": 0.0, "epochs": 100_000}
    agreeing |= {"optimizer": "sgd", "schedule": "linear", "model": "residual"}
    agreeing = agreeing if owner is Recipe else {}
    for name, declared in settings_of(owner).items():
        low, high = declared.metadata["minimum"], declared.metadata["maximum"]
        if low is None:
            continue
        kind = type(declared.default)
        for bound in (low, high):
            built = owner(**agreeing | {name: kind(bound)})
            assert getattr(built, name) == bound
        for outside in (
            (low - 1, high + 1)
            if kind is int
            else (math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
        ):
            with pytest.raises(ConfigError, match=f"`{name}` is a number from"):
                owner(**agreeing | {name: outside})


@pytest.mark.parametrize(
    ("owner", "name", "value", "words"),
    [
        (Recipe, "epochs", "5", "of type int; found '5'"),
        (Recipe, "epochs", 5.0, "of type int; found 5.0"),
        (Recipe, "epochs", True, "of type int; found True"),
        (Recipe, "mixup", "x", "of type float; found 'x'"),
        (Recipe, "mixup", math.nan, "a number from 0 to 10; found nan"),
        (Recipe, "flip", 1, "of type bool; found 1"),
        (TrainSettings, "weights", 3, "of type str; found 3"),
        (TrainSettings, "weights", "", "given, but empty"),
        (TrainSettings, "data", "", "given, but empty"),
        (TrainSettings, "recipe", "x", "one of default, sample, quick"),
        (TrainSettings, "backend", "x", "one of tensorflow, jax, torch; found 'x'"),
        (EvaluateSettings, "tta", "x", "one of none, flip, shift, ten-crop; found 'x'"),
        (
            Recipe,
            "model",
            "huge",
            "one of baseline, compact, residual, residual-narrow, residual-wide; ",
        ),
    ],
)
def test_a_value_that_a_setting_does_not_allow(owner, name, value, words):
    with pytest.raises(ConfigError) as caught:
        owner(**{name: value})
    assert f"`{name}` is " in str(caught.value)
    assert words in str(caught.value)


def test_a_whole_number_is_a_float():
    assert Recipe(mixup=1).mixup == 1


def test_keywords_take_paths_and_leave_out_none():
    given = {"data": Path("a/b"), "weights": None, "seed": np.int64(3)}
    assert from_keywords((TrainSettings,), given) == {"data": "a/b", "seed": 3}
    # A path is never the name of the drawn faces.
    given = from_keywords((TrainSettings,), {"data": Path("sample")})
    assert Path(given["data"]) == Path("sample")
    assert given["data"] != SAMPLE_DATA


def test_an_unknown_keyword_is_met_with_the_nearest_one():
    with pytest.raises(ConfigError, match="'epoch'; did you mean `epochs`"):
        from_keywords((TrainSettings, Recipe), {"epoch": 3})
    with pytest.raises(ConfigError, match=r"no setting 'zzz'\.$"):
        from_keywords((TrainSettings, Recipe), {"zzz": 3})


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
    given = TrainSettings(recipe=name, labels="both", weights="folder")
    assert given.resolve_recipe(drawn_faces=False) == RECIPES[name]


@pytest.mark.parametrize(
    ("drawn_faces", "name"), [(False, "default"), (True, "sample")]
)
def test_without_a_name_the_data_choose_the_recipe(drawn_faces, name):
    given = TrainSettings()
    assert given.recipe_name(drawn_faces=drawn_faces) == name
    assert given.resolve_recipe(drawn_faces=drawn_faces) == RECIPES[name]


def test_a_named_recipe_holds_for_drawn_faces_too():
    given = TrainSettings(recipe="default")
    assert given.recipe_name(drawn_faces=True) == "default"
    assert given.resolve_recipe(drawn_faces=True) == RECIPES["default"]


def test_single_settings_replace_those_of_the_recipe_and_no_others():
    given = TrainSettings(recipe="sample", settings={"epochs": 3, "flip": False})
    expected = dataclasses.replace(RECIPES["sample"], epochs=3, flip=False)
    assert given.resolve_recipe(drawn_faces=False) == expected
    assert RECIPES["sample"].epochs != 3


@pytest.mark.parametrize(
    ("recipe", "before"), [("best", "foundation"), ("branch", "student")]
)
def test_recipes_that_are_not_for_random_weights(recipe, before):
    with pytest.raises(ConfigError, match=rf"`recipe={before}` .* with `weights`"):
        TrainSettings(recipe=recipe, labels="both")


def test_single_settings_are_checked_at_once():
    with pytest.raises(ConfigError, match=r"`epochs` .* from 1 to .* found 0"):
        TrainSettings(settings={"epochs": 0})


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"momentum": 0.8}, {"optimizer": "sgd"}),
        ({"plateau_factor": 0.5}, {"schedule": "plateau"}),
        ({"plateau_patience": 5}, {"schedule": "plateau"}),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings, needed):
    given = {"optimizer": "adam", "schedule": "linear"} | settings
    ((name, value),) = needed.items()
    use = f"`{next(iter(settings))}` is for `{name}={value}`"
    with pytest.raises(ConfigError, match=use):
        TrainSettings(settings=given)
    used = TrainSettings(settings=given | needed)
    # As a resumed run has them.
    recipe = dataclasses.asdict(used.resolve_recipe(drawn_faces=False))
    assert TrainSettings(settings=recipe)


def test_a_share_of_soft_labels_needs_soft_labels():
    with pytest.raises(ConfigError, match="`soft_share` is for `soft_labels`"):
        TrainSettings(settings={"soft_share": 0.6})
    assert TrainSettings(settings={"soft_share": 0.6}, soft_labels="teachers")


def test_the_learning_rate_cannot_begin_below_its_minimum():
    with pytest.raises(ConfigError) as caught:
        Recipe(learning_rate=1e-4, minimum_learning_rate=1e-3)
    for word in ("`minimum_learning_rate`", "0.001", "`learning_rate`", "0.0001"):
        assert word in str(caught.value)
    assert Recipe(learning_rate=1e-3, minimum_learning_rate=1e-3)


def test_a_setting_that_suits_the_recipe_of_the_drawn_faces_is_not_refused():
    # Above the learning rate of "default", below that of "sample".
    settings = {"minimum_learning_rate": 7e-4}
    given = TrainSettings(data=SAMPLE_DATA, settings=settings)
    assert given.resolve_recipe(drawn_faces=True).minimum_learning_rate == 7e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight_decay": 0.1}, ("`weight_decay`", "`optimizer=sgd`")),
        ({"warmup_epochs": 1}, ("`warmup_epochs`", "`schedule=linear`")),
        (
            {"warmup_epochs": 15, "schedule": "cosine"},
            ("`warmup_epochs` (15)", "`epochs` (15)"),
        ),
        ({"sizes": ((32, 0.5), (48, 0.4))}, ("`sizes`", "sum to 1", "(48, 0.4)")),
        ({"sizes": ((15, 0.5), (48, 0.5))}, ("`sizes`", "from 16 to 48")),
        ({"sizes": ((32, 1.5), (48, -0.5))}, ("`sizes`", "-0.5")),
        ({"sizes": ((32.0, 1),)}, ("`sizes`", "32.0")),
        ({"sizes": 3}, ("`sizes`", "found 3")),
        ({"keep": "first"}, ("`keep`", "best, last", "'first'")),
        ({"mixup": -1}, ("`mixup`", "from 0 to 10", "-1")),
        ({"optimizer": "lion"}, ("`optimizer`", "adam, adamw, sgd", "'lion'")),
        ({"precision": "int8"}, ("`precision`", "bfloat16", "'int8'")),
    ],
)
def test_settings_that_do_not_agree(settings, words):
    with pytest.raises(ConfigError) as caught:
        Recipe(**settings)
    for word in words:
        assert word in str(caught.value)
