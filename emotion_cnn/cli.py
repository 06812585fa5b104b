"""The command line: a mode, its own parser, its `run`, and exit codes for errors.

Keras takes seconds to import, so nothing heavy is imported until the arguments are
known to be right.
"""

import argparse
import dataclasses
import difflib
import importlib
import logging
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from emotion_cnn import __version__
from emotion_cnn.commands import MODES
from emotion_cnn.ctrl_c import noticing_ctrl_c
from emotion_cnn.errors import EmotionCnnError, ResumableError, RunInterruptedError
from emotion_cnn.files import first_line, shown
from emotion_cnn.processes import end_at_once
from emotion_cnn.settings import settings_of

_DESCRIPTION = "Train, evaluate and use networks for facial-expression recognition."
_EPILOG = """\
examples:
  {program} {train}
  {program} {train} --model compact --epochs 30
  {program} {train} --resume RUN
  {program} {evaluate} --tta flip
  {program} {predict} --source photo.jpg --save images
  {program} {prepare} --source fer2013.csv --data faces
  {program} {audit} --data faces

{program} {train} --help lists the settings of a mode.

Images go to train/<emotion>/ and test/<emotion>/. Without any, built-in drawn
faces step in, so that every command can be tried at once.
Exit codes: 0 done, 2 something to fix (the message says what), 130 Ctrl-C.
"""

_MODE_EXPECTED = f"expected a mode ({', '.join(MODES)}), first or in --mode"
_STOPPED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends with the message alone: the usage of all flags would bury it."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        The exit code: 0, 2 for something the user can fix, 130 for Ctrl-C.
        A wrong argument ends the process with 2 at once, as argparse does.
    """
    _prepare_streams()
    with noticing_ctrl_c() as ctrl_c:
        try:
            code = _run(list(sys.argv[1:] if argv is None else argv))
        except BaseException as error:
            # Others too: an import that is interrupted can end with any error.
            if not (isinstance(error, KeyboardInterrupt) or ctrl_c.is_pressed):
                raise
            print("\nStopped.", file=sys.stderr)
            code = _STOPPED
    if argv is None and code:
        end_at_once(code)
    if argv is None and code == _STOPPED:
        # The process ends now; Ctrl-C would interrupt that with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _run(argv: list[str]) -> int:
    mode, arguments = _split_mode(argv)
    if mode is None:
        parser = _overview_parser()
        parser.parse_known_args(arguments)  # help and version end the process
        parser.error(f"{_MODE_EXPECTED}, found none")
    command = importlib.import_module(f"emotion_cnn.commands.{mode}")
    given = vars(_mode_parser(mode, command).parse_args(_with_values(arguments)))
    debug = given.pop("debug", False)
    flags = {
        name: each for c in command.SETTINGS for name, each in settings_of(c).items()
    }
    with _log_to_stdout(flags), noticing_ctrl_c() as ctrl_c:
        try:
            command.run(**given)
        except RunInterruptedError as error:
            print(f"\n{_resume_message(error, mode, flags)}", file=sys.stderr)
            return _STOPPED
        except BrokenPipeError:
            # Whoever read the output has gone, such as `head`; no disk is full.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (EmotionCnnError, OSError) as error:
            if debug:
                traceback.print_exc()
            message = _message(error, mode, flags)
            if ctrl_c.is_pressed:
                # Ctrl-C may have become this error, or have got lost long before it.
                print(f"\nStopped. The last error: {message}", file=sys.stderr)
                return _STOPPED
            print(f"error: {message}", file=sys.stderr)
            return EmotionCnnError.exit_code
    return 0


def _with_values(arguments: list[str]) -> list[str]:
    """Joins a flag and a value such as `-1-1`, which argparse takes for a flag."""
    joined: list[str] = []
    for argument in arguments:
        follows = joined and re.fullmatch("--[a-z-]+", joined[-1])
        if follows and re.fullmatch(r"-[0-9].*-.*", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _prepare_streams() -> None:
    """Makes sure that output can be written, whatever it is and wherever it goes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, or of a program without a console
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # A path may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")


def _message(
    error: Exception, mode: str, settings: Mapping[str, dataclasses.Field[Any]]
) -> str:
    if isinstance(error, ResumableError):
        return _resume_message(error, mode, settings)
    if isinstance(error, OSError):
        # What a full or locked disk refuses, where no command knows more to say.
        return (
            f"{shown(str(error.filename or 'a file'))} cannot be used: "
            f"{first_line(error)}. Make room, fix it, or choose "
            "another place."
        )
    return with_flags(str(error), settings)


def _resume_message(
    stopped: ResumableError | RunInterruptedError,
    mode: str,
    settings: Mapping[str, dataclasses.Field[Any]],
) -> str:
    # To be pasted: main.py as it was called, from another folder perhaps.
    program = f"python {shlex.quote(sys.argv[0])}" if _is_script() else _program()
    flags = [
        word
        for name, value in stopped.settings.items()
        for word in _flag_with_value(name, value)
    ]
    command = " ".join([program, _with_mode(mode), *flags])
    return f"{with_flags(stopped.fact, settings)} Continue with: {command}"


