"""The pair `model.json` + `model_weights.h5`: how networks are kept and shipped.

The only code that knows Keras' rules for saving. The weights are in the HDF5
format that goes by the order of layers, so both files are written together.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import absl.logging
import keras
import numpy as np

from emotion_cnn.data.classes import EMOTIONS, LABELS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, replacing, write_text

MODEL_NAME = "model.json"
WEIGHTS_NAME = "model_weights.h5"
_PAIR = (MODEL_NAME, WEIGHTS_NAME)
_STAGED_PAIR = ".pair-complete"


def write_pair(folder: Path, model: keras.Model) -> None:
    """Writes a network as `model.json` and `model_weights.h5`.

    Args:
        folder: Existing folder; a pair in it is replaced.
        model: Any Keras model.
    """
    write_text(folder / MODEL_NAME, model.to_json(indent=2) + "\n")
    with replacing(folder / WEIGHTS_NAME) as temporary, _quiet_about_hdf5():
        model.save(temporary, include_optimizer=False)


@contextmanager
def _quiet_about_hdf5() -> Iterator[None]:
    # Keras advises against HDF5 at every save. The format is the project's
    # interface, so the advice is of no use to whoever trains.
    logger = absl.logging.get_absl_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def publish_pair(source: Path, target: Path) -> None:
    """Replaces the pair in one folder by that of another, both files or none.

    The new pair is first written whole beside the old one; the renaming of its
    folder decides. What is cut off after that, `complete_published_pair` ends.

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
    """Ends a replacement of the pair that was cut off half-way, if there is one."""
    staged = folder / _STAGED_PAIR
    if staged.is_dir():
        for name in _PAIR:
            if (staged / name).is_file():
                (staged / name).replace(folder / name)
        staged.rmdir()


def read_pair(folder: Path) -> keras.Model:
    """Loads a network from `model.json` and `model_weights.h5`.

    No code in the files is run: Keras' safe mode refuses it.

    Args:
        folder: Folder that holds both files.

    Returns:
        A model from raw gray values (batch, 48, 48, 1) to probabilities, (batch, 7),
        or (batch, 2, 7) where it answers for each of `LABELS`.

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
                f"{name}. Name a folder with both, such as a finished run, with "
                "--weights."
            )
    model = _read_architecture(folder / MODEL_NAME)
    weights = folder / WEIGHTS_NAME
    try:
        with weights.open("rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                raise ValueError("it does not begin as an HDF5 file")
        model.load_weights(weights)
        if not all(np.isfinite(array).all() for array in model.get_weights()):
            raise ValueError("some weights are no finite numbers")
    # A stranger's file can make h5py and Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{weights} could not be loaded into the network of {MODEL_NAME}: it is "
            f"damaged, or of another network or class count. Expected the pair that "
            f"one run wrote. ({first_line(error)})"
        ) from error
    gray = np.full((1, IMAGE_SIZE, IMAGE_SIZE, 1), 128, "float32")
    outputs = keras.ops.convert_to_numpy(model(gray, training=False))
    if (outputs < 0).any() or not (abs(outputs.sum(axis=-1) - 1) < 1e-3).all():
        raise ModelError(
            f"Expected {folder / MODEL_NAME} to end in probabilities, seven numbers "
            f"from 0 that sum to 1 in each answer; found "
            f"{outputs[0].tolist()} for a gray image."
        )
    return model


def _read_architecture(path: Path) -> keras.Model:
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
            "anew."
        )
    try:
        model = keras.models.model_from_json(text)
        input_shape, output_shape = model.input_shape, model.output_shape
    # A stranger's file can make Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{path} does not describe a network that Keras {keras.__version__} can "
            f"build without running code from the file ({first_line(error)})."
        ) from error
    expected_input = (None, IMAGE_SIZE, IMAGE_SIZE, 1)
    one_head, two_heads = (None, len(EMOTIONS)), (None, len(LABELS), len(EMOTIONS))
    if input_shape != expected_input or output_shape not in (one_head, two_heads):
        raise ModelError(
            f"{path} is a network from {input_shape} to {output_shape}; expected "
            f"{expected_input} to {one_head} or {two_heads}: 48x48 gray images in, "
            f"the seven emotions {', '.join(EMOTIONS)} out, once or for each of the "
            f"labels {', '.join(LABELS)}."
        )
    return model
