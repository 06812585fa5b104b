"""One image or photo, from a file or an array: checked, decoded, converted."""

import io
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from emotion_cnn.data.damage import (
    FORMATS,
    MEGAPIXEL_LIMIT,
    NO_IMAGE,
    find_damage,
    is_too_large,
)
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown

IMAGE_SIZE = 48
"""Height and width, in pixels, of FER2013's images; the default everywhere."""

IMAGE_FILE_LIMIT = 32 * 2**20
"""Largest image file that is read, in bytes."""

PHOTO_FILE_LIMIT = 256 * 2**20
"""Largest photo file that is read, in bytes."""

PHOTO_MEGAPIXEL_LIMIT = 64
"""Largest photo that is read, of formats other than JPEG.

A pixel takes 3 bytes, and about 10 while it is decoded; 30 in the worst case, colours
of 16 bits.
"""
_BYTES_A_PIXEL = 10

JPEG_MEGAPIXEL_LIMIT = 200
"""Largest JPEG photo that is read: what the largest cameras of phones write."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"),
    *(".bmp", ".dib", ".tif", ".tiff", ".gif"),
)
"""What the names of image files end with, in lower case; a file's content decides."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a face in pixels: of the image as it is stored where a
file of labels says so, of the photo turned upright where it was detected."""

_JPEG_SIGNATURE = b"\xff\xd8"
_DRAFT_MEGAPIXELS = 1
# Small enough that memory is used again rather than asked of the system for each copy,
# which takes longer than decoding a photo of 640x480.
_BAND_MEGAPIXELS = 0.1
OTHER_SIZE = "of another size"
OTHER_MODE = "of another mode"
# By EXIF's orientation. `ImageOps.exif_transpose` also encodes the EXIF data again,
# and fails where a camera's have an odd type.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of colours of 16 bits Pillow reads the high byte, which holds nothing where the values
# are of 12 bits or fewer. Read in the other order of bytes, it is the low one. Gray
# with transparency has both bytes of both in place of four colours.
_GRAY_WITH_ALPHA = "LA;16B"
_OTHER_THAN_NATIVE = "B" if sys.byteorder == "little" else "L"
_OTHER_ORDER = {_GRAY_WITH_ALPHA: "RGBA"} | {
    f"{colours};16{order}": f"{colours};16{other}"
    for colours in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", _OTHER_THAN_NATIVE))
}
_DARK = 16
TURNED = "turned upright as their EXIF data says"


@dataclass(frozen=True)
class ImageFormat:
    """What an image was before its conversion.

    Attributes:
        width: In pixels.
        height: In pixels.
        mode: As Pillow calls it, such as `RGB`.
        turned: Whether its EXIF data says to rotate or flip it.
    """

    width: int
    height: int
    mode: str
    turned: bool

    def changes(self, size: int = IMAGE_SIZE) -> tuple[str, ...]:
        """Returns the conversions to grayscale of a height and width, in pixels."""
        needed = {
            OTHER_SIZE: (self.width, self.height) != (size, size),
            OTHER_MODE: self.mode != "L",
            TURNED: self.turned,
        }
        return tuple(kind for kind, is_needed in needed.items() if is_needed)


def decode_image(
    file: IO[bytes], size: int = IMAGE_SIZE, *, box: Box | None = None
) -> tuple[np.ndarray, ImageFormat] | str:
    """Decodes an image and converts it to grayscale.

    It is turned as its EXIF data says, blended with white where transparent, and
    scaled from 16 bits to 8; other sizes are cropped to the middle square and
    resized. Of several images in a file it is the first.

    Args:
        file: An image in one of `FORMATS`, at its start.
        size: Height and width to return, in pixels.
        box: The part of the image to return, made square where there is room.

    Returns:
        Either the image, uint8 `(size, size)`, and its format in the file; or why
        it cannot be read, in a few words.
    """
    content = file.read(IMAGE_FILE_LIMIT + 1)
    if len(content) > IMAGE_FILE_LIMIT:
        return f"larger than {IMAGE_FILE_LIMIT:,} bytes"
    try:
        if damage := find_damage(content):
            return shown(damage)[:100]
        file_image = _opened(content)
        original_size, mode = file_image.size, file_image.mode
        # A box is in pixels of the whole image.
        is_large = math.prod(original_size) > _DRAFT_MEGAPIXELS * 1_000_000
        if is_large and box is None:
            # Decodes a JPEG at a fraction of its size, in gray; no effect on others.
            file_image.draft("L", (8 * size, 8 * size))
        image = _loaded(file_image, content)
        if box is not None:
            if (crop := _square(box, *original_size)) is None:
                return "box without a pixel of the image in it"
            image = image.crop(crop)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        before = ImageFormat(*original_size, mode, orientation in _UPRIGHT)
        return _to_grayscale(_turned(image, orientation), size), before
    except UnidentifiedImageError:
        return NO_IMAGE
    except Exception as error:
        # Pillow's decoders raise almost any kind of error on damaged files.
        return reason_of(error)


def decode_photo(
    file: IO[bytes],
    *,
    megapixels: int | None = None,
    reserve: Callable[[int], None] | None = None,
) -> np.ndarray | str:
    """Decodes a photo in which faces are to be found.

    It is turned as its EXIF data says, blended with white where transparent, scaled
    from 16 bits to 8 and converted to RGB. Of several images in a file, such as the
    frames of an animation, it is the first.

    Args:
        file: An image in one of `FORMATS`, at its start.
        megapixels: The most that it may have; None for what a photo may have.
        reserve: Called with the bytes that the photo takes while it is decoded, before
            it is; None for no call.

    Returns:
        Either the photo, uint8 `(height, width, 3)`; or why it cannot be read, in a
        few words.
    """
    content = file.read(PHOTO_FILE_LIMIT + 1)
    if len(content) > PHOTO_FILE_LIMIT:
        return f"larger than {PHOTO_FILE_LIMIT:,} bytes"
    is_jpeg = content.startswith(_JPEG_SIGNATURE)
    if megapixels is None:
        megapixels = JPEG_MEGAPIXEL_LIMIT if is_jpeg else PHOTO_MEGAPIXEL_LIMIT
    try:
        if damage := find_damage(content, megapixels=megapixels):
            return shown(damage)[:100]
        image = _opened(content)
        if reserve is not None:
            reserve(len(content) + _BYTES_A_PIXEL * math.prod(image.size))
        return photo_from_image(_loaded(image, content))
    except UnidentifiedImageError:
        return NO_IMAGE
    except Exception as error:
        # Pillow's decoders raise almost any kind of error on damaged files.
        return reason_of(error)


def photo_from_image(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image to a photo, as `decode_photo` does a file.

    Returns:
        uint8 `(height, width, 3)`, RGB, upright.
    """
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # By the same name, so that one of the two is left.
    image = _turned(image, orientation)
    return _to_rgb(image)


