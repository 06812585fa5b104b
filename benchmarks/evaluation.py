"""Evaluating all test images against a bare model.predict on the same array.

The network has random weights: what it predicts does not change how long it takes.
"""

import argparse
import io
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.folders import read_test
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.data.splits import Split
from emotion_cnn.evaluation.evaluator import evaluate_network
from emotion_cnn.inference.backends.keras_network import BATCH_SIZE, KerasNetwork
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.models.builder import build_model
from emotion_cnn.models.description import Network, NetworkDescription


def seconds_of_predict(model: keras.Model, test: Split) -> float:
    """Returns how long a bare `predict` over all images takes."""
    start = time.perf_counter()
    model.predict(test.images, batch_size=BATCH_SIZE, verbose=0)
    return time.perf_counter() - start


def seconds_of_evaluating(
    network: KerasNetwork, test: Split, data: str
) -> tuple[float, float]:
    """Evaluates as `--mode evaluate` does once images and network are loaded.

    Args:
        network: A network.
        test: Images to evaluate.
        data: Where the images are from, for the record.

    Returns:
        The seconds until the report is printed, and until all files are written.
    """
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        evaluation = evaluate_network(
            network,
            test,
            labels="original",
            tta="none",
            data=data,
            weights="random weights",
            folder=Path(folder),
        )
        print(evaluation.report, file=io.StringIO())
        reported = time.perf_counter()
        evaluation.write()
        written = time.perf_counter()
    return reported - start, written - start


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), default="baseline")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        test, _ = read_test(folder, skip_bad=False)
    measure(test, arguments)


def measure(test: Split, arguments: argparse.Namespace) -> None:
    """Measures both, in turns.

    Args:
        test: Images to evaluate.
        arguments: What the command line says.
    """
    description = NetworkDescription(classes=test.classes)
    model = build_model(ARCHITECTURES[arguments.model], description)
    network = KerasNetwork(Network(model, description))
    # As many images as make one whole batch and one as short as the last will be.
    batch = BATCH_SIZE
    warm_up = test.select(np.arange(min(len(test), batch + len(test) % batch)))
    seconds_of_predict(model, warm_up)
    seconds_of_evaluating(network, warm_up, arguments.data)

    bare, reported, written = [], [], []
    for _ in range(arguments.rounds):
        bare.append(seconds_of_predict(model, test))
        until_report, until_written = seconds_of_evaluating(
            network, test, arguments.data
        )
        reported.append(until_report)
        written.append(until_written)
    reference = statistics.median(bare)
    show(
        f"Evaluation against a bare predict: {arguments.model}, {len(test):,} images "
        f"of {arguments.data}, batches of {batch}",
        [
            Row(
                "predictions, metrics, report",
                "s",
                statistics.median(reported),
                reference,
                at_most=1.15,
            ),
            Row(
                "the same, and all files",
                "s",
                statistics.median(written),
                reference,
                at_most=1.15,
            ),
        ],
        notes=[
            f"Medians of {arguments.rounds} rounds, one after the other in turns, both "
            "warmed up.",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
