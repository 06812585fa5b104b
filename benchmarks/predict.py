"""Photos to predictions: rate, use of two cores, latency of one face, and start.

The photos are made here, of built-in drawn faces on drawn backgrounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show
from benchmarks.video import HEIGHT, WIDTH, draw_background, enlarged
from emotion_cnn.data.drawn_faces import draw_faces

SIDES = (120, 200)
FACES_PER_PHOTO = 3
FACES_AT_ONCE = 32
"""About what the tool gives the network of 16 photos."""
CALLS = 100
NOT_NEEDED = ("IPython", "jax", "matplotlib", "pandas", "scipy", "sklearn", "torch")
IMPORTS = {
    name: [
        *(sys.executable, "-c"),
        f"from emotion_cnn.backend import use_backend; use_backend(lean={lean})",
    ]
    for name, lean in (("lean", True), ("whole", False))
}
"""Commands that import Keras as `predict` does, and with all that it wants."""
LIST_IMPORTED = f"""
import sys
from emotion_cnn.cli import main
code = main(sys.argv[1:])
print(*(name for name in {NOT_NEEDED} if name in sys.modules))
sys.exit(code)
"""


def make_photos(folder: Path, count: int) -> int:
    """Writes JPEG photos with one to three faces each.

    Returns:
        How many faces they have.
    """
    rng = np.random.default_rng(0)
    drawn, _ = draw_faces(10, seed=0)
    faces = 0
    room = WIDTH // FACES_PER_PHOTO
    for number in range(count):
        photo = draw_background(rng)
        for place in range(1 + number % FACES_PER_PHOTO):
            side = int(rng.integers(*SIDES))
            left = place * room + int(rng.integers(room - side))
            top = int(rng.integers(HEIGHT - side))
            face = enlarged(drawn[rng.integers(len(drawn))], side)
            photo[top : top + side, left : left + side] = face
            faces += 1
        Image.fromarray(photo).save(folder / f"{number:05}.jpg", quality=90)
    return faces


def main() -> None:
    """Measures, and prints the table; exits with 1 if too much was imported."""
    parser = argument_parser(__doc__)
    parser.add_argument("--photos", type=int, default=100, help="(default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    # For processes of its own.
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure_photos(arguments.folder, arguments.cores)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        folder.mkdir()
        faces = make_photos(folder, arguments.photos)
        two, one = [], []
        for _ in range(arguments.rounds):
            two.append(measured_apart(folder, 2))
            one.append(measured_apart(folder, 1))
        rows = photo_rows(medians(two), medians(one), arguments.photos)
        start_rows, imported = start(next(folder.iterdir()), arguments.rounds)
    show(
        f"Predicting: {arguments.photos} photos of {WIDTH}x{HEIGHT}",
        rows + start_rows,
        notes=[
            f"Medians of {arguments.rounds} processes each, in turns; "
            f"{two[0]['found']:.0f} of {faces} faces were found.",
            f"The command imports {imported}: MISSED."
            if imported
            else f"The command imports none of {', '.join(NOT_NEEDED)}: met.",
        ],
        json=arguments.json,
    )
    if imported:
        sys.exit(1)


def photo_rows(two: dict[str, float], one: dict[str, float], photos: int) -> list[Row]:
    """Returns the figures of processes on two cores and on one."""
    parts = two["detector"] + two["network"]
    return [
        Row("all photos, two cores", "s", two["whole"], parts, at_most=1.3),
        Row("  the detector alone, two threads", "s", two["detector"]),
        Row("  the network alone", "s", two["network"]),
        Row("  decoding alone, two threads", "s", two["decoding"]),
        Row(
            "all photos, two cores against one",
            "images/s",
            photos / two["whole"],
            photos / one["whole"],
            at_least=1.6,
        ),
        Row(
            "one face, array to probabilities",
            "ms",
            1000 * two["face"],
            1000 * two["call"],
            at_most=1.3,
        ),
    ]


def measured_apart(folder: Path, cores: int) -> dict[str, float]:
    """Returns what `measure_photos` does, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.predict"]
    command += ["--folder", str(folder), "--cores", str(cores)]
    lines = python_output(command).splitlines()
    return json.loads(lines[-1])


