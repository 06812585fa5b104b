"""Rows of an array: they read as the array does, and copy only what is asked for."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from emotion_cnn.data import rows as rows_module
from emotion_cnn.data.packed import packing, read_packed
from emotion_cnn.data.rows import Rows, exceed_memory, in_blocks

SOURCE = np.arange(60, dtype=np.uint8).reshape(10, 2, 3, 1)
POSITIONS = np.array([7, 1, 1, 9, 0])


@pytest.mark.parametrize(
    "index", [2, -1, slice(1, 4), slice(None), [3, 0], np.array([1, 0, 0, 1, 1], bool)]
)
def test_rows_index_as_an_array(index):
    rows, array = Rows(SOURCE, POSITIONS), SOURCE[POSITIONS]
    assert np.array_equal(rows[index], array[index])
    assert (rows.shape, rows.dtype, len(rows)) == (array.shape, array.dtype, 5)
    assert rows.nbytes == array.nbytes


def test_all_rows():
    rows, array = Rows(SOURCE, POSITIONS), SOURCE[POSITIONS]
    assert np.array_equal(np.asarray(rows), array)
    assert np.asarray(rows, np.float32).dtype == np.float32
    assert np.array_equal([*rows], array)
    assert np.array_equal(np.concatenate([rows, array]), [*array, *array])
    assert np.array_equal(rows.select(np.array([4, 1])), array[[4, 1]])
    assert Rows.of(rows) is rows
    assert np.array_equal(Rows.of(SOURCE), SOURCE)


def test_blocks_are_all_rows_in_order():
    source = np.arange(10_000).reshape(-1, 1)
    blocks = list(in_blocks(Rows(source, np.arange(10_000)[::-1])))
    assert 1 < len(blocks) < 10
    assert np.array_equal(np.concatenate(blocks), source[::-1])


def test_a_change_of_what_is_returned_leaves_the_source():
    source = SOURCE.copy()
    Rows(source, POSITIONS)[:][:] = 0
    assert np.array_equal(source, SOURCE)


def test_prefetching_any_part_is_harmless(tmp_path):
    with packing(tmp_path, size=40) as writer:
        for number in range(50):
            image = np.full((40, 40), number, np.uint8)
            writer.add(f"train/sad/{number}.png", image)
    rows = Rows.of(read_packed(tmp_path).images).select(np.arange(49, -1, -2))
    for first, end in ((0, 25), (3, 4), (24, 25), (5, 5)):
        rows.prefetch(first, end)
    Rows.of(SOURCE).prefetch(0, 10)
    assert rows[0].max() == 49


@pytest.mark.parametrize(
    ("memory", "container", "expected"),
    [
        (10**9, None, False),
        (10**9, "max", False),
        (1_000_000, None, True),
        (10**9, "1000000", True),
        (10**9, "odd", False),
    ],
)
def test_images_exceed_memory(monkeypatch, tmp_path, memory, container, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory))
    limit = tmp_path / "memory.max"
    if container:
        limit.write_text(container + "\n")
    monkeypatch.setattr(rows_module, "_CONTAINER_LIMIT", limit)
    images = np.broadcast_to(np.zeros(1, np.uint8), (500, 48, 48, 1))
    assert exceed_memory(Rows.of(images)) is expected
