"""Whether an exported file says what its network says: measured, and within bounds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from emotion_cnn.data.rows import Images
from emotion_cnn.data.splits import Split
from emotion_cnn.evaluation.paired import PairedDifference
from emotion_cnn.inference.backends import Backend

_GREATEST = {"none": 1e-4, "float16": 1e-2}
"""The greatest difference of a probability that is allowed, by quantisation."""
_LEAST_EQUAL = 0.97
"""Of 8-bit integers: the least share of images with the same decision."""
_MOST_LOST = 0.005
"""Of 8-bit integers: the most accuracy that may be lost; at least one image."""

_BATCH = 64
_SINGLE_ROUNDS, _BATCH_ROUNDS = 50, 5


@dataclass(frozen=True)
class Speed:
    """How fast a network predicts.

    Attributes:
        milliseconds: A single image, the median of calls.
        images_per_second: In batches of 64, the median of batches.
    """

    milliseconds: float
    images_per_second: float


@dataclass(frozen=True)
class Reference:
    """What files are compared with.

    Attributes:
        network: The network of Keras.
        images: The images to compare on, with labels.
        probabilities: float32 (n, label sets, classes), what it answers.
    """

    network: Backend
    images: Split
    probabilities: np.ndarray

    @classmethod
    def of(cls, network: Backend, images: Split) -> "Reference":
        """Predicts the images once for all files."""
        return cls(network, images, _predict(network, images.images))


@dataclass(frozen=True)
class Parity:
    """What was found of an exported file.

    Attributes:
        greatest_difference: Of a probability, over all images, label sets and classes.
        mean_difference: The mean of the absolute differences.
        equal_decisions: Share of the images with the same most probable class, by label
            set.
        accuracy: Of the file, by the labels of the images and the first label set.
        keras_accuracy: Of the network.
        difference: Of these two, paired: the file's minus the network's.
        speed: Of the file.
        keras_speed: Of the network, measured in turns with the file's.
    """

    greatest_difference: float
    mean_difference: float
    equal_decisions: Mapping[str, float]
    accuracy: float
    keras_accuracy: float
    difference: PairedDifference
    speed: Speed
    keras_speed: Speed

    def shortfalls(self, quantize: str) -> list[str]:
        """Returns in words which bounds of a quantisation are not kept."""
        if quantize in _GREATEST:
            limit = _GREATEST[quantize]
            # Written so that what is not a number falls short too.
            if self.greatest_difference <= limit:
                return []
            return [
                f"probabilities differ by up to {self.greatest_difference:.2g}, where "
                f"{limit:g} is allowed"
            ]
        found = [
            f"{share:.2%} of the decisions by {labels} labels are equal, where "
            f"{_LEAST_EQUAL:.0%} are needed"
            for labels, share in self.equal_decisions.items()
            if not share >= _LEAST_EQUAL
        ]
        lost = self.difference.first_only - self.difference.second_only
        if lost > max(1, _MOST_LOST * self.difference.n):
            found.append(
                f"the accuracy falls from {self.keras_accuracy:.2%} to "
                f"{self.accuracy:.2%}, where {100 * _MOST_LOST:g} points less are "
                "allowed"
            )
        return found


def compare(network: Backend, reference: Reference) -> Parity:
    """Compares an exported file, in its own runtime, with the network of Keras.

    Args:
        network: The file, as `read_network` reads it.
        reference: The network and the images.

    Raises:
        ModelError: The file fails, or answers with anything but probabilities.
    """
    images, expected = reference.images, reference.probabilities
    found = _predict(network, images.images)
    differences = np.abs(found - expected)
    equal = (found.argmax(axis=-1) == expected.argmax(axis=-1)).mean(axis=0)
    first, second = (
        each[:, 0].argmax(axis=-1) == images.labels for each in (expected, found)
    )
    speed, keras_speed = _speeds([network, reference.network], images.images[:_BATCH])
    return Parity(
        greatest_difference=float(differences.max()),
        mean_difference=float(differences.mean(dtype=np.float64)),
        equal_decisions=dict(
            zip(network.description.label_sets, equal.tolist(), strict=True)
        ),
        accuracy=float(second.mean()),
        keras_accuracy=float(first.mean()),
        difference=PairedDifference(
            len(images), int((first & ~second).sum()), int((second & ~first).sum())
        ),
        speed=speed,
        keras_speed=keras_speed,
    )


def _predict(network: Backend, images: Images) -> np.ndarray:
    step = network.batch_size
    return np.concatenate(
        [
            network.predict(images[start : start + step])
            for start in range(0, len(images), step)
        ]
    )


def _speeds(networks: Sequence[Backend], images: np.ndarray) -> list[Speed]:
    """Measures networks in turns, so that what else the machine does hits all."""
    singles = _medians(networks, images[:1], rounds=_SINGLE_ROUNDS)
    # Of a few images some come several times.
    batch = np.resize(images, (_BATCH, *images.shape[1:]))
    batches = _medians(networks, batch, rounds=_BATCH_ROUNDS)
    return [
        Speed(1000 * single, _BATCH / batch)
        for single, batch in zip(singles, batches, strict=True)
    ]


def _medians(
    networks: Sequence[Backend], images: np.ndarray, *, rounds: int
) -> list[float]:
    """Returns the seconds that each takes for a batch."""
    seconds: list[list[float]] = [[] for _ in networks]
    for number in range(-1, rounds):
        for network, of_network in zip(networks, seconds, strict=True):
            start = time.perf_counter()
            network.predict(images)
            # The first call builds and allocates.
            if number >= 0:
                of_network.append(time.perf_counter() - start)
    return [median(each) for each in seconds]
