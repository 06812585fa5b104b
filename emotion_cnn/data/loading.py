"""The data of a command: read, labelled, without near-duplicates, split.

Where images come from, whose labels they have and what is left out is decided here,
and said in the notes that training and evaluation log.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emotion_cnn.data.annotations import Annotations
from emotion_cnn.data.cache import ImageCache
from emotion_cnn.data.classes import (
    BOTH_LABELS,
    CONTEMPT,
    EMOTIONS,
    LABEL_NAMES,
    LABELS,
    emotion_from_name,
    parse_classes,
)
from emotion_cnn.data.drawn_faces import sample_test, sample_train
from emotion_cnn.data.folders import read_splits, read_test, read_validation
from emotion_cnn.data.folds import divide_into_folds, parse_fold
from emotion_cnn.data.groups import find_groups
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.data.listing import find_classes
from emotion_cnn.data.near_duplicates import (
    AUDIT_FILE,
    KnownNearDuplicates,
    read_known_near_duplicates,
)
from emotion_cnn.data.soft_labels import (
    OutOfFold,
    average_out_of_fold,
    mix_soft_labels,
)
from emotion_cnn.data.source import SAMPLE_DATA, source_name
from emotion_cnn.data.splits import (
    Dataset,
    Split,
    class_counts,
    describe_other_images,
    hold_out,
    official_parts,
    split_dataset,
)
from emotion_cnn.data.vote_smoothing import smooth_labels
from emotion_cnn.data.votes import (
    VOTES_NAME,
    Votes,
    add_votes,
    find_votes,
    relabel,
    vote_counts,
)
from emotion_cnn.errors import ConfigError, DataError
from emotion_cnn.files import shown

_log = logging.getLogger(__name__)


def classes_to_train(source: str, declared: str | None) -> tuple[str, ...]:
    """Returns the classes of a network to be trained.

    Args:
        source: A data folder, or `SAMPLE_DATA`.
        declared: Their names, as `parse_classes` takes them; None for those that the
            data folder has images of.

    Raises:
        ConfigError: `declared` names no classes, or others than the drawn faces have.
        DataError: The folder has images of a single class, or cannot be listed.
    """
    if declared is not None:
        classes = parse_classes(declared)
        if source == SAMPLE_DATA and classes != EMOTIONS:
            raise ConfigError(
                f"`classes` is for images of one's own: the drawn faces are of "
                f"{', '.join(EMOTIONS)}. Leave it out, or choose a folder with `data`."
            )
        return classes
    # Without any image, reading them says what is missing.
    classes = () if source == SAMPLE_DATA else find_classes(Path(source))
    if len(classes) == 1:
        raise DataError(
            f"Expected images of two or more classes in {shown(source)}, each in a "
            f"folder of its own, found only {classes[0]}. Add images of others."
        )
    return classes or EMOTIONS


def load_training_data(
    source: str,
    *,
    labels: str,
    distribution: bool,
    leave_out: str | None,
    skip_bad: bool,
    validation_share: float,
    seed: int,
    vote_smoothing: float,
    classes: tuple[str, ...] = EMOTIONS,
    size: int = IMAGE_SIZE,
    fold: str | None = None,
    teachers: Mapping[str, OutOfFold] | None = None,
    soft_share: float = 0.5,
    cache: ImageCache | None = None,
) -> tuple[Dataset, Annotations]:
    """Reads what a network is trained, validated and tested on.

    Args:
        source: A data folder, or `SAMPLE_DATA`.
        labels: `original`, `ferplus`, or `both`.
        distribution: With `ferplus`: whether targets are the shares of the votes in
            place of their majority.
        leave_out: An `audit.json`: leave the train images out that have a
            near-duplicate in test.
        skip_bad: Whether to go on without images that cannot be read.
        validation_share: Share of train to hold out where there is no official split.
        seed: Chooses the images to hold out.
        vote_smoothing: With `both`: share of each original label that is replaced by
            soft labels predicted from the votes.
        classes: Names of the classes, in the order of the labels.
        size: Height and width, in pixels, that images are converted to.
        fold: With `leave_out`: fold to hold out for validation, such as `1/4`.
        teachers: As for `average_out_of_fold`: mix their predictions into the targets.
        soft_share: Share of each original label that they replace.
        cache: Where decoded images are kept.

    Returns:
        The data; the near-duplicates, if an audit of them is at hand; and the votes, if
        they are the first labels.

    Raises:
        DataError: Images, votes or the audit are missing or damaged.
    """
    # First: reading images takes longer than finding out that there are no votes.
    votes = {} if labels == "original" else _read_votes(source, labels)
    notes: tuple[str, ...] = ()
    validation: Split | None = None
    if source == SAMPLE_DATA:
        train, test = sample_train(), sample_test()
    else:
        train, test, notes = read_splits(
            Path(source),
            skip_bad=skip_bad,
            classes=classes,
            # FER+'s votes see contempt where no folder of FER2013 does.
            may_lack=() if labels == "original" else (CONTEMPT,),
            size=size,
            cache=cache,
        )
        own = read_validation(
            Path(source), skip_bad=skip_bad, classes=classes, size=size, cache=cache
        )
        if own and fold:
            notes += (
                f"left out: {own[0].names[0].split('/')[0]}/, as a fold validates",
            )
        elif own:
            validation, of_validation = own
            notes += of_validation
    if others := describe_other_images(test):
        _log.warning("%s.", others)
    near_duplicates = _near_duplicates_at_hand(
        leave_out, source, train=train, test=test
    )
    if labels == "ferplus":
        given = {"train": train, "test": test}
        given |= {"validation": validation} if validation else {}
        relabelled, left_out = _relabelled(given, votes, distribution=distribution)
        train, test = relabelled["train"], relabelled["test"]
        validation = relabelled.get("validation")
        notes += left_out
    elif labels == BOTH_LABELS:
        train, of_train = add_votes(train, votes)
        test, of_test = add_votes(test, votes)
        validation = add_votes(validation, votes)[0] if validation else None
        if not of_train:
            raise DataError(
                f"`labels={BOTH_LABELS}` needs votes on images of train/, found a "
                f"{VOTES_NAME} in {source_name(source)} with none on these, so that "
                "one of the two label sets would be learnt from nothing. Add them: "
                "`emotion-cnn prepare` with FER+'s fer2013new.csv."
            )
        notes += (
            f"FER+ votes on {of_train:,} of {len(train):,} images of train/, "
            f"{of_test:,} of {len(test):,} of test/",
        )
    if near_duplicates and leave_out:
        count = len(train)
        train = near_duplicates.exclude_from(train)
        notes += (
            f"left out of train: {count - len(train):,} of {count:,} images, which "
            f"have a near-duplicate in test ({near_duplicates.path})",
        )
    if fold:
        if near_duplicates is None:
            raise DataError(
                "Expected an audit of the data to divide it into folds, found none. "
                "Name its audit.json with `leave_out`."
            )
        data = _without_fold(train, test, fold, near_duplicates, notes)
    else:
        groups = None
        if not (source == SAMPLE_DATA or validation or official_parts(test)):
            # Looking at every name takes longer than all else of a million images.
            groups = find_groups(Path(source), train.names)
        data = split_dataset(
            train,
            test,
            validation_share=validation_share,
            seed=seed,
            notes=notes,
            validation=validation,
            groups=groups,
        )
    # After the split: what is held out is neither smoothed nor fitted on.
    soft_labels = None
    if teachers:
        label_sets = LABELS if labels == BOTH_LABELS else (labels,)
        soft_labels = _soft_labels_by_name(data, train, teachers, label_sets)
        data = _retargeted(
            data,
            mix_soft_labels(data.train, soft_labels, label_sets, share=soft_share),
            f"soft labels of {len(teachers)} teachers mixed in",
        )
    if vote_smoothing:
        known = "the votes and the teachers" if teachers else "the votes"
        data = _retargeted(
            data,
            smooth_labels(
                data.train, votes, share=vote_smoothing, soft_labels=soft_labels
            ),
            f"{vote_smoothing:.0%} soft labels predicted from {known}",
        )
    if teachers or vote_smoothing:
        data = dataclasses.replace(
            data,
            fingerprint=_fingerprint_of_sources(
                data, votes if vote_smoothing else {}, soft_labels
            ),
        )
    _log.info("Data: %s, %s", source_name(source), LABEL_NAMES[labels])
    if classes != EMOTIONS:
        _log.info("  %s classes: %s", len(classes), ", ".join(classes))
    for note in data.notes:
        _log.info("  %s", note)
    _log.info(
        "  %s images to train on, %s to test on\n  validation: %s",
        f"{len(data.train):,}",
        f"{len(data.test):,}",
        data.validation_source,
    )
    return data, _annotations(labels, votes, near_duplicates)


def load_test_data(
    source: str,
    *,
    labels: str,
    audit: str | None,
    skip_bad: bool,
    classes: tuple[str, ...] = EMOTIONS,
    size: int = IMAGE_SIZE,
    cache: ImageCache | None = None,
) -> tuple[Split, Annotations]:
    """Reads what a network is evaluated on.

    Args:
        source: A data folder, or `SAMPLE_DATA`.
        labels: `original` or `ferplus`.
        audit: An `audit.json`; without it, one in the data folder is taken.
        skip_bad: Whether to go on without images that cannot be read.
        classes: Names of the classes, in the order of the labels.
        size: Height and width, in pixels, that images are converted to.
        cache: Where decoded images are kept.

    Returns:
        The images of test; the near-duplicates, if an audit of them is at hand; and
        the votes, if they are the labels.

    Raises:
        DataError: Images, votes or the audit are missing or damaged, or there are
            images of other classes.
    """
    votes = {} if labels == "original" else _read_votes(source, labels)
    notes: tuple[str, ...] = ()
    if source == SAMPLE_DATA:
        test = sample_test()
    else:
        _require_known(source, classes)
        test, notes = read_test(
            Path(source), skip_bad=skip_bad, classes=classes, size=size, cache=cache
        )
    for note in notes:
        _log.info("%s", note)
    if others := describe_other_images(test):
        _log.warning("%s.", others)
    near_duplicates = _near_duplicates_at_hand(audit, source, test=test)
    if labels == "ferplus":
        relabelled, notes = _relabelled({"test": test}, votes, distribution=False)
        test = relabelled["test"]
        for note in notes:
            _log.info("%s", note)
    return test, _annotations(labels, votes, near_duplicates)


def _require_known(source: str, classes: tuple[str, ...]) -> None:
    """Makes sure that a network of these classes can be right on every test image."""
    found = find_classes(Path(source), "test")
    unknown = [name for name in found if emotion_from_name(name, classes) is None]
    if unknown:
        raise DataError(
            f"Expected images of the network's classes, {', '.join(classes)}; found "
            f"folders of {', '.join(unknown)} in {shown(str(Path(source) / 'test'))}. "
            "Move them elsewhere, or evaluate a network of these classes, too."
        )


def _annotations(
    labels: str,
    votes: Mapping[str, Votes],
    near_duplicates: KnownNearDuplicates | None,
) -> Annotations:
    # Where votes are the labels, figures are given by how far they agree, too.
    return Annotations(votes if labels == "ferplus" else None, near_duplicates)


def _without_fold(
    train: Split,
    test: Split,
    fold: str,
    near_duplicates: KnownNearDuplicates,
    notes: tuple[str, ...],
) -> Dataset:
    """Holds one fold of train out for validation."""
    number, count = parse_fold(fold)
    if near_duplicates.within_train is None:
        raise DataError(
            "Expected an audit of all images against all, as a fold keeps the "
            "near-duplicates within train/ together; found one of train/ against "
            f"test/ alone: {shown(str(near_duplicates.path))}. Run `emotion-cnn audit` "
            "again without `against`."
        )
    folds = divide_into_folds(
        train.names, train.labels.tolist(), near_duplicates.within_train, count=count
    )
    return hold_out(
        train,
        test,
        np.array(folds) == number,
        source=f"fold {fold} of train/, near-duplicates kept together",
        notes=notes,
    )


def _soft_labels_by_name(
    data: Dataset,
    train: Split,
    teachers: Mapping[str, OutOfFold],
    label_sets: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Returns teachers' mean predictions for the images to train on, by their names.

    Args:
        data: The data.
        train: All images that the teachers have divided among them.
        teachers: What they predict.
        label_sets: Whose predictions are needed.
    """
    soft = average_out_of_fold(
        teachers,
        names=train.names,
        classes=train.classes,
        label_sets=label_sets,
        fingerprint=data.training_fingerprint,
    )
    return dict(zip(train.names, soft, strict=True))