def with_flags(text: str, settings: Mapping[str, dataclasses.Field[Any]]) -> str:
    """Returns a message of the library with flags in place of its settings' names.

    The library names a setting in backticks, with a value where that matters:
    `` `skip_bad=True` `` becomes `--skip-bad`, `` `tta=flip` `` becomes `--tta flip`.

    Args:
        text: A message.
        settings: The settings of the mode, by name; other names stay as they are.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if name not in settings:
            return match[0] if value is not None else match["name"]
        if value == "False":
            return "--no-" + _flag_name(name).removeprefix("--")
        return _flag_name(name) + (
            "" if value in (None, "True") else f" {shlex.quote(value)}"
        )

    text = re.sub(_words("`(?P<name>[a-z_]+)(?:=(?P<value>[^`]*))?`"), flag, text)
    # The library names a command as it is called where the package is installed.
    return re.sub(
        _words(r"`emotion-cnn (\w+)`"),
        lambda match: f"{_program()} {_with_mode(match[1])}",
        text,
    )


def _words(pattern: str) -> str:
    """Returns a pattern that fits between words, not inside a path."""
    return rf"(?<![^\s(]){pattern}(?![^\s.,;:)])"


def _flag_with_value(name: str, value: str | bool) -> tuple[str, ...]:
    flag = _flag_name(name)
    return (flag,) if isinstance(value, bool) else (flag, shlex.quote(value))


def _flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


@contextmanager
def _log_to_stdout(settings: Mapping[str, dataclasses.Field[Any]]) -> Iterator[None]:
    """Shows what the package logs, as plain lines."""

    class Handler(logging.StreamHandler[Any]):
        def format(self, record: logging.LogRecord) -> str:
            return with_flags(record.getMessage(), settings)

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
            # Work goes on where nobody reads its log, as after `| head`.
            if not isinstance(sys.exception(), BrokenPipeError):
                super().handleError(record)

    logger, handler = logging.getLogger("emotion_cnn"), Handler(sys.stdout)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _split_mode(argv: list[str]) -> tuple[str | None, list[str]]:
    """Returns the mode, as first word or in `--mode`, and the other arguments."""
    if argv and argv[0] in MODES:
        return argv[0], argv[1:]
    parser = _Parser(prog=_program(), add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", action="append", default=[])
    known, others = parser.parse_known_args(argv)
    modes = known.mode
    if not modes and argv and not argv[0].startswith("-"):
        modes = [argv[0]]
    if len(modes) > 1:
        parser.error(f"expected --mode once, found it {len(modes)} times")
    for mode in modes:
        if mode not in MODES:
            close = difflib.get_close_matches(mode, MODES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"{_MODE_EXPECTED}, found {mode!r}{hint}")
    return modes[0] if modes else None, others


def _is_script() -> bool:
    return Path(sys.argv[0]).name == "main.py"


def _program() -> str:
    started = Path(sys.argv[0]).name
    return {
        "main.py": "python main.py",
        "__main__.py": "python -m emotion_cnn",
    }.get(started, "emotion-cnn")


def _with_mode(mode: str) -> str:
    return f"--mode {mode}" if _is_script() else mode


def _overview_parser() -> argparse.ArgumentParser:
    """Builds the parser of a call without a mode: it knows help and version."""
    modes = {mode: _with_mode(mode) for mode in MODES}
    parser = _Parser(
        prog=_program(),
        usage=f"{_program()} {_with_mode('MODE')} [settings]",
        description=f"{_DESCRIPTION}\n\nmodes:\n"
        + "\n".join(f"  {modes[mode]:<16} {help_}" for mode, help_ in MODES.items()),
        epilog=_EPILOG.format(program=_program(), **modes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _mode_parser(mode: str, command: ModuleType) -> argparse.ArgumentParser:
    """Builds a mode's parser; a flag that is not given is not in its result."""
    parser = _Parser(
        prog=f"{_program()} {_with_mode(mode)}",
        usage=f"{_program()} {_with_mode(mode)} [settings]",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    seen: set[str] = set()
    for owner in command.SETTINGS:
        group: Any = parser
        for name, declared in settings_of(owner).items():
            if declared.metadata["group"]:
                group = parser.add_argument_group(declared.metadata["group"])
            if name not in seen:
                _add_flag(group, name, declared, command)
            seen.add(name)
    return parser


def _add_flag(
    group: Any, name: str, declared: dataclasses.Field[Any], command: ModuleType
) -> None:
    default, rules = declared.default, declared.metadata
    options: dict[str, Any] = {"help": _help_text(name, declared, command)}
    if isinstance(default, bool):
        # What a named recipe may have switched on can be switched off.
        can_be_off = name in getattr(command, "SWITCHES", ())
        options["action"] = (
            argparse.BooleanOptionalAction if can_be_off else "store_true"
        )
    else:
        options["type"] = type(default) if isinstance(default, (int, float)) else str
        options["choices"] = rules["choices"]
        options["metavar"] = rules["metavar"]
    group.add_argument(_flag_name(name), **options)


def _help_text(name: str, declared: dataclasses.Field[Any], command: ModuleType) -> str:
    text, default = declared.metadata["help"], declared.default
    text = with_flags(
        text,
        {n: d for owner in command.SETTINGS for n, d in settings_of(owner).items()},
    )
    if default is True:
        text += " (default: yes)"
    elif default is not False and default not in (None, ""):
        text += f" (default: {default})"
    return text.replace("%", "%%")
