"""Large tables of predictions are written as Parquet, beside the CSV files."""

import csv
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from emotion_cnn import tables
from emotion_cnn.data.splits import Split
from emotion_cnn.evaluation.evaluator import Evaluation
from emotion_cnn.evaluation.metrics import compute_metrics
from emotion_cnn.inference import merging
from emotion_cnn.inference.merging import merge_predictions
from emotion_cnn.inference.predictions import Predictions

CLASSES = ("happy", "label")
"""The second is called like a column of the table."""
ODD_NAMES = ("test/happy/a,b.png", 'test/label/two\nlines "c".png', "test/label/NA")


@pytest.fixture(autouse=True)
def from_three_rows(monkeypatch):
    monkeypatch.setattr(tables, "PARQUET_FROM", 3)


def write_evaluation(folder) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, len(ODD_NAMES))
    images = generator.integers(0, 256, (len(ODD_NAMES), 48, 48, 1), np.uint8)
    happy = generator.random(len(ODD_NAMES), np.float32)
    probabilities = np.column_stack((happy, 1 - happy))
    Evaluation(
        {"test": compute_metrics(labels, probabilities, CLASSES)},
        Split(images, labels, ODD_NAMES, classes=CLASSES),
        probabilities,
        "test",
        np.arange(len(ODD_NAMES)),
        100.0,
        {"data": "data", "labels": "original", "tta": "none", "weights": "run"},
        folder,
    ).write()


def face(happy: float) -> dict[str, object]:
    return {
        **{"left": 1.2, "top": -2.0, "right": 31.0, "bottom": 40.0},
        **{"score": 0.9, "track": 2, "happy": happy, "label": 1 - happy},
        **{"emotion": "happy", "confidence": happy, "unsure": happy < 0.6},
    }


def predictions(folder, **options) -> Predictions:
    return Predictions(folder, CLASSES, {"tta": "none"}, smoothed=True, **options)


def write_predictions(folder) -> None:
    with predictions(folder) as results:
        smoothed = [(0.25, 0.75)] * 2
        results.write("a,b.jpg", [face(0.75), face(0.5)], smoothed=smoothed)
        results.write("two\nlines.jpg", [])
        results.write("NA", [face(1.0)], frame=3, seconds=0.125, smoothed=smoothed)
        results.finish()


def from_csv(cell: str, kind: str) -> object:
    if kind == "string":
        return cell
    if not cell:
        return None
    return {"bool": "true".__eq__, "int64": int, "double": float}[kind](cell)


def test_no_two_columns_are_called_the_same():
    others = ("label", "class_label")
    columns = tables.class_columns(("label", "happy", "class_label"), others)
    assert columns == ("class_class_label", "happy", "class_class_class_label")


def test_columns_that_differ_by_case_alone_are_told_apart():
    classes = ("Label", "happy", "Happy", "HAPPY", "Smoothed_sad")
    columns = tables.class_columns(classes, ("label",), prefixes=("smoothed_",))
    assert columns == (
        *("class_Label", "happy", "class_Happy", "class_class_HAPPY"),
        "class_Smoothed_sad",
    )
    assert len({column.lower() for column in columns}) == len(classes)


@pytest.mark.parametrize("write", [write_evaluation, write_predictions])
def test_the_two_files_hold_the_same(tmp_path, write):
    write(tmp_path)
    table = parquet.ParquetFile(tmp_path / "predictions.parquet").read()
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert table.column_names == header
    kinds = [str(kind) for kind in table.schema.types]
    assert set(kinds) <= {"string", "bool", "int64", "double"}
    assert kinds.count("string") == (3 if write is write_evaluation else 2)
    columns = [column.to_pylist() for column in table.columns]
    expected = [
        [from_csv(row[place], kind) for row in rows] for place, kind in enumerate(kinds)
    ]
    assert columns == expected
    assert len(rows) == (3 if write is write_evaluation else 4)


def test_few_rows_are_csv_alone(tmp_path, monkeypatch):
    # Not even asked for, as it may not be installed.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(tables, "PARQUET_FROM", 5)
    write_predictions(tmp_path)
    assert (tmp_path / "predictions.csv").exists()
    assert not (tmp_path / "predictions.parquet").exists()


