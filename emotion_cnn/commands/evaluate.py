"""Evaluate a network on test/: figures, predictions and plots.

Without --weights, it is the network in the working folder, or the shipped one.

Examples of settings:
  --data FOLDER --tta flip
  --data FOLDER --labels ferplus --audit audit.json
  --weights runs/20261125-120000-default
  --data FOLDER --shard 3/16 --output parts/3
  --data FOLDER --merge parts
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.backend import BACKENDS
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import LABELS, parse_classes
from emotion_cnn.data.source import SAMPLE_DATA, find_source, source_name
from emotion_cnn.errors import ConfigError, ModelError, RunError
from emotion_cnn.files import shown
from emotion_cnn.inference.test_time_augmentation import VIEWS
from emotion_cnn.models.input_range import INPUT_RANGES
from emotion_cnn.settings import (
    check_settings,
    from_keywords,
    setting,
    takes_settings,
)

if TYPE_CHECKING:
    from emotion_cnn.data.annotations import Annotations
    from emotion_cnn.data.splits import Split
    from emotion_cnn.evaluation.evaluator import Evaluation
    from emotion_cnn.inference.backends import Backend

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateSettings:
    """Which network to evaluate on what, and where results go."""

    data: str = setting(".", shared.DATA_HELP, metavar="FOLDER", group="data")
    labels: str = setting("original", shared.LABELS_HELP, choices=LABELS)
    audit: str | None = setting(
        None,
        "audit.json of this data: report the figures on the part of test/ without a "
        "near-duplicate in train/ too; without it, an audit.json in the data folder "
        "is taken",
        metavar="FILE",
    )
    skip_bad: bool = setting(False, shared.SKIP_BAD_HELP)
    cache: str | None = shared.cache()
    no_cache: bool = shared.no_cache()
    weights: str | None = setting(
        None,
        f"{shared.NETWORK_HELP}; without it the pair in the working folder, else the "
        "shipped one; on drawn faces that of the last run on them",
        metavar="PATH",
        group="network",
    )
    class_order: str | None = shared.class_order()
    input_range: str | None = shared.input_range()
    tta: str = setting(
        "none",
        "test-time augmentation: average the probabilities of each image and its "
        "horizontal flip, of these shifted a little (10 views), or of ten crops",
        choices=tuple(VIEWS),
    )
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    output: str | None = setting(
        None,
        "new folder for metrics, predictions and plots; without it one in the run "
        "that is evaluated, or below --runs",
        metavar="PATH",
        group="results",
    )
    runs: str = setting("runs", shared.RUNS_HELP, metavar="FOLDER")
    merge: str | None = setting(
        None,
        "folder that holds the outputs of all shards: put their predictions together "
        "instead of predicting; give the same other settings as for the shards",
        metavar="FOLDER",
        group="several processes",
    )

    def __post_init__(self) -> None:
        """Checks choices and names."""
        check_settings(self)
        if self.class_order is not None:
            parse_classes(self.class_order, setting="class_order")


@dataclass(frozen=True)
class ShardSettings:
    """Which part of the images a process predicts."""

    shard: str | None = setting(
        None,
        "predict only one part of the images, such as 3/16 for the third of 16, to "
        "use several machines or processes; each needs its own `output`, all in one "
        "folder, which `merge` takes afterwards",
        metavar="N/COUNT",
        is_path=False,
    )

    def __post_init__(self) -> None:
        """Checks the type."""
        check_settings(self)


SETTINGS = (EvaluateSettings, ShardSettings)


def run(**keywords: Any) -> None:
    """Evaluates as `evaluate` does, or as `predict_shard`, and says what came of it."""
    shard = ShardSettings(keywords.pop("shard", None)).shard
    if shard is not None:
        print(f"Shard {shard}: {predict_shard(shard, **keywords)}")
        return
    result = evaluate(**keywords)
    print(f"{result.report}\nResults: {result.folder}")


@takes_settings((EvaluateSettings,))
def evaluate(**keywords: Any) -> "Evaluation":
    """Evaluates a network on the images of `test/`, and writes the results.

    Args:
        **keywords: The settings of `EvaluateSettings`; `emotion-cnn evaluate --help`
            explains each. Paths may be `pathlib.Path`.

    Returns:
        The figures, the plots and the folder with the files.

    Raises:
        EmotionCnnError: Images or network are missing or damaged.
    """
    settings = EvaluateSettings(**from_keywords((EvaluateSettings,), keywords))
    subject = _load(settings)
    from emotion_cnn.evaluation.assumptions import doubt_assumptions
    from emotion_cnn.evaluation.evaluator import evaluate_network
    from emotion_cnn.evaluation.shards import read_shards
    from emotion_cnn.files import removed_if_empty
    from emotion_cnn.inference.backends.keras_network import KerasNetwork

    network, test = subject.network, subject.test
    merged = None
    if settings.merge is not None:
        merged = read_shards(
            Path(settings.merge),
            network,
            test,
            tta=settings.tta,
            made_with=_made_with(subject, settings),
        )
    if isinstance(network, KerasNetwork) and not network.is_described:
        doubt = doubt_assumptions(network.network, test, labels=settings.labels)
        if doubt:
            _log.warning("%s", doubt)
    run_folder = subject.path if subject.is_run else None
    with removed_if_empty(_output_folder(settings, run_folder)) as output:
        _say_what(subject, settings)
        evaluation = evaluate_network(
            network,
            test,
            labels=settings.labels,
            tta=settings.tta,
            data=subject.source,
            weights=str(subject.path),
            folder=output,
            annotations=subject.annotations,
            predicted=merged,
        )
        evaluation.write()
    return evaluation


def predict_shard(shard: str, **keywords: Any) -> Path:
    """Predicts one part of the images of `test/`, for `evaluate` with `merge`.

    Args:
        shard: Which part, such as `3/16`.
        **keywords: The settings of `EvaluateSettings`.

    Returns:
        The folder with the predictions.

    Raises:
        EmotionCnnError: As for `evaluate`.
    """
    settings = EvaluateSettings(**from_keywords((EvaluateSettings,), keywords))
    if settings.output is None or settings.merge is not None:
        raise ConfigError(
            "`shard` needs an `output` of its own for each part, such as parts/3, and "
            "no `merge`, which is given afterwards, and alone."
        )
    from emotion_cnn.inference.shards import parse_shard

    part = parse_shard(shard)
    subject = _load(settings)
    from emotion_cnn.evaluation.predicted import predict_timed
    from emotion_cnn.evaluation.shards import write_shard
    from emotion_cnn.files import removed_if_empty

    with removed_if_empty(_output_folder(settings, None)) as output:
        _say_what(subject, settings)
        predicted = predict_timed(
            subject.network,
            subject.test,
            labels=settings.labels,
            tta=settings.tta,
            shard=part,
        )
        write_shard(output, part, predicted, _made_with(subject, settings))
    return output


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is evaluated: a network, where it is, and the images."""

    path: Path
    is_run: bool
    network: "Backend"
    source: str
    test: "Split"
    annotations: "Annotations"


