"""The reader of HACS Clips and HACS Segments on trees of empty files."""

import json
import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import hacs

ROWS = (
    "classname,youtube_id,subset,start,end,label",
    "Long jump,-a #1,training,1.5,3.5,1",
    "Long jump,-a #1,training,2.5,4.5,-1",
    '"Cooking, outdoors",-a #1,training,2.5,4.5,1',
    "Archery,c&d;,validation,0.0,2.0,1",
    ",t,testing,7,9,",
)


def tree(root: Path, *rows: str, end="\r\n") -> Path:
    for name in ("Long_jump/v_-a #1.mp4", "val/v_c&d;.mkv", "t.webm", "HACS_v1.1.1/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    file = root / "HACS_v1.1.1/HACS_clips_v1.1.1.csv"
    file.write_bytes((end.join(rows or ROWS) + end).encode())
    return root


def test_clips_and_their_negatives(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = hacs.load(tree(tmp_path), "train")
    assert index.class_names == ("Archery", "Cooking, outdoors", "Long jump")
    facts = [(r.labels, r.start_seconds, r.end_seconds, dict(r.extra)) for r in index.records]
    negative = ((), 2.5, 4.5, {"negative_class": 2})
    assert facts == [((2,), 1.5, 3.5, {}), negative, ((1,), 2.5, 4.5, {})]
    assert len({r.id for r in index.records}) == 3
    assert {r.path for r in index.records} == {str(tmp_path / "Long_jump/v_-a #1.mp4")}
    assert "taken as HACS Clips" in caplog.text
    assert "3 clips of 3 classes, 1 of them without label" in caplog.text


def test_without_negatives_and_other_splits(tmp_path):
    tree(tmp_path)
    train = hacs.load(tmp_path, "train", negatives=False)
    assert [r.labels for r in train.records] == [(2,), (1,)]
    assert [r.labels for r in hacs.load(tmp_path, "val").records] == [(0,)]
    test = hacs.load(tmp_path, "test", negatives=False).records
    assert [(r.labels, Path(r.path).name) for r in test] == [((), "t.webm")]


def test_of_two_files_that_of_the_class_is_taken(tmp_path):
    tree(tmp_path)
    (tmp_path / "Archery").mkdir()
    (tmp_path / "Archery/v_-a #1.mp4").touch()
    paths = [Path(r.path).parent.name for r in hacs.load(tmp_path, "train").records]
    assert paths == ["Long_jump", "Long_jump", "Archery"]


def test_segments(tmp_path, caplog):
    tree(tmp_path)
    segment = {"label": "Archery", "segment": [1, 2.5]}
    database = {"c&d;": {"subset": "validation", "duration": 9, "annotations": [segment]}}
    file = tmp_path / "HACS_v1.1.1/HACS_segments_v1.1.1.json"
    file.write_text(json.dumps({"database": database}))
    index = hacs.load(tmp_path, "val", kind="segments")
    assert [(r.labels, r.start_seconds, r.end_seconds) for r in index.records] == [((0,), 1.0, 2.5)]
    whole = hacs.load(tmp_path, "val", annotations=file, untrimmed=True)
    assert whole.multilabel and whole.records[0].end_seconds is None
    assert hacs.load(tmp_path, "val").records[0].end_seconds == 2.0  # both are there: clips
    with pytest.raises(DataError, match="untrimmed=True is for HACS Segments; this is HACS Clips"):
        hacs.load(tmp_path, "val", untrimmed=True)


def test_a_row_twice_and_two_that_contradict(tmp_path, caplog):
    tree(tmp_path, *ROWS, ROWS[1])
    assert len(hacs.load(tmp_path, "train")) == 3
    assert "1 duplicate rows left out; the row:\n    line 7" in caplog.text
    tree(tmp_path, *ROWS, ROWS[1].replace(",1", ",-1").replace(",-1.5", ",1.5"))
    with pytest.raises(DataError, match="1 clips are listed again.*\n.*line 2.*line 7"):
        hacs.load(tmp_path, "train")


def test_missing_videos_are_counted(tmp_path, caplog):
    tree(tmp_path, *ROWS, "Archery,gone,training,1,3,1")
    with pytest.raises(DataError, match="1 of 2 files are missing; the file:\n.*v_gone.mp4"):
        hacs.load(tmp_path, "train")
    assert len(hacs.load(tmp_path, "train", max_missing=0.6)) == 3


@pytest.mark.parametrize(
    "row, said",
    [
        ("Archery,c&d;,training,1,3,0", ":7: the label is '0', expected 1 .shows the class. or -1"),
        ("Archery,c&d;,train ing,1,3,1", ":7: the subset is 'train ing', expected training"),
        ("Archery,c&d;,training,3,3,1", ":7: the segment from 3 to 3 is empty"),
        ("Archery,c&d;,training,x,3,1", ":7: 'x' is no time"),
        ("Archery,,training,1,3,1", ":7: the youtube_id is empty"),
        (",c&d;,training,1,3,1", ":7: '' is none of the 3 classes"),
        ("Archery,c&d;,training,1,3", ":7: 5 fields, expected 6"),
    ],
)
def test_nonsense_is_refused_with_its_line(tmp_path, row, said):
    with pytest.raises(DataError, match=r"HACS_clips_v1.1.1.csv" + said):
        hacs.load(tree(tmp_path, *ROWS, row), "train")


def test_what_is_not_there(tmp_path):
    with pytest.raises(
        DataError, match="no row of the split 'val'; the subsets are testing, training"
    ):
        hacs.load(tree(tmp_path, *ROWS[:4], ROWS[5]), "val")
    with pytest.raises(DataError, match="has no column 'label'"):
        hacs.load(
            tree(tmp_path, "classname,youtube_id,subset,start,end", "a,b,training,1,2"), "train"
        )
    with pytest.raises(DataError, match="hacs: no annotation file.*HACS_segments"):
        hacs.load(tmp_path, "train", kind="segments")
    with pytest.raises(
        DataError, match="'Archry' is none of the 3 classes. Did you mean 'Archery'"
    ):
        row = "Archry,c&d;,training,1,3,1"
        hacs.load(
            tree(tmp_path, *ROWS, row),
            "val",
            class_names=["Archery", "Long jump", "Cooking, outdoors"],
        )
    with pytest.raises(UnknownNameError, match="split of hacs 'training'"):
        hacs.load(tmp_path, "training")
    with pytest.raises(UnknownNameError, match="kind of hacs 'clip'. Did you mean 'clips'"):
        hacs.load(tmp_path, "train", kind="clip")
