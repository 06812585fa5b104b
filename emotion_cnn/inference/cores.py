"""How many cores there are to use."""

import os


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux, and no other system.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
