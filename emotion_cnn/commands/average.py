"""Average the weights of runs that went on from the same network.

Runs with other seeds end in weights around a better middle. Its statistics of
batch normalisation are re-estimated on the images to train on, its temperatures
fitted on those for validation; give the data as the runs were given them.

Examples of settings:
  --weights branches --data FOLDER --leave-out audit.json --publish averaged
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.backend import BACKENDS, use_backend
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import BOTH_LABELS
from emotion_cnn.data.source import SAMPLE_DATA, require_folder
from emotion_cnn.errors import ConfigError, RunError
from emotion_cnn.files import shown
from emotion_cnn.models.pair_files import MODEL_NAME
from emotion_cnn.settings import check_settings, from_keywords, setting

if TYPE_CHECKING:
    from emotion_cnn.data.splits import Dataset
    from emotion_cnn.models.description import Network
    from emotion_cnn.training.run_folder import RunFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AverageSettings:
    """Which networks to average, and on what to finish the mean."""

    weights: str | None = setting(
        None,
        "folder of the runs whose networks are averaged, all of them",
        metavar="FOLDER",
        group="networks",
    )
    data: str = setting(".", shared.DATA_HELP, metavar="FOLDER", group="data")
    leave_out: str | None = setting(
        None,
        "audit.json of this data: leave out of train/ what has a near-duplicate in "
        "test/",
        metavar="FILE",
    )
    skip_bad: bool = setting(False, shared.SKIP_BAD_HELP)
    validation_share: float = shared.validation_share()
    seed: int = shared.seed()
    backend: str | None = setting(None, shared.BACKEND_HELP, choices=BACKENDS)
    publish: str = setting(
        ".",
        "folder whose model.json and model_weights.h5 the mean replaces",
        metavar="FOLDER",
        group="results",
    )

    def __post_init__(self) -> None:
        """Checks ranges and choices."""
        check_settings(self)
        if self.weights is None:
            raise ConfigError(
                "`weights` is missing: name the folder of the runs to average."
            )
        if self.data == SAMPLE_DATA and Path(self.publish, MODEL_NAME).exists():
            raise ConfigError(
                "Expected another folder for a network of drawn faces, which replaces "
                f"no other; found one in `publish={self.publish}`. Name a new folder."
            )


SETTINGS = (AverageSettings,)


def run(**keywords: Any) -> None:
    """Averages networks, and publishes the mean."""
    settings = AverageSettings(**from_keywords(SETTINGS, keywords))
    weights = str(settings.weights)
    if settings.data != SAMPLE_DATA:
        require_folder(settings.data)
    use_backend(settings.backend)
    from emotion_cnn.data.loading import load_training_data
    from emotion_cnn.models.pair import publish_pair, read_pair
    from emotion_cnn.models.pair_files import check_publishable
    from emotion_cnn.models.weights import average_weights
    from emotion_cnn.training.finishing import calibrate, re_estimate_statistics
    from emotion_cnn.training.run_folder import find_runs

    check_publishable(Path(settings.publish))
    found = find_runs(Path(weights))
    runs = [each for each in found if each.finished]
    if len(runs) < 2:
        raise RunError(
            f"Expected two or more finished runs in {shown(weights)}, found "
            f"{len(runs)}. Name the folder that holds them with `weights`."
        )
    if unfinished := [each for each in found if each not in runs]:
        _log.warning(
            "Left out, as they are not finished: %d of %d runs, such as %s.",
            len(unfinished),
            len(found),
            shown(unfinished[0].path.name),
        )
    _check_same_start(runs)
    networks = [read_pair(each.path) for each in runs]
    _check_different(runs, networks)
    is_calibrated = any(
        temperature != 1
        for network in networks
        for temperature in network.description.temperatures.values()
    )
    mean = average_weights(networks)
    label_sets = mean.description.label_sets
    data, _ = load_training_data(
        settings.data,
        labels=BOTH_LABELS if len(label_sets) > 1 else label_sets[0],
        distribution=False,
        leave_out=settings.leave_out,
        skip_bad=settings.skip_bad,
        validation_share=settings.validation_share,
        seed=settings.seed,
        vote_smoothing=0,
        classes=mean.description.classes,
        size=mean.description.input_size,
    )
    _check_same_images(runs, data)
    _log.info("Weights: the mean of %d runs in %s", len(runs), shown(weights))
    re_estimate_statistics(mean.model, data.train.images, seed=settings.seed)
    if is_calibrated:
        seeds = [each.read_json(each.config).get("seed") for each in runs]
        is_held_out = data.validation.names[0].startswith("train/")
        if is_held_out and seeds != len(runs) * [settings.seed]:
            _log.warning(
                "The images for validation are held out of train/ by `seed`: runs with "
                "others than %d were trained on some of them, so that the temperatures "
                "come out too low. Images in validation/ are held out from all.",
                settings.seed,
            )
        mean = calibrate(mean, data.validation)
    publish_pair(Path(settings.publish), mean)
    print(f"Published: model.json, model_weights.h5 in {settings.publish}")


def _check_same_start(runs: "Sequence[RunFolder]") -> None:
    """Raises a `RunError` for runs between which there is no better middle."""
    from emotion_cnn.training.run_folder import INITIAL_WEIGHTS

    first: dict[str, str] = {}
    for run in runs:
        start = run.read_json(run.environment).get(INITIAL_WEIGHTS)
        first.setdefault(start if isinstance(start, str) else "", run.path.name)
    if len(first) > 1 or "" in first:
        found = ", ".join(
            f"{shown(name)} from {shown(start[:12]) or 'random weights'}"
            for start, name in first.items()
        )
        raise RunError(
            "Expected runs that went on from the same `weights`, whose SHA-256 their "
            f"environment.json has; found {found}. Move the others elsewhere."
        )


def _check_same_images(runs: "Sequence[RunFolder]", data: "Dataset") -> None:
    """Raises a `RunError` for images that a run was not trained on.

    Statistics and temperatures would be fitted on others, without a word.
    """
    for run in runs:
        described = run.read_json(run.environment).get("data")
        if not isinstance(described, dict):
            described = {}
        # Runs of earlier versions do not say.
        found = described.get("training_fingerprint", data.training_fingerprint)
        if found != data.training_fingerprint:
            raise RunError(
                "Expected the images that the runs were trained on, whose SHA-256 "
                f"their environment.json has; found others than those of "
                f"{shown(run.path.name)}. Give `data`, `leave_out` and `skip_bad` as "
                "they were given to it."
            )


def _check_different(
    runs: "Sequence[RunFolder]", networks: "Sequence[Network]"
) -> None:
    """Raises a `RunError` for a network that would count twice, as by a link to it."""
    first: dict[str, str] = {}
    for run, network in zip(runs, networks, strict=True):
        name = first.setdefault(network.weights_sha256, run.path.name)
        if name != run.path.name:
            raise RunError(
                f"Expected each network once, found the same in {shown(name)} and "
                f"{shown(run.path.name)}. Move one of them elsewhere."
            )
