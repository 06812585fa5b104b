"""Recipes: how a network is trained, as named sets of settings."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emotion_cnn.data.classes import BOTH_LABELS
from emotion_cnn.errors import ConfigError
from emotion_cnn.models.architectures import ARCHITECTURES
from emotion_cnn.settings import check_settings, setting

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("plateau", "cosine", "linear")
PRECISIONS = ("float32", "bfloat16", "float16")
KEPT = ("best", "last")
_SIZES = range(16, 49)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; `RECIPES` holds the named ones."""

    model: str = setting(
        "baseline", "network to train", choices=tuple(ARCHITECTURES), group="network"
    )
    epochs: int = setting(
        15, "passes over train/", minimum=1, maximum=100_000, group="optimizer"
    )
    batch_size: int = setting(64, "images per step", minimum=2, maximum=65_536)
    optimizer: str = setting(
        "adam",
        "Adam, AdamW, or SGD with Nesterov momentum",
        choices=OPTIMIZERS,
    )
    learning_rate: float = setting(
        5e-4,
        "initial learning rate; of a cosine or linear schedule, the highest",
        minimum=1e-9,
        maximum=10,
    )
    momentum: float = setting(0.9, "momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(
        0.0,
        "weight decay of AdamW and SGD, per step and times the learning rate; biases "
        "and batch normalisation are excluded",
        minimum=0,
        maximum=1,
    )
    schedule: str = setting(
        "plateau",
        "learning-rate schedule: reduced when the validation loss stops falling "
        "(ReduceLROnPlateau), cosine decay, or linear decay",
        choices=SCHEDULES,
        group="learning-rate schedule",
    )
    warmup_epochs: float = setting(
        0.0,
        "with `schedule=cosine` or linear: epochs in which the learning rate rises "
        "from 0",
        minimum=0,
        maximum=99_999,
    )
    plateau_factor: float = setting(
        0.1,
        "factor by which ReduceLROnPlateau reduces the learning rate when the "
        "validation loss stops falling",
        minimum=1e-6,
        maximum=0.999,
    )
    plateau_patience: int = setting(
        2, "epochs without a lower validation loss before that", minimum=1, maximum=1000
    )
    minimum_learning_rate: float = setting(
        1e-5, "lower limit of every schedule after its warm-up", minimum=0, maximum=10
    )
    early_stopping: int = setting(
        0,
        "stop after this many epochs without a better validation accuracy; 0: never",
        minimum=0,
        maximum=100_000,
        group="stopping, averaging, precision",
    )
    keep: str = setting(
        "best",
        "epoch whose weights the run ends with: that of the best validation accuracy, "
        "or the last one",
        choices=KEPT,
    )
    average_weights: float = setting(
        0.0,
        "momentum of an exponential moving average of the weights over steps, which "
        "is what is evaluated and saved; its batch-normalisation statistics are "
        "re-estimated at the end; 0: none",
        minimum=0,
        maximum=0.99999,
    )
    precision: str = setting(
        "float32",
        "precision of the computations in training; weights stay float32. bfloat16 is "
        "1.5 times as fast on processors with support for it (AVX-512, recent GPUs)",
        choices=PRECISIONS,
    )
    flip: bool = setting(
        True, "flip training images horizontally at random", group="augmentation"
    )
    rotation: float = setting(
        0.0, "rotate them by up to this many degrees", minimum=0, maximum=180
    )
    shift: float = setting(
        0.0, "shift them by up to this share of their side", minimum=0, maximum=0.5
    )
    zoom: float = setting(
        0.0, "enlarge or shrink them by up to this share", minimum=0, maximum=0.5
    )
    brightness: float = setting(
        0.0,
        "change their brightness by up to this share of white",
        minimum=0,
        maximum=1,
    )
    contrast: float = setting(
        0.0, "change their contrast by up to this share", minimum=0, maximum=1
    )
    erasing: float = setting(
        0.0,
        "probability that a rectangle of an image is made gray",
        minimum=0,
        maximum=1,
    )
    mixup: float = setting(
        0.0,
        "alpha of mixup, which blends pairs of images and their labels; 0: none",
        minimum=0,
        maximum=10,
    )
    cutmix: float = setting(
        0.0,
        "alpha of CutMix, which pastes a part of one image into another; 0: none; "
        "with mixup, one of the two is drawn for each batch",
        minimum=0,
        maximum=10,
    )
    label_smoothing: float = setting(
        0.0,
        "share of a label that is spread over all classes; soft labels stay as they "
        "are",
        minimum=0,
        maximum=0.9,
        group="targets and sampling",
    )
    vote_smoothing: float = setting(
        0.0,
        f"with `labels={BOTH_LABELS}`: share of every original label that is replaced "
        "by soft labels, which a logistic regression on the training images predicts "
        "from the image's votes and, with `soft_labels`, from the teachers' "
        "predictions; replaces label smoothing there",
        minimum=0,
        maximum=1,
    )
    soft_share: float = setting(
        0.5,
        "with `soft_labels`: share of every original label that they replace, with "
        "`vote_smoothing` of images without votes alone; FER+ votes are left as they "
        "are, and where an image has none, soft labels stand in for them",
        minimum=0,
        maximum=1,
    )
    balance: float = setting(
        0.0,
        "from 0, every image once an epoch, to 1, images drawn so that all classes "
        "are equally frequent",
        minimum=0,
        maximum=1,
    )
    # Data of the named recipes, not a setting: (side in pixels, share of the epochs)
    # in their order; shares sum to 1. Empty for images at full size throughout.
    sizes: tuple[tuple[int, float], ...] = dataclasses.field(default=())
    progressive_sizes: bool = setting(
        True,
        "train on images of the sizes that the recipe names, smaller ones first, for "
        "speed; without it, and in recipes that name none, at full size",
        group="resolution and calibration",
    )
    calibrate: bool = setting(
        False,
        "temperature scaling: divide the finished network's logits by the temperature "
        "that minimises the log loss on the validation images",
    )

    def __post_init__(self) -> None:
        """Checks ranges, and the settings that must agree."""
        check_settings(self)
        object.__setattr__(self, "sizes", _checked_sizes(self.sizes))
        if self.minimum_learning_rate > self.learning_rate:
            raise ConfigError(
                f"`minimum_learning_rate` ({self.minimum_learning_rate:g}) is above "
                f"`learning_rate` ({self.learning_rate:g}); lower the one or raise "
                "the other."
            )
        if self.weight_decay and self.optimizer == "adam":
            raise ConfigError(
                "`weight_decay` is for `optimizer=adamw` or `optimizer=sgd`; choose "
                "one of them, or leave it out."
            )
        if self.warmup_epochs and self.schedule == "plateau":
            raise ConfigError(
                "`warmup_epochs` is for `schedule=cosine` or `schedule=linear`; choose "
                "one of them, or leave it out."
            )
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"`warmup_epochs` ({self.warmup_epochs:g}) must be less than `epochs` "
                f"({self.epochs}); lower the one or raise the other."
            )

    @property
    def changes_size(self) -> bool:
        """Whether training is on images of several sizes."""
        return self.progressive_sizes and bool(self.sizes)

    def size_in_epoch(self, epoch: int) -> int | None:
        """Returns the side of the images in an epoch, from 0; None for full size."""
        if not self.changes_size:
            return None
        share = 0.0
        for side, part in self.sizes:
            share += part
            if epoch < round(share * self.epochs):
                return side
        return self.sizes[-1][0]


