"""Training inside the tool's fit, on every Keras backend, against plain Torch.

Each is measured on the CPU in processes of its own, which take turns.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show
from benchmarks.training_rate import BATCH_SIZE
from emotion_cnn.backend import BACKENDS
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.training.environment import describe_environment
from emotion_cnn.training.recipes import PRECISIONS

LEAST_OF_TENSORFLOW = 0.5
LEAST_OF_FASTEST = 0.8


@dataclass(frozen=True)
class Subject:
    """What is measured: the tool on a backend, or plain Torch."""

    program: str
    backend: str
    precision: str


PLAIN_TORCH = Subject("plain-torch", "torch", "float32")


@dataclass(frozen=True)
class Training:
    """What a process says: images/s, and how many parameters it trained."""

    rate: float
    parameters: int


def train(subject: Subject, model: str, seconds: float) -> Training:
    """Trains a network for so many seconds in a process of its own."""
    threads = str(os.cpu_count())
    environment = os.environ | {
        "KERAS_BACKEND": subject.backend,
        # Torch would start a thread per core, the others one per hardware thread.
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Plain Torch stays on the CPU, so all do.
        "CUDA_VISIBLE_DEVICES": "",
    }
    # This very interpreter, with arguments from this file.
    done = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "benchmarks.training_rate"),
            *(subject.program, model, subject.precision, str(seconds)),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return Training(**json.loads(done.stdout))


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=BACKENDS,
        default=installed,
        help="(default: all that are installed)",
    )
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), default="compact")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="numbers to measure the tool with, beside float32",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=20,
        help="least time that each process trains (default: 20)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    arguments = parser.parse_args()
    for package in ("torch", *arguments.backends):
        if package not in installed:
            parser.exit(
                2,
                f"error: this needs the package {package}, which is not installed. "
                f"Install it: pip install {package}\n",
            )

    subjects = [
        Subject("tool", backend, precision)
        for precision in dict.fromkeys(("float32", arguments.precision))
        for backend in arguments.backends
    ]
    trainings: dict[Subject, list[Training]] = {
        subject: [] for subject in (PLAIN_TORCH, *subjects)
    }
    for _ in range(arguments.rounds):
        for subject, of_rounds in trainings.items():
            of_rounds.append(train(subject, arguments.model, arguments.seconds))
    sizes = {each.parameters for of_rounds in trainings.values() for each in of_rounds}
    if len(sizes) > 1:
        raise RuntimeError(f"Expected one network, found {sizes} parameters.")
    rates = {s: [each.rate for each in of_rounds] for s, of_rounds in trainings.items()}
    medians = {subject: statistics.median(rates[subject]) for subject in rates}
    versions = describe_environment()["versions"]
    names = {s: f"{s.backend} {versions[s.backend]}, {s.precision}" for s in subjects}
    rows = [
        Row(
            names[subject],
            "images/s",
            medians[subject],
            medians[PLAIN_TORCH],
            at_least=LEAST_OF_TENSORFLOW
            if (subject.backend, subject.precision) == ("tensorflow", "float32")
            else None,
        )
        for subject in subjects
    ]
    # Like with like: plain Torch computes with float32.
    fastest = max(
        (subject for subject in subjects if subject.precision == "float32"),
        key=medians.__getitem__,
    )
    rows.append(
        Row(
            f"the fastest in float32: {fastest.backend}",
            "images/s",
            medians[fastest],
            medians[PLAIN_TORCH],
            at_least=LEAST_OF_FASTEST,
        )
    )
    show(
        f"Training on the CPU, {os.cpu_count()} threads: {arguments.model}, batches of "
        f"{BATCH_SIZE}; reference: plain Torch, float32",
        rows,
        notes=[
            f"Medians of {arguments.rounds} processes each, in turns; each trained for "
            f"at least {arguments.seconds:g} s after a warm-up.",
            "Slowest to fastest process, images/s: "
            + "; ".join(
                f"{names.get(subject, 'plain Torch')} "
                f"{min(of_rounds):,.0f}-{max(of_rounds):,.0f}"
                for subject, of_rounds in rates.items()
            )
            + ".",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
