"""Average the weights of runs that went on from the same network.

Runs with other seeds end in weights around a better middle. Its statistics of
batch normalisation are re-estimated on the images to train on, its temperatures
fitted on those for validation; give the data as the runs were given them.

Examples of settings:
  --weights branches --data FOLDER --leave-out audit.json --publish averaged
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion_cnn.backend import BACKENDS, use_backend
from emotion_cnn.commands import shared
from emotion_cnn.data.classes import BOTH_LABELS
from emotion_cnn.errors import ConfigError, RunError
from emotion_cnn.files import shown
from emotion_cnn.settings import check_settings, from_keywords, setting

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


SETTINGS = (AverageSettings,)


def run(**keywords: Any) -> None:
    """Averages networks, and publishes the mean."""
    settings = AverageSettings(**from_keywords(SETTINGS, keywords))
    weights = str(settings.weights)
    use_backend(settings.backend)
    from emotion_cnn.data.loading import load_training_data
    from emotion_cnn.models.pair import publish_pair, read_pair
    from emotion_cnn.models.pair_files import check_publishable
    from emotion_cnn.models.weights import average_weights
    from emotion_cnn.training.finishing import calibrate, re_estimate_statistics
    from emotion_cnn.training.run_folder import find_runs

    check_publishable(Path(settings.publish))
    runs = [each for each in find_runs(Path(weights)) if each.finished]
    if len(runs) < 2:
        raise RunError(
            f"Expected two or more finished runs in {shown(weights)}, found "
            f"{len(runs)}. Name the folder that holds them with `weights`."
        )
    networks = [read_pair(each.path) for each in runs]
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
    _log.info("Weights: the mean of %d runs in %s", len(runs), shown(weights))
    re_estimate_statistics(mean.model, data.train.images, seed=settings.seed)
    if is_calibrated:
        mean = calibrate(mean, data.validation)
    publish_pair(Path(settings.publish), mean)
    print(f"Published: model.json, model_weights.h5 in {settings.publish}")
