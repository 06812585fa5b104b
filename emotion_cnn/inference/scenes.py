"""Where a video cuts to another scene: whoever is in it is somebody else."""

import numpy as np

_SIDE, _CELL, _LEVELS = 64, 4, 8
"""Pixels looked at, each way; those of a cell of the pattern; levels of a colour."""

_LEAST_OVERLAP = 0.85
_LEAST_CORRELATION = 0.7
"""Where both are missed it is a cut. Of pairs of 137 photos this calls 89% so (many of
the rest are near-duplicates); of pairs of views of one photo, 0% after a move by a
tenth of the view, 3% by four tenths, 0% after a zoom of 1.2, 1% after light of 1.25.
"""


class Scenes:
    """Tells where frames are of another scene than those before.

    The colours must have changed, and where they are: people who move change neither,
    a camera that moves only the pattern, and light only the colours. Colours are
    compared by their histograms, as Lienhart 1999 does ("Comparison of automatic shot
    boundary detection algorithms"), by the coefficient of Bhattacharyya; patterns by
    the correlation of gray levels. A scene that fades into another is not noticed.
    """

    def __init__(self) -> None:
        """Begins before the first frame."""
        self._colors: np.ndarray | None = None
        self._pattern = np.empty(0)

    def is_cut(self, image: np.ndarray) -> bool:
        """Takes the next frame, and returns whether a scene begins with it.

        Args:
            image: uint8 `(height, width, 3)`, RGB.
        """
        height, width = image.shape[:2]
        steps = (np.arange(_SIDE) + 0.5) / _SIDE
        rows, columns = (steps * height).astype(int), (steps * width).astype(int)
        pixels = image[rows[:, np.newaxis], columns]
        cells = (_SIDE // _CELL, _CELL) * 2
        pattern = pixels.mean(axis=2).reshape(cells).mean(axis=(1, 3)).ravel()
        pattern -= pattern.mean()
        length = np.linalg.norm(pattern)
        if length < 1:
            # One colour all over, as between two scenes, or where a frame is lost.
            return False
        pattern /= length
        red, green, blue = np.moveaxis(pixels.astype(int) * _LEVELS // 256, 2, 0)
        places = (red * _LEVELS + green) * _LEVELS + blue
        colors = np.bincount(places.ravel(), minlength=_LEVELS**3) / places.size
        before, self._colors = self._colors, colors
        overlap = 1.0 if before is None else np.sqrt(before * colors).sum()
        is_cut = bool(
            overlap < _LEAST_OVERLAP and self._pattern @ pattern < _LEAST_CORRELATION
        )
        self._pattern = pattern
        return is_cut
