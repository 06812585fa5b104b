"""Splits in memory: choosing validation images, selecting, fingerprints."""

from dataclasses import replace

import numpy as np
import pytest

from emotion_cnn.data import splits
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Dataset, Split
from emotion_cnn.errors import DataError


def made_up(count: int = 70, names=None, seed: int = 0) -> Split:
    """Images of noise, every seventh of the same class."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 48, 48, 1), np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(EMOTIONS)
    return Split(images, labels, tuple(names or (f"train/{i}" for i in range(count))))


def split(train: Split, test: Split, *, share: float = 0.1, seed: int = 1) -> Dataset:
    return splits.split_dataset(train, test, validation_share=share, seed=seed)


def official_names(count: int) -> list[str]:
    parts = ("PrivateTest", "PublicTest", "PrivateTest")
    return [f"test/happy/{parts[i % 3]}_{i}.jpg" for i in range(count)]


def test_official_parts():
    parts = splits.official_parts(made_up(7, official_names(7)))
    assert {part: found.tolist() for part, found in parts.items()} == {
        "PublicTest": [1, 4],
        "PrivateTest": [0, 2, 3, 5, 6],
    }


@pytest.mark.parametrize(
    "names",
    [
        ["test/sad/PublicTest_1.jpg", "test/sad/PublicTest_2.jpg"],
        ["test/sad/PrivateTest_1.jpg", "test/sad/PrivateTest_2.jpg"],
        ["sad/PrivateTest_1.jpg", "sad/PublicTest_1.jpg", "sad/me.jpg", "sad/you.jpg"],
        ["PublicTest/sad/1.jpg", "PrivateTest/sad/1.jpg"],
    ],
)
def test_no_official_parts(names):
    assert splits.official_parts(made_up(len(names), names)) == {}


def test_other_images_leave_the_official_split_as_it_is():
    names = [*official_names(7), "test/sad/me.jpg"]
    test = made_up(8, names)
    parts = splits.official_parts(test)
    assert list(parts) == ["other images of test", "PublicTest", "PrivateTest"]
    assert [found.tolist() for found in parts.values()] == [
        [7],
        [1, 4],
        [0, 2, 3, 5, 6],
    ]
    assert split(made_up(70), test).validation_source.startswith("PublicTest (2 ")
    said = splits.describe_other_images(test)
    assert said.startswith("test/ holds 1 of 8 images whose names are not")
    assert "test/sad/me.jpg: the split is kept" in said
    many = made_up(4, ["a/PrivateTest_1.jpg", "a/PublicTest_1.jpg", "a/b.jpg", "a/c"])
    assert "official split is not used" in splits.describe_other_images(many)
    for usual in (names[:7], ["test/sad/me.jpg", "test/sad/you.jpg"]):
        assert splits.describe_other_images(made_up(len(usual), usual)) is None


def test_images_of_their_own_validate():
    test = made_up(30, official_names(30), seed=1)
    own = made_up(7, [f"val/sad/{number}.jpg" for number in range(7)])
    data = splits.split_dataset(
        made_up(70), test, validation_share=0.1, seed=0, validation=own
    )
    assert data.validation is own
    assert len(data.train) == 70
    assert data.validation_source == "val/ (7 images)"


def test_validation_is_public_test_where_there_is_one():
    train, test = made_up(70), made_up(30, official_names(30), seed=1)
    data = split(train, test)
    assert data.train is train
    assert data.test is test
    assert len(data.validation) == 10
    assert all("PublicTest" in name for name in data.validation.names)
    assert np.array_equal(data.validation.images, test.images[1::3])
    assert data.validation_source == "PublicTest (10 images of test/)"


def test_without_public_test_a_share_of_every_class_is_held_out():
    train, test = made_up(1400), made_up(14, seed=1)
    data = split(train, test)
    assert splits.class_counts(data.validation) == dict.fromkeys(EMOTIONS, 20)
    assert not set(data.train.names) & set(data.validation.names)
    for part in (data.train, data.validation):
        positions = [train.names.index(name) for name in part.names]
        assert positions == sorted(positions)
        assert np.array_equal(part.images, train.images[positions])
        assert np.array_equal(part.labels, train.labels[positions])
    assert len(data.train) + len(data.validation) == 1400
    assert data.test is test
    assert data.validation_source == (
        "a stratified, seeded tenth of train/ (140 of 1,400 images)"
    )


def test_the_seed_decides_what_is_held_out():
    train, test = made_up(), made_up(14)
    first = split(train, test, share=0.3)
    assert split(train, test, share=0.3).fingerprint == first.fingerprint
    other = split(train, test, share=0.3, seed=2)
    assert other.validation.names != first.validation.names
    assert first.validation_source == (
        "a stratified, seeded 0.3 share of train/ (21 of 70 images)"
    )


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_small_class_keeps_an_image_on_each_side(share):
    data = split(made_up(14), made_up(7), share=share)
    assert splits.class_counts(data.train) == dict.fromkeys(EMOTIONS, 1)
    assert splits.class_counts(data.validation) == dict.fromkeys(EMOTIONS, 1)


def test_a_class_with_a_single_image_cannot_be_split():
    with pytest.raises(DataError, match="found a single one of: neutral, sad, surp"):
        split(made_up(11), made_up(7))
    official = made_up(30, official_names(30))
    assert len(split(made_up(11), official).train) == 11


def test_notes_become_those_of_the_data_set():
    data = splits.split_dataset(
        made_up(), made_up(7), validation_share=0.1, seed=1, notes=["drawn"]
    )
    assert data.notes == ("drawn",)


def test_select():
    images = made_up(5)
    picked = images.select([3, 1])
    assert picked.names == ("train/3", "train/1")
    assert picked.labels.tolist() == [3, 1]
    assert np.array_equal(picked.images, images.images[[3, 1]])
    assert images.select(images.labels > 2).names == ("train/3", "train/4")
    assert len(images.select([])) == 0


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", ["pixel", "label", "name", "order"])
def test_fingerprint_changes_with_any_change(part, change):
    parts = {"train": made_up(), "test": made_up(30, official_names(30))}
    before = split(**parts).fingerprint
    assert len(before) == 64
    given = parts[part]
    if change == "pixel":
        images = given.images.copy()
        images[4, 20, 20, 0] ^= 1
        parts[part] = replace(given, images=images)
    elif change == "label":
        labels = given.labels.copy()
        labels[4] += 1
        parts[part] = replace(given, labels=labels)
    elif change == "name":
        names = ("other/" + given.names[0], *given.names[1:])
        parts[part] = replace(given, names=names)
    else:
        parts[part] = given.select(np.arange(len(given))[::-1])
    assert split(**parts).fingerprint != before
    copies = {"train": made_up(), "test": made_up(30, official_names(30))}
    assert split(**copies).fingerprint == before


def test_classes_are_those_of_the_split():
    pets = replace(made_up(14), labels=np.arange(14) % 2, classes=("cat", "dog"))
    assert splits.class_counts(pets) == {"cat": 7, "dog": 7}
    data = split(pets, pets, share=0.3)
    assert splits.class_counts(data.validation) == {"cat": 2, "dog": 2}
    assert data.train.classes == pets.select([1]).classes == ("cat", "dog")
