"""The reader of one's own lists, on trees of empty files."""

import json
import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import table

ODD = ("sub dir/a b.mp4", "c,d.mp4", "e#f&g;h.mp4", 'say "hi".webm', "Grüße.avi")


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write(path: Path, *lines: str, end="\n", start="") -> Path:
    path.write_bytes((start + end.join(lines) + end).encode())
    return path


def facts(index):
    return [(r.id, r.labels) for r in index.records]


def test_odd_names_windows_lines_and_a_byte_order_mark(tmp_path, caplog):
    grow(tmp_path, *ODD)
    lines = [
        "path,label",
        "sub dir\\a b.mp4,run",
        '"c,d.mp4",jump',
        "e#f&g;h.mp4, run ",
        "Grüße.avi,run",
    ]
    write(tmp_path / "train.csv", *lines, "", '"say ""hi"".webm",jump', end="\r\n", start="\ufeff")
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = table.load(tmp_path, "train")
    assert index.class_names == ("jump", "run") and not index.multilabel
    assert [r.labels for r in index.records] == [(1,), (0,), (1,), (1,), (0,)]
    names = [ODD[0], ODD[1], ODD[2], ODD[4], ODD[3]]
    assert [r.path for r in index.records] == [str(tmp_path / name) for name in names]
    assert "train.csv: path from 'path', label from 'label'" in caplog.text
    assert "5 clips of 2 classes, one label a clip: jump 2, run 3" in caplog.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_columns_and_times(tmp_path, delimiter):
    grow(tmp_path, "a.mp4", "b.mp4")
    rows = [
        ("Extra", "Video Name", "Class", "Start", "End"),
        ("x", "a.mp4", "run", "1.5", "3"),
        ("x", "a.mp4", "jump", "00:00:03", "0:01:04.5"),
        ("x", "b.mp4", "run", "", ""),
    ]
    write(tmp_path / "train.csv", *(delimiter.join(row) for row in rows))
    index = table.load(tmp_path, "train")
    assert facts(index) == [("a.mp4 1.5-3 s", (1,)), ("a.mp4 3-64.5 s", (0,)), ("b.mp4", (1,))]
    times = [(r.start_seconds, r.end_seconds) for r in index.records]
    assert times == [(1.5, 3.0), (3.0, 64.5), (0.0, None)]


