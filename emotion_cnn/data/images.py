"""Converting one image, from a file or an array, to small grayscale."""

import io
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from emotion_cnn.data.damage import (
    MEGAPIXEL_LIMIT,
    find_damage,
    is_too_large,
)
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown

IMAGE_SIZE = 48
"""Height and width, in pixels, of FER2013's images; the default everywhere."""

IMAGE_FILE_LIMIT = 32 * 2**20
"""Largest image file that is read, in bytes."""

_MEGAPIXELS_AT_ONCE = 1
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
    file: IO[bytes], size: int = IMAGE_SIZE
) -> tuple[np.ndarray, ImageFormat] | str:
    """Decodes an image and converts it to grayscale.

    It is turned as its EXIF data says, blended with white where transparent, and
    scaled from 16 bits to 8; other sizes are cropped to the middle square and
    resized.

    Args:
        file: A JPEG or PNG, at its start.
        size: Height and width to return, in pixels.

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
        image: Image.Image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        original_size, mode = image.size, image.mode
        if image.width * image.height > _MEGAPIXELS_AT_ONCE * 1_000_000:
            # Decodes a JPEG at a fraction of its size, in gray; no effect on a PNG.
            image.draft("L", (8 * size, 8 * size))
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        before = ImageFormat(*original_size, mode, orientation != 1)
        if transpose := _UPRIGHT.get(orientation):
            image = image.transpose(transpose)
        return _to_grayscale(image, size), before
    except UnidentifiedImageError:
        return "not a JPEG or PNG image"
    except Exception as error:
        # Pillow's decoders raise almost any kind of error on damaged files.
        return reason_of(error)


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


def _to_grayscale(image: Image.Image, size: int) -> np.ndarray:
    """Returns uint8 `(size, size)`."""
    if image.mode.startswith("I"):
        # Pillow's own conversion of 16 bits to 8 clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = _blend_with_white(image)
    if image.mode != "L":
        image = image.convert("L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size))
    return np.array(image)


def _blend_with_white(image: Image.Image) -> Image.Image:
    """Returns a transparent image in gray; some rows at a time, to save memory."""
    gray = Image.new("L", image.size)
    height = max(1, int(_MEGAPIXELS_AT_ONCE * 1_000_000) // image.width)
    for top in range(0, image.height, height):
        box = (0, top, image.width, min(top + height, image.height))
        rows = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rows.size, "white")
        gray.paste(Image.alpha_composite(white, rows).convert("L"), box)
    return gray
