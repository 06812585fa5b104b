"""How a setting is declared and checked.

A setting is a field of a frozen dataclass. The command line makes a flag of it, and
the public API a keyword argument, so that it is declared once.
"""

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from emotion_cnn.errors import ConfigError

_Function = TypeVar("_Function", bound=Callable[..., Any])
# Of Linux and, but for the first, macOS and Windows.
_LONGEST_PATH = 4095
_LONGEST_NAME = 255


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    metavar: str | None = None,
    group: str | None = None,
    is_path: bool = True,
) -> Any:
    """Declares a dataclass field that is a setting.

    Args:
        default: Value if it is not given; its type is the setting's type, and None
            stands for a text that may be missing.
        help: One sentence that explains it.
        choices: The names that are allowed, if only some are.
        minimum: Least number allowed, itself included.
        maximum: Greatest number allowed, itself included.
        metavar: What the help calls the value.
        group: Heading in the help of this setting and those that follow it.
        is_path: Whether a text has to be one that can be a path.

    Returns:
        A `dataclasses.field`.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "metavar": metavar,
            "group": group,
            "is_path": is_path,
        },
    )


def settings_of(owner: type) -> dict[str, dataclasses.Field[Any]]:
    """Returns the settings that a dataclass declares, by name, in order."""
    return {
        declared.name: declared
        for declared in dataclasses.fields(owner)
        if declared.metadata
    }


def check_settings(values: Any) -> None:
    """Checks every setting of an instance against its declared type and range.

    Args:
        values: An instance of a dataclass with settings.

    Raises:
        ConfigError: A value is outside what its setting allows; names the setting.
    """
    for name, declared in settings_of(type(values)).items():
        _check(name, declared, getattr(values, name))


def _check(name: str, declared: dataclasses.Field[Any], value: Any) -> None:
    rules, default = declared.metadata, declared.default
    if default is None and value is None:
        return
    kind = str if default is None else type(default)
    if kind is str and value == "" != default:
        raise ConfigError(f"`{name}` is given, but empty; fill it in or leave it out.")
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"`{name}` is of type {kind.__name__}; found {value!r}.")
    if rules["choices"] and value not in rules["choices"]:
        raise ConfigError(
            f"`{name}` is one of {', '.join(rules['choices'])}; found {value!r}."
        )
    if kind is str and rules["is_path"]:
        _check_text(name, value)
    low, high = rules["minimum"], rules["maximum"]
    if low is not None and not low <= value <= high:
        raise ConfigError(
            f"`{name}` is a number from {low:.10g} to {high:.10g}; found {value}."
        )


def _check_text(name: str, text: str) -> None:
    """Checks that a text can be a path: some cannot even be looked for."""
    try:
        longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
        if "\0" in text:
            raise ValueError("a null character")
    except ValueError:
        raise ConfigError(
            f"`{name}` holds a character that no path can have; found {text!a}."
        ) from None
    if longest > _LONGEST_NAME or len(os.fsencode(text)) > _LONGEST_PATH:
        raise ConfigError(
            f"`{name}` is longer than a path can be, {_LONGEST_PATH:,} bytes with at "
            f"most {_LONGEST_NAME} between slashes; found {text[:50]!a}..."
        )


def from_keywords(owners: tuple[type, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments as settings, paths as text.

    Args:
        owners: The dataclasses whose settings are allowed.
        given: Values by name; None stands for a setting that is not given.

    Raises:
        ConfigError: A name is none of the settings.
    """
    allowed = [name for owner in owners for name in settings_of(owner)]
    for name in given:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            raise ConfigError(
                f"There is no setting {name!r}"
                + (f"; did you mean `{close[0]}`?" if close else ".")
            )
    return {name: _plain(value) for name, value in given.items() if value is not None}


def takes_settings(owners: tuple[type, ...]) -> Callable[[_Function], _Function]:
    """Gives a function of `**keywords` the signature that `help` and editors show.

    Args:
        owners: The dataclasses of its settings; of a name declared twice, the first
            counts.
    """
    parameters: dict[str, inspect.Parameter] = {}
    for owner in owners:
        for name, declared in settings_of(owner).items():
            parameters.setdefault(
                name,
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=declared.default
                ),
            )

    def decorate(function: _Function) -> _Function:
        described: Any = function
        described.__signature__ = inspect.Signature(list(parameters.values()))
        return function

    return decorate


def _plain(value: Any) -> Any:
    """Returns a path or several names as text, and NumPy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        # A path is never one of the names that stand for something else.
        is_plain = os.sep not in path and path != os.curdir
        return f"{os.curdir}{os.sep}{path}" if is_plain else path
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value
