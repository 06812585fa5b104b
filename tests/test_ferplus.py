"""FER+: the rules for votes, its files, and which row is whose."""

import io
import os

import numpy as np
import pytest

from emotion_cnn.data.classes import EMOTIONS
from emotion_cnn.data.votes import (
    VOTE_COLUMNS,
    crowd_labels,
    drop_single_votes,
    find_votes,
    majority_columns,
    over_half_of_all_votes,
    parse_votes,
    read_votes,
    vote_shares,
    write_votes,
)
from emotion_cnn.errors import SourceError
from emotion_cnn.importing.ferplus import (
    FerPlus,
    VoteJoiner,
    check_agreement,
    read_ferplus,
    read_ferplus_rows,
)
from emotion_cnn.importing.records import ImageRecord

HEADER = "Usage,Image name," + ",".join(VOTE_COLUMNS) + "\n"


def votes(**counts: int) -> tuple[int, ...]:
    return tuple(counts.get(column, 0) for column in VOTE_COLUMNS)


def table(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows)


def message_of(function, *arguments) -> str:
    with pytest.raises(SourceError) as caught:
        function(*arguments)
    return str(caught.value)


def record(row=None, usage="Training", place="p") -> ImageRecord:
    return ImageRecord(np.zeros((48, 48), np.uint8), 0, usage, None, row, place)


# --- rules -------------------------------------------------------------------


def test_single_votes_are_dropped():
    given = table(votes(neutral=4, happiness=1, sadness=2, NF=1))
    assert drop_single_votes(given).tolist() == [list(votes(neutral=4, sadness=2))]
    assert given[0, 1] == 1


@pytest.mark.parametrize(
    ("counts", "winner"),
    [
        ({"fear": 10}, "fear"),
        ({"fear": 5, "sadness": 5}, None),
        ({"fear": 5, "sadness": 4, "anger": 1}, "fear"),  # 5 of 9 that count
        ({"fear": 4, "sadness": 2, "anger": 2, "disgust": 2}, None),
        ({"fear": 4, "sadness": 4, "anger": 1, "NF": 1}, None),
        ({"fear": 1, "sadness": 1, "anger": 1}, None),
        ({"NF": 10}, "NF"),
    ],
)
def test_a_majority_is_over_half_of_the_counted_votes(counts, winner):
    expected = -1 if winner is None else VOTE_COLUMNS.index(winner)
    assert majority_columns(table(votes(**counts))).tolist() == [expected]


@pytest.mark.parametrize(
    ("counts", "is_over_half"),
    [
        ({"fear": 10}, True),
        ({"fear": 6, "sadness": 4}, True),
        ({"fear": 6, "sadness": 1, "contempt": 1, "unknown": 1, "NF": 1}, True),
        ({"fear": 5, "sadness": 5}, False),
        # A majority once single votes are dropped, but five of all ten.
        ({"fear": 5, "sadness": 4, "anger": 1}, False),
        ({"fear": 5, "NF": 1, "anger": 1, "contempt": 1, "unknown": 2}, False),
        # Not all images have ten.
        ({"fear": 5, "sadness": 4}, True),
        # No emotion of the seven.
        ({"NF": 10}, False),
        ({"contempt": 6, "fear": 4}, False),
        ({}, False),
    ],
)
def test_over_half_of_all_votes(counts, is_over_half):
    found = over_half_of_all_votes(["a"], {"a": votes(**counts)})
    assert found.dtype == bool
    assert found.tolist() == [is_over_half]


def test_over_half_of_all_votes_goes_by_names():
    given = {"b": votes(fear=10), "c": votes(fear=5, anger=5), "d": votes(anger=9)}
    found = over_half_of_all_votes(("d", "c", "no votes", "b"), given)
    assert found.tolist() == [True, False, False, True]
    assert over_half_of_all_votes((), given).shape == (0,)


def test_crowd_labels_are_those_of_the_tool_and_the_rest_is_counted():
    names = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    seen = [votes(**{name: 8}) for name in names]
    rest = [votes(contempt=9), votes(unknown=9), votes(NF=9), votes(NF=8), votes()]
    labels, left_out = crowd_labels(table(*seen, *rest))
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1, -1]
    assert [EMOTIONS[label] for label in labels[:2]] == ["angry", "disgust"]
    assert left_out == {
        "no majority": 1,
        "contempt": 1,
        "unknown": 1,
        "not a face": 2,
    }
    eight = (*EMOTIONS[::-1], "contempt")
    labels, left_out = crowd_labels(table(*seen, *rest), eight)
    assert labels.tolist() == [6, 5, 4, 3, 2, 1, 0, 7, -1, -1, -1, -1]
    assert left_out == {"no majority": 1, "unknown": 1, "not a face": 2}


