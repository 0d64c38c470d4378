"""What the readers of lists share: text, csv, JSON, files that are not there, rows that come twice."""

import logging
import os

import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoRecord
from jaxvid.data.datasets import _listed


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def record(path, labels=(0,), name=None):
    return VideoRecord(str(path), name or os.path.basename(path), labels)


def test_lines(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeffone two \r\n\r\n  \nthr\u2028ee\x0c;\r\nlast".encode())
    assert _listed.read_lines(file) == [(1, "one two "), (4, "thr\u2028ee\x0c;"), (5, "last")]
    assert _listed.read_lines(write(tmp_path / "b.txt", "")) == []


def test_no_such_file(tmp_path):
    write(tmp_path / "other.csv", "")
    with pytest.raises(DataError, match="a.txt: there is no such file; .* holds other.csv"):
        _listed.read_lines(tmp_path / "a.txt")


def test_not_utf8(tmp_path):
    file = write(tmp_path / "a.csv", b"a,b\nc,d\n" + b"caf\xe9,1\n")
    for read in (_listed.read_lines, lambda f: _listed.read_csv(f, header=None)):
        with pytest.raises(DataError, match="a.csv:3: not UTF-8 text .*; save the file as UTF-8"):
            read(file)


def test_csv_with_header(tmp_path):
    text = '\ufefflabel, id ,more\r\n"a, b",x#&;,\r\n\r\n"two\r\nlines",y,"q ""z"""\r\nc,z,,\r\n'
    assert _listed.read_csv(write(tmp_path / "a.csv", text), header=("id", "label")) == [
        (2, {"label": "a, b", "id": "x#&;", "more": ""}),
        (4, {"label": "two\r\nlines", "id": "y", "more": 'q "z"'}),
        (6, {"label": "c", "id": "z", "more": ""}),
    ]


def test_csv_without_header(tmp_path):
    file = write(tmp_path / "a.csv", "a b;c\n\nd;\n")
    assert _listed.read_csv(file, delimiter=";", header=None) == [(1, ["a b", "c"]), (3, ["d", ""])]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "a.csv: the file is empty, expected the columns id, label"),
        (
            "id,lable\n",
            "a.csv:1: the header has no column 'label'; expected id,label, got 'id,lable'",
        ),
        ("id,label\nx\n", "a.csv:2: 1 fields, expected 2: id, label"),
        ("id,label\nx,y\nx,y,z\n", "a.csv:3: 3 fields, expected 2: .* needs quotes"),
        ('id,label\nx,y\nx,"y\nz,w\n', "a.csv:3: not readable as csv: .* each of them doubled"),
        ('id,label\nx,"y"y\n', "a.csv:2: not readable as csv"),
    ],
)
def test_csv_that_does_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        _listed.read_csv(write(tmp_path / "a.csv", text), header=("id", "label"))


def test_json(tmp_path):
    assert _listed.read_json(write(tmp_path / "a.json", '\ufeff{"a": [1]}')) == {"a": [1]}
    with pytest.raises(DataError, match="b.json:2: no JSON, column 6: Expecting value"):
        _listed.read_json(write(tmp_path / "b.json", '{\n"a": }'))
    with pytest.raises(DataError, match="c.json: no annotations: its JSON is nested without end"):
        _listed.read_json(write(tmp_path / "c.json", "[" * 200_000))


def test_numbers():
    assert _listed.whole_number(" -3 ", "label", "f", 1) == -3
    assert _listed.seconds("1.5e1", "start", "f", 1) == 15.0
    for text in ("1_0", "", "1.0", "x"):
        with pytest.raises(DataError, match=f"f.csv:4: label is '{text}', expected a whole number"):
            _listed.whole_number(text, "label", "f.csv", 4)
    for text in ("-1", "nan", "inf", "", "1_0", "0x1"):
        with pytest.raises(DataError, match=f"f.csv:4: start is '{text}', expected seconds from 0"):
            _listed.seconds(text, "start", "f.csv", 4)


