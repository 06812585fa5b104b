"""One audit of made images, in a process of its own; benchmarks.audit compares many."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import ROOT
from emotion_cnn.audit.facts import audit_images
from emotion_cnn.data.folders import Survey
from emotion_cnn.data.splits import Split


@dataclass(frozen=True)
class Measured:
    """What one audit took, and the names of the images with a near-duplicate."""

    seconds: float
    processor_seconds: float
    megabytes: float
    found: tuple[str, ...]


def main() -> None:
    """Audits the images that the arguments say, and prints what that took as JSON."""
    path, train, test, options = sys.argv[1:]
    measured = audit(Path(path), int(train), int(test), json.loads(options))
    print(json.dumps(dataclasses.asdict(measured)))


def measured_apart(
    path: Path, train: int, test: int, options: dict[str, Any]
) -> Measured:
    """Audits images in a process of its own, as the peak of its memory is.

    Args:
        path: The images.
        train: How many are train.
        test: How many of the next are test.
        options: What `audit_images` takes beside them.
    """
    arguments = [str(path), str(train), str(test), json.dumps(options)]
    command = [sys.executable, "-m", "benchmarks.audit_growth", *arguments]
    # This very interpreter, with arguments from this file.
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)  # noqa: S603
    return Measured(**json.loads(done.stdout))


def audit(path: Path, train: int, test: int, options: dict[str, Any]) -> Measured:
    """Audits images, and measures that."""
    images = np.load(path, mmap_mode="r")

    def split(part: str, start: int, count: int) -> Split:
        return Split(
            images[start : start + count],
            np.arange(count) * 7 // count,
            tuple(f"{part}/{number}.png" for number in range(count)),
        )

    survey = Survey(
        split("train", 0, train), split("test", train, test), {}, {}, (), ()
    )
    with watched_memory() as peaks:
        start, processor_start = time.perf_counter(), time.process_time()
        result = audit_images("made", survey, None, **options)
        seconds = time.perf_counter() - start
        processor_seconds = time.process_time() - processor_start
    pairs = (result.across, result.within_train or (), result.within_test or ())
    found = {
        name for each in pairs for p in each for name in (p.image, p.near_duplicate)
    }
    return Measured(seconds, processor_seconds, max(peaks) / 1e6, tuple(sorted(found)))


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """Yields a list that gets the anonymous memory of this process, in bytes, often."""
    sizes: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while True:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            sizes.append(int(status.split("RssAnon:")[1].split()[0]) * 1024)
            if ended.wait(0.02):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        ended.set()
        thread.join()


@contextmanager
def made_images(count: int) -> Iterator[Path]:
    """Yields a file of made images, as `numpy.save` writes them, in random order."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (count, 6, 6)).astype(np.float32)
    copied, copies = generator.permutation(count)[: count // 5].reshape(2, -1)
    coarse[copies] = coarse[copied]
    coarse[copies[::4]] = coarse[copies[::4], :, ::-1]
    noise = np.zeros(count, np.float32)
    noise[copies] = generator.uniform(0, 14, len(copies))
    # Between the middles of six cells, as an image is enlarged.
    places = np.clip((np.arange(48) - 3.5) / 8, 0, 5)
    enlarge = np.maximum(1 - np.abs(places[:, None] - np.arange(6)), 0)
    enlarge = enlarge.astype(np.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder, "images.npy")
        images = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, 48, 48, 1)
        )
        for start in range(0, count, 4096):
            part = slice(start, min(start + 4096, count))
            made = enlarge @ coarse[part] @ enlarge.T
            noisy = np.flatnonzero(noise[part])
            steps = generator.standard_normal((len(noisy), 48, 48), dtype=np.float32)
            made[noisy] += noise[part][noisy, None, None] * steps
            images[part] = made.clip(0, 255)[..., None]
        yield path


if __name__ == "__main__":
    main()
