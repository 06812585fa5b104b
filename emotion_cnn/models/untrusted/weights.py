"""Weights from HDF5 files that may be a stranger's."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, read_limited, shown
from emotion_cnn.models.in_memory import load_saved_weights
from emotion_cnn.models.untrusted.plain_hdf5 import Group, read_hdf5

_Kind = TypeVar("_Kind", Group, np.ndarray)


def most_megabytes(model: keras.Model) -> int:
    """Returns how large a file of a network's weights may be.

    That is room for twice the digits or for the optimiser's two averages, which Keras
    writes if it is not told otherwise, and for what stands between the arrays.
    """
    return 10 + 16 * model.count_params() // 1_000_000


def _most_kept_megabytes(model: keras.Model) -> int:
    """Returns how large a file of `save_weights` may be, of this compiled network."""
    arrays = list(model.variables)
    # Keras writes the optimiser of float16 twice, as it is within another one.
    arrays += 2 * model.optimizer.variables
    return 10 + sum(math.prod(each.shape) * 4 for each in arrays) // 1_000_000


def load_weights(model: keras.Model, content: bytes) -> None:
    """Gives a network the weights that Keras' `model.save("x.h5")` wrote.

    The arrays are taken in the order of the layers, whose names need not be the same.

    Args:
        model: A built network; nothing in it is changed if the weights do not fit.
        content: The content of the file.

    Raises:
        ModelError: It is damaged, holds anything but plain arrays of finite numbers,
            or the weights of another network; says what is wrong.
    """
    layers = [layer for layer in model.layers if layer.weights]
    try:
        arrays = _arrays(read_hdf5(content), [len(layer.weights) for layer in layers])
        # The order in this format, whichever weights were trainable.
        variables = [
            (layer.name, variable)
            for layer in layers
            for variable in layer.trainable_weights + layer.non_trainable_weights
        ]
        for (owner, variable), array in zip(variables, arrays, strict=True):
            if array.shape != tuple(variable.shape) or array.dtype.kind != "f":
                raise ValueError(
                    f"the weights of {owner} are {array.dtype} of the shape "
                    f"{array.shape}; the network has {tuple(variable.shape)}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"some weights of {owner} are not finite numbers")
    except ValueError as error:
        raise ModelError(shown(first_line(error))) from error
    for (_, variable), array in zip(variables, arrays, strict=True):
        # Torch warns of arrays that cannot be written to, as the content cannot.
        variable.assign(array.copy())


def load_kept_weights(model: keras.Model, path: Path, sha256: str) -> None:
    """Gives a network the weights that `save_weights` wrote.

    Args:
        model: A compiled network whose optimiser is built.
        path: The file.
        sha256: What `save_weights` returned.

    Raises:
        ModelError: It is missing, damaged, holds anything but plain arrays, or the
            weights of another network.
    """
    try:
        content = read_limited(path, megabytes=_most_kept_megabytes(model))
        # Changed numbers are numbers too, which the format does not notice.
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 is not that of the file that was written")
        read_hdf5(content)
        load_saved_weights(model, content)
    # Weights of another network can make Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read ({shown(first_line(error))})."
        ) from error


def _arrays(file: Group, expected: Sequence[int]) -> list[np.ndarray]:
    """Returns the arrays in the order of the layers that have any.

    Args:
        file: The root of the file.
        expected: How many weights each layer of the network has.

    Raises:
        ValueError: They are not there, or not so many.
    """
    group = file
    if not file.names.keys() & {"layer_names", "layer_names0"}:
        group = _member(file, "model_weights", Group)
    stored = []
    for name in _names(group, "layer_names"):
        layer = _member(group, name, Group)
        names = _names(layer, "weight_names")
        if names:
            stored.append([_member(layer, each, np.ndarray) for each in names])
    if [len(arrays) for arrays in stored] != list(expected):
        raise ValueError(
            f"it holds {sum(map(len, stored))} weights of {len(stored)} layers; the "
            f"network has {sum(expected)} of {len(expected)}"
        )
    return [array for arrays in stored for array in arrays]


def _names(group: Group, attribute: str) -> list[str]:
    """Returns a list of names, which Keras divides among attributes if it is long."""
    names = list(group.names.get(attribute, ()))
    part = 0
    while f"{attribute}{part}" in group.names:
        names += group.names[f"{attribute}{part}"]
        part += 1
    return names


def _member(group: Group, path: str, kind: type[_Kind]) -> _Kind:
    """Returns the group or the array of a name, which may be a path."""
    found: Group | np.ndarray | None = group
    for part in path.split("/"):
        found = found.members.get(part) if isinstance(found, Group) else None
    if not isinstance(found, kind):
        raise ValueError(f"it has no {path[:100]}")
    return found
