"""Drawn faces: a small data set for trying out everything without photographs.

Expressions are described as in the Facial Action Coding System (P. Ekman and
W. V. Friesen, *Facial Action Coding System*, Consulting Psychologists Press, 1978):
by action units, each the contraction of one or a few muscles. `ACTION_UNITS` says
what each unit does to a drawn face, `EMOTION_UNITS` which units show an emotion. The
other fields of a `Face`, such as head shape, hair and pose, are random.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.splits import Split

ACTION_UNITS: dict[str, dict[str, float]] = {
    "AU1 inner brow raiser": {"inner_brow": 0.17, "forehead_lines": 0.4},
    "AU2 outer brow raiser": {
        "inner_brow": 0.04,
        "outer_brow": 0.16,
        "forehead_lines": 0.5,
    },
    "AU4 brow lowerer": {
        "inner_brow": -0.13,
        "outer_brow": -0.01,
        "brow_squeeze": 0.08,
        "frown_lines": 1.0,
    },
    "AU5 upper lid raiser": {"upper_lid": 0.08},
    "AU6 cheek raiser": {"lower_lid": 0.05, "upper_lid": -0.02, "cheek_lines": 0.35},
    "AU7 lid tightener": {"lower_lid": 0.03, "upper_lid": -0.03},
    "AU9 nose wrinkler": {
        "nose_wrinkle": 1.0,
        "upper_lip": 0.06,
        "inner_brow": -0.07,
        "lower_lid": 0.03,
        "upper_lid": -0.03,
        "cheek_lines": 0.5,
    },
    "AU12 lip corner puller": {
        "lip_corner": 0.17,
        "lip_stretch": 0.10,
        "cheek_lines": 0.3,
    },
    "AU15 lip corner depressor": {"lip_corner": -0.15, "lip_stretch": -0.02},
    "AU16 lower lip depressor": {"lower_lip": 0.05},
    "AU20 lip stretcher": {"lip_stretch": 0.13, "lip_corner": -0.05},
    "AU23 lip tightener": {"lip_press": 0.7, "lip_stretch": -0.07},
    "AU25 lips part": {"lower_lip": 0.13},
    "AU26 jaw drop": {
        "jaw_drop": 0.10,
        "upper_lip": 0.11,
        "lower_lip": 0.22,
        "lip_stretch": -0.11,
    },
}
"""What each action unit at full intensity adds to the fields of a `Face`."""

EMOTION_UNITS: dict[str, dict[str, tuple[float, float]]] = {
    "angry": {
        "AU4 brow lowerer": (0.7, 1.2),
        "AU5 upper lid raiser": (0.0, 0.4),
        "AU7 lid tightener": (0.4, 1.0),
        "AU23 lip tightener": (0.4, 1.0),
    },
    "disgust": {
        "AU9 nose wrinkler": (0.6, 1.1),
        "AU15 lip corner depressor": (0.3, 0.8),
        "AU16 lower lip depressor": (0.2, 1.0),
    },
    "fear": {
        "AU1 inner brow raiser": (0.7, 1.1),
        "AU2 outer brow raiser": (0.2, 0.7),
        "AU4 brow lowerer": (0.4, 0.8),
        "AU5 upper lid raiser": (0.6, 1.0),
        "AU7 lid tightener": (0.0, 0.5),
        "AU20 lip stretcher": (0.6, 1.1),
        "AU26 jaw drop": (0.2, 0.6),
    },
    "happy": {
        "AU6 cheek raiser": (0.3, 1.0),
        "AU12 lip corner puller": (0.6, 1.1),
        "AU25 lips part": (-0.6, 1.2),
    },
    "neutral": {},
    "sad": {
        "AU1 inner brow raiser": (0.7, 1.1),
        "AU4 brow lowerer": (0.3, 0.7),
        "AU15 lip corner depressor": (0.5, 1.0),
    },
    "surprise": {
        "AU1 inner brow raiser": (0.6, 1.0),
        "AU2 outer brow raiser": (0.6, 1.0),
        "AU5 upper lid raiser": (0.4, 1.0),
        "AU26 jaw drop": (0.5, 1.1),
    },
}
"""Lowest and highest intensity of the units of an emotion; below 0 means absent."""

# Real faces show traces of other units too.
_STRAY_UNITS = 2
_STRAY_INTENSITY = 0.25


def _between(low: float, high: float) -> float:
    """Declares a field of `Face` that differs between people and images."""
    return dataclasses.field(default=(low + high) / 2, metadata={"range": (low, high)})


@dataclasses.dataclass(frozen=True)
class Face:
    """Everything that a drawn face depends on; by default, the average neutral face.

    Lengths are in half image widths, with the bridge of the nose near (0, 0)
    and y downwards; left and right are the viewer's. Tones are gray levels, 0 to
    255. A half width is measured from the middle to either side.
    """

    head_width: float = _between(0.66, 0.82)  # a half width
    head_height: float = _between(0.90, 1.04)  # a half height
    jaw_taper: float = _between(0.05, 0.30)  # how much narrower the jaw is, 0 to 1
    skin: float = _between(115, 225)
    background: float = _between(15, 235)
    clothes: float = _between(20, 220)

    hair: float = _between(10, 150)  # the tone of hair and brows
    hairline: float = _between(-0.86, -0.62)  # the y at which the hair begins
    hair_length: float = _between(-0.6, 1.0)  # beside the face; below 0 is short
    fringe: float = _between(-3.0, 1.0)  # how low it hangs over a brow; above 0 only
    beard: float = _between(-5.0, 1.0)  # how dark it is; above 0 only

    brow_y: float = _between(-0.40, -0.34)
    brow_thickness: float = _between(0.03, 0.075)
    eye_distance: float = _between(0.30, 0.36)  # from the middle of the face
    eye_width: float = _between(0.13, 0.175)  # a half width
    eye_opening: float = _between(0.055, 0.08)  # from the middle to each lid
    iris: float = _between(20, 90)
    gaze: float = _between(-0.035, 0.035)  # of the irises, to the right
    nose_length: float = _between(0.28, 0.36)
    nose_width: float = _between(0.10, 0.15)  # a half width
    mouth_y: float = _between(0.46, 0.54)
    mouth_width: float = _between(0.24, 0.31)  # a half width
    lip_thickness: float = _between(0.035, 0.065)
    asymmetry: float = _between(-0.02, 0.02)  # brow and lip are higher on the right

    yaw: float = _between(-0.14, 0.14)  # how far the nose is turned to the right
    roll: float = _between(-0.17, 0.17)  # in radians
    size: float = _between(0.98, 1.18)
    shift_x: float = _between(-0.07, 0.07)
    shift_y: float = _between(-0.07, 0.07)
    glasses: float = _between(-7.0, 1.0)  # worn if above 0
    hand: float = _between(-14.0, 1.0)  # covers a part of the cheek if above 0

    # The expression. Lines and wrinkles have a strength, from 0 to 1.
    inner_brow: float = 0.0  # raise of the inner ends
    outer_brow: float = 0.0  # raise of the outer ends
    brow_squeeze: float = 0.0  # how much the brows are drawn together
    frown_lines: float = 0.0  # upright, between the brows
    forehead_lines: float = 0.0  # level, above the brows
    upper_lid: float = 0.0  # raise
    lower_lid: float = 0.0  # raise
    cheek_lines: float = 0.0  # under the eyes and beside the nose
    nose_wrinkle: float = 0.0
    upper_lip: float = 0.0  # raise of its middle
    lower_lip: float = 0.0  # drop of its middle
    lip_corner: float = 0.0  # raise
    lip_stretch: float = 0.0  # of either half of the mouth
    lip_press: float = 0.0  # share of the lips that is rolled in
    jaw_drop: float = 0.0


def sample_train() -> Split:
    """Draws the built-in train: 250 images of each emotion, always the same."""
    return _sample_split("train", 250, seed=0)


def sample_test() -> Split:
    """Draws the built-in test: 60 images of each emotion, always the same."""
    return _sample_split("test", 60, seed=1)


def _sample_split(part: str, count_per_emotion: int, seed: int) -> Split:
    images, labels = draw_faces(count_per_emotion, seed)
    names = (
        f"{part}/{EMOTIONS[label]}/drawn_{place:04d}.png"
        for place, label in enumerate(labels)
    )
    return Split(images, labels, tuple(names))


def draw_faces(
    count_per_emotion: int, seed: int | Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a balanced set of faces, the same for the same seed.

    An image depends only on the seed, its emotion and its place among the
    images of that emotion: a larger set begins with the smaller one.

    Args:
        count_per_emotion: Number of images of each emotion.
        seed: One or more integers from 0, as `numpy.random.SeedSequence` takes
            them: 1 and (1, 0) are the same seed there.

    Returns:
        The images, uint8 of shape (7 * count_per_emotion, 48, 48, 1), 0 to 255,
        and their labels, int64 of shape (7 * count_per_emotion,): positions in
        `EMOTIONS`, all images of one emotion after another.
    """
    labels = np.repeat(np.arange(len(EMOTIONS), dtype=np.int64), count_per_emotion)
    images = np.empty((len(labels), IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
    for position, label in enumerate(labels):
        place = (int(label), position % count_per_emotion)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))
        face = random_face(EMOTIONS[label], rng)
        images[position, :, :, 0] = _photograph(draw_face(face), rng)
    return images, labels


