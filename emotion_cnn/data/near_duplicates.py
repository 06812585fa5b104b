"""Near-duplicates across the split that an earlier audit wrote down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split, class_counts, fingerprint
from emotion_cnn.errors import DataError
from emotion_cnn.files import shown

AUDIT_FILE = "audit.json"
KIND = "emotion-cnn audit"

FORMAT = 1
"""Raised when `audit.json` changes in a way that its readers must know of."""


@dataclass(frozen=True)
class KnownNearDuplicates:
    """The near-duplicates across the split that an audit has found.

    Attributes:
        path: The `audit.json` they stand in.
        fingerprints: Of the `train` and `test` that were audited.
        train: Names of the train images that have a near-duplicate in test.
        test: Names of the test images that have a near-duplicate in train.
    """

    path: Path
    fingerprints: Mapping[str, str]
    train: frozenset[str]
    test: frozenset[str]

    def check(self, **splits: Split) -> None:
        """Makes sure that the audit was of these images.

        Args:
            **splits: `train`, `test` or both, just as they were read.

        Raises:
            DataError: It was of others.
        """
        for part, split in splits.items():
            expected, found = self.fingerprints[part], fingerprint(split)
            if found != expected:
                raise DataError(
                    f"{self.path} is an audit of other images: expected a {part}/ "
                    f"with the fingerprint {expected[:12]}, found {found[:12]}. "
                    "Audit this data (--mode audit), or name the folder that was."
                )

    def left_of(self, train: Split) -> Split:
        """Returns `train` without the images that stand in test too.

        Raises:
            DataError: No image of an emotion is left.
        """
        left = train.select([name not in self.train for name in train.names])
        before, after = class_counts(train), class_counts(left)
        gone = [name for name in EMOTIONS if before[name] and not after[name]]
        if gone:
            raise DataError(
                f"Without the near-duplicates in {self.path} no image of "
                f"{', '.join(gone)} is left in train/: all of them stand in test/ too. Expected at least "
                "one. Add images, or train without --leave-out."
            )
        return left

    def places_without(self, test: Split) -> np.ndarray:
        """Returns where in `test` the images without a near-duplicate in train are."""
        return np.flatnonzero([name not in self.test for name in test.names])


def read_known_near_duplicates(path: Path) -> KnownNearDuplicates:
    """Reads the near-duplicates across the split from an audit.

    Args:
        path: An `audit.json`, or the folder it lies in.

    Raises:
        DataError: It is missing, damaged, or no audit.
    """
    path = path / AUDIT_FILE if path.is_dir() else path
    how = "Make one with --mode audit."
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"Expected an {AUDIT_FILE} in {shown(str(path))}, found none that can be "
            f"read ({reason}). {how}"
        ) from error
    try:
        if (values["kind"], values["format"]) != (KIND, FORMAT):
            raise ValueError(f"format {values['format']!r} of {values['kind']!r}")
        return KnownNearDuplicates(
            path,
            {part: str(values["fingerprints"][part]) for part in ("train", "test")},
            _names(values["leave_out"]),
            _names(values["test_with_near_duplicate_in_train"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shown(str(path))} is no audit that this version reads. Expected format "
            f"{FORMAT} of {KIND!r}, found: {type(error).__name__} {error}. {how}"
        ) from error


def _names(values: Any) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TypeError("a list of names expected")
    return frozenset(values)
