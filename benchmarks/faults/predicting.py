"""Predicting: planted results, odd lists, bombs, killed, interrupted, on full disks.

Needs `os.fork`, and neither Keras nor a network: a stand-in classifies the faces.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.faults import Tally
from benchmarks.faults.publishing import exit_code, in_a_process
from emotion_cnn import cli
from emotion_cnn.commands import predict
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import PHOTO_MEGAPIXEL_LIMIT, decode_photo
from emotion_cnn.files import LOCK_NAME

SECONDS = 60
VICTIM = b"precious"
TABLES = ("predictions.csv", "predictions.jsonl", "errors.csv")
SAVED = "images,faces,sheet,video,timeline"


class StandIn:
    """Predicts by the mean of each quarter of a face."""

    classes = EMOTIONS
    label_sets = ("original",)
    input_size = 48
    weights_sha256 = 64 * "0"

    def __init__(self, seconds: float = 0) -> None:
        """Takes how long a prediction takes."""
        self._seconds = seconds

    def predict(
        self, faces: Any, *, labels: str | None = None, tta: str = "none"
    ) -> np.ndarray:
        """Returns float32 `(n, classes)`."""
        time.sleep(self._seconds * len(faces))
        parts = faces.reshape(-1, 48 * 48)[:, : 7 * 300].reshape(-1, 7, 300)
        values = parts.mean(axis=2, dtype=np.float64) + 1
        shares: np.ndarray = values / values.sum(axis=1, keepdims=True)
        return shares.astype("float32")


def start(
    folder: Path,
    *arguments: str,
    file_size: int | None = None,
    seconds: float = 0,
    log: Path | None = None,
) -> int:
    """Starts the command in a process of its own; returns its id.

    Args:
        folder: Where it works.
        arguments: Of the command line.
        file_size: Most bytes that it may write into a file; None for any.
        seconds: How long a prediction takes.
        log: Where its streams go.
    """

    def work() -> None:
        signal.alarm(SECONDS)
        os.chdir(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        streams = os.open(log or os.devnull, flags)
        os.dup2(streams, 1)
        os.dup2(streams, 2)
        command: Any = predict
        command._load_classifier = lambda _: StandIn(seconds)
        if file_size is not None:
            limits = (file_size, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os._exit(cli.main(["predict", "--faces=cropped", *arguments]))

    return in_a_process(work)


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs the command; returns its exit code and what it says."""
    log = folder / "log"
    code = exit_code(start(folder, *arguments, log=log))
    return code, log.read_text(encoding="utf-8", errors="replace")


def drawn(folder: Path, count: int) -> None:
    """Writes images that differ."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def write_video(path: Path, times: Sequence[int], *, sizes: Sequence[int] = ()) -> None:
    """Writes a video of JPEG frames shown at given times, in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.time_base = Fraction(1, 1000)
        for number, milliseconds in enumerate(times):
            image = io.BytesIO()
            size = (sizes[number], 48) if sizes else (64, 48)
            Image.new("RGB", size, (20 * number % 256, 9, 9)).save(image, "JPEG")
            packet = av.Packet(bytes(image.getbuffer()))
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = milliseconds
            packet.time_base = Fraction(1, 1000)
            container.mux_one(packet)


def tables(folder: Path) -> list[bytes]:
    """Returns the contents of the tables."""
    return [(folder / name).read_bytes() for name in TABLES]


@contextlib.contextmanager
def _workplace(place: Path, images: int = 4) -> Iterator[Path]:
    """Yields a folder with images, and a file that nobody may change."""
    folder = place / "work"
    drawn(folder / "in", images)
    (folder / "victim").write_bytes(VICTIM)
    yield folder
    shutil.rmtree(folder)


def _judge(
    tally: Tally, what: str, folder: Path, found: tuple[int, str], *codes: int
) -> None:
    """Counts a command as held: an exit code, no traceback, nothing else changed."""
    code, text = found
    harm = "Traceback" in text or (folder / "victim").read_bytes() != VICTIM
    if code in codes and not harm:
        tally.held()
    else:
        tally.failed(f"{what}: exit {code}: {text[-300:]!a}")


# --- What a stranger plants among results ---


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        path = folder / "out" / name
        if path.exists():
            path.unlink()
        make(path)

    return plant


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