def test_contempt_counts_where_it_is_a_class():
    given = votes(contempt=7, anger=2, unknown=1)
    eight = (*EMOTIONS, "contempt")
    assert vote_shares(table(given)).tolist() == [[0] * 7]
    np.testing.assert_allclose(
        vote_shares(table(given), eight)[0, [0, 7]], [2 / 9, 7 / 9]
    )
    assert over_half_of_all_votes(["a"], {"a": given}).tolist() == [False]
    assert over_half_of_all_votes(["a"], {"a": given}, eight).tolist() == [True]


# --- files -------------------------------------------------------------------


def test_read_ferplus(tmp_path):
    path = tmp_path / "fer2013new.csv"
    path.write_text(
        HEADER + "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"
        "PublicTest,,0,0,0,0,0,0,0,0,0,10\nPrivateTest,fer0000001.png" + ",1" * 10
    )
    ferplus = read_ferplus(path)
    assert ferplus.votes.tolist()[1] == [0] * 9 + [10]
    assert ferplus.usages == ("Training", "PublicTest", "PrivateTest")
    assert ferplus.images == (0, None, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Usage,Image name,neutral\n", "misses the columns happiness, surprise, "),
        ("", "found none"),
        (HEADER + "Training,fer0000000.png,4\n", "Expected 12 columns in row 0 (line"),
        (HEADER + "Training,fer1.png" + ",x" * 10, "found that 'x' is not a number of"),
        (HEADER + "Training,fer1.png" + ",-1" * 10, "'-1' is not a number of votes"),
        (HEADER + "Training,face.png" + ",1" * 10, "found 'face.png'. Download the"),
        (HEADER + 'Training,"fer' + ",1" * 10, "is not a valid CSV file"),
        (HEADER + f"Training,fer{'1' * 5000}.png" + ",1" * 10, "found 'fer111"),
        (HEADER + "Training,fer1.png" + f",{'1' * 5000}" * 10, "' is not a number of"),
        (HEADER + "Training,/" + ",1" * 10, "found '/'. Download"),
        ("fear," + HEADER, "has the columns fear more than once"),
    ],
)
def test_what_is_wrong_with_a_ferplus_file(tmp_path, text, message):
    path = tmp_path / "fer2013new.csv"
    path.write_text(text)
    assert message in message_of(read_ferplus, path)


def test_a_missing_file_names_its_setting(tmp_path):
    missing = tmp_path / "missing.csv"
    assert "in `ferplus`, but" in message_of(read_ferplus, missing)
    assert "in `ferplus_rows`, but" in message_of(read_ferplus_rows, missing)


def test_read_ferplus_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("image,row\ntest/angry/a.jpg,7\n")
    assert read_ferplus_rows(path) == {"test/angry/a.jpg": 7}
    for row, message in {
        "test/angry/a.jpg,seven": "found 'seven'",
        f"a.jpg,{'1' * 5000}": "Expected a row number, from 0, in row 0 (line 2)",
        "a.jpg,\u0663": "Expected a row number",
        ",1": "Expected an image's path in row 0 (line 2)",
        "/,1": "found '/'. Fix or remove that line",
        "a.jpg,1\na.jpg,2": "Expected one row for each image, found another one for",
    }.items():
        path.write_text(f"image,row\n{row}\n", encoding="utf-8")
        assert message in message_of(read_ferplus_rows, path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_tables_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "votes.csv")
    for function, argument in (
        (find_votes, tmp_path),
        (read_ferplus, tmp_path / "votes.csv"),
        (read_ferplus_rows, tmp_path / "votes.csv"),
    ):
        assert "cannot be read: not a regular file" in message_of(function, argument)
    assert "cannot be read" in message_of(read_ferplus, tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png" + ",1" * 9, "Expected 11 columns in row 0 (line 2)"),
        ("a.png" + f",{'1' * 5000}" * 10, "is not a number of votes"),
        ("a.png" + ",1" * 10 + "\na.png" + ",2" * 10, "found other votes on 'a.png'"),
        ("\x1b[2J" + ",x" * 10, "found that 'x' is not a number"),
    ],
)
def test_votes_edited_by_hand(tmp_path, row, message):
    header = ",".join(("image", *VOTE_COLUMNS))
    (tmp_path / "votes.csv").write_text(f"{header}\n{row}\n")
    found = message_of(find_votes, tmp_path)
    assert message in found
    assert found.isprintable()


