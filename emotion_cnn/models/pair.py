"""The pair `model.json` + `model_weights.h5`: how networks are kept and shipped.

The only code that knows Keras' rules for saving. The weights are in the HDF5
format that is read in the order of layers, so both files are written together. The
network's description is kept in `model.json` beside what Keras writes, under a key
that Keras ignores.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import absl.logging
import keras
import numpy as np

from emotion_cnn import __version__
from emotion_cnn.data.classes import LABELS
from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, replacing, shown, write_text
from emotion_cnn.models.description import (
    Network,
    NetworkDescription,
    parse_description,
)

MODEL_NAME = "model.json"
WEIGHTS_NAME = "model_weights.h5"
_PAIR = (MODEL_NAME, WEIGHTS_NAME)
_STAGED_PAIR = ".pair-complete"
_DESCRIPTION_KEY = "emotion_cnn"
_DEFAULTS_OF_NEWEST_KERAS = {
    "input_axes": None,
    "output_axes": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "quantization_config": None,
}
"""What Keras 3.15 writes of every layer, and earlier versions of Keras 3 refuse."""


def write_pair(folder: Path, network: Network) -> None:
    """Writes a network as `model.json` and `model_weights.h5`.

    Args:
        folder: Existing folder; a pair in it is replaced.
        network: Any Keras model with its description; the versions in the latter
            become those of the packages at work.
    """
    write_text(folder / MODEL_NAME, _architecture_json(network))
    with replacing(folder / WEIGHTS_NAME) as temporary, _quiet_about_hdf5():
        network.model.save(temporary, include_optimizer=False)


def _architecture_json(network: Network) -> str:
    versions = {"emotion-cnn": __version__, "keras": keras.__version__}
    described = asdict(replace(network.description, versions=versions))
    config = _without_defaults(json.loads(network.model.to_json()))
    return json.dumps({_DESCRIPTION_KEY: described, **config}, indent=2) + "\n"


def _without_defaults(config: Any) -> Any:
    """Returns a network's configuration as earlier versions of Keras 3 read it too."""
    if isinstance(config, list):
        return [_without_defaults(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        name: _without_defaults(value)
        for name, value in config.items()
        if name not in _DEFAULTS_OF_NEWEST_KERAS
        or value != _DEFAULTS_OF_NEWEST_KERAS[name]
    }


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


def publish_pair(source: Path, target: Path) -> None:
    """Replaces the pair in one folder by that of another, both files or none.

    The new pair is first written whole beside the old one; renaming its folder is
    the decisive step. `complete_published_pair` does the rest if that is interrupted.

    Args:
        source: Folder with a pair.
        target: Folder whose pair is replaced.
    """
    complete_published_pair(target)
    for leftover in target.glob(".pair-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".pair-", dir=target))
    try:
        for name in _PAIR:
            with replacing(staging / name) as temporary:
                shutil.copyfile(source / name, temporary)
        staging.replace(target / _STAGED_PAIR)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    complete_published_pair(target)


def complete_published_pair(folder: Path) -> None:
    """Completes a replacement of the pair that was interrupted, if there is one."""
    staged = folder / _STAGED_PAIR
    if staged.is_dir():
        for name in _PAIR:
            if (staged / name).is_file():
                (staged / name).replace(folder / name)
        staged.rmdir()


def read_pair(folder: Path) -> Network:
    """Loads a network from `model.json` and `model_weights.h5`.

    Keras' safe mode refuses serialised Python code, but `model.json` can name what
    Keras exports: load only files that you trust.

    Args:
        folder: Folder that holds both files.

    Returns:
        The network. A pair without a description is described as what networks of
        FER2013 have always been: 48x48 images, seven emotions, the original labels,
        or both label sets if it has two outputs.

    Raises:
        ModelError: A file is missing, damaged, of Keras 2, does not fit the
            other one, or is not a network of this kind.
    """
    if os.access(folder, os.W_OK):
        complete_published_pair(folder)
    for name in _PAIR:
        if not (folder / name).is_file():
            raise ModelError(
                f"Expected {MODEL_NAME} and {WEIGHTS_NAME} in {folder}, found no "
                f"{name}. Choose a folder with both, such as a finished run."
            )
    network = _read_architecture(folder / MODEL_NAME)
    weights = folder / WEIGHTS_NAME
    try:
        with weights.open("rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                raise ValueError("it does not begin as an HDF5 file")
        network.model.load_weights(weights)
        if not all(np.isfinite(array).all() for array in network.model.get_weights()):
            raise ValueError("some weights are not finite numbers")
    # A stranger's file can make h5py and Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{weights} could not be loaded into the network of {MODEL_NAME}: it is "
            f"damaged, or of another network or class count. Expected the pair that "
            f"one run wrote. ({first_line(error)}; Keras {keras.__version__} runs here)"
        ) from error
    size = network.description.input_size
    gray = np.full((1, size, size, 1), 128, "float32")
    outputs = keras.ops.convert_to_numpy(network.model(gray, training=False))
    if (outputs < 0).any() or not (abs(outputs.sum(axis=-1) - 1) < 1e-3).all():
        raise ModelError(
            f"Expected {folder / MODEL_NAME} to end in probabilities, numbers from 0 "
            f"that sum to 1 over the {outputs.shape[-1]} classes of each label set; "
            f"found {outputs[0].tolist()} for a gray image."
        )
    return network


def _read_architecture(path: Path) -> Network:
    """Returns a network whose weights are not loaded yet."""
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
        keras_version = str(config.get("keras_version", "3"))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path} is damaged: expected the JSON that a run writes ({error})."
        ) from error
    if keras_version.split(".")[0] in ("1", "2"):
        raise ModelError(
            f"{path} was written by Keras {keras_version}; expected Keras 3. Train "
            "the network again with this tool, or rebuild it in Keras 3 and save it "
            "again."
        )
    described, writer = None, "an unknown version of Keras"
    if _DESCRIPTION_KEY in config:
        try:
            described = parse_description(config[_DESCRIPTION_KEY])
        except ModelError as error:
            raise ModelError(
                f"`{_DESCRIPTION_KEY}` in {path} does not describe a network. {error}"
            ) from error
        if "keras" in described.versions:
            writer = f"Keras {shown(described.versions['keras'])}"
    try:
        model = keras.models.model_from_json(text)
        shapes = model.input_shape, model.output_shape
    # A stranger's file can make Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{path} does not describe a network that Keras {keras.__version__}, which "
            f"runs here, can build without running code from the file; it was written "
            f"by {writer} ({_cause(error)}). Install that version, or train again."
        ) from error
    of_fer2013 = NetworkDescription(), NetworkDescription(label_sets=LABELS)
    candidates = of_fer2013 if described is None else (described,)
    size = candidates[0].input_size
    for description in candidates:
        if shapes == ((None, size, size, 1), description.output_shape):
            return Network(model, description)
    raise ModelError(
        f"{path} is a network from {shapes[0]} to {shapes[1]}; expected "
        f"{(None, size, size, 1)} to "
        f"{' or '.join(str(each.output_shape) for each in candidates)}: {size}x{size} "
        f"gray images in, the classes {', '.join(candidates[0].classes)} out, for "
        f"{' or for '.join(', '.join(each.label_sets) for each in candidates)} labels."
    )


def _cause(error: BaseException) -> str:
    """Returns, on one line, what went wrong first, which Keras puts last."""
    return first_line(ValueError(str(error).rpartition("Exception encountered: ")[2]))