def test_class_number():
    assert _listed.class_number("run", {"walk": 0, "run": 1}, "f", 1, "list") == 1
    with pytest.raises(
        DataError, match="f:7: 'rum' is none of the 2 classes of x. Did you mean 'run'"
    ):
        _listed.class_number("rum", {"walk": 0, "run": 1}, "f", 7, "x")


def test_annotation_file(tmp_path):
    root = tmp_path / "the set"
    file = write(root / "b.csv", "")
    assert _listed.annotation_file("set", root, None, ("a.csv", "b.csv")) == file
    assert _listed.annotation_file("set", root, None, ("*.csv",)) == file
    other = write(root / "lists" / "c.csv", "")
    for given in (other, str(other), "lists/c.csv", "lists"):
        assert _listed.annotation_file("set", root, given, ("c.csv",)) == other
    with pytest.raises(
        DataError,
        match="set: no annotation file. Looked in .*the set for a.csv, d.csv; "
        "it holds b.csv, lists/.*data.options.annotations",
    ):
        _listed.annotation_file("set", root, None, ("a.csv", "d.csv"))
    with pytest.raises(DataError, match="it holds nothing, it does not exist"):
        _listed.annotation_file("set", tmp_path / "no", None, ("a.csv",))
    write(root / "e.csv", "")
    with pytest.raises(DataError, match="2 files of .* could be meant: b.csv, e.csv. Set"):
        _listed.annotation_file("set", root, None, ("*.csv",))


def test_optional_file(tmp_path):
    file, train = write(tmp_path / "names.txt", ""), write(tmp_path / "lists/train.csv", "")
    for annotations in (None, train, tmp_path / "lists"):
        assert _listed.optional_file(tmp_path, annotations, ("x", "names.txt")) == file
        assert _listed.optional_file(tmp_path, annotations, ("x",)) is None
    beside = write(tmp_path / "lists/names.txt", "")
    assert _listed.optional_file(tmp_path, train, ("names.txt",)) == beside


def test_of_split():
    assert _listed.of_split("a/{split}.csv", "val") == "a/val.csv"
    assert _listed.of_split(None, "val") is None


def test_keep_present(tmp_path, caplog):
    names = [f"clip {i} #&;,é.mp4" for i in range(12)]
    records = [record(tmp_path / "in side" / name) for name in names]
    for name in names[:9]:
        write(tmp_path / "in side" / name, "")
    (tmp_path / "in side" / names[9]).symlink_to("gone.mp4")
    with caplog.at_level(logging.WARNING):
        assert _listed.keep_present("set", records[:9], max_missing=0.0) == tuple(records[:9])
        assert not caplog.records
        assert _listed.keep_present("set", records, max_missing=0.25) == tuple(records[:9])
    assert "set: 3 of 12 files are missing; the files:\n" in caplog.text
    assert "3 records left out, 9 stay" in caplog.text
    with pytest.raises(
        DataError, match=r"3 of 12 files are missing(.|\n)*0.2500, tolerated are 0.24"
    ):
        _listed.keep_present("set", records, max_missing=0.24)


def test_the_first_ten_missing(tmp_path):
    records = [record(tmp_path / f"{i:02d}.mp4") for i in range(25)]
    with pytest.raises(DataError) as caught:
        _listed.keep_present("set", records, max_missing=1.0)  # none is left: that is no data set
    assert "25 of 25 files are missing; the first 10 files:" in str(caught.value)
    assert "09.mp4" in str(caught.value) and "10.mp4" not in str(caught.value)
    assert "data.options.videos" in str(caught.value)


def test_files_are_counted_once(tmp_path):
    there = [VideoRecord(str(write(tmp_path / "a.mp4", "")), str(i)) for i in range(3)]
    gone = VideoRecord(str(tmp_path / "b.mp4"), "b")
    assert len(_listed.keep_present("set", [*there, gone], max_missing=0.5)) == 3


@pytest.mark.parametrize("share", [-0.1, 1.5, "all", None])
def test_no_share(share):
    with pytest.raises(ConfigError, match="max_missing is .*, expected a share from 0.0 to 1.0"):
        _listed.keep_present("set", [], max_missing=share)


