"""What goes wrong with folders, images, networks and runs: one message each."""

import csv
import dataclasses
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_network
from PIL import Image

import emotion_cnn
from emotion_cnn.cli import main
from emotion_cnn.commands.train_settings import TrainSettings
from emotion_cnn.data import cache
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.packed import packing
from emotion_cnn.data.splits import fingerprint
from emotion_cnn.errors import ResumableError, RunInterruptedError
from emotion_cnn.models.pair import read_pair
from emotion_cnn.training.recipes import Recipe


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_run(folder: Path, **config: object) -> Path:
    """A run that was interrupted before its first epoch."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def remove_description(folder: Path) -> None:
    """Makes a pair one of another tool, whose `model.json` holds what Keras writes."""
    values = json.loads((folder / "model.json").read_text())
    del values["emotion_cnn"]
    (folder / "model.json").write_text(json.dumps(values))


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


def test_a_missing_class_is_named(fails, tmp_path, places, faces):
    shutil.rmtree(faces / "train" / "fear")
    flags = ("--mode", "train", "--data", faces, *places)
    message = fails(*flags)
    assert f"No images of fear in {faces / 'train'}" in message
    message = fails(*flags, "--classes", "angry,happy,bored")
    assert f"No images of bored in {faces / 'train'}" in message
    assert "with --classes" in message
    assert not (tmp_path / "runs").exists()


def test_a_single_class(fails, tmp_path, places, faces):
    for part in ("train", "test"):
        for emotion in set(EMOTIONS) - {"sad"}:
            shutil.rmtree(faces / part / emotion)
    message = fails("--mode", "train", "--data", faces, *places)
    assert f"two or more classes in {faces}" in message
    assert "found only sad" in message


DECLARATIONS = {
    "angry,happy,Anger": "found the class angry twice, as angry and as Anger",
    "bored,tired,Bored": "found the class Bored twice, as bored and as Bored",
    "angry": "names 2 to 100 classes, separated by commas; found 1",
    "angry,,happy": "lists names, such as angry,happy,tired",
    "angry,../happy": "a folder's name can have; found '../happy'",
    "angry,\x1b[31m": "found '\\x1b[31m'",
    ",".join(map(str, range(101))): "found 101",
}


@pytest.mark.parametrize("declared", DECLARATIONS)
def test_classes_that_cannot_be(fails, faces, declared):
    for mode in ("train", "audit"):
        message = fails("--mode", mode, "--data", faces, "--classes", declared)
        assert DECLARATIONS[declared] in message
        assert "--classes" in message
    message = fails("--mode", "evaluate", "--data", faces, "--class-order", declared)
    assert DECLARATIONS[declared] in message
    assert "--class-order" in message


def test_very_many_classes_can_be_declared(fails, faces, places):
    names = ",".join(f"a class with a long name {number}" for number in range(100))
    message = fails("--mode=train", "--data", faces, "--classes", names, *places)
    assert "No images in" in message


def test_drawn_faces_have_classes_of_their_own(fails):
    message = fails("--mode=train", "--data=sample", "--classes=angry,happy")
    assert "the drawn faces are of angry, " in message


def test_folders_of_classes_that_a_network_does_not_know(fails, faces, network):
    for name in ("contempt", "tired"):
        shutil.copytree(faces / "test/sad", faces / "test" / name)
    message = fails("--mode=evaluate", "--data", faces, "--weights", network)
    assert f"found folders of contempt, tired in {faces / 'test'}" in message


def test_a_file_in_place_of_a_folder(fails, tmp_path, faces, places, network):
    table = tmp_path / "fer2013.csv"
    table.write_text("emotion,pixels")
    for mode in ("train", "evaluate", "audit"):
        message = fails("--mode", mode, "--data", table)
        assert f"in --data, found the file {table}" in message
        assert "emotion-cnn prepare: its source is the file" in message
    weights = network / "model_weights.h5"
    for command in (
        ("train", "--data", faces, "--weights", weights),
        ("train", "--resume", network / "model.json"),
        ("evaluate", "--data", faces, "--weights", network / "model.json"),
    ):
        message = fails(*command, *places[:2])
        assert "found the file" in message
        assert f"Name its folder, {network}." in message
    # Where a folder is no better, it is not named.
    message = fails("predict", "--source", table, "--weights", table, *places[:2])
    assert message.startswith(
        "Expected a training run or another folder with a network"
    )
    assert message.endswith(f"found the file {table}.\n")


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


def test_publish_folder_that_cannot_be_made(fails, tmp_path, faces):
    (tmp_path / "file").write_text("mine")
    flags = ("--runs", tmp_path / "runs", "--publish", tmp_path / "file" / "new")
    message = fails("--mode", "train", "--data", faces, *flags)
    assert f"{tmp_path / 'file/new'} cannot be written to: Not a directory" in message
    assert not (tmp_path / "runs").exists()


def test_publish_folder_is_not_made_before_there_is_a_network(fails, tmp_path, faces):
    flags = ("--weights", tmp_path, "--publish", tmp_path / "a" / "new")
    assert "model.json" in fails("--mode", "train", "--data", faces, *flags)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("below", ["", "folder"])
def test_runs_folder_that_is_a_file(fails, tmp_path, faces, below):
    file = tmp_path / "file"
    file.write_text("mine")
    flags = ("--runs", file / below, "--publish", tmp_path)
    message = fails("--mode", "train", "--data", faces, *flags)
    reason = "Not a directory" if below else "it is a file"
    assert f"{file / below} cannot be used: {reason}" in message
    assert file.read_text() == "mine"
    message = fails("--mode", "train", "--data", faces, "--publish", file / below)
    assert f"{file / below} cannot be written to: {reason}" in message


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
    message = fails(*flags, "--weights", "nowhere")
    assert "another folder with a network, found none called 'nowhere'" in message
    (network / "model_weights.h5").write_bytes(b"damaged")
    message = fails(*flags, "--weights", network)
    assert str(network / "model_weights.h5") in message
    assert not (tmp_path / "runs").exists()


def test_drawn_faces_without_a_network_trained_on_them(fails, tmp_path):
    make_run(tmp_path / "runs" / "photographs", data="images")
    flags = ("--runs", tmp_path / "runs")
    message = fails("--mode", "evaluate", "--data", "sample", *flags)
    assert "found no such run" in message
    assert "emotion-cnn train" in message


def test_a_network_trained_on_photographs_is_not_evaluated_on_drawings(fails, tmp_path):
    run = make_run(tmp_path / "runs" / "photographs", data="images")
    flags = ("--weights", run, "--runs", run.parent)
    message = fails("--mode", "evaluate", "--data", "sample", *flags)
    assert f"{run} is none" in message


@pytest.fixture
def interrupted(tmp_path, faces, places):
    """A run on `faces` that was interrupted in its first epoch."""
    config = TrainSettings(
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


def own(run):
    """Flags that say that a run is the user's own."""
    return ("--runs", run.parent)


