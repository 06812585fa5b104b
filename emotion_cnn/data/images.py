"""One image: decoded, checked and converted to 48x48 grayscale."""

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from emotion_cnn.files import shown

IMAGE_SIZE = 48
"""Height and width, in pixels, of every image the tool works on."""

# A decoded image takes 4 bytes a pixel, and several are decoded at a time.
_MEGAPIXEL_LIMIT = 32
_MEGAPIXELS_AT_ONCE = 1
OTHER_SIZE = "of another size"
OTHER_MODE = "of another mode"
TURNED = "turned upright as their EXIF data says"


@dataclass(frozen=True)
class ImageFormat:
    """What an image was before it became 48x48 grayscale.

    Attributes:
        width: In pixels.
        height: In pixels.
        mode: As Pillow calls it, such as `RGB`.
        turned: Whether its EXIF data say to turn or flip it.
    """

    width: int
    height: int
    mode: str
    turned: bool

    @property
    def changes(self) -> tuple[str, ...]:
        """The kinds of conversion it needs; none for 48x48 grayscale."""
        needed = {
            OTHER_SIZE: (self.width, self.height) != (IMAGE_SIZE, IMAGE_SIZE),
            OTHER_MODE: self.mode != "L",
            TURNED: self.turned,
        }
        return tuple(kind for kind, is_needed in needed.items() if is_needed)


def decode_image(file: BinaryIO) -> tuple[np.ndarray, ImageFormat] | str:
    """Returns an image and what it was before, or why it cannot be read.

    Args:
        file: A JPEG or PNG, seekable and at its start.

    Returns:
        Either uint8 `(48, 48)` and the format of the file, or a short reason.
    """
    too_large = f"larger than {_MEGAPIXEL_LIMIT} megapixels"
    try:
        if not file.read(1):
            return "empty file"
        file.seek(0)
        image = Image.open(file, formats=("JPEG", "PNG"))
        if image.width * image.height > _MEGAPIXEL_LIMIT * 1_000_000:
            return too_large
        if image.format == "PNG":
            # Loading a PNG does not check its chunks, and verifying uses it up.
            image.verify()
            file.seek(0)
            image = Image.open(file, formats=("JPEG", "PNG"))
        size, mode = image.size, image.mode
        if image.width * image.height > _MEGAPIXELS_AT_ONCE * 1_000_000:
            # A JPEG comes out small and gray at once; others ignore it.
            image.draft("L", (8 * IMAGE_SIZE, 8 * IMAGE_SIZE))
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        before = ImageFormat(*size, mode, orientation != 1)
        return _to_grayscale(image), before
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return too_large
    except UnidentifiedImageError:
        return "not a JPEG or PNG image"
    except Exception as error:
        # Pillow's decoders raise almost any kind of error on damaged files.
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Returns why an image cannot be read, short enough for a list."""
    system_text = error.strerror if isinstance(error, OSError) else None
    return shown(system_text or str(error) or type(error).__name__)[:100]


def _to_grayscale(image: Image.Image) -> np.ndarray:
    """Returns uint8 `(48, 48)`."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        # Pillow's own conversion of 16 bits to 8 clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = _laid_on_white(image)
    if image.mode != "L":
        image = image.convert("L")
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        image = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE))
    return np.asarray(image)


def _laid_on_white(image: Image.Image) -> Image.Image:
    """Returns a transparent image in gray; some rows at a time, to save memory."""
    gray = Image.new("L", image.size)
    height = max(1, int(_MEGAPIXELS_AT_ONCE * 1_000_000) // image.width)
    for top in range(0, image.height, height):
        box = (0, top, image.width, min(top + height, image.height))
        rows = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rows.size, "white")
        gray.paste(Image.alpha_composite(white, rows).convert("L"), box)
    return gray
