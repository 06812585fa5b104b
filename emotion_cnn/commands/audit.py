"""Report near-duplicates, damaged and blank images, imbalance of a data folder.

Writes audit.json, audit.txt and audit.html; and, if images are of another size
or mode, converted.csv, which lists them. Training (--leave-out) and evaluation
(--audit) read the near-duplicates from audit.json.

Examples of settings:
  --data FOLDER
  --data FOLDER --output audit
  --data FOLDER --against test
  --data FOLDER --search nearly-complete
"""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emotion_cnn import __version__
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import EMOTIONS, parse_classes
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.errors import ConfigError
from emotion_cnn.settings import check_settings, from_keywords, setting


@dataclass(frozen=True)
class AuditSettings:
    """Which folder to audit, and where results go."""

    data: str = setting(".", shared.DATA_HELP, metavar="FOLDER")
    classes: str | None = setting(
        None, shared.CLASSES_HELP, metavar="NAMES", is_path=False
    )
    against: str = setting(
        "all",
        "which images are compared to find near-duplicates: all with all, or those of "
        "train/ with those of test/ only, which is all that --leave-out needs, and "
        "much faster where train/ has millions",
        choices=("all", "test"),
    )
    search: str = setting(
        "complete",
        "compare every pair, or only those that an index of faiss finds to be close, "
        "which may miss a few and is faster beyond a million images",
        choices=("complete", "nearly-complete"),
    )
    output: str | None = setting(
        None,
        "new folder for audit.json and the other files; without it one below `runs`",
        metavar="PATH",
    )
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")
    cache: str | None = shared.cache()
    no_cache: bool = shared.no_cache()

    def __post_init__(self) -> None:
        """Checks types and names."""
        check_settings(self)
        if self.classes is not None:
            parse_classes(self.classes)
        if self.against == "test" and self.search != "complete":
            raise ConfigError(
                "`search=nearly-complete` is for `against=all`; found it with "
                "`against=test`, where every pair can be compared. Leave it out."
            )


SETTINGS = (AuditSettings,)


def run(**keywords: Any) -> Path:
    """Finds out what is in a data folder, and writes it down.

    Args:
        **keywords: The settings of `AuditSettings`.

    Returns:
        The folder with `audit.json` and the other files.

    Raises:
        EmotionCnnError: There are no images, or results cannot be written.
    """
    settings = AuditSettings(**from_keywords(SETTINGS, keywords))
    from emotion_cnn.audit.facts import audit_images
    from emotion_cnn.audit.page import render_page
    from emotion_cnn.audit.text import CONVERTED_FILE, format_audit
    from emotion_cnn.data.drawn_faces import sample_test, sample_train
    from emotion_cnn.data.folders import Survey, survey
    from emotion_cnn.data.listing import find_classes
    from emotion_cnn.data.near_duplicates import AUDIT_FILE, FORMAT, KIND
    from emotion_cnn.data.votes import find_votes
    from emotion_cnn.extras import check_installed
    from emotion_cnn.files import removed_if_empty, write_csv, write_json, write_text

    if settings.search != "complete":
        check_installed("faiss", extra="faiss")
    cache = shared.image_cache(settings.cache, settings.no_cache)
    source = find_source(settings.data)
    votes = None
    now = datetime.now(UTC)
    # Before the work, so that nobody waits for results that have no place.
    with removed_if_empty(_output_folder(settings, now)) as output:
        if source == SAMPLE_DATA:
            found = Survey(sample_train(), sample_test(), {}, {}, (), ())
        else:
            votes = find_votes(Path(source))
            declared = settings.classes and parse_classes(settings.classes)
            classes = declared or find_classes(Path(source)) or EMOTIONS
            found = survey(Path(source), classes=classes, cache=cache)
        result = audit_images(
            source_name(source),
            found,
            votes,
            against=settings.against,
            complete=settings.search == "complete",
        )
        report = format_audit(result)
        write_text(output / "audit.txt", report + "\n")
        page = render_page(result, found.train, found.test, now)
        write_text(output / "audit.html", page)
        if result.converted:
            write_csv(
                output / CONVERTED_FILE,
                ("path", "width", "height", "mode", "turned"),
                (
                    (name, one.width, one.height, one.mode, str(one.turned).lower())
                    for name, one in result.converted.items()
                ),
            )
        made = {
            "kind": KIND,
            "format": FORMAT,
            "version": __version__,
            "created": now.isoformat(timespec="seconds"),
        }
        # Their list would be most of the file, and whoever reads it needs none of it.
        listed = dataclasses.replace(result, converted={})
        facts = dataclasses.asdict(listed) | {"converted": len(result.converted)}
        write_json(output / AUDIT_FILE, made | facts)
    print(f"{report}\n\nResults: {output}")
    return output


def _output_folder(settings: AuditSettings, now: datetime) -> Path:
    from emotion_cnn.files import create_folder, open_output

    if settings.output:
        return open_output(Path(settings.output))
    name = f"{now.astimezone():%Y%m%d-%H%M%S}-audit"
    return create_folder(Path(settings.runs), name, setting="runs")
