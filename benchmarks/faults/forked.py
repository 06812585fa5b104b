"""Functions called in processes that have imported what they need, and are measured."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code: below 0 for a signal, None if it did not end in time.
        returned: What the function returned; None if it did not.
        said: What was printed to stderr, by compiled code too.
        seconds: Of the processor.
        megabytes: The most memory that it had.
    """

    code: int | None
    returned: Any
    said: str
    seconds: float
    megabytes: float


class Forked:
    """Calls each function in a process of its own, forked from one that only imported.

    Importing takes most of the time of a new process. And the memory that a process is
    forked with counts as its own: here it is small, whatever this process holds.
    """

    def __init__(self, modules: Sequence[str], *, seconds: float) -> None:
        """Takes the modules to import, and how long a process may take."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *modules])
        self._seconds = seconds

    def call(
        self,
        function: Callable[..., Any],
        *arguments: object,
        stdin: Connection | None = None,
    ) -> Ended:
        """Calls a function of a module; its standard input is empty unless given."""
        answers, sent = self._context.Pipe(duplex=False)
        with tempfile.NamedTemporaryFile() as said, answers:
            process = self._context.Process(
                target=_work, args=(function, arguments, said.name, sent, stdin)
            )
            process.start()
            sent.close()
            found: tuple[Any, float, float] = (None, 0.0, 0.0)
            in_time = answers.poll(self._seconds)
            if in_time:
                # One that died has sent nothing: its exit code says how.
                with suppress(EOFError):
                    found = answers.recv()
            else:
                process.kill()
            process.join()
            code = process.exitcode if in_time else None
            return Ended(
                code, found[0], said.read().decode(errors="replace"), *found[1:]
            )


def _work(
    function: Callable[..., Any],
    arguments: Sequence[object],
    said: str,
    sent: Connection,
    stdin: Connection | None,
) -> None:
    # Not of Windows, where tests import what imports this module.
    import resource

    os.dup2(os.open(said, os.O_WRONLY), 2)
    if stdin is not None:
        os.dup2(stdin.fileno(), 0)
    returned = function(*arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss: a child inherits that of the process that it was forked from.
    status = Path("/proc/self/status").read_text()
    megabytes = int(status.split("VmHWM:")[1].split()[0]) / 1024
    sent.send((returned, used.ru_utime + used.ru_stime, megabytes))