def _fingerprint_of_sources(
    data: Dataset,
    votes: Mapping[str, Votes],
    soft_labels: Mapping[str, np.ndarray] | None,
) -> str:
    """Returns a fingerprint of data and of what their targets are made from.

    A resumed run finds out by it whether votes and teachers are the same. The targets
    themselves would not do: other processors, or numbers of threads, solve the
    regression of `smooth_labels` with other last digits.

    Args:
        data: The data, with their fingerprint from before the targets were changed.
        votes: Those that the targets are smoothed by.
        soft_labels: What teachers predict for the images to train on, by their names.
    """
    names = data.train.names
    digest = hashlib.sha256(data.fingerprint.encode())
    digest.update(vote_counts(names, votes).astype("<i8").tobytes())
    if soft_labels is not None:
        soft = np.stack([soft_labels[name] for name in names])
        digest.update(soft.astype("<f4").tobytes())
    return digest.hexdigest()


def _retargeted(data: Dataset, train: Split, how: str) -> Dataset:
    """Returns data whose training images have other targets, and says how."""
    note = f"labels of train/: {how}"
    return dataclasses.replace(data, train=train, notes=(*data.notes, note))


def _near_duplicates_at_hand(
    named: str | None, source: str, **splits: Split
) -> KnownNearDuplicates | None:
    """Returns what the audit knows that is named or lies in the data folder.

    Raises:
        DataError: The one that is named is damaged, or is of other images. One that
            merely lies there may be old: it is left alone, and this is said.
    """
    images = sum(map(len, splits.values()))
    if named:
        known = read_known_near_duplicates(Path(named), images=images)
        known.check(**splits)
        return known
    beside = Path(source) / AUDIT_FILE
    if source == SAMPLE_DATA or not beside.is_file():
        return None
    try:
        known = read_known_near_duplicates(beside, images=images)
        known.check(**splits)
    except DataError as error:
        _log.warning("%s is not used. %s", beside, error)
        return None
    return known


