"""Finding out from an image file's bytes whether it is damaged, or a trap.

Decoders paint what they cannot read gray or black, and say nothing. All of this comes
before decoding, so that no file takes more time or memory than its size allows.
"""

import re
import struct
import zlib
from collections.abc import Iterator

import simplejpeg

MEGAPIXEL_LIMIT = 32
"""Largest image that is read by default; decoded it takes up to 4 bytes a pixel."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""The formats that are read, as Pillow calls them."""

NO_IMAGE = "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"


class _TooLargeError(Exception):
    """An image of more pixels than are to be read."""


def find_damage(content: bytes, *, megapixels: int = MEGAPIXEL_LIMIT) -> str | None:
    """Returns why an image file cannot or should not be decoded.

    Args:
        content: The whole file. What follows the end of the image is not looked at:
            phones append more images, and videos.
        megapixels: The most that the image may have.

    Returns:
        The reason in a few words; None for an image in which nothing is wrong that
        can be noticed. Changes that make other, valid data cannot: only PNG has
        checksums of all, and TIFF of what is packed by deflate.
    """
    if not content:
        return "empty file"
    for signature, find in _FORMATS.items():
        if content.startswith(signature):
            try:
                return find(content, megapixels)
            except _TooLargeError:
                return f"larger than {megapixels} megapixels"
    return NO_IMAGE


def is_too_large(width: int, height: int, megapixels: int = MEGAPIXEL_LIMIT) -> bool:
    """Returns whether an image of a width and height in pixels is not to be read."""
    return width * height > megapixels * 1_000_000


def _check_size(width: int, height: int, megapixels: int) -> None:
    """Raises _TooLargeError where `is_too_large`."""
    if is_too_large(width, height, megapixels):
        raise _TooLargeError


# --- JPEG --------------------------------------------------------------------

# Each scan goes through all pixels again, and may take a few bytes: 300 kB of them
# kept a decoder busy for a minute. An ordinary progressive JPEG has 10.
_SCANNED_MEGAPIXELS_LIMIT = 20 * MEGAPIXEL_LIMIT
_SCANS_OF_ANY_SIZE = 10
_SMALLEST_SCAN = 2**16
# Pillow's time for EXIF data in several segments is their number times their length.
# They should be in one, of 64 kB; a depth map of a phone can take 200 others.
_SEGMENT_LIMIT = 1000
_EXIF_LIMIT = 2**22

_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_START_OF_SCAN, _END_OF_IMAGE, _EXIF = 0xDA, 0xD9, 0xE1
_APPLICATION_DATA = {*range(0xE0, 0xF0), 0xFE}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
# Pillow takes a second for a million of such fill bytes.
_MARKER = re.compile(rb"\xff{1,4096}([^\x00\xff])")
_NEXT_MARKER = re.compile(rb"\xff(?=[^\x00\xff\xd0-\xd7])")

# Others are about what this binding does not decode but Pillow does, such as rare
# ratios of chroma subsampling.
_DAMAGE = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
)


def _find_in_jpeg(content: bytes, megapixels: int) -> str | None:
    width = height = scans = exif = 0
    image_data, position = [], 0
    is_progressive = False
    # How many bits of each coefficient are still missing, by component.
    missing: dict[int, bytearray] = {}
    try:
        for number, (kind, start, body, end) in enumerate(_segments(content)):
            if number == _SEGMENT_LIMIT:
                return f"more than {_SEGMENT_LIMIT:,} segments"
            if kind in _START_OF_FRAME:
                if missing:
                    return "more than one frame"
                is_progressive = kind in _PROGRESSIVE
                height, width, count = struct.unpack_from(">HHB", content, body + 1)
                _check_size(width, height, megapixels)
                for component in content[body + 6 : body + 6 + 3 * count : 3]:
                    missing[component] = bytearray(b"\1" + bytes(63))
            elif kind in _APPLICATION_DATA:
                image_data.append(content[position:start])
                position = end
                exif += end - body if kind == _EXIF else 0
                if exif > _EXIF_LIMIT:
                    return f"more than {_EXIF_LIMIT:,} bytes of EXIF data"
            elif kind == _START_OF_SCAN:
                scans += 1
                first, last, bits = content[end - 3 : end]
                band = slice(first, last + 1) if is_progressive else slice(1)
                low = bits & 15 if is_progressive else 0
                for component in content[body + 1 : end - 3 : 2]:
                    rest = missing[component]
                    rest[band] = bytes([low]) * len(rest[band])
    except (ValueError, LookupError, struct.error):
        return "corrupt JPEG data: the file ends early, or lacks a marker"
    pixels = scans * max(width * height, _SMALLEST_SCAN)
    most = _SCANNED_MEGAPIXELS_LIMIT * 1_000_000
    if pixels > most and scans > _SCANS_OF_ANY_SIZE:
        return f"more scans ({scans:,}) than an image of its size needs"
    if any(map(any, missing.values())):
        return "corrupt JPEG data: the last scans are missing"
    try:
        # Stops at libjpeg's first warning, which would be about an unknown version of
        # the application data. Reads all the rest, but computes one pixel of 64.
        simplejpeg.decode_jpeg(
            b"".join((*image_data, content[position:])),
            "GRAY",
            fastdct=True,
            fastupsample=True,
            min_height=1,
            min_width=1,
        )
    except ValueError as error:
        warning = str(error)
        if warning.startswith(_DAMAGE):
            return warning[0].lower() + warning[1:]
    return None


