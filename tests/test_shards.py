"""An evaluation by several processes gives the files of one."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.inference.prediction import positions
from emotion_cnn.inference.shards import Shard

COUNT = 4
"""Ten crops of 70 images are three batches: the last shard has none."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A data folder with 70 test images."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for emotion in EMOTIONS:
        (folder / "test" / emotion).mkdir(parents=True)
        for number in range(10):
            image = Image.fromarray(generator.integers(0, 256, (48, 48), np.uint8))
            image.save(folder / "test" / emotion / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def flags(images, shared_networks):
    return ["--data", images, "--weights", shared_networks[0], "--tta=ten-crop"]


def evaluate(*arguments):
    return main(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def shared_parts(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for number in range(1, COUNT + 1):
        shard = f"--shard={number}/{COUNT}"
        assert evaluate(*flags, shard, "--output", folder / str(number)) == 0
    return folder


@pytest.fixture
def parts(shared_parts, tmp_path):
    return Path(shutil.copytree(shared_parts, tmp_path / "parts"))


@pytest.fixture
def refused(flags, parts, tmp_path, capsys):
    """Returns what a merge says that is refused."""

    def merge(*others):
        output = tmp_path / "output"
        assert evaluate(*flags, "--merge", parts, "--output", output, *others) == 2
        assert not output.exists() or not any(output.iterdir())
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return merge


def change(path, **values):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | values))


def test_merged_shards_are_one_evaluation(flags, parts, tmp_path, capsys):
    # What else lies there does not matter.
    (parts / "notes").mkdir()
    (parts / "log.txt").write_text("")
    said = {}
    for name, given in {"one": (), "merged": ("--merge", parts)}.items():
        capsys.readouterr()
        assert evaluate(*flags, *given, "--output", tmp_path / name) == 0
        said[name] = capsys.readouterr().out.replace(str(tmp_path / name), "")
    one, merged = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "merged")
    )
    assert len(one) == 7
    measured = rb'[0-9,.]+ images per second|"images_per_second": [0-9.]+'
    assert {name: re.sub(measured, b"", content) for name, content in one.items()} == {
        name: re.sub(measured, b"", content) for name, content in merged.items()
    }
    figures = [re.sub(r"[0-9,]+ images per second", "", each) for each in said.values()]
    assert figures[0] == figures[1]
    seconds = [
        json.loads((parts / str(number) / "shard.json").read_text())["seconds"]
        for number in range(1, COUNT + 1)
    ]
    rate = json.loads(merged["metrics.json"])["images_per_second"]
    assert rate == pytest.approx(70 / sum(seconds))


def test_a_shard_predicts_its_part_alone(parts):
    found = [
        json.loads((parts / str(number) / "shard.json").read_text())["images"]
        for number in range(1, COUNT + 1)
    ]
    assert found == [25, 25, 20, 0]
    for number in range(1, COUNT + 1):
        assert [path.name for path in (parts / str(number)).iterdir()] == ["shard.json"]


