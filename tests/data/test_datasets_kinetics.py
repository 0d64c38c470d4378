"""Kinetics: csv files as published, folders as people have them."""

import logging

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data import class_lists
from jaxvid.data.datasets import kinetics

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\r\n"
CHOIR, CATS, BOX = "singing, in a choir", "petting animal (not cat)", "punching person's bag"
TRAIN = HEADER + (
    f'"{CHOIR}",---0dWlqevI,19,29,train,0\r\n'
    f"{CATS},_a#&;b-c,0,10,train,1\r\n"
    f"{BOX},zzzzzzzzzzz,1000,1010,train,0\r\n"
    f"{CATS},_a#&;b-c,0,10,train,1\r\n"
)
FILES = (
    "---0dWlqevI_000019_000029.mp4",
    "_a#&;b-c_000000_000010.mp4",
    "zzzzzzzzzzz_001000_001010.mp4",
)
VAL = HEADER + f"{BOX},vvvvvvvvvvv,5,15,val,0\n"
SPELLED = ("singing,_in_a_choir", "petting animal (not cat)", "punching_persons_bag")


def grow(root, *files, **texts):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in texts.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.csv").write_text(text, newline="", encoding="utf-8-sig")
    return root


@pytest.fixture
def root(tmp_path):
    files = [f"train/{folder}/{file}" for folder, file in zip(SPELLED, FILES, strict=True)]
    files.append("val/punching person's bag/vvvvvvvvvvv_000005_000015.mkv")
    return grow(tmp_path / "k 400", *files, train=TRAIN, val=VAL)


def test_train(root, caplog):
    with caplog.at_level(logging.WARNING):
        index = kinetics.load(root, "train")
    assert index.class_names == tuple(sorted([CHOIR, CATS, BOX]))
    assert [r.id for r in index.records] == [name[:-4] for name in FILES]
    assert [r.labels for r in index.records] == [(2,), (0,), (1,)]
    wanted = [str(root / "train" / d / f) for d, f in zip(SPELLED, FILES, strict=True)]
    assert [r.path for r in index.records] == wanted
    assert {r.end_seconds for r in index.records} == {None}  # files are cut to the clip
    assert "1 duplicate rows left out; the row:\n    line 5: _a#&;b-c_000000_000010" in caplog.text


def test_val_has_the_classes_of_train(root):
    index = kinetics.load(root, "val")
    assert len(index.class_names) == 3 and index.records[0].labels == (1,)
    assert index.records[0].path.endswith("_000015.mkv")


def test_a_class_that_train_has_not(root):
    grow(root, val=HEADER + "punching persons bag,v,5,15,val,0\n")
    said = "val.csv:2: 'punching persons bag' is none of the 3 classes of .*train.csv. Did you mean"
    with pytest.raises(DataError, match=said):
        kinetics.load(root, "val")


@pytest.mark.parametrize(
    "where, options",
    [
        ("{folder}/{file}", {}),
        ("{file}", {}),
        ("train/{file}", {}),
        ("videos_train/{folder}/{file}", {}),
        ("else where/train/{folder}/{file}", {"videos": "else where"}),
        ("here/train/{folder}/{file}", {"videos": "{root}/here/{split}"}),
    ],
)
def test_where_videos_lie(tmp_path, where, options):
    names = [where.format(folder=d, file=f) for d, f in zip(SPELLED, FILES, strict=True)]
    root = grow(tmp_path, *names, train=TRAIN)
    options = {key: value.replace("{root}", str(root)) for key, value in options.items()}
    index = kinetics.load(root, "train", **options)
    assert [r.path for r in index.records] == [str(root / name) for name in names]


def test_test_without_labels(root):
    grow(root, "test/x_000001_000011.mp4", "test/y_000001_000011.mp4")
    grow(root, test="youtube_id,time_start,time_end,split\nx,1,11,test\n")
    index = kinetics.load(root, "test")
    assert index.records[0].labels == () and len(index.class_names) == 3
    grow(root, test=HEADER + f",x,1,11,test,0\n{CATS},y,1,11,test,0\n")
    assert [r.labels for r in kinetics.load(root, "test").records] == [(), (0,)]


