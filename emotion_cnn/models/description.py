"""What a network is for: its classes, label sets and images.

Imports no Keras, so that the command line can speak of networks without loading any.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emotion_cnn.data.classes import EMOTIONS, MOST_CLASSES, NAME_LENGTH
from emotion_cnn.data.images import IMAGE_SIZE
from emotion_cnn.errors import ModelError
from emotion_cnn.models.input_range import GRAY_LEVELS, INPUT_RANGES

if TYPE_CHECKING:
    import keras

_SIZES = range(8, 1025)
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class NetworkDescription:
    """What goes into a network and what its outputs mean.

    The defaults are a network of FER2013's original labels.

    Attributes:
        classes: What the probabilities are for, in their order; two or more.
        label_sets: The label sets that the network predicts, in the order of its
            outputs. `original` are the labels of the images' folders, `ferplus` the
            majority of FER+'s votes.
        input_size: Height and width of the images, in pixels.
        input_range: What gray levels from 0 to 255 are scaled to for the network, one
            of `INPUT_RANGES`.
        temperatures: What the logits of each label set have been divided by, so that
            the probabilities are calibrated; 1 where they are not.
        versions: Versions of the packages that wrote the network, by their names.
    """

    classes: tuple[str, ...] = EMOTIONS
    label_sets: tuple[str, ...] = ("original",)
    input_size: int = IMAGE_SIZE
    input_range: tuple[int, int] = GRAY_LEVELS
    temperatures: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks all of it; label sets without a temperature get 1.

        Raises:
            ModelError: A value is not as described.
        """
        _check_names("classes", self.classes, least=2)
        _check_names("label_sets", self.label_sets, least=1)
        if not isinstance(self.input_size, int) or self.input_size not in _SIZES:
            raise ModelError(
                f"Expected an `input_size` from {_SIZES[0]} to {_SIZES[-1]} pixels, "
                f"found {shortened(self.input_size)}."
            )
        if self.input_range not in INPUT_RANGES.values():
            raise ModelError(
                "Expected an `input_range` that is one of "
                f"{', '.join(map(str, INPUT_RANGES.values()))}, found "
                f"{shortened(self.input_range)}."
            )
        for name, temperature in self.temperatures.items():
            if name not in self.label_sets:
                raise ModelError(
                    f"Expected `temperatures` of the label sets "
                    f"{', '.join(self.label_sets)}, found one of {shortened(name)}."
                )
            if not (_is_number(temperature) and 0 < temperature < _LARGEST):
                raise ModelError(
                    f"Expected `temperatures` to be finite numbers above 0, found "
                    f"{shortened(temperature)} for {name}."
                )
        for name, version in self.versions.items():
            if not (isinstance(version, str) and len(version) <= NAME_LENGTH):
                raise ModelError(
                    f"Expected `versions` to be short texts, found "
                    f"{shortened(version)} for {shortened(name)}."
                )
        whole = {
            name: float(self.temperatures.get(name, 1)) for name in self.label_sets
        }
        object.__setattr__(self, "temperatures", whole)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the saved network's output, as Keras gives it."""
        if len(self.label_sets) == 1:
            return (None, len(self.classes))
        return (None, len(self.label_sets), len(self.classes))


@dataclass(frozen=True, eq=False)
class Network:
    """A Keras model and what it is for.

    Attributes:
        model: From gray values within `description.input_range`, float32 (batch,
            input_size, input_size, 1), to probabilities, float32 (batch, classes);
            (batch, label sets, classes) where there are several label sets.
        description: Says what these numbers mean.
        is_described: Whether the network's own file says so, or the description is
            what networks of FER2013 have always been.
        weights_sha256: Of the file of weights that it was read from; empty for one
            that was read from none.
    """

    model: "keras.Model"
    description: NetworkDescription
    is_described: bool = True
    weights_sha256: str = ""


def parse_description(values: Any) -> NetworkDescription:
    """Returns the description that JSON holds, as `dataclasses.asdict` gives it.

    Args:
        values: What the JSON parser returned: anything, in a stranger's file. Keys
            that this version does not know are ignored.

    Raises:
        ModelError: It is no description; says what is wrong.
    """
    fields: dict[str, type] = {
        "classes": list,
        "label_sets": list,
        "input_size": int,
        "input_range": list,
        "temperatures": dict,
        "versions": dict,
    }
    if not isinstance(values, dict) or not fields.keys() <= values.keys():
        raise ModelError(
            f"Expected an object with {', '.join(fields)}, found {shortened(values)}."
        )
    for name, kind in fields.items():
        if not isinstance(values[name], kind):
            raise ModelError(
                f"Expected `{name}` to be of type {kind.__name__}, found "
                f"{shortened(values[name])}."
            )
    given = {name: values[name] for name in fields}
    for name in ("classes", "label_sets", "input_range"):
        given[name] = tuple(given[name])
    return NetworkDescription(**given)


def _check_names(name: str, names: tuple[str, ...], *, least: int) -> None:
    sound = all(
        isinstance(each, str)
        and 0 < len(each.strip()) == len(each) <= NAME_LENGTH
        and each.isprintable()
        for each in names
    )
    if not sound or not least <= len(set(names)) == len(names) <= MOST_CLASSES:
        raise ModelError(
            f"Expected `{name}` to be {least} or more different names, found "
            f"{shortened(list(names))}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shortened(value: Any) -> str:
    """Returns a value from JSON as it is shown in a message, safe for a terminal."""
    text = ascii(value)
    return text if len(text) <= 100 else text[:100] + " ..."
