"""The command line: flags, exit codes, and one clear message for every error."""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_cnn import __version__, cli
from emotion_cnn.config import (
    AuditConfig,
    CurvesConfig,
    EvaluateConfig,
    PrepareConfig,
    ResumeConfig,
    TrainConfig,
)
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.errors import ModelError, RunInterruptedError
from emotion_cnn.settings import ROOT, flag_name
from emotion_cnn.training.recipes import Recipe

SETTINGS = [
    declared
    for owner in (
        Recipe,
        TrainConfig,
        ResumeConfig,
        EvaluateConfig,
        AuditConfig,
        PrepareConfig,
        CurvesConfig,
    )
    for declared in dataclasses.fields(owner)
    if declared.metadata
]
NUMBERS_OF_TRAINING = [
    pytest.param(declared, id=declared.name)
    for owner in (Recipe, TrainConfig)
    for declared in dataclasses.fields(owner)
    if declared.metadata and declared.metadata["minimum"] is not None
]
HEAVY = {"keras", "tensorflow", "jax", "torch", "numpy", "matplotlib", "sklearn"}


class FakeRunners:
    """Stands in for `emotion_cnn.runners`: keeps what the runners are called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.error: BaseException | None = None

    def __getattr__(self, name: str):
        def runner(config: object) -> None:
            self.calls.append((name, config))
            if self.error is not None:
                raise self.error

        return runner


@pytest.fixture
def runners(monkeypatch, own_environment):
    fake = FakeRunners()
    monkeypatch.setattr(cli, "_import_runners", lambda: fake)
    return fake


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_run(folder: Path, **config: object) -> Path:
    """A run that was interrupted before its first epoch."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# --- Help, version, start-up ---


@pytest.fixture(params=["main.py", "emotion-cnn"])
def help_text(monkeypatch, request):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [request.param])
    return cli.build_parser().format_help()


def without_spaces(text: str) -> str:
    """Text to search for, wherever the help breaks its lines."""
    return "".join(text.split())


def test_help_fits_a_terminal(help_text):
    assert [line for line in help_text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "declared", [pytest.param(declared, id=declared.name) for declared in SETTINGS]
)
def test_help_explains_every_setting(help_text, declared):
    assert f"  {flag_name(declared.name)}" in help_text
    expected = declared.metadata["help"]
    if declared.default not in (None, "") and not isinstance(declared.default, bool):
        shown = str(declared.default).replace(str(ROOT), "the project's folder")
        expected += f" (default: {shown}"
    assert without_spaces(expected) in without_spaces(help_text)


def test_a_choice_of_another_mode_is_refused(fails):
    message = fails("--mode=evaluate", "--labels=both")
    assert message == "--labels is one of original, ferplus; found 'both'.\n"


def test_small_images_need_a_network_that_takes_them(fails):
    message = fails("--mode=train", "--data=sample", "--low-resolution-epochs=2")
    assert "found --model compact. Choose residual" in message


def test_help_names_the_modes_and_choices(help_text):
    assert "--mode {train,evaluate,audit,curves,prepare}" in help_text
    for declared in SETTINGS:
        if choices := declared.metadata["choices"]:
            # Another mode may allow the same flag more of them.
            assert "{" + ",".join(choices) in help_text
    assert "--no-flip" in help_text
    assert "--no-calibrate" in help_text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        ([], 2),
        (["--mode", "nonsense"], 2),
        (["--mode", "train", "--epochs", "0"], 2),
        (["--mode", "evaluate", "--resume", "a-run"], 2),
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
    assert ("usage: main.py" in done.stdout) == (code == 0)
    assert ("error: " in done.stderr) == (code == 2)
    modules = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "emotion_cnn.settings" in modules
    assert not HEAVY & {module.partition(".")[0] for module in modules}
    # About 0.1 s, where importing Keras alone takes several. Not by the clock: a
    # busy machine can let any process wait.
    assert after.children_user - before.children_user < 1
    assert after.children_system - before.children_system < 1
    assert contents(tmp_path) == []


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


# --- What reaches the runners ---


def test_train_without_flags_is_the_default_config(runners):
    assert cli.main(["--mode", "train"]) == 0
    assert runners.calls == [("train", TrainConfig())]