def image_from_array(array: np.ndarray, size: int = IMAGE_SIZE) -> np.ndarray:
    """Converts an image in memory, as `decode_image` does a PNG of the same pixels.

    Args:
        array: uint8, 0 to 255, of any height and width: grayscale `(h, w)` or
            `(h, w, 1)`, RGB `(h, w, 3)` or RGBA `(h, w, 4)`.
        size: Height and width to return, in pixels.

    Returns:
        uint8 `(size, size)`; a copy of grayscale that is of this size already.

    Raises:
        DataError: It has another dtype or shape, no pixels, or too many.
    """
    has_channels = array.ndim == 3 and array.shape[2] in (1, 3, 4)
    if array.dtype != np.uint8 or not (array.ndim == 2 or has_channels):
        is_float = np.issubdtype(array.dtype, np.floating)
        hint = ' For values from 0 to 1 that is (255 * image).astype("uint8").'
        raise DataError(
            "Expected an image of dtype uint8, 0 to 255, and of shape (height, width) "
            "or (height, width, channels) with 1 channel for gray, 3 for RGB or 4 for "
            f"RGBA; found {array.dtype} {array.shape}. Convert it first."
            + (hint if is_float else "")
        )
    if not array.size:
        raise DataError(
            f"Expected an image of at least one pixel, found shape {array.shape}. "
            "Leave it out."
        )
    height, width = array.shape[:2]
    if is_too_large(width, height):
        raise DataError(
            f"Expected an image of at most {MEGAPIXEL_LIMIT} megapixels, found "
            f"{width:,} x {height:,} pixels. Crop or resize it first."
        )
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    return _to_grayscale(Image.fromarray(array), size)


def reason_of(error: Exception) -> str:
    """Returns why an image cannot be read, short enough for a list."""
    system_text = error.strerror if isinstance(error, OSError) else None
    return shown(system_text or str(error) or type(error).__name__)[:100]