def test_several_labels_make_all_splits_multilabel(tmp_path):
    grow(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    write(tmp_path / "train.csv", "path,labels", "a.mp4,run; jump", "b.mp4,", "c.mp4,run|run")
    write(tmp_path / "validation.csv", "path,labels", "c.mp4,jump")
    train, val = table.load(tmp_path, "train"), table.load(tmp_path, "val")
    assert train.multilabel and val.multilabel
    assert facts(train) == [("a.mp4", (0, 1)), ("b.mp4", ()), ("c.mp4", (1,))]
    assert facts(val) == [("c.mp4", (0,))]


def test_labels_with_separators_in_their_names(tmp_path):
    grow(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "train.csv", "path,label", "a.mp4,cut; slowly", "b.mp4,run|jump")
    whole = table.load(tmp_path, "train", label_separator="")
    assert whole.class_names == ("cut; slowly", "run|jump") and not whole.multilabel
    write(tmp_path / "classes.txt", "run", "jump", "cut; slowly", end="\r\n")
    listed = table.load(tmp_path, "train")
    assert listed.class_names == ("run", "jump", "cut; slowly") and listed.multilabel
    assert [r.labels for r in listed.records] == [(2,), (0, 1)]


@pytest.mark.parametrize("base", [0, 1])
def test_numbers_from_zero_or_one_over_all_splits(tmp_path, base, caplog):
    grow(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    write(tmp_path / "train.csv", "path,label", f"a.mp4,{base}.0", f"b.mp4,{base + 2}")
    write(tmp_path / "val.csv", "path,label", f"c.mp4,{base + 2}")
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        val = table.load(tmp_path, "val")
    assert val.class_names == tuple(str(base + n) for n in range(3))
    assert [r.labels for r in val.records] == [(2,)]
    assert f"labels {base} to {base + 2}, taken to count from {base}" in caplog.text
    assert f"no row has the labels {base + 1}" in caplog.text


@pytest.mark.parametrize(
    "name, text",
    [
        ("classes.json", '["rest", "run", "jump"]'),
        ("classes.json", '{"0": "rest", "1": "run", "2": "jump"}'),
        ("class_names.json", '{"rest": 0, "run": 1, "jump": 2}'),
        ("classes.txt", "rest\r\nrun\r\njump\r\n"),
        ("classes.txt", "1 rest\n2 run\n3 jump\n"),
    ],
)
def test_class_lists_give_names_to_numbers(tmp_path, name, text):
    grow(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / name).write_text(text)
    write(tmp_path / "train.csv", "path,label", "a.mp4,1", "b.mp4,3")
    index = table.load(tmp_path, "train")
    assert index.class_names == ("rest", "run", "jump")
    assert [r.labels for r in index.records] == [(0,), (2,)]


def test_one_table_with_a_column_of_splits(tmp_path, caplog):
    grow(tmp_path, "a.mp4", "b.mp4")
    write(
        tmp_path / "clips.tsv",
        "file\ttag\tsubset",
        "a.mp4\trun\tTraining",
        "b.mp4\trun\tvalidation",
    )
    assert facts(table.load(tmp_path, "train")) == [("a.mp4", (0,))]
    assert facts(table.load(tmp_path, "val")) == [("b.mp4", (0,))]
    with pytest.raises(
        DataError, match="no row belongs to the split 'test'; its rows are of train, val"
    ):
        table.load(tmp_path, "test")
    write(tmp_path / "clips.tsv", "file\ttag\tsubset", "a.mp4\trun\tmine")
    with pytest.raises(
        DataError, match=r"clips.tsv:2: the split is 'mine', expected train, val, test"
    ):
        table.load(tmp_path, "train")


@pytest.mark.parametrize(
    "value",
    [
        [{"path": "a.mp4", "label": "run"}, {"path": "b.mp4", "label": "jump", "end": 2}],
        {"a.mp4": "run", "b.mp4": {"label": "jump", "end": 2.0}},
        {"classes": ["jump", "run"], "clips": [{"file": "a.mp4", "class": 1}, {"file": "b.mp4", "class": 0, "stop": 2}]},
        {"train": [{"path": "a.mp4", "label": ["run"]}, {"path": "b.mp4", "label": ["jump"], "end": "2"}]},
        {"path": ["a.mp4", "b.mp4"], "label": ["run", "jump"], "end": [None, 2]},
        {"file": {"0": "a.mp4", "1": "b.mp4"}, "Label": {"0": "run", "1": "jump"}, "end": {"0": None, "1": 2}},
    ],
)  # fmt: skip
def test_json(tmp_path, value):
    grow(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "train.json").write_text(json.dumps(value))
    index = table.load(tmp_path, "train")
    assert index.class_names == ("jump", "run")
    assert facts(index) == [("a.mp4", (1,)), ("b.mp4 0-2 s", (0,))]
    assert index.records[1].end_seconds == 2.0


def test_json_lines(tmp_path):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "train.jsonl", '{"path": "a.mp4", "labels": ["run", "a;b"], "id": "x1"}')
    index = table.load(tmp_path, "train")
    assert index.class_names == ("a;b", "run") and facts(index) == [("x1", (0, 1))]
    write(tmp_path / "train.jsonl", '{"path": "a.mp4", "label": "run"}', "{oops")
    with pytest.raises(DataError, match=r"train.jsonl:2: no JSON at column 2"):
        table.load(tmp_path, "train")


def test_where_tables_and_videos_may_lie(tmp_path):
    grow(tmp_path / "media/train", "a.mp4")
    grow(tmp_path / "lists/clips", "b.webm")
    rows = ["path,label", "a,run", "clips/b.mp4,jump", f"{tmp_path / 'lists/clips/b.webm'},run"]
    write(tmp_path / "lists/my train #1.csv", *rows)
    for annotations in (tmp_path / "lists/my train #1.csv", "lists", "lists/my {split} #1.csv"):
        index = table.load(tmp_path, "train", annotations=annotations, videos="media/{split}")
        paths = [str(Path(r.path).relative_to(tmp_path)) for r in index.records]
        assert paths == ["media/train/a.mp4", "lists/clips/b.webm", "lists/clips/b.webm"]


def test_another_split_of_a_given_table(tmp_path):
    grow(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "train.csv", "path,label", "a.mp4,run")
    with pytest.raises(DataError, match="train.csv is by its name another split's"):
        table.load(tmp_path, "val", annotations=file)
    write(tmp_path / "val.csv", "path,label", "b.mp4,run")
    assert facts(table.load(tmp_path, "val", annotations=file)) == [("b.mp4", (0,))]


def test_a_table_without_splits_trains_only(tmp_path):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "mine.csv", "path,label", "a.mp4,run")
    assert len(table.load(tmp_path, "train")) == 1
    with pytest.raises(DataError, match="which clips train and which ones measure .* not guessed"):
        table.load(tmp_path, "val")