def medians(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the median of each figure."""
    return {
        name: statistics.median(each[name] for each in measured) for name in measured[0]
    }


def measure_photos(folder: Path, cores: int) -> dict[str, float]:
    """Measures the whole in this process, on so many cores; its parts on several.

    Returns:
        Seconds by part; and how many faces were found.
    """
    # Before TensorFlow starts its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import emotion_cnn
    from emotion_cnn.data.images import decode_photo
    from emotion_cnn.inference.analysis import Analyzer
    from emotion_cnn.inference.detection import YuNet
    from emotion_cnn.inference.memory import Reserve

    def read(path: Path, reserve: Reserve | None = None) -> np.ndarray | str:
        with path.open("rb") as file:
            return decode_photo(file, reserve=reserve)

    classifier = emotion_cnn.load()
    detector = YuNet()
    analyzer = Analyzer(classifier, detector)
    paths = sorted(folder.iterdir())

    def whole() -> list[np.ndarray]:
        analyses = analyzer.analyze_many(paths, read)
        return [face.image for analysis in analyses for face in analysis.faces]

    crops = np.stack(whole())
    pixels = crops[..., np.newaxis]
    call = bare(classifier)
    photos: list[Any] = []

    def network() -> None:
        for start in range(0, len(pixels), FACES_AT_ONCE):
            call(pixels[start : start + FACES_AT_ONCE])

    seconds = {"whole": timed(whole), "found": float(len(crops))}
    if cores == 1:
        return seconds
    network()
    with ThreadPoolExecutor(cores) as pool:
        seconds["decoding"] = timed(lambda: photos.extend(pool.map(read, paths)))
        seconds["detector"] = timed(lambda: list(pool.map(detector.detect, photos)))
    seconds["network"] = timed(network)
    calls: dict[str, Callable[[], Any]] = {
        "call": lambda: call(pixels[:1]),
        "face": lambda: classifier.predict(crops[0]),
    }
    for each in calls.values():
        each()
    return seconds | medians(
        [{n: timed(each) for n, each in calls.items()} for _ in range(CALLS)]
    )


def bare(classifier: Any) -> Callable[[np.ndarray], Any]:
    """Returns the bare call of the default network, unchecked: LiteRT's, of uint8."""
    return classifier._network.runner.run


def timed(work: Callable[[], Any]) -> float:
    """Returns the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start(photo: Path, rounds: int) -> tuple[list[Row], str]:
    """Measures the command on one photo.

    Returns:
        The figures; and which of the packages that it does not need it imports.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--mode", "predict", "--source", str(photo), "--save", "none"]
        seconds, imports = [], []
        for number in range(rounds):
            output = ["--output", f"{folder}/{number}"]
            seconds.append(seconds_to_prediction([*arguments, *output], photo))
            imports.append(
                {name: timed(partial(python_output, c)) for name, c in IMPORTS.items()}
            )
        output = ["--output", f"{folder}/last"]
        lines = python_output(
            [sys.executable, "-c", LIST_IMPORTED, *arguments, *output]
        ).splitlines()
    importing = medians(imports)
    rows = [
        Row("start to the prediction of one photo", "s", statistics.median(seconds)),
        Row(
            "  importing Keras, against as it is",
            "s",
            importing["lean"],
            importing["whole"],
        ),
    ]
    return rows, lines[-1]


def seconds_to_prediction(arguments: Sequence[str], photo: Path) -> float:
    """Returns how long it takes from the start of `main.py` to a photo's prediction."""
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - This very interpreter.
        [sys.executable, "-u", "main.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stdout or ():
            if line.startswith(str(photo)):
                seconds = time.perf_counter() - start
                process.communicate()
                return seconds
    raise RuntimeError(f"Expected a prediction from {arguments}, found none.")


def python_output(command: Sequence[str]) -> str:
    """Returns what a Python process prints."""
    return subprocess.run(  # noqa: S603 - This very interpreter.
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
