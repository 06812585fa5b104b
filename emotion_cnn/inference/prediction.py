"""Images in, probabilities out."""

import numpy as np

from emotion_cnn.data.rows import Images
from emotion_cnn.errors import ModelError
from emotion_cnn.inference.backends import Backend
from emotion_cnn.inference.shards import WHOLE, Shard
from emotion_cnn.inference.test_time_augmentation import VIEWS


def predict(
    network: Backend,
    images: Images,
    *,
    labels: str,
    tta: str = "none",
    shard: Shard = WHOLE,
) -> np.ndarray:
    """Returns how probable each class is, for each image.

    Args:
        network: A network as `read_network` returns it.
        images: uint8 or float `(n, size, size, 1)`, gray levels 0 to 255, n above 0.
        labels: Which label set to predict. A network with a single one predicts that,
            whichever labels are asked for.
        tta: Test-time augmentation, one of `VIEWS`: the probabilities are the mean of
            those of the views.
        shard: Which of the batches to predict. A batch holds the same images then as
            among all, and so gets the same probabilities to the last bit.

    Returns:
        float32 `(n, classes)`, in the order of the network's classes; rows sum to 1.
        Of a shard, those of the images at its `positions`.

    Raises:
        ModelError: The network has several label sets, but not this one; or it fails,
            or returns anything but probabilities.
    """
    label_sets = network.description.label_sets
    if len(label_sets) > 1 and labels not in label_sets:
        raise ModelError(
            f"Expected `labels` to be one of the network's label sets, "
            f"{', '.join(label_sets)}; found {labels!r}."
        )
    head = label_sets.index(labels) if len(label_sets) > 1 else 0
    count, views_of = VIEWS[tta]
    step = _images_at_a_time(network, tta)
    batches = [np.empty((0, len(network.description.classes)), np.float32)]
    for start in shard.of(range(0, len(images), step)):
        heads = network.predict(views_of(images[start : start + step]))
        views = heads[:, head].reshape(count, -1, heads.shape[-1])
        batches.append(views.mean(axis=0))
    return np.concatenate(batches)


def positions(network: Backend, count: int, *, tta: str, shard: Shard) -> np.ndarray:
    """Returns where the images of a shard are among all.

    Args:
        network: The network that predicts them.
        count: How many images there are.
        tta: Test-time augmentation, one of `VIEWS`.
        shard: The shard: every so many batches.

    Returns:
        int64 `(n,)`, ascending; of all shards together each of `range(count)` once.
    """
    batch = np.arange(count) // _images_at_a_time(network, tta)
    return np.flatnonzero(batch % shard.count == shard.number - 1)


def _images_at_a_time(network: Backend, tta: str) -> int:
    return max(1, network.batch_size // VIEWS[tta][0])
