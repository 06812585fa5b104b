"""Ctrl-C: noticed wherever it is pressed, and heeded once."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS_TO_TIDY_UP = 5


class _Handler:
    """Raises `KeyboardInterrupt` at the first press, and remembers that there was one.

    Pressed again, it would break into the tidying up that the first has begun. Where
    the first has got lost, pressing it some seconds later helps.
    """

    def __init__(self) -> None:
        self.pressed = threading.Event()
        self._heeded = -float("inf")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed.set()
        if time.monotonic() - self._heeded > _SECONDS_TO_TIDY_UP:
            self._heeded = time.monotonic()
            raise KeyboardInterrupt

    def heed_again(self) -> None:
        """Lets the next press count as the first: the last has got lost."""
        self._heeded = -float("inf")


@contextmanager
def noticing_ctrl_c() -> Iterator[threading.Event]:
    """Notices Ctrl-C even where `KeyboardInterrupt` gets lost.

    Python drops an exception that is raised while it collects garbage, and JAX runs
    code there; libraries turn it into other errors while they are imported.

    Yields:
        An event that is set once Ctrl-C was pressed; never in another thread than the
        main one, nor where the surroundings have a handler of their own.
    """
    current = signal.getsignal(signal.SIGINT)
    if isinstance(current, _Handler):
        yield current.pressed
        return
    handler = _Handler()
    ours = (
        threading.current_thread() is threading.main_thread()
        and current is signal.default_int_handler
    )
    if not ours:
        yield handler.pressed
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
        yield handler.pressed
    finally:
        sys.unraisablehook = report_dropped
        signal.signal(signal.SIGINT, current)
