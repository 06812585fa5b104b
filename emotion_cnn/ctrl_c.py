"""Ctrl-C: noticed wherever it is pressed, and heeded once."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS_TO_TIDY_UP = 5


class CtrlC:
    """Raises `KeyboardInterrupt` at the first press, and remembers that there was one.

    Pressed again, it would break into the tidying up that the first has begun. Where
    the first has got lost, pressing it some seconds later helps.

    Attributes:
        is_pressed: Whether there was a press. No `threading.Event`, whose lock a second
            press, in the middle of the first, would wait for in vain.
    """

    def __init__(self) -> None:
        """Starts with no press."""
        self.is_pressed = False
        self._heeded = -float("inf")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal."""
        self.is_pressed = True
        if time.monotonic() - self._heeded > _SECONDS_TO_TIDY_UP:
            self._heeded = time.monotonic()
            raise KeyboardInterrupt

    def heed_again(self) -> None:
        """Lets the next press count as the first: the last has got lost."""
        self._heeded = -float("inf")


@contextmanager
def noticing_ctrl_c() -> Iterator[CtrlC]:
    """Notices Ctrl-C even where `KeyboardInterrupt` gets lost.

    Python drops an exception that is raised while it collects garbage, and JAX runs
    code there; libraries turn it into other errors while they are imported.

    Yields:
        What says whether Ctrl-C was pressed; it never was in another thread than the
        main one, nor where the surroundings have a handler of their own.
    """
    current = signal.getsignal(signal.SIGINT)
    if isinstance(current, CtrlC):
        yield current
        return
    handler = CtrlC()
    ours = (
        threading.current_thread() is threading.main_thread()
        and current is signal.default_int_handler
    )
    if not ours:
        yield handler
        return
    report_dropped = sys.unraisablehook

    def report_others(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type is KeyboardInterrupt:
            handler.heed_again()
        else:
            report_dropped(dropped)

    signal.signal(signal.SIGINT, handler)
    sys.unraisablehook = report_others
    try:
        yield handler
    finally:
        sys.unraisablehook = report_dropped
        signal.signal(signal.SIGINT, current)
