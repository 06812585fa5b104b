"""Converting one image: from a file, and from an array."""

import io
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.images import MUTATIONS, SOUND, TRAPS, png_file
from emotion_cnn.data import images
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.images import decode_image, decode_photo, image_from_array
from emotion_cnn.errors import DataError


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return io.BytesIO(file.getvalue())


def decoded(image: Image.Image, *arguments, **options) -> np.ndarray:
    array, _ = decode_image(encoded(image, *arguments, **options))
    assert array.shape == (48, 48)
    assert array.dtype == np.uint8
    return array


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# --- files -------------------------------------------------------------------


def test_grayscale_of_the_right_size_is_unchanged():
    pixels = noise(48, 48)
    found, before = decode_image(encoded(Image.fromarray(pixels)))
    assert np.array_equal(found, pixels)
    assert before.changes() == ()


def test_16_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 48 * 48).astype(np.uint16).reshape(48, 48)
    assert np.array_equal(decoded(Image.fromarray(ramp)), ramp // 256)


def deep_png(values: np.ndarray) -> io.BytesIO:
    """A PNG of 16 bits, which Pillow writes in gray alone."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return io.BytesIO(png_file(48, 48, zlib.compress(rows), depth=16, colour=colour))


def deep_tiff(values: np.ndarray) -> io.BytesIO:
    """A TIFF of 16-bit colours, which Pillow reads and does not write."""
    count, pixels = values.shape[2], values.astype(">u2").tobytes()
    bits_at = 8 + 2 + 12 * 10 + 4
    tags = {256: 48, 257: 48, 258: bits_at, 259: 1, 262: 2, 273: bits_at + 2 * count}
    tags |= {277: count, 278: 48, 279: len(pixels), 338: 2}
    counts = {258: count}
    entries = b"".join(
        struct.pack(">HHI", tag, 3 if tag == 258 else 4, counts.get(tag, 1))
        + struct.pack(">I", value)
        for tag, value in tags.items()
    )
    header = struct.pack(">2sHIH", b"MM", 42, 8, len(tags))
    bits = struct.pack(f">{count}H", *[16] * count)
    return io.BytesIO(header + entries + bytes(4) + bits + pixels)


@pytest.mark.parametrize("kind", ["png 1", "png 2", "png 3", "png 4", "tiff 4"])
@pytest.mark.parametrize("greatest", [255, 1023, 4095, 65535])
def test_16_bits_are_scaled_by_what_they_hold(kind, greatest):
    ramp = np.linspace(0, greatest, 48 * 48).astype(np.uint16).reshape(48, 48, 1)
    values = np.repeat(ramp, int(kind[-1]), axis=2)
    # What is transparent in gray, and in colours.
    values[..., {2: 1, 4: 3}.get(int(kind[-1]), 4) :] = greatest
    found, _ = decode_image((deep_png if kind < "q" else deep_tiff)(values))
    assert abs(found - np.linspace(0, 255, 48 * 48).reshape(48, 48)).max() < 1.01


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits(mode):
    ramp = np.linspace(0, 255, 48 * 48).reshape(48, 48)
    for scale in (1, 16, 1 / 255 if mode == "F" else 256):
        values = (ramp * scale).astype(np.int32 if mode == "I" else np.float32)
        found, _ = decode_image(encoded(Image.fromarray(values), "TIFF"))
        assert abs(found - ramp).max() < 1.01


OTHER_FORMATS = {
    "BMP": ("BMP", {}),
    "GIF": ("GIF", {}),
    "TIFF": ("TIFF", {}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "TIFF, packbits": ("TIFF", {"compression": "packbits"}),
    "WebP": ("WEBP", {"lossless": True}),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_other_formats_and_what_is_cut(kind):
    file_format, options = OTHER_FORMATS[kind]
    pixels = noise(48, 48)
    content = encoded(Image.fromarray(pixels), file_format, **options).getvalue()
    assert np.array_equal(decode_image(io.BytesIO(content))[0], pixels)
    for size in range(0, len(content), 7):
        found = decode_image(io.BytesIO(content[:size]))
        # What follows the image may be lost.
        assert isinstance(found, str) or size > len(content) - 5, size
        assert isinstance(found, str) or np.array_equal(found[0], pixels)


def test_the_first_of_several_images_is_read():
    first, second = (Image.new("L", (48, 48), level) for level in (50, 200))
    for file_format in ("GIF", "TIFF", "WEBP"):
        options = {"save_all": True, "append_images": [second]}
        found = decoded(first, file_format, **options)
        assert abs(found.astype(int) - 50).max() <= 1


def test_other_formats_too_large_or_of_kinds_that_are_not_read():
    tall = struct.pack("<II", 40, 60_000) + struct.pack("<iHHI", 60_000, 1, 24, 0)
    packed = struct.pack("<IiiHHI", 40, 8, 8, 1, 8, 1)
    tags = [(256, 4, 60_000), (257, 4, 60_000)]
    tile = [(256, 4, 8), (257, 4, 8), (322, 4, 60_000), (323, 4, 60_000)]
    many = [(256, 4, 8), (257, 4, 8), (700, 1, 0)]
    comments = b"\x21\xfe" + b"\x01a" * 5000 + b"\0"
    hostile = {
        b"BM" + bytes(8) + struct.pack("<I", 54) + tall: "larger than 32",
        b"BM" + bytes(8) + struct.pack("<I", 54) + packed: "of a kind that is not",
        tiff_file(tags): "larger than 32",
        tiff_file(tile): "larger than 32",
        tiff_file(many, count=2**23): "bytes of tags",
        tiff_file([(256, 4, 8), (257, 4, 8), (259, 3, 7)]): "of a kind that is not",
        b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(9): "larger than 32",
        b"GIF89a" + bytes(7) + comments + bytes(9): "blocks before the image",
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6: "larger",
        b"RIFF\x04\0\0\0WEBP": "no image in it",
        b"RIFF\x04\0\0\0WAVE": "not a JPEG, PNG, WebP",
    }
    for content, reason in hostile.items():
        assert reason in decode_image(io.BytesIO(content)), content[:40]


def tiff_file(tags, *, count: int = 1) -> bytes:
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, value) for tag, kind, value in tags
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_box_is_what_is_read():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:68, 120:168] = 200
    file = encoded(Image.fromarray(pixels))
    for box in ((120, 20, 168, 68), (130, 20, 158, 68)):
        assert (decode_image(file, box=box)[0] == 200).all()
        file.seek(0)
    assert (decode_image(file, box=(0, 0, 48, 48))[0] == 0).all()
    for box in ((9, 9, 9, 20), (300, 0, 310, 10), (0, 0, float("nan"), 5)):
        file.seek(0)
        assert "box without a pixel" in decode_image(file, box=box)


def test_transparent_pixels_are_white():
    pixels = np.full((48, 48, 4), (50, 50, 50, 255), np.uint8)
    pixels[:, 24:, 3] = 0
    found = decoded(Image.fromarray(pixels))
    assert (found[:, :24] == 50).all()
    assert (found[:, 24:] == 255).all()


def test_blending_with_white_by_rows_changes_nothing(monkeypatch):
    image = Image.fromarray(noise(48, 48, 4))
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("L"))
    assert np.array_equal(decoded(image), expected)
    monkeypatch.setattr(images, "_BAND_MEGAPIXELS", 0.0004)
    assert np.array_equal(decoded(image), expected)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(monkeypatch):
    ramp = np.linspace(0, 255, 3000).astype(np.uint8)
    file = encoded(Image.fromarray(np.tile(ramp, (2000, 1))).convert("RGB"), "JPEG")
    sizes, load = [], Image.Image.load
    monkeypatch.setattr(
        Image.Image, "load", lambda image: sizes.append(image.size) or load(image)
    )
    found, before = decode_image(file)
    assert max(sizes) <= (750, 500)
    assert (before.width, before.height, before.mode) == (3000, 2000, "RGB")
    middle = np.linspace(42, 213, 48)
    assert abs(found - middle).max() < 4


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory otherwise")
def test_a_large_transparent_image_fits_into_memory(tmp_path):
    Image.new("RGBA", (4900, 4890)).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import sys; from pathlib import Path\n"
        "from emotion_cnn.data.images import decode_image\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    assert decode_image(file)[0].mean() == 255\n"
        # Not ru_maxrss: a child inherits that of the process it was forked from.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 250  # MB; 400 with the whole image at a time


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (48, 48), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.paste(0, (0, 0, 48, 10))
    found = decoded(image, transparency=0)
    assert (found[:10] == 255).all()
    assert (found[10:] == 90).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA"])
def test_modes_of_png(mode):
    white = Image.new("L", (48, 48), 255).convert(mode)
    assert (decoded(white) == 255).all()
    assert decode_image(encoded(white))[1].changes() == ("of another mode",)


def test_cmyk_jpeg():
    found = decoded(Image.new("L", (48, 48), 120).convert("CMYK"), "JPEG")
    assert abs(found.astype(int) - 120).max() <= 2


def test_exif_orientation_is_applied():
    upright = np.zeros((48, 48), np.uint8)
    upright[:24] = 200  # bright above, dark below
    lying = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees to see it upright
    found, before = decode_image(encoded(lying, exif=exif))
    assert np.array_equal(found, upright)
    assert before.changes() == ("turned upright as their EXIF data says",)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_none(orientation):
    """Some cameras write 0, which says nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    _, before = decode_image(encoded(Image.new("L", (48, 48), 120), exif=exif))
    assert before.changes() == ()


def test_other_shapes_keep_their_proportions():
    wide = np.zeros((48, 144), np.uint8)
    wide[:, 48:96] = 255  # a square in the middle fills the result
    assert (decoded(Image.fromarray(wide))[:, 1:-1] == 255).all()


def test_another_size():
    pixels = noise(32, 32)
    found, before = decode_image(encoded(Image.fromarray(pixels)), 32)
    assert np.array_equal(found, pixels)
    assert before.changes(32) == ()
    found, before = decode_image(encoded(Image.fromarray(noise(48, 48))), 32)
    assert found.shape == (32, 32)
    assert before.changes(32) == ("of another size",)


# --- damage ------------------------------------------------------------------


@pytest.fixture(scope="module")
def face():
    return draw_faces(1, 3)[0][3, :, :, 0]


@pytest.mark.parametrize("kind", SOUND)
def test_sound_files_of_all_kinds_are_read_as_pillow_reads_them(kind, face):
    file_format, encode = SOUND[kind]
    content = encode(face)
    found, before = decode_image(io.BytesIO(content))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format in (file_format, "MPO")
        assert before.mode == image.mode
        if before.changes() == ():
            assert np.array_equal(found, np.asarray(image))


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize(
    "mutation", [name for name, (lost, _) in MUTATIONS.items() if lost]
)
def test_images_of_which_data_are_missing_are_damaged(kind, mutation, face):
    rng = random.Random(0)  # noqa: S311
    content = SOUND[kind][1](face)
    for _ in range(20):
        damaged = MUTATIONS[mutation][1](content, rng)
        assert isinstance(decode_image(io.BytesIO(damaged)), str)


def test_a_jpeg_with_zeros_in_the_middle_is_damaged(face):
    content = SOUND["gray, 48x48"][1](face)
    middle = len(content) // 2
    damaged = content[: middle - 256] + bytes(512) + content[middle + 256 :]
    reason = decode_image(io.BytesIO(damaged))
    assert reason.startswith("corrupt JPEG data: ")


@pytest.mark.parametrize(
    ("raw", "interlaced", "reason"),
    [
        (48 * 49, 0, None),
        (48 * 49 - 1, 0, "image data end early"),
        (48 * 49 + 1, 0, None),  # libpng reads these too
        (48 * 48 + 90, 1, None),  # rows of seven passes
        (48 * 48 + 89, 1, "image data end early"),
    ],
)
def test_the_data_of_a_png_are_counted(raw, interlaced, reason):
    content = png_file(48, 48, zlib.compress(bytes(raw)), interlaced=interlaced)
    found = decode_image(io.BytesIO(content))
    assert found == f"broken PNG file ({reason})" if reason else found[0].max() == 0


@pytest.mark.parametrize("cut", [1, 4])
def test_the_checksum_of_the_data_of_a_png_is_needed(cut):
    data = zlib.compress(bytes(48 * 49))
    found = decode_image(io.BytesIO(png_file(48, 48, data[:-cut])))
    assert found == "broken PNG file (image data end early)"
    found = decode_image(io.BytesIO(png_file(48, 48, data[:-1] + b"x")))
    assert "incorrect data check" in found


@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        ("JPEG, last scan 60 times", "more scans (66) than an image of its size"),
        ("JPEG, last scan 60 times, then another frame", "more than one frame"),
        ("TIFF of 500 strips, 32 GB", "broken TIFF file (image data of more than an"),
        ("JPEG, EXIF in 1,000,000 parts", "more than 1,000 segments"),
        ("JPEG, 30 MB between segments", "corrupt JPEG data: "),
        ("PNG of 2,000,000 chunks", "broken PNG file (more than 65,536 chunks)"),
        ("65,000 x 65,000 JPEG", "larger than 32 megapixels"),
        ("40 MB behind an image", "larger than 33,554,432 bytes"),
    ],
)
def test_traps_are_never_decoded(trap, reason, monkeypatch):
    content = TRAPS[trap]()
    monkeypatch.setattr(Image, "open", None)
    assert decode_image(io.BytesIO(content)).startswith(reason)