def random_face(emotion: str, rng: np.random.Generator) -> Face:
    """Returns a random person who shows an emotion.

    Args:
        emotion: One of `EMOTIONS`.
        rng: Chooses the person, the pose and the intensities.

    Returns:
        A face with the units of the emotion, and traces of a few others.
    """
    fields = {
        field.name: rng.uniform(*field.metadata["range"])
        for field in dataclasses.fields(Face)
        if field.metadata
    }
    stray_units = rng.choice(list(ACTION_UNITS), _STRAY_UNITS, replace=False)
    intensities = {str(unit): rng.uniform(0, _STRAY_INTENSITY) for unit in stray_units}
    for unit, (weakest, strongest) in EMOTION_UNITS[emotion].items():
        intensities[unit] = max(0.0, rng.uniform(weakest, strongest))
    for unit, intensity in intensities.items():
        for field, effect in ACTION_UNITS[unit].items():
            fields[field] = fields.get(field, 0.0) + intensity * effect
    return Face(**fields)


_OVERSAMPLING = 4
_CANVAS = IMAGE_SIZE * _OVERSAMPLING
_HALF_CANVAS = _CANVAS / 2
_EYE_LEVEL = -0.12
_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_COSINES, _SINES = np.cos(_ANGLES), np.sin(_ANGLES)
_TIMES = np.linspace(0, 1, 9)

