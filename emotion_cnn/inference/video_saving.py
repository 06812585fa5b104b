"""What is saved of a video for people to look at: an annotated copy, a timeline."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from emotion_cnn.files import make_folder, shown, write_figure
from emotion_cnn.inference.analysis import Face
from emotion_cnn.inference.annotation import annotate
from emotion_cnn.inference.saving import Saver, file_name
from emotion_cnn.inference.video_analysis import AnalyzedFrame
from emotion_cnn.inference.video_writing import VideoWriter, write_video

_MOST_TRACKS_WAITING = 1000
_TITLE_LENGTH = 40


@contextmanager
def saving_video(
    saver: Saver,
    folder: Path,
    source: str,
    names: Collection[str],
    classes: Sequence[str],
) -> Iterator["VideoSaver"]:
    """Saves what is asked for of a video, also of one that ends with Ctrl-C.

    Args:
        saver: Saves frames as images and faces, and has the contact sheet.
        folder: The folder of the results; `videos` is made in it.
        source: Name of the video or camera.
        names: What to save: `video`, `timeline`.
        classes: Names of the classes.

    Yields:
        What takes the frames.

    Raises:
        OSError: Something cannot be written; names the file.
    """
    with ExitStack() as stack:
        video = VideoSaver(stack, saver, folder / "videos", source, names, classes)
        try:
            yield video
        finally:
            video.finish()


class VideoSaver:
    """Takes the frames of a video one after the other."""

    def __init__(
        self,
        stack: ExitStack,
        saver: Saver,
        folder: Path,
        source: str,
        names: Collection[str],
        classes: Sequence[str],
    ) -> None:
        """Takes what `saving_video` does, and what closes the annotated video."""
        self._stack, self._saver, self._source = stack, saver, source
        self._path = folder / f"{file_name(source)}.mp4"
        self._classes = tuple(classes)
        self._timeline = None
        self._best: dict[int, tuple[float, Face]] = {}
        self._frames = self._faces = 0
        self._writer: VideoWriter | None = None
        self._saves_video = "video" in names
        if self._saves_video or "timeline" in names:
            make_folder(folder)
        if "timeline" in names:
            # Not at the top: it imports Matplotlib.
            from emotion_cnn.inference.timeline import Timeline

            self._timeline = Timeline(classes)

    def add(self, frame: AnalyzedFrame, *, draw: bool = False) -> np.ndarray | None:
        """Saves what is asked for of a frame.

        Args:
            frame: The frame.
            draw: Whether to draw it also if no annotated video is saved.

        Returns:
            The annotated frame, uint8 RGB, always of the same size; None if it is not
            drawn.

        Raises:
            OSError: Something cannot be written; names the file.
        """
        draw = draw or self._saves_video
        maps = None
        if draw or self._saver.needs_photos:
            maps = self._saver.explained(frame.faces)
        self._saver.save_frame(
            self._source, frame.number, frame.faces, frame.image, maps
        )
        if self._timeline is not None:
            self._timeline.add(frame.seconds, frame.faces)
        self._frames += 1
        self._faces += len(frame.faces)
        for face in frame.faces:
            best = self._best.get(face.track or 0)
            if best is None or (face.score or 0) > (best[1].score or 0):
                self._best[face.track or 0] = (frame.seconds, face)
        if len(self._best) >= _MOST_TRACKS_WAITING:
            self._add_to_sheet()
        if not draw:
            return None
        drawn = np.asarray(annotate(frame.image, frame.faces, maps=maps, strips=1))
        if self._saves_video:
            if self._writer is None:
                height, width = drawn.shape[:2]
                self._writer = self._stack.enter_context(
                    write_video(self._path, height=height, width=width)
                )
            self._writer.write(frame.seconds, drawn)
        return drawn

    def finish(self) -> None:
        """Saves what is known at the end alone.

        Raises:
            OSError: It cannot be written; names the file.
        """
        self._add_to_sheet()
        if self._frames and not self._faces:
            self._saver.add_without_face()
        if self._timeline is not None and self._timeline.frames:
            path = self._path.with_name(f"{self._path.stem}-timeline.png")
            name = shown(Path(self._source).name[-_TITLE_LENGTH:])
            write_figure(path, self._timeline.figure(name))

    def _add_to_sheet(self) -> None:
        """Adds the face of each track that the detector was surest of."""
        best, self._best = self._best, {}
        for seconds, face in best.values():
            self._saver.add_to_sheet(face, f"{self._source}, {seconds:.2f} s")
