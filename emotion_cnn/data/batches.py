"""Batches for training: Keras' `ImageDataGenerator` over images in memory."""

import threading

import keras
import numpy as np
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from emotion_cnn.data.splits import Split, targets


def _smoothed(y_true: np.ndarray, share: float) -> np.ndarray:
    """Spreads a share of each label evenly over the classes.

    Soft labels, such as those of votes, express uncertainty already, and stay as they
    are.

    Source: C. Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", CVPR 2016 (arXiv 1512.00567), section 7.
    """
    hard = (y_true == 1).any(axis=-1, keepdims=True)
    return np.where(hard, (1 - share) * y_true + share / y_true.shape[-1], y_true)


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, randomly flipped and mixed batches, the same for the same seed.

    Keras' generator draws from NumPy's global random state, and Keras requests
    batches from several threads, some of them more than once. So the order of
    an epoch and the changes to a batch follow from the run's seed, the epoch
    and the batch's index alone.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        flip: bool = True,
        balance: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        one_shape: bool = False,
    ) -> None:
        """Prepares the first epoch.

        Args:
            split: Training images, at least one.
            batch_size: Images per batch; the last one may hold fewer.
            seed: Non-negative seed of the run.
            flip: Whether to flip images horizontally at random.
            balance: From 0, every image once an epoch, to 1, images drawn so that all
                classes are equally frequent.
            mixup: Alpha of mixup; 0 for none.
            cutmix: Alpha of CutMix; 0 for none. With mixup, one of the two is drawn
                for each batch.
            label_smoothing: Share of each label that is spread over all classes.
            one_shape: Whether to fill the last batch with the first images of the
                epoch, for a device that compiles a program for each shape.
        """
        super().__init__()
        self._one_shape = one_shape
        self._seed = seed
        self._mixtures = [
            (mix, alpha) for mix, alpha in ((_blend, mixup), (_paste, cutmix)) if alpha
        ]
        # How often each image is drawn, for classes that differ less in frequency.
        counts = np.bincount(split.labels, minlength=len(split.classes))
        chances = (1 / counts[split.labels]) ** balance
        self._chances = chances / chances.sum() if balance else None
        self._lock = threading.Lock()
        self._flow = ImageDataGenerator(horizontal_flip=flip).flow(
            # The type the generator works in: it would copy any other.
            split.images.astype("float32"),
            _smoothed(targets(split), label_smoothing),
            batch_size=batch_size,
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
            order = (
                generator.permutation(count)
                if self._chances is None
                else generator.choice(count, count, p=self._chances)
            )
            if self._one_shape:
                order = np.resize(order, len(self._flow) * self._flow.batch_size)
            self._flow.index_array = order
            # The generator adds the batch number: leave room below 2**32.
            self._flow.seed = int(entropy.generate_state(1)[0] >> 1)

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return len(self._flow)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, float32 (batch, size, size, 1), and their `targets`."""
        with self._lock:
            self._flow.total_batches_seen = index
            images, y_true = self._flow[index]
            epoch = self._epoch
        if not self._mixtures:
            return images, y_true
        generator = np.random.default_rng([self._seed, epoch, index])
        mix, alpha = self._mixtures[generator.integers(len(self._mixtures))]
        partners = generator.permutation(len(images))
        share = generator.beta(alpha, alpha)
        images, kept = mix(images, images[partners], share, generator)
        return images, kept * y_true + (1 - kept) * y_true[partners]


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
