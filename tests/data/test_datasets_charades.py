"""The reader of Charades on trees of empty files."""

import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import charades

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
ROW = '{id},HR43,"Kitchen, big",6,7,Yes,"A ""tall"" person; cooks, #1 & eats.",food;pan,"b;c",{actions},24.83'


def row(id="46GP8", actions="c002 11.90 21.20;c000 0.00 12.60"):
    return ROW.format(id=id, actions=actions)


def tree(
    root: Path,
    *rows,
    split="train",
    classes=("c000 Holding some clothes", "c001 Putting", "c002 Taking"),
):
    lines = (HEADER, *(rows or (row(), row("AB CD", ""))))
    (root / f"Charades_v1_{split}.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    if classes:
        (root / "Charades_v1_classes.txt").write_text("\r\n".join(classes) + "\r\n")
    for name in ("Charades_v1_480/46GP8.mp4", "Charades_v1_480/AB CD.mp4"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def test_videos_with_several_labels_or_none(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = charades.load(tree(tmp_path), "train")
    assert index.multilabel and index.class_names == ("Holding some clothes", "Putting", "Taking")
    assert [(r.id, r.labels) for r in index.records] == [("46GP8", (0, 2)), ("AB CD", ())]
    assert index.records[0].extra["actions"] == ((2, 11.9, 21.2), (0, 0.0, 12.6))
    assert index.records[0].path == str(tmp_path / "Charades_v1_480/46GP8.mp4")
    assert "2 videos, 3 classes from c000, 1 videos without an action" in caplog.text


def test_val_is_the_test_file(tmp_path):
    tree(tmp_path, split="test")
    assert charades.load(tmp_path, "val") == charades.load(tmp_path, "test")
    with pytest.raises(DataError, match="charades: no annotation file.*Charades_v1_train.csv"):
        charades.load(tmp_path, "train")


def test_frames_and_other_places(tmp_path):
    tree(tmp_path)
    frame = tmp_path / "my frames/46GP8/46GP8-000001.jpg"
    frame.parent.mkdir(parents=True)
    frame.touch()
    file = tmp_path / "Charades_v1_train.csv"
    index = charades.load(
        "elsewhere", "train", annotations=file, videos=frame.parents[1], max_missing=0.5
    )
    assert [r.path for r in index.records] == [str(frame.parent)]


def test_without_a_class_list_and_with_one_from_1(tmp_path, caplog):
    index = charades.load(tree(tmp_path, classes=()), "train")
    assert len(index.class_names) == 157 and index.class_names[92] == "c092"
    assert "no Charades_v1_classes.txt" in caplog.text
    tree(tmp_path, row("46GP8", "c001 0 1"), classes=("c002 b", "c001 a"))
    index = charades.load(tmp_path, "train")
    assert index.class_names == ("a", "b") and index.records[0].labels == (0,)


def test_missing_videos_and_duplicate_rows(tmp_path, caplog):
    tree(tmp_path, row(), row(), row("gone"))
    with pytest.raises(
        DataError, match="1 of 2 files are missing; the file:\n.*Charades_v1_480/gone.mp4"
    ):
        charades.load(tmp_path, "train")
    assert len(charades.load(tmp_path, "train", max_missing=0.5)) == 1
    assert "1 duplicate rows left out" in caplog.text
    with pytest.raises(DataError, match="1 clips are listed again.*\n.*line 2.*line 3"):
        charades.load(tree(tmp_path, row(), row(actions="c001 1 2")), "train")


@pytest.mark.parametrize(
    "bad, said",
    [
        (row(actions="c003 1 2"), ":2: the action c003 is none of the 3 classes c000 to c002"),
        (row(actions="c001 1"), ":2: the action 'c001 1' is no code with two times"),
        (row(actions="92 1 2"), ":2: the action '92 1 2' is no code"),
        (row(actions="c001 a 2"), ":2: 'a' is no time"),
        (row(id=" "), ":2: the id is empty"),
        ("x,y", ":2: 2 fields, expected 11"),
    ],
)
def test_nonsense_is_refused_with_its_line(tmp_path, bad, said):
    with pytest.raises(DataError, match="Charades_v1_train.csv" + said):
        charades.load(tree(tmp_path, bad), "train")


def test_a_class_list_that_is_none_and_unknown_split(tmp_path):
    with pytest.raises(
        DataError, match=r"classes.txt:2: 'Putting c001', expected a code and a name"
    ):
        charades.load(tree(tmp_path, classes=("c000 a", "Putting c001")), "train")
    with pytest.raises(UnknownNameError, match="split of charades 'tests'. Did you mean 'test'"):
        charades.load(tmp_path, "tests")
