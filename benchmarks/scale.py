"""How memory and time grow with the number of images: packed sets of drawn noise.

Each stage runs in a process of its own, on sets of 10,000, 100,000 and 1,000,000
images, which take 2.4 GB on the disk meanwhile. Linux alone says what memory is
anonymous.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.packed import PIXELS_NAME, packing, read_packed

COUNTS = (10_000, 100_000, 1_000_000)
BATCH_SIZE = 128
_PARTS = 8 * ("train",) + ("validation", "test")
_AT_ONCE = 10_000
_STEPS, _ROUNDS = 8, 9
_BATCHES = 300
_COLD_SINGLE_BATCHES = 20


def make_set(folder: Path, count: int) -> None:
    """Makes a packed folder: eight tenths train, a tenth each validation and test."""
    generator = np.random.default_rng(0)
    shape = (_AT_ONCE, IMAGE_SIZE, IMAGE_SIZE)
    with packing(folder) as writer:
        for start in range(0, count, _AT_ONCE):
            block = generator.integers(0, 256, shape, np.uint8)
            for number, image in enumerate(block, start):
                part, label = _PARTS[number % 10], EMOTIONS[number % 7]
                writer.add(f"{part}/{label}/{number:08}.png", image)


class _Memory:
    """The greatest anonymous memory of this process, in bytes."""

    peak = 0

    def look(self) -> None:
        """Notes what it takes now."""
        status = Path("/proc/self/status").read_text()
        kilobytes = int(status.partition("RssAnon:")[2].split()[0])
        self.peak = max(self.peak, 1024 * kilobytes)


@contextmanager
def _watched() -> Iterator[_Memory]:
    memory, ended = _Memory(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            memory.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def _load(folder: Path) -> Any:
    from emotion_cnn.data.loading import load_training_data

    data, _ = load_training_data(
        str(folder),
        labels="original",
        distribution=False,
        leave_out=None,
        skip_bad=False,
        validation_share=0.1,
        seed=0,
        vote_smoothing=0,
    )
    return data


def train(folder: Path) -> dict[str, float]:
    """Starts a training as `--mode train` does, and makes some steps.

    Returns:
        Seconds from the first import to the end of the first step, and of these those
        for the data; and the rate of steps on new batches, of that on a constant one.
    """
    start = time.perf_counter()
    from benchmarks.steps import compiled_model
    from emotion_cnn.training.fitting import training_batches
    from emotion_cnn.training.recipes import Recipe

    imported = time.perf_counter()
    data = _load(folder)
    loaded = time.perf_counter()
    recipe = Recipe(model="compact", batch_size=BATCH_SIZE, epochs=1)
    model = compiled_model(recipe, images=len(data.train))
    batches = training_batches(data.train, recipe, seed=0)
    constant = batches[0]
    model.train_on_batch(*constant)
    first_step = time.perf_counter()
    seconds: dict[str, list[float]] = {"new": [], "constant": []}
    for turn in range(_ROUNDS):
        for name, of_turn in seconds.items():
            begin = time.perf_counter()
            for step in range(_STEPS):
                new = name == "new"
                number = (_STEPS * turn + step) % len(batches)
                model.train_on_batch(*(batches[number] if new else constant))
            of_turn.append(time.perf_counter() - begin)
    return {
        "first step": first_step - start,
        "data": loaded - imported,
        "relative rate": median(seconds["constant"]) / median(seconds["new"]),
    }


def evaluate(folder: Path) -> dict[str, float]:
    """Evaluates a small network on test, up to the last file; returns the seconds."""
    from emotion_cnn.data.loading import load_test_data
    from emotion_cnn.evaluation.evaluator import evaluate_network
    from emotion_cnn.inference.backends.keras_network import KerasNetwork
    from emotion_cnn.models.architectures import Architecture, Convolution
    from emotion_cnn.models.builder import build_model
    from emotion_cnn.models.description import Network, NetworkDescription

    description = NetworkDescription()
    model = build_model(Architecture(((Convolution(2),),) * 4, (4, 4)), description)
    start = time.perf_counter()
    test, annotations = load_test_data(
        str(folder), labels="original", audit=None, skip_bad=False
    )
    loaded = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        evaluate_network(
            KerasNetwork(Network(model, description)),
            test,
            labels="original",
            tta="none",
            data=str(folder),
            weights="none",
            folder=Path(output),
            annotations=annotations,
        ).write()
    return {"all": time.perf_counter() - start, "data": loaded - start}


def read(folder: Path) -> dict[str, float]:
    """Returns images/s of batches and of bare rows, mapped and in memory; all warm."""
    from emotion_cnn.data.batches import TrainingBatches
    from emotion_cnn.data.rows import Rows
    from emotion_cnn.data.splits import Split

    packed = read_packed(folder)
    order = np.random.default_rng(0).permutation(len(packed.names))
    labels = np.arange(len(order)) % len(EMOTIONS)
    sources = {"mapped": packed.images, "in memory": np.array(packed.images)}
    rates = {}
    for name, images in sources.items():
        split = Split(Rows.of(images), labels, packed.names)
        batches = TrainingBatches(split, batch_size=BATCH_SIZE, seed=0)
        steps = min(_BATCHES, len(batches) - 1)
        chosen = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)
        rates[f"batches, {name}"] = _rate(batches.__getitem__, range(steps))
        rates[f"rows, {name}"] = _rate(images.__getitem__, list(chosen))
    return rates


def cold(folder: Path) -> dict[str, float]:
    """Returns images/s that are read from the disk, in any order and by blocks."""
    from emotion_cnn.data.batches import TrainingBatches
    from emotion_cnn.data.splits import Split

    packed = read_packed(folder)
    labels = np.arange(len(packed.names)) % len(EMOTIONS)
    split = Split(packed.images, labels, packed.names)
    rates = {}
    for name, by_blocks, most in (
        ("any order", False, _COLD_SINGLE_BATCHES),
        ("by blocks", True, len(split) // BATCH_SIZE),
    ):
        forget(folder)
        start = time.perf_counter()
        batches = TrainingBatches(
            split, batch_size=BATCH_SIZE, seed=0, by_blocks=by_blocks
        )
        for number in range(most):
            batches[number]
        rates[name] = most * BATCH_SIZE / (time.perf_counter() - start)
    return rates


def forget(folder: Path) -> None:
    """Has the system drop the pixels of a packed folder from its page cache."""
    with (folder / PIXELS_NAME).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _rate(batch: Callable[[Any], Any], keys: Sequence[Any]) -> float:
    """Returns images/s of the batches of some keys, read three times."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for key in keys:
            batch(key)
        seconds.append(time.perf_counter() - start)
    return len(keys) * BATCH_SIZE / min(seconds)


