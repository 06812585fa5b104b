"""The pair `model.json` + `model_weights.h5`: how networks are kept and shipped.

The only code that knows Keras' rules for saving. The weights are in the HDF5
format that is read in the order of layers, so both files are written together. The
network's description is kept in `model.json` beside what Keras writes, under a key
that Keras ignores.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emotion_cnn import __version__
from emotion_cnn.data.classes import EMOTIONS, LABELS
from emotion_cnn.errors import ModelError
from emotion_cnn.files import first_line, shown
from emotion_cnn.models.description import (
    Network,
    NetworkDescription,
    parse_description,
)
from emotion_cnn.models.in_memory import network_bytes
from emotion_cnn.models.input_range import GRAY_LEVELS, scaled
from emotion_cnn.models.pair_files import (
    DESCRIPTION_KEY,
    MODEL_NAME,
    PairFiles,
    open_pair,
    publish,
    replace_pair,
)
from emotion_cnn.models.probabilities import check_probabilities
from emotion_cnn.models.untrusted.architecture import build_from_json, check_nesting
from emotion_cnn.models.untrusted.weights import load_weights, most_megabytes

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
        folder: Existing folder, to which nobody else writes; a pair in it is replaced
            as a whole.
        network: Any Keras model with its description; the versions in the latter
            become those of the packages at work.
    """
    replace_pair(folder, _architecture(network), network_bytes(network.model))


def publish_pair(folder: Path, network: Network) -> None:
    """Writes a network to where others may read it, or publish theirs, meanwhile.

    Args:
        folder: As for `write_pair`, but others may write to it, and it is made if it
            does not exist.
        network: As for `write_pair`.

    Raises:
        FolderError: Others have been publishing there for seconds, or the folder
            cannot be written to.
    """
    publish(folder, _architecture(network), network_bytes(network.model))


def _architecture(network: Network) -> dict[str, Any]:
    versions = {"emotion-cnn": __version__, "keras": keras.__version__}
    described = asdict(replace(network.description, versions=versions))
    config = _without_defaults(json.loads(network.model.to_json()))
    return {DESCRIPTION_KEY: described, **config}


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


def read_pair(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    input_range: tuple[int, int] | None = None,
) -> Network:
    """Loads a network from `model.json` and `model_weights.h5`.

    The files may be a stranger's: only layers that `known_layers` names are built, and
    only plain arrays are read.

    Args:
        folder: Folder that holds both files.
        classes: The classes of a pair without a description, in the order of its
            outputs; None for FER2013's.
        input_range: What such a pair expects gray levels to be scaled to; None for
            raw ones.

    Returns:
        The network. A pair without a description is described as what networks of
        FER2013 have always been, but for what is given: 48x48 images from 0 to 255,
        seven emotions, the original labels, or both label sets if it has two outputs.

    Raises:
        ModelError: A file is missing, damaged, of Keras 2, does not fit the
            other one, or is not a network of this kind; or the pair has a
            description that says otherwise than what is given.
    """
    with open_pair(folder) as files:
        return load_pair(files, classes=classes, input_range=input_range)


def load_pair(
    files: PairFiles,
    *,
    classes: Sequence[str] | None = None,
    input_range: tuple[int, int] | None = None,
) -> Network:
    """Loads a network from a pair that `open_pair` has opened.

    Args:
        files: The pair.
        classes: As for `read_pair`.
        input_range: As for `read_pair`.

    Raises:
        ModelError: As for `read_pair`.
    """
    path = files.path.with_name(MODEL_NAME)
    network = _build(path, files.architecture, classes, input_range)
    try:
        content = files.read_weights(megabytes=most_megabytes(network.model))
        load_weights(network.model, content)
    except (ModelError, OSError, ValueError) as error:
        raise ModelError(
            f"{shown(str(files.path))} could not be loaded into the network of "
            f"{MODEL_NAME}: it is damaged, or of another network or class count. "
            f"Expected the pair that one run wrote. ({first_line(error)})"
        ) from error
    size = network.description.input_size
    gray = scaled(
        np.full((1, size, size, 1), 128, "float32"), network.description.input_range
    )
    try:
        outputs = network.model(gray, training=False)
    # Layers that do not fit each other can make the backend raise almost anything.
    except Exception as error:
        raise ModelError(
            f"The network of {shown(str(path))} fails on a gray image "
            f"({_cause(error)}). Choose another network."
        ) from error
    try:
        check_probabilities(
            keras.ops.convert_to_numpy(outputs),
            (1, *network.description.output_shape[1:]),
        )
    except ModelError as error:
        raise ModelError(f"{shown(str(path))}, on a gray image: {error}") from error
    return replace(network, weights_sha256=files.digest)


