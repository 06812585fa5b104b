"""How faithful the explanations are: deletion, insertion, and shuffled weights.

The emotion explained is the one that the shipped network predicts, by FER2013's labels.
"""

import argparse
import itertools
import time

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.folders import read_test
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.classifier import Classifier
from emotion_cnn.inference.defaults import EXPLANATION_METHODS as METHODS
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

STEPS = 16
"""In how many equal parts the pixels are hidden, or shown."""

BLUR = 5
"""Standard deviation, in pixels, of the blurred image that insertion starts from."""

SHUFFLED = {"the output layer": 1, "the dense layers": 5}
"""The last layers whose weights are shuffled, and how many those are."""

SIMILAR = 0.7
"""Rank correlation of maps that share half of their variance."""


def curve_images(image: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Returns the images of deletion, then those of insertion.

    V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized input sampling for explanation of
    black-box models", BMVC 2018: pixels are replaced by the image's mean, the most
    relevant first; and put into the blurred image, in the same order.

    Args:
        image: uint8 `(size, size)`.
        relevance: Float `(size, size)`.

    Returns:
        uint8 `(2 * (STEPS + 1), size, size)`.
    """
    gray = np.full_like(image, round(float(image.mean())))
    blurred = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR)))
    order = np.argsort(-relevance.ravel(), kind="stable")
    # The inverse of a permutation: the place of each pixel in the order.
    rank = np.argsort(order).reshape(image.shape)
    counts = np.linspace(0, image.size, STEPS + 1)
    deletion = [np.where(rank < count, gray, image) for count in counts]
    insertion = [np.where(rank < count, image, blurred) for count in counts]
    return np.stack([*deletion, *insertion])


def areas(probabilities: np.ndarray) -> np.ndarray:
    """Returns the areas under both curves, given the probabilities of their images."""
    return np.trapezoid(probabilities.reshape(2, -1), axis=1) / STEPS


def with_shuffled_weights(layers: int) -> Classifier:
    """Returns the shipped network, the weights of its last layers shuffled.

    J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018. The values of
    each weight change places, so that their distribution stays.
    """
    network = read_pair(shipped_folder())
    generator = np.random.default_rng(0)
    with_weights = [layer for layer in network.model.layers if layer.get_weights()]
    for layer in with_weights[-layers:]:
        shuffled = [generator.permuted(each, axis=None) for each in layer.get_weights()]
        layer.set_weights(shuffled)
    return Classifier(KerasNetwork(network))


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument(
        "--part",
        default="PrivateTest",
        metavar="NAME",
        help="what the names of the images begin with (default: PrivateTest; all of "
        "test/ if none does)",
    )
    parser.add_argument(
        "--faces",
        type=int,
        default=200,
        help="how many, drawn at random with seed 0 (default: 200)",
    )
    parser.add_argument(
        "--correlated",
        type=int,
        default=50,
        metavar="FACES",
        help="how many of them for rank correlations (default: 50)",
    )
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        test, _ = read_test(folder, skip_bad=False)
    of_part = [
        place
        for place, name in enumerate(test.names)
        if name.rpartition("/")[2].startswith(arguments.part)
    ]
    places = np.random.default_rng(0).permutation(of_part or len(test))
    measure(test.images[places[: arguments.faces], :, :, 0], arguments)


def measure(images: np.ndarray, arguments: argparse.Namespace) -> None:
    """Measures all of it on some faces.

    Args:
        images: uint8 `(n, size, size)`.
        arguments: What the command line says.
    """
    classifier = Classifier(KerasNetwork(read_pair(shipped_folder())))
    order = classifier.predict(images).argsort(axis=1)
    first, second = (
        [classifier.classes[each] for each in order[:, -n]] for n in (1, 2)
    )
    maps, times = {}, []
    for method in METHODS:
        classifier.explain(images[0], method=method)
        start = time.perf_counter()
        maps[method] = explanations(classifier, images, first, method)
        seconds = (time.perf_counter() - start) / len(images)
        times.append(Row(f"{method}: time a face", "s", seconds))
    rows, notes = faithfulness(classifier, images, order[:, -1], maps)
    few = slice(arguments.correlated)
    changed = {"second emotion": (classifier, second, None)} | {
        f"{name} shuffled": (with_shuffled_weights(layers), first, SIMILAR)
        for name, layers in SHUFFLED.items()
    }
    for what, (other, emotions, at_most) in changed.items():
        for method in METHODS:
            others = explanations(other, images[few], emotions[few], method)
            value = correlation(maps[method][few], others)
            rows.append(Row(f"{method}: {what}", "", value, at_most=at_most))
    value = correlation(maps["layercam"], maps["occlusion"])
    rows.append(Row("layercam: occlusion", "", value))
    show(
        f"Explanations of {len(images)} faces of {arguments.data}",
        [*rows, *times],
        notes=[
            *notes,
            "Mean differences over faces, with 95% intervals. Without a reference: the",
            "mean rank correlation with the maps of what is named, on the first "
            f"{len(first[few])} faces.",
        ],
        json=arguments.json,
    )


def faithfulness(
    classifier: Classifier,
    images: np.ndarray,
    places: np.ndarray,
    maps: dict[str, np.ndarray],
) -> tuple[list[Row], list[str]]:
    """Returns rows and notes of deletion and insertion, against the priors."""
    across = np.linspace(-1, 1, images.shape[1]) ** 2
    priors = {
        "random": np.random.default_rng(0).random(images.shape),
        "centre": np.broadcast_to(-(across + across[:, np.newaxis]), images.shape),
    }
    found = {
        name: np.array(
            [
                areas(classifier.predict(curve_images(image, relevance))[:, place])
                for image, relevance, place in zip(
                    images, of_faces, places, strict=True
                )
            ]
        )
        for name, of_faces in {**maps, **priors}.items()
    }
    rows, notes = [], []
    for column, curve in enumerate(("deletion", "insertion")):
        at_most, at_least = ((1.0, None), (None, 1.1))[column]
        for method, prior in itertools.product(maps, priors):
            ours, theirs = found[method][:, column], found[prior][:, column]
            what = f"{curve}: {method} against {prior}"
            means = float(ours.mean()), float(theirs.mean())
            rows.append(Row(what, "", *means, at_least=at_least, at_most=at_most))
            half = 1.96 * (ours - theirs).std(ddof=1) / len(images) ** 0.5
            notes.append(f"{what}: {means[0] - means[1]:+.3f} +- {half:.3f}")
    return rows, notes


def explanations(
    classifier: Classifier, images: np.ndarray, emotions: list[str], method: str
) -> np.ndarray:
    """Returns the maps of some faces, `(n, size, size)`."""
    return np.stack(
        [
            classifier.explain(image, method=method, emotion=emotion)
            for image, emotion in zip(images, emotions, strict=True)
        ]
    )


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean of Spearman's rank correlation of maps; 0 for an empty one."""
    found = [
        spearmanr(one.ravel(), two.ravel()).statistic if one.any() and two.any() else 0
        for one, two in zip(first, second, strict=True)
    ]
    return float(np.mean(found))


if __name__ == "__main__":
    main()
