"""A training step inside the tool's fit against a bare step on one fixed batch.

Both are the same network with the same compiled step, augmentation and all, in turns,
in one process.
"""

import argparse
import dataclasses
import statistics

import keras
import numpy as np

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from benchmarks.steps import (
    EPOCH_STEPS,
    WARM_UP_STEPS,
    compiled_model,
    time_bare_steps,
    time_fit,
)
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.data.splits import Dataset, split_dataset, targets
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.training.environment import describe_environment
from emotion_cnn.training.recipes import RECIPES

# On an accelerator, at least 80% of the bare steps' rate.
MOST_ON_CPU = 1.1
MOST_ON_ACCELERATOR = 1 / 0.8


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    parser.add_argument(
        "--recipe", choices=RECIPES, default="default", help="(default: default)"
    )
    parser.add_argument(
        "--model", choices=ARCHITECTURES, help="network, in place of the recipe's"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=EPOCH_STEPS,
        help=f"steps an epoch (default: {EPOCH_STEPS})",
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
        data: Images to train on; as many as the steps need are used.
        arguments: What the command line says.
    """
    recipe = RECIPES[arguments.recipe]
    recipe = dataclasses.replace(
        recipe,
        model=arguments.model or recipe.model,
        # One epoch, which is no warm-up, of images at full size.
        epochs=1,
        warmup_epochs=0,
        progressive_sizes=False,
    )
    batch_size = recipe.batch_size
    order = np.random.default_rng(0).permutation(len(data.train))
    train = data.train.select(order[: arguments.steps * batch_size])
    steps = -(-len(train) // batch_size)
    validation = data.validation.select(np.arange(min(256, len(data.validation))))

    model = compiled_model(recipe, images=len(train))
    images = keras.ops.convert_to_tensor(train.images[:batch_size], "float32")
    labels = keras.ops.convert_to_tensor(targets(train)[:batch_size])
    warm_up = data.train.select(order[: WARM_UP_STEPS * batch_size])
    time_fit(model, warm_up, validation, recipe)
    time_bare_steps(model, images, labels, WARM_UP_STEPS)

    bare, inside, epoch_ends = [], [], []
    for _ in range(arguments.rounds):
        bare.append(time_bare_steps(model, images, labels, steps) / steps)
        stopwatch = time_fit(model, train, validation, recipe)
        inside.append(stopwatch.steps / steps)
        epoch_ends.append(stopwatch.epoch_end)
    step, epoch_end = statistics.median(inside), statistics.median(epoch_ends)
    full_epoch = -(-len(data.train) // batch_size)
    on_cpu = all("cpu" in device for device in describe_environment()["devices"])
    at_most = MOST_ON_CPU if on_cpu else MOST_ON_ACCELERATOR
    show(
        f"A step inside fit against a bare step: recipe {arguments.recipe}, "
        f"{recipe.model}, batches of\n{batch_size} images of {arguments.data}",
        [
            Row(
                "step inside fit",
                "ms",
                1000 * step,
                1000 * statistics.median(bare),
                at_most=at_most,
            ),
            Row(
                "the same, with its share of the epoch's end",
                "ms",
                1000 * (step + epoch_end / full_epoch),
                1000 * statistics.median(bare),
                at_most=at_most,
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