def test_without_pyarrow_csv_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write_predictions(tmp_path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{tmp_path / 'predictions.csv'} is not written as Parquet")
    assert said.endswith("pip install pyarrow (emotion-cnn's extra `[parquet]`).")
    assert '"finished": true' in (tmp_path / "predict.json").read_text()
    assert not (tmp_path / "predictions.parquet").exists()


def test_rows_are_written_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_AT_ONCE", 4096)
    names = [f"{number:05}.png" for number in range(1000)]
    with predictions(tmp_path) as results:
        for name in names:
            results.write(name, [])
        results.finish()
    file = parquet.ParquetFile(tmp_path / "predictions.parquet")
    groups = file.metadata.num_row_groups
    sizes = [file.metadata.row_group(number).num_rows for number in range(groups)]
    assert sum(sizes) == 1000
    assert max(sizes) <= 4096 / len(names[0])
    assert file.read(["source"])["source"].to_pylist() == names


def test_resumed_predictions_have_no_older_parquet(tmp_path):
    write_predictions(tmp_path)
    before = parquet.ParquetFile(tmp_path / "predictions.parquet").read()
    (tmp_path / ".writing-0123456789abcdef-predictions.parquet").touch()
    with predictions(tmp_path, resume=True) as results:
        assert not list(tmp_path.glob("*.parquet"))
        results.write("z.jpg", [])
        results.finish()
    after = parquet.ParquetFile(tmp_path / "predictions.parquet").read()
    assert after.slice(0, len(before)) == before
    assert len(after) == len(before) + 1


def test_merged_predictions(tmp_path):
    for number, name in enumerate(("a.jpg", "b.jpg")):
        (tmp_path / "parts" / str(number)).mkdir(parents=True)
        with predictions(tmp_path / "parts" / str(number)) as results:
            results.write(name, [face(0.75), face(0.5)], smoothed=[(0.25, 0.75)] * 2)
            results.finish()
    (tmp_path / "whole").mkdir()
    merge_predictions(tmp_path / "parts", ["a.jpg", "b.jpg"], tmp_path / "whole")
    file = parquet.ParquetFile(tmp_path / "whole/predictions.parquet")
    assert file.read(["source", "happy", "unsure"]).to_pydict() == {
        "source": ["a.jpg", "a.jpg", "b.jpg", "b.jpg"],
        "happy": [0.75, 0.5, 0.75, 0.5],
        "unsure": [False, True, False, True],
    }
    assert not list((tmp_path / "parts").rglob("*.parquet"))


def write_parts(folder, count: int, *, frames: int = 1) -> list[str]:
    names = [f"{number:03}.mp4" for number in range(count)]
    for number, name in enumerate(names):
        (folder / str(number)).mkdir(parents=True)
        with predictions(folder / str(number)) as results:
            for frame in range(frames):
                results.write(name, [], frame=frame, seconds=frame / 25)
            results.finish()
    return names


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk of Linux")
def test_no_shard_is_blamed_for_a_full_disk(tmp_path, monkeypatch):
    names = write_parts(tmp_path / "parts", 1, frames=1000)
    monkeypatch.setattr(
        merging, "replacing", lambda path: nullcontext(Path("/dev/full"))
    )
    with pytest.raises(OSError, match="No space left"):
        merge_predictions(tmp_path / "parts", names, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts as Linux does")
def test_a_merge_holds_no_file_of_a_shard_open(tmp_path):
    import resource

    names = write_parts(tmp_path / "parts", 60, frames=2)
    (tmp_path / "whole").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    most += 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        merge_predictions(tmp_path / "parts", names, tmp_path / "whole")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for name in ("predictions.csv", "predictions.jsonl"):
        parts = [
            (tmp_path / "parts" / str(number) / name).read_text().splitlines()
            for number in range(60)
        ]
        rows = [row for part in parts for row in part[-2:]]
        assert (tmp_path / "whole" / name).read_text().splitlines()[-120:] == rows


def test_a_table_that_somebody_has_changed_stays_csv(tmp_path, caplog):
    write_predictions(tmp_path)
    (tmp_path / "predictions.parquet").unlink()
    path = tmp_path / "predictions.csv"
    path.write_text(path.read_text().replace("0.75,", "much,"))
    with predictions(tmp_path, resume=True) as results:
        results.finish()
    assert "predictions.csv is not written as Parquet too" in caplog.text
    assert "much" in caplog.text
    assert not list(tmp_path.glob("*.parquet"))
