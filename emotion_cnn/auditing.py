"""What a careful person would want to know about a data folder.

`audit` turns pictures into facts, `format_audit` turns these into text, and
`KnownTwins` is what training and evaluation take from an `audit.json`.
"""

import json
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_cnn.dataset import (
    PictureFormat,
    Split,
    Survey,
    class_counts,
    fingerprint,
    official_parts,
    shown,
)
from emotion_cnn.emotions import EMOTIONS
from emotion_cnn.errors import DataError
from emotion_cnn.ferplus import Votes, crowd_labels
from emotion_cnn.twins import Twins, find_twins

AUDIT_FILE = "audit.json"
KIND = "emotion-cnn audit"
FORMAT = 1
"""Raised when `audit.json` changes in a way that its readers must know of."""

THRESHOLDS = (1, 5, 12)
"""Distances, in grey levels (RMSE), that twins are counted up to.

Up to 1 are copies, up to 5 also the same JPEG compressed again, up to 12 also
slightly other crops and exposures. The last is what makes a twin in every list.
"""
BLANK_BELOW = 5.0
"""A picture whose grey levels have a smaller standard deviation shows nothing."""

PLACES = {
    "test_in_train": "test pictures with a twin in train",
    "train_in_test": "train pictures with a twin in test",
    "within_train": "train pictures with another in train",
    "within_test": "test pictures with another in test",
}
_NAMES_LISTED = 20
_WIDTH = 80


@dataclass(frozen=True)
class Pair:
    """Two pictures that are twins.

    Attributes:
        image: Name of one; of a pair across the split, that in `test/`.
        twin: Name of the other.
        label: Emotion that `image` is labelled with.
        twin_label: Emotion that `twin` is labelled with.
        rmse: Their distance in grey levels.
        mirrored: Whether one is the other's mirror image.
    """

    image: str
    twin: str
    label: str
    twin_label: str
    rmse: float
    mirrored: bool

    @property
    def is_conflict(self) -> bool:
        """Whether the labels disagree."""
        return self.label != self.twin_label


@dataclass(frozen=True)
class TwinCount:
    """How many pictures have a twin somewhere.

    Attributes:
        rmse: Greatest distance that counts, in grey levels.
        pictures: Those with a twin the same way round.
        mirrored_only: Those beside them that have mirrored twins alone.
        conflicting: Those of both that have a twin with another label.
    """

    rmse: float
    pictures: int
    mirrored_only: int
    conflicting: int


@dataclass(frozen=True)
class CrowdAgreement:
    """How the crowd's votes compare with one label.

    Attributes:
        pictures: Pictures with the label.
        voted: Those of them that have votes.
        majority: How many of these have a majority for each emotion.
    """

    pictures: int
    voted: int
    majority: dict[str, int]


@dataclass(frozen=True)
class Audit:
    """The facts about a data folder; `dataclasses.asdict` of it is fit for JSON.

    Attributes:
        data: The folder.
        fingerprints: Of `train` and `test`, by `dataset.fingerprint`.
        counts: Readable pictures of each emotion, in each part: `train`, `test`,
            and `PublicTest` and `PrivateTest` where file names tell.
        imbalance: Largest class over smallest, in each part; None where a class
            is empty.
        unreadable: Why each picture that cannot be read cannot, by name.
        blank: Standard deviation of the grey levels of each blank picture, by name.
        converted: What the pictures were that are not 48x48 grayscale, by name.
        unused_folders: Folders that nothing reads.
        unused_files: Files that nothing reads.
        twin_counts: By place: `test_in_train`, `train_in_test`, `within_train`
            and `within_test`; for each of `THRESHOLDS`.
        across: Pairs of a test and a train picture, nearest first; of a picture's
            twins those that `find_twins` keeps.
        within_train: The same of two train pictures.
        within_test: The same of two test pictures.
        leave_out: Train pictures that have a twin in test.
        test_with_twin_in_train: Test pictures that have a twin in train.
        crowd: By part and label; None without votes.
    """

    data: str
    fingerprints: dict[str, str]
    counts: dict[str, dict[str, int]]
    imbalance: dict[str, float | None]
    unreadable: dict[str, str]
    blank: dict[str, float]
    converted: dict[str, PictureFormat]
    unused_folders: tuple[str, ...]
    unused_files: tuple[str, ...]
    twin_counts: dict[str, tuple[TwinCount, ...]]
    across: tuple[Pair, ...]
    within_train: tuple[Pair, ...]
    within_test: tuple[Pair, ...]
    leave_out: tuple[str, ...]
    test_with_twin_in_train: tuple[str, ...]
    crowd: dict[str, dict[str, CrowdAgreement]] | None

    @property
    def conflicts(self) -> tuple[Pair, ...]:
        """Pairs whose labels disagree, those across the split first."""
        pairs = (*self.across, *self.within_test, *self.within_train)
        return tuple(pair for pair in pairs if pair.is_conflict)


