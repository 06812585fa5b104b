"""Original labels smoothed by what FER+'s votes let expect."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split
from emotion_cnn.data.votes import Votes, vote_counts
from emotion_cnn.errors import DataError


def smooth_labels(split: Split, votes: Mapping[str, Votes], *, share: float) -> Split:
    """Replaces a share of each original label by the labels that the votes let expect.

    An original label is one answer, partly chance, and a network that trains for long
    memorises it. A logistic regression of the labels on the votes has but a few
    dozen weights, and cannot.

    Args:
        split: Training images with targets `(n, 2, 7)` as of `add_votes`.
        votes: The votes by the image's name.
        share: From 0 to 1.

    Returns:
        The same images; `targets[:, 0]` are distributions, but for images without
        votes, which keep a one at their label.

    Raises:
        DataError: Fewer than two emotions have images with votes.
    """
    counts = vote_counts(split.names, votes)
    voted = counts.any(axis=1)
    if len(np.unique(split.labels[voted])) < 2:
        raise DataError(
            "--vote-smoothing expects votes on images of two emotions or more in "
            "train/, found fewer. Leave it out, or add votes: --mode prepare "
            "--ferplus fer2013new.csv."
        )
    features = np.sqrt(counts[voted] / counts[voted].sum(axis=1, keepdims=True))
    regression = LogisticRegression(max_iter=1000)
    regression.fit(features, split.labels[voted])
    expected = np.zeros((len(features), len(EMOTIONS)))
    expected[:, regression.classes_] = regression.predict_proba(features)
    targets = np.array(split.targets)
    targets[voted, 0] = (1 - share) * targets[voted, 0] + share * expected
    return replace(split, targets=targets)