def test_resuming_with_other_images(fails, interrupted, faces):
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert f"the images and targets that {interrupted} was started with" in message
    assert f"found others in {faces}" in message
    assert "--data" in message


def test_a_run_that_was_started_before_distributed_is_resumed(fails, interrupted):
    config = json.loads((interrupted / "config.json").read_text())
    del config["distributed"]
    (interrupted / "config.json").write_text(json.dumps(config))
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert f"the images and targets that {interrupted} was started with" in message


def test_resuming_a_finished_run(fails, interrupted):
    (interrupted / "metrics.json").write_text("{}")
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert f"{interrupted} is finished" in message
    assert f"start a new run from it: --weights {interrupted}" in message


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
        ("config.json", {"data": "\0"}),
        ("config.json", {"publish": "\ud800"}),
        ("config.json", {"weights": "a/" + "b" * 256}),
        ("config.json", {"soft_labels": "a/" * 3000}),
        ("config.json", {"validation_share": float("nan")}),
        ("config.json", {"seed": 1e400}),
        ("environment.json", {"resumed": {}}),
        ("environment.json", {"data": 3}),
        ("environment.json", {"data": {}}),
    ],
)
def test_resuming_a_run_whose_files_were_changed(fails, interrupted, file, change):
    values = json.loads((interrupted / file).read_text())
    (interrupted / file).write_text(json.dumps(values | change))
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert file in message
    assert "damaged" in message


