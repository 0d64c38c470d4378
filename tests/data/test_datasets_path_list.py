"""Lists of paths and numbers, in the forms that public training code reads."""

import logging

import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.data.datasets import path_list

PATHS = ("in side/a b.mp4", "x,1/c#&;.webm", "é 7/d 3.MP4")


def grow(root, paths=PATHS, /, **lists):
    for name in paths:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in lists.items():
        (root / f"{name}.csv").write_text(text, newline="", encoding="utf-8-sig")
    return root


def lines(*tails, paths=PATHS, mark=" ", end="\r\n"):
    return "".join(f"{path}{mark}{tail}{end}" for path, tail in zip(paths, tails, strict=True))


def labels(index):
    return [r.labels for r in index.records]


@pytest.mark.parametrize("mark", [" ", "  ", "\t", ",", ", ", ";"])
def test_path_label(tmp_path, mark):
    root = grow(tmp_path / "the set", train=lines(0, 2, 1, mark=mark) + "\r\n")
    index = path_list.load(root, "train")
    assert [r.id for r in index.records] == list(PATHS)
    assert [r.path for r in index.records] == [str(root / p) for p in PATHS]
    assert labels(index) == [(0,), (2,), (1,)]
    assert index.class_names == ("0", "1", "2") and not index.multilabel


def test_separator_said(tmp_path):
    root = grow(tmp_path, train=lines(0, 2, 1, mark="|"))
    assert labels(path_list.load(root, "train", separator="|")) == [(0,), (2,), (1,)]
    root = grow(tmp_path, train=lines(0, 2, 1))
    assert labels(path_list.load(root, "train", separator=" ")) == [(0,), (2,), (1,)]


def test_several_labels(tmp_path):
    index = path_list.load(grow(tmp_path, train=lines("0", "2 1", "1 1")), "train")
    assert index.multilabel and labels(index) == [(0,), (1, 2), (1,)]


def test_pretraining_without_labels(tmp_path):
    index = path_list.load(grow(tmp_path, train=lines("0 -1", "0 -1", "0 -1")), "train")
    assert labels(index) == [(), (), ()] and index.records[2].path.endswith("é 7/d 3.MP4")
    root = grow(tmp_path, train="".join(p + "\n" for p in PATHS))
    assert labels(path_list.load(root, "train")) == [(), (), ()]
    root = grow(tmp_path, train=lines(-1, 1, 0))
    assert labels(path_list.load(root, "train")) == [(), (1,), (0,)]


FRAMES = ("frames/clip 1/000.jpg", "frames/b,2/000.jpg")
FOLDERS = ("frames/clip 1", "frames/b,2")


@pytest.mark.parametrize(
    "tails, wanted",
    [
        (("250 1", "30 0"), [(1,), (0,)]),
        (("0 250", "0 30"), [(), ()]),
        (("1 250", "1 30"), [(), ()]),
        (("1 0", "1 1"), [(0,), (1,)]),  # one frame each: 0 is no count
    ],
)
def test_folders_of_frames(tmp_path, tails, wanted):
    index = path_list.load(grow(tmp_path, FRAMES, train=lines(*tails, paths=FOLDERS)), "train")
    assert [r.id for r in index.records] == list(FOLDERS)
    assert labels(index) == wanted


def test_mmaction2s_names_of_a_split(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "ucf101_train_split_1_videos.txt").write_text("a.mp4 3\n")
    assert labels(path_list.load(tmp_path, "train")) == [(3,)]
    (tmp_path / "ucf101_train_split_2_videos.txt").write_text("a.mp4 3\n")
    with pytest.raises(DataError, match="could be meant"):
        path_list.load(tmp_path, "train")


def test_columns_said(tmp_path):
    folders = ("frames/clip 1", "frames/clip 2")
    root = grow(tmp_path, [f + "/1.jpg" for f in folders], train=lines(0, 1, paths=folders))
    with pytest.raises(DataError, match="'frames/clip': line 1: .*; line 2: "):  # 1 and 2 frames
        path_list.load(root, "train")
    index = path_list.load(root, "train", columns="path label")
    assert [r.id for r in index.records] == list(folders) and labels(index) == [(0,), (1,)]


def test_from_one(tmp_path, caplog):
    root = grow(tmp_path, train=lines(1, 3, 2), val=lines(2, 2, 1))
    (root / "classes.txt").write_text("a\nb c\nd, e\n")
    for split, wanted in (("train", [(0,), (2,), (1,)]), ("val", [(1,), (1,), (0,)])):
        with caplog.at_level(logging.INFO):
            index = path_list.load(root, split)
        assert labels(index) == wanted and index.class_names == ("a", "b c", "d, e")
        assert "labels 1 to 3 of 3 classes, taken to count from 1" in caplog.text


def test_the_other_split_tells_base_and_classes(tmp_path):
    root = grow(tmp_path, train=lines(0, 3, 2), val=lines(2, 2, 1))
    index = path_list.load(root, "val")
    assert labels(index) == [(2,), (2,), (1,)] and len(index.class_names) == 4


