"""Something-Something V1 and Jester: semicolons, folders of frames, one label a line."""

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data import class_lists
from jaxvid.data.datasets import ssv1

CLASSES = ("Holding something", "Removing something, revealing something behind", "Poking & co")
TRAIN = f"7;{CLASSES[1]}\r\n100218;{CLASSES[0]}\r\n\r\n9;Poking & [co] \r\n"


def grow(root, name="something-something-v1", videos="20bn-something-something-v1", **texts):
    texts = {"train": TRAIN, "validation": f"12;{CLASSES[2]}\n", "test": "13\n14;\n", **texts}
    texts.setdefault("labels", "\r\n".join(CLASSES) + "\r\n")
    for clip in (7, 100218, 9, 12, 13, 14):
        (root / videos / str(clip)).mkdir(parents=True)
        (root / videos / str(clip) / "00001.jpg").touch()
    for kind, text in texts.items():
        if text is not None:
            (root / f"{name}-{kind}.csv").write_text(text, newline="")
    return root


@pytest.mark.parametrize(
    "name, videos",
    [
        ("something-something-v1", "20bn-something-something-v1"),
        ("jester-v1", "20bn-jester-v1"),
        ("jester-v1", "."),
    ],
)
def test_splits(tmp_path, name, videos):
    root = grow(tmp_path / "the set", name, videos)
    train, val, test = (ssv1.load(root, split) for split in ssv1.SPLITS)
    assert train.class_names == val.class_names == test.class_names == CLASSES
    assert [(r.id, r.labels) for r in train.records] == [("7", (1,)), ("100218", (0,)), ("9", (2,))]
    assert [r.path for r in train.records] == [str(root / videos / r.id) for r in train.records]
    assert [(r.id, r.labels) for r in val.records] == [("12", (2,))]
    assert [(r.id, r.labels) for r in test.records] == [("13", ()), ("14", ())]


def test_the_shipped_classes(tmp_path):
    root = grow(tmp_path / "a", train="7;Holding something\n", labels=None)
    index = ssv1.load(root, "train")
    assert index.class_names == class_lists.load("ssv1") and index.records[0].labels == (0,)
    root = grow(tmp_path / "b", "jester-v1", train="7;Swiping Up\n", labels=None)
    index = ssv1.load(root, "train")
    assert index.class_names == class_lists.load("jester") and index.records[0].labels == (3,)
    own = tmp_path / "b" / "mine.csv"
    own.write_text("7;Thumb Up\n")
    assert ssv1.load(root, "train", annotations=own).class_names[20] == "Thumb Up"


def test_places_given(tmp_path):
    root = grow(tmp_path, videos="my frames")
    (tmp_path / "lists").mkdir()
    for file in tmp_path.glob("*.csv"):
        file.rename(tmp_path / "lists" / file.name)
    index = ssv1.load(root, "train", annotations=root / "lists", videos=root / "my frames")
    assert len(index) == 3 and index.class_names == CLASSES


def test_missing_repeated_and_files(tmp_path, caplog):
    root = grow(tmp_path, train=TRAIN + TRAIN)
    folder = root / "20bn-something-something-v1/9"
    (folder / "00001.jpg").rename(folder.with_suffix(".webm"))
    folder.rmdir()
    assert ssv1.load(root, "train").records[2].path == f"{folder}.webm"
    assert "3 duplicate rows left out" in caplog.text
    folder.with_suffix(".webm").unlink()
    with pytest.raises(DataError, match="ssv1: 1 of 3 files are missing"):
        ssv1.load(root, "train")
    assert len(ssv1.load(root, "train", max_missing=0.4)) == 2


@pytest.mark.parametrize(
    "train, said",
    [
        ("\n", "v1-train.csv: the list is empty, expected lines 'id;label text'"),
        ("7\n", "v1-train.csv:1: clip '7' has no label; expected 'id;label text'"),
        (";Holding something\n", "v1-train.csv:1: no id"),
        (
            "7;Holding sth\n",
            "train.csv:1: 'Holding sth' is none of the 3 classes of .*labels.csv. Did",
        ),
        ("7;Poking & co\n9;Poking & co\n7;Holding something\n", "'7': line 1: .*; line 3: "),
    ],
)
def test_lists_that_do_not_fit(tmp_path, train, said):
    with pytest.raises(DataError, match=said):
        ssv1.load(grow(tmp_path, train=train), "train")


def test_names(tmp_path):
    with pytest.raises(
        UnknownNameError, match="split of ssv1 'validation'. Known: test, train, val"
    ):
        ssv1.load(tmp_path, "validation")
    with pytest.raises(
        DataError, match="ssv1: no annotation file.*something-something-v1-train.csv"
    ):
        ssv1.load(tmp_path, "train")
