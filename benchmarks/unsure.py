"""How many faces are decided, and how many of them rightly, by the least probability.

    python -m benchmarks.unsure --data FOLDER

The default of `unsure_below` is the least threshold that leaves at least 80% of the
decisions on FER2013's PublicTest right, by the shipped network, its original labels,
single view. PrivateTest has no part in the choice.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.classes import LABEL_NAMES, LABELS
from emotion_cnn.data.loading import load_test_data
from emotion_cnn.data.splits import official_parts
from emotion_cnn.inference.backends.keras_network import KerasNetwork
from emotion_cnn.inference.prediction import predict
from emotion_cnn.models.pair import read_pair
from emotion_cnn.models.shipped import shipped_folder

_SHOWN = np.arange(0, 100, 5) / 100
_CANDIDATES = np.arange(0, 100) / 100
_RIGHT = 0.8


@dataclass(frozen=True)
class Decided:
    """How sure a network is of some images, and whether it is right.

    Attributes:
        confidence: float32 `(n,)`, the greatest probability of each.
        is_right: bool `(n,)`.
    """

    confidence: np.ndarray
    is_right: np.ndarray

    def share(self, threshold: float) -> float:
        """Returns the share of the images that is decided."""
        return float((self.confidence >= threshold).mean())

    def accuracy(self, threshold: float) -> float:
        """Returns the share of these that is right."""
        return float(self.is_right[self.confidence >= threshold].mean())


def decide(data: str, labels: str) -> dict[str, Decided]:
    """Predicts both parts of FER2013's test images, by the name of the part."""
    network = KerasNetwork(read_pair(shipped_folder()))
    test, _ = load_test_data(data, labels=labels, audit=None, skip_bad=False)
    probabilities = predict(network, test.images, labels=labels)
    is_right = probabilities.argmax(axis=1) == test.labels
    return {
        part: Decided(probabilities[places].max(axis=1), is_right[places])
        for part, places in official_parts(test).items()
    }


def main() -> None:
    """Predicts, chooses, and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="FER2013 with FER+'s votes"
    )
    arguments = parser.parse_args()
    rows = []
    chosen = None
    for labels in LABELS:
        parts = decide(arguments.data, labels)
        public, private = parts["PublicTest"], parts["PrivateTest"]
        print(f"\n{LABEL_NAMES[labels]}, PublicTest:\n")
        print("unsure below   decided    right")
        for threshold in _SHOWN:
            share, accuracy = public.share(threshold), public.accuracy(threshold)
            print(f"{threshold:12.2f} {share:9.1%} {accuracy:8.1%}")
        if chosen is None:  # By the first label set, FER2013's own.
            chosen = next(
                float(each) for each in _CANDIDATES if public.accuracy(each) >= _RIGHT
            )
        for part, decided in (("PublicTest", public), ("PrivateTest", private)):
            name = f"{part}, {LABEL_NAMES[labels]}"
            rows += [
                Row(f"{name}: decided", "%", 100 * decided.share(chosen)),
                Row(f"{name}: right of these", "%", 100 * decided.accuracy(chosen)),
                Row(f"{name}: right of all", "%", 100 * decided.accuracy(0)),
            ]
    show(
        f"Decisions of the shipped network, unsure below {chosen:g}",
        rows,
        notes=["Single view. The threshold is chosen on PublicTest, original labels."],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
