"""What gray levels are scaled to for a network; imports nothing."""

from typing import Any

GRAY_LEVELS = (0, 255)
INPUT_RANGES = {"0-255": GRAY_LEVELS, "0-1": (0, 1), "-1-1": (-1, 1)}
"""Least and greatest value of a pixel, as networks in use expect them, by name."""


def scaled(images: Any, input_range: tuple[int, int]) -> Any:
    """Returns gray levels, floats from 0 to 255, as a network takes them."""
    if input_range == GRAY_LEVELS:
        return images
    low, high = input_range
    return images * ((high - low) / 255) + low
