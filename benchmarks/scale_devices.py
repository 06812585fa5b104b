"""Two processes on a core each against one process on both, in training on JAX.

A process on one core that trains on half of the batch, with nobody to wait for, says
what sharing costs: what a step of the two takes beyond its step.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from contextlib import nullcontext

from benchmarks import ROOT
from emotion_cnn.backend import use_backend
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.processes import is_chief, join, leave, processes

STEPS = 12


def start(
    arguments: argparse.Namespace, cores: set[int], batch_size: int, **variables: str
) -> subprocess.Popen[str]:
    """Starts a process on some cores that trains and prints seconds a step."""
    flags = " --xla_force_host_platform_device_count=1"
    # This very interpreter, with arguments from this file.
    return subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "benchmarks.scale_devices"),
            *("--model", arguments.model, "--rounds", str(arguments.rounds)),
            *("--worker", str(batch_size), ",".join(map(str, sorted(cores)))),
        ],
        cwd=ROOT,
        env=os.environ
        | {"CUDA_VISIBLE_DEVICES": ""}
        | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flags}
        | variables,
        stdout=subprocess.PIPE,
        text=True,
    )


def seconds_of(process: subprocess.Popen[str]) -> float:
    """Returns the seconds a step that a process prints last."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit("error: a process that trains has failed")
    return float(json.loads(output.splitlines()[-1]))


def work(arguments: argparse.Namespace) -> None:
    """Trains on noise, and prints the seconds that a step takes."""
    batch_size = int(arguments.worker[0])
    # Before JAX starts its threads, one for each of these cores.
    os.sched_setaffinity(0, {int(core) for core in arguments.worker[1].split(",")})
    join()
    import numpy as np

    from benchmarks.steps import compiled_model, time_fit
    from emotion_cnn.data.splits import Split
    from emotion_cnn.training.data_parallel import over_all_devices
    from emotion_cnn.training.recipes import Recipe

    def noise(count: int) -> Split:
        pixels = np.random.default_rng(0).integers(0, 256, (count, 48, 48, 1), np.uint8)
        names = tuple(f"train/{place}" for place in range(count))
        return Split(pixels, np.arange(count) % 7, names)

    recipe = Recipe(model=arguments.model, epochs=1, batch_size=batch_size)
    train, validation = noise(STEPS * batch_size), noise(batch_size)
    several = processes().count > 1
    with over_all_devices(batch_size=batch_size) if several else nullcontext():
        model = compiled_model(recipe, images=len(train))
        time_fit(model, train, validation, recipe)
        steps = [
            time_fit(model, train, validation, recipe).steps / STEPS
            for _ in range(arguments.rounds)
        ]
    leave()
    if is_chief():
        print(json.dumps(statistics.median(steps)))


def main() -> None:
    """Measures, and prints the table."""
    use_backend("jax")
    # Imports Keras, which takes the backend.
    from benchmarks.report import Row, argument_parser, show

    parser = argument_parser(__doc__)
    parser.add_argument(
        "--model", choices=tuple(ARCHITECTURES), default="compact", help="(compact)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="(64)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    first, second = sorted(os.sched_getaffinity(0))[:2]
    batch_size = arguments.batch_size
    one = seconds_of(start(arguments, {first, second}, batch_size))
    half = seconds_of(start(arguments, {first}, batch_size // 2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    started = [
        start(
            arguments,
            {core},
            batch_size,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(place),
        )
        for place, core in enumerate((first, second))
    ]
    two = seconds_of(started[0])
    started[1].communicate()
    show(
        f"Training {arguments.model} on JAX, float32, batches of {batch_size}:\n"
        "two processes on a core each",
        [
            Row(
                "two processes, against one on both cores",
                "images/s",
                batch_size / two,
                batch_size / one,
            ),
            Row(
                "their step, against half a batch on one core alone",
                "ms",
                1000 * two,
                1000 * half,
            ),
            Row("what a step of the two costs beyond it", "ms", 1000 * (two - half)),
        ],
        notes=[
            f"Medians of {arguments.rounds} epochs of {STEPS} steps, after one to warm "
            "up, within fit.",
            "The two exchange gradients and batch statistics over loopback (Gloo).",
        ],
        json=arguments.json,
    )


if __name__ == "__main__":
    main()