def test_one_scan_a_folder(tmp_path, monkeypatch):
    records = [record(write(tmp_path / f"f{i % 3}" / f"{i}.mp4", "")) for i in range(60)]
    calls, scan = [], os.scandir
    monkeypatch.setattr(_listed.os, "scandir", lambda path: calls.append(path) or scan(path))
    monkeypatch.setattr(_listed.os.path, "exists", lambda path: pytest.fail(f"asked for {path}"))
    folders = _listed.Folders()
    assert all(folders.clip(r.path[:-4] + ".webm") == r.path for r in records)
    assert len(_listed.keep_present("set", records, max_missing=0.0, folders=folders)) == 60
    assert len(calls) == 3


def test_what_stands_in_a_clips_place(tmp_path):
    for name in ("a b.webm", "c/1.jpg", "d.txt", "e.mp4", "e.avi"):
        write(tmp_path / name, "")
    clip = _listed.Folders().clip
    for asked, found in (("a b.mp4", "a b.webm"), ("a b", "a b.webm"), ("c.avi", "c")):
        assert clip(str(tmp_path / asked)) == str(tmp_path / found)
    for same in ("d.avi", "e.mp4", "e.avi", "v.1"):
        assert clip(str(tmp_path / same)) == str(tmp_path / same)


def test_video_folder(tmp_path):
    write(tmp_path / "videos/sub/a.mp4", "")

    def top(videos=None, paths=("sub/a.mp4", "sub/b.mp4")):
        return _listed.video_folder(tmp_path, videos, ("x", "videos"), paths, _listed.Folders())

    assert top() == str(tmp_path / "videos")
    assert top(paths=("videos/sub/a.mp4",)) == str(tmp_path)
    assert top(videos="videos/sub", paths=("a.mp4",)) == str(tmp_path / "videos/sub")
    assert top(paths=("nowhere.mp4",)) == str(tmp_path / "videos")  # where they would be expected


def test_duplicates(caplog):
    records = [record("a", (1,)), record("b", (2,)), record("a", (1,)), record("a", (1,))]
    with caplog.at_level(logging.WARNING):
        kept = _listed.drop_duplicates("set", records, file="list.csv", lines=[2, 3, 4, 7])
    assert kept == records[:2]
    assert (
        "set: list.csv: 2 duplicate rows left out; the rows:\n    line 4: a\n    line 7: a"
        in caplog.text
    )
    assert _listed.drop_duplicates("set", records) == records[:2]


@pytest.mark.parametrize("other", [record("a", (2,)), record("elsewhere/a", (1,), "a")])
def test_duplicates_that_disagree(other):
    records = [record("a", (1,)), record("b", (2,)), other]
    said = r"set: l.csv: 1 clips are listed again .*(.|\n)*'a': line 1: labels \[1\], a; line 9: labels"
    with pytest.raises(DataError, match=said):
        _listed.drop_duplicates("set", records, file="l.csv", lines=[1, 5, 9])
    with pytest.raises(DataError, match=r"'a': labels \[1\]"):
        _listed.drop_duplicates("set", records)


@pytest.mark.parametrize(
    "labels, base, said",
    [
        ((0, 1, 4), 0, "labels 0 to 4 of 5 classes, taken to count from 0"),
        ((1, 5, 2), 1, "labels 1 to 5 of 5 classes, taken to count from 1"),
        ((2, 3), 0, "no label is 0, so they might count from 1"),
        ((), 0, ""),
    ],
)
def test_label_base(caplog, labels, base, said):
    with caplog.at_level(logging.INFO):
        assert _listed.label_base("set", labels, 5) == base
    assert said in caplog.text


@pytest.mark.parametrize("labels", [(0, 5), (-1, 2), (1, 6)])
def test_labels_outside(labels):
    said = f"set: the labels run from {labels[0]} to {labels[1]}, and there are 5 classes: expected 0 to 4"
    with pytest.raises(DataError, match=said):
        _listed.label_base("set", labels, 5)
