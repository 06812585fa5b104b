"""The command line: modes, help, flags, exit codes, and one message for every error."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_cnn import __version__, cli
from emotion_cnn.commands import (
    MODES,
    audit,
    average,
    evaluate,
    export,
    predict,
    prepare,
    serve,
    train,
)
from emotion_cnn.ctrl_c import noticing_ctrl_c
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import (
    ConfigError,
    ModelError,
    ResumableError,
    RunInterruptedError,
)
from emotion_cnn.settings import settings_of

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    **{"train": train, "average": average},
    **{"evaluate": evaluate, "predict": predict, "serve": serve},
    **{"export": export, "prepare": prepare, "audit": audit},
}
HEAVY = {"keras", "tensorflow", "jax", "torch", "numpy", "matplotlib", "sklearn"}


@pytest.fixture
def run(monkeypatch):
    """Stands in for what the modes run: keeps what they are called with."""

    class Run:
        def __init__(self) -> None:
            self.calls: list[tuple[str, dict]] = []
            self.error: BaseException | None = None

    def of(mode: str):
        def fake(**keywords: object) -> None:
            recorded.calls.append((mode, keywords))
            if recorded.error is not None:
                raise recorded.error

        return fake

    recorded = Run()
    for mode, command in COMMANDS.items():
        monkeypatch.setattr(command, "run", of(mode))
    return recorded


def help_of(*arguments: str, monkeypatch, capsys, program: str = "main.py") -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def wrong(capsys, *arguments: str) -> str:
    """The message for arguments that cannot be read."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


# --- Help, version, start-up ---


@pytest.mark.parametrize("program", ["main.py", "emotion-cnn"])
def test_help_is_one_screen_of_modes(monkeypatch, capsys, program):
    text = help_of(monkeypatch=monkeypatch, capsys=capsys, program=program)
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    for mode, what in MODES.items():
        call = f"--mode {mode}" if program == "main.py" else mode
        [line] = [line for line in lines if line.endswith(what)]
        assert line.split(what)[0].strip() == call
    assert "examples:" in text


@pytest.mark.parametrize("mode", MODES)
def test_help_of_a_mode_explains_its_settings_and_no_others(monkeypatch, capsys, mode):
    command = COMMANDS[mode]
    text = help_of("--mode", mode, monkeypatch=monkeypatch, capsys=capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert command.__doc__.splitlines()[0] in text
    joined = "".join(text.split())
    expected = {"help", "debug"}
    settings = {n: d for each in command.SETTINGS for n, d in settings_of(each).items()}
    for owner in command.SETTINGS:
        for name, declared in settings_of(owner).items():
            expected.add(name.replace("_", "-"))
            help_ = cli.with_flags(declared.metadata["help"], settings)
            assert "".join(help_.split())[:60] in joined
            if choices := declared.metadata["choices"]:
                assert "{" + ",".join(choices) + "}" in joined
    flags = set(re.findall(r"^  (?:-h, )?--([a-z-]+)", text, re.MULTILINE))
    assert flags == expected


def test_help_of_training_is_grouped(monkeypatch, capsys):
    text = help_of("train", monkeypatch=monkeypatch, capsys=capsys)
    headings = re.findall(r"^(\w[\w ,-]*):$", text, re.MULTILINE)
    for heading in ("data", "network", "optimizer", "augmentation"):
        assert heading in headings
    assert "--no-flip" in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--mode", "train", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["predict", "--help"], 0),
        (["export", "--help"], 0),
        ([], 2),
        (["--mode", "nonsense"], 2),
        (["--mode", "train", "--epochs", "0"], 2),
        (["--mode", "evaluate", "--resume", "a-run"], 2),
        (["--mode", "predict", "--shard", "3"], 2),
    ],
)
def test_help_and_wrong_arguments_answer_at_once(tmp_path, arguments, code):
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "main.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    after = os.times()
    assert done.returncode == code
    assert ("usage: python main.py" in done.stdout) == (code == 0)
    assert ("error: " in done.stderr) == (code == 2)
    modules = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "emotion_cnn.settings" in modules
    assert not HEAVY & {module.partition(".")[0] for module in modules}
    # About 0.1 s, where importing Keras alone takes several. Not by the clock: a
    # busy machine can let any process wait.
    assert after.children_user - before.children_user < 1
    assert list(tmp_path.iterdir()) == []


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_the_package_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "emotion_cnn", "--version"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == __version__