def test_settings_of_the_recipe_and_of_the_run_reach_the_runner(runners):
    arguments = ["--mode=train", "--recipe=sample", "--epochs=3", "--no-flip"]
    arguments += ["--learning-rate=0.25", "--seed=7", "--tensorboard", "--skip-bad"]
    assert cli.main([*arguments, "--data=d", "--runs=r", "--publish=p"]) == 0
    expected = TrainConfig(
        data="d",
        recipe="sample",
        settings={"epochs": 3, "flip": False, "learning_rate": 0.25},
        skip_bad=True,
        seed=7,
        runs="r",
        publish="p",
        tensorboard=True,
    )
    assert runners.calls == [("train", expected)]


def test_flip_can_be_asked_for(runners):
    assert cli.main(["--mode", "train", "--flip"]) == 0
    assert runners.calls == [("train", TrainConfig(settings={"flip": True}))]


def test_flags_of_evaluate_reach_the_runner(runners):
    arguments = ["--mode=evaluate", "--weights=w", "--output=o", "--runs=r"]
    flags = ["--data=sample", "--skip-bad", "--tta=ten-crop"]
    assert cli.main([*arguments, *flags]) == 0
    expected = EvaluateConfig(
        data="sample",
        weights="w",
        output="o",
        runs="r",
        skip_bad=True,
        tta="ten-crop",
    )
    assert runners.calls == [("evaluate", expected)]


def test_flags_of_curves_reach_the_runner(runners):
    assert cli.main(["--mode=curves", "--run=a", "--output=o.png", "--runs=r"]) == 0
    expected = CurvesConfig(run="a", output="o.png", runs="r")
    assert runners.calls == [("curves", expected)]


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_the_backend_is_set_before_the_runners_are_imported(runners, monkeypatch, mode):
    seen = []
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(
        cli,
        "_import_runners",
        lambda: seen.append(os.environ["KERAS_BACKEND"]) or runners,
    )
    assert cli.main(["--mode", mode, "--backend", "torch"]) == 0
    assert seen == ["torch"]


def test_a_run_is_resumed_on_its_own_backend(runners, monkeypatch, tmp_path):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: object())
    run = make_run(tmp_path / "runs" / "a-run", backend="jax")
    arguments = ["--mode=train", "--resume=a-run", f"--runs={run.parent}", "--data=d"]
    assert cli.main(arguments) == 0
    expected = ResumeConfig(resume="a-run", data="d", runs=str(run.parent))
    assert runners.calls == [("resume", expected)]
    assert os.environ["KERAS_BACKEND"] == "jax"


