"""Batches: for training by Keras' `ImageDataGenerator`, for evaluation in order."""

import threading

import keras
import numpy as np
from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from emotion_cnn.data.rows import Rows
from emotion_cnn.data.splits import Split, targets

_BLOCK = 64
"""Images that lie together, which a disk reads in hardly more time than one."""
_WINDOW = 1024 * _BLOCK
"""Images that are shuffled among each other, of blocks from everywhere."""


def shuffled_by_blocks(count: int, generator: np.random.Generator) -> np.ndarray:
    """Returns an order of images of which few lie far apart at any time.

    Blocks of images come in random order, and the images of a thousand blocks are
    shuffled together.

    Args:
        count: The number of images.
        generator: Decides the order.

    Returns:
        int64 `(count,)`: a permutation of the positions of the images.
    """
    blocks = generator.permutation(-(-count // _BLOCK))
    order = (blocks[:, np.newaxis] * _BLOCK + np.arange(_BLOCK)).ravel()
    order = order[order < count]
    for start in range(0, count, _WINDOW):
        generator.shuffle(order[start : start + _WINDOW])
    return order


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
    and the batch's index alone. The generator decides which images are flipped, as in
    its `flow`, which changes them one by one: three times as slowly.
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
        by_blocks: bool = False,
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
            by_blocks: Whether to shuffle as `shuffled_by_blocks`, for images that
                exceed memory.
        """
        super().__init__()
        self._batch_size = batch_size
        self._one_shape = one_shape
        self._by_blocks = by_blocks
        self._seed = seed
        self._mixtures = [
            (mix, alpha) for mix, alpha in ((_blend, mixup), (_paste, cutmix)) if alpha
        ]
        # How often each image is drawn, for classes that differ less in frequency.
        counts = np.bincount(split.labels, minlength=len(split.classes))
        chances = (1 / counts[split.labels]) ** balance
        self._chances = chances / chances.sum() if balance else None
        self._images = Rows.of(split.images)
        self._y_true = _smoothed(targets(split), label_smoothing)
        self._loader = ImageDataGenerator(horizontal_flip=flip)
        self._lock = threading.Lock()
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Serves the batches of one epoch from now on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        entropy = np.random.SeedSequence([self._seed, epoch])
        order = self._order_of(np.random.default_rng(entropy))
        if self._one_shape:
            order = np.resize(order, len(self) * self._batch_size)
        with self._lock:
            self._epoch = epoch
            self._order = order
            # The batch number is added: leave room below 2**32.
            self._flow_seed = int(entropy.generate_state(1)[0] >> 1)
        self._prefetch(order[: 2 * _WINDOW])

    def _order_of(self, generator: np.random.Generator) -> np.ndarray:
        """Returns the positions of the images of an epoch, int64 `(n,)`."""
        count = len(self._images)
        if self._chances is None:
            if self._by_blocks:
                return shuffled_by_blocks(count, generator)
            return generator.permutation(count)
        drawn = generator.choice(count, count, p=self._chances)
        if self._by_blocks:
            return np.sort(drawn)[shuffled_by_blocks(count, generator)]
        return drawn

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return -(-len(self._images) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, float32 (batch, size, size, 1), and their `targets`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = index * self._batch_size, (index + 1) * self._batch_size
        with self._lock:
            epoch, order, seed = self._epoch, self._order, self._flow_seed + index
        if start // _WINDOW != end // _WINDOW:
            following = (end // _WINDOW + 1) * _WINDOW
            self._prefetch(order[following : following + _WINDOW])
        places = order[start:end]
        images, y_true = self._images[places], self._y_true[places]
        with self._lock:
            np.random.seed(seed)
            drawn = [
                self._loader.get_random_transform(images.shape[1:]) for _ in places
            ]
        flipped = np.flatnonzero([each["flip_horizontal"] for each in drawn])
        images[flipped] = images[flipped, :, ::-1]
        images = images.astype(np.float32)
        if not self._mixtures:
            return images, y_true
        generator = np.random.default_rng([self._seed, epoch, index])
        mix, alpha = self._mixtures[generator.integers(len(self._mixtures))]
        partners = generator.permutation(len(images))
        share = generator.beta(alpha, alpha)
        images, kept = mix(images, images[partners], share, generator)
        return images, kept * y_true + (1 - kept) * y_true[partners]

    def _prefetch(self, places: np.ndarray) -> None:
        """Has the disk read the blocks of images that are needed soon."""
        if self._by_blocks:
            for block in np.unique(places // _BLOCK).tolist():
                first = block * _BLOCK
                self._images.prefetch(first, min(first + _BLOCK, len(self._images)))


class BatchesInOrder(keras.utils.PyDataset):
    """The batches of a split in its order, unchanged.

    Keras would copy what it is given as arrays.
    """

    def __init__(self, split: Split, *, batch_size: int) -> None:
        """Takes the images, and how many a batch has; the last may have fewer."""
        super().__init__()
        self._images, self._y_true = split.images, targets(split)
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self._images) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, uint8 (batch, size, size, 1), and their `targets`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return self._images[batch], self._y_true[batch]


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