def test_base_without_classes(tmp_path, caplog):
    root = grow(tmp_path, train=lines(1, 2, 1))
    index = path_list.load(root, "train")
    assert labels(index) == [(0,), (1,), (0,)] and len(index.class_names) == 2
    assert (
        "the lowest label is 1 and nothing says how many classes there are; taken to count from 1"
        in (caplog.text)
    )
    assert labels(path_list.load(root, "train", label_base=0)) == [(1,), (2,), (1,)]
    assert labels(path_list.load(root, "train", num_classes=5)) == [(1,), (2,), (1,)]
    assert labels(path_list.load(root, "train", class_names="ssv2")) == [(1,), (2,), (1,)]


@pytest.mark.parametrize(
    "name",
    [
        "train.csv",
        "annotations/train.txt",
        "set_train_list_videos.txt",
        "set_train_list_rawframes.txt",
    ],
)
def test_usual_names(tmp_path, name):
    grow(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(lines(0, 1, 2))
    assert len(path_list.load(tmp_path, "train")) == 3


def test_places_given(tmp_path):
    root = tmp_path / "lists of"
    grow(tmp_path / "clips of" / "train")
    grow(tmp_path / "clips of" / "val")
    root.mkdir()
    (root / "my train.lst").write_text(lines(0, 1, 2))
    (root / "my val.lst").write_text(lines(2, 1, 0))
    places = {
        "annotations": f"{root}/my {{split}}.lst",
        "videos": f"{tmp_path}/clips of/{{split}}",
    }
    for split in ("train", "val"):
        index = path_list.load(tmp_path, split, **places)
        assert index.records[0].path == str(tmp_path / "clips of" / split / PATHS[0])
    absolute = "".join(f"{tmp_path}/clips of/train/{p} 0\n" for p in PATHS)
    (root / "my train.lst").write_text(absolute)
    assert len(path_list.load(root, "train", annotations=root / "my train.lst")) == 3


def test_usual_video_folder(tmp_path):
    grow(tmp_path / "videos_train")
    grow(tmp_path, (), train=lines(0, 1, 2))
    index = path_list.load(tmp_path, "train")
    assert index.records[0].path == str(tmp_path / "videos_train" / PATHS[0])


def test_missing_and_repeated(tmp_path, caplog):
    text = lines(0, 2, 1) + lines(0, 2, 1) + "gone.mp4 1\n"
    root = grow(tmp_path, train=text)
    with pytest.raises(DataError, match="1 of 4 files are missing"):
        path_list.load(root, "train")
    assert len(path_list.load(root, "train", max_missing=0.25)) == 3
    assert "3 duplicate rows left out" in caplog.text


@pytest.mark.parametrize(
    "text, options, said",
    [
        ("", {}, "train.csv: the list is empty"),
        (
            "a.mp4 1\nb.mp4\n",
            {},
            "train.csv:2: 'b.mp4' is followed by 0 whole numbers, expected 'path label'",
        ),
        (
            "path,label\na.mp4,1\n",
            {},
            "train.csv:1: 'path,label' .*column names is for the dataset 'table'",
        ),
        ("a.mp4 cat\n", {}, "train.csv:1: 'a.mp4 cat' is followed by 0 whole numbers"),
        ("a.mp4 1\nb.mp4 1.5\n", {}, "train.csv:2: 'b.mp4 1.5' is followed by 0"),
        (
            "a.mp4 0\nb.mp4 -2\n",
            {},
            "train.csv:2: label -2 of 'b.mp4', expected 0 to 0, or -1 for none",
        ),
        (
            "a.mp4 0\nb.mp4 9\n",
            {"num_classes": 9},
            "labels run from 0 to 9, and there are 9 classes",
        ),
        (
            "a.mp4 0\nb.mp4 2\n",
            {"class_names": ["x", "y"], "label_base": 0},
            "train.csv:2: label 2 of",
        ),
        ("a.mp4 0\na.mp4 1\n", {}, "'a.mp4': line 1: labels .0., .*; line 2: labels .1."),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, options, said):
    with pytest.raises(DataError, match=said):
        path_list.load(grow(tmp_path, ("a.mp4", "b.mp4"), train=text), "train", **options)


def test_names(tmp_path):
    with pytest.raises(UnknownNameError, match="split of path_list 'dev'"):
        path_list.load(tmp_path, "dev")
    with pytest.raises(
        UnknownNameError, match="columns of path_list 'label path'.* path label, path labels"
    ):
        path_list.load(tmp_path, "train", columns="label path")
    with pytest.raises(ConfigError, match="label_base is 2, expected 0, 1 or None"):
        path_list.load(tmp_path, "train", label_base=2)
    root = grow(tmp_path, train=lines(0, 1, 2))
    with pytest.raises(ConfigError, match="num_classes is 4 and the class list has 3 names"):
        path_list.load(root, "train", num_classes=4, class_names=["a", "b", "c"])
