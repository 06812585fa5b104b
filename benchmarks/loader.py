"""Training batches from memory against Keras' flow_from_directory.

Both shuffle and flip at random, batches of 64, on the same images.
"""

import statistics
import time
from pathlib import Path
from typing import Any

from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

from benchmarks.images import DATA_HELP, data_folder
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.batches import TrainingBatches
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.source import SAMPLE_DATA
from emotion_cnn.data.splits import split_dataset

BATCH_SIZE = 64
EPOCHS = 15


def seconds_of_epoch(batches: Any) -> float:
    """Returns how long it takes to make every batch of an epoch once."""
    start = time.perf_counter()
    for index in range(len(batches)):
        batches[index]
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", default=SAMPLE_DATA, metavar="FOLDER", help=DATA_HELP)
    arguments = parser.parse_args()
    with data_folder(arguments.data) as folder:
        measure(folder, arguments.data, arguments.json)


def measure(folder: Path, source: str, json: Path | None) -> None:
    """Measures both on the images of a data folder.

    Args:
        folder: Folder with `train/` and `test/`.
        source: What the title calls it.
        json: File for the figures, or None.
    """
    # Not timed: it brings the files into the system's cache for both alike.
    read_splits(folder, skip_bad=False)
    start = time.perf_counter()
    train, test, _ = read_splits(folder, skip_bad=False)
    data = split_dataset(train, test, validation_share=0.1, seed=0)
    batches = TrainingBatches(data.train, batch_size=BATCH_SIZE, seed=0)
    reading = time.perf_counter() - start

    reference = ImageDataGenerator(horizontal_flip=True).flow_from_directory(
        folder / "train",
        target_size=(IMAGE_SIZE, IMAGE_SIZE),
        color_mode="grayscale",
        batch_size=BATCH_SIZE,
    )
    seconds = []
    for epoch in range(EPOCHS):
        # In the middle, so that a machine that slows down slows both.
        if epoch == EPOCHS // 2:
            reference_rate = reference.n / seconds_of_epoch(reference)
        batches.start_epoch(epoch)
        seconds.append(seconds_of_epoch(batches))

    images = len(data.train)
    rate = images / statistics.median(seconds)
    total_rate = EPOCHS * images / (reading + sum(seconds))
    show(
        f"Loader against flow_from_directory: {images:,} images of {source}, "
        f"batches of {BATCH_SIZE}, random flips",
        [
            Row("batches alone", "images/s", rate, reference_rate, at_least=10),
            Row(
                f"{EPOCHS} epochs, decoding counted",
                "images/s",
                total_rate,
                reference_rate,
                at_least=5,
            ),
        ],
        notes=[
            f"Tool: train/ and test/ read once in {reading:.1f} s, then {EPOCHS} "
            f"epochs in {sum(seconds):.1f} s.",
            "flow_from_directory: one epoch timed; every epoch decodes anew, so the "
            f"rate of {EPOCHS} is taken to be the same.",
        ],
        json=json,
    )


if __name__ == "__main__":
    main()
