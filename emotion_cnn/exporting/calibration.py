"""The training images on which the ranges of 8-bit integers are measured."""

import numpy as np

from emotion_cnn.data.splits import Split, fingerprint

PER_CLASS = 72
"""Most images of a class: of seven classes 504 are taken."""
_SEED = 42


def choose(train: Split) -> tuple[np.ndarray, dict[str, str | int | float]]:
    """Chooses images, as many of each class as there are, up to `PER_CLASS`.

    Args:
        train: Images that were trained on, none of test.

    Returns:
        uint8 (n, size, size, 1), in a random order; and what the file says of them:
        how many they are, most of a class, the seed, the SHA-256 over their names,
        labels and pixels.
    """
    generator = np.random.default_rng(_SEED)
    of_classes = [
        generator.permutation(np.flatnonzero(train.labels == label))[:PER_CLASS]
        for label in range(len(train.classes))
    ]
    chosen = train.select(generator.permutation(np.concatenate(of_classes)))
    facts: dict[str, str | int | float] = {
        "images": len(chosen),
        "per_class": PER_CLASS,
        "part": "train",
        "seed": _SEED,
        "fingerprint": fingerprint(chosen),
    }
    return np.asarray(chosen.images), facts
