"""Threads that do what takes long, in the order in which it was asked for."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Workers:
    """A few threads, which serve first what came first.

    Each connection asks for one thing at a time, so that all take turns. Unlike those
    of `ThreadPoolExecutor` the threads do not keep the process from ending: a photo of
    200 megapixels takes many seconds, and nothing can stop a thread. They end with it.
    """

    def __init__(self, count: int) -> None:
        """Starts so many threads."""
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]
        self._jobs = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Returns what a function returns, or raises what it raises.

        Args:
            function: Called in one of the threads.
            *arguments: What to call it with.
        """
        future: Future[Result] = Future()
        self._jobs.put((future, lambda: function(*arguments)))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            future, function = self._jobs.get()
            # Whoever waited for it may have gone.
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            # Else a photo would be kept until the next one comes.
            del future, function
