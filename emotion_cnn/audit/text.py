"""An audit as sentences and as plain text."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence, Sized

from emotion_cnn.audit.facts import (
    BLANK_BELOW,
    RELATIONS,
    THRESHOLDS,
    Audit,
    CrowdAgreement,
)
from emotion_cnn.data.images import ImageFormat
from emotion_cnn.data.near_duplicates import AUDIT_FILE
from emotion_cnn.files import shown

CONVERTED_FILE = "converted.csv"
"""Where the images of another size or mode are listed: that can be all of millions."""

_NAMES_LISTED = 20
_WIDTH = 80


def findings(audit: Audit) -> list[str]:
    """Returns what matters most as sentences, the gravest first."""
    return [
        *_near_duplicate_findings(audit),
        *_class_findings(audit),
        *_file_findings(audit),
        *_crowd_findings(audit),
    ]


def sizes(audit: Audit) -> str:
    """Returns how many images each part has, in words."""
    return ", ".join(
        f"{sum(counts.values()):,} in {part}" for part, counts in audit.counts.items()
    )


def describe_format(original: ImageFormat) -> str:
    """Returns what an image was before its conversion, in words."""
    size = f"{original.width}x{original.height}, {original.mode}"
    return f"{size}, rotated by its EXIF data" if original.turned else size


def format_audit(audit: Audit) -> str:
    """Lays an audit out as plain text, 80 columns wide except for long file names."""
    blocks = [
        f"Audit of {shown(audit.data)}\n{sizes(audit)}",
        "\n".join(_wrapped("- ", sentence) for sentence in findings(audit)),
        _count_table(audit),
        _near_duplicate_table(audit),
    ]
    if audit.crowd is not None:
        blocks += [_crowd_table(part, each) for part, each in audit.crowd.items()]
    converted = {
        name: describe_format(original) for name, original in audit.converted.items()
    }
    blank = {name: f"standard deviation {d:.2f}" for name, d in audit.blank.items()}
    blocks += [
        _listed("Unreadable images", _with_details(audit.unreadable)),
        _listed(
            f"Blank images (standard deviation below {BLANK_BELOW:g})",
            _with_details(blank),
        ),
        _listed(
            "Images of another size or mode",
            _with_details(converted),
            file=CONVERTED_FILE,
        ),
        _listed("Folders that are not read", [shown(n) for n in audit.unused_folders]),
        _listed("Files that are not read", [shown(n) for n in audit.unused_files]),
    ]
    return "\n\n".join(blocks)


def _near_duplicate_findings(audit: Audit) -> Iterable[str]:
    train, test = (sum(audit.counts[part].values()) for part in ("train", "test"))
    copies, *_, all_near = audit.near_duplicate_counts["test_in_train"]
    if all_near.images:
        yield (
            f"{all_near.images:,} of {test:,} test images "
            f"({all_near.images / test:.1%}) have a near-duplicate in train; "
            f"{copies.images:,} of them are copies, at most {copies.rmse} gray level "
            "apart. A network can memorise them: leave them out of training, "
            "or report the figures without them; both read audit.json. "
            f"{all_near.conflicting:,} have a near-duplicate in train "
            "with another label."
        )
    else:
        yield "No test image has a near-duplicate in train."
    if audit.against == "test":
        yield (
            "Train was compared with test alone: near-duplicates within train and "
            "within test were not looked for, and may be many."
        )
        return
    if not audit.complete:
        yield (
            "The search for near-duplicates was nearly complete: not every pair was "
            "compared, so that a few may be missing."
        )
    within = audit.near_duplicate_counts["within_train"][-1]
    if within.images:
        yield (
            f"{within.images:,} of {train:,} train images have a near-duplicate in "
            f"train; {within.conflicting:,} have one with another label."
        )


def _class_findings(audit: Audit) -> Iterable[str]:
    for part in ("train", "test"):
        missing = [shown(n) for n, count in audit.counts[part].items() if not count]
        ratio = audit.imbalance[part]
        if missing:
            yield f"In {part} there is no image of {', '.join(missing)}."
        elif ratio and ratio >= 1.5:
            yield (
                f"In {part} the largest class has {ratio:.1f} times as many images as "
                "the smallest: report balanced accuracy and macro-F1 too."
            )


def _file_findings(audit: Audit) -> Iterable[str]:
    faults: dict[str, Sized] = {
        "unreadable": audit.unreadable,
        "blank": audit.blank,
        "of another size or mode": audit.converted,
    }
    listed = [f"{len(names):,} {what}" for what, names in faults.items() if names]
    if listed:
        yield f"Images to check: {', '.join(listed)}."
    unused = len(audit.unused_folders) + len(audit.unused_files)
    if unused:
        yield f"Folders and files that are not read: {unused:,}."


def _crowd_findings(audit: Audit) -> Iterable[str]:
    for part in ("train", "test"):
        labels = (audit.crowd or {}).get(part, {}).values()
        decided = sum(each.decided for each in labels)
        agreed = sum(each.agreed for each in labels)
        if decided:
            yield (
                f"In {part} the label agrees with the majority of FER+ votes on "
                f"{agreed / decided:.0%} of the images whose votes have one "
                f"({agreed:,} of {decided:,})."
            )


def _count_table(audit: Audit) -> str:
    header = f"{'Images':<22}" + "".join(f"{part:>14}" for part in audit.counts)
    rows = [
        f"{shown(name):<22}" + "".join(f"{c[name]:>14,}" for c in audit.counts.values())
        for name in audit.counts["train"]
    ]
    totals = "".join(f"{sum(c.values()):>14,}" for c in audit.counts.values())
    ratios = "".join(
        f"{'-' if ratio is None else f'{ratio:.1f}':>14}"
        for ratio in audit.imbalance.values()
    )
    return "\n".join(
        [header, *rows, f"{'all':<22}{totals}", f"{'largest / smallest':<22}{ratios}"]
    )


def _near_duplicate_table(audit: Audit) -> str:
    lines = [
        f"{'Near-duplicates up to a distance (RMSE, gray levels)':<53}"
        + "".join(f"{threshold:>9}" for threshold in THRESHOLDS)
    ]
    for relation, rows in audit.near_duplicate_counts.items():
        for name, counts in (
            (RELATIONS[relation], [row.images for row in rows]),
            ("  only flipped", [row.flipped_only for row in rows]),
            ("  with another label", [row.conflicting for row in rows]),
        ):
            lines.append(f"{name:<53}" + "".join(f"{count:>9,}" for count in counts))
    return "\n".join(lines)


def _crowd_table(part: str, labels: Mapping[str, CrowdAgreement]) -> str:
    lines = [
        f"{f'Labels and FER+ votes, {part}':<35}{'images':>11}{'voted':>11}"
        f"{'majority':>11}{'agrees':>11}"
    ]
    for label, each in labels.items():
        agrees = f"{each.agreed / each.decided:.1%}" if each.decided else "-"
        lines.append(
            f"{shown(label):<35}{each.images:>11,}{each.voted:>11,}{each.decided:>11,}"
            f"{agrees:>11}"
        )
    return "\n".join(lines)


def _with_details(details: Mapping[str, str]) -> list[str]:
    return [f"{shown(name)}: {detail}" for name, detail in details.items()]


def _listed(title: str, lines: Sequence[str], *, file: str = AUDIT_FILE) -> str:
    listed = [f"  {line}" for line in lines[:_NAMES_LISTED]]
    rest = len(lines) - len(listed)
    if rest:
        listed.append(f"  ... and {rest:,} more, in {file}")
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