# --- What reaches a mode ---


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_the_first_word_or_in_its_flag(run, mode):
    for arguments in ([mode], ["--mode", mode], [f"--mode={mode}"]):
        assert cli.main(arguments) == 0
    assert cli.main(["--debug", "--mode", mode]) == 0
    assert run.calls == [(mode, {})] * 4


def test_only_what_is_given_reaches_a_mode(run):
    arguments = ["--mode=train", "--recipe=sample", "--epochs=3", "--no-flip"]
    arguments += ["--learning-rate=0.25", "--seed=7", "--tensorboard", "--skip-bad"]
    assert cli.main([*arguments, "--data=d", "--publish=p"]) == 0
    expected = {"recipe": "sample", "epochs": 3, "flip": False, "learning_rate": 0.25}
    expected |= {"seed": 7, "tensorboard": True, "skip_bad": True}
    expected |= {"data": "d", "publish": "p"}
    assert run.calls == [("train", expected)]


def test_a_switch_can_be_asked_for(run):
    assert cli.main(["train", "--flip", "--calibrate"]) == 0
    assert run.calls == [("train", {"flip": True, "calibrate": True})]


# --- Wrong arguments ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("expected a mode", *MODES, "found none")),
        (["--data=d"], ("expected a mode", *MODES, "found none")),
        (["--mode", "x"], ("--mode", "'x'", *MODES)),
        (["trian"], ("expected a mode", "'trian'", "did you mean train?")),
        (["--mode", "trian"], ("expected a mode", "'trian'", "did you mean train?")),
        (["--mode=train", "--mode=audit"], ("--mode once", "found it 2 times")),
        (["train", "--mode=audit"], ("unrecognized", "--mode=audit")),
        (["train", "evaluate"], ("unrecognized", "evaluate")),
        (["--mode=train", "--recipe=x"], ("--recipe", "'x'", "default", "sample")),
        (["--mode=train", "--model=x"], ("--model", "'x'", "baseline", "compact")),
        (["--mode=train", "--backend=x"], ("--backend", "'x'", "tensorflow", "jax")),
        (["evaluate", "--labels=both"], ("--labels", "'both'", "original, ferplus")),
        (["--mode=train", "--epochs=many"], ("--epochs", "int", "'many'")),
        (["--mode=train", "--epochs=1.5"], ("--epochs", "int", "'1.5'")),
        (["--mode=train", "--learning-rate=x"], ("--learning-rate", "float", "'x'")),
        (["--mode=train", "--epoch=3"], ("unrecognized", "--epoch=3")),
        (["--mode=evaluate", "--epochs=3"], ("unrecognized", "--epochs=3")),
        (["--mode=audit", "--backend=jax"], ("unrecognized", "--backend=jax")),
        (["--mode=train", "stray"], ("unrecognized", "stray")),
        (["--mode=train", "--resume"], ("--resume", "expected one argument")),
    ],
)
def test_arguments_that_cannot_be_read(run, capsys, arguments, words):
    message = wrong(capsys, *arguments)
    # Choices are quoted by some versions of Python.
    for word in words:
        assert word.replace("'", "") in message.replace("'", "")
    assert "--help" in message
    assert run.calls == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs=0"], "--epochs is a number from 1 to 100000; found 0."),
        (["--learning-rate=nan"], "--learning-rate is a number from 1e-09 to 10"),
        (["--epochs=" + "9" * 400], "--epochs is a number"),
        (["--weights="], "--weights is given, but empty"),
        (["--weights=a\0b"], "--weights holds a character that no path can have"),
        (["--data=" + "a/" * 3000], "--data is longer than a path can be"),
        (["--runs=" + "a" * 256], "--runs is longer than a path can be"),
        (
            ["--learning-rate=1e-6"],
            "--minimum-learning-rate (1e-05) is above --learning-rate (1e-06)",
        ),
        (
            ["--label-mode=distribution"],
            "--label-mode distribution is for --labels fer",
        ),
        (["--recipe=best"], "--recipe best continues what --recipe foundation"),
        (["--recipe=best"], "with --weights."),
        (
            ["--recipe=foundation", "--model=compact"],
            "found --model compact. Choose residual, residual-narrow, residual-",
        ),
        (
            ["--resume=a-run", "--epochs=3", "--no-flip", "--seed=1"],
            "leave out --epochs, --flip, --seed.",
        ),
    ],
)
def test_settings_that_cannot_be_are_told_of_as_flags(fails, flags, message):
    assert message in fails("--mode", "train", *flags)


