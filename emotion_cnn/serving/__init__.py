"""The page on one's own machine, and its server."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Under which a machine reaches itself, and no other does."""