def _checked_sizes(sizes: Any) -> tuple[tuple[int, float], ...]:
    """Returns sizes as tuples; JSON has turned those of a resumed run into lists."""
    try:
        checked = tuple((side, float(share)) for side, share in sizes)
    except (TypeError, ValueError):
        checked = ((0, 0.0),)
    sound = all(
        type(side) is int and side in _SIZES and 0 < share <= 1
        for side, share in checked
    )
    whole = not checked or math.isclose(sum(share for _, share in checked), 1)
    if not (sound and whole):
        raise ConfigError(
            f"`sizes` are pairs of a side from {_SIZES[0]} to {_SIZES[-1]} pixels and "
            f"a share of the epochs, and the shares sum to 1; found {sizes!r}."
        )
    return checked


_FOUNDATION = Recipe(
    model="residual",
    epochs=60,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-3,
    schedule="linear",
    warmup_epochs=12,
    average_weights=0.998,
    precision="bfloat16",
    rotation=12,
    shift=0.1,
    zoom=0.12,
    brightness=0.15,
    contrast=0.3,
    erasing=0.3,
    label_smoothing=0.1,
    vote_smoothing=0.5,
    sizes=((32, 33 / 60), (48, 27 / 60)),
    calibrate=True,
)

_STUDENT = dataclasses.replace(
    _FOUNDATION,
    epochs=150,
    batch_size=256,
    learning_rate=0.2,
    warmup_epochs=12,
    average_weights=0.996,
    vote_smoothing=0,
    sizes=((32, 4 / 9), (40, 3 / 9), (48, 2 / 9)),
    # The end of the schedule, rather than an epoch that was lucky on validation.
    keep="last",
)

RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(),
    # Learns the drawn faces within minutes on two CPU cores. They are few: small
    # batches give batch normalisation the hundreds of steps that its statistics need,
    # and until then the validation loss is meaningless, hence the patience.
    "sample": Recipe(
        model="compact",
        epochs=10,
        batch_size=16,
        learning_rate=1e-3,
        plateau_patience=4,
    ),
    # A useful network in the shortest time on two CPU cores.
    "quick": Recipe(
        model="compact",
        epochs=12,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=2e-3,
        schedule="linear",
        warmup_epochs=3,
        precision="bfloat16",
    ),
    "foundation": _FOUNDATION,
    # Starts from the foundation's weights (the setting `weights`): the best without
    # teachers.
    "best": dataclasses.replace(
        _FOUNDATION,
        epochs=71,
        learning_rate=0.07,
        warmup_epochs=5,
        vote_smoothing=0.3,
        sizes=((32, 24 / 71), (48, 47 / 71)),
    ),
    # Predicts, out of fold, the soft labels of the training images (the settings
    # `fold` and `soft_labels`).
    "teacher": dataclasses.replace(
        _STUDENT,
        epochs=60,
        warmup_epochs=8,
        sizes=(),
        # The images to fit a temperature on are those to be predicted.
        calibrate=False,
    ),
    # Learns from the labels and from the teachers.
    "student": _STUDENT,
    # Starts from the student's weights; the mean of several with other seeds is what
    # is shipped.
    "branch": dataclasses.replace(
        _STUDENT, epochs=60, learning_rate=0.1, warmup_epochs=1, sizes=()
    ),
}