def test_votes_survive_being_written(tmp_path):
    path = tmp_path / "votes.csv"
    given = {"test/sad/b.png": votes(sadness=9), "test/sad/a, 1.png": votes(NF=10)}
    write_votes(path, given)
    assert read_votes(io.BytesIO(path.read_bytes()), path) == given
    assert path.read_text().splitlines()[1].startswith('"test/sad/a, 1.png",0,')


@pytest.mark.parametrize("cell", ["", "1.0", "1001", "٣", "nine"])
def test_what_is_no_vote(cell):
    with pytest.raises(ValueError, match="is not a number of votes"):
        parse_votes([cell])


# --- rows --------------------------------------------------------------------


def made_up(images=(0, 1, None, 2), usages=None) -> FerPlus:
    count = len(images)
    rows = [votes(sadness=2 + n) for n in range(count)]
    return FerPlus(table(*rows), tuple(usages or ["Training"] * count), tuple(images))


def test_rows_of_images_are_checked_against_the_split():
    ferplus = made_up(usages=["Training", "Training", "PublicTest", "PrivateTest"])
    joiner = VoteJoiner(ferplus)
    assert joiner.method == "row numbers"
    assert joiner.votes_on(record(1)) == votes(sadness=3)
    assert joiner.votes_on(record(None)) is None
    assert joiner.votes_on(record(2, "Test")) == votes(sadness=4)
    assert joiner.votes_on(record(3, None)) == votes(sadness=5)
    for row, usage in ((2, "Training"), (0, "Test"), (2, "PrivateTest")):
        message = message_of(joiner.votes_on, record(row, usage))
        assert f"Expected row {row} of `ferplus` to be {usage}" in message
        assert "`ferplus_rows`" in message
    message = message_of(joiner.votes_on, record(4))
    assert "Expected a row below 4" in message


def test_a_list_may_have_row_numbers_or_image_numbers():
    rows, reading = made_up().find_rows({"a": 0, "b": 3})
    assert (rows, reading) == ({"a": 0, "b": 3}, "row numbers")
    # Row 2 is one that FER+ dropped, so 2 can only be the number of an image.
    rows, reading = made_up().find_rows({"a": 0, "b": 2})
    assert (rows, reading) == ({"a": 0, "b": 3}, "numbers of FER+'s image names")
    message = message_of(made_up().find_rows, {"a": 0, "b": 2, "c": 3})
    assert "found 2 for 'b'" in message
    assert "belong together" in message


def test_a_list_goes_by_paths_without_suffixes_and_outer_folders():
    message = message_of(VoteJoiner, made_up(), {"b/a.jpg": 0, "b/a.png": 1})
    assert "found another one for 'b/a.png'; suffixes" in message
    joiner = VoteJoiner(made_up(), {"test/angry/a.jpg": 1, "/": 0, "": 0, "..": 0})
    places = ["archive/test/angry/a.png", "test/angry/a.jpg", "train/angry/a.jpg"]
    found = [joiner.votes_on(record(place=place)) for place in places]
    assert found == [votes(sadness=3), votes(sadness=3), None]
    assert joiner.method == "a list of row numbers"


def test_a_list_may_name_a_row_in_another_part_of_the_split():
    ferplus = made_up(usages=["Training"] * 3 + ["PublicTest"])
    joiner = VoteJoiner(ferplus, {"train/sad/a.png": 3})
    found = joiner.votes_on(record(row=0, place="train/sad/a.png"))
    assert found == votes(sadness=5)


def test_votes_on_other_images_are_noticed():
    names = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    right = table(*[votes(**{name: 10}) for name in names] * 100)
    labels = EMOTIONS * 100
    assert check_agreement(labels, right) == (700, 700)
    # Without a majority for one of the seven, or with another class.
    more = table(votes(), votes(contempt=9), votes(anger=9))
    found = check_agreement(
        (*labels, "surprise", "angry", "cat"), np.vstack([right, more])
    )
    assert found == (701, 700)
    wrong = np.roll(right, 1, axis=0)
    message = message_of(check_agreement, labels, wrong)
    assert "found that it does for 0 of 700 images" in message
    assert check_agreement(labels[:100], wrong[:100]) == (100, 0)
