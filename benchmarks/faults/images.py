"""Damaged, hostile and unusual images: noticed, bounded, and read as before.

    python -m benchmarks.faults.images [--cases N] [--seed S] [--data FOLDER]

Damage is what changes the image that is read. All of it must be noticed in PNG files,
which have checksums, and in JPEG files where data are missing. Other changes to a JPEG
can make valid data of another image, which nothing can notice: their share is printed.
"""

import argparse
import io
import multiprocessing
import os
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.faults import Tally
from benchmarks.faults.forked import Forked
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.folders import survey
from emotion_cnn.data.images import decode_image

Encoder = Callable[[np.ndarray], bytes]
Mutation = Callable[[bytes, random.Random], bytes]

_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
"""Of the formats whose damage is counted here."""
_SECONDS_LIMIT = 20.0
"""Of the processor: other parts of the campaign run beside this one."""
_MEGABYTES_LIMIT = 600


# --- sound files -------------------------------------------------------------


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Returns an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _gray(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array)


def _photograph(array: np.ndarray) -> Image.Image:
    """Returns a larger image in colour, made of a face."""
    image = Image.fromarray(array).resize((360, 300), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(int)
    shades = np.stack([pixels, 0.8 * pixels + 20, 255 - pixels], axis=-1)
    return Image.fromarray(shades.clip(0, 255).astype(np.uint8))


def exif_block(entries: int = 3, size: int = 12, orientation: int = 6) -> bytes:
    """Returns EXIF data: an orientation, and entries that all have the same value."""
    first = struct.pack("<HHHHI", entries + 1, 0x0112, 3, 1, 0)[:10]
    first += struct.pack("<HH", orientation, 0)
    at = 8 + 2 + 12 * (entries + 1) + 4
    rest = b"".join(
        struct.pack("<HHII", 300 + number, 7, size, at) for number in range(entries)
    )
    return b"II*\0\x08\0\0\0" + first + rest + bytes(4) + bytes(size)


def _multi_picture(array: np.ndarray) -> bytes:
    image = _photograph(array)
    return encode(image, "MPO", save_all=True, append_images=[image.rotate(90)])


SOUND: dict[str, tuple[str, Encoder]] = {
    "gray, 48x48": ("JPEG", lambda a: encode(_gray(a), "JPEG", quality=90)),
    "progressive, 48x48": (
        "JPEG",
        lambda a: encode(_gray(a), "JPEG", progressive=True),
    ),
    "restart markers": (
        "JPEG",
        lambda a: encode(_photograph(a), "JPEG", restart_marker_rows=1),
    ),
    "colour, 4:2:0, EXIF": (
        "JPEG",
        lambda a: encode(
            _photograph(a),
            "JPEG",
            subsampling=2,
            optimize=True,
            exif=b"Exif\0\0" + exif_block(),
        ),
    ),
    "colour, progressive": (
        "JPEG",
        lambda a: encode(_photograph(a), "JPEG", progressive=True, subsampling=1),
    ),
    "CMYK": ("JPEG", lambda a: encode(_photograph(a).convert("CMYK"), "JPEG")),
    "several images": ("JPEG", _multi_picture),
    "video behind": (
        "JPEG",
        lambda a: encode(_photograph(a), "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(5000),
    ),
    "gray PNG, 48x48": ("PNG", lambda a: encode(_gray(a), "PNG")),
    "colour PNG": ("PNG", lambda a: encode(_photograph(a), "PNG")),
    "palette PNG": ("PNG", lambda a: encode(_photograph(a).quantize(16), "PNG")),
    "16-bit PNG": (
        "PNG",
        lambda a: encode(Image.fromarray(a.astype(np.uint16) * 257), "PNG"),
    ),
    "interlaced PNG": ("PNG", lambda a: interlaced_png(a)),
    "animated PNG": (
        "PNG",
        lambda a: encode(
            _gray(a), "PNG", save_all=True, append_images=[_gray(255 - a)]
        ),
    ),
}
"""The format of each kind of sound file, and what makes one of a face."""


# --- PNG by hand -------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file, with its checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_file(
    width: int,
    height: int,
    data: bytes,
    *,
    before: bytes = b"",
    colour: int = 0,
    depth: int = 8,
    interlaced: int = 0,
) -> bytes:
    """Returns a PNG file, valid in all but what is given."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def interlaced_png(array: np.ndarray) -> bytes:
    """Returns an interlaced PNG, which Pillow reads but does not write."""
    passes = (
        array[0::8, 0::8],
        array[0::8, 4::8],
        array[4::8, 0::4],
        array[0::4, 2::4],
        array[2::4, 0::2],
        array[0::2, 1::2],
        array[1::2, 0::1],
    )
    rows = b"".join(b"\0" + row.tobytes() for each in passes for row in each)
    height, width = array.shape
    return png_file(width, height, zlib.compress(rows), interlaced=1)


# --- mutations ---------------------------------------------------------------


def _body(content: bytes) -> int:
    """Returns where the image data begin; what is before has other decoders' care."""
    marker = content.find(b"\xff\xda")
    return marker + 10 if content.startswith(b"\xff\xd8") else content.find(b"IDAT") + 4


def _end(content: bytes) -> int:
    """Returns where the image data end: before the first closing marker or chunk."""
    if content.startswith(b"\xff\xd8"):
        return content.find(b"\xff\xd9", _body(content))
    return content.rfind(b"IEND") - 4


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(_body(content), _end(content))


def _replaced(content: bytes, start: int, new: bytes) -> bytes:
    return content[:start] + new + content[start + len(new) :]


def _zeroed(count: int) -> Mutation:
    def mutate(content: bytes, rng: random.Random) -> bytes:
        begin, end = _body(content), _end(content)
        length = min(count, (end - begin) // 2)
        return _replaced(content, rng.randrange(begin, end - length), bytes(length))

    return mutate


def _bit_flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return _replaced(content, place, bytes([content[place] ^ 1 << rng.randrange(8)]))


def _data_bit_flipped(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return _replaced(content, place, bytes([content[place] ^ 1 << rng.randrange(8)]))


def _overwritten(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return _replaced(content, place, rng.randbytes(min(64, _end(content) - place)))


def _tail_zeroed(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + bytes(len(content) - place)


def _data_tail_zeroed(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return _replaced(content, place, bytes(_end(content) - place))


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _closed(content: bytes, rng: random.Random) -> bytes:
    if content.startswith(b"\xff\xd8"):
        return _cut(content, rng) + b"\xff\xd9"
    return _cut(content, rng) + png_chunk(b"IEND", b"")


def _data_end_early(content: bytes, rng: random.Random) -> bytes:
    """Cuts the data, and makes all checksums fit again, as a broken writer does."""
    if content.startswith(b"\xff\xd8"):
        return _closed(content, rng)
    start = content.find(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", content, start)
    data = zlib.decompressobj().decompress(content[start + 8 : start + 8 + length])
    shorter = zlib.compress(data[: rng.randrange(len(data))])
    return content[:start] + png_chunk(b"IDAT", shorter) + png_chunk(b"IEND", b"")


def _piece_lost(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.randrange(1, 65) :]


def _piece_twice(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[: place + rng.randrange(1, 65)] + content[place:]


MUTATIONS: dict[str, tuple[bool, Mutation]] = {
    "cut": (True, _cut),
    "cut, closed by an end marker": (True, _closed),
    "data end early": (True, _data_end_early),
    "tail zeroed": (True, _tail_zeroed),
    "data zeroed to the end marker": (False, _data_tail_zeroed),
    "512 bytes zeroed": (False, _zeroed(512)),
    "16 bytes zeroed": (False, _zeroed(16)),
    "64 bytes overwritten": (False, _overwritten),
    "up to 64 bytes lost": (False, _piece_lost),
    "up to 64 bytes twice": (False, _piece_twice),
    "a bit flipped in the data": (False, _data_bit_flipped),
    "a bit flipped anywhere": (False, _bit_flipped),
}
"""Whether all damage must be noticed even in a JPEG, and what does it."""


# --- the campaign ------------------------------------------------------------


def _read(content: bytes) -> np.ndarray | str:
    decoded = decode_image(io.BytesIO(content))
    return decoded if isinstance(decoded, str) else decoded[0]


def sound_files(seed: int, data: Path | None) -> Iterator[tuple[str, str, bytes]]:
    """Yields the format, name and bytes of drawn faces of each kind, and of files."""
    for number, image in enumerate(draw_faces(3, seed)[0]):
        for name, (file_format, encoder) in SOUND.items():
            yield file_format, f"{name}, face {number}", encoder(image[:, :, 0])
    if data:
        for path in sorted(data.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                yield _SUFFIXES[path.suffix.lower()], str(path), path.read_bytes()


def check_sound_files(seed: int, data: Path | None) -> int:
    """Sound files of all kinds are accepted, with the pixels that Pillow reads."""
    tally = Tally("sound files accepted")
    for _, name, content in sound_files(seed, data):
        found = _read(content)
        if isinstance(found, str):
            tally.failed(f"{name}: {found}")
        else:
            tally.held()
    return tally.finish()


def check_damage(cases: int, seed: int, data: Path | None) -> int:
    """Damage is noticed; prints a table of how much."""
    rng = random.Random(seed)  # noqa: S311 (chooses faults, no secrets)
    files: dict[str, list[bytes]] = {"JPEG": [], "PNG": []}
    for file_format, _, content in sound_files(seed, data):
        files[file_format].append(content)
    tally = Tally("damage that must be noticed")
    counts: Counter[tuple[str, str, str]] = Counter()
    for case in range(cases):
        kind = list(MUTATIONS)[case % len(MUTATIONS)]
        is_loss, mutate = MUTATIONS[kind]
        file_format = ("JPEG", "PNG")[case // len(MUTATIONS) % 2]
        content = rng.choice(files[file_format])
        damaged = mutate(content, rng)
        before, after = _read(content), _read(damaged)
        if isinstance(before, str):  # Counted by `check_sound_files`.
            continue
        if isinstance(after, str):
            outcome = "noticed"
        else:
            outcome = "harmless" if np.array_equal(before, after) else "silent"
        counts[file_format, kind, outcome] += 1
        if is_loss or file_format == "PNG":
            if outcome == "silent":
                tally.failed(f"{file_format}, {kind}, case {case}")
            else:
                tally.held()
    _print_shares(counts)
    return tally.finish()


def _print_shares(counts: Counter[tuple[str, str, str]]) -> None:
    print(f"{'share of damage noticed':<32}{'JPEG':>9}{'of':>9}{'PNG':>12}{'of':>9}")
    totals: Counter[tuple[str, str]] = Counter()
    for kind in (*MUTATIONS, "all"):
        line = f"{kind:<32}"
        for file_format, width in (("JPEG", 9), ("PNG", 12)):
            noticed, silent = (
                counts[file_format, kind, outcome] for outcome in ("noticed", "silent")
            )
            if kind == "all":
                noticed = totals[file_format, "noticed"]
                silent = totals[file_format, "silent"]
            totals[file_format, "noticed"] += noticed
            totals[file_format, "silent"] += silent
            damaged = noticed + silent
            share = f"{noticed / damaged:.2%}" if damaged else "-"
            line += f"{share:>{width}}{damaged:>9,}"
        print(line)


# --- traps -------------------------------------------------------------------


def _many_scans(side: int, count: int) -> bytes:
    """Returns a progressive JPEG whose last scan comes again and again."""
    face = draw_faces(1, 0)[0][0, :, :, 0]
    image = Image.fromarray(face).resize((side, side))
    content = encode(image, "JPEG", progressive=True, quality=20)
    start = content.rfind(b"\xff\xc4")
    return content[:-2] + content[start:-2] * count + content[-2:]


def _jpeg_with(segments: bytes) -> bytes:
    content = encode(Image.new("L", (48, 48), 90), "JPEG")
    return content[:2] + segments + content[2:]


def _segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def compressed_zeros(millions: int) -> bytes:
    """Returns what unpacks to so many million zeros, made of equal parts."""
    packer = zlib.compressobj()
    first, part = (
        packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(2)
    )
    # The sum of so many zeros, as RFC 1950 has it, in place of that of two parts.
    checksum = struct.pack(">HH", 10**6 * millions % 65_521, 1)
    return first + (millions - 1) * part + packer.flush()[:-4] + checksum


def _png_with(chunks: bytes) -> bytes:
    return png_file(48, 48, zlib.compress(bytes(49 * 48)), before=chunks)


def _tiff_of_strips(count: int, size: int) -> bytes:
    """Returns a 48x48 TIFF whose strips are all the same data that unpack to a size."""
    packed = zlib.compress(bytes(size), 9)
    # In the file they come once, and it is as large as if each had its own.
    content = packed + bytes((count - 1) * len(packed))
    tags, lists = 8 + len(content), 8 + len(content) + 2 + 12 * 5 + 4
    entries = (
        struct.pack("<HHII", 256, 4, 1, 48),
        struct.pack("<HHII", 257, 4, 1, 48),
        struct.pack("<HHII", 259, 4, 1, 8),
        struct.pack("<HHII", 273, 4, count, lists),
        struct.pack("<HHII", 279, 4, count, lists + 4 * count),
    )
    return b"".join(
        (
            struct.pack("<2sHI", b"II", 42, tags),
            content,
            struct.pack("<H", len(entries)),
            *entries,
            bytes(4),
            struct.pack(f"<{count}I", *[8] * count),
            struct.pack(f"<{count}I", *[len(packed)] * count),
        )
    )


def _text_bomb(kind: bytes, start: bytes, count: int = 1) -> bytes:
    bomb = start + zlib.compress(bytes(64_000_000), 9)
    return _png_with(png_chunk(kind, bomb) * count)


def _raw_profile() -> bytes:
    exif = b"Exif\0\0" + exif_block(30_000, 120_000)
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    return _png_with(
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    )


def _animation() -> bytes:
    frames = [Image.new("L", (48, 48), level) for level in range(200)]
    content = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    control = content.find(b"acTL") - 4
    endless = png_chunk(b"acTL", b"\xff\xff\xff\xff\0\0\0\0")
    return _replaced(content, control, endless)


def _blank(file_format: str, mode: str, **options: object) -> bytes:
    return encode(Image.new(mode, (5600, 5600)), file_format, **options)


TRAPS: dict[str, Callable[[], bytes]] = {
    "60,000 x 60,000 PNG": lambda: png_file(60_000, 60_000, compressed_zeros(100)),
    "65,000 x 65,000 JPEG": lambda: _jpeg_with(b"").replace(
        b"\x08\0\x30\0\x30", b"\x08\xfd\xe8\xfd\xe8", 1
    ),
    "48 x 48 PNG with 1 GB of data": lambda: png_file(48, 48, compressed_zeros(1000)),
    "PNG of 65,000 chunks": lambda: _png_with(png_chunk(b"teXt", b"") * 65_000),
    "PNG of 2,000,000 chunks": lambda: _png_with(png_chunk(b"teXt", b"") * 2_000_000),
    "PNG, compressed text": lambda: _text_bomb(b"zTXt", b"a\0\0"),
    "PNG, 50 compressed texts": lambda: _text_bomb(b"zTXt", b"a\0\0", 50),
    "PNG, international text": lambda: _text_bomb(b"iTXt", b"a\0\1\0\0\0"),
    "PNG, colour profile": lambda: _text_bomb(b"iCCP", b"a\0\0"),
    "PNG, EXIF read 65,000 times": lambda: _png_with(
        png_chunk(b"eXIf", exif_block(65_000, 30_000_000))
    ),
    "PNG, EXIF as text": _raw_profile,
    "animated PNG of 2**32 frames": _animation,
    "JPEG, last scan 10,000 times": lambda: _many_scans(5000, 10_000),
    "JPEG, last scan 60 times, then another frame": lambda: (
        _many_scans(3200, 60)[:-2]
        + _segment(0xC2, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
        + b"\xff\xd9"
    ),
    "JPEG, last scan 60 times": lambda: _many_scans(3200, 60),
    "JPEG, last scan 400 times": lambda: _many_scans(1000, 400),
    "JPEG, EXIF read 5,000 times": lambda: _jpeg_with(
        _segment(0xE1, b"Exif\0\0" + exif_block(5000, 5000))
    ),
    "JPEG, EXIF in 900 parts": lambda: _jpeg_with(
        _segment(0xE1, b"Exif\0\0" + bytes(4500)) * 900
    ),
    "JPEG, EXIF of 30 MB": lambda: _jpeg_with(
        _segment(0xE1, b"Exif\0\0" + bytes(35_000)) * 900
    ),
    "progressive JPEG of 32 megapixels": lambda: encode(
        Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (5000, 6400, 3), np.uint8)
        ),
        "JPEG",
        progressive=True,
        quality=50,
    ),
    "JPEG, EXIF in 1,000,000 parts": lambda: _jpeg_with(
        _segment(0xE1, b"Exif\0\0" + bytes(20)) * 1_000_000
    ),
    "JPEG, 30 MB of fill bytes": lambda: _jpeg_with(b"\xff" * 30_000_000),
    "JPEG, 30 MB between segments": lambda: _jpeg_with(bytes(30_000_000)),
    "GIF, comment of 30 MB": lambda: (
        b"GIF89a\x30\0\x30\0\0\0\0\x21\xfe" + (b"\xff" + bytes(255)) * 120_000
    ),
    "TIFF of 500 strips, 32 GB": lambda: _tiff_of_strips(500, 64_000_000),
    "TIFF, 60,000 tags of the same 30 MB": lambda: (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", 60_000)
        + b"".join(
            struct.pack("<HHII", number, 7, 30_000_000, 8) for number in range(60_000)
        )
        + bytes(30_000_000)
    ),
    "WebP of 31 megapixels": lambda: _blank("WEBP", "RGBA"),
    "TIFF of 31 megapixels": lambda: _blank("TIFF", "RGBA", compression="tiff_lzw"),
    "GIF of 31 megapixels": lambda: _blank("GIF", "P"),
    "40 MB behind an image": lambda: _jpeg_with(b"") + bytes(40_000_000),
}
"""Files that cost a decoder much more than their size."""


def _surveyed(folder: str) -> tuple[int, list[str]]:
    """Returns how many images a survey reads, and why not the others."""
    found = survey(Path(folder))
    return len(found.test), list(found.unreadable.values())


def _write_traps() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yields the name of each trap, and what writes it to a path."""

    def link_to_pipe(path: Path) -> None:
        pipe = path.with_suffix("")
        os.mkfifo(pipe)
        path.symlink_to(pipe)

    def sparse(path: Path) -> None:
        path.touch()
        os.truncate(path, 10**12)

    yield "a pipe", os.mkfifo
    yield "a link to a pipe", link_to_pipe
    yield "a link to standard input", lambda path: path.symlink_to("/dev/stdin")
    yield "a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")
    yield "a link to itself", lambda path: path.symlink_to(path.name)
    yield "a sparse file of 1 TB", sparse
    for name, make in TRAPS.items():

        def write(path: Path, make: Callable[[], bytes] = make) -> None:
            path.write_bytes(make())

        yield name, write


def check_traps() -> int:
    """Hostile files cost little time and memory, and the images beside them are read.

    Each is read by a process of its own, which has a standard input that never ends.
    """
    tally = Tally("traps that cost little time and memory")
    processes = Forked(["emotion_cnn.data.folders"], seconds=10 * _SECONDS_LIMIT)
    reading, writing = multiprocessing.Pipe(duplex=False)
    for name, write in _write_traps():
        with TemporaryDirectory() as temporary:
            folder = Path(temporary, "test", "happy")
            folder.mkdir(parents=True)
            (folder / "sound.png").write_bytes(_png_with(b""))
            write(folder / "trap.png")
            ended = processes.call(_surveyed, temporary, stdin=reading)
        if ended.code or ended.said or ended.returned is None:
            tally.failed(f"{name}: exit {ended.code}: {ended.said[-300:]}")
            continue
        images, reasons = ended.returned
        seconds, megabytes = ended.seconds, ended.megabytes
        outcome = f"{name}: {seconds:.1f} s, {megabytes:,.0f} MB, "
        outcome += str(reasons or "accepted")
        is_cheap = seconds <= _SECONDS_LIMIT and megabytes <= _MEGABYTES_LIMIT
        if not is_cheap or images + len(reasons) != 2:
            tally.failed(outcome)
        else:
            print(f"  {outcome}")
            tally.held()
    reading.close()
    writing.close()
    return tally.finish()


def main() -> int:
    """Runs the campaign; returns 1 if anything did not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2400, help="damaged images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with more sound images")
    options = parser.parse_args()
    failed = check_sound_files(options.seed, options.data)
    failed += check_damage(options.cases, options.seed, options.data)
    failed += check_traps()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
