"""How much boxes share."""

from emotion_cnn.data.images import Box


def area(box: Box) -> float:
    """Returns the area of a box, in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def intersection(one: Box, other: Box) -> float:
    """Returns the area that two boxes share, in square pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def intersection_over_union(one: Box, other: Box) -> float:
    """Returns the part that two boxes share of what they cover, from 0 to 1."""
    shared = intersection(one, other)
    return shared / (area(one) + area(other) - shared) if shared else 0.0
