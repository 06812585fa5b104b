"""Images that are prepared packed are those that are prepared as files."""

import json

from test_prepare import ROW_COUNT, contents, fails, prepare, table, write_ferplus
from test_webdataset import png, samples, tarred

from emotion_cnn.cli import main
from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.folders import read_splits
from emotion_cnn.data.loading import load_training_data
from emotion_cnn.data.packed import PACKED_NAMES, read_packed
from emotion_cnn.data.splits import fingerprint

__all__ = ["fails", "table"]
CLASSES = ",".join(f"{label}={emotion}" for label, emotion in enumerate(EMOTIONS))


def by_name(folder):
    packed = read_packed(folder)
    return dict(zip(packed.names, packed.images[..., 0], strict=True))


def check_same(files, packed):
    """Checks that two data folders hold the same, images and what is known of them."""
    train, test, notes = read_splits(files, skip_bad=False)
    images = by_name(packed)
    assert set(images) == {*train.names, *test.names}
    of_packed = read_splits(packed, skip_bad=False)
    assert of_packed[2] == notes
    assert fingerprint(*of_packed[:2]) == fingerprint(train, test)
    # What is read together lies together.
    assert (*test.names, *train.names) == tuple(images)
    others, names = contents(files), contents(packed)
    assert {name for name in names if "/" in name} == set()
    beside = {name for name in others if "/" not in name}
    assert set(names) == {*beside, *PACKED_NAMES}
    for name in beside - {"dataset.json"}:
        assert others[name] == names[name]
    one, other = (json.loads(each["dataset.json"]) for each in (others, names))
    assert one | {"written": ""} == other | {"written": ""}


def both(tmp_path, *arguments):
    for kind in ("files", "packed"):
        assert prepare(*arguments, "--to", kind, "--data", tmp_path / kind) == 0
    check_same(tmp_path / "files", tmp_path / "packed")


def test_a_table_with_votes(table, tmp_path):
    ferplus = write_ferplus(tmp_path / "votes.csv")
    both(tmp_path, "--source", table, "--ferplus", ferplus)
    assert len(by_name(tmp_path / "packed")) == ROW_COUNT
    assert (tmp_path / "packed/votes.csv").is_file()


def test_tars_without_a_split(tmp_path):
    """What becomes test is known at the end, when all images are written."""
    for number in range(3):
        tarred(tmp_path / f"tars/{number:03}.tar", samples(20 * number, 20))
    source = tmp_path / "tars/{000..002}.tar"
    both(tmp_path, "--source", source, "--classes", CLASSES, "--test-share", 0.3)
    counts = json.loads((tmp_path / "packed/dataset.json").read_text())["counts"]
    assert sum(counts["test"].values()) == 18


def test_people_in_groups(tmp_path):
    files = {}
    for person in range(6):
        for label, emotion in enumerate(EMOTIONS):
            files[f"P{person:03}/{emotion}.png"] = png(7 * person + label)
            files[f"P{person:03}/{emotion}.txt"] = emotion.encode()
    tarred(tmp_path / "tars/a.tar", files)
    both(tmp_path, "--source", tmp_path / "tars", "--group-by=-1")
    assert (tmp_path / "packed/groups.csv").is_file()


def test_bad_images_are_listed(tmp_path, fails):
    files = {**samples(0, 14), "bad.png": b"no image", "bad.cls": b"1"}
    source = tarred(tmp_path / "a.tar", files)
    arguments = ("--source", source, "--classes", CLASSES, "--to", "packed")
    message = fails(*arguments, "--data", tmp_path / "data")
    assert "1 bad row or file" in message
    assert not (tmp_path / "data").exists()
    assert prepare(*arguments, "--skip-bad", "--data", tmp_path / "data") == 0
    assert len(by_name(tmp_path / "data")) == 14
    bad = json.loads((tmp_path / "data/dataset.json").read_text())["bad"]
    assert bad["count"] == 1


def test_one_replaces_the_other(table, tmp_path, fails):
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train/README.md").write_text("mine")
    assert prepare("--source", table, "--data", data) == 0
    message = fails("--source", table, "--data", data, "--to", "packed")
    assert "Expected a data folder without images" in message
    arguments = ("--source", table, "--data", data, "--replace")
    assert prepare(*arguments, "--to", "packed") == 0
    assert {name for name in contents(data) if "/" in name} == {"train/README.md"}
    assert len(by_name(data)) == ROW_COUNT
    assert "Expected a data folder without images" in fails(
        "--source", table, "--data", data
    )
    assert prepare(*arguments) == 0
    assert set(PACKED_NAMES).isdisjoint(contents(data))
    assert len(contents(data)) == ROW_COUNT + 2


def test_whole_or_not_at_all(table, tmp_path, fails):
    data = tmp_path / "data"
    assert prepare("--source", table, "--data", data, "--to", "packed") == 0
    before = contents(data)
    source = tarred(tmp_path / "a.tar", samples(0, 5))
    source.write_bytes(source.read_bytes()[:9000])
    arguments = ("--data", data, "--to", "packed", "--replace", "--classes", CLASSES)
    assert "cannot be read to its end" in fails("--source", source, *arguments)
    assert contents(data) == before


def test_a_table_is_not_packed(table, tmp_path, fails):
    arguments = ("--source", table, "--export", tmp_path / "x.csv")
    message = fails(*arguments, "--to", "packed")
    assert "--to packed is for a data folder, which --export does not write" in message


def test_all_commands_read_it_as_files(
    table, tmp_path, network, own_environment, without_charts
):
    both(tmp_path, "--source", table)
    found = {}
    for kind in ("files", "packed"):
        data, output = tmp_path / kind, tmp_path / f"of-{kind}"
        options = ["--data", data, "--weights", network, "--output", output / "1"]
        assert main(["evaluate", *map(str, options)]) == 0
        options = ["--data", data, "--output", output / "2"]
        assert main(["audit", *map(str, options)]) == 0
        trained, _ = load_training_data(
            str(data),
            labels="original",
            distribution=False,
            leave_out=str(output / "2/audit.json"),
            skip_bad=False,
            validation_share=0.1,
            seed=1,
            vote_smoothing=0,
        )
        metrics = json.loads((output / "1/metrics.json").read_text())["parts"]
        predictions = (output / "1/predictions.csv").read_text()
        audit = json.loads((output / "2/audit.json").read_text())
        audit |= {"created": "", "data": ""}
        found[kind] = (metrics, predictions, audit, trained.fingerprint)
    assert found["files"] == found["packed"]


def test_a_list_of_ones_own_stays(table, tmp_path, fails):
    """`images.csv` is a name that others give their lists, too."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "images.csv").write_text("mine")
    assert prepare("--source", table, "--data", data) == 0
    assert prepare("--source", table, "--data", data, "--replace") == 0
    assert (data / "images.csv").read_text() == "mine"
    before = contents(data)
    message = fails("--source", table, "--data", data, "--replace", "--to", "packed")
    assert "Expected no images.csv of another kind" in message
    assert contents(data) == before


def test_a_packed_folder_is_no_source(table, tmp_path, fails):
    packed = tmp_path / "packed"
    assert prepare("--source", table, "--to", "packed", "--data", packed) == 0
    message = fails("--source", packed, "--export", tmp_path / "table.csv")
    assert "a packed data folder: give it as --data as it is, or import" in message
