"""The layers that a network from a file may consist of, and their settings.

A stranger's `model.json` is checked against this table, and networks are built from
what passes, not from the file. Whatever is not here is refused: layers that call
functions, such as Lambda, or read files, such as TFSMLayer, among them.

Imports no Keras.
"""

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], Any]
"""Takes a value from JSON and returns it for Keras; ValueError if it is not allowed."""

_ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"),
    *("swish", "mish", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid"),
    *("hard_silu", "hard_swish", "exponential", "softmax"),
)
_DTYPES = ("float32", "mixed_float16", "mixed_bfloat16")
_LONGEST_NAME = 200
_ONLY_FOR_TRAINING = {
    *("seed", "noise_shape", "synchronized"),
    *("renorm_clipping", "renorm_momentum"),
}


def whole(least: int, most: int) -> Check:
    """Returns a check for integers within bounds."""

    def check(value: Any) -> int:
        if not (type(value) is int and least <= value <= most):
            raise ValueError(f"an integer from {least} to {most}")
        return value

    return check


def number(least: float = -1e6, most: float = 1e6) -> Check:
    """Returns a check for numbers within bounds, which NaN is not."""

    def check(value: Any) -> float:
        if not (type(value) in (int, float) and least <= value <= most):
            raise ValueError(f"a number from {least:g} to {most:g}")
        return value

    return check


