"""HMDB51: lists a class, flags, names that hold everything a name can."""

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data.datasets import hmdb51

ODD = "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"
NAMES = ("A & B; (c) [d], 1.avi", ODD, "third one.avi", "é 2.avi")
LISTS = {
    "clap_test_split1": f"{NAMES[0]} 1 \r\n{ODD} 2 \r\n\r\n{NAMES[2]} 0 \r\n",
    "clap_test_split2": f"{NAMES[0]} 2\n{ODD} 1\n{NAMES[2]} 0\n",
    "brush_hair_test_split1": f"{NAMES[3]} 1\n",
    "brush_hair_test_split2": f"{NAMES[3]} 1\n",
}


def grow(root, lists="testTrainMulti_7030_splits", videos="hmdb51_org", **texts):
    for clip in (*(f"clap/{n}" for n in NAMES[:3]), f"brush_hair/{NAMES[3]}"):
        (root / videos / clip).parent.mkdir(parents=True, exist_ok=True)
        (root / videos / clip).touch()
    (root / lists).mkdir(parents=True, exist_ok=True)
    for name, text in {**LISTS, **texts}.items():
        (root / lists / f"{name}.txt").write_text(text, newline="")
    return root


@pytest.mark.parametrize(
    "lists, videos",
    [("testTrainMulti_7030_splits", "hmdb51_org"), ("splits", "."), (".", "videos")],
)
def test_layouts(tmp_path, lists, videos):
    root = grow(tmp_path / "h 51", lists, videos)
    train = hmdb51.load(root, "train")
    assert train.class_names == ("brush_hair", "clap")
    assert [(r.id, r.labels) for r in train.records] == [
        (f"brush_hair/{NAMES[3]}", (0,)),
        (f"clap/{NAMES[0]}", (1,)),
    ]
    assert [r.path for r in train.records] == [str(root / videos / r.id) for r in train.records]
    test = hmdb51.load(root, "test")
    assert [r.id for r in test.records] == [f"clap/{ODD}"] and test.class_names == train.class_names
    assert hmdb51.load(root, "val") == test


def test_folds(tmp_path):
    root = grow(tmp_path)
    assert [r.id for r in hmdb51.load(root, "test", fold=2).records] == [f"clap/{NAMES[0]}"]
    said = "2 of 2 classes have no list for fold 3; the first is 'brush_hair', which has brush_hair_test"
    with pytest.raises(DataError, match=said):
        hmdb51.load(root, "test", fold=3)
    with pytest.raises(UnknownNameError, match="fold of HMDB51 '4'. Known: 1, 2, 3"):
        hmdb51.load(root, "test", fold=4)


def test_places_given(tmp_path):
    root = grow(tmp_path, "my lists", "my videos")
    places = {"annotations": root / "my lists", "videos": root / "my videos"}
    assert len(hmdb51.load(tmp_path / "no", "train", **places)) == 2


def test_missing_repeated_and_recoded(tmp_path, caplog):
    text = LISTS["clap_test_split1"]
    root = grow(tmp_path, clap_test_split1=text + text)
    assert len(hmdb51.load(root, "train")) == 2
    assert "1 duplicate rows left out" in caplog.text
    (root / "hmdb51_org/clap" / NAMES[0]).rename(root / "hmdb51_org/clap/A & B; (c) [d], 1.mp4")
    assert hmdb51.load(root, "train").records[1].path.endswith(", 1.mp4")
    (root / "hmdb51_org/clap/A & B; (c) [d], 1.mp4").unlink()
    with pytest.raises(DataError, match="hmdb51: 1 of 2 files are missing"):
        hmdb51.load(root, "train")
    assert len(hmdb51.load(root, "train", max_missing=0.5)) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("a.avi 3\n", "clap_test_split1.txt:1: 'a.avi 3', expected a file name and 1 .train., 2 "),
        ("a.avi\n", "clap_test_split1.txt:1: 'a.avi', expected a file name"),
        ("1\n", "clap_test_split1.txt:1: '1', expected a file name"),
        (
            "a.avi 1\nb.avi 0\na.avi 2\n",
            "split1.txt:3: 'a.avi' is of test here and of train in line 1",
        ),
        (
            "a.avi 0\na.avi 2\n",
            "split1.txt:2: 'a.avi' is of test here and of neither split in line 1",
        ),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        hmdb51.load(grow(tmp_path, clap_test_split1=text), "train")


def test_nothing_there(tmp_path):
    with pytest.raises(
        DataError, match="hmdb51: no lists CLASS_test_split1.txt in .*; it holds nothing"
    ):
        hmdb51.load(tmp_path, "train")
    unused = {name: "third one.avi 0\n" for name in LISTS}
    with pytest.raises(DataError, match="no clip of the train split in the lists of fold 1"):
        hmdb51.load(grow(tmp_path, **unused), "train")
    with pytest.raises(UnknownNameError, match="split of hmdb51 'dev'.*Known: test, train"):
        hmdb51.load(tmp_path, "dev")
