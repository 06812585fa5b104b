"""The runner of `--mode audit`; apart from the others, which import Keras."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from emotion_cnn import __version__
from emotion_cnn.audit.facts import audit_images
from emotion_cnn.audit.page import render_page
from emotion_cnn.audit.text import format_audit
from emotion_cnn.config import AuditConfig
from emotion_cnn.data.drawn_faces import sample_splits
from emotion_cnn.data.folders import Survey, survey
from emotion_cnn.data.near_duplicates import AUDIT_FILE, FORMAT, KIND
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.data.votes import find_votes
from emotion_cnn.files import create_folder, open_output, write_json, write_text


def audit(config: AuditConfig) -> Path:
    """Finds out what is in a data folder, and writes it down.

    Args:
        config: Which folder, and where results go.

    Returns:
        The folder with `audit.json`, `audit.txt` and `audit.html`.

    Raises:
        EmotionCnnError: There are no images, or results cannot be written.
    """
    source = find_source(config.data)
    votes = None
    now = datetime.now(timezone.utc)
    # Before the work, so that nobody waits for results that have no place.
    with _output_folder(config, now) as output:
        if source == SAMPLE_DATA:
            found = Survey(*sample_splits(), {}, {}, (), ())
        else:
            votes = find_votes(Path(source))
            found = survey(Path(source))
        result = audit_images(source_name(source), found, votes)
        report = format_audit(result)
        write_text(output / "audit.txt", report + "\n")
        write_text(
            output / "audit.html", render_page(result, found.train, found.test, now)
        )
        made = {
            "kind": KIND,
            "format": FORMAT,
            "version": __version__,
            "created": now.isoformat(timespec="seconds"),
        }
        write_json(output / AUDIT_FILE, made | dataclasses.asdict(result))
    print(f"{report}\n\nResults: {output}")
    return output


@contextmanager
def _output_folder(config: AuditConfig, now: datetime) -> Iterator[Path]:
    """Creates a folder for results; it goes again if the block leaves it empty."""
    output = (
        open_output(Path(config.output))
        if config.output
        else create_folder(Path(config.runs), f"{now.astimezone():%Y%m%d-%H%M%S}-audit")
    )
    try:
        yield output
    finally:
        with suppress(OSError):  # There are results in it.
            output.rmdir()
