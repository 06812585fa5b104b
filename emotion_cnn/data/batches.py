"""Batches for training: Keras' `ImageDataGenerator` over images in memory."""

import threading

import keras
import numpy as np
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split
from emotion_cnn.training.recipes import Recipe


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Returns labels, int (n,), as float32 (n, 7) with a one at each label."""
    return keras.utils.to_categorical(labels, len(EMOTIONS)).astype("float32")


def targets(split: Split) -> np.ndarray:
    """Returns what a network is to answer, float32 (n, 7) or (n, 2, 7).

    That is a one at the label, or what the images ask for instead.
    """
    return one_hot(split.labels) if split.targets is None else split.targets


def _smoothed(wanted: np.ndarray, share: float) -> np.ndarray:
    """Spreads a share of each label evenly over the emotions.

    Votes that differ, and labels smoothed by votes, say themselves how sure they
    are, and stay as they are.

    Source: C. Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", CVPR 2016 (arXiv 1512.00567), section 7.
    """
    labels = (wanted == 1).any(axis=-1, keepdims=True)
    return np.where(labels, (1 - share) * wanted + share / len(EMOTIONS), wanted)


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, randomly flipped and mixed batches; each depends on its number alone.

    Keras' generator draws from NumPy's global random state, and Keras asks for
    batches from several threads, some of them more than once. So the order of
    an epoch and what is done to a batch follow from the run's seed, the epoch
    and the batch number, whoever asks, and however the epoch was reached.
    """

    def __init__(self, split: Split, *, recipe: Recipe, seed: int) -> None:
        """Prepares the first epoch.

        Args:
            split: Training images, at least one.
            recipe: Images per batch (the last one may hold fewer), and how they
                are drawn, flipped and mixed.
            seed: Non-negative seed of the run.
        """
        super().__init__()
        self._seed = seed
        self._mixtures = [
            (mix, alpha)
            for mix, alpha in ((_blend, recipe.mixup), (_paste, recipe.cutmix))
            if alpha
        ]
        # Each image's chance, evened out over the emotions by so much.
        counts = np.bincount(split.labels, minlength=len(EMOTIONS))
        chances = (1 / counts[split.labels]) ** recipe.balance
        self._chances = chances / chances.sum() if recipe.balance else None
        self._lock = threading.Lock()
        self._flow = ImageDataGenerator(horizontal_flip=recipe.flip).flow(
            # The type the generator works in: it would copy any other.
            split.images.astype("float32"),
            _smoothed(targets(split), recipe.label_smoothing),
            batch_size=recipe.batch_size,
        )
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Serves the batches of one epoch from now on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        entropy = np.random.SeedSequence([self._seed, epoch])
        generator = np.random.default_rng(entropy)
        count = self._flow.n
        with self._lock:
            self._epoch = epoch
            self._flow.index_array = (
                generator.permutation(count)
                if self._chances is None
                else generator.choice(count, count, p=self._chances)
            )
            # The generator adds the batch number: leave room below 2**32.
            self._flow.seed = int(entropy.generate_state(1)[0] >> 1)

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return len(self._flow)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, float32 (batch, 48, 48, 1), and their `targets`."""
        with self._lock:
            self._flow.total_batches_seen = index
            images, wanted = self._flow[index]
            epoch = self._epoch
        if not self._mixtures:
            return images, wanted
        generator = np.random.default_rng([self._seed, epoch, index])
        mix, alpha = self._mixtures[generator.integers(len(self._mixtures))]
        partners = generator.permutation(len(images))
        share = generator.beta(alpha, alpha)
        images, kept = mix(images, images[partners], share, generator)
        return images, kept * wanted + (1 - kept) * wanted[partners]


def _blend(
    images: np.ndarray, others: np.ndarray, share: float, _: np.random.Generator
) -> tuple[np.ndarray, np.float32]:
    """Mixup: H. Zhang et al., ICLR 2018 (arXiv 1710.09412)."""
    kept = np.float32(share)
    return kept * images + (1 - kept) * others, kept


def _paste(
    images: np.ndarray,
    others: np.ndarray,
    share: float,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.float32]:
    """CutMix: S. Yun et al., ICCV 2019 (arXiv 1905.04899)."""
    height, width = images.shape[1:3]
    half = np.sqrt(1 - share) / 2 * np.array([height, width])
    middle = generator.uniform(0, 1, 2) * (height, width)
    top, left = np.clip(middle - half, 0, None).round().astype(int)
    bottom, right = np.clip(middle + half, None, (height, width)).round().astype(int)
    mixed = images.copy()
    mixed[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return mixed, np.float32(1 - (bottom - top) * (right - left) / (height * width))