def _load(settings: EvaluateSettings) -> _Subject:
    cache = shared.image_cache(settings.cache, settings.no_cache)
    source = find_source(settings.data)
    shared.choose_backend(settings.weights, settings.backend)
    from emotion_cnn.data.loading import load_test_data

    path, is_run = _find_network(settings, drawn_faces=source == SAMPLE_DATA)
    network = _read_network(path, settings)
    test, annotations = load_test_data(
        source,
        labels=settings.labels,
        audit=settings.audit,
        skip_bad=settings.skip_bad,
        classes=network.description.classes,
        size=network.description.input_size,
        cache=cache,
    )
    return _Subject(path, is_run, network, source, test, annotations)


def _say_what(subject: _Subject, settings: EvaluateSettings) -> None:
    _log.info(
        "Evaluating %s on %s images (%s), test-time augmentation: %s.",
        shown(str(subject.path)),
        f"{len(subject.test):,}",
        source_name(subject.source),
        settings.tta,
    )


def _made_with(subject: _Subject, settings: EvaluateSettings) -> dict[str, str]:
    """Returns what predictions depend on, by the settings that decide it."""
    from emotion_cnn.data.splits import fingerprint
    from emotion_cnn.inference.backends import KERAS, kind_of

    runtime = kind_of(subject.path)
    if runtime == KERAS:
        from emotion_cnn.backend import use_backend

        runtime = use_backend()
    description = subject.network.description
    return {
        "weights": subject.network.weights_sha256,
        "data": fingerprint(subject.test),
        "labels": settings.labels,
        "tta": settings.tta,
        "class_order": ",".join(description.classes),
        "input_range": str(description.input_range),
        "backend": runtime,
    }


def _read_network(path: Path, settings: EvaluateSettings) -> "Backend":
    from emotion_cnn.inference.backends import read_network

    order, name = settings.class_order, settings.input_range
    return read_network(
        path,
        classes=None if order is None else parse_classes(order, setting="class_order"),
        input_range=None if name is None else INPUT_RANGES[name],
    )


def _find_network(
    settings: EvaluateSettings, *, drawn_faces: bool
) -> tuple[Path, bool]:
    """Returns where the network to evaluate is, and whether that is a run."""
    from emotion_cnn.inference.backends import KERAS, kind_of
    from emotion_cnn.models.shipped import default_folder
    from emotion_cnn.training.run_folder import RunFolder, find_runs

    runs = Path(settings.runs)
    if settings.weights is None:
        if not drawn_faces:
            return default_folder(), False
        finished = [run for run in find_runs(runs) if run.finished and _is_drawn(run)]
        if not finished:
            raise RunError(
                "Expected a network trained on the drawn faces, found no such run "
                f"below {runs}. Train one first: `emotion-cnn train`. (The shipped "
                "weights learned from photographs; to evaluate them on drawings would "
                "say nothing.)"
            )
        return finished[-1].path, True
    path = shared.find_network(settings.weights, settings.runs)
    if kind_of(path) != KERAS:
        if drawn_faces:
            _log.warning(
                "Whether this network was trained on drawn faces, an exported file "
                "does not say."
            )
        return path, False
    run = RunFolder(path)
    is_run = run.config.is_file()
    if drawn_faces and not _is_drawn(run):
        raise ModelError(
            f"Expected, for the drawn faces, a run that was trained on them; "
            f"{settings.weights} is none. Name a folder of images with `data`."
        )
    if not drawn_faces and _is_drawn(run):
        _log.warning("This network was trained on drawn faces, not on photographs.")
    return run.path, is_run


def _is_drawn(run: Any) -> bool:
    try:
        return bool(run.read_json(run.config).get("data") == SAMPLE_DATA)
    except RunError:
        return False


def _output_folder(settings: EvaluateSettings, run: Path | None) -> Path:
    from emotion_cnn.files import create_folder, open_output

    if settings.output:
        return open_output(Path(settings.output))
    now = f"{datetime.now():%Y%m%d-%H%M%S}"
    if run:
        return create_folder(run, f"evaluation-{now}", setting="output")
    return create_folder(Path(settings.runs), f"{now}-evaluation", setting="runs")
