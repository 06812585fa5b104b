"""How much memory photos that are read at the same time may take together."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

Reserve = Callable[[int], None]
"""Takes how many bytes a photo needs from now on; returns once there are so many."""


class PhotoMemory:
    """Lets threads go on while their photos together stay below a limit.

    Photos have numbers, in the order in which they are needed. The one that is needed
    next gets all that it asks for: so there is always one that goes on, and the limit
    is exceeded by one photo at most.
    """

    def __init__(self, limit: int) -> None:
        """Takes the limit, in bytes."""
        self._limit = limit
        self._held: dict[int, int] = {}
        self._needed = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def hold(self, photo: int, size: int) -> None:
        """Returns once a photo, by its number, may take that many bytes in all.

        Raises:
            CancelledError: Nobody needs it any more.
        """

        def has_room() -> bool:
            before = self._held.get(photo, 0)
            others = sum(self._held.values()) - before
            is_free = size <= before or photo == self._needed
            return self._is_closed or is_free or others + size <= self._limit

        with self._changed:
            self._changed.wait_for(has_room)
            if self._is_closed:
                raise CancelledError
            self._held[photo] = size
            self._changed.notify_all()

    def need(self, photo: int) -> None:
        """Says which photo is needed next; those before it count no more."""
        with self._changed:
            self._needed = photo
            for each in [each for each in self._held if each < photo]:
                del self._held[each]
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all waiting: nothing is needed any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
