"""The near-duplicates that an earlier audit wrote down."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.data.classes import emotion_from_name
from emotion_cnn.data.splits import Split, class_counts, fingerprint
from emotion_cnn.errors import DataError
from emotion_cnn.files import first_line, read_json, shown

AUDIT_FILE = "audit.json"
KIND = "emotion-cnn audit"

FORMAT = 2
"""Raised when `audit.json` changes in a way that its readers must know of."""

# An audit of FER2013 takes 0.7 MB. Parsed, a file may take ten times its size.
_MEGABYTE_LIMIT = 64
_BYTES_AN_IMAGE = 500
"""What the lists take where each image is near another one, with names of 100 bytes."""


@dataclass(frozen=True)
class KnownNearDuplicates:
    """The near-duplicates that an audit has found.

    Attributes:
        path: The `audit.json` that lists them.
        fingerprints: Of the `train` and `test` that were audited.
        train: Names of the train images that have a near-duplicate in test.
        test: Names of the test images that have a near-duplicate in train.
        within_train: Pairs of names of train images that are near-duplicates; None
            where the audit did not look for these.
        classes: What the labels in the fingerprints stand for; none where an old audit
            does not say.
    """

    path: Path
    fingerprints: Mapping[str, str]
    train: frozenset[str]
    test: frozenset[str]
    within_train: tuple[tuple[str, str], ...] | None
    classes: tuple[str, ...] = ()

    def check(self, **splits: Split) -> None:
        """Makes sure that the audit was of these images.

        Args:
            **splits: `train`, `test` or both, as they were read.

        Raises:
            DataError: If it was of other images.
        """
        for part, split in splits.items():
            expected = self.fingerprints[part]
            found = fingerprint(self._as_audited(split))
            if found != expected:
                raise DataError(
                    f"{shown(str(self.path))} is an audit of other images: expected a "
                    f"{part}/ with the fingerprint {shown(expected[:12])}, found "
                    f"{found[:12]}. Run `emotion-cnn audit` on this data, with the "
                    "same `classes`, or use the data folder that was audited."
                )

    def _as_audited(self, split: Split) -> Split:
        """Returns images with the positions of their labels in the audit's classes.

        A network may know more classes than there are, or in another order.
        """
        if split.classes == self.classes or not self.classes:
            return split
        names = [emotion_from_name(name, self.classes) for name in split.classes]
        positions = np.array(
            [-1 if name is None else self.classes.index(name) for name in names]
        )
        labels = positions[split.labels]
        # Images come in the order of their labels.
        return replace(split, labels=labels).select(np.argsort(labels, kind="stable"))

    def exclude_from(self, train: Split) -> Split:
        """Returns `train` without the images that have a near-duplicate in test.

        Raises:
            DataError: If no image of a class remains.
        """
        remaining = train.select([name not in self.train for name in train.names])
        before, after = class_counts(train), class_counts(remaining)
        lost = [name for name in train.classes if before[name] and not after[name]]
        if lost:
            raise DataError(
                f"Expected at least one image of every class in train/ without a "
                f"near-duplicate in test/; found none of {', '.join(lost)}, by "
                f"{shown(str(self.path))}. Add images, or train without `leave_out`."
            )
        return remaining

    def clean_positions(self, test: Split) -> np.ndarray:
        """Returns where in `test` the images without a near-duplicate in train are.

        Returns:
            int64 `(m,)`, in ascending order.
        """
        return np.flatnonzero([name not in self.test for name in test.names])


def read_known_near_duplicates(path: Path, *, images: int) -> KnownNearDuplicates:
    """Reads the near-duplicates that an audit has found.

    Args:
        path: An `audit.json`, or the folder that holds it.
        images: How many images are at hand: of more, more is read.

    Raises:
        DataError: If it is missing, damaged, no audit, or of another format.
    """
    path = path / AUDIT_FILE if path.is_dir() else path
    megabytes = _MEGABYTE_LIMIT + images * _BYTES_AN_IMAGE // 1_000_000
    try:
        values = read_json(path, megabytes=megabytes)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise DataError(
            f"Expected a readable {AUDIT_FILE} at {shown(str(path))}, found: {reason}. "
            "Create one with `emotion-cnn audit`."
        ) from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise DataError(
            f"Expected the {AUDIT_FILE} of an audit at {shown(str(path))}, found "
            "another JSON file. Create one with `emotion-cnn audit`."
        )
    try:
        if (version := _checked(values["format"], int)) != FORMAT:
            raise DataError(
                f"Expected an audit of format {FORMAT} at {shown(str(path))}, found "
                f"format {str(version)[:9]}. Run `emotion-cnn audit` again."
            )
        prints = _checked(values["fingerprints"], dict)
        return KnownNearDuplicates(
            path,
            {part: _checked(prints[part], str) for part in ("train", "test")},
            frozenset(_strings(values["leave_out"])),
            frozenset(_strings(values["test_with_near_duplicate_in_train"])),
            _pairs(values["within_train"]),
            tuple(_checked(_checked(values["counts"], dict)["train"], dict)),
        )
    except (KeyError, TypeError) as error:
        missing = isinstance(error, KeyError)
        raise DataError(
            f"Expected a complete audit at {shown(str(path))}, found "
            f"{f'no {error}' if missing else error}. Run `emotion-cnn audit` again."
        ) from error


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _strings(values: Any) -> list[str]:
    return [_checked(value, str) for value in _checked(values, list)]


def _pairs(values: Any) -> tuple[tuple[str, str], ...] | None:
    if values is None:
        return None
    return tuple(_names(pair) for pair in _checked(values, list))


def _names(pair: Any) -> tuple[str, str]:
    names = _checked(pair, dict)
    return _checked(names["image"], str), _checked(names["near_duplicate"], str)