class Batches:
    """As much of a network as decides where its batches end."""

    batch_size = 40


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_shards_together_are_all_images_once(count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    found = [positions(Batches(), 103, tta="flip", shard=each) for each in shards]
    assert sorted(np.concatenate(found).tolist()) == list(range(103))
    batches = min(count, 6)
    assert sum(len(each) > 0 for each in found) == batches


def test_missing_shards(refused, parts):
    shutil.rmtree(parts / "2")
    shutil.rmtree(parts / "4")
    assert f"all {COUNT} shards in {parts}, found 2: without 2/4, 4/4." in refused()


def test_a_shard_twice(refused, parts):
    shutil.copytree(parts / "2", parts / "again")
    assert "found 2/4 in 2 and in again. Move one away." in refused()


def test_shards_of_two_divisions(refused, parts):
    change(parts / "3/shard.json", shard="3/5")
    assert "found one of 4 in 2 and one of 5 in 3." in refused()


def test_no_shards(refused, parts):
    shutil.rmtree(parts)
    assert f"with a shard.json each in {parts}, found none" in refused()
    parts.mkdir()
    assert "Name with --merge the folder that holds" in refused()


def test_a_division_into_very_many(refused, parts):
    for number in range(2, COUNT + 1):
        shutil.rmtree(parts / str(number))
    change(parts / "1/shard.json", shard="1/999999999")
    said = refused()
    assert "it is of 175 numbers" not in said
    assert "all 999,999,999 shards" in said
    assert "2/999999999" in said
    assert "and 999,999,993 more" in said


@pytest.mark.parametrize("changed", ["tta", "data", "weights"])
def test_shards_of_something_else(refused, images, shared_networks, tmp_path, changed):
    more = tmp_path / "more"
    shutil.copytree(images, more)
    shutil.copy(more / "test/sad/1.png", more / "test/sad/2.png")
    others = {"tta": "none", "data": more, "weights": shared_networks[1]}
    said = refused(f"--{changed}", others[changed])
    assert f"found others: --{changed}. Give those" in said


def encoded(rows):
    return base64.b64encode(np.asarray(rows, "<f4").tobytes()).decode()


DAMAGE = {
    "no JSON": ("{", "it cannot be used"),
    "an array": ("[]", "it is something else"),
    "another file": ('{"kind": "model"}', "it is something else"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "of another version": ({"format": 2}, "of another version"),
    "no number": ({"shard": "x\x1b[31m"}, "does not say which shard it is"),
    "shard 0": ({"shard": "0/4"}, "does not say which shard it is"),
    "no settings": ({"made_with": 3}, "found others: --weights, --data, --labels"),
    "no base64": ({"probabilities": "..."}, "it cannot be used"),
    "no text": ({"probabilities": None}, "it cannot be used"),
    "too few": ({"probabilities": encoded([1])}, "1 numbers in place of 175"),
    "too many": ({"probabilities": encoded([[1] + [0] * 6] * 26)}, "182 numbers"),
    "not a number": ({"probabilities": encoded([[np.nan] * 7] * 25)}, "no probabil"),
    "sums of 7": ({"probabilities": encoded(np.ones((25, 7)))}, "no probabilities"),
    "infinite": ({"probabilities": encoded([[3e38, *[0] * 6]] * 25)}, "no probabil"),
    "both ends": (
        {"probabilities": encoded([[np.inf, -np.inf] + [0] * 5] * 25)},
        "no probabil",
    ),
    "too large": ({"probabilities": encoded([[3e38] * 7] * 25)}, "no probabilities"),
    "no time": ({"seconds": "1"}, "how long prediction took"),
    "no end": ({"seconds": float("inf")}, "how long prediction took"),
    "not at all": ({"seconds": 0.0}, "how long prediction took"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard(refused, parts, damage):
    content, reason = DAMAGE[damage]
    path = parts / "1/shard.json"
    if isinstance(content, str):
        path.write_text(content)
    else:
        change(path, **content)
    assert reason in refused()


def test_a_shard_that_is_too_large(refused, parts):
    path = parts / "1/shard.json"
    path.write_text(path.read_text() + " " * 1_000_000)
    assert "more than 1 MB" in refused()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
def test_a_pipe_in_place_of_a_shard(refused, parts):
    path = parts / "1/shard.json"
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--shard=1/4",), "--shard needs an --output of its own"),
        (("--shard=1/4", "--output=x", "--merge=parts"), "no --merge"),
        (("--shard=5/4", "--output=x"), "--shard is a part of so many"),
    ],
)
def test_settings_that_do_not_agree(flags, capsys, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    assert evaluate(*flags, *given) == 2
    assert said in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


# --- Launchers, as docs/evaluation.md has them ---

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/evaluation.md"
VARIABLES = {
    "srun": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "kind: Job": ("JOB_COMPLETION_INDEX", "unused"),
}
"""By launcher: where a process finds its number, from 0, and how many there are."""


def started_by(launcher):
    """Returns what a launcher has a shell run in each process."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (block,) = [
        each
        for each in re.findall(r"^```.*\n((?:.*\n)*?)```$", text, re.M)
        if re.search(rf"^{launcher}\b", each, re.M)
    ]
    if "kind: Job" in block:
        (script,) = re.findall(r"args:\s+- ((?:.*\n)*?) +volumeMounts", block)
        return " ".join(script.split())
    (line,) = [
        each
        for each in block.replace("\\\n", "").splitlines()
        if each.startswith(launcher)
    ]
    words = shlex.split(line)
    return words[words.index("-c") + 1]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("launcher", VARIABLES)
def test_launchers_start_all_shards(launcher, tmp_path):
    for program in ("python", "emotion-cnn"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / program).chmod(0o755)
    number, count = VARIABLES[launcher]
    shards, outputs = [], []
    for rank in range(16):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        environment |= {number: str(rank), count: "16"}
        started = subprocess.run(
            ["/bin/sh", "-c", started_by(launcher)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        words = started.stdout.split()
        assert words[words.index("--data") + 1] == "faces"
        shards.append(words[words.index("--shard") + 1])
        outputs.append(words[words.index("--output") + 1])
    assert shards == [f"{each}/16" for each in range(1, 17)]
    assert len(set(outputs)) == 16
    assert {str(Path(each).parent) for each in outputs} == {"parts"}