def audit(data: str, survey: Survey, votes: Mapping[str, Votes] | None) -> Audit:
    """Finds out what there is to know.

    Blank pictures have no twins: all of them look alike, whoever they are of.

    Args:
        data: The folder's name, for the record.
        survey: What is in it.
        votes: FER+'s ten votes for pictures by name, if there are any.
    """
    train, test = survey.train, survey.test
    parts = _parts(train, test)
    counts = {part: class_counts(split) for part, split in parts.items()}
    images = np.concatenate((train.images, test.images))
    labels = np.concatenate((train.labels, test.labels))
    names = train.names + test.names
    is_test = np.arange(len(names)) >= len(train)
    deviations = _standard_deviations(images)
    visible = np.flatnonzero(deviations >= BLANK_BELOW)
    groups = is_test * len(EMOTIONS) + labels
    found = find_twins(images[visible], groups[visible], THRESHOLDS[-1])
    twins = Twins(
        visible[found.first], visible[found.second], found.rmse, found.mirrored
    )
    pairs: dict[tuple[bool, bool], list[Pair]] = {}
    for first, second, rmse, mirrored in zip(
        twins.first, twins.second, twins.rmse, twins.mirrored, strict=True
    ):
        # Train lies before test, and of a pair across the split test is named first.
        one, other = (
            (second, first) if is_test[first] != is_test[second] else (first, second)
        )
        pair = Pair(
            names[one],
            names[other],
            EMOTIONS[labels[one]],
            EMOTIONS[labels[other]],
            round(float(rmse), 3),
            bool(mirrored),
        )
        pairs.setdefault((bool(is_test[one]), bool(is_test[other])), []).append(pair)
    across = tuple(pairs.get((True, False), ()))
    return Audit(
        data=data,
        fingerprints={"train": fingerprint(train), "test": fingerprint(test)},
        counts=counts,
        imbalance={part: _imbalance(each) for part, each in counts.items()},
        unreadable=survey.unreadable,
        blank={
            names[position]: round(float(deviations[position]), 3)
            for position in np.flatnonzero(deviations < BLANK_BELOW)
        },
        converted=survey.converted,
        unused_folders=survey.unused_folders,
        unused_files=survey.unused_files,
        twin_counts=count_twins(twins, is_test, labels),
        across=across,
        within_train=tuple(pairs.get((False, False), ())),
        within_test=tuple(pairs.get((True, True), ())),
        leave_out=tuple(sorted({pair.twin for pair in across})),
        test_with_twin_in_train=tuple(sorted({pair.image for pair in across})),
        crowd=None
        if votes is None
        else {part: _crowd(split, votes) for part, split in parts.items()},
    )


def count_twins(
    twins: Twins, is_test: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[TwinCount, ...]]:
    """Counts pictures with twins, by place and for each of `THRESHOLDS`.

    Args:
        twins: Pairs of positions, found with a group for each split and label.
        is_test: bool `(n,)`.
        labels: int `(n,)`.
    """
    one = np.concatenate((twins.first, twins.second))
    other = np.concatenate((twins.second, twins.first))
    rmse, mirrored = np.tile(twins.rmse, 2), np.tile(twins.mirrored, 2)
    differ = labels[one] != labels[other]
    where = {
        "test_in_train": is_test[one] & ~is_test[other],
        "train_in_test": ~is_test[one] & is_test[other],
        "within_train": ~is_test[one] & ~is_test[other],
        "within_test": is_test[one] & is_test[other],
    }
    counts = {}
    for place in PLACES:
        rows = []
        for threshold in THRESHOLDS:
            near = where[place] & (rmse <= threshold)
            same_way = len(np.unique(one[near & ~mirrored]))
            mirrored_only = len(np.unique(one[near])) - same_way
            conflicting = len(np.unique(one[near & differ]))
            rows.append(TwinCount(threshold, same_way, mirrored_only, conflicting))
        counts[place] = tuple(rows)
    return counts


