"""The page on one's own machine: frames answered a second, their age, and fairness.

The command itself serves, on the shipped network; connections in this process send JPEG
frames of 640x480 with one drawn face each, as the page does: two on their way at most.
"""

import json
import re
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from urllib.parse import urlsplit

from PIL import Image
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from benchmarks import ROOT
from benchmarks.report import Row, argument_parser, show
from benchmarks.video import HEIGHT, WIDTH, scenes

FRAMES_PER_SECOND = 15
IN_FLIGHT = 2
CAMERA_RATE = 30
PAGES = 3
HEADER = struct.Struct(">Id")


def main() -> None:
    """Measures, and prints the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="(default: 10)")
    arguments = parser.parse_args()
    seconds = arguments.seconds
    frames = encoded_frames(60)
    with serving() as address:
        measured(address, frames, seconds=2)
        rates, faces = [], 0.0
        for _ in range(3):
            answers = measured(address, frames, seconds=seconds)
            rates.append(len(answers) / seconds)
            faces = statistics.mean(count for _, count in answers)
        ages = [age for age, _ in measured(address, frames, seconds=seconds)]
        flooded = [
            age
            for age, _ in measured(address, frames, seconds=seconds, is_patient=False)
        ]
        pages = together(address, frames, seconds=seconds)
    rows = [
        Row(
            "one page",
            "frames/s",
            statistics.median(rates),
            at_least=FRAMES_PER_SECOND,
        ),
        Row("  from sent to answered, median", "ms", 1000 * statistics.median(ages)),
        Row(
            f"the same, {CAMERA_RATE} frames/s sent without waiting, 95th percentile",
            "ms",
            1000 * statistics.quantiles(flooded, n=20)[-1],
            at_most=500,
        ),
        Row(f"{PAGES} pages together", "frames/s", sum(pages)),
        Row(
            "  the slowest against the fastest",
            "frames/s",
            min(pages),
            max(pages),
            at_least=0.8,
        ),
    ]
    show(
        f"The page: JPEG frames of {WIDTH}x{HEIGHT}, one face each",
        rows,
        notes=[
            f"{faces:.2f} faces were found a frame. Medians of 3; what sends the "
            "frames shares the cores."
        ],
        json=arguments.json,
    )


def encoded_frames(count: int) -> list[bytes]:
    """Returns so many frames as JPEG files."""
    frames = []
    for scene in scenes(count):
        file = BytesIO()
        Image.fromarray(scene).save(file, "JPEG", quality=90)
        frames.append(file.getvalue())
    return frames


@contextmanager
def serving() -> Iterator[str]:
    """Yields the address of the page, served by a process of its own."""
    command = [sys.executable, "-u", "main.py", "--mode", "serve", "--no-browser"]
    process = subprocess.Popen(  # noqa: S603 - Its own file.
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout or ():
            if match := re.search(r"http://\S+", line):
                yield match[0]
                break
        else:
            raise RuntimeError("The command ended without an address.")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


@contextmanager
def opened(address: str) -> Iterator[ClientConnection]:
    """Yields a connection for frames, as the page opens it."""
    parts = urlsplit(address)
    with connect(
        f"ws://{parts.netloc}{parts.path}frames",
        origin=Origin(f"http://{parts.netloc}"),
        compression=None,
    ) as connection:
        start = {"source": "benchmark", "labels": "original", "tracks": 0}
        connection.send(json.dumps({"start": start}))
        yield connection


def measured(
    address: str, frames: list[bytes], *, seconds: float, is_patient: bool = True
) -> list[tuple[float, int]]:
    """Sends frames for a while.

    Args:
        address: Of the page.
        frames: JPEG files.
        seconds: For how long.
        is_patient: Whether no more than `IN_FLIGHT` are on their way, as the page does
            it; otherwise `CAMERA_RATE` a second are sent.

    Returns:
        Of each answer how long after its frame it came, in seconds, and how many faces
        it has.
    """
    answers: list[tuple[float, int]] = []
    sent: dict[int, float] = {}
    room = threading.Semaphore(IN_FLIGHT)
    with opened(address) as connection:

        def receive() -> None:
            last = 0
            for text in connection:
                answer = json.loads(text)
                number = answer["number"]
                age = time.perf_counter() - sent[number]
                answers.append((age, len(answer["line"]["faces"])))
                # Those in between were left out for it.
                room.release(number - last)
                last = number

        receiver = threading.Thread(target=receive)
        receiver.start()
        start = time.perf_counter()
        number = 0
        while time.perf_counter() - start < seconds:
            if is_patient:
                room.acquire()
            else:
                time.sleep(max(0, start + number / CAMERA_RATE - time.perf_counter()))
            content = frames[number % len(frames)]
            number += 1
            sent[number] = time.perf_counter()
            connection.send(HEADER.pack(number, sent[number] - start) + content)
        connection.close()
        receiver.join()
    return answers


def together(address: str, frames: list[bytes], *, seconds: float) -> list[float]:
    """Returns the frames a second of each of several pages at a time."""
    rates: list[float] = []

    def measure() -> None:
        rates.append(len(measured(address, frames, seconds=seconds)) / seconds)

    threads = [threading.Thread(target=measure) for _ in range(PAGES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rates


if __name__ == "__main__":
    main()
