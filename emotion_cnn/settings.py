"""How a setting is declared and checked; the command line makes flags of them."""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Any

from emotion_cnn.errors import ConfigError

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent

ROOT = _PACKAGE_PARENT if (_PACKAGE_PARENT / "main.py").is_file() else Path.cwd()
"""The clone this package runs from; the working folder once it is installed."""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    metavar: str | None = None,
) -> Any:
    """Declares a dataclass field that is also a command-line flag.

    Args:
        default: Value without the flag; its type is the flag's type.
        help: One sentence for `--help`.
        choices: The names that are allowed, if only some are.
        minimum: Least number allowed, itself included.
        maximum: Greatest number allowed, itself included.
        metavar: What `--help` calls the value.

    Returns:
        A `dataclasses.field`.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "metavar": metavar,
        },
    )


def flag_name(field_name: str) -> str:
    """Returns the command-line flag of a field: `batch_size` is `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def check_settings(config: Any) -> None:
    """Checks every field of a config against its declared choices and range.

    Args:
        config: An instance of a dataclass of this module.

    Raises:
        ConfigError: A value is outside what its field allows; names the flag.
    """
    for declared in dataclasses.fields(config):
        rules = declared.metadata
        if not rules:
            continue
        value, flag = getattr(config, declared.name), flag_name(declared.name)
        kind = type(declared.default)
        if declared.default is None and value == "":
            raise ConfigError(
                f"{flag} is given, but empty; fill it in or leave it out."
            )
        if declared.default is not None and not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise ConfigError(f"{flag} is of type {kind.__name__}; found {value!r}.")
        if rules["choices"] and value is not None and value not in rules["choices"]:
            raise ConfigError(
                f"{flag} is one of {', '.join(rules['choices'])}; found {value!r}."
            )
        low, high = rules["minimum"], rules["maximum"]
        if low is not None and not low <= value <= high:
            raise ConfigError(
                f"{flag} is a number from {low:.10g} to {high:.10g}; found {value}."
            )