def choice(*choices: Any) -> Check:
    """Returns a check for one of some values, of the same type."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(each) and value == each for each in choices):
            raise ValueError(f"one of {', '.join(map(repr, choices))}")
        return value

    return check


def several(each: Check, least: int, most: int) -> Check:
    """Returns a check for a list of so many values that pass a check."""

    def check(value: Any) -> list[Any]:
        if not (type(value) is list and least <= len(value) <= most):
            raise ValueError(f"a list of {least} to {most} values")
        return [each(item) for item in value]

    return check


def either(first: Check, second: Check) -> Check:
    """Returns a check for values that pass one check or the other."""

    def check(value: Any) -> Any:
        try:
            return first(value)
        except ValueError as error:
            try:
                return second(value)
            except ValueError as other:
                raise ValueError(f"{error} or {other}") from None

    return check


def name(value: Any) -> str:
    """Checks the name of a layer, which becomes part of those of its weights."""
    if not (
        type(value) is str
        and 0 < len(value) <= _LONGEST_NAME
        and value.isprintable()
        and "/" not in value
    ):
        raise ValueError("a name without a slash")
    return value


def dtype(value: Any) -> str:
    """Checks a data type, as text or as Keras describes a policy, and returns text."""
    if type(value) is dict and value.get("class_name") == "DTypePolicy":
        config = value.get("config")
        value = config.get("name") if type(config) is dict else None
    return str(choice(*_DTYPES)(value))


def matters(setting: str, value: Any) -> bool:
    """Says whether a setting has a meaning once a network is trained.

    Initialisers, regularisers and constraints have none, and are where functions and
    nested objects can stand. What later versions of Keras add is null unless used.
    """
    return not (
        value is None
        or setting in _ONLY_FOR_TRAINING
        or setting.endswith(("_initializer", "_regularizer", "_constraint"))
    )


_flag = choice(False, True)
_size = whole(1, 1024)
_sizes = either(_size, several(_size, 2, 2))
_axis = whole(-5, 5)
_axes = either(_axis, several(_axis, 1, 5))
_margin = whole(0, 1024)
_margins = either(
    _margin, several(either(_margin, several(_margin, 2, 2)), least=2, most=2)
)
_channels_last = choice("channels_last")
_activation = choice(*_ACTIVATIONS)
_share = number(0, 1)

_CONVOLUTION: Mapping[str, Check] = {
    "kernel_size": _sizes,
    "strides": _sizes,
    "padding": choice("valid", "same"),
    "data_format": _channels_last,
    "dilation_rate": _sizes,
    "activation": _activation,
    "use_bias": _flag,
}
_POOLING: Mapping[str, Check] = {
    "pool_size": _sizes,
    "strides": _sizes,
    "padding": choice("valid", "same"),
    "data_format": _channels_last,
}
_GLOBAL_POOLING: Mapping[str, Check] = {
    "data_format": _channels_last,
    "keepdims": _flag,
}
_NORMALISATION: Mapping[str, Check] = {
    "axis": _axes,
    "epsilon": number(0, 1),
    "center": _flag,
    "scale": _flag,
}
_DEPTH = whole(1, 65_536)

MERGING = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply")
"""The layers that take several tensors."""

OTHERWISE_IN_TRAINING = (
    *("BatchNormalization", "Dropout", "SpatialDropout2D", "GaussianDropout"),
    *("AlphaDropout", "GaussianNoise"),
)
"""The layers that can be told to do in prediction what they do in training."""

KNOWN_LAYERS: Mapping[str, Mapping[str, Check]] = {
    "InputLayer": {
        "batch_shape": several(either(choice(None), _DEPTH), least=2, most=6),
        "sparse": choice(False),
        "ragged": choice(False),
        "optional": choice(False),
    },
    "Conv2D": {"filters": _DEPTH, "groups": _DEPTH, **_CONVOLUTION},
    "SeparableConv2D": {
        "filters": _DEPTH,
        "depth_multiplier": _size,
        **_CONVOLUTION,
    },
    "DepthwiseConv2D": {"depth_multiplier": _size, **_CONVOLUTION},
    "Dense": {"units": _DEPTH, "activation": _activation, "use_bias": _flag},
    "BatchNormalization": {
        **_NORMALISATION,
        "axis": _axis,
        "momentum": _share,
        "renorm": _flag,
    },
    "LayerNormalization": {**_NORMALISATION, "rms_scaling": _flag},
    "GroupNormalization": {
        **_NORMALISATION,
        "axis": _axis,
        "groups": whole(-1, 65_536),
    },
    "Activation": {"activation": _activation},
    "ReLU": {
        "max_value": number(0),
        "negative_slope": number(0),
        "threshold": number(0),
    },
    "LeakyReLU": {"negative_slope": number(0)},
    "PReLU": {"shared_axes": several(whole(1, 5), least=1, most=5)},
    "ELU": {"alpha": number(0)},
    "Softmax": {"axis": _axes},
    "MaxPooling2D": _POOLING,
    "AveragePooling2D": _POOLING,
    "GlobalMaxPooling2D": _GLOBAL_POOLING,
    "GlobalAveragePooling2D": _GLOBAL_POOLING,
    "Dropout": {"rate": _share},
    "SpatialDropout2D": {"rate": _share, "data_format": _channels_last},
    "GaussianDropout": {"rate": _share},
    "AlphaDropout": {"rate": _share},
    "GaussianNoise": {"stddev": number(0)},
    "Flatten": {"data_format": _channels_last},
    "Reshape": {"target_shape": several(whole(-1, 2**31 - 1), least=1, most=5)},
    "Permute": {"dims": several(whole(1, 5), least=1, most=5)},
    **{name: {} for name in MERGING},
    "Concatenate": {"axis": _axis},
    "ZeroPadding2D": {"padding": _margins, "data_format": _channels_last},
    "Cropping2D": {"cropping": _margins, "data_format": _channels_last},
    "UpSampling2D": {
        "size": _sizes,
        "data_format": _channels_last,
        "interpolation": choice("nearest", "bilinear"),
    },
    "Resizing": {
        "height": _size,
        "width": _size,
        "interpolation": choice("nearest", "bilinear", "bicubic"),
        "crop_to_aspect_ratio": _flag,
        "pad_to_aspect_ratio": _flag,
        "fill_mode": choice("constant"),
        "fill_value": number(),
        "antialias": _flag,
        "data_format": _channels_last,
    },
    "Rescaling": {"scale": number(), "offset": number()},
}
"""Checks of the settings of each layer by the name of its class, besides those that
every layer has; a setting that is not named is refused."""
