"""How faithful the explanations are: deletion, insertion, and shuffled weights.

The emotion explained is the one that the shipped network predicts, by FER2013's labels.
"""

import argparse
import time

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.folders import read_test
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.inference.classifier import Classifier
from emotion_cnn.inference.defaults import EXPLANATION_METHODS as METHODS
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

STEPS = 16
"""In how many equal parts the pixels are hidden, or shown."""

BLUR = 5
"""Standard deviation, in pixels, of the blurred image that insertion starts from."""

PRIORS = ("random", "centre")
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
    return Classifier(network)


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
        "--shuffled",
        type=int,
        default=50,
        metavar="FACES",
        help="how many of them for the test of shuffled weights (default: 50)",
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
    classifier = Classifier(read_pair(shipped_folder()))
    places = classifier.predict(images).argmax(axis=1)
    emotions = [classifier.classes[place] for place in places]
    maps, seconds = {}, {}
    for method in METHODS:
        classifier.explain(images[0], method=method)
        start = time.perf_counter()
        maps[method] = explanations(classifier, images, emotions, method)
        seconds[method] = (time.perf_counter() - start) / len(images)
    size = images.shape[1]
    maps["random"] = np.random.default_rng(0).random(images.shape)
    across = np.linspace(-1, 1, size) ** 2
    maps["centre"] = np.broadcast_to(-(across + across[:, np.newaxis]), images.shape)

    found = {name: np.empty((len(images), 2)) for name in maps}
    for name, of_faces in maps.items():
        for each, (image, relevance) in enumerate(zip(images, of_faces, strict=True)):
            of_emotion = classifier.predict(curve_images(image, relevance))
            found[name][each] = areas(of_emotion[:, places[each]])
    rows, notes = [], []
    for kind, curve in enumerate(("deletion", "insertion")):
        bounds = {"at_most": 0.9} if curve == "deletion" else {"at_least": 1.1}
        for method in METHODS:
            for prior in PRIORS:
                ours, theirs = found[method][:, kind], found[prior][:, kind]
                rows.append(
                    Row(
                        f"{curve}: {method} against {prior}",
                        "",
                        float(ours.mean()),
                        float(theirs.mean()),
                        **bounds,
                    )
                )
                difference = ours - theirs
                error = difference.std(ddof=1) / len(images) ** 0.5
                notes.append(
                    f"{curve}: {method} - {prior} = {difference.mean():+.3f} +- "
                    f"{1.96 * error:.3f}"
                )
    few = slice(arguments.shuffled)
    for name, layers in SHUFFLED.items():
        shuffled = with_shuffled_weights(layers)
        for method in METHODS:
            others = explanations(shuffled, images[few], emotions[few], method)
            rows.append(
                Row(
                    f"rank correlation: {method}, shuffled {name}",
                    "",
                    correlation(maps[method][few], others),
                    at_most=SIMILAR,
                )
            )
    rows.append(
        Row(
            "rank correlation: layercam with occlusion",
            "",
            correlation(maps["layercam"], maps["occlusion"]),
        )
    )
    rows += [Row(f"{method}: time a face", "s", seconds[method]) for method in METHODS]
    show(
        f"Explanations of {len(images)} faces of {arguments.data}",
        rows,
        notes=[*notes, "Mean differences over faces, with 95% intervals."],
        json=arguments.json,
    )


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
