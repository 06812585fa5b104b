"""All attacks and faults, one part after the other; exit code 1 if any did harm.

Each part is a command of its own, too, which takes the number of cases and a seed:
`python -m benchmarks.faults.images --help`.
"""

import argparse
import subprocess
import sys
import time

from benchmarks import ROOT

# What a short campaign takes each part with. All points at which publishing can be
# killed are tried even so; each part takes a minute or two on two cores.
PARTS = {
    "images": ("--cases", "140"),
    "importing": ("--cases", "150", "--kills", "2"),
    "networks": ("--cases", "40"),
    "publishing": ("--cases", "40"),
    "runs": ("--cases", "6"),
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
    failed = []
    for part, few in PARTS.items():
        command = [sys.executable, "-m", f"benchmarks.faults.{part}"]
        command += ["--seed", options.seed, *(few if options.short else ())]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603
        print(f"-- {part}: {time.perf_counter() - start:.0f} s\n", flush=True)
        if done.returncode:
            failed.append(part)
    print(f"Failed: {', '.join(failed)}" if failed else "All of it held.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