def _opened(content: bytes) -> ImageFile.ImageFile:
    """Returns an image in which `find_damage` finds nothing, not yet decoded."""
    if content.startswith(_JPEG_SIGNATURE):
        # `Image.open` warns above 89 megapixels, and refuses twice as many.
        try:
            return JpegImageFile(io.BytesIO(content))
        except SyntaxError as error:
            raise UnidentifiedImageError from error
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _loaded(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """Returns an image decoded, given also the file that it was opened from."""
    is_deep = any(_raw_mode(tile) in _OTHER_ORDER for tile in image.tile)
    image.load()
    if is_deep and _brightest(image) < _DARK:
        return _with_low_bytes(image, content)
    return image


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Returns an image upright, given EXIF's orientation."""
    transpose = _UPRIGHT.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Returns uint8 `(height, width, 3)`; some rows at a time, to save memory."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    is_transparent = image.has_transparency_data
    for box in _bands(image):
        rows = image.crop(box)
        if is_transparent:
            rows = _over_white(rows)
        # Pillow's conversion to the same mode is a copy.
        rows = rows if rows.mode == "RGB" else rows.convert("RGB")
        pixels[box[1] : box[3]] = np.asarray(rows)
    return pixels


def _to_grayscale(image: Image.Image, size: int) -> np.ndarray:
    """Returns uint8 `(size, size)`."""
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = _blend_with_white(image)
    if image.mode != "L":
        image = image.convert("L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size))
    return np.array(image)


def _brightest(image: Image.Image) -> int:
    """Returns the greatest value of the colours, whatever is transparent."""
    return int(np.asarray(image)[..., :3].max())


def _raw_mode(tile: Any) -> str:
    """Returns how the pixels of a part of a file are stored, as Pillow calls it."""
    mode = tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
    return mode if isinstance(mode, str) else ""


def _with_low_bytes(high: Image.Image, content: bytes) -> Image.Image:
    """Returns an image of 16-bit colours scaled by what it holds, given its high bytes.

    Args:
        high: As Pillow reads it.
        content: Its file, a PNG or a TIFF.
    """
    low = Image.open(io.BytesIO(content), formats=FORMATS)
    is_gray = any(_raw_mode(tile) == _GRAY_WITH_ALPHA for tile in low.tile)
    tiles = []
    for tile in low.tile:
        mode = _OTHER_ORDER[_raw_mode(tile)]
        rest = tile.args[1:] if isinstance(tile.args, tuple) else ()
        tiles.append(tile._replace(args=(mode, *rest) if rest else mode))
    low.tile = tiles
    if is_gray:
        pairs = np.asarray(low).astype(np.uint16)
        values = (pairs[..., 0::2] << 8 | pairs[..., 1::2])[..., [0, 0, 0, 1]]
    else:
        values = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
    # Colours alike, so that none changes; what is transparent has values of its own.
    scaled = [_to_8_bits(values[..., :3])]
    if values.shape[2] == 4:
        scaled.append(_to_8_bits(values[..., 3:]))
    return Image.fromarray(np.concatenate(scaled, axis=2))


def _square(box: Box, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Returns a square around a box, as far as the image goes; None for an empty one.

    Its shorter side grows on both ends, so that all of the face stays in.
    """
    side = max(box[2] - box[0], box[3] - box[1])
    if not (box[0] < box[2] and box[1] < box[3] and side < np.inf):
        return None
    x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(width, round(x + side)), min(height, round(y + side))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Returns gray levels of more than 8 bits as uint8, scaled by what they hold.

    Cameras and programs write 8 to 12 bits into numbers of 16, and nothing in the file
    says so. Fractions from 0 to 1 are gray levels too.
    """
    if values.dtype.kind == "f":
        # Else a single infinite pixel would leave the others black.
        values = np.where(np.isfinite(values), values, 0).clip(0)
    greatest = float(values.max())
    if values.dtype.kind == "f":
        values, greatest = (255 * values, 255) if greatest <= 1 else (values, greatest)
    scale = next((2**bits for bits in (8, 10, 12, 16) if greatest < 2**bits), greatest)
    return np.floor_divide(values.clip(0), scale // 256).clip(0, 255).astype(np.uint8)


def _blend_with_white(image: Image.Image) -> Image.Image:
    """Returns a transparent image in gray; some rows at a time, to save memory."""
    gray = Image.new("L", image.size)
    for box in _bands(image):
        gray.paste(_over_white(image.crop(box)).convert("L"), box)
    return gray


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yields the boxes of bands of rows, from the top to the bottom of an image."""
    height = max(1, int(_BAND_MEGAPIXELS * 1_000_000) // image.width)
    for top in range(0, image.height, height):
        yield 0, top, image.width, min(top + height, image.height)


def _over_white(image: Image.Image) -> Image.Image:
    """Returns an image blended with white, RGBA."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