# Lagrange's polynomials: the parabola through three points, at nine times.
_THROUGH_THREE = np.stack(
    [
        (2 * _TIMES - 1) * (_TIMES - 1),
        4 * _TIMES * (1 - _TIMES),
        _TIMES * (2 * _TIMES - 1),
    ],
    axis=1,
)
_Point = tuple[float, float]


def _arc(start: _Point, middle: _Point, end: _Point) -> np.ndarray:
    """Returns points, float64 of shape (9, 2), of the parabola through three."""
    return _THROUGH_THREE @ np.array([start, middle, end])


def _oval(centre: _Point, half_width: float, up: float, down: float) -> np.ndarray:
    """Returns points, float64 of shape (28, 2), around an egg.

    Args:
        centre: Where it is widest.
        half_width: From the centre to either side.
        up: From the centre to the top.
        down: From the centre to the bottom.
    """
    points = np.empty((len(_ANGLES), 2))
    points[:, 0] = centre[0] + half_width * _COSINES
    points[:, 1] = centre[1] + np.where(_SINES < 0, up, down) * _SINES
    return points


class _Pen:
    """Draws in the coordinates of a face, on an image of it in its pose."""

    def __init__(self, face: Face) -> None:
        self.image = Image.new("L", (_CANVAS, _CANVAS), round(face.background))
        self._draw = ImageDraw.Draw(self.image)
        self._half_head = np.array([face.head_width, face.head_height])
        self._yaw = face.yaw
        cosine, sine = np.cos(face.roll), np.sin(face.roll)
        scale = face.size * _HALF_CANVAS
        self._rotate = scale * np.array([[cosine, sine], [-sine, cosine]])
        self._shift = _HALF_CANVAS * (1 + np.array([face.shift_x, face.shift_y]))

    def _place(self, points: np.ndarray) -> list[float]:
        """Returns the pixels x0, y0, x1, y1, ... of points in the face."""
        # When a ball rotates, the point nearest to the viewer moves most.
        nearness = 1 - (points / self._half_head) ** 2 @ np.ones(2)
        turned = points.copy()
        turned[:, 0] += self._yaw * np.maximum(0, nearness)
        return (turned @ self._rotate + self._shift).ravel().tolist()

    def fill(self, points: np.ndarray, tone: float) -> None:
        """Fills the polygon of the points, float64 of shape (n, 2)."""
        self._draw.polygon(self._place(points), fill=round(tone))

    def stroke(self, points: np.ndarray, tone: float, width: float = 0.03) -> None:
        """Draws a line through the points, float64 of shape (n, 2)."""
        pixels = max(1, round(width * _HALF_CANVAS))
        self._draw.line(self._place(points), fill=round(tone), width=pixels)

    def crease(self, points: np.ndarray, skin: float, strength: float) -> None:
        """Draws a wrinkle that is the darker the stronger it is, from 0."""
        if strength > 0.1:
            self.stroke(points, skin * (1 - 0.45 * min(strength, 1.0)))


