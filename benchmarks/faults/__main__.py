"""All attacks and faults, a part on each core; exit code 1 if any did harm.

Each part is a command of its own, too, which takes the number of cases and a seed:
`python -m benchmarks.faults.images --help`. They need Linux: processes that are forked
and killed, pipes and limits.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import ROOT

# The number of cases of each part, whole and short; some kinds depend on it little. The
# part that takes longest is the first.
PARTS = {
    "runs": (120, 6),
    "importing": (5_000, 150),
    "images": (12_000, 240),
    "predicting": (200, 10),
    "networks": (10_000, 40),
    "publishing": (1_000, 40),
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

    def tried(part: str) -> bool:
        """Tries a part, and prints in one piece what it says."""
        whole, short = PARTS[part]
        command = [sys.executable, "-m", f"benchmarks.faults.{part}"]
        command += ["--cases", str(short if options.short else whole)]
        command += ["--seed", options.seed]
        start = time.perf_counter()
        done = subprocess.run(  # noqa: S603
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        print(f"{done.stdout}-- {part}: {seconds:.0f} s\n", flush=True)
        return not done.returncode

    with ThreadPoolExecutor(os.cpu_count()) as cores:
        held = dict(zip(PARTS, cores.map(tried, PARTS), strict=True))
    failed = [part for part in PARTS if not held[part]]
    print(f"Failed: {', '.join(failed)}" if failed else "All of it held.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
