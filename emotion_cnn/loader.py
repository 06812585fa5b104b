"""Batches for training: Keras' `ImageDataGenerator` over pictures in memory."""

import threading

import keras
import numpy as np

# The generator as `tensorflow.keras` exports it, without importing TensorFlow,
# which another backend may not have.
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from emotion_cnn.dataset import Split
from emotion_cnn.emotions import EMOTIONS


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Returns labels, int (n,), as float32 (n, 7) with a one at each label."""
    return keras.utils.to_categorical(labels, len(EMOTIONS)).astype("float32")


def targets(split: Split) -> np.ndarray:
    """Returns what a network is to answer, float32 (n, 7).

    That is a one at the label, or the shares of the crowd's votes.
    """
    return one_hot(split.labels) if split.crowd is None else split.crowd


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, randomly mirrored batches; a batch depends on its number alone.

    Keras' generator draws from NumPy's global random state, and Keras asks for
    batches from several threads, some of them more than once. So the order of
    an epoch and the mirroring of a batch follow from the run's seed, the epoch
    and the batch number, whoever asks, and however the epoch was reached.
    """

    def __init__(self, split: Split, *, batch_size: int, flip: bool, seed: int) -> None:
        """Prepares the first epoch.

        Args:
            split: Training pictures, at least one.
            batch_size: Pictures per batch; the last one may hold fewer.
            flip: Whether half of the pictures, chosen at random, are mirrored.
            seed: Non-negative seed of the run.
        """
        super().__init__()
        self._seed = seed
        self._lock = threading.Lock()
        self._flow = ImageDataGenerator(horizontal_flip=flip).flow(
            # The type the generator works in: it would copy any other.
            split.images.astype("float32"),
            targets(split),
            batch_size=batch_size,
        )
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Serves the batches of one epoch from now on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        entropy = np.random.SeedSequence([self._seed, epoch])
        with self._lock:
            order = np.random.default_rng(entropy).permutation(self._flow.n)
            self._flow.index_array = order
            # The generator adds the batch number: leave room below 2**32.
            self._flow.seed = int(entropy.generate_state(1)[0] >> 1)

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return len(self._flow)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns pictures, float32 (batch, 48, 48, 1), and float32 (batch, 7)."""
        with self._lock:
            self._flow.total_batches_seen = index
            return self._flow[index]