def draw_face(face: Face) -> Image.Image:
    """Draws a face without lighting, blur and noise.

    Args:
        face: What to draw.

    Returns:
        An image of mode L, four times as wide and high as `IMAGE_SIZE`.
    """
    pen = _Pen(face)
    _draw_head(pen, face)
    _draw_nose(pen, face)
    _draw_mouth(pen, face)
    for side in (-1, 1):
        _draw_eye(pen, face, side)
        _draw_brow(pen, face, side)
        _draw_cheek(pen, face, side)
    _draw_forehead(pen, face)
    if face.glasses > 0:
        _draw_glasses(pen, face)
    if face.fringe > 0:
        _draw_fringe(pen, face)
    if face.hand > 0:
        _draw_hand(pen, face)
    return pen.image


def _head_outline(face: Face) -> np.ndarray:
    outline = _oval((0, 0), 1, face.head_height, face.head_height + face.jaw_drop)
    below = np.maximum(0, _SINES)
    outline[:, 0] *= face.head_width * (1 - face.jaw_taper * below**2)
    return outline


def _draw_head(pen: _Pen, face: Face) -> None:
    width, height = face.head_width, face.head_height
    hair_end = height * max(0.0, face.hair_length)
    pen.fill(_oval((0, -0.12), width + 0.1, height + 0.02, hair_end + 0.2), face.hair)
    pen.fill(_oval((0, 1.5), 1.2, 0.55, 0.5), face.clothes)
    pen.fill(_oval((0, 0.8), 0.6 * width, 0.4, 0.4), 0.72 * face.skin)
    for side in (-1, 1):
        pen.fill(_oval((side * width, 0), 0.09, 0.16, 0.16), 0.82 * face.skin)
    outline = _head_outline(face)
    # Nested outlines shade the head towards its edge, as light from the front does.
    for inset, light in ((1.0, 0.84), (0.94, 0.92), (0.86, 1.0)):
        pen.fill(outline * inset, light * face.skin)
    if face.beard > 0:
        jaw = outline[_SINES > 0.3]
        moustache = _arc(jaw[-1], (0, face.mouth_y - 0.16), jaw[0])
        beard = np.concatenate([jaw, moustache])
        pen.fill(beard, (1 - 0.5 * face.beard) * face.skin)
    scalp = outline[_SINES < -0.45] * 1.03
    hairline = _arc(scalp[-1], (0, face.hairline), scalp[0])
    pen.fill(np.concatenate([scalp, hairline]), face.hair)


