"""Attacks and faults on importing: killed anywhere, damaged or hostile sources.

    python -m benchmarks.faults.importing [--cases N] [--seed S]

Old or new data are whole after every kill, never lost and never mixed. A damaged
source gives the same images or an error that says so. What cannot be noticed, as a
table of pixels has no checksums, is counted apart.
"""

import argparse
import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import ROOT
from benchmarks.faults import Tally
from benchmarks.faults.forked import Forked
from emotion_cnn.cli import main as emotion_cnn
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.folders import read_splits, read_test, survey
from emotion_cnn.data.listing import has_images
from emotion_cnn.data.splits import Split
from emotion_cnn.data.votes import VOTE_COLUMNS, find_votes
from emotion_cnn.errors import DataError
from emotion_cnn.files import LOCK_NAME
from emotion_cnn.importing.formats.csv_table import CLASS_NUMBERS

_SECONDS_LIMIT = 20.0
"""Of the processor: other parts of the campaign run beside this one."""
_MEGABYTES_LIMIT = 1000
_PROCESS_SECONDS_LIMIT = 120.0

Files = dict[str, bytes]
"""What a folder holds, by path."""


def prepare(*arguments: object) -> tuple[int, str]:
    """Runs `--mode prepare`; returns its exit code and what it said to stderr.

    A case of `-1` stands for a traceback, which is the text then.
    """
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = emotion_cnn(["--mode", "prepare", *map(str, arguments)])
    except Exception:
        return -1, traceback.format_exc()
    return code, err.getvalue()


def prepare_sound(*arguments: object) -> None:
    """Runs `--mode prepare` on something that it has to import.

    Raises:
        RuntimeError: It does not.
    """
    code, message = prepare(*arguments)
    if code or message:
        raise RuntimeError(f"exit {code}: {message}")


def contents(folder: Path) -> Files:
    """Returns all files below a folder but `dataset.json`, which holds the time."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("dataset.json", LOCK_NAME)
    }


# --- sources -----------------------------------------------------------------


def faces(count_per_emotion: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns drawn faces, uint8 `(48, 48)`, by their paths in a data folder."""
    images, labels = draw_faces(count_per_emotion, seed)
    found = {}
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        part, usage = (
            ("test", "PrivateTest")
            if number % count_per_emotion == 0
            else ("train", "Training")
        )
        name = f"{part}/{EMOTIONS[label]}/{usage}_{number:07}.png"
        found[name] = image[:, :, 0]
    return found


def png(image: np.ndarray) -> bytes:
    """Returns an image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns files as the bytes of a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes], layout: int = tarfile.GNU_FORMAT) -> bytes:
    """Returns files as the bytes of a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=layout) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def table(images: Mapping[str, np.ndarray]) -> bytes:
    """Returns images as the bytes of a `fer2013.csv`."""
    numbers = {emotion: number for number, emotion in CLASS_NUMBERS.items()}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["emotion", "pixels", "Usage"])
    for name, image in images.items():
        part, emotion, _ = name.split("/")
        pixels = " ".join(map(str, image.ravel().tolist()))
        usage = "Training" if part == "train" else "PrivateTest"
        writer.writerow([numbers[emotion], pixels, usage])
    return file.getvalue().encode()


