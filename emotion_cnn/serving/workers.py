"""Threads that do what takes long, in the order in which it was asked for."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Workers:
    """A few threads, which serve first what came first.

    Each connection asks for one thing at a time, so that all take turns. Unlike those
    of `ThreadPoolExecutor` the threads do not keep the process from ending: a photo of
    200 megapixels takes many seconds, and nothing can stop a thread.
    """

    def __init__(self, count: int) -> None:
        """Starts so many threads."""
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Returns what a function returns, or raises what it raises.

        Args:
            function: Called in one of the threads.
            *arguments: What to call it with.
        """
        future: Future[Result] = Future()
        self._jobs.put((future, lambda: function(*arguments)))
        return await asyncio.wrap_future(future)

    def close(self, *, seconds: float) -> bool:
        """Lets the threads end once they have done what was asked for.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether all have ended.
        """
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            # Whoever waited for it may have gone.
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            # Else a photo would be kept until the next one comes.
            del job, future, function