def test_unlabelled_rows_are_for_the_test_split(tmp_path):
    grow(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "train.csv", "path,label", "a.mp4,run")
    write(tmp_path / "test.csv", "path", "b.mp4")
    assert facts(table.load(tmp_path, "test")) == [("b.mp4", ())]
    write(tmp_path / "train.csv", "path,label", "a.mp4,run", "b.mp4,")
    with pytest.raises(DataError, match=r"train.csv:3: b.mp4 has 0 labels, expected one"):
        table.load(tmp_path, "train")


def test_missing_files_are_counted(tmp_path, caplog):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "train.csv", "path,label", "a.mp4,run", "gone.mp4,run")
    with pytest.raises(DataError, match="1 of 2 files are missing; the file:\n.*gone.mp4"):
        table.load(tmp_path, "train")
    assert facts(table.load(tmp_path, "train", max_missing=0.5)) == [("a.mp4", (0,))]
    assert "1 of 2 files are missing" in caplog.text


def test_rows_that_come_twice(tmp_path, caplog):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "train.csv", "path,label", "a.mp4,run", "a.mp4,run")
    assert len(table.load(tmp_path, "train")) == 1
    assert "1 duplicate rows left out" in caplog.text
    write(tmp_path / "train.csv", "path,label", "a.mp4,run", "a.mp4,jump")
    with pytest.raises(DataError, match=r"train.csv: 1 clips are listed again.*\n.*line 2.*line 3"):
        table.load(tmp_path, "train")


def test_clips_in_two_splits_are_said(tmp_path, caplog):
    grow(tmp_path, "a.mp4")
    for name in ("train.csv", "val.csv"):
        write(tmp_path / name, "path,label", "a.mp4,run")
    table.load(tmp_path, "val")
    assert "1 clips are in val and in train, such as a.mp4" in caplog.text