def parquet_file(images: Mapping[str, np.ndarray], labels: Any = None) -> bytes:
    """Returns images as the bytes of a Parquet file, as on Hugging Face."""
    import pyarrow as pa
    from pyarrow import parquet

    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(EMOTIONS)},
    }
    if labels is None:
        labels = [EMOTIONS.index(name.split("/")[1]) for name in images]
    cells = [{"bytes": png(image), "path": None} for image in images.values()]
    made = pa.table({"image": cells, "label": labels}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    file = io.BytesIO()
    parquet.write_table(made, file, write_page_checksum=True)
    return file.getvalue()


def _halves(content: bytes, compress: Callable[[bytes], bytes]) -> bytes:
    """Returns a file of two streams, as parallel compressors write them."""
    middle = len(content) // 2
    return compress(content[:middle]) + compress(content[middle:])


def sources() -> dict[str, tuple[bytes, bool]]:
    """Returns sound sources; and whether all of their bytes have checksums."""
    images = faces()
    files = {name: png(image) for name, image in images.items()}
    csv_bytes, tar_bytes = table(images), tarred(files)
    return {
        "images.zip": (zipped(files), True),
        "stored.zip": (zipped(files, zipfile.ZIP_STORED), True),
        "images.tar": (tar_bytes, True),
        "images.tar.gz": (gzip.compress(tar_bytes), True),
        "images.tar.bz2": (_halves(tar_bytes, bz2.compress), True),
        "images.tar.xz": (_halves(tar_bytes, lzma.compress), True),
        "table.csv.gz": (gzip.compress(csv_bytes), True),
        "table.csv.bz2": (_halves(csv_bytes, bz2.compress), True),
        "table.csv.xz": (_halves(csv_bytes, lzma.compress), True),
        "table.zip": (zipped({"fer2013.csv": csv_bytes}), True),
        "pax.tar": (tarred(files, tarfile.PAX_FORMAT), True),
        "table.csv": (csv_bytes, False),
        "images.parquet": (parquet_file(images), False),
    }


# --- damage ------------------------------------------------------------------


def _flip(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _flip_some(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(2, 30)):
        _flip(content, rng)


def _zero(content: bytearray, rng: random.Random) -> None:
    start, size = rng.randrange(len(content)), rng.choice((1, 16, 512, 4096))
    content[start : start + size] = bytes(len(content[start : start + size]))


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def _cut_blocks(content: bytearray, rng: random.Random) -> None:
    del content[512 * rng.randrange(len(content) // 512 + 1) :]


def _drop(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 4, 512, 1024))]


def _double(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:start] = content[start : start + rng.choice((1, 4, 512, 1024))]


def _append(content: bytearray, rng: random.Random) -> None:
    content += rng.randbytes(rng.choice((1, 22, 600)))


def _prepend(content: bytearray, rng: random.Random) -> None:
    content[:0] = content[: rng.choice((1, 30, 600))]


DAMAGE = (
    _flip,
    _flip,
    _flip,
    _flip_some,
    _zero,
    _cut,
    _cut_blocks,
    _drop,
    _double,
    _append,
    _prepend,
)


def damage_is_noticed(cases: int, seed: int, work: Path) -> int:
    """Imports damaged sources: the same images, or one message and nothing written."""
    failed = 0
    originals = sources()
    for name, (sound, has_checksums) in originals.items():
        tally = Tally(f"damaged {name}")
        rng = random.Random(f"{seed} {name}")  # noqa: S311
        path, data = work / name, work / "data"
        path.write_bytes(sound)
        prepare_sound("--source", path, "--data", data)
        expected = contents(data)
        shutil.rmtree(data)
        values, unseen = sorted(expected.values()), 0
        for number in range(-(-cases // len(originals))):
            content = bytearray(sound)
            rng.choice(DAMAGE)(content, rng)
            path.write_bytes(content)
            start = time.process_time()
            code, message = prepare("--source", path, "--data", data)
            seconds = time.process_time() - start
            found = contents(data) if data.exists() else {}
            shutil.rmtree(data, ignore_errors=True)
            where = f"case {number} of seed {seed}"
            is_refused = code == 2 and message.count("error: ") == 1 and not found
            # A long name in a tar lies among data that have no checksum.
            is_same = found == expected or (
                name == "pax.tar" and sorted(found.values()) == values
            )
            what = ""
            if code == 0 and not is_same and not has_checksums:
                # Another value, or rows that are gone whole: nothing can tell.
                unseen += 1
            elif not is_refused and not (code == 0 and is_same):
                what = f"{where}: exit {code}, {len(found)} files, {message[-300:]}"
            if seconds > _SECONDS_LIMIT:
                what = f"{where}: {seconds:.0f} s"
            tally.failed(what) if what else tally.held()
        failed += tally.finish()
        if unseen:
            print(f"  in {unseen} of them a valid source of other data, unnoticed")
        path.unlink()
    return failed


# --- hostile sources ---------------------------------------------------------


def _many_times(count: int, size: int | None) -> bytes:
    """Returns a Parquet file of one image of a size, or of none, many times."""
    import pyarrow as pa
    from pyarrow import parquet

    if size is None:
        rows = pa.array([None] * count, pa.binary())
    else:
        image = png(np.zeros((48, 48), np.uint8)) + bytes(size)
        rows = pa.DictionaryArray.from_arrays(
            pa.array([0] * count, pa.int32()), pa.array([image], pa.binary())
        )
    made = pa.table({"image": rows, "label": ["sad"] * count})
    file = io.BytesIO()
    parquet.write_table(made, file, store_schema=False)
    return file.getvalue()


def _odd_labels() -> Iterator[tuple[str, bytes]]:
    import datetime
    from decimal import Decimal

    import pyarrow as pa

    images = faces(1)
    count = len(images)
    far = pa.array([2**62] * count, pa.timestamp("us"))
    for what, labels in {
        "lists": [[1]] * count,
        "structs": [{"a": {"b": 1}}] * count,
        "bytes": [b"\xff\xfe"] * count,
        "decimals": [Decimal("1.5")] * count,
        "dates": [datetime.date(2000, 1, 1)] * count,
        "far times": far,
        "nothing": pa.nulls(count),
        "maps": pa.array([[(1, 2)]] * count, pa.map_(pa.int8(), pa.int8())),
        "huge names": ["x" * 1_000_000] * count,
        "floats": [float("nan")] * count,
    }.items():
        yield f"labels of {what}.parquet", parquet_file(images, labels)


def _tar_entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/passwd"
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax(*records: bytes) -> bytes:
    """Returns a header of a tar with records of any kind, and its padding."""
    content = b"".join(records)
    header = _tar_entry("x", len(content), tarfile.XHDTYPE)
    return header + content + bytes(-len(content) % 512)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yields names and contents of sources that unpack to too much."""
    images = faces(1)
    yield "3.6 GB.parquet", _many_times(60_000, 60_000)
    yield "64 times 50 MB.parquet", _many_times(64, 50_000_000)
    yield "60,000 files.parquet", _many_times(60_000, 0)
    yield "nothing.parquet", _many_times(40_000, None)
    yield "zeros.csv.xz", lzma.compress(b"emotion,pixels\n" + bytes(2**28))
    yield "zeros.tar.bz2", bz2.compress(_tar_entry("sad/a.png", 2**28) + bytes(2**28))
    yield (
        "dictionary.csv.xz",
        lzma.compress(
            table(images),
            filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}],
        ),
    )
    yield "zeros.zip", zipped({"sad/a.png": bytes(2**28)})
    entries = b"".join(_tar_entry(f"sad/{n}.png", 0) for n in range(100_000))
    yield "many.tar.gz", gzip.compress(entries + bytes(1024))
    yield "headers.tar", _pax(b"9 path=a\n") * 100_000


def hostile() -> Iterator[tuple[str, bytes]]:
    """Yields names and contents of other sources none of which may be imported."""
    images = faces(1)
    files = {name: png(image) for name, image in images.items()}
    sound, tar_bytes = zipped(files), tarred(files)
    image = png(np.zeros((48, 48), np.uint8))
    yield from _odd_labels()
    yield "lzma.zip", zipped(files, zipfile.ZIP_LZMA)
    yield "bzip2.zip", zipped({"fer2013.csv": table(images)}, zipfile.ZIP_BZIP2)
    yield "two.zip", sound + sound
    yield "prefix.zip", b"PK not a zip" + sound
    yield "suffix.zip", sound + b"more"
    yield "other comment.zip", zipped({"sad/a.png": image}) + sound
    record = sound.rindex(b"PK\5\6")
    hidden = zipped({"sad/b.png": image})
    size = struct.pack("<H", len(hidden))
    yield "zip in a comment.zip", sound[: record + 20] + size + hidden
    start = sound.index(b"PK\1\2")
    entry = sound[start : sound.index(b"PK\1\2", start + 4)]
    yield "unlisted.zip", _without_entries(sound, entry)
    yield "overlap.zip", _overlapping(sound)
    yield "twice.zip", _twice()
    for what, kind in {
        "symlink": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "fifo": tarfile.FIFOTYPE,
        "sparse": tarfile.GNUTYPE_SPARSE,
        "unknown": b"Z",
    }.items():
        yield f"{what}.tar", _tar_entry("sad/a.png", 0, kind) + tar_bytes
    yield "digits.tar", _pax(b"1" * 900_000) + tar_bytes
    yield "no length.tar", _pax(b"0 path=a\n") + tar_bytes
    yield "wrong length.tar", _pax(b"99 path=a\n") + tar_bytes
    yield "long size.tar", _pax(b"5017 size=" + b"9" * 5007 + b"\n") + tar_bytes
    yield "large header.tar", _tar_entry("x", 2**30, tarfile.XHDTYPE) + tar_bytes
    yield "no end.tar", tar_bytes.rstrip(b"\0") + bytes(100)
    yield (
        "half an end.tar",
        b"".join(
            (_tar_entry("sad/a.png", len(image)), image, bytes(-len(image) % 512 + 512))
        ),
    )
    yield "after the end.tar", tar_bytes + tar_bytes
    yield "negative.tar", _negative_size() + tar_bytes
    yield "long name.tar", tarred({f"{'a/' * 3000}sad/a.png": image})
    yield "outside.tar", tarred({"../sad/a.png": image})
    yield "empty stream.tar.gz", gzip.compress(tar_bytes) + b"\x1f\x8b garbage"
    yield "rest.csv.bz2", bz2.compress(table(images)) + b"rest"
    yield "rest.csv.xz", lzma.compress(table(images)) + b"rest"
    yield "combining.csv", _combining()


def _without_entries(sound: bytes, entry: bytes) -> bytes:
    """Returns a zip whose list at the end has lost its first entry."""
    record = sound.rindex(b"PK\5\6")
    listed = sound.index(b"PK\1\2")
    fields = list(struct.unpack("<4s4H2LH", sound[record:]))
    fields[3] -= 1
    fields[4] -= 1
    fields[5] -= len(entry)
    rest = sound[listed:record].replace(entry, b"")
    return sound[:listed] + rest + struct.pack("<4s4H2LH", *fields)


def _overlapping(sound: bytes) -> bytes:
    """Returns a zip all of whose entries are its first file."""
    content = bytearray(sound)
    position = content.find(b"PK\1\2")
    while position >= 0:
        content[position + 42 : position + 46] = bytes(4)
        position = content.find(b"PK\1\2", position + 4)
    return bytes(content)


def _twice() -> bytes:
    """Returns a zip with two images of one name."""
    first, second = (png(np.full((48, 48), level, np.uint8)) for level in (0, 255))
    content = zipped({"sad/a.png": first, "sad/b.png": second})
    return content.replace(b"sad/b.png", b"sad/a.png")


def _negative_size() -> bytes:
    header = bytearray(_tar_entry("sad/a.png", 0))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _combining() -> bytes:
    """Returns a table with a name that takes for ever to normalise, and no image."""
    name = "a" + "\u0301\u0316" * 60_000
    return f"emotion,pixels,name\n0,1,{name}\n".encode()


def hostile_sources_are_refused(work: Path) -> int:
    """Imports hostile sources, each in a process of its own: refused, in bounds."""
    tally = Tally("hostile sources")
    processes = Forked(
        ["emotion_cnn.data.drawn_faces", "emotion_cnn.importing.data_folder"],
        seconds=10 * _SECONDS_LIMIT,
    )
    for name, content in itertools.chain(hostile(), bombs()):
        path, data = work / name, work / "data"
        path.write_bytes(content)
        what = _refused(processes, path, data)
        tally.failed(f"{name}: {what}") if what else tally.held()
        path.unlink()
        shutil.rmtree(data, ignore_errors=True)
    return tally.finish()


def _refused(processes: Forked, path: Path, data: Path) -> str:
    ended = processes.call(prepare, "--source", path, "--data", data)
    if ended.returned is None:
        return f"exit {ended.code}: {ended.said[-300:]}"
    code, message = ended.returned
    message += ended.said
    if code != 2 or message.count("error: ") != 1 or "Traceback" in message:
        return f"exit {code}: {message[-300:]}"
    if ended.seconds > _SECONDS_LIMIT or ended.megabytes > _MEGABYTES_LIMIT:
        return f"{ended.seconds:.0f} s, {ended.megabytes:.0f} MB"
    return "something was written" if data.exists() else ""


# --- killed, interrupted, full -----------------------------------------------


class Killed(BaseException):
    """What ends a simulated process: nothing catches it."""


class _Faults:
    """Raises at the nth change of the file system, and perhaps at all that follow.

    An audit hook sees every one, whoever makes it: Pillow, shutil or a library. It
    cannot be removed, so there is one, which is switched on and off.
    """

    CHANGES = frozenset(
        ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")
    ) | {"os.chmod", "os.utime", "os.truncate"}
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def __init__(self) -> None:
        self.is_on = False
        self.events: list[str] = []
        self._is_added = False
        self._fault: Callable[[], BaseException | None] | None = None
        self.count = self._at = 0
        self._goes_on = self._leaves_empty = False
        self._only = ""

    @contextlib.contextmanager
    def at(
        self,
        at: int,
        fault: Callable[[], BaseException | None],
        *,
        goes_on: bool = False,
        leaves_empty: bool = False,
        only: str = "",
    ) -> Iterator[None]:
        """Raises at a change, from 0; -1 only counts them.

        Args:
            at: The number of the change.
            fault: Returns the exception to raise, or nothing.
            goes_on: Whether all later changes fail too.
            leaves_empty: Whether a file that was to be written is left empty.
            only: The changes that fail: part of the name of their event.
        """
        if not self._is_added:
            sys.addaudithook(self._hook)
            self._is_added = True
        self.count, self._at, self._fault = 0, at, fault
        self.events = []
        self._goes_on, self._leaves_empty, self._only = goes_on, leaves_empty, only
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        opens = event == "open" and isinstance(arguments[2], int)
        if not (event in self.CHANGES or (opens and arguments[2] & self.WRITING)):
            return
        # The system ends a lock, a descriptor, with its process.
        is_lock = isinstance(arguments[0], int) or LOCK_NAME in str(arguments[0])
        if is_lock or self._only not in event:
            return
        self.events.append(f"{event} {arguments[0]}")
        number, self.count = self.count, self.count + 1
        if number == self._at or (self._goes_on and 0 <= self._at < number):
            if number == self._at and self._leaves_empty and opens:
                self.is_on = False
                with contextlib.suppress(OSError):
                    Path(os.fsdecode(arguments[0])).touch()
                self.is_on = True
            if self._fault and (error := self._fault()):
                raise error


faults = _Faults()


def _audited(folder: Path) -> tuple[Split, ...]:
    found = survey(folder)
    return found.train, found.test


_READERS: dict[str, Callable[[Path], tuple[Split, ...]]] = {
    "train": lambda folder: read_splits(folder, skip_bad=True)[:2],
    "evaluate": lambda folder: read_test(folder, skip_bad=True)[:1],
    "audit": _audited,
}


class Import:
    """An import into a folder that holds an old data set, or none."""

    def __init__(self, work: Path, *, has_old: bool) -> None:
        """Writes the tables, and the old data set.

        Args:
            work: An empty folder.
            has_old: Whether there is something to replace.
        """
        self.data = work / "data"
        self._old_copy = work / "old"
        old_faces, new_faces = faces(2, 1), faces(3, 2)
        self.old_table, self.new_table = work / "old.csv", work / "new.csv"
        self.old_table.write_bytes(table(old_faces))
        self.new_table.write_bytes(table(new_faces))
        self.ferplus = work / "fer2013new.csv"
        rows = [",".join(("Usage", "Image name", *VOTE_COLUMNS))]
        rows += [
            f"{usage},fer{n:07}.png" + ",1" * 10 for n, usage in _usages(old_faces)
        ]
        self.ferplus.write_text("\n".join(rows) + "\n")
        new = work / "new"
        prepare_sound("--source", self.new_table, "--data", new)
        self.new = contents(new)
        if has_old:
            votes = ("--ferplus", self.ferplus)
            prepare_sound("--source", self.old_table, "--data", self.data, *votes)
            (self.data / "train/README.md").write_text("read me")
            (self.data / "mine.txt").write_text("mine")
            (self.data / "audit.json").write_text("{}")
            (self.data / LOCK_NAME).unlink()
            shutil.copytree(self.data, self._old_copy)
            self.new |= {"train/README.md": b"read me", "mine.txt": b"mine"}
        self.old = contents(self._old_copy) if has_old else {}

    def reset(self) -> None:
        """Puts the old data set back."""
        shutil.rmtree(self.data, ignore_errors=True)
        if self._old_copy.exists():
            shutil.copytree(self._old_copy, self.data)

    def run(self) -> tuple[int, str]:
        """Replaces what is in the folder by the new table."""
        return prepare("--source", self.new_table, "--data", self.data, "--replace")

    def visible(self) -> Files:
        """Returns what is in the folder, without hidden working folders."""
        return {
            name: content
            for name, content in contents(self.data).items()
            if not name.startswith(".prepare-")
        }

    def readers(self) -> str:
        """Returns what is wrong with what `audit`, `train` and `evaluate` read."""
        whole = {}
        for which, files in (("old", self.old), ("new", self.new)):
            names = tuple(sorted(name for name in files if name.endswith(".png")))
            whole[which] = names, "votes.csv" in files
        for mode, read in _READERS.items():
            try:
                splits = read(self.data)
            except DataError:
                continue
            names = tuple(sorted(name for split in splits for name in split.names))
            has_votes = find_votes(self.data) is not None
            parts = ("test",) if mode == "evaluate" else ("test", "train")
            expected = [
                (tuple(n for n in all_names if n.startswith(parts)), votes)
                for all_names, votes in whole.values()
            ]
            if (names, has_votes) not in expected:
                return f"{mode} reads {len(names)} images"
        with contextlib.suppress(DataError):
            if self.old and not has_images(self.data):
                return "there seem to be no images"
        return ""

    def after(self) -> str:
        """Returns what is wrong after the next commands; leaves old or new data."""
        if what := self.readers():
            return what
        code, message = prepare("--source", self.old_table, "--data", self.data)
        found = contents(self.data)
        if code == 0 and not self.old:
            # Nothing had been imported yet, so this one was.
            return "" if len(found) == 15 else f"{len(found)} files"
        if code != 2 or "found" not in message:
            return f"the next import: exit {code}, {message}"
        if found not in (self.old, self.new):
            return f"neither old nor new: {sorted(set(found) ^ set(self.new))[:4]}"
        if self.readers():
            return self.readers()
        code, message = self.run()
        if code or contents(self.data) != self.new:
            return f"the import after that: exit {code}, {message}"
        return ""


def _usages(images: Mapping[str, np.ndarray]) -> Iterator[tuple[int, str]]:
    for number, name in enumerate(images):
        yield number, "Training" if name.startswith("train") else "PrivateTest"


def count_changes(case: Import) -> int:
    """Returns how often a whole import changes the file system."""
    case.reset()
    with faults.at(-1, Killed):
        code, message = case.run()
    if code:
        raise RuntimeError(message)
    return faults.count


def killed_at(case: Import, at: int, *, leaves_empty: bool = False) -> None:
    """Starts an import that is killed at a change."""
    with (
        contextlib.suppress(Killed),
        faults.at(at, Killed, goes_on=True, leaves_empty=leaves_empty),
    ):
        case.run()


def every_kill_point(step: int, work: Path) -> int:
    """Kills an import at changes of the file system: 1 is every, 4 every fourth."""
    failed = 0
    for has_old, where in ((True, "over old data"), (False, "into a new folder")):
        folder = work / where
        folder.mkdir()
        case = Import(folder, has_old=has_old)
        tally = Tally(f"prepare killed at a change, {where}")
        for at in range(0, count_changes(case), step):
            for leaves_empty in (False, True):
                case.reset()
                killed_at(case, at, leaves_empty=leaves_empty)
                what = case.after()
                tally.failed(f"change {at}: {what}") if what else tally.held()
        failed += tally.finish()
    return failed


def killed_twice(cases: int, work: Path) -> int:
    """Kills an import while folders are renamed, and then the one that goes on.

    With fewer than 5,000 cases, only some of the first kills.
    """
    case = Import(work, has_old=True)
    tally = Tally("prepare killed, and the next one too")
    last = count_changes(case)
    for first in range(max(0, last - 60), last, max(1, 5000 // cases)):
        second = 0
        while True:
            case.reset()
            killed_at(case, first)
            with contextlib.suppress(Killed), faults.at(second, Killed, goes_on=True):
                prepare("--source", case.old_table, "--data", case.data)
            was_reached = faults.count > second
            what = case.after()
            where = f"changes {first}, {second}"
            tally.failed(f"{where}: {what}") if what else tally.held()
            if not was_reached:
                break
            second += 1 if second < 12 else 7
    return tally.finish()


def full_disk() -> OSError:
    """Returns the error of a full disk."""
    return OSError(28, "No space left on device")


def failing(step: int, work: Path) -> int:
    """Fills the disk, or presses Ctrl-C, at changes: once, and ever again."""
    failed = 0
    case = Import(work, has_old=True)
    last = count_changes(case)
    for name, raises, code, goes_on, only in (
        ("disk full for new files", full_disk, 2, True, "open"),
        ("disk full for new folders", full_disk, 2, True, "mkdir"),
        ("disk full once", full_disk, 2, False, ""),
        ("Ctrl-C", KeyboardInterrupt, 130, False, ""),
        ("Ctrl-C again and again", KeyboardInterrupt, 130, True, ""),
    ):
        tally = Tally(f"prepare, {name}")
        for at in range(0, last, step):
            case.reset()
            with faults.at(at, raises, goes_on=goes_on, only=only):
                found, message = case.run()
            if faults.count <= at:
                break
            whole = (case.old, case.new)
            left = [path.name for path in case.data.glob(".prepare-*")]
            what = ""
            if found not in (code, 0):
                what = f"exit {found}, {message}"
            elif found and len(message.strip().splitlines()) != 1:
                what = message
            elif case.visible() not in whole and not goes_on:
                what = "neither old nor new"
            elif left and not goes_on and found != 2:
                what = f"left {left}"
            what = what or case.after()
            tally.failed(f"change {at}: {what}") if what else tally.held()
        failed += tally.finish()
    return failed


def two_at_once(work: Path) -> int:
    """Starts a second import at some of the first one's changes."""
    case = Import(work, has_old=True)
    tally = Tally("two imports at once")
    answers: list[tuple[int, str]] = []

    def start_second() -> None:
        faults.is_on = False
        arguments = ("--source", case.old_table, "--data", case.data, "--replace")
        answers.append(prepare(*arguments))
        faults.is_on = True

    count = count_changes(case)
    # Before that it is not yet at work in the folder.
    first_at = next(at for at, e in enumerate(faults.events) if ".prepare-" in e)
    for at in range(first_at, count, 3):
        case.reset()
        answers.clear()
        with faults.at(at, start_second):
            first = case.run()
        ((code, message),) = answers
        if first != (0, "") or contents(case.data) != case.new:
            tally.failed(f"change {at}: the first: {first}")
        elif code != 2 or "is needed for" not in message:
            tally.failed(f"change {at}: the second: exit {code}, {message}")
        else:
            tally.held()
    return tally.finish()


_WITHOUT_CTRL_C_IGNORED = """
import resource, signal, sys
# A shell that starts this in the background makes it ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if limit := int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from emotion_cnn.cli import main
sys.argv[1:] = ["--mode", "prepare", *sys.argv[2:]]
sys.exit(main())
"""


def _message_of(process: "subprocess.Popen[str]") -> str:
    """Returns what a process has to say at its end."""
    try:
        return process.communicate(timeout=_PROCESS_SECONDS_LIMIT)[1]
    except subprocess.TimeoutExpired:
        # Leaving the block would wait for it, and the campaign hang with it.
        process.kill()
        raise


def real_processes(kills: int, seed: int, work: Path) -> int:
    """Kills and interrupts real imports at any time, and limits the size of files."""
    failed = 0
    case = Import(work, has_old=True)
    # Takes long enough to be killed in.
    rows = case.new_table.read_bytes().splitlines(keepends=True)
    large = work / "large.csv"
    large.write_bytes(rows[0] + b"".join(rows[1:] * 200))
    rng = random.Random(seed)  # noqa: S311

    def start(limit: int = 0) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _WITHOUT_CTRL_C_IGNORED, str(limit)]
        command += ["--source", str(large), "--data", str(case.data), "--replace"]
        return subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    start_time = time.monotonic()
    case.reset()
    with start() as process:
        message = _message_of(process)
    duration = time.monotonic() - start_time
    if process.returncode:
        raise RuntimeError(message)
    case.new = contents(case.data)
    for name, number in (("kill -9", signal.SIGKILL), ("Ctrl-C", signal.SIGINT)):
        tally = Tally(f"prepare, {name} in a process")
        for _ in range(kills):
            case.reset()
            moment = rng.uniform(0.3, 1) * duration
            with start() as process:
                time.sleep(moment)
                presses = 1 if number == signal.SIGKILL else 5
                for _ in range(presses):
                    process.send_signal(number)
                    time.sleep(0.005)
                message = _message_of(process)
            what = case.readers()
            prepare("--source", case.old_table, "--data", case.data)
            if contents(case.data) not in (case.old, case.new):
                what = "neither old nor new"
            if "Traceback" in message or message.count("Stopped.") > 1:
                what = message
            tally.failed(f"after {moment:.2f} s: {what}") if what else tally.held()
        failed += tally.finish()
    tally = Tally("prepare, files that cannot be written to their end")
    for limit in (1, 10, 100, 500, 1000, 1500):
        case.reset()
        with start(limit) as process:
            message = _message_of(process)
        if process.returncode != 2 or message.count("error: ") != 1:
            tally.failed(f"{limit} bytes: exit {process.returncode}, {message}")
        elif contents(case.data) != case.old:
            tally.failed(f"{limit} bytes: the old data have changed")
        else:
            tally.held()
    return failed + tally.finish()


def planted_names(work: Path) -> int:
    """Plants links and folders where an import works: refused, and nothing followed."""
    tally = Tally("planted working names")
    case = Import(work, has_old=True)
    home = work / "home"
    home.mkdir()
    (home / "photo.png").write_bytes(b"mine")
    new = home / "new/train/sad"
    new.mkdir(parents=True)
    (new / "a.png").write_bytes(b"planted")
    phases = ("writing", "clearing", "filling", "removing")
    names = [f".prepare-{phase}-0123456789abcdef-1" for phase in phases]
    names += [".prepare-0123456789abcdef", LOCK_NAME]
    before = contents(home)
    for name in names:
        for kind in ("link", "folder", "file"):
            case.reset()
            planted = case.data / name
            if kind == "link":
                planted.symlink_to("../home")
            elif kind == "folder":
                shutil.copytree(home, planted)
            else:
                planted.write_bytes(b"mine")
            code, message = case.run()
            if code != 2 or message.count("error: ") != 1:
                tally.failed(f"{name}, {kind}: exit {code}, {message}")
            elif contents(home) != before or not os.path.lexists(planted):
                tally.failed(f"{name}, {kind}: something of it is gone")
            elif case.old.items() - contents(case.data).items():
                tally.failed(f"{name}, {kind}: the old data have changed")
            else:
                tally.held()
            if kind == "folder":
                shutil.rmtree(planted)
            else:
                planted.unlink()
    return tally.finish()


def main() -> int:
    """Runs all of it; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=5000, help="damaged sources")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases, seed = max(1, arguments.cases), arguments.seed
    # Few cases leave moments out.
    step = 1 if cases >= 1000 else 4
    failed = 0
    for part in (
        partial(every_kill_point, step),
        lambda work: killed_twice(cases, work),
        partial(failing, step),
        two_at_once,
        planted_names,
        lambda work: real_processes(max(2, cases // 250), seed, work),
        hostile_sources_are_refused,
        lambda work: damage_is_noticed(cases, seed, work),
    ):
        with TemporaryDirectory() as folder:
            failed += part(Path(folder))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