@pytest.mark.parametrize("missing", ["data", "publish", "settings"])
def test_resuming_a_run_without_a_setting(fails, interrupted, missing):
    values = json.loads((interrupted / "config.json").read_text())
    del values[missing]
    (interrupted / "config.json").write_text(json.dumps(values))
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert "config.json" in message
    assert "damaged" in message


def test_a_run_elsewhere_does_not_say_what_is_read_and_written(
    fails, interrupted, faces, tmp_path
):
    """It may be a stranger's. Where the user's runs are is said by `--runs`."""
    link = tmp_path / "other" / "link"
    link.parent.mkdir()
    link.symlink_to(interrupted)
    for run, runs in ((interrupted, "none"), (interrupted, link.parent), (link, link)):
        message = fails("--mode", "train", "--resume", run, "--runs", runs)
        assert (
            "may be a stranger's: its config.json says --data and --publish" in message
        )
        assert "name the folder that it is in with --runs" in message
    flags = ("--resume", interrupted, "--data", faces)
    message = fails("--mode", "train", *flags)
    assert "its config.json says --publish." in message
    message = fails("--mode", "train", *flags, "--publish", tmp_path)
    assert "the images and targets" in message
    values = json.loads((interrupted / "config.json").read_text())
    values |= {"soft_labels": "teachers", "weights": "foundation"}
    (interrupted / "config.json").write_text(json.dumps(values))
    message = fails("--mode", "train", *flags, "--publish", tmp_path)
    assert "its config.json says --soft-labels and --weights." in message


@pytest.mark.parametrize("kind", [ResumableError, RunInterruptedError])
def test_how_to_go_on_gives_a_run_no_more_rights_than_it_had(
    monkeypatch, interrupted, faces, tmp_path, capsys, kind
):
    def stop(*_: object, **__: object) -> None:
        raise kind("Stopped.", interrupted)

    monkeypatch.setattr("emotion_cnn.data.loading.load_training_data", stop)
    command = ["train", "--resume", str(interrupted)]
    named = ["--data", str(faces), "--publish", str(tmp_path)]
    for flags in (named, ["--runs", str(interrupted.parent)]):
        assert main([*command, *flags]) in (2, 130)
        said = capsys.readouterr().err.strip().partition("Continue with: ")[2]
        assert shlex.split(said)[-len([*command, *flags]) :] == [*command, *flags]


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\udcff"])
@pytest.mark.parametrize("file", ["config.json", "environment.json"])
def test_resuming_a_run_with_a_damaged_file(fails, interrupted, file, content):
    (interrupted / file).write_text(content, errors="surrogateescape")
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert file in message


def test_resuming_a_run_without_its_environment(fails, interrupted):
    (interrupted / "environment.json").unlink()
    message = fails("--mode", "train", "--resume", interrupted, *own(interrupted))
    assert "environment.json" in message


@pytest.mark.parametrize(
    "flags", [("train", "--resume"), ("train", "--weights"), ("evaluate", "--weights")]
)
def test_an_unknown_run_lists_those_there_are(fails, tmp_path, faces, flags):
    mode, flag = flags
    data = () if flag == "--resume" else ("--data", faces)
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
    message = fails("--mode=train", "--resume", name, "--runs", tmp_path)
    assert "--resume is longer than a path can be" in message