# --- Wrong arguments ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("--mode", "required")),
        (["--mode", "x"], ("--mode", "'x'", "train", "evaluate", "curves")),
        (["--mode=train", "--recipe=x"], ("--recipe", "'x'", "default", "sample")),
        (["--mode=train", "--model=x"], ("--model", "'x'", "baseline", "compact")),
        (["--mode=train", "--backend=x"], ("--backend", "'x'", "tensorflow", "jax")),
        (["--mode=evaluate", "--backend=x"], ("--backend", "'x'", "torch")),
        (["--mode=train", "--epochs=many"], ("--epochs", "int", "'many'")),
        (["--mode=train", "--epochs=1.5"], ("--epochs", "int", "'1.5'")),
        (["--mode=train", "--learning-rate=x"], ("--learning-rate", "float", "'x'")),
        (["--mode=train", "--epoch=3"], ("unrecognized", "--epoch=3")),
        (["--mode=train", "stray"], ("unrecognized", "stray")),
        (["--mode=train", "--resume"], ("--resume", "expected one argument")),
    ],
)
def test_arguments_that_cannot_be_read(runners, capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in message
    for word in words:
        assert word in message
    assert runners.calls == []


def just_outside(bound: float, direction: float) -> float:
    if isinstance(bound, int):
        return bound + int(math.copysign(1, direction))
    return math.nextafter(bound, direction)


def typed(declared: dataclasses.Field, bound: float) -> float:
    """A bound as a number of its setting's type."""
    return type(declared.default)(bound)


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
@pytest.mark.parametrize("declared", NUMBERS_OF_TRAINING)
def test_a_number_may_reach_its_bounds(runners, declared, bound):
    value = typed(declared, declared.metadata[bound])
    # So that the settings agree.
    values = {"learning_rate": 10.0, "minimum_learning_rate": 0.0, "epochs": 100_000}
    values |= {"optimizer": "sgd", "schedule": "linear", "labels": "both"}
    values[declared.name] = value
    flags = [f"{flag_name(name)}={number}" for name, number in values.items()]
    assert cli.main(["--mode", "train", *flags]) == 0
    [(_, config)] = runners.calls
    reached = {**vars(config), **config.settings}
    assert reached[declared.name] == value


@pytest.mark.parametrize(
    ("bound", "direction"), [("minimum", -math.inf), ("maximum", math.inf)]
)
@pytest.mark.parametrize("declared", NUMBERS_OF_TRAINING)
def test_a_number_outside_its_range(runners, fails, declared, bound, direction):
    value = just_outside(typed(declared, declared.metadata[bound]), direction)
    flag = flag_name(declared.name)
    message = fails("--mode", "train", f"{flag}={value}")
    assert message.startswith(f"{flag} is a number from ")
    assert f"found {value}" in message
    assert runners.calls == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_none(runners, fails, value):
    message = fails("--mode", "train", f"--learning-rate={value}")
    assert "--learning-rate is a number from 1e-09 to 10" in message


def test_a_number_too_large_for_a_float(runners, fails):
    assert "--epochs is a number" in fails("--mode=train", "--epochs=" + "9" * 400)


def test_settings_that_do_not_agree(runners, fails):
    message = fails("--mode=train", "--learning-rate=1e-6")
    assert "--minimum-learning-rate (1e-05)" in message
    assert "--learning-rate (1e-06)" in message


@pytest.mark.parametrize(
    ("mode", "flag", "value"),
    [
        ("train", "--output", "o"),
        ("train", "--run", "r"),
        ("evaluate", "--epochs", "3"),
        ("evaluate", "--recipe", "sample"),
        ("evaluate", "--publish", "p"),
        ("evaluate", "--resume", "r"),
        ("evaluate", "--run", "r"),
        ("curves", "--data", "d"),
        ("curves", "--backend", "jax"),
        ("curves", "--seed", "1"),
    ],
)
def test_a_flag_of_another_mode(runners, fails, mode, flag, value):
    message = fails("--mode", mode, flag, value)
    assert f"{flag} is not for --mode {mode}" in message
    assert "--help" in message
    assert runners.calls == []


def test_curves_of_no_run(runners, fails):
    assert "--mode curves needs --run RUN" in fails("--mode", "curves")


def test_resume_takes_no_other_settings(runners, fails):
    flags = ("--epochs=3", "--no-flip", "--seed=1", "--backend=jax")
    message = fails("--mode=train", "--resume=a-run", *flags)
    assert "--resume continues a run with the settings it was started with" in message
    assert "leave out --backend, --epochs, --flip, --seed." in message


@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_backend_that_is_not_installed(runners, fails, monkeypatch, mode, backend):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    message = fails("--mode", mode, "--backend", backend)
    assert f"--backend {backend} needs the package {backend}" in message
    assert f"pip install {backend}" in message
    assert runners.calls == []


def test_the_backend_of_a_run_is_no_longer_installed(
    runners, fails, monkeypatch, tmp_path
):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    run = make_run(tmp_path / "a-run", backend="jax")
    assert "needs the package jax" in fails("--mode=train", "--resume", run)


@pytest.mark.parametrize("backend", [5, "os"])
def test_the_backend_of_a_run_is_none(runners, fails, tmp_path, backend):
    run = make_run(tmp_path / "a-run", backend=backend)
    message = fails("--mode=train", "--resume", run)
    assert str(backend) in message
    assert runners.calls == []


def test_an_environment_variable_with_an_unknown_backend(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", "--mode", "evaluate"],
        cwd=tmp_path,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --backend is one of tensorflow, jax, torch;")
    assert "'numpy'" in done.stderr


@pytest.mark.parametrize(
    "flags", [("train", "--resume"), ("curves", "--run"), ("evaluate", "--weights")]
)
def test_an_unknown_run_lists_those_there_are(fails, tmp_path, faces, flags):
    mode, flag = flags
    data = ("--data", faces) if mode == "evaluate" else ()
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name)
    message = fails("--mode", mode, flag, "three", "--runs", tmp_path / "runs", *data)
    assert "none called 'three'" in message
    assert "one, two" in message


def test_an_unknown_run_where_there_is_none(fails, tmp_path):
    message = fails("--mode=train", "--resume=three", "--runs", tmp_path / "runs")
    assert str(tmp_path / "runs") in message
    assert "none yet" in message


def test_a_name_of_a_run_that_no_file_system_takes(fails, tmp_path):
    name = "a" * 400
    assert name in fails("--mode=train", "--resume", name, "--runs", tmp_path)


# --- Exit codes ---


def test_debug_shows_the_traceback_and_the_message(runners, capsys):
    runners.error = ModelError("Expected this, found that.")
    assert cli.main(["--mode", "evaluate", "--debug"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last)")
    assert error.endswith("\nerror: Expected this, found that.\n")


def test_without_debug_there_is_the_message_alone(runners, capsys):
    runners.error = ModelError("Expected this, found that.")
    assert cli.main(["--mode", "evaluate"]) == 2
    assert capsys.readouterr().err == "error: Expected this, found that.\n"


def test_ctrl_c(runners, capsys):
    runners.error = KeyboardInterrupt()
    assert cli.main(["--mode", "evaluate"]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"


def test_ctrl_c_while_the_runners_are_imported(monkeypatch, own_environment):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_import_runners", interrupted)
    assert cli.main(["--mode", "evaluate"]) == 130


def test_ctrl_c_in_a_run_says_how_to_go_on(runners, capsys):
    runners.error = RunInterruptedError("Stopped; continue with: this.")
    assert cli.main(["--mode", "train"]) == 130
    assert capsys.readouterr().err == "Stopped; continue with: this.\n"


def test_an_error_of_the_program_is_not_passed_off_as_the_users(runners):
    runners.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        cli.main(["--mode", "train"])


# --- Images and folders that cannot be used ---


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_a_folder_without_images(fails, tmp_path, places, network, mode):
    (tmp_path / "empty").mkdir()
    flags = places if mode == "train" else (*places[:2], "--weights", network)
    message = fails("--mode", mode, "--data", tmp_path / "empty", *flags)
    assert f"No images in {tmp_path / 'empty'}" in message
    for emotion in EMOTIONS:
        assert emotion in message
    assert "--data sample" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_class_is_named(fails, tmp_path, places, faces, part):
    shutil.rmtree(faces / part / "fear")
    message = fails("--mode", "train", "--data", faces, *places)
    assert f"No images of fear in {faces / part}" in message
    assert not (tmp_path / "runs").exists()


def test_all_damaged_images_are_named_before_anything_is_created(
    fails, tmp_path, places, faces
):
    whole = (faces / "train" / "happy" / "0.png").read_bytes()
    damaged = {
        "train/angry/empty.jpg": b"",
        "train/happy/cut.png": whole[: len(whole) // 2],
        "test/sad/text.png": b"no image",
    }
    for name, content in damaged.items():
        (faces / name).write_bytes(content)
    message = fails("--mode", "train", "--data", faces, *places)
    assert "3 images cannot be read" in message
    for name in damaged:
        assert name in message
    assert "--skip-bad" in message
    assert not (tmp_path / "runs").exists()
    assert contents(tmp_path / "publish") == []


def test_damaged_images_to_evaluate_on(fails, tmp_path, faces, network):
    (faces / "test" / "sad" / "0.png").write_bytes(b"no image")
    runs = ("--runs", tmp_path / "runs")
    message = fails("--mode=evaluate", "--data", faces, "--weights", network, *runs)
    assert "test/sad/0.png" in message
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def unwritable(tmp_path):
    """A folder that even root, as whom containers run tests, cannot write to."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        folder = Path("/sys")
        if not folder.is_dir():
            pytest.skip("root may write to every folder of this system")
    return folder


def test_publish_folder_without_write_permission(fails, tmp_path, faces, unwritable):
    flags = ("--runs", tmp_path / "runs", "--publish", unwritable)
    message = fails("--mode", "train", "--data", faces, *flags)
    assert f"{unwritable} cannot be written to" in message
    assert "--publish" in message
    assert not (tmp_path / "runs").exists()


def test_runs_folder_without_write_permission(fails, tmp_path, faces, unwritable):
    flags = ("--runs", unwritable, "--publish", tmp_path)
    message = fails("--mode", "train", "--data", faces, *flags)
    assert f"{unwritable} cannot be used" in message
    assert "--runs" in message


def test_publish_folder_missing(fails, tmp_path, faces):
    flags = ("--runs", tmp_path / "runs", "--publish", tmp_path / "none")
    message = fails("--mode", "train", "--data", faces, *flags)
    assert f"{tmp_path / 'none'} cannot be written to" in message
    assert "No such file or directory" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("below", ["", "folder"])
def test_runs_folder_that_is_a_file(fails, tmp_path, faces, below):
    file = tmp_path / "file"
    file.write_text("mine")
    flags = ("--runs", file / below, "--publish", tmp_path)
    message = fails("--mode", "train", "--data", faces, *flags)
    assert f"{file / below} cannot be used" in message
    assert file.read_text() == "mine"


def test_output_folder_below_a_file(fails, tmp_path, faces, network):
    file = tmp_path / "file"
    file.write_text("mine")
    flags = ("--weights", network, "--runs", tmp_path, "--output", file / "results")
    message = fails("--mode", "evaluate", "--data", faces, *flags)
    assert f"{file / 'results'} cannot be used" in message
    assert "--output" in message


# --- Runs and networks that cannot be used ---


def test_a_folder_without_a_network(fails, tmp_path, faces):
    (tmp_path / "empty").mkdir()
    flags = ("--weights", tmp_path / "empty", "--runs", tmp_path / "runs")
    message = fails("--mode", "evaluate", "--data", faces, *flags)
    assert "model.json and model_weights.h5" in message
    assert "--weights" in message
    assert not (tmp_path / "runs").exists()


def test_a_damaged_network_leaves_no_results(fails, tmp_path, faces, network):
    (network / "model_weights.h5").write_bytes(b"damaged")
    flags = ("--weights", network, "--runs", tmp_path / "runs")
    message = fails("--mode", "evaluate", "--data", faces, *flags)
    assert str(network / "model_weights.h5") in message
    assert not (tmp_path / "runs").exists()


def test_a_network_to_start_from_is_checked_before_anything_is_created(
    fails, tmp_path, places, faces, network
):
    flags = ("--mode=train", "--data", faces, *places)
    assert "found none called 'nowhere'" in fails(*flags, "--weights", "nowhere")
    (network / "model_weights.h5").write_bytes(b"damaged")
    message = fails(*flags, "--weights", network)
    assert str(network / "model_weights.h5") in message
    assert not (tmp_path / "runs").exists()


def test_drawn_faces_without_a_network_trained_on_them(fails, tmp_path):
    make_run(tmp_path / "runs" / "photographs", data="images")
    flags = ("--runs", tmp_path / "runs")
    message = fails("--mode", "evaluate", "--data", "sample", *flags)
    assert "found no such run" in message
    assert "--mode train" in message


def test_a_network_trained_on_photographs_is_not_evaluated_on_drawings(fails, tmp_path):
    run = make_run(tmp_path / "runs" / "photographs", data="images")
    flags = ("--weights", run, "--runs", run.parent)
    message = fails("--mode", "evaluate", "--data", "sample", *flags)
    assert f"{run} is none" in message


@pytest.fixture
def interrupted(tmp_path, faces, places):
    """A run on `faces` that was interrupted in its first epoch."""
    config = TrainConfig(
        data=str(faces),
        recipe="default",
        settings=dataclasses.asdict(Recipe()),
        runs=str(places[1]),
        publish=str(places[3]),
    )
    run = make_run(tmp_path / "runs" / "a-run", **dataclasses.asdict(config))
    environment = {"data": {"fingerprint": "0" * 64}}
    (run / "environment.json").write_text(json.dumps(environment))
    return run


def test_resuming_with_other_images(fails, interrupted, faces):
    message = fails("--mode", "train", "--resume", interrupted)
    assert f"the images that {interrupted} was started with" in message
    assert f"found others in {faces}" in message
    assert "--data" in message


def test_resuming_a_finished_run(fails, interrupted):
    (interrupted / "metrics.json").write_text("{}")
    message = fails("--mode", "train", "--resume", interrupted)
    assert f"{interrupted} ended well" in message


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"settings": {"depth": 3}}),
        ("config.json", {"settings": {"epochs": "five"}}),
        ("config.json", {"settings": {"epochs": 0}}),
        ("config.json", {"settings": 3}),
        ("config.json", {"seed": "a"}),
        ("config.json", {"data": 5}),
        ("config.json", {"colour": "red"}),
        ("environment.json", {"data": 3}),
        ("environment.json", {"data": {}}),
    ],
)
def test_resuming_a_run_whose_files_were_changed(fails, interrupted, file, change):
    values = json.loads((interrupted / file).read_text())
    (interrupted / file).write_text(json.dumps(values | change))
    message = fails("--mode", "train", "--resume", interrupted)
    assert file in message
    assert "damaged" in message


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\udcff"])
@pytest.mark.parametrize("file", ["config.json", "environment.json"])
def test_resuming_a_run_with_a_damaged_file(fails, interrupted, file, content):
    (interrupted / file).write_text(content, errors="surrogateescape")
    message = fails("--mode", "train", "--resume", interrupted)
    assert file in message


def test_resuming_a_run_without_its_environment(fails, interrupted):
    (interrupted / "environment.json").unlink()
    message = fails("--mode", "train", "--resume", interrupted)
    assert "environment.json" in message


# --- Loss curves ---

HISTORY = """\
epoch,loss,accuracy,val_loss,val_accuracy,learning_rate
1,1.5,0.25,1.25,0.5,0.001
2,1.0,0.5,1.0,0.75,0.001
"""


@pytest.fixture
def run_with_history(tmp_path):
    run = make_run(tmp_path / "runs" / "a-run")
    (run / "history.csv").write_text(HISTORY)
    return run


def curves(run: Path, *arguments: object) -> tuple[object, ...]:
    return ("--mode", "curves", "--run", run.name, "--runs", run.parent, *arguments)


def test_curves_are_drawn_again(capsys, own_environment, run_with_history):
    run = run_with_history
    assert cli.main([str(word) for word in curves(run)]) == 0
    assert (run / "loss_curves.png").read_bytes().startswith(b"\x89PNG")
    assert str(run / "loss_curves.png") in capsys.readouterr().out
    assert contents(run) == ["config.json", "history.csv", "loss_curves.png"]


def test_curves_before_the_first_epoch(fails, tmp_path):
    run = make_run(tmp_path / "runs" / "a-run")
    message = fails(*curves(run))
    assert "history" in message
    assert "first epoch" in message
    assert contents(run) == ["config.json"]


def test_curves_of_a_damaged_history(fails, run_with_history):
    (run_with_history / "history.csv").write_text(HISTORY[:-20])
    assert "history.csv is not the history" in fails(*curves(run_with_history))


@pytest.mark.parametrize(
    "name", ["none/curves.png", "folder.png", "curves.xyz", "curves", "folder"]
)
def test_curves_that_cannot_be_written(fails, tmp_path, run_with_history, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    before = contents(tmp_path)
    message = fails(*curves(run_with_history, "--output", tmp_path / name))
    assert str(tmp_path / name) in message
    assert contents(tmp_path) == before
    assert contents(run_with_history) == ["config.json", "history.csv"]


def test_curves_to_a_file_of_ones_own(
    capsys, own_environment, tmp_path, run_with_history
):
    arguments = curves(run_with_history, "--output", tmp_path / "drawn.png")
    assert cli.main([str(word) for word in arguments]) == 0
    assert contents(tmp_path) == ["drawn.png", "runs"]
    assert contents(run_with_history) == ["config.json", "history.csv"]
