"""Keras' HDF5 files by way of memory.

Where the disk is full, HDF5 ends the process with a segmentation fault. So Keras writes
to memory, and the bytes go to the disk as those of every other file do. It reads from
memory, too: the very bytes that were checked.
"""

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import absl.logging
import h5py
import keras

from emotion_cnn.files import replacing


class _WeightsFile(io.BytesIO):
    """A file in memory; Keras takes the format from the end of its name."""

    def __str__(self) -> str:
        return "memory.weights.h5"


class _NetworkFile(h5py.File):
    """An open HDF5 file; Keras takes the format from the end of its name."""

    def __str__(self) -> str:
        return "memory.h5"


def network_bytes(model: keras.Model) -> bytes:
    """Returns what `model.save` writes to a file whose name ends in `.h5`."""
    memory = io.BytesIO()
    with _NetworkFile(memory, "w") as file, _quiet_about_hdf5():
        model.save(file, include_optimizer=False)
    return memory.getvalue()


def save_weights(model: keras.Model, path: Path) -> str:
    """Does what `model.save_weights` does, but whole or not at all.

    Returns:
        The SHA-256 of the file.
    """
    memory = _WeightsFile()
    model.save_weights(memory)
    with replacing(path) as temporary:
        temporary.write_bytes(memory.getbuffer())
    return hashlib.sha256(memory.getbuffer()).hexdigest()


def load_saved_weights(model: keras.Model, content: bytes) -> None:
    """Does what `model.load_weights` does, with the content of such a file."""
    model.load_weights(_WeightsFile(content))


@contextmanager
def _quiet_about_hdf5() -> Iterator[None]:
    # Keras warns against HDF5 at every save, but the format is the project's interface.
    logger = absl.logging.get_absl_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
