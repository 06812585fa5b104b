"""What faces show over the time of a video, as a figure."""

import math
from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, PercentFormatter

from emotion_cnn.inference.analysis import Face
from emotion_cnn.inference.annotation import CLASS_COLORS

_MOST_BINS = 600
_FIRST_BIN = 0.05
_MOST_TRACKS = 8
_MOST_TRACKS_KEPT = 1000
_TICKS = 10
_TICK_SPACINGS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
"""Seconds between the ticks, as clocks are divided, up to half an hour."""


class Timeline:
    """Mean probabilities over time, of all faces and of each track.

    Time is divided into bins, which become wider with the video, and of very many
    tracks the shortest are forgotten, so that memory does not depend on the length of
    the video.

    Attributes:
        frames: How many frames were taken.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Takes the names of the classes."""
        self._classes = tuple(classes)
        self._bin = _FIRST_BIN
        self._everyone = _Sums(len(self._classes))
        self._tracks: dict[int, _Sums] = {}
        self._forgotten = 0
        self.frames = 0
        self._first, self._last = math.inf, 0.0

    def add(self, seconds: float, faces: Sequence[Face]) -> None:
        """Takes the faces of a frame; smoothed probabilities where there are any.

        Args:
            seconds: When the frame is shown.
            faces: Its faces, with `track`.
        """
        self._first = min(self._first, seconds)
        self._last = max(self._last, seconds)
        self.frames += 1
        while seconds >= self._bin * _MOST_BINS:
            self._widen()
        place = int(seconds / self._bin)
        for face in faces:
            sums = self._tracks.setdefault(face.track or 0, _Sums(len(self._classes)))
            sums.add(place, face.decisive)
            self._everyone.add(place, face.decisive)
        if len(self._tracks) > _MOST_TRACKS_KEPT:
            self._forget({face.track or 0 for face in faces})

    def figure(self, source: str) -> Figure:
        """Draws the shares of the classes over time, of all faces and of each track.

        The tracks with the most faces are drawn, in the order in which they begin; the
        first row is of all.

        Args:
            source: What the frames are of, for the title.

        Returns:
            A Matplotlib figure.
        """
        # A bin without a frame would look like one without a face.
        while self._bin < 2 * (self._last - self._first) / max(self.frames, 1):
            self._widen()
        longest = sorted(self._tracks, key=lambda track: -self._tracks[track].faces)
        tracks = sorted(longest[:_MOST_TRACKS])
        rows = [("all faces", self._everyone)]
        if len(self._tracks) > 1:
            rows += [(f"track {track}", self._tracks[track]) for track in tracks]
        figure = Figure(figsize=(10, 1.2 + 1.3 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        end = int(self._last / self._bin) + 1
        begin = int(min(self._first, self._last) / self._bin)
        edges = np.arange(end + 1) * self._bin
        for each, (row, sums) in zip(axes, rows, strict=True):
            shares = sums.shares(end)
            below = np.zeros(end)
            colors = islice(cycle(CLASS_COLORS), len(self._classes))
            for values, label, color in zip(
                shares.T, self._classes, colors, strict=True
            ):
                # Bars of a bin each: nothing is drawn where there is no face.
                each.stairs(
                    below + values,
                    edges,
                    baseline=below,
                    fill=True,
                    color=color,
                    label=label,
                )
                below = below + values
            each.set(ylim=(0, 1), xlim=(edges[begin], edges[-1]), ylabel=row)
            each.yaxis.set_major_formatter(PercentFormatter(xmax=1))
            each.set_yticks([0, 0.5, 1])
            each.spines[["top", "right"]].set_visible(False)
        spacing = _tick_spacing(edges[-1] - edges[begin])
        axes[-1].xaxis.set_major_locator(MultipleLocator(spacing))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(_clock))
        axes[-1].set_xlabel("time (blank: no face)")
        handles, labels = axes[0].get_legend_handles_labels()
        # In the order of the colours, from top to bottom.
        figure.legend(
            handles[::-1], labels[::-1], loc="outside right upper", frameon=False
        )
        count = len(self._tracks) + self._forgotten
        title = f"{source}: mean probabilities"
        if count > len(tracks) and len(rows) > 1:
            title += f"\n(the {len(tracks)} longest of {count:,} tracks)"
        # A file may be called $x$, which would be a formula.
        figure.suptitle(title, parse_math=False)
        return figure

    def _widen(self) -> None:
        self._bin *= 2
        for sums in (self._everyone, *self._tracks.values()):
            sums.halve()

    def _forget(self, present: set[int]) -> None:
        """Forgets the shorter half of the tracks, but none that is present."""
        kept = sorted(
            self._tracks,
            key=lambda track: (track not in present, -self._tracks[track].faces),
        )[: max(_MOST_TRACKS_KEPT // 2, len(present))]
        self._forgotten += len(self._tracks) - len(kept)
        self._tracks = {track: self._tracks[track] for track in kept}


class _Sums:
    """Sums of probabilities, and numbers of faces, in bins of time."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self.faces = 0
        self.bins: dict[int, np.ndarray] = {}  # The last value counts the faces.

    def add(self, place: int, probabilities: np.ndarray) -> None:
        values = np.append(probabilities, 1.0)
        self.bins[place] = self.bins.get(place, 0) + values
        self.faces += 1

    def halve(self) -> None:
        """Joins each two bins to one."""
        bins, self.bins = self.bins, {}
        for place, values in bins.items():
            self.bins[place // 2] = self.bins.get(place // 2, 0) + values

    def shares(self, end: int) -> np.ndarray:
        """Returns float64 `(end, classes)`, means that sum to 1, NaN for no face."""
        shares = np.full((end, self._classes), np.nan)
        for place, values in self.bins.items():
            shares[place] = values[:-1] / values[-1]
        return shares


def _tick_spacing(seconds: float) -> float:
    """Returns how far ticks are apart: whole hours where the video takes many."""
    hours = 3600 * math.ceil(seconds / (3600 * _TICKS))
    return next((each for each in _TICK_SPACINGS if seconds <= each * _TICKS), hours)


def _clock(seconds: float, _: object = None) -> str:
    """Returns a time as a clock shows it, such as 1:02:03."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    clock = f"{minutes:02}:{rest:04.1f}".removesuffix(".0")
    return f"{hours}:{clock}" if hours else clock.removeprefix("0")