def test_nothing_of_the_users_is_touched_where_the_network_is_published(
    fails, tmp_path, faces, places
):
    mine = tmp_path / "publish" / "model.json"
    mine.write_text('{"format": "of another program"}')
    message = fails("--mode=train", "--data", faces, *places)
    assert "found one of them" in message
    assert "--publish" in message
    assert mine.read_text() == '{"format": "of another program"}'
    mine.unlink()
    (tmp_path / "publish" / ".writable").write_text("mine")
    (tmp_path / "file").write_text("")
    fails("--mode=train", "--data", faces, *places[2:], "--runs", tmp_path / "file")
    assert (tmp_path / "publish" / ".writable").read_text() == "mine"


def test_an_evaluation_that_fails_leaves_no_empty_folder(
    fails, tmp_path, faces, network
):
    from emotion_cnn.models.pair import read_pair, write_pair

    found = read_pair(network)
    other = dataclasses.replace(found.description, classes=tuple("abcdefg"))
    write_pair(network, dataclasses.replace(found, description=other))
    flags = ("--data", faces, "--weights", network, "--runs", tmp_path / "runs")
    message = fails("--mode=evaluate", *flags)
    assert "found folders of angry, " in message
    assert not (tmp_path / "runs").exists()


def test_images_are_read_in_the_order_of_the_networks_classes(
    tmp_path, faces, network, own_environment, capsys
):
    from emotion_cnn.models.pair import read_pair, write_pair

    found = read_pair(network)
    other = dataclasses.replace(found.description, classes=EMOTIONS[::-1])
    (tmp_path / "reversed").mkdir()
    write_pair(tmp_path / "reversed", dataclasses.replace(found, description=other))
    rows = {}
    for folder in (network, tmp_path / "reversed"):
        output = tmp_path / f"of-{folder.name}"
        flags = ["--data", faces, "--weights", folder, "--output", output]
        assert main(["evaluate", *map(str, flags)]) == 0
        rows[folder.name] = (output / "predictions.csv").read_text().splitlines()[1]
    # The same outputs, under the names that each network gives them.
    one, other_row = rows["network"].split(","), rows["reversed"].split(",")
    assert one[0].startswith("test/angry/")
    assert other_row[0].startswith("test/surprise/")
    assert EMOTIONS.index(one[2]) == 6 - EMOTIONS.index(other_row[2])


def test_test_images_of_some_of_the_networks_classes(
    tmp_path, faces, network, own_environment, capsys
):
    shutil.rmtree(faces / "test/neutral")
    output = tmp_path / "output"
    flags = ["--data", faces, "--weights", network, "--output", output]
    assert main(["evaluate", *map(str, flags)]) == 0
    said = capsys.readouterr().out
    assert "no images of neutral in test/" in said
    assert "No images of neutral: means are over the others." in said
    part = json.loads((output / "metrics.json").read_text())["parts"]["test"]
    assert part["classes"]["neutral"]["support"] == 0
    assert part["accuracy_among_present"] >= part["accuracy"]
    rows = (output / "predictions.csv").read_text().splitlines()
    assert rows[0].split(",")[3:] == list(EMOTIONS)
    assert len(rows) == 7


def test_classes_that_are_called_as_columns_of_the_predictions(
    tmp_path, faces, network, own_environment, monkeypatch
):
    from pyarrow import parquet

    from emotion_cnn.models.pair import read_pair, write_pair

    monkeypatch.setattr("emotion_cnn.tables.PARQUET_FROM", 1)

    classes = ("path", "label", "prediction", "class_path", *EMOTIONS[4:])
    for part in ("train", "test"):
        for old, new in zip(EMOTIONS[:4], classes, strict=False):
            (faces / part / old).rename(faces / part / new)
    found = read_pair(network)
    described = dataclasses.replace(found.description, classes=classes)
    write_pair(network, dataclasses.replace(found, description=described))
    output = tmp_path / "output"
    flags = ["--data", faces, "--weights", network, "--output", output]
    assert main(["evaluate", *map(str, flags)]) == 0
    lines = (output / "predictions.csv").read_text(encoding="utf-8").splitlines()
    (row, *_) = csv.DictReader(lines)
    assert list(row)[:3] == ["path", "label", "prediction"]
    assert row["path"].startswith(f"test/{row['label']}/")
    probabilities = [float(value) for value in list(row.values())[3:]]
    assert len(probabilities) == 7
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert row["class_label"] and row["class_class_path"]
    table = parquet.read_table(output / "predictions.parquet")
    assert table.column_names == list(row)


