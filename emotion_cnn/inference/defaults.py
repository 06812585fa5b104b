"""What is taken where a user chooses nothing; imports nothing, for quick help."""

DETECTION_SIZE = 640
"""Long side, in pixels, that a photo is scaled to before faces are looked for."""

MINIMUM_FACE = 32
"""Height, in pixels of the photo, of the smallest face that is looked for."""

CONFIDENCE = 0.7
"""Least score of what is taken for a face."""

UNSURE_BELOW = 0.53
"""Below this probability a decision is "unsure".

The least that leaves 80% right of what is decided on PublicTest, which are 75% of it
(`python -m benchmarks.unsure`, original labels, single view). On PrivateTest 76% are
decided, and 81% of these right.
"""

EXPLANATION_METHODS = ("layercam", "occlusion")
"""The ways to explain, by name; the first is the default."""

SMOOTHING = 0.5
"""Time constant, in seconds, of the smoothing of probabilities in a video."""
