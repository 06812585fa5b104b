"""`predict` at work: what it counts, says and writes down."""

import contextlib
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.commands.predict_settings import PredictSettings
from emotion_cnn.errors import DataError, RunError
from emotion_cnn.files import first_line, shown

if TYPE_CHECKING:
    from emotion_cnn.inference.analysis import Analyzer, Face
    from emotion_cnn.inference.predictions import Predictions
    from emotion_cnn.inference.saving import Saver
    from emotion_cnn.inference.sources import Source

_LINES_SHOWN = 20
_REASONS_SHOWN = 3
# A log wants few lines of progress, and none of what is done at once.
_LOG_SECONDS = 60


@dataclass
class Tally:
    """What has been found, and what could not be read."""

    images: int = 0
    frames: int = 0
    faces: int = 0
    unsure: int = 0
    without_face: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, faces: Sequence["Face"], *, is_frame: bool = False) -> None:
        """Counts an image, or a frame of a video, with its faces."""
        self.images += not is_frame
        self.frames += is_frame
        self.faces += len(faces)
        self.unsure += sum(face.unsure for face in faces)
        self.without_face += not faces

    def fail(self, text: str) -> None:
        """Counts a source that could not be read, and keeps the first reasons."""
        self.failed += 1
        if len(self.failures) < _REASONS_SHOWN:
            self.failures.append(text)

    @property
    def done(self) -> str:
        """How many images and frames, in words."""
        parts = [counted(self.images, "image")] if self.images else []
        parts += [counted(self.frames, "frame")] if self.frames else []
        return " and ".join(parts) or "0 images"

    def __str__(self) -> str:
        """Returns what was found, on one line."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = (self.images + self.frames) / seconds
        found = f"{counted(self.faces, 'face')} ({self.unsure:,} unsure)"
        if self.without_face:
            found += f", {self.without_face:,} without a face"
        kinds = {"images": self.images, "frames": self.frames}
        what = " and ".join(kind for kind, count in kinds.items() if count) or "images"
        return f"{self.done}: {found}; {rate:.1f} {what} per second."

    def raise_for_failures(self, folder: Path) -> None:
        """Raises a `DataError` if there was a source that could not be read."""
        if not self.failed:
            return
        from emotion_cnn.inference.predictions import ERRORS_NAME

        reasons = list(self.failures)
        if more := self.failed - len(reasons):
            reasons.append(f"and {more:,} more" if reasons else "as was found before")
        lines = "".join(f"\n{_wrapped(reason)}" for reason in reasons)
        raise DataError(
            f"Expected sources that can be read, found {self.failed:,} that cannot:"
            f"{lines}\n{shown(str(folder / ERRORS_NAME))} has them all; the "
            "predictions of the others are kept."
        )


@dataclass
class Job:
    """A command at work: what it needs for every source, and what it has found."""

    settings: PredictSettings
    folder: Path
    analyzer: "Analyzer"
    results: "Predictions"
    saver: "Saver"
    tally: Tally = field(default_factory=Tally)
    lines: int = 0

    @contextlib.contextmanager
    def kept_whatever_happens(self) -> Iterator[None]:
        """Says where everything is that was done before a block ended early.

        Raises:
            RunError: Results could not be written, as on a full disk.
        """
        try:
            with contextlib.closing(self.saver):
                yield
        except BrokenPipeError:
            # Whoever read what is said has gone; no result was in the way.
            raise
        except OSError as error:
            name = shown(str(error.filename or self.folder))
            raise RunError(
                f"Expected room for results, but {name} cannot be written: "
                f"{first_line(error)}. What was done before is kept: make room "
                f"and go on with `output={self.folder}` and `resume=True`."
            ) from error
        except KeyboardInterrupt:
            print(
                f"\n{self.tally.done} done and kept. The same command goes on from "
                f"there with --output {self.folder} --resume",
                file=sys.stderr,
            )
            raise

    def say(self, text: str) -> None:
        """Shows a line on standard output, unless there were many."""
        from tqdm import tqdm

        self.lines += 1
        if self.lines > _LINES_SHOWN + 1:
            return
        if self.lines == _LINES_SHOWN + 1:
            text = "... (more in the files)"
        if sys.stderr.isatty():
            # Moves the line of progress out of the way.
            tqdm.write(text, file=sys.stdout)
        else:
            print(text)

    def fail(self, source: "Source", reason: str) -> None:
        """Writes down that a source could not be read.

        Raises:
            DataError: It was to be `strict`.
        """
        self.results.fail(source.name, reason)
        text = f"{shown(source.name)}: {reason}"
        self.tally.fail(text)
        self.say(text)
        if self.settings.strict:
            raise DataError(
                f"Expected sources that can be read, as `strict=True` says, found "
                f"{text}. What was done before is kept in {shown(str(self.folder))}: "
                "fix it or leave it out, and go on with `resume=True`."
            )


def _wrapped(text: str) -> str:
    """Returns a reason on lines for a terminal of 80 columns; paths stay whole."""
    return textwrap.fill(
        text,
        80,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


@contextlib.contextmanager
def showing_progress(total: int) -> Iterator[Any]:
    """Shows progress, speed and time left on standard error.

    Yields:
        A function to call after each source.
    """
    with progress_bar(total=total, unit="image") as bar:
        yield bar.update


def progress_bar(**settings: Any) -> Any:
    """Returns a line of progress on standard error; in a log few, and none at first."""
    from tqdm import tqdm

    is_terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        dynamic_ncols=is_terminal,
        delay=0 if is_terminal else _LOG_SECONDS,
        mininterval=0.2 if is_terminal else _LOG_SECONDS,
        **settings,
    )


def counted(count: int, what: str) -> str:
    """Returns a number of things in words."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