# --- arrays ------------------------------------------------------------------


@pytest.mark.parametrize("size", [48, 32])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("shape", [(48, 48), (100, 70), (9, 200), (1, 1)])
def test_an_array_is_converted_as_a_png_of_its_pixels(shape, channels, size):
    array = noise(*shape, *channels)
    expected, _ = decode_image(encoded(Image.fromarray(array)), size)
    found = image_from_array(array, size)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 1)])
def test_a_gray_array_of_the_right_size_is_copied(shape):
    array = noise(*shape)
    found = image_from_array(array)
    assert np.array_equal(found, array.reshape(48, 48))
    before = array.copy()
    found[:] = 0
    assert np.array_equal(array, before)


def test_an_array_need_not_be_contiguous():
    array = noise(96, 96, 3)[::2, ::-2, ::-1]
    expected = image_from_array(np.ascontiguousarray(array))
    assert np.array_equal(image_from_array(array), expected)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((48, 48)), "found float64 (48, 48). Convert"),
        (np.zeros((48, 48), np.int64), "found int64 (48, 48)."),
        (np.zeros((48, 48), bool), "found bool (48, 48)."),
        (np.zeros(48, np.uint8), "found uint8 (48,)."),
        (np.zeros((48, 48, 2), np.uint8), "found uint8 (48, 48, 2)."),
        (np.zeros((3, 48, 48), np.uint8), "found uint8 (3, 48, 48)."),
        (np.zeros((1, 48, 48, 1), np.uint8), "found uint8 (1, 48, 48, 1)."),
        (np.zeros((0, 48), np.uint8), "at least one pixel, found shape (0, 48)."),
        (np.zeros((48, 0, 3), np.uint8), "at least one pixel, found shape (48, 0, 3)"),
        (
            np.broadcast_to(np.uint8(0), (6000, 6000)),
            "at most 32 megapixels, found 6,000 x 6,000 pixels.",
        ),
    ],
)
def test_other_arrays_are_refused(array, found):
    with pytest.raises(DataError) as caught:
        image_from_array(array)
    assert found in str(caught.value)


def test_floats_are_told_how_to_become_bytes():
    with pytest.raises(DataError, match=r'\(255 \* image\)\.astype\("uint8"\)'):
        image_from_array(np.full((48, 48), 0.5, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_pixels_all_the_same(value):
    pixels = np.full((9, 9), 0.5, np.float32)
    pixels[0, 0] = value
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF")
    file.seek(0)
    photo = decode_photo(file)
    assert photo.shape == (9, 9, 3)
    # The others are as they were.
    assert photo[1:].min() == photo[1:].max() == 127
