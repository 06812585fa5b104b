"""The file with what a network predicts for the fold that it was not trained on."""

import json
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from emotion_cnn.data.folds import parse_fold
from emotion_cnn.data.soft_labels import OutOfFold
from emotion_cnn.data.splits import Dataset, targets
from emotion_cnn.errors import ConfigError, RunError
from emotion_cnn.files import first_line, open_regular, replacing, shown
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.description import Network
from emotion_cnn.training.run_folder import OUT_OF_FOLD_NAME

# FER2013 in halves takes 7 MB.
_MEGABYTE_LIMIT = 512
_MOST_NAMES = 100


def predict_out_of_fold(
    network: Network, data: Dataset, *, fold: str, seed: int
) -> OutOfFold:
    """Predicts the held-out fold, which is `data.validation`.

    Args:
        network: A network trained on the other folds.
        data: Its data.
        fold: The fold, such as `1/4`.
        seed: Of the training.
    """
    held_out = data.validation
    label_sets = network.description.label_sets
    y_true = targets(held_out)
    # An image has a label where one class has more than half of it.
    labels = np.where(y_true.max(axis=2) > 0.5, y_true.argmax(axis=2), -1)
    predictor = KerasNetwork(network)
    probabilities = [
        predict(predictor, held_out.images, labels=labels) for labels in label_sets
    ]
    return OutOfFold(
        held_out.names,
        labels.astype(np.int64),
        np.stack(probabilities, axis=1),
        held_out.classes,
        label_sets,
        fold,
        seed,
        data.training_fingerprint,
    )


def write_out_of_fold(path: Path, predictions: OutOfFold) -> None:
    """Writes predictions, whole or not at all."""
    names = ("names", "classes", "label_sets", "fold", "seed", "fingerprint")
    described = {name: getattr(predictions, name) for name in names}
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            description=json.dumps(described),
            labels=predictions.labels,
            probabilities=predictions.probabilities,
        )


def read_out_of_fold(path: Path) -> OutOfFold:
    """Reads what `write_out_of_fold` wrote.

    Raises:
        RunError: The file is missing, damaged or not such a file.
    """
    try:
        with open_regular(path) as stream:
            _check_size(stream)
            with np.load(stream, allow_pickle=False) as file:
                described = json.loads(str(file["description"]))
                return _checked(described, file["labels"], file["probabilities"])
    # A damaged file can make zipfile and NumPy raise almost anything.
    except Exception as error:
        raise RunError(
            f"Expected the predictions of a held-out fold in {shown(str(path))}, found "
            f"none that can be used ({shown(first_line(error))}). Train with `fold` "
            "again."
        ) from error


def read_teachers(folder: Path) -> dict[str, OutOfFold]:
    """Reads the predictions of all runs in a folder, by the path of their file.

    Raises:
        RunError: There are none, or one is damaged.
    """
    paths = sorted(folder.glob(f"*/{OUT_OF_FOLD_NAME}"))
    if not paths:
        raise RunError(
            f"Expected a folder of runs with {OUT_OF_FOLD_NAME} at "
            f"{shown(str(folder))}, found none. Train them with `recipe=teacher` and "
            "`fold`."
        )
    return {shown(str(path)): read_out_of_fold(path) for path in paths}


def _check_size(file: IO[bytes]) -> None:
    """Checks how much a file would unpack to, whatever it takes itself."""
    size = sum(member.file_size for member in zipfile.ZipFile(file).infolist())
    if max(size, file.seek(0, os.SEEK_END)) > _MEGABYTE_LIMIT * 1_000_000:
        raise ValueError(f"more than {_MEGABYTE_LIMIT} MB")
    file.seek(0)


def _checked(
    described: Any, labels: np.ndarray, probabilities: np.ndarray
) -> OutOfFold:
    names, classes, label_sets = (
        _different_texts(described[name]) for name in ("names", "classes", "label_sets")
    )
    fold, seed, fingerprint = (
        described[name] for name in ("fold", "seed", "fingerprint")
    )
    if type(seed) is not int or type(fold) is not str or type(fingerprint) is not str:
        raise ValueError("fold, seed or fingerprint is of another type")
    try:
        parse_fold(fold)
    except ConfigError as error:
        raise ValueError("no such fold") from error
    if max(len(classes), len(label_sets)) > _MOST_NAMES:
        raise ValueError(f"more than {_MOST_NAMES} classes or label sets")
    shape = (len(names), len(label_sets))
    if probabilities.dtype != np.float32 or labels.dtype != np.int64:
        raise ValueError("numbers of another type")
    if labels.shape != shape or probabilities.shape != (*shape, len(classes)):
        raise ValueError(f"shapes {labels.shape} and {probabilities.shape}")
    if not ((labels >= -1) & (labels < len(classes))).all():
        raise ValueError("labels without a class")
    # NaN is in no range.
    if not ((probabilities >= 0) & (probabilities <= 1.001)).all():
        raise ValueError("probabilities outside 0 to 1")
    if not np.allclose(probabilities.sum(axis=2), 1, atol=1e-3):
        raise ValueError("probabilities that do not sum to 1")
    return OutOfFold(
        names, labels, probabilities, classes, label_sets, fold, seed, fingerprint
    )


def _different_texts(values: Any) -> tuple[str, ...]:
    if type(values) is not list or not all(type(each) is str for each in values):
        raise ValueError("names that are no texts")
    if not 0 < len(set(values)) == len(values):
        raise ValueError("no names, or the same twice")
    return tuple(values)
