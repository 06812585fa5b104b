"""An audit as one HTML page that carries its images and loads nothing.

File names may come from strangers. The template's environment makes every value
printable and escapes it, and the page's content security policy allows neither
scripts nor requests.
"""

import base64
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from emotion_cnn.audit.facts import BLANK_BELOW, RELATIONS, THRESHOLDS, Audit, Pair
from emotion_cnn.audit.text import CONVERTED_FILE, describe_format, findings, sizes
from emotion_cnn.data.splits import Split
from emotion_cnn.files import shown

_COPIES_SHOWN, _OTHERS_SHOWN = 30, 90
_BLANK_SHOWN = 60
_SAMPLES = {"train": 24, "test": 8}
_NAMES_SHOWN = 100


def render_page(audit: Audit, train: Split, test: Split, created: datetime) -> str:
    """Renders an audit with its images.

    Args:
        audit: The facts.
        train: The images of `train/` that they are about.
        test: The images of `test/` that they are about.
        created: When the audit was made, in UTC.

    Returns:
        A whole HTML document.
    """
    pair_lists = {
        "across": (audit.across, _choose_pairs(audit.across)),
        "conflicts": (audit.conflicts, _choose_pairs(audit.conflicts)),
    }
    blank = list(audit.blank)[:_BLANK_SHOWN]
    samples = {
        name: {
            "train": _choose_names(train, label, _SAMPLES["train"]),
            "test": _choose_names(test, label, _SAMPLES["test"]),
        }
        for label, name in enumerate(train.classes)
    }
    images = _images(
        (train, test),
        {
            *(name for _, pairs in pair_lists.values() for name in _names(pairs)),
            *blank,
            *(name for parts in samples.values() for n in parts.values() for name in n),
        },
    )
    environment = Environment(
        loader=PackageLoader("emotion_cnn.audit", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    environment.filters["percent"] = "{:.1%}".format
    return environment.get_template("page.html.j2").render(
        audit=audit,
        findings=findings(audit),
        sizes=sizes(audit),
        created=created,
        data_uri=lambda name: _data_uri(images[name]),
        relations=RELATIONS,
        thresholds=THRESHOLDS,
        blank_below=BLANK_BELOW,
        pair_lists=pair_lists,
        blank_shown=blank,
        names_shown=_NAMES_SHOWN,
        converted_file=CONVERTED_FILE,
        details={
            "Unreadable": audit.unreadable,
            "Of another size or mode": {
                name: describe_format(original)
                for name, original in audit.converted.items()
            },
            "Folders that are not read": dict.fromkeys(audit.unused_folders),
            "Files that are not read": dict.fromkeys(audit.unused_files),
        },
        samples=samples,
    )


def _images(splits: Sequence[Split], names: Collection[str]) -> dict[str, np.ndarray]:
    """Returns the images of some names: few of what may be millions."""
    return {
        name: split.images[position]
        for split in splits
        for position, name in enumerate(split.names)
        if name in names
    }


def _names(pairs: Iterable[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield from (pair.image, pair.near_duplicate)


def _printable(value: Any) -> Any:
    """Returns a value as the template may write it: text without control characters."""
    return value if isinstance(value, Markup) else shown(str(value))


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _choose_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns pairs of every distance where there are too many to show.

    Copies are many and need no second look, so most of the room is for the others.
    """
    copies = [pair for pair in pairs if pair.rmse <= THRESHOLDS[0]]
    others = [pair for pair in pairs if pair.rmse > THRESHOLDS[0]]
    return _choose(copies, _COPIES_SHOWN) + _choose(others, _OTHERS_SHOWN)


def _choose_names(split: Split, label: int, at_most: int) -> list[str]:
    positions = np.flatnonzero(split.labels == label).tolist()
    return [split.names[position] for position in _choose(positions, at_most)]


def _choose(items: Sequence[Any], at_most: int) -> list[Any]:
    """Returns `at_most` of the items, evenly spaced from the first to the last."""
    if not items:
        return []
    spaced = np.linspace(0, len(items) - 1, min(len(items), at_most)).round()
    return [items[position] for position in spaced.astype(int)]