@dataclass(frozen=True)
class KnownTwins:
    """The twins across the split that an audit has found.

    Attributes:
        path: The `audit.json` they stand in.
        fingerprints: Of the `train` and `test` that were audited.
        train: Names of the train pictures that have a twin in test.
        test: Names of the test pictures that have a twin in train.
    """

    path: Path
    fingerprints: Mapping[str, str]
    train: frozenset[str]
    test: frozenset[str]

    def check(self, **splits: Split) -> None:
        """Makes sure that the audit was of these pictures.

        Args:
            **splits: `train`, `test` or both, just as they were read.

        Raises:
            DataError: It was of others.
        """
        for part, split in splits.items():
            expected, found = self.fingerprints[part], fingerprint(split)
            if found != expected:
                raise DataError(
                    f"{self.path} is an audit of other pictures: expected a {part}/ "
                    f"with the fingerprint {expected[:12]}, found {found[:12]}. "
                    "Audit this data (--mode audit), or name the folder that was."
                )

    def left_of(self, train: Split) -> Split:
        """Returns `train` without the pictures that stand in test too.

        Raises:
            DataError: No picture of an emotion is left.
        """
        left = train.select([name not in self.train for name in train.names])
        before, after = class_counts(train), class_counts(left)
        gone = [name for name in EMOTIONS if before[name] and not after[name]]
        if gone:
            raise DataError(
                f"Without the twins in {self.path} no picture of {', '.join(gone)} is "
                "left in train/: all of them stand in test/ too. Expected at least "
                "one. Add pictures, or train without --leave-out."
            )
        return left

    def places_without(self, test: Split) -> np.ndarray:
        """Returns where in `test` the pictures without a twin in train are."""
        return np.flatnonzero([name not in self.test for name in test.names])