@pytest.mark.parametrize(
    "lines, said",
    [
        (("path,label", "c,d.mp4,run"), r"train.csv:2: 3 cells, the header has 2 \(path, label\).*quotes"),
        (("path,label", ",run"), r"train.csv:2: the cell of the clip \('path'\) is empty"),
        (("path,label,end", "a.mp4,run,soon"), r"train.csv:2: 'soon' is no time"),
        (("path,label,end", "a.mp4,run,nan"), r"train.csv:2: 'nan' is no time"),
        (("path,label,weight", "a.mp4,run,-2"), r"train.csv:2: the weight is '-2', expected a number from 0"),
        (("path,label,weight", "a.mp4,run,x"), r"train.csv:2: the weight is 'x'"),
        (("path,label,start,end", "a.mp4,run,3,2"), r"train.csv:2: the segment from 3.0 to 2.0 is empty"),
        (("path,label", "a.mp4,-1"), r"train.csv:2: the label is -1, expected numbers from 0"),
        (("path,label", "a.mp4,0", "b.mp4,x"), r"csv:3: the label is the name 'x', and at .*csv:2 it is"),
        (("path,label", "a.mp4,0", "b.mp4,77777"), r"2 different numbers up to 77777: these look like ids"),
        (("path,label",), r"train.csv: the table has a header and no rows"),
        (("",), r"train.csv: the table is empty"),
        (("a.mp4,run", "b.mp4,run"), r"no column for path and label.*first line looks like a clip"),
        (("path,lable", "a.mp4,run"), r"no column for label in the header: path, lable.*label_column"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_line(tmp_path, lines, said):
    grow(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "train.csv", *lines)
    with pytest.raises(DataError, match=said):
        table.load(tmp_path, "train")


@pytest.mark.parametrize(
    "value, said",
    [
        ({"database": {}}, "this is the format of ActivityNet"),
        ("a.mp4", "expected a list of objects such as .* got str"),
        (["a.mp4"], r"train.json: entry 1: expected an object such as .* got 'a.mp4'"),
        ([{"path": "a.mp4", "label": {"x": 1}}], "entry 1: the label is {'x': 1}, expected a name"),
        ([{"path": "a.mp4"}], "train.json: no column for label in the header: path"),
        ([], "train.json: the table has no rows"),
    ],
)
def test_json_that_is_no_table(tmp_path, value, said):
    grow(tmp_path, "a.mp4")
    (tmp_path / "train.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=said):
        table.load(tmp_path, "train")


def test_labels_that_training_does_not_have(tmp_path):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "val.csv", "path,label", "a.mp4,jumps")
    with pytest.raises(
        DataError, match="the classes are those of the training rows, and there are none"
    ):
        table.load(tmp_path, "val")
    write(tmp_path / "train.csv", "path,label", "a.mp4,jump")
    with pytest.raises(DataError, match=r"val.csv:2: 'jumps' is no class. Did you mean 'jump'\?"):
        table.load(tmp_path, "val")


def test_a_class_list_that_is_none(tmp_path):
    write(tmp_path / "train.csv", "path,label", "a.mp4,run")
    (tmp_path / "classes.json").write_text("3")
    with pytest.raises(
        DataError, match="classes.json: expected a list of class names in label order"
    ):
        table.load(tmp_path, "train")
    (tmp_path / "classes.json").write_text('["run", "run"]')
    with pytest.raises(DataError, match="classes.json: the class 'run' is listed more than once"):
        table.load(tmp_path, "train")


def test_no_table_says_what_is_there(tmp_path):
    grow(tmp_path, "train/cats/1.mp4", "notes.md")
    with pytest.raises(DataError) as caught:
        table.load(tmp_path, "train")
    said = str(caught.value)
    assert "holds notes.md, train/" in said and "Expected train.csv (or .tsv, .json" in said
    assert "Folders of classes (train/CLASS/clip.mp4) are read by dataset 'folder'" in said
    for annotations, words in (
        ("x.csv", "there is no x.csv, nor"),
        ("x_{split}.csv", "no .*x_train.csv"),
    ):
        with pytest.raises(DataError, match=words):
            table.load(tmp_path, "train", annotations=annotations)


def test_several_tables_are_not_guessed(tmp_path):
    grow(tmp_path, "a.mp4")
    for name in ("train_1.csv", "train_2.csv"):
        write(tmp_path / name, "path,label", "a.mp4,run")
    with pytest.raises(
        DataError, match="Which of train_1.csv, train_2.csv is meant is not guessed"
    ):
        table.load(tmp_path, "train")
    write(tmp_path / "train.csv", "path,label", "a.mp4,run")
    assert len(table.load(tmp_path, "train")) == 1


def test_columns_can_be_named(tmp_path):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "train.csv", "where,what,label", "a.mp4,run,9")
    index = table.load(tmp_path, "train", path_column="where", label_column="what")
    assert index.class_names == ("run",)
    with pytest.raises(DataError, match=r"no column 'wat' \(label_column\). Did you mean 'what'"):
        table.load(tmp_path, "train", path_column="where", label_column="wat")


def test_weights_travel_with_the_records(tmp_path):
    grow(tmp_path, "a.mp4")
    write(tmp_path / "train.csv", "path,label,weight", "a.mp4,run,2.5")
    assert table.load(tmp_path, "train").records[0].extra == {"weight": 2.5}


def test_unknown_split(tmp_path):
    with pytest.raises(UnknownNameError, match="split of table 'vall'. Did you mean 'val'"):
        table.load(tmp_path, "vall")


def test_times_under_other_names_are_said_once(tmp_path, caplog):
    grow(tmp_path, "a.mp4", "b.mp4")
    for split in ("train", "val"):
        header = f"path,label,start_frame,End-Frame,num_frames,fps,{split}"
        write(tmp_path / f"{split}.csv", header, "a.mp4,run,30,90,400,30,x")
    for split in ("train", "val", "train"):
        (record,) = table.load(tmp_path, split).records
        assert record.end_seconds is None
    said = [m for m in caplog.messages if "look like times or frames and are not used" in m]
    assert len(said) == 2 and "train.csv" in said[0] and "val.csv" in said[1]
    assert said[0].endswith(
        "not used: 'start_frame', 'End-Frame'. What is read, in seconds, is start (start_seconds, start, "
        "start_time, time_start, start_sec, begin) and end (end_seconds, end, end_time, time_end, "
        "end_sec, stop, stop_time)"
    )


def test_known_times_beside_frames_are_enough(tmp_path, caplog):
    grow(tmp_path, "a.mp4")
    rows = ("path,label,start,end,start_frame,end_frame", "a.mp4,run,1,3,30,90")
    (record,) = table.load(write(tmp_path / "train.csv", *rows).parent, "train").records
    assert (record.start_seconds, record.end_seconds) == (1, 3) and "look like" not in caplog.text