@pytest.fixture
def foreign(tmp_path):
    """A network that sees gray levels, of another tool, and images that it knows.

    Its classes are in FER2013's order of old, its pixels from -1 to 1.
    """
    import keras

    from emotion_cnn.models.description import Network, NetworkDescription
    from emotion_cnn.models.pair import write_pair

    order = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    levels = np.linspace(-0.9, 0.9, 7)
    inputs = keras.Input((48, 48, 1))
    outputs = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(7, activation="softmax")(outputs)
    model = keras.Model(inputs, outputs)
    # The logit of each level is highest there.
    model.set_weights([400 * levels[np.newaxis], -200 * levels**2])
    (tmp_path / "foreign").mkdir()
    write_pair(tmp_path / "foreign", Network(model, NetworkDescription(order)))
    remove_description(tmp_path / "foreign")
    for label, emotion in enumerate(order):
        folder = tmp_path / "known" / "test" / emotion
        folder.mkdir(parents=True)
        for number in range(40):
            level = round((levels[label] + 1) / 2 * 255) + number % 5
            image = np.full((48, 48), level, np.uint8)
            Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "foreign"


ORDER = "angry,disgust,fear,happy,sad,surprise,neutral"


@pytest.mark.parametrize(
    ("given", "doubted"),
    [
        ((), ["--input-range -1-1", f"--class-order {ORDER}"]),
        (("--input-range", "-1-1"), [f"--class-order {ORDER}"]),
        (("--class-order", ORDER), ["--input-range -1-1"]),
        (("--input-range=-1-1", f"--class-order={ORDER}"), []),
    ],
)
def test_a_network_of_another_tool_is_doubted(
    tmp_path, foreign, own_environment, capsys, without_charts, given, doubted
):
    flags = ("--data", tmp_path / "known", "--weights", foreign, "--output")
    arguments = ("evaluate", *flags, tmp_path / "output", *given)
    assert main([*map(str, arguments)]) == 0
    said = capsys.readouterr().out
    assert ("says neither the order" in said) == bool(doubted)
    for setting in ("--input-range -1-1", f"--class-order {ORDER}"):
        assert (setting in said) == (setting in doubted)
    if not doubted:
        assert "accuracy                100.00%" in said
        classifier = emotion_cnn.load(foreign, class_order=ORDER, input_range="-1-1")
        white = np.full((48, 48), 243, np.uint8)
        assert classifier.predict(white)[0].argmax() == 6
        assert classifier.classes[6] == "neutral"


def test_what_a_network_says_of_itself_holds(fails, faces, network):
    flags = ("--mode=evaluate", "--data", faces, "--weights", network)
    message = fails(*flags, "--class-order", ORDER)
    assert "--class-order is for networks whose model.json says nothing" in message
    assert "says angry, disgust, fear, happy, neutral" in message
    message = fails(*flags, "--input-range", "-1-1")
    assert "says 0, 255. Leave it out." in message


def test_a_network_that_knows_nothing_is_not_doubted(
    tmp_path, faces, network, own_environment, capsys, without_charts
):

    remove_description(network)
    flags = ("--data", faces, "--weights", network, "--output", tmp_path / "output")
    assert main(["evaluate", *map(str, flags)]) == 0
    assert "says neither" not in capsys.readouterr().out


# --- Averages ---


def finished_runs(folder: Path, *, dense: tuple[tuple[int, ...], ...]) -> Path:
    for seed, units in enumerate(dense):
        run = make_run(folder / str(seed), seed=seed)
        write_network(run, seed=seed, dense=units)
        (run / "metrics.json").write_text("{}")
        start_from(run, "a" * 64)
    make_run(folder / "interrupted")
    return folder


