"""The search for images that are the same, nearly the same, or flipped."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.audit import near_duplicates
from emotion_cnn.audit.near_duplicates import find_near_duplicates


def smooth(count: int, seed: int = 0) -> np.ndarray:
    """Random images that differ as much as faces do."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 6, 6), np.uint8)
    images = [
        Image.fromarray(c).resize((48, 48), Image.Resampling.BICUBIC) for c in coarse
    ]
    return np.stack([np.asarray(image) for image in images])[..., None]


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[..., None]


def rmse(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one.astype(float) - other) ** 2)))


def one_group(images: np.ndarray, limit: float = 12) -> near_duplicates.NearDuplicates:
    same = np.zeros(len(images), np.int64)
    return find_near_duplicates(images, same, same, limit)


def pairs(found: near_duplicates.NearDuplicates) -> list[tuple[int, int, bool]]:
    return [
        *zip(
            *(a.tolist() for a in (found.first, found.second, found.flipped)),
            strict=True,
        )
    ]


def test_copies_noise_and_flips_are_found_and_nothing_else():
    images = smooth(200)
    images[150] = images[20]
    images[30] = as_jpeg(images[160], 60)
    images[170] = images[40][:, ::-1]
    images[180] = as_jpeg(images[50][:, ::-1], 60)
    found = one_group(images)
    assert found.rmse.tolist() == sorted(found.rmse.tolist())
    assert set(pairs(found)) == {
        (20, 150, False),
        (30, 160, False),
        (40, 170, True),
        (50, 180, True),
    }
    for first, second, distance, flipped in zip(
        found.first, found.second, found.rmse, found.flipped, strict=True
    ):
        other = images[second][:, ::-1] if flipped else images[second]
        assert distance == pytest.approx(rmse(images[first], other), abs=1e-9)
    assert found.rmse[:2].tolist() == [0, 0]
    assert 0 < found.rmse[2] < 12


@pytest.mark.parametrize("limit", [0, 3, 12, 40])
def test_the_bound_misses_nothing(monkeypatch, limit):
    """Against every pair measured directly, over several blocks."""
    monkeypatch.setattr(near_duplicates, "_ROWS", 16)
    monkeypatch.setattr(near_duplicates, "_COLUMNS", 32)
    monkeypatch.setattr(near_duplicates, "_CHUNK", 8)
    generator = np.random.default_rng(limit)
    count = 50
    # Steps of many sizes away from few images, so that some lie near the limit.
    steps = generator.normal(size=(count, 48, 48, 1)) * generator.uniform(
        0, 25, (count, 1, 1, 1)
    )
    images = smooth(5)[generator.integers(0, 5, count)] + steps
    images = images.clip(0, 255).astype(np.uint8)
    chosen = generator.random(count) < 0.5
    images[chosen] = images[chosen][:, :, ::-1]
    images[-2:] = images[:2]
    # With a part and label for each image, every pair is the nearest one of its group.
    parts, labels = np.divmod(np.arange(count), 10)
    found = find_near_duplicates(images, parts, labels, limit)
    expected = set()
    for first in range(count):
        others = images[first + 1 :] - images[first].astype(float)
        flipped = images[first + 1 :, :, ::-1] - images[first].astype(float)
        distances = np.sqrt(np.mean(np.square([others, flipped]), axis=(2, 3, 4)))
        for place in np.flatnonzero(distances.min(axis=0) <= limit):
            turned = distances[1, place] < distances[0, place]
            expected.add((first, first + 1 + int(place), bool(turned)))
    assert set(pairs(found)) == expected
    assert len(found) == len(expected) >= 2