def test_data_that_are_not_there_are_told_of_before_a_backend_is_imported(tmp_path):
    alone = tmp_path / "train/happy/1.png"
    alone.parent.mkdir(parents=True)
    alone.touch()
    code = f"""
import sys
from emotion_cnn.cli import main
for words in (["train"], ["evaluate"], ["export"], ["average", "--weights", "runs"]):
    assert main([*words, "--data", {str(tmp_path / "none")!r}]) == 2
assert main(["train", "--data", {str(tmp_path)!r}]) == 2
sys.exit(bool(sys.modules.keys() & {{"keras", "tensorflow", "jax", "torch"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"The folder {tmp_path / 'none'} does not exist.") == 4
    assert "found only happy" in done.stderr


def test_a_backend_that_is_not_installed(fails, monkeypatch, tmp_path, faces):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    flags = ("--data", faces, "--runs", tmp_path, "--publish", tmp_path)
    message = fails("--mode=train", "--backend=jax", *flags)
    assert "Expected the package jax to be installed" in message
    assert "pip install jax (emotion-cnn's extra `[jax]`)" in message


def test_the_backend_of_a_run_is_unknown(fails, tmp_path):
    run = tmp_path / "runs" / "a-run"
    run.mkdir(parents=True)
    config = dataclasses.asdict(train.TrainSettings()) | {"backend": "os"}
    (run / "config.json").write_text(json.dumps(config))
    (run / "environment.json").write_text('{"data": {"fingerprint": ""}}')
    message = fails("--mode=train", "--resume", run, "--runs", run.parent)
    assert "--backend is one of tensorflow, jax, torch; found 'os'" in message


def test_an_environment_variable_with_an_unknown_backend(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", "--mode", "evaluate", "--data", "."],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Expected one of tensorflow, jax, torch as")
    assert "'numpy'" in done.stderr


# --- Messages and exit codes ---


def test_names_of_settings_become_flags():
    settings = {n: d for o in train.SETTINGS for n, d in settings_of(o).items()}
    for text, expected in {
        "Choose `leave_out`.": "Choose --leave-out.",
        "`labels=ferplus` or `skip_bad=True`": "--labels ferplus or --skip-bad",
        "`flip=False`": "--no-flip",
        "Continue with: `resume=a b`": "Continue with: --resume 'a b'",
        "`emotion-cnn audit`, `other`": "emotion-cnn audit, other",
        "in /a/`data`, `data`/x (`data`)": "in /a/`data`, `data`/x (--data)",
    }.items():
        assert cli.with_flags(text, settings) == expected


def test_no_message_of_the_library_contains_a_flag():
    """The command line alone knows flags: a notebook user has keyword arguments."""
    package = ROOT / "emotion_cnn"
    found = [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "cli.py" and path.parent.name != "commands"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"(?<![\w-])--[a-z]", line) and '"--' not in line
    ]
    assert found == []


def test_debug_shows_the_traceback_and_the_message(run, capsys):
    run.error = ModelError("Expected this, found that.")
    assert cli.main(["--mode", "evaluate", "--debug"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last)")
    assert error.endswith("\nerror: Expected this, found that.\n")


def test_without_debug_there_is_the_message_alone(run, capsys):
    run.error = ConfigError("Choose another `output`.")
    assert cli.main(["--mode", "evaluate"]) == 2
    assert capsys.readouterr().err == "error: Choose another --output.\n"


def test_ctrl_c(run, capsys):
    run.error = KeyboardInterrupt()
    assert cli.main(["--mode", "evaluate"]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"


class PressingCtrlC:
    """Python drops what is raised while an object is removed, and says so."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def heeding_ctrl_c():
    """A shell that starts pytest in the background makes it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_noticed_where_python_drops_it_and_heeded_once(
    heeding_ctrl_c, capsys
):
    with noticing_ctrl_c() as ctrl_c:
        assert not ctrl_c.is_pressed
        PressingCtrlC()
        assert ctrl_c.is_pressed
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        # Again, while the first is tidied up after.
        signal.raise_signal(signal.SIGINT)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# Presses Ctrl-C, and at one line after the other of what handles it once more.
PRESSING_AGAIN = """
import signal, sys
from emotion_cnn.ctrl_c import noticing_ctrl_c

