"""How long --help, wrong arguments and the first answer take, without Keras.

The first answer is that of an exported network, `--weights`, or the shipped one.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.models.shipped import EXPORTED_NAMES, shipped_folder

HEAVY = ("keras", "tensorflow", "jax", "torch")
CASES = {
    "--help": (0, ["main.py", "--help"]),
    "a wrong value: --mode nonsense": (2, ["main.py", "--mode", "nonsense"]),
    "out of range: --epochs 0": (2, ["main.py", "--mode", "train", "--epochs", "0"]),
    "an empty Python program": (0, ["-c", ""]),
}
"""Exit code and arguments of each; the last one is there to compare with."""


def run(exit_code: int, arguments: Sequence[str]) -> tuple[float, str]:
    """Runs Python with arguments.

    Args:
        exit_code: The one that is expected: a crash can be quick too.
        arguments: What follows `python`.

    Returns:
        The seconds it took, and what it wrote to the standard error.

    Raises:
        RuntimeError: It ended with another exit code.
    """
    start = time.perf_counter()
    # This very interpreter, with arguments from this file.
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != exit_code:
        raise RuntimeError(
            f"Expected exit code {exit_code} of {arguments}, found {done.returncode}: "
            f"{done.stderr}"
        )
    return seconds, done.stderr


def heavy_imports(exit_code: int, arguments: Sequence[str]) -> list[str]:
    """Returns which of the `HEAVY` packages a command imports."""
    _, errors = run(exit_code, ["-X", "importtime", *arguments])
    modules = [line.rpartition("|")[2].strip() for line in errors.splitlines()]
    packages = {module.partition(".")[0] for module in modules}
    return [name for name in HEAVY if name in packages]


def prediction_cases(
    folder: Path, weights: Path | None
) -> dict[str, tuple[int, list[str]]]:
    """Returns the case of the first answer, if there is an exported network.

    Args:
        folder: Where to write a face and the answers.
        weights: The exported network; None for the shipped one.
    """
    shipped = any((shipped_folder() / name).is_file() for name in EXPORTED_NAMES)
    if weights is None and not shipped:
        return {}
    images, _ = draw_faces(1, seed=0)
    Image.fromarray(images[0, :, :, 0]).save(folder / "face.png")
    command = ["main.py", "--mode", "predict", "--source", str(folder / "face.png")]
    command += ["--faces", "cropped", "--runs", str(folder / "runs")]
    if weights is not None:
        command += ["--weights", str(weights.resolve())]
    name = "the shipped one" if weights is None else weights.name
    return {f"predict, a face, all files: {name}": (0, command)}


def _limit(name: str, command: Sequence[str]) -> float | None:
    if "main.py" not in command:
        return None
    return 1 if name.startswith("predict") else 0.3


def main() -> None:
    """Measures, and prints the table; exits with 1 if Keras was imported."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="(default: 11)")
    parser.add_argument("--weights", type=Path, help="an exported network")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = CASES | prediction_cases(Path(folder), arguments.weights)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(arguments.rounds):
            for name, case in cases.items():
                seconds[name].append(run(*case)[0])
        imported = {name: heavy_imports(*case) for name, case in cases.items()}
    rows = [
        Row(
            name,
            "s",
            statistics.median(seconds[name]),
            at_most=_limit(name, command),
        )
        for name, (_, command) in cases.items()
    ]
    found = [f"{name} imports {', '.join(i)}" for name, i in imported.items() if i]
    show(
        "Start-up",
        rows,
        notes=[
            f"Medians of {arguments.rounds} processes each, in turns.",
            "; ".join(found) + ": MISSED."
            if found
            else f"None of them imports {', '.join(HEAVY)}: met.",
        ],
        json=arguments.json,
    )
    if found:
        sys.exit(1)


if __name__ == "__main__":
    main()
