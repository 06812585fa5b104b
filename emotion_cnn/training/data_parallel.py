"""Training on several devices: each computes its rows of every batch.

Keras' `DataParallel` keeps the network on all devices and adds their gradients up, so
that it is trained as on one: batch normalisation takes its statistics from the whole
batch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from emotion_cnn.errors import ConfigError
from emotion_cnn.processes import check_several_devices, processes


@contextmanager
def over_all_devices(*, batch_size: int) -> Iterator[None]:
    """Makes Keras build and train networks on all devices of all processes.

    Args:
        batch_size: Images in a batch, over all devices.

    Raises:
        ConfigError: They cannot be shared out evenly, or there is one device alone.
    """
    check_several_devices()
    # The batches are shared out here.
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    devices = distribution.num_model_replicas
    if batch_size % devices:
        raise ConfigError(
            f"`batch_size` is shared out over all {devices} devices; found "
            f"{batch_size}, which {devices} does not divide. Choose a multiple, or "
            "another number of devices."
        )
    with distribution.scope():
        yield


def is_data_parallel() -> bool:
    """Returns whether networks are trained on several devices."""
    return keras.distribution.distribution() is not None


def describe_devices() -> str:
    """Returns on how many devices networks are trained; nothing if on one."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return ""
    devices, count = distribution.num_model_replicas, processes().count
    return f", {devices} devices of {count} process{'es' if count > 1 else ''}"


def _filled_up(count: int) -> int:
    """Returns a number of rows, or the next one that devices can share evenly."""
    devices = keras.distribution.distribution().num_model_replicas
    return math.ceil(count / devices) * devices


def _own_places(count: int) -> np.ndarray:
    """Returns this process' part of the rows of a batch.

    Args:
        count: Rows of the whole batch.

    Returns:
        int64 `(n,)`, n the same in all processes: the places from 0 to `count`, and
        beyond up to a multiple of the devices, are shared out in order.
    """
    places = np.arange(_filled_up(count))
    return np.split(places, processes().count)[processes().place]


class OwnRows(keras.utils.PyDataset):
    """The rows of training batches that this process feeds its devices.

    Where the last batch cannot be shared out evenly, its first rows follow once more,
    at most one less than there are devices. Rows of no weight in their place would
    count in the statistics of batch normalisation all the same.
    """

    def __init__(self, batches: keras.utils.PyDataset) -> None:
        """Takes the batches of all processes."""
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Returns this process' rows of a batch."""
        batch = self._batches[index]
        places = _own_places(len(batch[0])) % len(batch[0])
        return tuple(array[places] for array in batch)


class OwnWeightedRows(keras.utils.PyDataset):
    """The rows of validation batches that this process feeds its devices.

    Rows that fill up a batch have no weight. The others have the same one: that with
    which Keras, which divides by the number of rows, finds the mean over all images.
    """

    def __init__(
        self, batches: keras.utils.PyDataset, *, images: int, batch_size: int
    ) -> None:
        """Takes the batches of all processes.

        Args:
            batches: The batches.
            images: How many there are in all of them.
            batch_size: How many there are in each but the last.
        """
        super().__init__()
        self._batches = batches
        full, last = divmod(images, batch_size)
        rows = full * _filled_up(batch_size) + _filled_up(last)
        self._weight = np.float32(rows / images)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Returns this process' rows of a batch, and their weights."""
        batch = self._batches[index]
        count = len(batch[0])
        places = _own_places(count)
        weights = np.where(places < count, self._weight, np.float32(0))
        return (*(array[places % count] for array in batch), weights)