def _draw_nose(pen: _Pen, face: Face) -> None:
    tip = _EYE_LEVEL + face.nose_length - 0.04 * face.nose_wrinkle
    half = face.nose_width * (1 + 0.2 * face.nose_wrinkle)
    pen.stroke(_arc((0.06, -0.1), (0.07, tip / 2), (half, tip)), 0.82 * face.skin)
    pen.fill(_oval((0, tip), half, 0.05, 0.06), 0.86 * face.skin)
    for side in (-1, 1):
        x = side * half
        pen.fill(_oval((0.55 * x, tip + 0.03), 0.04, 0.02, 0.02), 0.3 * face.skin)
        wing = _arc((x, tip - 0.06), (1.15 * x, tip), (x, tip + 0.05))
        pen.stroke(wing, 0.7 * face.skin)
        for y in (-0.1, -0.02, 0.06):
            wrinkle = _arc((side * 0.02, y), (side * 0.07, y - 0.03), (side * 0.13, y))
            pen.crease(wrinkle, face.skin, face.nose_wrinkle)


def _lips(face: Face, share: float, up: float, down: float) -> np.ndarray:
    """Returns points around a share of the mouth's width, bent like its lips."""
    # A smile does not only lift the corners of the mouth, it also lowers its middle.
    middle = (0.0, face.mouth_y + 0.3 * face.lip_corner)
    points = _oval(middle, share * (face.mouth_width + face.lip_stretch), up, down)
    outward = share * _COSINES
    points[:, 1] -= 1.3 * face.lip_corner * outward**2 + face.asymmetry * outward
    return points


def _draw_mouth(pen: _Pen, face: Face) -> None:
    up, down = face.upper_lip, face.lower_lip
    lip = face.lip_thickness * (1 - face.lip_press)
    pen.fill(_lips(face, 1.1, up + lip, down + 1.3 * lip), 0.66 * face.skin)
    pen.fill(_lips(face, 1.0, up + 0.012, down + 0.012), 0.2 * face.skin)
    if up + down > 0.06:
        bite = min(down, 0.08 - up) - 0.01
        pen.fill(_lips(face, 0.85, up - 0.005, bite), 235)
    y = face.mouth_y + down + 0.14
    pen.crease(_arc((-0.1, y), (0, y - 0.02), (0.1, y)), face.skin, 0.5)


def _draw_eye(pen: _Pen, face: Face, side: int) -> None:
    x, y = side * face.eye_distance, _EYE_LEVEL
    up = max(0.015, face.eye_opening + face.upper_lid)
    down = max(0.01, face.eye_opening - face.lower_lid)
    pen.fill(_oval((x, y), face.eye_width, up, down), 240)
    for radius, tone in ((0.075, face.iris), (0.03, 5)):
        disc = _oval((x + face.gaze, y), radius, min(up, radius), min(down, radius))
        pen.fill(disc, tone)
    half = face.eye_width + 0.02
    upper_lid = _arc((x - half, y), (x, y - up), (x + half, y))
    lower_lid = _arc((x - half, y), (x, y + down), (x + half, y))
    pen.stroke(upper_lid, 0.25 * face.skin, width=0.04)
    pen.stroke(lower_lid, 0.6 * face.skin)


def _draw_brow(pen: _Pen, face: Face, side: int) -> None:
    inner_x = side * (face.eye_distance - 0.19 - face.brow_squeeze)
    outer_x = side * (face.eye_distance + 0.2)
    level = face.brow_y - side * face.asymmetry
    inner_y, outer_y = level - face.inner_brow, level + 0.03 - face.outer_brow
    peak = ((inner_x + outer_x) / 2, (inner_y + outer_y) / 2 - 0.04)
    upper = _arc((inner_x, inner_y), peak, (outer_x, outer_y))
    lower = upper.copy()
    lower[:, 1] += face.brow_thickness * np.linspace(1.2, 0.5, len(upper))
    tone = min(face.hair, 0.5 * face.skin)
    pen.fill(np.concatenate([upper, lower[::-1]]), tone)