def pressing_again_at(number):
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == number:
            signal.raise_signal(signal.SIGINT)
        return trace

    return trace

signal.signal(signal.SIGINT, signal.default_int_handler)
with noticing_ctrl_c() as ctrl_c:
    for number in range(1, 50):
        try:
            sys.settrace(pressing_again_at(number))
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
    print(ctrl_c.is_pressed)
"""


def test_ctrl_c_is_pressed_again_in_the_middle_of_its_handling():
    command = [sys.executable, "-c", PRESSING_AGAIN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("cannot import name"), ""),
        (SystemError("cannot import name"), ""),
        (SystemExit("cannot import name"), ""),
        (ModelError("Expected this."), " The last error: Expected this."),
        (
            OSError(28, "No space left", "/file"),
            " The last error: /file cannot be used: No space left. Make room, fix it, "
            "or choose another place.",
        ),
        (
            ResumableError("No space left.", Path("runs/a")),
            " The last error: No space left. Continue with: python main.py --mode "
            "train --resume runs/a",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ctrl_c_before_another_error(monkeypatch, heeding_ctrl_c, capsys, error, said):
    """It became that where a large package was imported, or got lost before it."""

    def press(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setattr(COMMANDS["train"], "run", press)
    assert cli.main(["--mode", "train"]) == 130
    assert capsys.readouterr().err == f"\nStopped.{said}\n"


@pytest.mark.parametrize("program", ["main.py", "emotion-cnn"])
def test_ctrl_c_in_a_run_says_how_to_go_on(run, capsys, monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program])
    run.error = RunInterruptedError("Stopped.", Path("my runs/a"))
    run.error.settings["runs"] = "my runs"
    assert str(run.error).endswith("train(resume='my runs/a', runs='my runs').")
    assert cli.main(["--mode", "train"]) == 130
    call = "python main.py --mode train" if program == "main.py" else f"{program} train"
    where = "--resume 'my runs/a' --runs 'my runs'"
    expected = f"\nStopped. Continue with: {call} {where}\n"
    assert capsys.readouterr().err == expected


def test_a_disk_that_refuses_is_no_traceback(run, capsys):
    run.error = OSError(28, "No space left on device", "/place/file")
    assert cli.main(["--mode", "audit"]) == 2
    assert "/place/file cannot be used: No space left" in capsys.readouterr().err


def test_an_error_of_the_program_is_not_passed_off_as_the_users(run):
    run.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        cli.main(["--mode", "train"])


def test_all_emotions_are_in_the_message_about_missing_images(fails, tmp_path, places):
    (tmp_path / "empty").mkdir()
    message = fails("--mode", "train", "--data", tmp_path / "empty", *places)
    for emotion in EMOTIONS:
        assert emotion in message


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
@pytest.mark.parametrize("name", ["\u8868\u60c5", "\u0416", "caf\udce9", "\U0001f600"])
def test_a_terminal_that_lacks_a_folders_letters(
    monkeypatch, tmp_path, faces, encoding, name
):
    data = faces.rename(tmp_path / name)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    output = tmp_path / f"{name} audited"
    assert cli.main(["audit", "--data", str(data), "--output", str(output)]) == 0
    sys.stdout.flush()
    assert f"Results: {output}".encode(encoding, "backslashreplace") in (
        written.getvalue()
    )
    assert (output / "audit.json").is_file()
