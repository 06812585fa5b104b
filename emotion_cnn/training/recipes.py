"""Recipes: how a network is trained, as named sets of settings."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from emotion_cnn.data.classes import BOTH_LABELS
from emotion_cnn.errors import ConfigError
from emotion_cnn.models.architectures import MODELS
from emotion_cnn.settings import check_settings, setting

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("plateau", "cosine", "linear")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; `RECIPES` holds the named ones."""

    model: str = setting("baseline", "network to train", choices=MODELS)
    epochs: int = setting(15, "passes over train/", minimum=1, maximum=100_000)
    batch_size: int = setting(64, "images per step", minimum=2, maximum=65_536)
    optimizer: str = setting(
        "adam",
        "Adam, AdamW, or SGD with Nesterov momentum",
        choices=OPTIMIZERS,
    )
    learning_rate: float = setting(
        5e-4,
        "learning rate at the start; of a cosine or linear schedule, the highest",
        minimum=1e-9,
        maximum=10,
    )
    momentum: float = setting(0.9, "momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(
        0.0,
        "share of the weights, times the learning rate, that AdamW and SGD take off "
        "at every step; not off biases and batch normalisation",
        minimum=0,
        maximum=1,
    )
    schedule: str = setting(
        "plateau",
        "how the learning rate goes: down when the validation loss stops falling "
        "(ReduceLROnPlateau), down a cosine, or straight up and straight down "
        "(linear)",
        choices=SCHEDULES,
    )
    warmup_epochs: float = setting(
        0.0,
        "with --schedule cosine or linear: epochs in which the learning rate rises "
        "from 0",
        minimum=0,
        maximum=99_999,
    )
    plateau_factor: float = setting(
        0.1,
        "what ReduceLROnPlateau multiplies the learning rate by when the "
        "validation loss stops falling",
        minimum=1e-6,
        maximum=0.999,
    )
    plateau_patience: int = setting(
        2, "epochs without a lower validation loss before that", minimum=1, maximum=1000
    )
    minimum_learning_rate: float = setting(
        1e-5, "no schedule goes lower, but for a warm-up", minimum=0, maximum=10
    )
    early_stopping: int = setting(
        0,
        "stop after so many epochs without a better validation accuracy; 0: never",
        minimum=0,
        maximum=100_000,
    )
    average_weights: float = setting(
        0.0,
        "momentum of an exponential moving average of the weights over steps, which "
        "takes their place where the network is evaluated; in the end it gets "
        "batch-normalisation statistics of its own; 0: none",
        minimum=0,
        maximum=0.99999,
    )
    precision: str = setting(
        "float32",
        "numbers to compute with while training; weights stay float32. bfloat16 is "
        "half as fast again where the processor knows it (AVX-512, recent GPUs)",
        choices=PRECISIONS,
    )
    flip: bool = setting(True, "flip training images at random")
    rotation: float = setting(
        0.0, "turn them by up to so many degrees", minimum=0, maximum=180
    )
    shift: float = setting(
        0.0, "move them by up to this share of their side", minimum=0, maximum=0.5
    )
    zoom: float = setting(
        0.0, "enlarge or shrink them by up to this share", minimum=0, maximum=0.5
    )
    brightness: float = setting(
        0.0, "lighten or darken them by up to this share of white", minimum=0, maximum=1
    )
    contrast: float = setting(
        0.0, "change their contrast by up to this share", minimum=0, maximum=1
    )
    erasing: float = setting(
        0.0, "chance that a rectangle of an image is made gray", minimum=0, maximum=1
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
        "with mixup, batches take turns at random",
        minimum=0,
        maximum=10,
    )
    label_smoothing: float = setting(
        0.0,
        "share of a label that is spread over all emotions; votes that differ stay as "
        "they are",
        minimum=0,
        maximum=0.9,
    )
    vote_smoothing: float = setting(
        0.0,
        f"with --labels {BOTH_LABELS}: share of every original label that is replaced "
        "by the labels that the image's votes let expect, by a logistic regression "
        "on the training images; takes the place of label smoothing there",
        minimum=0,
        maximum=1,
    )
    balance: float = setting(
        0.0,
        "from 0, every image once an epoch, to 1, images drawn so that every "
        "emotion comes as often as the others",
        minimum=0,
        maximum=1,
    )
    low_resolution: int = setting(
        32, "side in pixels of the images in those epochs", minimum=16, maximum=47
    )
    low_resolution_epochs: int = setting(
        0,
        "epochs at the beginning that train on smaller images, for speed; needs a "
        "network that averages: residual",
        minimum=0,
        maximum=99_999,
    )
    calibrate: bool = setting(
        False,
        "scale the finished network's logits by the temperature that suits the "
        "validation images best, so that it is right as often as it is sure",
    )

    def __post_init__(self) -> None:
        """Checks ranges, and the settings that must agree."""
        check_settings(self)
        if self.minimum_learning_rate > self.learning_rate:
            raise ConfigError(
                f"--minimum-learning-rate ({self.minimum_learning_rate:g}) is above "
                f"--learning-rate ({self.learning_rate:g}); lower the one or raise "
                "the other."
            )
        if self.weight_decay and self.optimizer == "adam":
            raise ConfigError(
                "--weight-decay is for --optimizer adamw or sgd; choose one of them, "
                "or leave it out."
            )
        if self.warmup_epochs and self.schedule == "plateau":
            raise ConfigError(
                "--warmup-epochs is for --schedule cosine or linear; choose one of "
                "them, or leave it out."
            )
        for flag, epochs in (
            ("--warmup-epochs", self.warmup_epochs),
            ("--low-resolution-epochs", self.low_resolution_epochs),
        ):
            if epochs and epochs >= self.epochs:
                raise ConfigError(
                    f"{flag} ({epochs:g}) is the beginning of --epochs "
                    f"({self.epochs}); lower the one or raise the other."
                )


# The first of the two runs behind the shipped weights.
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
    low_resolution_epochs=33,
    calibrate=True,
)

RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(),
    # Learns the drawn faces within minutes on two CPU cores. They are few: small
    # batches give batch normalisation the hundreds of steps it takes to settle,
    # and until then the validation loss says nothing, hence the patience.
    "sample": Recipe(
        model="compact",
        epochs=10,
        batch_size=16,
        learning_rate=1e-3,
        plateau_patience=4,
    ),
    # The shortest way to a useful network on two CPU cores.
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
    # Goes on from the foundation's weights (--weights) to the shipped ones;
    # docs/experiments.md says what led here.
    "best": dataclasses.replace(
        _FOUNDATION,
        epochs=71,
        learning_rate=0.07,
        warmup_epochs=5,
        vote_smoothing=0.3,
        low_resolution_epochs=24,
    ),
}
