"""What is drawn of predictions: photos with their faces marked, and contact sheets.

A face is a card: what the network saw, an explanation if there is one, and a bar for
the probability of each class. Cards stand beside a photo or below it, so that they
cover nothing and can be read whatever its size.
"""

import functools
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion_cnn.files import replacing, shown
from emotion_cnn.inference.analysis import Face
from emotion_cnn.inference.predictions import NO_FACE

_LONGEST, _SHORTEST_LONG_SIDE = 4096, 640
"""The long side of an annotated photo, in pixels, is in this range."""

_SCALE_1_SIDE, _MOST_SCALE = 700, 3.0
_MOST_STRIPS = 3
_PAGE = re.compile(r"contact-sheet-([0-9]{3})\.png")
_BARS_SHOWN = 8
_FACES_DESCRIBED = 3

# All in pixels at scale 1.
_PADDING, _TITLE, _LINE = 8, 22, 18
_TITLE_FONT, _FONT = 15, 12
_NAME_WIDTH, _BAR_WIDTH, _PERCENT_WIDTH = 66, 92, 40

_BACKGROUND, _GROOVE, _TEXT, _FAINT = "#1e1e1e", "#3c3c3c", "#ffffff", "#b4b4b4"
_UNSURE = "#ffffff"
# Wong, "Points of view: color blindness", Nature Methods 8, 2011, in an order that
# suits FER2013's classes, on dark.
CLASS_COLORS = (
    *("#d55e00", "#009e73", "#cc79a7", "#f0e442"),
    *("#bebebe", "#56b4e9", "#e69f00"),
)
"""The colours of the classes in their order, in annotated photos and timelines."""