def _segments(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields the kind of each segment, where it and its content begin, and its end.

    Raises:
        ValueError: There is no marker where one should be.
        struct.error: The file ends within a marker.
    """
    position = 2
    while True:
        marker = _MARKER.match(content, position)
        if marker is None:
            raise ValueError
        (kind,) = marker[1]
        position = marker.end()
        if kind == _END_OF_IMAGE:
            return
        if kind in _WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", content, position)
        yield kind, marker.start(), position + 2, position + length
        position += length
        if kind == _START_OF_SCAN:
            following = _NEXT_MARKER.search(content, position)
            if following is None:
                raise ValueError
            position = following.start()


# --- PNG ---------------------------------------------------------------------

_CHUNK_LIMIT = 2**16
_DECOMPRESSED_AT_ONCE = 2**20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and the steps from there, of each pass over an image.
_ONE_PASS = ((0, 0, 1, 1),)
_INTERLACED_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def _find_in_png(content: bytes, megapixels: int) -> str | None:
    header, parts = b"", []
    try:
        for kind, body in _chunks(memoryview(content)):
            if kind == b"IHDR":
                header = bytes(body)
            elif kind == b"IDAT":
                parts.append(body)
        width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", header)
        _check_size(width, height, megapixels)
        bits = depth * _CHANNELS[colour]
        if not _decompress_to(_raw_size(width, height, bits, interlaced), parts):
            return "broken PNG file (image data end early)"
    except (ValueError, KeyError, zlib.error) as error:
        return f"broken PNG file ({error})"
    except struct.error:
        return "broken PNG file (ends early)"
    return None


def _chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yields the kind and content of each chunk.

    Raises:
        ValueError: A checksum is wrong, or there are too many chunks.
        struct.error: The file ends before the image does.
    """
    position = 8
    for _ in range(_CHUNK_LIMIT):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(content[position + 4 : end]) != checksum:
            raise ValueError(f"wrong checksum in {kind!a}")
        if kind == b"IEND":
            return
        yield kind, content[position + 8 : end]
        position = end + 4
    raise ValueError(f"more than {_CHUNK_LIMIT:,} chunks")


def _raw_size(width: int, height: int, bits: int, interlaced: int) -> int:
    """Returns the number of bytes that the image data of a PNG unpack to.

    Args:
        width: In pixels.
        height: In pixels.
        bits: Of each pixel.
        interlaced: 1 for an interlaced image, 0 for others.
    """
    size = 0
    for left, top, right_step, down_step in (
        _INTERLACED_PASSES if interlaced else _ONE_PASS
    ):
        columns = -((left - width) // right_step)
        rows = -((top - height) // down_step)
        if columns > 0 and rows > 0:
            # A byte in front of each row says how it is coded.
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def _decompress_to(size: int, parts: list[memoryview]) -> bool:
    """Returns whether parts of a zlib stream unpack to a size; more than it will do.

    Raises:
        zlib.error: They are no such stream, or their checksum is wrong.
    """
    decompressor = zlib.decompressobj()
    for part in parts:
        packed: bytes | memoryview = part
        while packed and size >= 0:
            size -= len(decompressor.decompress(packed, _DECOMPRESSED_AT_ONCE))
            packed = decompressor.unconsumed_tail
    if size < 0:
        return True
    size -= len(decompressor.flush())
    return decompressor.eof and size <= 0


# --- WebP --------------------------------------------------------------------


def _find_in_webp(content: bytes, megapixels: int) -> str | None:
    try:
        if content[8:12] != b"WEBP":
            return NO_IMAGE
        (size,) = struct.unpack_from("<I", content, 4)
        if 8 + size > len(content):
            return "broken WebP file (ends early)"
        found_image = False
        position = 12
        for _ in range(_CHUNK_LIMIT):
            if position + 8 > 8 + size:
                break
            kind, length = struct.unpack_from("<4sI", content, position)
            body = position + 8
            if body + length > 8 + size:
                return "broken WebP file (ends early)"
            _check_size(*_webp_size(kind, content, body), megapixels)
            found_image |= kind in (b"VP8 ", b"VP8L", b"ANMF")
            position = body + length + length % 2
        else:
            return f"broken WebP file (more than {_CHUNK_LIMIT:,} chunks)"
    except struct.error:
        return "broken WebP file (ends early)"
    return None if found_image else "broken WebP file (no image in it)"


def _webp_size(kind: bytes, content: bytes, body: int) -> tuple[int, int]:
    """Returns the width and height that a chunk gives, zeros if it gives none."""
    if kind in (b"VP8X", b"ANMF"):
        start = body + (4 if kind == b"VP8X" else 6)
        fields = struct.unpack_from("<HBHB", content, start)
        return fields[0] + (fields[1] << 16) + 1, fields[2] + (fields[3] << 16) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, body + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, body + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


# --- BMP ---------------------------------------------------------------------

_BMP_BITS = (1, 4, 8, 16, 24, 32)
# Without packing, or with masks of the colours: run lengths can unpack to anything.
_BMP_PLAIN = (0, 3, 6)


def _find_in_bmp(content: bytes, megapixels: int) -> str | None:
    try:
        offset, header = struct.unpack_from("<II", content, 10)
        if header == 12:
            width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
            packing = 0
        else:
            width, height, _, bits, packing = struct.unpack_from("<iiHHI", content, 18)
    except struct.error:
        return "broken BMP file (ends early)"
    _check_size(abs(width), abs(height), megapixels)
    if packing not in _BMP_PLAIN or bits not in _BMP_BITS:
        return f"BMP file of a kind that is not read (packing {packing}, {bits} bits)"
    if offset + abs(height) * ((abs(width) * bits + 31) // 32 * 4) > len(content):
        return "broken BMP file (ends early)"
    return None


# --- TIFF --------------------------------------------------------------------

_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_PACKING = 256, 257, 259
_TIFF_STRIPS, _TIFF_STRIP_SIZES = 273, 279
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323
_TIFF_TILES, _TIFF_TILE_SIZES = 324, 325
_TIFF_TYPE_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8), start=1))
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I"}
_TIFF_DEFLATE = (8, 32946)
_TIFF_PACKINGS = (1, 5, 32773, *_TIFF_DEFLATE)
# Pillow reads all tags into memory, whether it knows them or not.
_TIFF_TAGS_LIMIT = 2**22
_TIFF_BYTES_PER_PIXEL = 8  # Four channels of 16 bits.


def _find_in_tiff(content: bytes, megapixels: int) -> str | None:
    order = "<" if content.startswith(b"II") else ">"
    try:
        tags = _tiff_tags(content, order)
    except ValueError as error:
        return f"broken TIFF file ({error})"
    except struct.error:
        return "broken TIFF file (ends early)"
    width, height = (tags.get(tag, (0,))[0] for tag in (_TIFF_WIDTH, _TIFF_HEIGHT))
    tile = [tags.get(tag, (0,))[0] for tag in (_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT)]
    _check_size(width, height, megapixels)
    _check_size(tile[0], tile[1], megapixels)
    (packing, *_) = tags.get(_TIFF_PACKING, (1,))
    if packing not in _TIFF_PACKINGS:
        return f"TIFF file of a kind that is not read (packing {packing})"
    starts = tags.get(_TIFF_STRIPS) or tags.get(_TIFF_TILES) or ()
    sizes = tags.get(_TIFF_STRIP_SIZES) or tags.get(_TIFF_TILE_SIZES) or ()
    if not starts or len(starts) != len(sizes) or len(starts) > _CHUNK_LIMIT:
        return "broken TIFF file (no list of its data)"
    if sum(sizes) > len(content):
        return "broken TIFF file (ends early)"
    data = memoryview(content)
    # Of all strips together: many can unpack to much more than one image is.
    left = _TIFF_BYTES_PER_PIXEL * megapixels * 1_000_000
    for start, size in zip(starts, sizes, strict=True):
        if start + size > len(content):
            return "broken TIFF file (ends early)"
        if packing in _TIFF_DEFLATE:
            try:
                left -= _unpacked_size(data[start : start + size], most=left)
            except (ValueError, zlib.error) as error:
                return f"broken TIFF file ({error})"
    return None


def _unpacked_size(packed: bytes | memoryview, *, most: int) -> int:
    """Returns what a zlib stream unpacks to, up to its end, where its checksum is.

    Raises:
        ValueError: It has no end, or is larger than it may be.
        zlib.error: It is no such stream, or its checksum is wrong.
    """
    decompressor = zlib.decompressobj()
    size = 0
    while packed and size <= most:
        size += len(decompressor.decompress(packed, _DECOMPRESSED_AT_ONCE))
        packed = decompressor.unconsumed_tail
    if size > most:
        raise ValueError("image data of more than an image")
    if not decompressor.eof:
        raise ValueError("image data end early")
    return size


def _tiff_tags(content: bytes, order: str) -> dict[int, tuple[int, ...]]:
    """Returns the whole numbers of the tags of the first image.

    Raises:
        ValueError: The tags are too large.
        struct.error: The file ends before they do.
    """
    tags: dict[int, tuple[int, ...]] = {}
    total = 0
    (position,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, position)
    for entry in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", content, entry)
        size = number * _TIFF_TYPE_SIZES.get(kind, 1)
        total += size
        if total > _TIFF_TAGS_LIMIT:
            raise ValueError(f"more than {_TIFF_TAGS_LIMIT:,} bytes of tags")
        at = entry + 8
        if size > 4:
            (at,) = struct.unpack_from(f"{order}I", content, at)
        if at + size > len(content):
            raise struct.error
        if kind in _TIFF_NUMBERS and number:
            pattern = f"{order}{number}{_TIFF_NUMBERS[kind]}"
            tags[tag] = struct.unpack_from(pattern, content, at)
    # Where the next image is follows; libtiff wants to know.
    struct.unpack_from(f"{order}I", content, position + 2 + 12 * count)
    return tags


# --- GIF ---------------------------------------------------------------------

# Pillow joins the blocks of a comment one by one.
_GIF_EXTENSION_BLOCKS = 4096
_GIF_BLOCKS = 2**18


def _find_in_gif(content: bytes, megapixels: int) -> str | None:
    """Looks at the first image, which is the one that is read."""
    try:
        width, height = struct.unpack_from("<HH", content, 6)
        _check_size(width, height, megapixels)
        position, blocks = 13 + _gif_colours(content[10]), 0
        while (kind := content[position]) == 0x21:
            position, found = _after_gif_blocks(content, position + 2)
            blocks += found
            if blocks > _GIF_EXTENSION_BLOCKS:
                return f"more than {_GIF_EXTENSION_BLOCKS:,} blocks before the image"
        if kind != 0x2C:
            return "broken GIF file (no image in it)"
        left, top, width, height, flags = struct.unpack_from(
            "<HHHHB", content, position + 1
        )
        _check_size(left + width, top + height, megapixels)
        # The size of a code precedes the blocks of data.
        _after_gif_blocks(content, position + 10 + _gif_colours(flags) + 1)
    except ValueError as error:
        return f"broken GIF file ({error})"
    except (struct.error, IndexError):
        return "broken GIF file (ends early)"
    return None


def _gif_colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_gif_blocks(content: bytes, position: int) -> tuple[int, int]:
    """Returns the position after a list of blocks, and their number.

    Raises:
        IndexError: The file ends within them.
        ValueError: There are too many.
    """
    for number in range(_GIF_BLOCKS):
        if not content[position]:
            return position + 1, number
        position += 1 + content[position]
    raise ValueError(f"more than {_GIF_BLOCKS:,} blocks")


_FORMATS = {
    b"\xff\xd8": _find_in_jpeg,
    b"\x89PNG\r\n\x1a\n": _find_in_png,
    b"RIFF": _find_in_webp,
    b"BM": _find_in_bmp,
    b"II*\0": _find_in_tiff,
    b"MM\0*": _find_in_tiff,
    b"GIF87a": _find_in_gif,
    b"GIF89a": _find_in_gif,
}