def test_only_the_nearest_of_each_part_and_label_is_kept():
    images = smooth(6)
    images[:5] = images[0]
    images[2] += 1 - 2 * (images[2] // 255)
    images[4] += 1 - 2 * (images[4] // 255)
    parts, labels = np.array([0, 1, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    found = find_near_duplicates(images, parts, labels, 12)
    assert pairs(found) == [
        (0, 1, False),
        (0, 3, False),
        (1, 3, False),
        (2, 4, False),
        # 1 and 4, and 2 and 3, are as near, but each has a nearer one there.
        (0, 2, False),
        (0, 4, False),
        (1, 2, False),
        (3, 4, False),
    ]
    assert found.rmse.round(6).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("shifts", "flips", "expected"),
    [
        # Two pairs 1 apart, and 5 and more from each other.
        (
            (0, 1, 6, 7),
            (False, False, False, False),
            {(0, 1, False): 1, (2, 3, False): 1, (0, 2, False): 6},
        ),
        # Two pairs 4 apart; of the others only 0 and 2 are within 12, flipped.
        (
            (0, -4, 9, 13),
            (False, True, True, False),
            {(0, 1, True): 4, (2, 3, True): 4, (0, 2, True): 9},
        ),
    ],
)
def test_near_duplicates_within_a_part_stay_connected(shifts, flips, expected):
    face = smooth(1)[0].clip(20, 235).astype(int)
    images = np.array(
        [
            (face + shift)[:, :: -1 if flip else 1]
            for shift, flip in zip(shifts, flips, strict=True)
        ],
        np.uint8,
    )
    # An image of another part, near to several, connects none of this part.
    images = np.concatenate((images, [face + 4]), dtype=np.uint8, casting="unsafe")
    parts = np.array([0, 0, 0, 0, 1])
    found = find_near_duplicates(images, parts, np.zeros(5, np.int64), 12)
    distances = dict(zip(pairs(found), found.rmse.round(6).tolist(), strict=True))
    within = {pair: rmse for pair, rmse in distances.items() if pair[1] < 4}
    assert within == expected
    assert len(distances) > len(within)


def test_a_symmetric_image_and_its_copy_are_near_duplicates_as_they_are():
    images = smooth(3)
    images[1, :, 24:] = images[1, :, :24][:, ::-1]
    images[2] = images[1]
    assert pairs(one_group(images)) == [(1, 2, False)]


def test_many_copies_do_not_fill_the_memory_with_pairs():
    images = np.repeat(smooth(1), 300, axis=0)
    assert len(one_group(images, limit=0)) == 299


@pytest.mark.parametrize("blocks", [(1024, 2048, 2048), (16, 32, 8)])
def test_of_two_parts_all_pairs_between_them_are_found(monkeypatch, blocks):
    for name, size in zip(("_ROWS", "_COLUMNS", "_CHUNK"), blocks, strict=True):
        monkeypatch.setattr(near_duplicates, name, size)
    generator = np.random.default_rng(0)
    # Few images, each many times, flipped or not, a step or none away.
    images = smooth(30)[generator.integers(0, 30, 150)].clip(20, 235)
    images += generator.integers(0, 9, (150, 1, 1, 1), np.uint8)
    images[::3] = images[::3, :, ::-1]
    parts, labels = np.arange(150) // 90, generator.integers(0, 3, 150)
    every = find_near_duplicates(images, parts, labels, 12)
    between = parts[every.first] != parts[every.second]
    found = find_near_duplicates(images, parts, labels, 12, boundary=90)
    assert 0 < len(found) == between.sum() < len(every)
    for name in ("first", "second", "rmse", "flipped"):
        expected = getattr(every, name)[between]
        np.testing.assert_array_equal(getattr(found, name), expected)


@pytest.mark.parametrize("count", [0, 1, 20, 700])
def test_an_index_finds_what_measuring_all_pairs_finds(count):
    pytest.importorskip("faiss")
    generator = np.random.default_rng(count)
    images = smooth(40)[generator.integers(0, 40, count)].clip(20, 235)
    images += generator.integers(0, 9, (count, 1, 1, 1), np.uint8)
    images[::3] = images[::3, :, ::-1]
    # With a part and label for each image, every pair is the nearest one of its group.
    parts, labels = np.divmod(np.arange(count), 30)
    every = find_near_duplicates(images, parts, labels, 12)
    found = find_near_duplicates(images, parts, labels, 12, complete=False)
    assert pairs(found) == pairs(every)
    assert (len(found) > count) == (count == 700)


class Enlarged:
    """Images of 36 numbers each, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6), np.uint8)
        self.coarse[-1] = self.coarse[0]

    def __len__(self) -> int:
        return len(self.coarse)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self.coarse[positions].repeat(8, 1).repeat(8, 2)[..., None]


@pytest.mark.parametrize(
    ("has_boundary", "bytes_an_image"), [(False, (160, 230)), (True, (0, 50))]
)
def test_memory_grows_by_little_an_image(monkeypatch, has_boundary, bytes_an_image):
    for name in ("_ROWS", "_COLUMNS", "_CHUNK"):
        monkeypatch.setattr(near_duplicates, name, 64)

    def peak(count: int) -> int:
        images, zeros = Enlarged(count), np.zeros(count, np.int64)
        boundary = count - 100 if has_boundary else None
        tracemalloc.start()
        try:
            found = find_near_duplicates(images, zeros, zeros, 12, boundary=boundary)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert pairs(found) == [(0, count - 1, False)]

    peak(200)
    growth = (peak(3000) - peak(1000)) / 2000
    least, most = bytes_an_image
    assert least <= growth <= most


@pytest.mark.parametrize("boundary", [0, 3])
def test_one_of_two_parts_may_be_empty(boundary):
    images, zeros = smooth(3).repeat(1, 0), np.zeros(3, np.int64)
    images[1] = images[0]
    assert len(find_near_duplicates(images, zeros, zeros, 12, boundary=boundary)) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_for_near_duplicates(count):
    assert len(one_group(smooth(2)[:count])) == 0