def _build(
    path: Path,
    config: dict[str, Any],
    classes: Sequence[str] | None,
    input_range: tuple[int, int] | None,
) -> Network:
    """Returns a network whose weights are not loaded yet."""
    place = shown(str(path))
    try:
        check_nesting(config)
        keras_version = str(config.get("keras_version", "3"))
    except ModelError as error:
        raise ModelError(
            f"{place} is damaged: expected the JSON that a run writes "
            f"({first_line(error)})."
        ) from error
    if keras_version.split(".")[0] in ("1", "2"):
        raise ModelError(
            f"{place} was written by Keras {shown(keras_version[:20])}; expected Keras "
            "3. Train the network again with this tool, or rebuild it in Keras 3 and "
            "save it again."
        )
    described, writer = None, "an unknown version of Keras"
    if DESCRIPTION_KEY in config:
        try:
            described = parse_description(config[DESCRIPTION_KEY])
        except ModelError as error:
            raise ModelError(
                f"`{DESCRIPTION_KEY}` in {place} does not describe a network. {error}"
            ) from error
        for name, given, found in (
            ("class_order", classes, described.classes),
            ("input_range", input_range, described.input_range),
        ):
            if given is not None and tuple(given) != found:
                raise ModelError(
                    f"`{name}` is for networks whose {MODEL_NAME} says nothing of it; "
                    f"{shown(str(path))} says {', '.join(map(str, found))}. Leave it "
                    "out."
                )
        if "keras" in described.versions:
            writer = f"Keras {shown(described.versions['keras'])}"
    try:
        model = build_from_json(config)
        shapes = model.input_shape, model.output_shape
    # Layers that do not fit each other can make Keras raise almost anything.
    except Exception as error:
        raise ModelError(
            f"{place} does not describe a network that can be built without running "
            f"code from the file. {_cause(error)} (Written by {writer}; Keras "
            f"{keras.__version__} runs here.) Choose another network, or build it of "
            "Keras' own layers for images."
        ) from error
    assumed = NetworkDescription(
        classes=EMOTIONS if classes is None else tuple(classes),
        input_range=GRAY_LEVELS if input_range is None else input_range,
    )
    candidates = (
        (assumed, replace(assumed, label_sets=LABELS))
        if described is None
        else (described,)
    )
    size = candidates[0].input_size
    for description in candidates:
        if shapes == ((None, size, size, 1), description.output_shape):
            return Network(model, description, is_described=described is not None)
    known = described is not None or classes is not None
    raise ModelError(
        f"{place} is a network from {shapes[0]} to {shapes[1]}; expected "
        f"{(None, size, size, 1)} to "
        f"{' or '.join(str(each.output_shape) for each in candidates)}: {size}x{size} "
        f"gray images in, the classes {', '.join(candidates[0].classes)} out, for "
        f"{' or for '.join(', '.join(each.label_sets) for each in candidates)} labels."
        + ("" if known else " If its classes are others, name them with `class_order`.")
    )


def _cause(error: BaseException) -> str:
    """Returns, on one line, what went wrong first, which Keras puts last."""
    if isinstance(error, ModelError):
        return str(error)
    text = str(error).rpartition("Exception encountered: ")[2]
    return shown(first_line(ValueError(text or type(error).__name__)))