def _relabelled(
    splits: Mapping[str, Split], votes: Mapping[str, Votes], *, distribution: bool
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Returns the images with labels by votes, and what was left out, in words.

    Raises:
        DataError: There are no votes for a class in `train`.
    """
    relabelled, notes = {}, []
    for part, split in splits.items():
        kept, left_out = relabel(split, votes, distribution=distribution)
        missing = [name for name, count in class_counts(kept).items() if not count]
        if not len(kept) or (part == "train" and missing):
            raise DataError(
                f"Expected votes for every class in {part}/, found no image with a "
                f"majority for {' or '.join(missing)}. Choose `labels=original`, or "
                "add images and votes."
            )
        reasons = ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n)
        notes.append(
            f"FER+ labels: {len(kept):,} of {len(split):,} images of {part}/; left "
            f"out: {reasons or 'none'}"
        )
        relabelled[part] = kept
    return relabelled, tuple(notes)


def _read_votes(source: str, labels: str) -> dict[str, Votes]:
    votes = None if source == SAMPLE_DATA else find_votes(Path(source))
    if votes is None:
        raise DataError(
            f"`labels={labels}` needs votes, found no {VOTES_NAME} in "
            f"{source_name(source)}. Add them: `emotion-cnn prepare` with FER+'s "
            "fer2013new.csv."
        )
    return votes