def test_test_alone(tmp_path, caplog):
    root = grow(tmp_path, "x_000001_000011.mp4", test="youtube_id,time_start,time_end\nx,1,11\n")
    assert kinetics.load(root, "test").class_names == ()
    assert "names no classes and there is no train.csv; set data.options.release" in caplog.text
    index = kinetics.load(root, "test", release=600)
    assert index.class_names == class_lists.load("kinetics600")


def test_missing_files(root):
    (root / "train" / SPELLED[1] / FILES[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 3 files are missing; the file:\n.*_a#&;b-c_0000"):
        kinetics.load(root, "train")
    assert len(kinetics.load(root, "train", max_missing=0.34)) == 2


def test_release(root):
    with pytest.raises(
        DataError, match="train.csv:2: .* is none of the 400 classes of Kinetics-400"
    ):
        kinetics.load(root, "train", release=400)
    grow(root, train=HEADER + "zumba,x,1,11,train,0\n")
    assert kinetics.load(
        root,
        "train",
        release=400,
        max_missing=0,
        videos=grow(root / "v", "zumba/x_000001_000011.mp4"),
    ).records[0].labels == (399,)
    with pytest.raises(UnknownNameError, match="release of Kinetics '500'.*400, 600, 700"):
        kinetics.load(root, "train", release=500)


def test_class_names(root):
    names = [CATS, BOX, CHOIR, "more"]
    index = kinetics.load(root, "train", class_names=names)
    assert index.class_names == tuple(names)
    assert [r.labels for r in index.records] == [(2,), (0,), (1,)]


def test_one_csv_with_all_splits(root):
    both = root / "all.csv"
    both.write_text(TRAIN + VAL.removeprefix(HEADER).replace(",val,", ",validate,"))
    for split, count in (("train", 3), ("val", 1)):
        index = kinetics.load(root, split, annotations="all.csv")
        assert len(index) == count and len(index.class_names) == 3
    with pytest.raises(DataError, match="all.csv: no row of the test split among 5 rows"):
        kinetics.load(root, "test", annotations=both)


def test_annotations_elsewhere(root, tmp_path):
    lists = grow(tmp_path / "lists", train=TRAIN, validate=VAL)
    for split in ("train", "val"):
        (root / f"{split}.csv").unlink()
        assert len(kinetics.load(root, split, annotations=lists).class_names) == 3
    assert len(kinetics.load(root, "train", annotations=f"{lists}/{{split}}.csv")) == 3


@pytest.mark.parametrize(
    "text, said",
    [
        ("label,id\n", "train.csv:1: the header has no column 'youtube_id', 'time_start'"),
        (HEADER + "a,x,one,11,train,0\n", "train.csv:2: time_start is 'one', expected seconds"),
        (
            HEADER + "a,x,11,11,train,0\n",
            "train.csv:2: time_end is 11, expected more than time_start",
        ),
        (
            HEADER + "a,x,1,11,train,0\n,x,2,12,train,0\n",
            "train.csv:3: '' is none of the 1 classes",
        ),
        (
            HEADER + "a,x,1,11,train,0\nb,x,1,11,train,0\n",
            "'x_000001_000011': line 2: .*; line 3: ",
        ),
        (HEADER, "train.csv: no row of the train split among 0 rows"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        kinetics.load(grow(tmp_path, train=text), "train")


def test_names(tmp_path):
    with pytest.raises(
        UnknownNameError, match="split of kinetics 'valid'.*'val'.*test, train, val"
    ):
        kinetics.load(tmp_path, "valid")
    with pytest.raises(
        DataError, match="kinetics: no annotation file. Looked in .* for val.csv, valid"
    ):
        kinetics.load(tmp_path, "val")