def start_from(run: Path, digest: str | None) -> None:
    """Makes a run say that it started from these weights."""
    environment = {} if digest is None else {"initial_weights_sha256": digest}
    (run / "environment.json").write_text(json.dumps(environment))


def describe_otherwise(run: Path, **changes: object) -> None:
    values = json.loads((run / "model.json").read_text())
    values["emotion_cnn"] |= changes
    (run / "model.json").write_text(json.dumps(values))


def test_finished_runs_are_averaged(capsys, tmp_path, faces):
    runs = finished_runs(tmp_path / "branches", dense=((4, 4), (4, 4)))
    (tmp_path / "mean").mkdir()
    flags = ["--data", str(faces), "--publish", str(tmp_path / "mean")]
    assert main(["--mode", "average", "--weights", str(runs), *flags]) == 0
    said = capsys.readouterr().out
    assert "Published" in said
    assert "not finished: 1 of 3 runs, such as interrupted." in said
    assert "temperatures come out too low" not in said
    one, other, mean = (
        read_pair(folder).model.weights
        for folder in (runs / "0", runs / "1", tmp_path / "mean")
    )
    re_estimated = {
        value.name
        for value, *parts in zip(mean, one, other, strict=True)
        if not np.allclose(value, np.mean([*map(np.array, parts)], axis=0), rtol=1e-6)
    }
    # The statistics of batch normalisation are those of the mean, on these images.
    assert re_estimated == {"moving_mean", "moving_variance"}


def test_runs_are_averaged_where_they_are_named(fails):
    assert "--weights is missing: name the folder" in fails("--mode", "average")


@pytest.mark.parametrize(
    ("dense", "words"),
    [
        (((4, 4),), "two or more finished runs"),
        (((4, 4), (4, 5)), "Expected networks of one architecture"),
    ],
)
def test_what_cannot_be_averaged(fails, tmp_path, faces, dense, words):
    runs = finished_runs(tmp_path / "branches", dense=dense)
    (tmp_path / "mean").mkdir()
    flags = ("--weights", runs, "--data", faces, "--publish", tmp_path / "mean")
    assert words in fails("--mode", "average", *flags)
    assert contents(tmp_path / "mean") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: start_from(run, None), "0 from aaaaaaaaaaaa, 1 from random wei"),
        (
            lambda run: [start_from(each, None) for each in (run, run.with_name("0"))],
            "found 0 from random weights",
        ),
        (lambda run: start_from(run, "b" * 64), "1 from bbbbbbbbbbbb. Move the others"),
        (lambda run: (run / "environment.json").unlink(), "a readable environment.j"),
        (lambda run: shutil.rmtree(run) or run.symlink_to("0"), "the same in 0 and 1"),
        (
            lambda run: shutil.rmtree(run) or shutil.copytree(run.with_name("0"), run),
            "the same in 0 and 1",
        ),
        (
            lambda run: describe_otherwise(run, label_sets=["mine"], temperatures={}),
            "another tool",
        ),
        (lambda run: describe_otherwise(run, input_range=[0, 1]), "another tool"),
        (
            lambda run: (run / "model.json").write_text(
                (run / "model.json").read_text().replace('"emotions"', '"last"')
            ),
            "another tool",
        ),
    ],
)
def test_runs_that_have_no_middle_are_not_averaged(
    fails, tmp_path, faces, change, words
):
    runs = finished_runs(tmp_path / "branches", dense=((4, 4), (4, 4)))
    change(runs / "1")
    flags = ("--weights", runs, "--data", faces, "--publish", tmp_path / "mean")
    assert words in fails("--mode", "average", *flags)
    assert not (tmp_path / "mean").exists()


