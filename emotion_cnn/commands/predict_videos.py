"""The part of `predict` that is about videos and cameras."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emotion_cnn.commands.predict_job import Job, counted, progress_bar
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown
from emotion_cnn.inference.camera import Camera, open_camera, open_window, why_no_window
from emotion_cnn.inference.predictions import NO_FACE
from emotion_cnn.inference.video import Video, open_video
from emotion_cnn.inference.video_analysis import AnalyzedFrame, analyze_frames
from emotion_cnn.inference.video_saving import saving_video

if TYPE_CHECKING:
    from emotion_cnn.inference.sources import Source


def predict_video(job: Job, source: "Source") -> None:
    """Predicts a video, or what a camera sees until it is ended.

    Args:
        job: The command at work.
        source: The video or camera; if it cannot be read to its end, this is written
            down after what could be.

    Raises:
        DataError: It cannot be read, and the command is `strict`.
    """
    if problem := source.find_problem():
        job.fail(source, problem)
        return
    seen = _Seen()
    try:
        with ExitStack() as stack:
            show = None
            if source.camera is None:
                video: Video | Camera = stack.enter_context(open_video(source.path))
            else:
                video = stack.enter_context(open_camera(source.camera))
                show = stack.enter_context(_live_window(source.name))
            _predict_frames(job, source, video, show, seen)
    except DataError as error:
        seen.problem = str(error)
    except KeyboardInterrupt:
        # A camera has no other end where there is no window.
        if source.camera is None:
            raise
    if seen.frames:
        job.say(f"{shown(source.name)}: {seen}")
    elif seen.problem is None:
        seen.problem = "no frame between `start` and `end`"
    if seen.problem is not None:
        job.fail(source, seen.problem.removesuffix("."))  # As all reasons.


def _predict_frames(
    job: Job,
    source: "Source",
    video: Video | Camera,
    show: Callable[[np.ndarray], bool] | None,
    seen: "_Seen",
) -> None:
    """Predicts frames, writes them down, and counts them and their decisions.

    Args:
        job: The command at work.
        source: What the frames are of.
        video: Where they come from.
        show: Shows a frame, and returns whether to go on; None for no window.
        seen: Where to count, and to say why they end too early.
    """
    settings = job.settings
    frames = video.frames(
        stride=settings.stride, start=settings.start, end=settings.end or None
    )
    analyzed = analyze_frames(
        job.analyzer,
        frames,
        smoothing=settings.smoothing,
        live=isinstance(video, Camera),
    )
    length = settings.end
    if isinstance(video, Video) and video.duration:
        length = min(length or video.duration, video.duration)
    classes = job.results.classes
    with (
        saving_video(
            job.saver, job.folder, source.name, settings.saved, classes
        ) as saver,
        _progress(source.name, length - settings.start) as advance,
    ):
        for frame in _until_a_problem(analyzed, seen):
            drawn = saver.add(frame, draw=show is not None)
            smoothed = [face.smoothed for face in frame.faces]
            job.results.write(
                source.name,
                [face.as_dict() for face in frame.faces],
                frame=frame.number,
                seconds=frame.seconds,
                smoothed=[s.tolist() for s in smoothed if s is not None] or None,
            )
            job.tally.count(frame.faces, is_frame=True)
            seen.frames += 1
            seen.decisions.update(
                "unsure" if face.unsure else face.emotion for face in frame.faces
            )
            advance(frame.seconds - settings.start)
            if show is not None and drawn is not None and not show(drawn):
                break


@dataclass
class _Seen:
    """How many frames there were, what their faces showed, what was wrong."""

    frames: int = 0
    problem: str | None = None
    decisions: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        faces = self.decisions.total()
        text = ", ".join(
            f"{n} {c / faces:.0%}" for n, c in self.decisions.most_common()
        )
        text = f"{counted(faces, 'face')}: {text}" if faces else NO_FACE
        return f"{counted(self.frames, 'frame')}, {text}"


def _until_a_problem(
    frames: Iterator[AnalyzedFrame], seen: _Seen
) -> Iterator[AnalyzedFrame]:
    """Yields frames, and ends where they do: what is saved of them is whole then."""
    try:
        yield from frames
    except DataError as error:
        seen.problem = str(error)


@contextmanager
def _live_window(name: str) -> Iterator[Callable[[np.ndarray], bool] | None]:
    """Yields what shows frames; None, after saying why, where there is no window."""
    if reason := why_no_window():
        print(
            f"No live window: {reason}. Results are written until Ctrl-C.", flush=True
        )
        yield None
        return
    print("A live window opens; q ends it.", flush=True)
    with open_window(f"emotion-cnn, {name}") as window:
        yield window.show


@contextmanager
def _progress(name: str, seconds: float) -> Iterator[Callable[[float], None]]:
    """Shows how far a video is, frames per second, and time left.

    Args:
        name: The video's name.
        seconds: Its length; 0 or less if it is not known.

    Yields:
        A function to call after each frame, with its time.
    """
    with progress_bar(
        desc=shown(name),
        total=seconds if seconds > 0 else None,
        unit="s",
        leave=False,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        if seconds > 0
        else "{desc}: {elapsed}{postfix}",
    ) as bar:
        count = 0

        def advance(at: float) -> None:
            nonlocal count
            count += 1
            rate = count / max(bar.format_dict["elapsed"], 1e-6)
            bar.set_postfix_str(f"{count:,} frames, {rate:.1f}/s", refresh=False)
            bar.update(max(0.0, min(at, bar.total or at) - bar.n))

        yield advance
