"""How long --help and wrong arguments take, and that Keras is not imported for them."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show

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


def main() -> None:
    """Measures, and prints the table; exits with 1 if Keras was imported."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="(default: 11)")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, case in CASES.items():
            seconds[name].append(run(*case)[0])
    rows = [
        Row(
            name,
            "s",
            statistics.median(seconds[name]),
            at_most=0.3 if "main.py" in command else None,
        )
        for name, (_, command) in CASES.items()
    ]
    imported = {name: heavy_imports(*case) for name, case in CASES.items()}
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
