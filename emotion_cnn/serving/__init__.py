"""The page on one's own machine, and its server."""