def _edited(key: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "out/predict.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return edit


_THINGS: Mapping[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("../victim"),
    "a link to a folder": lambda path: path.symlink_to("../in"),
    "a hard link": lambda path: path.hardlink_to(path.parents[1] / "victim"),
    "a pipe": lambda path: os.mkfifo(path),
    "a line without end": _sparse,
    "brackets": lambda path: path.write_text(100_000 * "[" + "\n"),
    "quotes": lambda path: path.write_text('a,"' + 100_000 * '""\n'),
    "nothing": lambda path: path.touch(),
}
_VALUES = ([1], {"a": 1}, "x", None, float("inf"), float("nan"), 10**400, True)
_PLANTED: Mapping[str, Callable[[Path], None]] = {
    **{
        f"{what} for {name}": _replaced(name, make)
        for name in (*TABLES, "predict.json", "images", "faces", LOCK_NAME)
        for what, make in _THINGS.items()
    },
    **{
        f"{key}={str(value)[:9]}": _edited(key, value)
        for key in ("kind", "format", "columns", "settings", "finished")
        for value in _VALUES
    },
}


def _planted(place: Path, cases: int, seed: int) -> Tally:
    """Resumes what a stranger has changed."""
    tally = Tally("Resuming what a stranger has changed")
    drawn(place / "base/in", 4)
    run(place / "base", "--source=in", "--output=out", "--save=none")
    names = list(_PLANTED)
    random.Random(seed).shuffle(names)  # noqa: S311
    for name in names[:cases]:
        folder = place / "work"
        shutil.copytree(place / "base", folder)
        (folder / "victim").write_bytes(VICTIM)
        _PLANTED[name](folder)
        flags = ("--source=in", "--output=out", "--resume", "--save=images,faces,sheet")
        _judge(tally, name, folder, run(folder, *flags), 0, 2)
        shutil.rmtree(folder)
    return tally


# --- What is named to predict ---

_LISTS: Mapping[str, bytes] = {
    "devices": b"/dev/zero\n/dev/stdin\n/dev/tty\n/proc/self/mem\n..\n/\npipe.jpg\n",
    "null characters": b"in/000.png\0a\nb\0",
    "no UTF-8": b"\xff\xfe\n\x80.png\n\x1b]0;title\x07.png\n",
    "a formula": b"=1+1.png\n+1.png\n-1.png\n@a.png\n",
    "a line without end": 5_000_000 * b"a",
    "an image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "addresses": b"http://a.b/c.png\nrtsp://a\nfile:///etc/passwd\nconcat:a|b.mp4\n",
    "lines": 3_000 * b"gone.png\n" + b"in/000.png\n",
}
_SOURCES = ("pipe.jpg", "pipe.mp4", "zero.png", "zero.mp4", "@pipe.jpg", "@/dev/zero")
_LOOPS = ("loops/**/*.png", "**/loops/**/*.png", "loops/**")


def _named(place: Path) -> Tally:
    """Predicts lists, pipes, devices and globs through circles of links."""
    tally = Tally("Sources that are odd")
    with _workplace(place) as folder:
        for name in ("pipe.jpg", "pipe.mp4"):
            os.mkfifo(folder / name)
        for name in ("zero.png", "zero.mp4"):
            (folder / name).symlink_to("/dev/zero")
        drawn(folder / "loops", 2)
        for number in range(3):
            (folder / "loops" / str(number)).symlink_to(".")
        for number, (name, content) in enumerate(_LISTS.items()):
            (folder / "list").write_bytes(content)
            flags = ("--source=@list", f"--output=list-{number}", "--save=none")
            _judge(tally, name, folder, run(folder, *flags), 2)
            path = folder / f"list-{number}" / "errors.csv"
            if path.exists() and b"\n=" in path.read_bytes():
                tally.failed(f"{name}: a formula in {path.name}")
        for number, source in enumerate((*_SOURCES, *_LOOPS)):
            flags = (f"--source={source}", f"--output=out-{number}", "--save=none")
            code = 0 if source in _LOOPS else 2
            _judge(tally, source, folder, run(folder, *flags), code)
    return tally


# --- Photos that are bombs ---


def _png(width: int, height: int, depth: int, colour: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = b"\0" + b"\1" * (width * channels * depth // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def _saved(mode: str, width: int, height: int, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, kind, **options)
    return file.getvalue()


_MEGAPIXELS = PHOTO_MEGAPIXEL_LIMIT * 1_000_000
# What a photo may take, beside what the process has before: 30 bytes a pixel, as
# `PHOTO_MEGAPIXEL_LIMIT` says, and of JPEG at its own limit as much altogether.
_MOST_MEGABYTES = 30 * PHOTO_MEGAPIXEL_LIMIT
_BOMBS: Mapping[str, Callable[[], bytes]] = {
    "a panorama": lambda: _saved("RGB", 20_000, 1_000, "JPEG"),
    "a line": lambda: _png(1, 4_000_000, 8, 0),
    "a row": lambda: _png(4_000_000, 1, 8, 2),
    "too large": lambda: _png(_MEGAPIXELS + 1, 1, 8, 0),
    "PNG of 16 bits": lambda: _png(8_000, _MEGAPIXELS // 8_000, 16, 6),
    "gray PNG of 16 bits": lambda: _png(8_000, _MEGAPIXELS // 8_000, 16, 4),
    "WebP": lambda: _saved("RGBA", 8_000, _MEGAPIXELS // 8_000, "WEBP", quality=1),
    "GIF": lambda: _saved("P", 8_000, _MEGAPIXELS // 8_000, "GIF"),
    "TIFF": lambda: _saved("F", 8_000, _MEGAPIXELS // 8_000, "TIFF"),
    "progressive JPEG": lambda: _saved(
        "RGB", 14_000, 14_000, "JPEG", progressive=True, subsampling=0
    ),
    "CMYK JPEG": lambda: _saved("CMYK", 14_000, 14_000, "JPEG", progressive=True),
}
_SMALL_BOMBS = 4


def _write(path: Path, make: Callable[[], bytes]) -> None:
    path.write_bytes(make())


def _bombs(place: Path, cases: int) -> Tally:
    """Decodes photos that are as large as they may be, and looks at the memory."""
    tally = Tally("Photos as large as they may be")
    path = place / "photo"
    for name, make in list(_BOMBS.items())[: max(cases, _SMALL_BOMBS)]:
        # In processes of their own, whose memory is gone then.
        if exit_code(in_a_process(partial(_write, path, make))):
            tally.failed(f"{name}: not made")
            continue

        def work() -> None:
            signal.alarm(5 * SECONDS)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with path.open("rb") as file:
                decode_photo(file)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if after - before > 1000 * _MOST_MEGABYTES:
                os._exit(3)

        code = exit_code(in_a_process(work))
        if code == 0:
            tally.held()
        else:
            tally.failed(f"{name}: exit {code}, 3 for more than {_MOST_MEGABYTES} MB")
    path.unlink(missing_ok=True)
    return tally


# --- Videos ---

_TIMES: Mapping[str, Sequence[int]] = {
    "a gap of a day": (0, 40, 86_400_000, 86_400_040),
    "a gap of years": (0, 40, 2**40, 2**40 + 40),
    "no end of time": (0, 40, 2**53, 2**53 + 40),
    "far before the start": (-(2**40), -40, 0, 40),
    "far after the start": (2**40, 2**40 + 40, 2**40 + 80),
}


def _videos(place: Path, cases: int, seed: int) -> Tally:
    """Predicts videos of odd times and sizes, cut anywhere."""
    tally = Tally("Videos of odd times and sizes, cut anywhere")
    draw = random.Random(seed)  # noqa: S311
    with _workplace(place, 0) as folder:
        number = 0

        def tried(what: str, *codes: int, save: str = SAVED) -> None:
            nonlocal number
            number += 1
            flags = ("--source=v.mkv", f"--output=out-{number}", f"--save={save}")
            _judge(tally, what, folder, run(folder, *flags), *codes)

        path = folder / "v.mkv"
        for name, times in _TIMES.items():
            write_video(path, times)
            tried(name, 0, 2)
        write_video(path, range(0, 240, 40), sizes=(64, 640, 1, 4000, 9000, 20_000))
        tried("sizes that change", 0, 2)
        for name, content in {
            "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            "a list of videos": b"ffconcat version 1.0\nfile /etc/passwd\n",
            "nothing": b"",
        }.items():
            path.write_bytes(content)
            tried(name, 2)
        write_video(path, range(0, 8000, 40))
        content = path.read_bytes()
        # Half a second at the end is no more than containers round.
        for share in sorted(draw.sample(range(92), min(cases, 92))):
            path.write_bytes(content[: share * len(content) // 100])
            tried(f"cut after {share}%", 2, save="none")
    return tally


# --- Killed, interrupted, on full disks, two at once ---

_MANY = ("--source=in", "--output=out", "--resume")


def _killed(place: Path, cases: int, seed: int) -> Tally:
    """Kills the command again and again, and compares with one that was not."""
    tally = Tally("Predicting, killed at any time and resumed")
    draw = random.Random(seed)  # noqa: S311
    with _workplace(place, 60) as folder:
        run(folder, "--source=in", "--output=whole", "--save=images,faces,sheet")
        whole, kills = tables(folder / "whole"), 0
        while kills < cases:
            shutil.rmtree(folder / "out", ignore_errors=True)
            for _ in range(20):
                flags = (*_MANY, "--save=images,faces,sheet")
                child = start(folder, *flags, seconds=0.02, log=folder / "log")
                time.sleep(draw.uniform(0.2, 2.5))
                os.kill(child, signal.SIGKILL)
                killed = exit_code(child) == -signal.SIGKILL
                kills += killed
                if not killed:
                    break
            code, text = run(folder, *_MANY, "--save=images,faces,sheet")
            names = [
                {path.name for path in (folder / each / kind).iterdir()}
                - {path.name for path in (folder / each / kind).glob(".writing-*")}
                for kind in ("images", "faces")
                for each in ("out", "whole")
            ]
            equal = names[0] == names[1] and names[2] == names[3]
            if code == 0 and equal and tables(folder / "out") == whole:
                tally.held()
            else:
                tally.failed(f"after {kills} kills: exit {code}: {text[-300:]!a}")
        print(f"{kills} kills")
    return tally


def _full_disks(place: Path, cases: int, seed: int) -> Tally:
    """Predicts with files that may not grow, then resumes."""
    tally = Tally("Predicting on full disks, and resumed")
    draw = random.Random(seed)  # noqa: S311
    with _workplace(place, 12) as folder:
        write_video(folder / "in/v.mkv", range(0, 800, 40))
        (folder / "list").write_text("in/v.mkv\nin/000.png\nin/001.png\nin/002.png\n")
        source, save = "--source=@list", f"--save={SAVED}"
        run(folder, source, "--output=whole", save)
        whole = tables(folder / "whole")
        sizes = [p.stat().st_size for p in (folder / "whole").rglob("*") if p.is_file()]
        limits = [draw.randrange(max(sizes)) for _ in range(cases)]
        # Most files are small.
        for limit in [0, 1, *(min(limit, draw.choice(sizes)) for limit in limits)]:
            shutil.rmtree(folder / "out", ignore_errors=True)
            flags = (source, "--output=out", save)
            # Without a log, which is a file too.
            found = exit_code(start(folder, *flags, file_size=limit)), ""
            _judge(tally, f"{limit} bytes", folder, found, 0, 2)
            code, text = run(folder, *flags, "--resume")
            if code or tables(folder / "out") != whole:
                tally.failed(f"{limit} bytes, then resumed: {code}: {text[-300:]!a}")
    return tally


def _two_at_once(place: Path, times: int) -> Tally:
    """Starts two commands in one folder: one of them has it, and keeps it."""
    tally = Tally("Two commands in one folder")
    with _workplace(place) as folder:
        drawn(folder / "other", 4)
        for number in range(times):
            children = [
                start(folder, f"--source={name}", f"--output=out-{number}")
                for name in ("in", "other")
            ]
            codes = sorted(exit_code(child) for child in children)
            rows = (folder / f"out-{number}/predictions.csv").read_text().count(".png,")
            if codes == [0, 2] and rows == 4:
                tally.held()
            else:
                tally.failed(f"exit {codes}, {rows} rows")
    return tally


def _interrupted(place: Path, times: int, seed: int) -> Tally:
    """Presses Ctrl-C, again and again, at any time."""
    tally = Tally("Ctrl-C, again and again")
    draw = random.Random(seed)  # noqa: S311
    with _workplace(place, 40) as folder:
        for number in range(times):
            log = folder / "log"
            flags = ("--source=in", f"--output=out-{number}", f"--save={SAVED}")
            child = start(folder, *flags, seconds=0.1, log=log)
            time.sleep(draw.uniform(0.3, 2.5))
            for _ in range(draw.randrange(1, 6)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGINT)
                time.sleep(draw.uniform(0, 0.1))
            found = exit_code(child), log.read_text(errors="replace")
            _judge(tally, f"round {number}", folder, found, 0, 130)
    return tally


def main() -> int:
    """Tries all of it; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=200, help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    options = parser.parse_args()
    cases, seed = options.cases, options.seed
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        tallies = (
            _planted(place, 2 * cases, seed),
            _named(place),
            _bombs(place, cases // 10),
            _videos(place, cases // 2, seed),
            _killed(place, cases // 4, seed),
            _full_disks(place, cases // 4, seed),
            _two_at_once(place, max(2, cases // 20)),
            _interrupted(place, max(2, cases // 20), seed),
        )
        failed = sum(tally.finish() for tally in tallies)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
