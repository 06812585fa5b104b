"""Others' networks beside ours, one run: ms a face, faces/s, accuracy.

    python -m benchmarks.peers --data FOLDER --peer emotion_model_quantized.tflite

A peer is a LiteRT file, or an `.hdf5` file of Keras, which is converted to LiteRT in
float32. They are loaded as they are: name files that you trust. What is timed is the
network alone, in turns, on images as it takes them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import argument_parser, machine
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.loading import load_test_data
from emotion_cnn.data.splits import Split, official_parts
from emotion_cnn.files import write_json
from emotion_cnn.inference.backends import read_network
from emotion_cnn.inference.backends.exported import ExportedNetwork
from emotion_cnn.inference.cores import cores
from emotion_cnn.models.shipped import EXPORTED_NAMES, shipped_folder

_BATCH = 64
_SINGLES, _BATCHES = 300, 20
_PARTS = ("PublicTest", "PrivateTest")


@dataclass(frozen=True)
class Contender:
    """A network.

    Attributes:
        name: Its file.
        prepare: Takes uint8 `(n, 48, 48, 1)`; returns them as the network takes them.
        run: Takes these; returns probabilities, `(n, classes)` or with an axis for
            label sets, of which the first counts, before the classes.
        classes: The order of the classes.
    """

    name: str
    prepare: Callable[[np.ndarray], np.ndarray]
    run: Callable[[np.ndarray], np.ndarray]
    classes: Sequence[str]


def ours(path: Path) -> Contender:
    """Returns a network that `--mode export` wrote."""
    network = read_network(path, is_trusted=True)
    if not isinstance(network, ExportedNetwork):
        raise SystemExit(f"Expected an exported network, found {path}.")
    return Contender(
        f"ours, {'/'.join(path.parts[-2:])}",
        lambda images: images,
        network.runner.run,
        network.description.classes,
    )


def peer(path: Path, *, gray: tuple[float, float], classes: Sequence[str]) -> Contender:
    """Returns somebody else's network.

    Args:
        path: A LiteRT file, or one of Keras.
        gray: What it wants gray levels from 0 to 255 scaled to.
        classes: The order of its outputs.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes() if path.suffix == ".tflite" else _converted(path)
    interpreter = Interpreter(model_content=content, num_threads=cores())
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = (int(each) for each in entry["shape"][1:3])
    low, high = gray

    def prepare(images: np.ndarray) -> np.ndarray:
        resized = [
            np.asarray(
                Image.fromarray(each[:, :, 0]).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
            )
            for each in images
        ]
        shares = np.stack(resized)[..., np.newaxis] / np.float32(255)
        return (low + (high - low) * shares).astype(np.float32)

    def run(pixels: np.ndarray) -> np.ndarray:
        if len(pixels) != interpreter.get_input_details()[0]["shape"][0]:
            interpreter.resize_tensor_input(entry["index"], pixels.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(end["index"])

    return Contender(path.name, prepare, run, classes)


def _converted(path: Path) -> bytes:
    import keras

    model = keras.models.load_model(path, compile=False)
    with TemporaryDirectory() as folder:
        converted = Path(folder, "model.tflite")
        model.export(converted, format="litert", verbose=False)
        return converted.read_bytes()


def accuracies(contender: Contender, test: Split) -> dict[str, float]:
    """Returns the share of PublicTest and PrivateTest that is right."""
    pixels = contender.prepare(np.asarray(test.images))
    outputs = np.concatenate(
        [
            contender.run(pixels[start : start + _BATCH])
            for start in range(0, len(pixels), _BATCH)
        ]
    )
    if outputs.ndim == 3:
        outputs = outputs[:, 0]
    in_our_order = [contender.classes.index(name) for name in EMOTIONS]
    is_right = outputs[:, in_our_order].argmax(axis=1) == test.labels
    parts = official_parts(test)
    return {part: float(is_right[parts[part]].mean()) for part in _PARTS}


def seconds(contenders: Sequence[Contender], count: int, rounds: int) -> list[float]:
    """Returns the median of each for so many faces at once, measured in turns."""
    faces = np.random.default_rng(0).integers(
        0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 1)
    )
    pixels = [each.prepare(faces.astype(np.uint8)) for each in contenders]
    found: list[list[float]] = [[] for _ in contenders]
    for number in range(-1, rounds):
        for contender, images, of_contender in zip(
            contenders, pixels, found, strict=True
        ):
            # After the others have had the caches; the first call of each allocates.
            contender.run(images)
            start = time.perf_counter()
            contender.run(images)
            if number >= 0:
                of_contender.append(time.perf_counter() - start)
    return [median(each) for each in found]


def main() -> None:
    """Measures, and prints the table in Markdown."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        default=[shipped_folder() / EXPORTED_NAMES[0]],
        metavar="FILE",
        help="our exported networks (default: the shipped one)",
    )
    parser.add_argument(
        "--peer", action="append", type=Path, default=[], metavar="FILE"
    )
    parser.add_argument(
        "--peer-range",
        nargs=2,
        type=float,
        default=(-1, 1),
        metavar=("LOW", "HIGH"),
        help="what peers want gray levels scaled to (default: -1 1)",
    )
    parser.add_argument(
        "--peer-classes",
        default="angry,disgust,fear,happy,sad,surprise,neutral",
        metavar="NAMES",
        help="the order of peers' outputs (default: %(default)s, FER2013's numbers)",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="FER2013, for accuracies (default: speed alone)",
    )
    arguments = parser.parse_args()
    peers = [
        peer(
            path,
            gray=tuple(arguments.peer_range),
            classes=arguments.peer_classes.split(","),
        )
        for path in arguments.peer
    ]
    contenders = [*peers, *map(ours, arguments.files)]
    singles = seconds(contenders, 1, _SINGLES)
    batches = seconds(contenders, _BATCH, _BATCHES)
    test: Split | None = None
    if arguments.data:
        test, _ = load_test_data(
            arguments.data, labels="original", audit=None, skip_bad=False
        )
    # Of the first, the fastest of the others if there are others.
    first = slice(0, len(peers) or 1)
    rows: list[dict[str, Any]] = [
        {
            "network": contender.name,
            "milliseconds": 1000 * single,
            "times_latency": min(singles[first]) / single,
            "faces_per_second": _BATCH / batch,
            "times_throughput": min(batches[first]) / batch,
            "accuracy": accuracies(contender, test) if test else {},
        }
        for contender, single, batch in zip(contenders, singles, batches, strict=True)
    ]
    print("| network | ms a face | times | faces/s, 64 at a time | times |", end="")
    print(" PublicTest | PrivateTest |\n|" + 7 * " --- |")
    for row in rows:
        right = [
            f"{row['accuracy'][part]:.2%}" if arguments.data else "" for part in _PARTS
        ]
        cells = (
            row["network"],
            f"{row['milliseconds']:.2f}",
            f"{row['times_latency']:.2f}",
            f"{row['faces_per_second']:,.0f}",
            f"{row['times_throughput']:.2f}",
            *right,
        )
        print(f"| {' | '.join(cells)} |")
    print(f"\nTimes: as fast as the fastest peer. {cores()} threads.\n{machine()}")
    if arguments.json:
        write_json(arguments.json, {"networks": rows, "machine": machine()})


if __name__ == "__main__":
    main()