def test_runs_are_averaged_on_the_images_that_they_were_trained_on(
    fails, tmp_path, faces
):
    train, *_ = read_splits(faces, skip_bad=False, classes=EMOTIONS)
    runs = finished_runs(tmp_path / "branches", dense=((4, 4), (4, 4)))
    for run in (runs / "0", runs / "1"):
        environment = json.loads((run / "environment.json").read_text())
        # Of all images of train/, whichever are held out.
        environment["data"] = {"training_fingerprint": fingerprint(train)}
        (run / "environment.json").write_text(json.dumps(environment))
    flags = ("--weights", runs, "--data", faces, "--publish", tmp_path / "mean")
    assert main(["average", *map(str, flags)]) == 0
    shutil.copy(faces / "train" / "sad" / "1.png", faces / "train" / "sad" / "2.png")
    shutil.rmtree(tmp_path / "mean")
    message = fails("average", *flags)
    assert "Expected the images that the runs were trained on" in message
    assert "Give --data, --leave-out and --skip-bad as they were" in message
    assert not (tmp_path / "mean").exists()


def test_runs_may_have_been_trained_on_the_images_for_validation(
    capsys, tmp_path, faces
):
    runs = finished_runs(tmp_path / "branches", dense=((4, 4), (4, 4)))
    describe_otherwise(runs / "1", temperatures={"original": 2})
    flags = ["--data", str(faces), "--publish", str(tmp_path / "mean")]
    assert main(["average", "--weights", str(runs), *flags]) == 0
    assert "temperatures come out too low" in capsys.readouterr().out
    shutil.copytree(faces / "train", faces / "validation")
    assert main(["average", "--weights", str(runs), *flags]) == 0
    assert "temperatures come out too low" not in capsys.readouterr().out
    assert read_pair(tmp_path / "mean").description.temperatures["original"] != 1


def test_a_mean_of_drawn_faces_replaces_no_other_network(fails, tmp_path, network):
    flags = ("--weights", tmp_path, "--data", "sample", "--publish", network)
    assert "a network of drawn faces, which replaces no" in fails("average", *flags)


# --- Packed images, and the cache ---


def pack(folder: Path, to: Path) -> Path:
    """Packs the images of a data folder."""
    to.mkdir()
    with packing(to) as writer:
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.name):
            name = path.relative_to(folder).as_posix()
            writer.add(name, np.asarray(Image.open(path)))
    return to


def test_packed_images_are_evaluated_as_those_in_folders(
    tmp_path, faces, network, without_charts, own_environment
):
    packed = pack(faces, tmp_path / "packed")
    found = [
        emotion_cnn.evaluate(
            data=data, weights=network, runs=tmp_path / "runs", no_cache=True
        )
        for data in (faces, packed)
    ]
    assert found[0].metrics == found[1].metrics
    # Each in the order of its data.
    by_name = [
        dict(zip(each.test.names, each.probabilities.tolist(), strict=True))
        for each in found
    ]
    assert by_name[0] == by_name[1]


def test_packed_images_are_audited_and_their_audit_is_used(
    tmp_path, faces, network, without_charts, own_environment, capsys
):
    packed = pack(faces, tmp_path / "packed")
    arguments = ["audit", "--data", str(packed), "--output", str(tmp_path / "audit")]
    assert main(arguments) == 0
    shutil.copy(tmp_path / "audit" / "audit.json", packed)
    capsys.readouterr()
    keywords = {"weights": network, "runs": tmp_path / "runs"}
    result = emotion_cnn.evaluate(data=packed, **keywords)
    assert result.record["audit"] == str(packed / "audit.json")


@pytest.mark.parametrize("mode", ["train", "evaluate", "audit"])
def test_cache_and_no_cache_exclude_each_other(fails, faces, mode):
    message = fails(mode, "--data", faces, "--cache", faces / "x", "--no-cache")
    assert message.startswith("--cache and --no-cache exclude each other")
    assert not (faces / "x").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "user/emotion-cnn"),
        (("--cache", "named"), "named"),
        (("--no-cache",), None),
    ],
)
def test_where_decoded_images_are_kept(
    tmp_path, faces, monkeypatch, own_environment, flags, expected
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "CACHED_FROM", 14)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert main(["audit", "--data", str(faces), "--output", "audit", *flags]) == 0
    made = {path.parent for path in tmp_path.rglob("images.npy")}
    assert {path.parent for path in made} == (
        {tmp_path / expected} if expected else set()
    )