STAGES = {"train": train, "evaluate": evaluate, "read": read, "cold": cold}


def run_stage(stage: str, folder: Path) -> dict[str, float]:
    """Runs a stage in a process of its own; returns its figures, and `memory`."""
    command = [sys.executable, "-m", "benchmarks.scale", "--stage", stage]
    # This very program, on a folder that it has made.
    done = subprocess.run(  # noqa: S603
        [*command, "--data", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="images at most")
    parser.add_argument("--work", type=Path, help="folder for the sets, on a disk")
    parser.add_argument("--stage", choices=STAGES, help="one stage, of --data alone")
    parser.add_argument("--data", type=Path, help="a set")
    arguments = parser.parse_args()
    if arguments.stage:
        with _watched() as memory:
            figures = STAGES[arguments.stage](arguments.data)
            memory.look()
        print(json.dumps(figures | {"memory": memory.peak}))
        return
    measured: dict[int, dict[str, dict[str, float]]] = {}
    for count in (count for count in COUNTS if count <= arguments.most):
        with tempfile.TemporaryDirectory(dir=arguments.work) as temporary:
            folder = Path(temporary)
            make_set(folder, count)
            measured[count] = {}
            for stage in ("train", "evaluate", "read"):
                measured[count][stage] = run_stage(stage, folder)
            measured[count]["cold"] = run_stage("cold", folder)
            forget(folder)
            measured[count]["train, cold"] = run_stage("train", folder)
    show(
        "Packed sets of 48x48 pixels, eight tenths to train on and a tenth to test on",
        list(_rows(measured)),
        notes=[
            "Growth: the power of the number of images that a figure grows by, between "
            "the two largest sets; 1 is linear.",
            "Warm: in the system's page cache; cold: the pixels were dropped from it.",
        ],
        json=arguments.json,
    )


def _rows(measured: dict[int, dict[str, dict[str, float]]]) -> Iterator[Row]:
    for count, of in measured.items():
        most = count == COUNTS[-1]
        what = f"{count:,}: "
        limit = 1000 if most else None
        for stage in ("train", "evaluate"):
            memory = of[stage]["memory"] / 1e6
            yield Row(f"{what}{stage}, anonymous", "MB", memory, at_most=limit)
        yield Row(f"{what}to first step, warm", "s", of["train"]["first step"])
        yield Row(f"{what}to first step, cold", "s", of["train, cold"]["first step"])
        yield Row(f"{what}of it data, warm", "s", of["train"]["data"])
        yield Row(f"{what}of it data, cold", "s", of["train, cold"]["data"])
        yield Row(f"{what}evaluate", "s", of["evaluate"]["all"])
        yield Row(f"{what}of it data", "s", of["evaluate"]["data"])
        relative = of["train"]["relative rate"]
        yield Row(f"{what}steps, of constant", "", relative, at_least=0.95)
        for kind in ("batches", "rows"):
            mapped, in_memory = (
                of["read"][f"{kind}, {where}"] for where in ("mapped", "in memory")
            )
            yield Row(f"{what}{kind}, map : memory", "/s", mapped, in_memory)
        by_blocks, any_order = of["cold"]["by blocks"], of["cold"]["any order"]
        yield Row(f"{what}cold, blocks : any order", "/s", by_blocks, any_order)
    if len(measured) > 1:
        (few, less), (many, more) = list(measured.items())[-2:]
        for stage, figure in (
            ("train", "data"),
            ("train", "memory"),
            ("evaluate", "all"),
            ("evaluate", "memory"),
        ):
            growth = math.log(more[stage][figure] / less[stage][figure], many / few)
            yield Row(f"growth: {stage}, {figure}", "", growth, at_most=1.1)


if __name__ == "__main__":
    main()
