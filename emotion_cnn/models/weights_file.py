"""Weights from HDF5 files that may be a stranger's.

HDF5 can do much more than hold arrays: links to other files, data in other files,
filters that unpack a little to a lot. Only what Keras writes is read: groups and plain
arrays, in this file, of the shapes that the network has.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, read_limited, shown

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_NAMES = 10_000
_PLAIN_KINDS = (h5py.h5t.TypeFloatID, h5py.h5t.TypeIntegerID)


def most_megabytes(model: keras.Model) -> int:
    """Returns how large a file of a network's weights may be.

    That is room for twice the digits or for the optimiser's two averages, which Keras
    writes if it is not told otherwise, and for what stands between the arrays.
    """
    return 10 + 16 * model.count_params() // 1_000_000


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
    variables = [
        variable
        for layer in layers
        # The order in this format, whichever weights were trainable.
        for variable in layer.trainable_weights + layer.non_trainable_weights
    ]
    try:
        with _open(content) as file:
            arrays = _arrays(file, [len(layer.weights) for layer in layers])
            _check_shapes(layers, variables, arrays)
            values = [np.asarray(array[()]) for array in arrays]
    except ModelError:
        raise
    # A damaged file can make h5py raise almost anything.
    except Exception as error:
        raise ModelError(f"It is no sound HDF5 file ({_reason(error)}).") from error
    if not all(np.isfinite(value).all() for value in values):
        raise ModelError("Some weights are not finite numbers.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def load_kept_weights(model: keras.Model, path: Path) -> None:
    """Gives a network the weights that its `save_weights("x.weights.h5")` wrote.

    Args:
        model: A built network.
        path: The file.

    Raises:
        ModelError: It is missing, damaged, holds anything but plain arrays, or the
            weights of another network.
    """
    try:
        with _open(read_limited(path, megabytes=most_megabytes(model))):
            pass
        model.load_weights(path)
    except ModelError:
        raise
    # A damaged file can make h5py and Keras raise almost anything.
    except Exception as error:
        raise ModelError(f"{path} cannot be read ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    return shown(first_line(error))


def _open(content: bytes) -> h5py.File:
    """Opens HDF5 that consists of groups and plain arrays; the caller closes it."""
    if not content.startswith(_SIGNATURE):
        raise ModelError("It does not begin as an HDF5 file.")
    file = h5py.File(io.BytesIO(content), "r")
    try:
        _check_plain(file, len(content))
    except BaseException:
        file.close()
        raise
    return file


def _check_plain(file: h5py.File, size: int) -> None:
    groups, seen = [file], {h5py.h5o.get_info(file.id).addr}
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelError(f"{_place(group, name)} is a link.")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or len(seen) > _MOST_NAMES:
                raise ModelError("It has objects of several names, or very many.")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif not isinstance(item, h5py.Dataset) or not _is_plain(item, size):
                raise ModelError(
                    f"{_place(group, name)} is no plain array in this file, as Keras "
                    "writes them: it is packed, elsewhere, or no numbers."
                )


def _is_plain(array: h5py.Dataset, size: int) -> bool:
    created = array.id.get_create_plist()
    kind = array.id.get_type()
    return (
        created.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
        and created.get_external_count() == 0
        and created.get_nfilters() == 0
        and isinstance(kind, _PLAIN_KINDS)
        and kind.get_size() in (1, 2, 4, 8)
        # Arrays that were never written take no room, but would be read as zeros.
        and array.id.get_space().get_simple_extent_npoints() * kind.get_size() <= size
    )


def _place(group: h5py.Group, name: str) -> str:
    return shown(f"{group.name.rstrip('/')}/{name}"[:200])


def _arrays(file: h5py.File, expected: Sequence[int]) -> list[h5py.Dataset]:
    """Returns the arrays in the order of the layers that have any.

    Args:
        file: An HDF5 file of plain arrays.
        expected: How many weights each layer of the network has.
    """
    group = file
    if "layer_names" not in file.attrs and "model_weights" in file:
        group = file["model_weights"]
    stored = [
        (layer, names)
        for layer in _names(group, "layer_names")
        if (names := _names(group[layer], "weight_names"))
    ]
    if [len(names) for _, names in stored] != list(expected):
        raise ModelError(
            f"It holds {sum(len(names) for _, names in stored)} weights of "
            f"{len(stored)} layers; the network has {sum(expected)} of "
            f"{len(expected)}."
        )
    return [group[layer][name] for layer, names in stored for name in names]


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Returns a list of names, which Keras divides among attributes if it is long."""
    parts = [attribute]
    if attribute not in group.attrs:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(f"{attribute}{len(parts)}")
    names: list[str] = []
    for part in parts:
        values = group.attrs.get_id(part)
        if values.shape == (0,):
            continue
        if not isinstance(values.get_type(), h5py.h5t.TypeStringID):
            raise ModelError(f"{_place(group, part)} holds no names.")
        names += [
            name.decode() if isinstance(name, bytes) else str(name)
            for name in np.atleast_1d(group.attrs[part])
        ]
    return names


def _check_shapes(
    layers: Sequence[Any], variables: Sequence[Any], arrays: Sequence[h5py.Dataset]
) -> None:
    owners = [layer.name for layer in layers for _ in layer.weights]
    for owner, variable, array in zip(owners, variables, arrays, strict=True):
        if array.shape != tuple(variable.shape) or array.dtype.kind != "f":
            raise ModelError(
                f"The weights of {owner} are {array.dtype} of the shape {array.shape}; "
                f"the network has {variable.dtype} of {tuple(variable.shape)}."
            )
