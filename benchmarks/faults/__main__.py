"""All attacks and faults, one part after the other; exit code 1 if any did harm.

Each part is a command of its own, too, which takes the number of cases and a seed:
`python -m benchmarks.faults.images --help`. They need Linux: processes that are forked
and killed, pipes and limits.
"""

import argparse
import subprocess
import sys
import time

from benchmarks import ROOT

# The number of cases of each part, whole and short. Some kinds do not depend on it:
# every file operation of an import is a moment to kill it at.
PARTS = {
    "images": (12_000, 240),
    "importing": (5_000, 150),
    "networks": (10_000, 40),
    "predicting": (200, 10),
    "publishing": (1_000, 40),
    "runs": (120, 6),
}


def main() -> int:
    """Runs all parts, and prints how long each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--short", action="store_true", help="few cases of each kind, as in CI"
    )
    parser.add_argument("--seed", default="1", help="of what is drawn (default: 1)")
    options = parser.parse_args()
    if sys.platform != "linux":
        print("Not tried: attacks and faults need Linux.")
        return 0
    failed = []
    for part, (whole, short) in PARTS.items():
        command = [sys.executable, "-m", f"benchmarks.faults.{part}"]
        command += ["--cases", str(short if options.short else whole)]
        command += ["--seed", options.seed]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603
        print(f"-- {part}: {time.perf_counter() - start:.0f} s\n", flush=True)
        if done.returncode:
            failed.append(part)
    print(f"Failed: {', '.join(failed)}" if failed else "All of it held.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