def read_known_twins(path: Path) -> KnownTwins:
    """Reads the twins across the split from an audit.

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
        return KnownTwins(
            path,
            {part: str(values["fingerprints"][part]) for part in ("train", "test")},
            _names(values["leave_out"]),
            _names(values["test_with_twin_in_train"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shown(str(path))} is no audit that this version reads. Expected format "
            f"{FORMAT} of {KIND!r}, found: {type(error).__name__} {error}. {how}"
        ) from error


def findings(audit: Audit) -> list[str]:
    """Returns what matters most, as sentences, gravest first."""
    train, test = (sum(audit.counts[part].values()) for part in ("train", "test"))
    twins, found = len(audit.test_with_twin_in_train), []
    if twins:
        copies = audit.twin_counts["test_in_train"][0]
        conflicting = audit.twin_counts["test_in_train"][-1].conflicting
        found.append(
            f"{twins:,} of {test:,} test pictures ({twins / test:.1%}) stand in train "
            f"too, {copies.pictures + copies.mirrored_only:,} of them as copies. A "
            "network can know them by heart: train with --leave-out, or see the "
            f"figures without them (evaluate --audit). {conflicting:,} have a twin "
            "there with another label."
        )
    else:
        found.append("No test picture stands in train too.")
    within = audit.twin_counts["within_train"][-1]
    if within.pictures + within.mirrored_only:
        found.append(
            f"{within.pictures + within.mirrored_only:,} of {train:,} train pictures "
            f"have another in train as a twin; {within.conflicting:,} have one there "
            "with another label."
        )
    for part in ("train", "test"):
        missing = [name for name, count in audit.counts[part].items() if not count]
        ratio = audit.imbalance[part]
        if missing:
            found.append(f"In {part} there is no picture of {', '.join(missing)}.")
        elif ratio and ratio >= 1.5:
            found.append(
                f"In {part} the largest emotion has {ratio:.1f} times the pictures of "
                "the smallest: look at balanced accuracy and macro-F1 too."
            )
    faults = [
        (len(audit.unreadable), "cannot be read"),
        (len(audit.blank), "blank"),
        (len(audit.converted), "not 48x48 grayscale"),
    ]
    if any(count for count, _ in faults):
        listed = ", ".join(f"{count:,} {what}" for count, what in faults if count)
        found.append(f"Pictures to look at: {listed}.")
    unused = len(audit.unused_folders) + len(audit.unused_files)
    if unused:
        found.append(f"{unused:,} folders or files are there that nothing reads.")
    for part, emotions in (audit.crowd or {}).items():
        if part not in ("train", "test"):
            continue
        majorities = sum(sum(each.majority.values()) for each in emotions.values())
        agreed = sum(each.majority[name] for name, each in emotions.items())
        if majorities:
            found.append(
                "Where the crowd agrees on one of the emotions, that is the label "
                f"of {agreed / majorities:.0%} in {part} ({agreed:,} of "
                f"{majorities:,})."
            )
    return found


def format_audit(audit: Audit) -> str:
    """Lays an audit out as plain text, 80 columns wide but for long file names."""
    sizes = [f"{sum(c.values()):,} in {p}" for p, c in audit.counts.items()]
    blocks = [
        f"Audit of {shown(audit.data)}\n{', '.join(sizes)}",
        "\n".join(_wrapped("- ", sentence) for sentence in findings(audit)),
        _count_table(audit),
        _twin_table(audit),
    ]
    if audit.crowd is not None:
        blocks += [_crowd_table(part, each) for part, each in audit.crowd.items()]
    converted = {
        name: f"{each.width}x{each.height}, {each.mode}" + ", turned" * each.turned
        for name, each in audit.converted.items()
    }
    blank = {name: f"standard deviation {d:.2f}" for name, d in audit.blank.items()}
    lists: tuple[tuple[str, Collection[str]], ...] = (
        ("Pictures that cannot be read", _with_reasons(audit.unreadable)),
        (
            f"Blank pictures (standard deviation below {BLANK_BELOW:g})",
            _with_reasons(blank),
        ),
        ("Pictures that are not 48x48 grayscale", _with_reasons(converted)),
        ("Folders that nothing reads", [shown(n) for n in audit.unused_folders]),
        ("Files that nothing reads", [shown(n) for n in audit.unused_files]),
    )
    blocks += [_listed(title, lines) for title, lines in lists]
    return "\n\n".join(blocks)


def _count_table(audit: Audit) -> str:
    header = f"{'Pictures':<22}" + "".join(f"{part:>14}" for part in audit.counts)
    rows = [
        f"{emotion:<22}" + "".join(f"{c[emotion]:>14,}" for c in audit.counts.values())
        for emotion in EMOTIONS
    ]
    totals = "".join(f"{sum(c.values()):>14,}" for c in audit.counts.values())
    ratios = "".join(
        f"{'-' if ratio is None else f'{ratio:.1f}':>14}"
        for ratio in audit.imbalance.values()
    )
    return "\n".join(
        [header, *rows, f"{'all':<22}{totals}", f"{'largest / smallest':<22}{ratios}"]
    )


def _twin_table(audit: Audit) -> str:
    lines = [
        f"{'Twins, by greatest distance (RMSE in grey levels)':<50}"
        + "".join(f"{threshold:>10}" for threshold in THRESHOLDS)
    ]
    for place, title in PLACES.items():
        rows = audit.twin_counts[place]
        for what, counts in (
            (title, [row.pictures for row in rows]),
            ("  and by mirrored ones alone", [row.mirrored_only for row in rows]),
            ("  with a twin of another label", [row.conflicting for row in rows]),
        ):
            lines.append(f"{what:<50}" + "".join(f"{count:>10,}" for count in counts))
    return "\n".join(lines)


def _crowd_table(part: str, emotions: Mapping[str, CrowdAgreement]) -> str:
    lines = [
        f"{f'Labels and crowd, {part}':<31}{'pictures':>12}{'voted':>12}"
        f"{'majority':>12}{'agrees':>12}"
    ]
    for emotion, each in emotions.items():
        total = sum(each.majority.values())
        agrees = f"{each.majority[emotion] / total:.1%}" if total else "-"
        lines.append(
            f"{emotion:<31}{each.pictures:>12,}{each.voted:>12,}{total:>12,}{agrees:>12}"
        )
    return "\n".join(lines)


def _with_reasons(reasons: Mapping[str, str]) -> list[str]:
    return [f"{shown(name)}: {reason}" for name, reason in reasons.items()]


def _listed(title: str, lines: Collection[str]) -> str:
    listed = [f"  {line}" for line in list(lines)[:_NAMES_LISTED]]
    rest = len(lines) - len(listed)
    if rest:
        listed.append(f"  ... and {rest:,} more, in {AUDIT_FILE}")
    return "\n".join(
        [f"{title}: {len(lines):,}" if lines else f"{title}: none", *listed]
    )


def _wrapped(bullet: str, sentence: str) -> str:
    return textwrap.fill(
        sentence,
        _WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_on_hyphens=False,
    )


def _parts(train: Split, test: Split) -> dict[str, Split]:
    official = official_parts(test)
    return {"train": train, "test": test} | {
        part: test.select(places) for part, places in official.items()
    }


def _imbalance(counts: Mapping[str, int]) -> float | None:
    least = min(counts.values())
    return round(max(counts.values()) / least, 3) if least else None


def _standard_deviations(images: np.ndarray) -> np.ndarray:
    """Returns float64 `(n,)`; one picture at a time, as all at once fill memory."""
    return np.array([image.std() for image in images], dtype=np.float64)


def _crowd(split: Split, votes: Mapping[str, Votes]) -> dict[str, CrowdAgreement]:
    pictures, voted = Counter[str](), Counter[str]()
    seen: dict[str, Counter[str]] = {emotion: Counter() for emotion in EMOTIONS}
    for name, label in zip(split.names, split.labels, strict=True):
        emotion = EMOTIONS[label]
        pictures[emotion] += 1
        if name in votes:
            voted[emotion] += 1
            (label_of_crowd,), _ = crowd_labels(np.array([votes[name]]))
            if label_of_crowd >= 0:
                seen[emotion][EMOTIONS[label_of_crowd]] += 1
    return {
        emotion: CrowdAgreement(
            pictures[emotion],
            voted[emotion],
            {other: seen[emotion][other] for other in EMOTIONS},
        )
        for emotion in EMOTIONS
    }


def _names(values: Any) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TypeError("a list of names expected")
    return frozenset(values)
