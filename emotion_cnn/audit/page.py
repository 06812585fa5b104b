"""An audit as one HTML page that carries its images and loads nothing.

File names come from strangers: every text goes through `_text`, and the page's
content security policy lets it neither run a script nor fetch anything.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
from PIL import Image

from emotion_cnn.audit.facts import BLANK_BELOW, PLACES, THRESHOLDS, Audit, Pair
from emotion_cnn.audit.text import findings
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.splits import Split
from emotion_cnn.files import shown

_COPIES_SHOWN, _OTHERS_SHOWN = 30, 90
_BLANK_SHOWN = 60
_SAMPLES = {"train": 24, "test": 8}
_NAMES_SHOWN = 100

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #22262b;
  --soft: #636b74; --line: #dcd9d1; --card: #fff; --bar: #4f7a93; --warn: #a3341f; }
@media (prefers-color-scheme: dark) { :root { --paper: #17191c; --ink: #e6e4df;
  --soft: #a0a6ad; --line: #363a40; --card: #202327; --bar: #7fb0cc;
  --warn: #ff9d85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { max-width: 44rem; margin: .4rem 0; }
.soft { color: var(--soft); }
.findings { padding: .75rem 1rem .75rem 2rem; margin: 1.25rem 0;
  background: var(--card); border: 1px solid var(--line);
  border-left: .3rem solid var(--bar); }
.findings li { margin: .3rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .92rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td.name { text-align: left; white-space: normal; }
thead th { color: var(--soft); font-weight: 600; }
.sum th, .sum td { font-weight: 600; }
.sub th { font-weight: 400; color: var(--soft); padding-left: 1rem; }
tbody th { font-weight: 500; }
td.bar { width: 30%; min-width: 5rem; }
td.bar span { display: block; height: .7rem; background: var(--bar);
  border-radius: 2px; }
.sheet { display: grid; gap: 3px; margin: 0 0 .75rem;
  grid-template-columns: repeat(auto-fill, minmax(48px, 1fr)); }
.sheet img { width: 100%; height: auto; display: block; }
.pairs { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
figure { margin: 0; padding: .6rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 4px; }
figure .both { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; line-height: 1.35; margin-top: .4rem; }
figcaption span { display: block; overflow-wrap: anywhere; }
.warn { color: var(--warn); font-weight: 600; }
ul.names { columns: 20rem; font-size: .85rem; padding-left: 1.2rem; }
ul.names li { overflow-wrap: anywhere; }
@media (max-width: 40rem) { .bar { display: none; }
  th, td { padding-right: .5rem; font-size: .85rem; } }
"""


