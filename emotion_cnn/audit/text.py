"""An audit as findings and as plain text."""

import textwrap
from collections.abc import Collection, Mapping

from emotion_cnn.audit.facts import (
    BLANK_BELOW,
    PLACES,
    THRESHOLDS,
    Audit,
    CrowdAgreement,
)
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.near_duplicates import AUDIT_FILE
from emotion_cnn.files import shown

_NAMES_LISTED = 20
_WIDTH = 80


def findings(audit: Audit) -> list[str]:
    """Returns what matters most, as sentences, gravest first."""
    train, test = (sum(audit.counts[part].values()) for part in ("train", "test"))
    near_duplicates, found = len(audit.test_with_near_duplicate_in_train), []
    if near_duplicates:
        copies = audit.near_duplicate_counts["test_in_train"][0]
        conflicting = audit.near_duplicate_counts["test_in_train"][-1].conflicting
        found.append(
            f"{near_duplicates:,} of {test:,} test images ({near_duplicates / test:.1%}) "
            f"stand in train too, {copies.images + copies.flipped_only:,} of them as copies. A "
            "network can memorise them: train with --leave-out, or see the "
            f"figures without them (evaluate --audit). {conflicting:,} have a "
            "near-duplicate there with another label."
        )
    else:
        found.append("No test image stands in train too.")
    within = audit.near_duplicate_counts["within_train"][-1]
    if within.images + within.flipped_only:
        found.append(
            f"{within.images + within.flipped_only:,} of {train:,} train images "
            f"have another in train as a near-duplicate; {within.conflicting:,} "
            "have one there with another label."
        )
    for part in ("train", "test"):
        missing = [name for name, count in audit.counts[part].items() if not count]
        ratio = audit.imbalance[part]
        if missing:
            found.append(f"In {part} there is no image of {', '.join(missing)}.")
        elif ratio and ratio >= 1.5:
            found.append(
                f"In {part} the largest emotion has {ratio:.1f} times the images of "
                "the smallest: look at balanced accuracy and macro-F1 too."
            )
    faults = [
        (len(audit.unreadable), "cannot be read"),
        (len(audit.blank), "blank"),
        (len(audit.converted), "not 48x48 grayscale"),
    ]
    if any(count for count, _ in faults):
        listed = ", ".join(f"{count:,} {what}" for count, what in faults if count)
        found.append(f"Images to look at: {listed}.")
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
        _near_duplicate_table(audit),
    ]
    if audit.crowd is not None:
        blocks += [_crowd_table(part, each) for part, each in audit.crowd.items()]
    converted = {
        name: f"{each.width}x{each.height}, {each.mode}" + ", turned" * each.turned
        for name, each in audit.converted.items()
    }
    blank = {name: f"standard deviation {d:.2f}" for name, d in audit.blank.items()}
    lists: tuple[tuple[str, Collection[str]], ...] = (
        ("Images that cannot be read", _with_reasons(audit.unreadable)),
        (
            f"Blank images (standard deviation below {BLANK_BELOW:g})",
            _with_reasons(blank),
        ),
        ("Images that are not 48x48 grayscale", _with_reasons(converted)),
        ("Folders that nothing reads", [shown(n) for n in audit.unused_folders]),
        ("Files that nothing reads", [shown(n) for n in audit.unused_files]),
    )
    blocks += [_listed(title, lines) for title, lines in lists]
    return "\n\n".join(blocks)


def _count_table(audit: Audit) -> str:
    header = f"{'Images':<22}" + "".join(f"{part:>14}" for part in audit.counts)
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


def _near_duplicate_table(audit: Audit) -> str:
    lines = [
        f"{'NearDuplicates, by greatest distance (RMSE in grey levels)':<50}"
        + "".join(f"{threshold:>10}" for threshold in THRESHOLDS)
    ]
    for place, title in PLACES.items():
        rows = audit.near_duplicate_counts[place]
        for what, counts in (
            (title, [row.images for row in rows]),
            ("  and by flipped ones alone", [row.flipped_only for row in rows]),
            (
                "  with a near-duplicate of another label",
                [row.conflicting for row in rows],
            ),
        ):
            lines.append(f"{what:<50}" + "".join(f"{count:>10,}" for count in counts))
    return "\n".join(lines)


def _crowd_table(part: str, emotions: Mapping[str, CrowdAgreement]) -> str:
    lines = [
        f"{f'Labels and crowd, {part}':<31}{'images':>12}{'voted':>12}"
        f"{'majority':>12}{'agrees':>12}"
    ]
    for emotion, each in emotions.items():
        total = sum(each.majority.values())
        agrees = f"{each.majority[emotion] / total:.1%}" if total else "-"
        lines.append(
            f"{emotion:<31}{each.images:>12,}{each.voted:>12,}{total:>12,}{agrees:>12}"
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