def _draw_cheek(pen: _Pen, face: Face, side: int) -> None:
    nose = (side * (face.nose_width + 0.04), _EYE_LEVEL + face.nose_length)
    x = side * (face.mouth_width + face.lip_stretch + 0.07)
    mouth = (x, face.mouth_y - face.lip_corner)
    fold = _arc(nose, (0.98 * x, (nose[1] + mouth[1]) / 2 - 0.03), mouth)
    pen.crease(fold, face.skin, face.cheek_lines)
    x, y = side * face.eye_distance, 0.04
    bag = _arc((x - 0.13, y), (x, y + 0.05), (x + 0.13, y))
    pen.crease(bag, face.skin, 0.7 * face.cheek_lines)


def _draw_forehead(pen: _Pen, face: Face) -> None:
    for side in (-1, 1):
        x = side * 0.05
        furrow = _arc((x, -0.42), (0.7 * x, -0.35), (x, -0.28))
        pen.crease(furrow, face.skin, face.frown_lines)
    raised = face.brow_y - max(face.inner_brow, face.outer_brow)
    for y in (raised - 0.07, raised - 0.14):
        if y > face.hairline + 0.05:
            wrinkle = _arc((-0.3, y), (0, y - 0.02), (0.3, y))
            pen.crease(wrinkle, face.skin, 0.7 * face.forehead_lines)


def _draw_glasses(pen: _Pen, face: Face) -> None:
    rim = 0.15 * face.skin
    inner, outer = face.eye_distance - 0.24, face.eye_distance + 0.24
    pen.stroke(_arc((-inner, -0.1), (0, -0.13), (inner, -0.1)), rim)
    for side in (-1, 1):
        lens = _oval((side * face.eye_distance, -0.09), 0.24, 0.2, 0.22)
        pen.stroke(np.concatenate([lens, lens[:1]]), rim)
        temple = np.array([(side * outer, -0.1), (side * face.head_width, -0.14)])
        pen.stroke(temple, rim)


def _draw_fringe(pen: _Pen, face: Face) -> None:
    side = 1 if face.asymmetry > 0 else -1
    tip = (side * face.head_width * 0.9, -0.3 + 0.25 * face.fringe)
    parting = (-side * 0.2, -face.head_height)
    crown = (side * 0.8 * face.head_width, -0.75 * face.head_height)
    inner_edge = _arc(parting, (side * 0.3, -0.5), tip)
    outer_edge = _arc(tip, (side * 1.05 * face.head_width, -0.4), crown)
    pen.fill(np.concatenate([inner_edge, outer_edge]), face.hair)


def _draw_hand(pen: _Pen, face: Face) -> None:
    side = 1 if face.gaze > 0 else -1
    for finger in range(4):
        centre = (side * (0.62 - 0.05 * finger), 0.35 + 0.15 * finger)
        pen.fill(_oval(centre, 0.33, 0.09, 0.09), 0.7 * face.skin)
        pen.fill(_oval(centre, 0.31, 0.07, 0.07), 0.95 * face.skin)


def _photograph(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Returns uint8 of shape (48, 48): with lighting, blur and noise."""
    small = image.reduce(_OVERSAMPLING)
    small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    along = np.linspace(-1, 1, IMAGE_SIZE)
    light_x, light_y = rng.uniform(-0.3, 0.3, size=2)
    light = 1 + light_x * along[np.newaxis, :] + light_y * along[:, np.newaxis]
    exposure, contrast = rng.uniform(105, 150), rng.uniform(0.75, 1.05)
    noise = rng.normal(0, rng.uniform(1, 9), size=(IMAGE_SIZE, IMAGE_SIZE))
    seen = ((np.asarray(small, float) - 128) * contrast + exposure) * light + noise
    return seen.clip(0, 255).astype(np.uint8)
