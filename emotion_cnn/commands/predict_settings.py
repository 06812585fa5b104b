"""The settings of `predict`."""

from collections.abc import Iterable
from dataclasses import dataclass

from emotion_cnn.backend import BACKENDS
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import LABELS, parse_classes
from emotion_cnn.errors import ConfigError
from emotion_cnn.inference.defaults import (
    CONFIDENCE,
    DETECTION_SIZE,
    EXPLANATION_METHODS,
    MINIMUM_FACE,
    SMOOTHING,
)
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.settings import check_settings, setting, settings_of

SAVED = ("images", "faces", "sheet", "video", "timeline")
NOTHING = "none"

PREDICTIONS_DEPEND_ON = (
    *("faces", "detection_size", "confidence", "minimum_face"),
    *("class_order", "input_range", "labels", "tta", "unsure_below"),
    *("stride", "start", "end", "smoothing"),
)
"""The settings that predictions depend on, beside the network's weights."""


MERGE_TAKES = frozenset({"merge", "source", "pattern", "output", "runs"})
"""The settings that `merge` can have beside it."""


@dataclass(frozen=True)
class PredictSettings:
    """What to predict, how, and where results go."""

    source: str | None = setting(
        None,
        "an image; a folder, with all folders in it; a glob in quotes; @names.txt, a "
        "list with a path a line; - for such lines on standard input; a video; a "
        "camera's number",
        metavar="SOURCE",
        group="what to predict",
    )
    pattern: str | None = setting(
        None,
        "which files of a folder, such as '*.png' (without it all images)",
        metavar="GLOB",
        is_path=False,
    )
    shard: str | None = setting(
        None,
        "predict only one part of the sources, such as 3/16 for every 16th from the "
        "third on, to use several machines or processes; each needs its own `output`, "
        "all in one folder, which `merge` takes afterwards",
        metavar="N/COUNT",
        is_path=False,
    )
    merge: str | None = setting(
        None,
        "folder that holds the outputs of all shards of `source`: put their tables "
        "together instead of predicting; with `pattern`, `output` and `runs` alone",
        metavar="FOLDER",
    )
    faces: str = shared.faces(group="faces")
    detection_size: int = setting(
        DETECTION_SIZE,
        "long side in pixels that an image is scaled to before faces are looked for; "
        "smaller ones are looked for in tiles too",
        minimum=160,
        maximum=4096,
        metavar="PIXELS",
    )
    confidence: float = setting(
        CONFIDENCE,
        "least detection score of a face",
        minimum=0.01,
        maximum=1,
        metavar="SCORE",
    )
    minimum_face: int = setting(
        MINIMUM_FACE,
        "height in pixels of the smallest face to find",
        minimum=1,
        maximum=100_000,
        metavar="PIXELS",
    )
    stride: int = setting(
        1,
        "of so many frames, predict one",
        minimum=1,
        maximum=1_000_000,
        metavar="FRAMES",
        group="videos and cameras",
    )
    start: float = setting(
        0.0,
        "seconds from the beginning at which to start",
        minimum=0,
        maximum=1_000_000,
        metavar="SECONDS",
    )
    end: float = setting(
        0.0,
        "seconds from the beginning at which to stop; 0 for the end",
        minimum=0,
        maximum=1_000_000,
        metavar="SECONDS",
    )
    smoothing: float = setting(
        SMOOTHING,
        "seconds over which the probabilities of a face that is followed are smoothed, "
        "before it is decided; 0 for each frame by itself",
        minimum=0,
        maximum=3600,
        metavar="SECONDS",
    )
    weights: str | None = shared.weights()
    class_order: str | None = shared.class_order()
    input_range: str | None = shared.input_range()
    labels: str | None = setting(
        None,
        "which label set to predict, of a network that knows both; without it its "
        "first, which is original",
        choices=LABELS,
    )
    tta: str = setting(
        "none",
        "test-time augmentation: average the probabilities of each face and its "
        "horizontal flip, of these shifted a little (10 views), or of ten crops",
        choices=tuple(VIEWS),
    )
    unsure_below: float = shared.unsure_below()
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    save: str = setting(
        "sheet,timeline",
        "what to save beside the tables, separated by commas: images (annotated "
        "copies), faces (the crops), sheet (all faces with their bars); of videos "
        "timeline (a chart) and video (an annotated copy, without sound); or none",
        metavar="NAMES",
        is_path=False,
        group="results",
    )
    explain: bool = setting(
        False, "add a heat map to each face: what speaks for the emotion"
    )
    explain_class: str | None = setting(
        None,
        "explain this class instead of the most probable one",
        metavar="NAME",
        is_path=False,
    )
    explain_method: str | None = setting(
        None,
        "how to explain; occlusion takes longer, and works with every network; without "
        "it layercam, where Keras can run the network, else occlusion",
        choices=EXPLANATION_METHODS,
    )
    strict: bool = setting(False, "stop at the first source that cannot be read")
    output: str | None = setting(
        None,
        "new folder for the results; without it one below `runs`",
        metavar="PATH",
    )
    resume: bool = setting(
        False, "go on in `output`: what has been predicted there is left out"
    )
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")

    def __post_init__(self) -> None:
        """Checks choices, names and combinations."""
        check_settings(self)
        if self.source is None:
            raise ConfigError(
                "`source` is missing: name an image, a folder, a glob, a list, a video "
                "or a camera."
            )
        if self.class_order is not None:
            parse_classes(self.class_order, setting="class_order")
        unknown = self.saved.difference(SAVED)
        if unknown:
            raise ConfigError(
                f"`save` names {', '.join(SAVED)}, separated by commas, or is "
                f"{NOTHING}; found {self.save[:100]!a}."
            )
        if self.resume and self.output is None:
            raise ConfigError("`resume` goes on in a folder: name it with `output`.")
        for name in ("explain_class", "explain_method"):
            if getattr(self, name) is not None and not self.explain:
                raise ConfigError(f"`{name}` needs `explain=True`; found it without.")
        changed = [
            name
            for name in ("detection_size", "confidence", "minimum_face")
            if getattr(self, name) != settings_of(PredictSettings)[name].default
        ]
        if changed and self.faces == "cropped":
            raise ConfigError(
                f"`{changed[0]}` is for `faces=detect`, and changes nothing with "
                "`faces=cropped`; leave one of them out."
            )
        if self.explain and not self.saved & {"images", "sheet", "video"}:
            raise ConfigError(
                "`explain` draws on annotated images and on the contact sheet; found "
                f"`save={self.save}`. Add images or sheet."
            )
        if self.end and self.end <= self.start:
            raise ConfigError(
                f"`end` is after `start`, or 0; found `start={self.start:g}` and "
                f"`end={self.end:g}`."
            )

    def check_merge(self, given: Iterable[str]) -> None:
        """Checks that nothing is asked for that only a prediction could do.

        Args:
            given: The names of the settings that the user has given.

        Raises:
            ConfigError: Something is.
        """
        if self.merge is not None and (strange := sorted({*given} - MERGE_TAKES)):
            raise ConfigError(
                "`merge` puts together what all shards have written, and predicts "
                f"nothing; leave out {', '.join(f'`{name}`' for name in strange)}."
            )

    @property
    def saved(self) -> frozenset[str]:
        """The names in `save`."""
        names = {name.strip() for name in self.save.split(",")}
        return frozenset() if names == {NOTHING} else frozenset(names)
