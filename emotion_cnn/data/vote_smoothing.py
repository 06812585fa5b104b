"""Original labels smoothed by soft labels predicted from votes and from teachers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from emotion_cnn.data.splits import Split
from emotion_cnn.data.votes import Votes, vote_counts
from emotion_cnn.errors import DataError

_LEAST_PROBABILITY = 1e-4
"""What a teacher's probability counts as at least, whose logarithm is taken."""


def smooth_labels(
    split: Split,
    votes: Mapping[str, Votes],
    *,
    share: float,
    soft_labels: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """Mixes each original label with soft labels predicted from what else is known.

    An original label is the opinion of one person, and a network that trains for
    long memorises its errors. A logistic regression of the labels on the votes and
    the teachers' predictions, with its few dozen weights, cannot.

    Args:
        split: Training images with targets `(n, 2, classes)` as of `add_votes`.
        votes: The votes by the image's name.
        share: The predicted soft labels' share of the new targets, from 0 to 1.
        soft_labels: What teachers predict out of fold, float `(label sets, classes)`
            by the image's name; None for a regression on the votes alone.

    Returns:
        The same images; `targets[:, 0]` are distributions, but for images without
        votes, which keep their target.

    Raises:
        DataError: Fewer than two classes have images with votes.
    """
    counts = vote_counts(split.names, votes)
    voted = counts.any(axis=1)
    labels = split.labels[voted]
    if len(np.unique(labels)) < 2:
        raise DataError(
            "`vote_smoothing` expects votes on images of two classes or more in "
            "train/, found fewer. Leave it out, or add votes with emotion-cnn prepare "
            "and its `ferplus=fer2013new.csv`."
        )
    features = np.sqrt(counts[voted] / counts[voted].sum(axis=1, keepdims=True))
    if soft_labels is not None:
        teachers = np.stack([soft_labels[name] for name in split.names])[voted]
        logarithms = np.log(np.maximum(teachers, _LEAST_PROBABILITY))
        features = np.hstack([features, logarithms.reshape(len(features), -1)])
    # Some 25 features of tens of thousands of images: Newton's steps are few.
    regression = LogisticRegression(max_iter=1000, solver="newton-cholesky")
    regression.fit(features, labels)
    predicted = np.zeros((len(features), len(split.classes)))
    predicted[:, regression.classes_] = regression.predict_proba(features)
    targets = np.array(split.targets)
    targets[voted, 0] = (1 - share) * np.eye(len(split.classes))[labels]
    targets[voted, 0] += share * predicted
    return replace(split, targets=targets)
