"""The reader of AVA on trees of empty files."""

import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.data.datasets import ava

ROWS = (
    "-5K #1,0902,0.1,0.2,0.5,0.9,12,0",
    "-5K #1,0902,0.1,0.2,0.5,0.9,80,0",
    "-5K #1,0902,0.6,0.2,0.9,0.9,12,1",
    "-5K #1,0903,0.1,0.2,0.5,0.9,2,0",
    "c&d;,1000.5,0.0,0.0,1.0,1.0,,7",
)
PBTXT = 'label {{\n  name: "bend (at the waist)"\n  {0}: 1\n  label_type: X\n}}\nlabel {{ name: "sit" {0}: 3 }}\n'


def tree(root: Path, *rows, videos=("videos/-5K #1.mkv", "videos/c&d;.mp4")) -> Path:
    text = "\r\n".join(rows or ROWS) + "\r\n"
    (root / "ava_train_v2.2.csv").write_bytes(text.encode())
    for name in videos:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_record_a_second(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = ava.load(tree(tmp_path), "train")
    assert index.multilabel and len(index.class_names) == 80
    assert [index.class_names[i] for i in (0, 1, 11, 79)] == [
        *("bend/bow (at the waist)", "crawl", "stand", "watch (a person)")
    ]
    facts = [(r.id, r.labels, r.start_seconds, r.end_seconds) for r in index.records]
    assert facts == [
        ("-5K #1_0902", (11, 79), 900.5, 903.5),
        ("-5K #1_0903", (1,), 901.5, 904.5),
        ("c&d;_1000.5", (), 999.0, 1002.0),
    ]
    assert index.records[0].path == str(tmp_path / "videos/-5K #1.mkv")
    assert "3 seconds of films of 80 classes (numbers from 1)" in caplog.text


def test_a_record_a_person_with_a_box(tmp_path, caplog):
    tree(tmp_path, *ROWS, "-5K #1,0903,0.5,0.2,0.5,0.9,2,4")
    index = ava.load(tmp_path, "train", persons=True)
    facts = [(r.labels, r.extra["box"], r.extra["second"]) for r in index.records]
    assert facts[:2] == [
        ((11, 79), (0.1, 0.2, 0.5, 0.9), 902.0),
        ((11,), (0.6, 0.2, 0.9, 0.9), 902.0),
    ]
    assert len({r.id for r in index.records}) == len(index) == 4
    assert "1 rows with a box without area left out" in caplog.text


def test_excluded_seconds_and_evaluated_actions(tmp_path, caplog):
    tree(tmp_path)
    (tmp_path / "ava_train_excluded_timestamps_v2.2.csv").write_bytes(b"-5K #1,0902\r\nx,0903\r\n")
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = ava.load(tmp_path, "train", evaluated_only=True)
    assert [(r.id, r.labels) for r in index.records] == [("-5K #1_0903", ()), ("c&d;_1000.5", ())]
    assert "3 rows of excluded seconds left out" in caplog.text
    (tmp_path / "ava_train_excluded_timestamps_v2.2.csv").write_text("a\n")
    with pytest.raises(DataError, match="v2.2.csv:1: expected video_id,second, got"):
        ava.load(tmp_path, "train")


@pytest.mark.parametrize("key", ["label_id", "id"])
def test_label_maps_of_both_kinds(tmp_path, key):
    tree(tmp_path, ROWS[3])
    (tmp_path / "ava_action_list_v2.2.pbtxt").write_text(PBTXT.format(key))
    index = ava.load(tmp_path, "train")
    assert index.class_names == ("bend (at the waist)", "action 2", "sit")
    assert index.records[0].labels == (1,)


@pytest.mark.parametrize(
    "text, said",
    [
        ("nothing", "expected blocks such as label"),
        ('label { name: "a" }', 'number from 1 of its own for each label, got .name: "a"'),
        ('item { name: "a" id: 0 }', "number from 1 of its own"),
        ('item { name: "a" id: 1 } item { name: "b" id: 1 }', 'got .name: "b" id: 1'),
    ],
)
def test_label_maps_that_are_none(tmp_path, text, said):
    tree(tmp_path)
    (tmp_path / "ava_action_list_v2.2.pbtxt").write_text(text)
    with pytest.raises(DataError, match=said):
        ava.load(tmp_path, "train")


def test_films_that_were_cut(tmp_path):
    tree(tmp_path, *ROWS[:3], videos=["videos_15min/-5K #1.mp4"])
    record = ava.load(tmp_path, "train", clip_seconds=5).records[0]
    assert (record.start_seconds, record.end_seconds) == (0.0, 4.5)
    frames = tmp_path / "other/frames/-5K #1/x_000001.jpg"
    frames.parent.mkdir(parents=True)
    frames.touch()
    record = ava.load(tmp_path, "train", videos="other").records[0]
    assert (record.path, record.start_seconds) == (str(frames.parent), 0.5)
    with pytest.raises(
        DataError, match="second 902 is labelled, but the file is taken to begin at 950"
    ):
        ava.load(tmp_path, "train", offset_seconds=950.0)


def test_missing_films_and_duplicate_rows(tmp_path, caplog):
    tree(tmp_path, *ROWS, ROWS[0], "gone,0902,0.1,0.2,0.5,0.9,12,0")
    with pytest.raises(DataError, match="1 of 3 files are missing; the file:\n.*videos/gone.mp4"):
        ava.load(tmp_path, "train")
    assert len(ava.load(tmp_path, "train", max_missing=0.4)) == 3
    assert "1 duplicate rows left out" in caplog.text


@pytest.mark.parametrize(
    "row, said",
    [
        ("a,902,0.1,0.2,0.5,0.9,0,0", ":1: the action_id is '0', expected 1 to 80"),
        ("a,902,0.1,0.2,0.5,0.9,81,0", ":1: the action_id is '81'"),
        ("a,902,0.1,0.2,0.5,0.9,x,0", ":1: the action_id is 'x'"),
        ("a,902,0.1,0.2,0.5,1.9,1,0", ":1: the box is 0.1,0.2,0.5,1.9, expected"),
        ("a,902,0.6,0.2,0.5,0.9,1,0", ":1: the box is 0.6"),
        ("a,902,nan,0.2,0.5,0.9,1,0", ":1: the box is nan"),
        ("a,902,x,0.2,0.5,0.9,1,0", ":1: the box is x"),
        ("a,late,0.1,0.2,0.5,0.9,1,0", ":1: 'late' is no time"),
        ("a,902,0.1,0.2", ":1: expected video_id,second,x1"),
    ],
)
def test_nonsense_is_refused_with_its_line(tmp_path, row, said):
    with pytest.raises(DataError, match="ava_train_v2.2.csv" + said):
        ava.load(tree(tmp_path, row), "train")


def test_what_is_not_there(tmp_path):
    with pytest.raises(
        UnknownNameError, match="split of ava .labels of test are not published. 'test'"
    ):
        ava.load(tmp_path, "test")
    with pytest.raises(DataError, match="ava: no annotation file.*ava_val_v2.2.csv"):
        ava.load(tree(tmp_path), "val")
    with pytest.raises(ConfigError, match="clip_seconds is 0, expected more than 0"):
        ava.load(tmp_path, "train", clip_seconds=0)
    (tmp_path / "ava_train_v2.2.csv").write_text("\n")
    with pytest.raises(DataError, match="ava_train_v2.2.csv: the file has no rows"):
        ava.load(tmp_path, "train")
