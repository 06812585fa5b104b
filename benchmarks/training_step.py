"""A training step inside the tool's fit against a bare step on one fixed batch.

Both are the same network with the same compiled step, in turns, in one process.
"""

import argparse
import io
import statistics
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import keras
import numpy as np

from benchmarks.pictures import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.artifacts import RunFolder
from emotion_cnn.config import MODELS, SAMPLE_DATA, Recipe
from emotion_cnn.dataset import Dataset, Split, read_splits, split_dataset
from emotion_cnn.loader import one_hot
from emotion_cnn.model import ARCHITECTURES, build_model
from emotion_cnn.training import compile_model, fit, fix_randomness

WARM_UP_STEPS = 3


class Stopwatch(keras.callbacks.Callback):
    """Times the steps of the one epoch it sees, and what follows them.

    As the last of the callbacks it is called when the others have done their work.

    Attributes:
        steps: Seconds from the start of the epoch to the end of its last step:
            batches, steps and what the callbacks do around them.
        epoch_end: Seconds of what the callbacks do after the validation:
            checkpoint, training state, history, chart.
    """

    steps = 0.0
    epoch_end = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Notes the time: the last one counts."""
        self.steps = time.perf_counter() - self._start

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts anew, for what follows the validation."""
        self._validated = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Stops."""
        self.epoch_end = time.perf_counter() - self._validated


def time_fit(
    model: keras.Model, train: Split, validation: Split, recipe: Recipe
) -> Stopwatch:
    """Trains as `--mode train` does, in a new run folder, with a stopwatch added."""
    stopwatch = Stopwatch()
    keras_fit = model.fit

    def timed_fit(*positional: Any, callbacks: list[Any], **named: Any) -> Any:
        return keras_fit(*positional, callbacks=[*callbacks, stopwatch], **named)

    with (
        TemporaryDirectory() as folder,
        mock.patch.object(model, "fit", timed_fit),
        redirect_stdout(io.StringIO()),
    ):
        fit(
            model,
            train,
            validation,
            recipe=recipe,
            seed=0,
            run=RunFolder(Path(folder)),
            tensorboard=False,
        )
    return stopwatch


def time_bare_steps(
    model: keras.Model, pictures: Any, labels: Any, steps: int
) -> float:
    """Returns the seconds that steps on one batch take, tensors already."""
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(pictures, labels)
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument("--model", choices=MODELS, default="baseline")
    parser.add_argument(
        "--steps", type=int, default=16, help="steps an epoch (default: 16)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        train, test, _ = read_splits(folder, skip_bad=False)
    data = split_dataset(train, test, validation_share=0.1, seed=0)
    measure(data, arguments)


def measure(data: Dataset, arguments: argparse.Namespace) -> None:
    """Measures both, in turns.

    Args:
        data: Pictures to train on; as many as the steps need are used.
        arguments: What the command line says.
    """
    recipe = Recipe(model=arguments.model, epochs=1)
    batch_size = recipe.batch_size
    order = np.random.default_rng(0).permutation(len(data.train))
    train = data.train.select(order[: arguments.steps * batch_size])
    steps = -(-len(train) // batch_size)
    validation = data.validation.select(np.arange(min(256, len(data.validation))))

    fix_randomness(0)
    model = build_model(ARCHITECTURES[recipe.model], for_training=True)
    compile_model(model, recipe, pictures=len(train))
    pictures = keras.ops.convert_to_tensor(train.images[:batch_size], "float32")
    labels = keras.ops.convert_to_tensor(one_hot(train.labels[:batch_size]))
    warm_up = train.select(np.arange(WARM_UP_STEPS * batch_size))
    time_fit(model, warm_up, validation, recipe)
    time_bare_steps(model, pictures, labels, WARM_UP_STEPS)

    bare, inside, epoch_ends = [], [], []
    for _ in range(arguments.rounds):
        bare.append(time_bare_steps(model, pictures, labels, steps) / steps)
        stopwatch = time_fit(model, train, validation, recipe)
        inside.append(stopwatch.steps / steps)
        epoch_ends.append(stopwatch.epoch_end)
    step, epoch_end = statistics.median(inside), statistics.median(epoch_ends)
    full_epoch = -(-len(data.train) // batch_size)
    show(
        f"A step inside fit against a bare step: {recipe.model}, batches of "
        f"{batch_size} pictures of {arguments.data}",
        [
            Row(
                "step inside fit",
                "ms",
                1000 * step,
                1000 * statistics.median(bare),
                at_most=1.1,
            ),
            Row(
                "the same, with its share of the epoch's end",
                "ms",
                1000 * (step + epoch_end / full_epoch),
                1000 * statistics.median(bare),
                at_most=1.1,
            ),
        ],
        notes=[
            f"Medians of {arguments.rounds} rounds of {steps} steps, in turns, after "
            "one epoch to warm up.",
            "Inside fit: making the batches, the steps, and the callbacks around them.",
            f"The epoch's end: {1000 * epoch_end:,.0f} ms for checkpoint, training "
            f"state, history and chart, shared by {full_epoch:,} steps.",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
