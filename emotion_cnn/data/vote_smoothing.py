"""Original labels smoothed by soft labels that are predicted from FER+'s votes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from emotion_cnn.data.splits import Split
from emotion_cnn.data.votes import Votes, vote_counts
from emotion_cnn.errors import DataError


def smooth_labels(split: Split, votes: Mapping[str, Votes], *, share: float) -> Split:
    """Mixes each original label with soft labels predicted from the image's votes.

    An original label is the opinion of one person, and a network that trains for
    long memorises its errors. A logistic regression of the labels on the votes, with
    its few dozen weights, cannot.

    Args:
        split: Training images with targets `(n, 2, classes)` as of `add_votes`.
        votes: The votes by the image's name.
        share: The predicted soft labels' share of the new targets, from 0 to 1.

    Returns:
        The same images; `targets[:, 0]` are distributions, but for images without
        votes, which keep their one-hot label.

    Raises:
        DataError: Fewer than two classes have images with votes.
    """
    counts = vote_counts(split.names, votes)
    voted = counts.any(axis=1)
    if len(np.unique(split.labels[voted])) < 2:
        raise DataError(
            "`vote_smoothing` expects votes on images of two classes or more in "
            "train/, found fewer. Leave it out, or add votes with emotion-cnn prepare "
            "and its `ferplus=fer2013new.csv`."
        )
    features = np.sqrt(counts[voted] / counts[voted].sum(axis=1, keepdims=True))
    regression = LogisticRegression(max_iter=1000)
    regression.fit(features, split.labels[voted])
    predicted = np.zeros((len(features), len(split.classes)))
    predicted[:, regression.classes_] = regression.predict_proba(features)
    targets = np.array(split.targets)
    targets[voted, 0] = (1 - share) * targets[voted, 0] + share * predicted
    return replace(split, targets=targets)
