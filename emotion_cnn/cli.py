"""The command line: flags from the config, modes to runners, errors to exit codes.

Keras takes seconds to import, and which backend it uses must be set before.
So this module imports neither Keras nor what imports it until the arguments
are known to be right.
"""

import argparse
import dataclasses
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from emotion_cnn import __version__
from emotion_cnn.config import (
    BACKENDS,
    AuditConfig,
    CurvesConfig,
    EvaluateConfig,
    PrepareConfig,
    ResumeConfig,
    TrainConfig,
)
from emotion_cnn.errors import ConfigError, EmotionCnnError, RunError
from emotion_cnn.settings import ROOT, flag_name
from emotion_cnn.training.recipes import RECIPES, Recipe

_DESCRIPTION = """\
Train and evaluate convolutional networks for facial-expression recognition:
48x48 gray faces, seven emotions.

  python main.py --mode train                    train on train/, evaluate on test/
  python main.py --mode train --model compact    ... a network quicker on a CPU
  python main.py --mode train --resume RUN       continue an interrupted run
  python main.py --mode evaluate                 evaluate the shipped network
  python main.py --mode evaluate --weights RUN   evaluate what a run trained
  python main.py --mode prepare --source PATH    import into train/ and test/
  python main.py --mode audit                    what is in the data folder
  python main.py --mode curves --run RUN         draw loss curves again
"""
_EPILOG = """\
Images go to train/<emotion>/ and test/<emotion>/. Without any, built-in
drawn faces step in, so that every command can be tried at once.
Exit codes: 0 done, 2 something to fix (the message says what), 130 Ctrl-C.
"""
_MODES: dict[str, tuple[type, ...]] = {
    "train": (TrainConfig, Recipe, ResumeConfig),
    "evaluate": (EvaluateConfig,),
    "audit": (AuditConfig,),
    "curves": (CurvesConfig,),
    "prepare": (PrepareConfig,),
}
"""The configs whose fields are the flags of a mode."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends with the message alone: the usage of all flags would bury it."""
        self.exit(2, f"error: {message} (--help lists all flags)\n")


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser; a flag that is not given leaves no trace in its result."""
    parser = _Parser(
        prog="main.py" if Path(sys.argv[0]).name == "main.py" else "emotion-cnn",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--mode", required=True, choices=tuple(_MODES))
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    parser.add_argument("--version", action="version", version=__version__)
    flags: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    for mode, configs in _MODES.items():
        for declared in (f for c in configs for f in dataclasses.fields(c)):
            if declared.metadata:
                flags.setdefault(declared.name, {}).setdefault(mode, declared)
    groups: dict[tuple[str, ...], argparse._ArgumentGroup] = {}
    for by_mode in flags.values():
        modes = tuple(by_mode)
        if modes not in groups:
            title = "for --mode " + ", ".join(modes)
            groups[modes] = parser.add_argument_group(title)
        _add_flag(groups[modes], by_mode)
    return parser


def _add_flag(
    group: argparse._ArgumentGroup, by_mode: dict[str, dataclasses.Field[Any]]
) -> None:
    """Adds the flag of a field that one mode has, or several."""
    helps = {mode: _help_text(declared) for mode, declared in by_mode.items()}
    declared = next(iter(by_mode.values()))
    modes_of: dict[str, list[str]] = {}
    for mode, text in helps.items():
        modes_of.setdefault(text, []).append(mode)
    options: dict[str, Any] = {
        "help": (
            helps.popitem()[1]
            if len(modes_of) == 1
            else ". ".join(f"{', '.join(m)}: {text}" for text, m in modes_of.items())
        )
    }
    if isinstance(declared.default, bool):
        # What a named recipe may have switched on can be switched off.
        of_recipe = hasattr(Recipe, declared.name)
        options["action"] = (
            argparse.BooleanOptionalAction if of_recipe else "store_true"
        )
    else:
        options["type"] = (
            type(declared.default)
            if isinstance(declared.default, (int, float))
            else str
        )
        # Those of all modes; the config of the mode refuses what it does not know.
        choices = [d.metadata["choices"] or () for d in by_mode.values()]
        options["choices"] = tuple(dict.fromkeys(chain(*choices))) or None
        options["metavar"] = declared.metadata["metavar"]
    group.add_argument(flag_name(declared.name), **options)


def _help_text(declared: dataclasses.Field[Any]) -> str:
    help_text, default = declared.metadata["help"], declared.default
    of_sample = getattr(RECIPES["sample"], declared.name, default)
    if of_sample != default:
        help_text += f" (default: {default}; of the recipe sample: {of_sample})"
    elif default is True:
        help_text += " (default: yes)"
    elif default is not False and default not in (None, ""):
        shown = str(default).replace(str(ROOT), "the project's folder", 1)
        help_text += f" (default: {shown})"
    return help_text.replace("%", "%%")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        The exit code: 0, 2 for something the user can fix, 130 for Ctrl-C.
        A wrong argument ends the process with 2 at once, as argparse does.
    """
    given = vars(build_parser().parse_args(argv))
    mode, debug = given.pop("mode"), given.pop("debug", False)
    try:
        _prepare(mode, given)()
    except EmotionCnnError as error:
        if debug:
            traceback.print_exc()
        print(_message(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # What a full or locked disk refuses, where no runner knows more to say.
        if debug:
            traceback.print_exc()
        print(
            f"error: {error.filename or 'a file'} cannot be used: "
            f"{error.strerror or error}. Make room, fix it, or choose another place.",
            file=sys.stderr,
        )
        return EmotionCnnError.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def _message(error: EmotionCnnError) -> str:
    prefix = "" if error.exit_code == 130 else "error: "
    return prefix + str(error)


def _prepare(mode: str, given: dict[str, Any]) -> Callable[[], object]:
    """Checks the arguments, sets up Keras' backend, and returns what to run."""
    allowed = {f.name for c in _MODES[mode] for f in dataclasses.fields(c)}
    if strange := sorted(set(given) - allowed):
        raise ConfigError(
            f"{flag_name(strange[0])} is not for --mode {mode}; leave it out. "
            "--help lists what is."
        )
    config: Any
    if mode == "prepare":
        config = PrepareConfig(**given)
        return lambda: _import_preparation().prepare(config)
    if mode == "audit":
        # Needs no Keras, so it starts at once.
        from emotion_cnn.audit_runner import audit

        return partial(audit, AuditConfig(**given))
    if mode == "curves":
        if "run" not in given:
            raise ConfigError("--mode curves needs --run RUN: which run to draw.")
        config, runner = CurvesConfig(**given), "curves"
        backend = EvaluateConfig().backend
    elif mode == "evaluate":
        config, runner = EvaluateConfig(**given), "evaluate"
        backend = config.backend
    elif "resume" in given:
        fields = {f.name for f in dataclasses.fields(ResumeConfig)}
        if strange := sorted(set(given) - fields):
            raise ConfigError(
                "--resume continues a run with the settings it was started with; "
                f"leave out {', '.join(map(flag_name, strange))}."
            )
        config, runner = ResumeConfig(**given), "resume"
        from emotion_cnn.training.run_folder import find_run

        run = find_run(config.resume, Path(config.runs))
        backend = str(run.read_json(run.config).get("backend"))
        if backend not in BACKENDS:
            raise RunError(
                f"{run.config} is damaged: expected one of {', '.join(BACKENDS)} as "
                f"its backend, found {backend}."
            )
    else:
        names = {f.name for f in dataclasses.fields(Recipe)}
        settings = {name: given.pop(name) for name in names & set(given)}
        config, runner = TrainConfig(**given, settings=settings), "train"
        backend = config.backend
    _set_backend(backend)
    return lambda: getattr(_import_runners(), runner)(config)


def _import_runners() -> Any:
    from emotion_cnn import runners

    return runners


def _import_preparation() -> Any:
    """Imports no Keras, unlike `_import_runners`."""
    from emotion_cnn import prepare_runner

    return prepare_runner


def _set_backend(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        raise ConfigError(
            f"--backend {backend} needs the package {backend}, which is not "
            f"installed. Install it (pip install {backend}) or choose another backend."
        )
    os.environ["KERAS_BACKEND"] = backend
    # TensorFlow prints its build options at every start unless told not to.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
