"""Attacks and faults that the tool has to survive, each kind as a command."""


class Tally:
    """Counts what was tried, and prints a line of it in the end."""

    def __init__(self, name: str) -> None:
        """Takes the name of what is tried."""
        self._name = name
        self._held = self._failed = 0

    def held(self) -> None:
        """Counts an attack or a fault that did no harm."""
        self._held += 1

    def failed(self, what: str) -> None:
        """Counts one that did, and prints it."""
        self._failed += 1
        print(f"FAILED: {self._name}: {what}", flush=True)

    def finish(self) -> int:
        """Prints the line and returns how many failed: one, if nothing was tried."""
        if not self._held + self._failed:
            self.failed("nothing was tried")
        tried = self._held + self._failed
        print(
            f"{self._name}: tried {tried:,}, held {self._held:,}, "
            f"failed {self._failed:,}",
            flush=True,
        )
        return self._failed