def render_report(audit: Audit, train: Split, test: Split, made: datetime) -> str:
    """Renders an audit with its images.

    Args:
        audit: What was found.
        train: The images of `train/` that it was found in.
        test: Those of `test/`.
        made: When.

    Returns:
        A whole HTML document.
    """
    images = dict(
        zip(train.names + test.names, (*train.images, *test.images), strict=True)
    )
    sections = [
        _header(audit, made),
        _counts(audit),
        _near_duplicates(audit, images),
        _conflicts(audit, images),
        _crowd(audit),
        _faults(audit, images),
        *(_samples(label, train, test) for label in range(len(EMOTIONS))),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {_text(audit.data)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _header(audit: Audit, made: datetime) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>\n" for sentence in findings(audit))
    sizes = ", ".join(f"{sum(c.values()):,} in {p}" for p, c in audit.counts.items())
    return (
        f"<header><h1>Audit of {_text(audit.data)}</h1>\n"
        f'<p class="soft">{_text(sizes)}. Made on {made:%Y-%m-%d at %H:%M} UTC; all '
        f"lists are whole in audit.json.</p>\n</header>\n<main>\n"
        f'<ul class="findings">\n{items}</ul>\n'
    )


def _counts(audit: Audit) -> str:
    parts = list(audit.counts)
    largest = max(audit.counts["train"].values())
    rows = []
    for emotion in EMOTIONS:
        share = audit.counts["train"][emotion] / largest if largest else 0
        numbers = [f"{audit.counts[part][emotion]:,}" for part in parts]
        bar = f'<td class="bar"><span style="width:{share:.1%}"></span></td>'
        rows.append(f"<tr>{_cells(emotion, numbers)}{bar}</tr>")
    totals = [f"{sum(audit.counts[part].values()):,}" for part in parts]
    ratios = [
        "-" if ratio is None else f"{ratio:.1f}" for ratio in audit.imbalance.values()
    ]
    rows += [
        f'<tr class="sum">{_cells("all", totals)}</tr>',
        f'<tr class="sum">{_cells("largest / smallest", ratios)}</tr>',
    ]
    table = _table(["emotion", *parts], rows)
    return f"<section><h2>Images</h2>\n{table}</section>\n"


def _near_duplicates(audit: Audit, images: Mapping[str, np.ndarray]) -> str:
    rows = []
    for place, title in PLACES.items():
        counts = audit.near_duplicate_counts[place]
        rows.append(f"<tr>{_cells(title, [f'{c.images:,}' for c in counts])}</tr>")
        for what, numbers in (
            ("and by flipped ones alone", [c.flipped_only for c in counts]),
            ("with a near-duplicate of another label", [c.conflicting for c in counts]),
        ):
            cells = _cells(what, [f"{number:,}" for number in numbers])
            rows.append(f'<tr class="sub">{cells}</tr>')
    table = _table(["greatest distance", *map(str, THRESHOLDS)], rows)
    return (
        "<section><h2>Near-duplicates</h2>\n"
        "<p>Two images are near-duplicates if they, or one and the other's horizontal "
        "flip, are "
        f"no further apart than {THRESHOLDS[-1]} gray levels of 255 (root mean square "
        "difference of the pixels). Blank images have none: they all look alike.</p>"
        f"\n{table}<h3>In test and in train</h3>\n{_pairs(audit.across, images)}"
        "</section>\n"
    )


def _conflicts(audit: Audit, images: Mapping[str, np.ndarray]) -> str:
    return (
        "<section><h2>Near-duplicates whose labels disagree</h2>\n"
        "<p>At least one of the two labels is wrong, or the face can be read either "
        "way. No network can learn both.</p>\n"
        f"{_pairs(audit.conflicts, images)}</section>\n"
    )


def _pairs(pairs: Sequence[Pair], images: Mapping[str, np.ndarray]) -> str:
    """Shows pairs of every distance where there are too many to show.

    Copies are many and need no second look, so most of the room is for the others.
    """
    if not pairs:
        return "<p>None.</p>\n"
    copies = [pair for pair in pairs if pair.rmse <= THRESHOLDS[0]]
    others = [pair for pair in pairs if pair.rmse > THRESHOLDS[0]]
    shown_pairs = [copies[place] for place in _spread(len(copies), _COPIES_SHOWN)]
    shown_pairs += [others[place] for place in _spread(len(others), _OTHERS_SHOWN)]
    figures = "".join(_figure(pair, images) for pair in shown_pairs)
    return (
        f'<p class="soft">{_shown_of(len(shown_pairs), len(pairs), "pairs")}, nearest '
        f'first.</p>\n<div class="pairs">\n{figures}</div>\n'
    )


def _figure(pair: Pair, images: Mapping[str, np.ndarray]) -> str:
    both = "".join(
        _image(images[name], f"{label}: {name}")
        for name, label in (
            (pair.image, pair.label),
            (pair.near_duplicate, pair.near_duplicate_label),
        )
    )
    distance = "identical" if pair.rmse == 0 else f"{pair.rmse:.1f} apart"
    labels = (
        f'<span class="warn">{_text(pair.label)} / '
        f"{_text(pair.near_duplicate_label)}</span>"
        if pair.is_conflict
        else f"<span>both {_text(pair.label)}</span>"
    )
    flipped = ", flipped" if pair.flipped else ""
    return (
        f'<figure><div class="both">{both}</div>\n<figcaption>{labels}'
        f"<span>{distance}{flipped}</span>"
        f'<span class="soft">{_text(pair.image)}</span>'
        f'<span class="soft">{_text(pair.near_duplicate)}</span>'
        "</figcaption></figure>\n"
    )


def _crowd(audit: Audit) -> str:
    if audit.crowd is None:
        return ""
    head = ["label", "images", "voted", "majority", "agrees", "else mostly"]
    tables = ""
    for part, emotions in audit.crowd.items():
        rows = []
        for emotion, each in emotions.items():
            total = sum(each.majority.values())
            agrees = f"{each.majority[emotion] / total:.1%}" if total else "-"
            others = sorted(
                ((n, name) for name, n in each.majority.items() if name != emotion),
                reverse=True,
            )
            instead = ", ".join(f"{name} {n:,}" for n, name in others[:2] if n)
            numbers = [f"{n:,}" for n in (each.images, each.voted, total)]
            cells = _cells(emotion, [*numbers, agrees, instead or "-"])
            rows.append(f"<tr>{cells}</tr>")
        tables += f"<h3>{_text(part)}</h3>\n{_table(head, rows)}"
    return (
        "<section><h2>Labels and crowd</h2>\n<p>Images with FER+ votes, those of "
        "them where over half of the votes are for one emotion, and how often that is "
        f"the label.</p>\n{tables}</section>\n"
    )


def _faults(audit: Audit, images: Mapping[str, np.ndarray]) -> str:
    blank = list(audit.blank)[:_BLANK_SHOWN]
    thumbnails = "".join(_image(images[name], f"blank: {name}") for name in blank)
    names = _names(f"{name}: {audit.blank[name]:.2f}" for name in blank)
    sheet = f'<div class="sheet">{thumbnails}</div>\n{names}' if blank else ""
    lists = {
        "Cannot be read": [f"{n}: {why}" for n, why in audit.unreadable.items()],
        "Not 48x48 grayscale": [
            f"{name}: {each.width}x{each.height}, {each.mode}"
            + (", turned by its EXIF data" if each.turned else "")
            for name, each in audit.converted.items()
        ],
        "Folders that nothing reads": audit.unused_folders,
        "Files that nothing reads": audit.unused_files,
    }
    others = "".join(
        f"<h3>{title}: {len(lines):,}</h3>\n{_names(lines[:_NAMES_SHOWN])}"
        + (
            f'<p class="soft">... and {len(lines) - _NAMES_SHOWN:,} more.</p>\n'
            if len(lines) > _NAMES_SHOWN
            else ""
        )
        for title, lines in lists.items()
    )
    return (
        "<section><h2>Images and files to look at</h2>\n"
        f"<h3>Blank (standard deviation below {BLANK_BELOW:g}): "
        f"{len(audit.blank):,}</h3>\n{sheet}{others}</section>\n"
    )


def _samples(label: int, train: Split, test: Split) -> str:
    sheets = ""
    for part, split in (("train", train), ("test", test)):
        places = np.flatnonzero(split.labels == label)
        chosen = [int(places[k]) for k in _spread(len(places), _SAMPLES[part])]
        images = "".join(
            _image(split.images[place], f"{EMOTIONS[label]}: {split.names[place]}")
            for place in chosen
        )
        counted = _shown_of(len(chosen), len(places), "images")
        sheets += f'<p class="soft">{part}: {counted}</p>\n'
        sheets += f'<div class="sheet">{images}</div>\n'
    return f"<section><h2>Sample: {EMOTIONS[label]}</h2>\n{sheets}</section>\n"


def _spread(count: int, at_most: int) -> list[int]:
    """Returns positions below `count`, evenly spaced from first to last."""
    if count == 0:
        return []
    return (
        np.unique(np.linspace(0, count - 1, min(count, at_most)).round())
        .astype(int)
        .tolist()
    )


def _shown_of(some: int, count: int, noun: str) -> str:
    return f"{some:,} of {count:,} {noun}" if some < count else f"all {count:,} {noun}"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    """Lays out rows of `_cells`; too wide a table scrolls, with the keyboard too."""
    cells = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "\n".join(rows)
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n"
    )


def _cells(name: str, cells: Iterable[str]) -> str:
    tail = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    return f'<th scope="row">{_text(name)}</th>{tail}'


def _names(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>\n" for line in lines)
    return f'<ul class="names">\n{items}</ul>\n' if items else ""


def _image(pixels: np.ndarray, alternative: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(file, "PNG", optimize=True)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    text = _text(alternative)
    return (
        f'<img src="data:image/png;base64,{encoded}" width="48" height="48" '
        f'alt="{text}" title="{text}">'
    )


def _text(text: str) -> str:
    """Returns a text of anybody's, fit to stand in the page or in an attribute."""
    return html.escape(shown(text))