def annotate(
    photo: np.ndarray,
    faces: Sequence[Face],
    *,
    maps: Sequence[np.ndarray] | None = None,
    strips: int = _MOST_STRIPS,
) -> Image.Image:
    """Draws the faces of a photo, and a card for each at its side.

    Args:
        photo: uint8 RGB `(height, width, 3)`. Very small ones are enlarged and very
            large ones reduced.
        faces: Its faces, with boxes in its pixels.
        maps: uint8 RGB `(size, size, 3)`, an explanation of each face.
        strips: How many columns of cards, or rows of a wide photo, there are at most.
            With 1 the result's size depends on the photo's alone, as in a video: there
            is room for a card where there is no face, too.

    Returns:
        An RGB image of even height and width.
    """
    height, width = photo.shape[:2]
    longest = max(height, width)
    zoom = min(max(longest, _SHORTEST_LONG_SIDE), _LONGEST) / longest
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    image = Image.fromarray(photo)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    scale = min(max(min(size) / _SCALE_1_SIDE, 1), _MOST_SCALE)
    for number, face in enumerate(faces, start=1):
        if face.box is not None:
            _draw_box(image, face, number, len(faces), zoom, scale)
    if not faces and strips > 1:
        return _on_canvas(image, *image.size)
    card_width, card_height = _card_size(scale, is_explained=maps is not None)
    last_line = round(_TITLE * scale)
    # Cards stand in strips: columns at the right, or rows below a wide photo.
    is_wide = image.width > 2 * image.height
    room = image.height - last_line
    in_strip = max(1, image.width // card_width if is_wide else room // card_height)
    strips = min(strips, max(1, math.ceil(len(faces) / in_strip)))
    cards = [
        _card(face, scale, number, relevance=None if maps is None else maps[number - 1])
        for number, face in enumerate(faces[: strips * in_strip], start=1)
    ] or [_note(NO_FACE, scale)]
    if is_wide:
        width = max(image.width, card_width)
        height = image.height + strips * card_height + last_line
    else:
        width = image.width + strips * card_width
        height = max(image.height, card_height + last_line)
    canvas = _on_canvas(image, width, height)
    for place, card in enumerate(cards):
        strip, step = divmod(place, in_strip)
        corner = (
            (step * card_width, image.height + strip * card_height)
            if is_wide
            else (image.width + strip * card_width, step * card_height)
        )
        canvas.paste(card, corner)
    if (rest := len(faces) - len(cards)) > 0:
        x = round(_PADDING * scale) + (0 if is_wide else image.width)
        note = f"and {rest:,} more {'face' if rest == 1 else 'faces'}"
        font = _font(round(_TITLE_FONT * scale))
        draw = ImageDraw.Draw(canvas)
        draw.text((x, height - last_line), note, fill=_TEXT, font=font)
    return canvas


def _on_canvas(image: Image.Image, width: int, height: int) -> Image.Image:
    """Returns an image at the left upper corner of a larger one, of even sides."""
    # As video codecs want them.
    canvas = Image.new("RGB", (width + width % 2, height + height % 2), _BACKGROUND)
    canvas.paste(image, (0, 0))
    return canvas


class ContactSheet:
    """PNG pages of the cards of many faces, written as they fill.

    A line on a page says how many sources without a face came between.

    Attributes:
        left_out: How many faces were not drawn, as there were too many.
    """

    COLUMNS, ROWS, PAGES = 4, 12, 100

    def __init__(self, folder: Path) -> None:
        """Takes the folder for the pages; pages that are there stay."""
        self._folder = folder
        pages = (_PAGE.fullmatch(path.name) for path in folder.iterdir())
        self._page = max((int(match[1]) for match in pages if match), default=0)
        self._cards: list[Image.Image] = []
        self.left_out = 0
        self._without_face = 0

    def add(
        self, face: Face, caption: str, relevance: np.ndarray | None = None
    ) -> None:
        """Adds a face.

        Args:
            face: The face.
            caption: Where it is from.
            relevance: uint8 RGB `(size, size, 3)`, an explanation of it.

        Raises:
            OSError: A page cannot be written.
        """
        if self._page >= self.PAGES:
            self.left_out += 1
            return
        self._cards.append(_card(face, 1, caption=caption, relevance=relevance))
        if len(self._cards) == self.COLUMNS * self.ROWS:
            self.close()

    def add_without_face(self) -> None:
        """Counts a source in which there is no face."""
        self._without_face += 1

    def close(self) -> None:
        """Writes the last page, if there is something on it.

        Raises:
            OSError: It cannot be written.
        """
        cards, self._cards = self._cards, []
        without_face, self._without_face = self._without_face, 0
        if self._page >= self.PAGES or not (cards or without_face):
            return
        # An explanation makes a card wider.
        width = max((card.width for card in cards), default=_card_size(1)[0])
        height = max((card.height for card in cards), default=0)
        columns = max(1, min(self.COLUMNS, len(cards)))
        rows = math.ceil(len(cards) / columns)
        line = round(1.5 * _TITLE) if without_face else 0
        size = (columns * width, rows * height + line)
        page = Image.new("RGB", size, _BACKGROUND)
        for place, card in enumerate(cards):
            row, column = divmod(place, columns)
            page.paste(card, (column * width, row * height))
        if without_face:
            sources = "source" if without_face == 1 else "sources"
            text = f"Not shown: {without_face:,} {sources} without a face"
            place_of_text = (_PADDING, rows * height + line / 2)
            font = _font(_TITLE_FONT)
            draw = ImageDraw.Draw(page)
            draw.text(place_of_text, text, fill=_FAINT, font=font, anchor="lm")
        self._page += 1
        path = self._folder / f"contact-sheet-{self._page:03}.png"
        with replacing(path) as temporary:
            page.save(temporary, "PNG")


def _draw_box(
    image: Image.Image, face: Face, number: int, count: int, zoom: float, scale: float
) -> None:
    """Draws where a face is, and its decision where there is room for it."""
    if face.box is None:
        return
    draw = ImageDraw.Draw(image)
    color, line = _color(face), max(2, round(2 * scale))
    left, top, right, bottom = (round(zoom * edge) for edge in face.box)
    # A detector's box may reach beyond the photo, or be a line.
    left, top = min(max(left, 0), image.width - 1), min(max(top, 0), image.height - 1)
    right = min(max(right, left + 1), image.width - 1)
    bottom = min(max(bottom, top + 1), image.height - 1)
    left, top = min(left, right), min(top, bottom)
    draw.rectangle((left, top, right, bottom), outline="#000000", width=line + 2)
    inner = (left + 1, top + 1, max(left + 1, right - 1), max(top + 1, bottom - 1))
    draw.rectangle(inner, outline=color, width=line)
    font = _font(round(_TITLE_FONT * scale))
    label = describe(face)
    if count > 1 or face.track is not None:
        # The card of this number has the rest: with the percentage where there is
        # room, labels would differ in a photo, and flicker in a video.
        number = number if face.track is None else face.track
        label = f"{number}: {'unsure' if face.unsure else face.emotion}"
        if font.getlength(label) > 1.2 * (right - left):
            label = str(number)
            font = _font(round(min(_TITLE_FONT * scale, max(9, 0.4 * (right - left)))))
    width = round(font.getlength(label) + font.size / 2)
    height = round(1.5 * font.size)
    x = max(0, min(left, image.width - width))
    y = top - height if top >= height else min(top, max(0, image.height - height))
    draw.rectangle((x, y, x + width, y + height), fill=color)
    middle = (x + width / 2, y + height / 2)
    draw.text(middle, label, fill="#000000", font=font, anchor="mm")


def _card(
    face: Face,
    scale: float,
    number: int | None = None,
    *,
    caption: str | None = None,
    relevance: np.ndarray | None = None,
) -> Image.Image:
    """Draws a face, its decision and its probabilities."""
    size = _card_size(
        scale, has_caption=caption is not None, is_explained=relevance is not None
    )
    card = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(card)
    padding, line = round(_PADDING * scale), round(_LINE * scale)
    title_font, font = _font(round(_TITLE_FONT * scale)), _font(round(_FONT * scale))
    inner = size[0] - 2 * padding
    title = describe(face)
    if face.track is not None:
        title = f"track {face.track}: {title}"
    elif number is not None:
        title = f"{number}: {title}"
    y = padding
    _text(draw, (padding, y), title, title_font, _color(face), inner)
    y += round(_TITLE * scale)
    if caption is not None:
        _text(draw, (padding, y), shown(caption), font, _FAINT, inner)
        y += line
    x, side = padding, _BARS_SHOWN * line
    for pixels in (face.image, relevance):
        if pixels is not None:
            view = Image.fromarray(pixels).convert("RGB")
            card.paste(view.resize((side, side)), (x, y))
            x += side + padding
    places: Sequence[int] = range(len(face.classes))
    if len(places) > _BARS_SHOWN:
        places = np.argsort(-face.decisive, kind="stable")[:_BARS_SHOWN].tolist()
    name_width, bar_width = round(_NAME_WIDTH * scale), round(_BAR_WIDTH * scale)
    for place in places:
        share = float(face.decisive[place])
        center = y + line / 2
        name, room = face.classes[place], name_width - padding // 2
        _text(draw, (x, center), name, font, _TEXT, room, anchor="lm")
        start, top, end = x + name_width, y + line // 6, y + line - line // 6
        draw.rectangle((start, top, start + bar_width, end), fill=_GROOVE)
        if (length := round(share * bar_width)) > 0:
            color = CLASS_COLORS[place % len(CLASS_COLORS)]
            draw.rectangle((start, top, start + length, end), fill=color)
        right = start + bar_width + round(_PERCENT_WIDTH * scale)
        percent = f"{face.percents[place]}%"
        draw.text((right, center), percent, fill=_TEXT, font=font, anchor="rm")
        y += line
    return card


def _note(text: str, scale: float) -> Image.Image:
    """Returns a card with a few words alone."""
    card = Image.new("RGB", _card_size(scale), _BACKGROUND)
    font = _font(round(_TITLE_FONT * scale))
    start = (round(_PADDING * scale), round(_PADDING * scale))
    _text(ImageDraw.Draw(card), start, text, font, _TEXT, card.width - 2 * start[0])
    return card


def _card_size(
    scale: float, *, has_caption: bool = False, is_explained: bool = False
) -> tuple[int, int]:
    padding, line = round(_PADDING * scale), round(_LINE * scale)
    side = _BARS_SHOWN * line
    bars = sum(round(w * scale) for w in (_NAME_WIDTH, _BAR_WIDTH, _PERCENT_WIDTH))
    width = 2 * padding + (1 + is_explained) * (side + padding) + bars
    height = 2 * padding + round(_TITLE * scale) + has_caption * line + side
    return width, height


def describe(face: Face) -> str:
    """Returns what a face shows, in words."""
    decision = f"{face.emotion} {max(face.percents)}%"
    return f"unsure ({decision})" if face.unsure else decision


def describe_all(faces: Sequence[Face]) -> str:
    """Returns what the faces of an image show, in words: of many, how many show what.

    Args:
        faces: The faces; none for an image without one.
    """
    if not faces:
        return NO_FACE
    shows = ", ".join(map(describe, faces))
    if len(faces) > _FACES_DESCRIBED:
        found = Counter("unsure" if face.unsure else face.emotion for face in faces)
        shows = ", ".join(f"{count:,} {name}" for name, count in found.most_common())
    return f"{len(faces):,} {'face' if len(faces) == 1 else 'faces'}: {shows}"


def _color(face: Face) -> str:
    if face.unsure:
        return _UNSURE
    return CLASS_COLORS[face.classes.index(face.emotion) % len(CLASS_COLORS)]


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    color: str,
    width: float,
    anchor: str = "la",
) -> None:
    """Draws one line of text, shortened in its middle to a width."""
    kept = text
    while font.getlength(kept) > width and len(kept) > 3:
        half = (len(kept) - 2) // 2
        kept = f"{kept[:half].rstrip('…')}…{kept[-half:].lstrip('…')}"
    draw.text(place, kept, fill=color, font=font, anchor=anchor)


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which comes with Matplotlib: it has letters of many tongues.

    Matplotlib itself, which takes long to import, is not.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("matplotlib is not installed", name="matplotlib")
    fonts = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size)
