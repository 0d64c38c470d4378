"""UCF101: its lists, its folds, its numbers from one."""

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data import class_lists
from jaxvid.data.datasets import ucf101

CLIPS = (
    "Tai Chi/v_TaiChi_g08_c01.avi",
    "Yo&Yo/v_Yo;Yo #2, b_g09_c12.avi",
    "Diving/v_Diving_g08_c02.avi",
)
CLASSES = "1 Diving\r\n2 Tai Chi\r\n3 Yo&Yo\r\n"
TRAIN = "".join(f"{clip} {n}\r\n" for clip, n in zip(CLIPS, (2, 3, 1), strict=True))
TEST = "Diving/v_Diving_g01_c01.avi\r\n\r\n"


def grow(root, lists="ucfTrainTestlist", videos="UCF-101", **texts):
    texts = {"classInd": CLASSES, "trainlist01": TRAIN, "testlist01": TEST, **texts}
    for clip in (*CLIPS, "Diving/v_Diving_g01_c01.avi"):
        (root / videos / clip).parent.mkdir(parents=True, exist_ok=True)
        (root / videos / clip).touch()
    (root / lists).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if text is not None:
            (root / lists / f"{name}.txt").write_text(text, newline="")
    return root


@pytest.mark.parametrize(
    "lists, videos", [("ucfTrainTestlist", "UCF-101"), (".", "."), ("annotations", "videos")]
)
def test_layouts(tmp_path, lists, videos):
    root = grow(tmp_path / "ucf 101", lists, videos)
    train, test = (ucf101.load(root, split) for split in ucf101.SPLITS)
    assert train.class_names == test.class_names == ("Diving", "Tai Chi", "Yo&Yo")
    assert [r.id for r in train.records] == list(CLIPS)
    assert [r.labels for r in train.records] == [(1,), (2,), (0,)]
    assert [r.path for r in train.records] == [str(root / videos / clip) for clip in CLIPS]
    assert train.records[0].extra["group"] == "Tai Chi g08" != train.records[2].extra["group"]
    assert [(r.id, r.labels) for r in test.records] == [("Diving/v_Diving_g01_c01.avi", (0,))]
    assert ucf101.load(root, "val") == test


def test_folds(tmp_path):
    root = grow(tmp_path, testlist03=CLIPS[0] + "\n")
    assert [r.id for r in ucf101.load(root, "test", fold=3).records] == [CLIPS[0]]
    with pytest.raises(DataError, match="no annotation file.*testlist02.txt"):
        ucf101.load(root, "test", fold=2)
    with pytest.raises(UnknownNameError, match="fold of UCF101 '0'. Known: 1, 2, 3"):
        ucf101.load(root, "test", fold=0)


def test_places_given(tmp_path):
    root = grow(tmp_path, "my lists", "my videos")
    index = ucf101.load(
        tmp_path / "no", "train", annotations=root / "my lists", videos=root / "my videos"
    )
    assert len(index) == 3 and index.class_names[1] == "Tai Chi"


def test_numbers_from_zero(tmp_path):
    zero = "".join(f"{clip} {n}\n" for clip, n in zip(CLIPS, (1, 2, 0), strict=True))
    for classes in (CLASSES, "0 Diving\n1 Tai Chi\n2 Yo&Yo\n"):
        index = ucf101.load(grow(tmp_path, classInd=classes, trainlist01=zero), "train")
        assert [r.labels for r in index.records] == [(1,), (2,), (0,)]


def test_the_shipped_classes(tmp_path):
    root = grow(tmp_path, classInd=None)
    index = ucf101.load(root, "test")
    assert index.class_names == class_lists.load("ucf101")
    assert index.class_names[index.records[0].labels[0]] == "Diving"


@pytest.mark.parametrize(
    "train, said",
    [
        ("", "trainlist01.txt: the list is empty"),
        (
            "Divin/v.avi 1\n",
            "trainlist01.txt:1: 'Divin' is none of the 3 classes of .*classInd.txt. Did",
        ),
        ("v.avi 1\n", "trainlist01.txt:1: '' is none of the 3 classes"),
        (f"{CLIPS[2]} 3\n", "has number 3, expected that of class 'Diving' of .*: 1"),
        (f"{CLIPS[2]} 1\n{CLIPS[0]} 1\n", "trainlist01.txt:2: .* number 1, expected .*: 2"),
        (f"{CLIPS[2]} 0\n{CLIPS[0]} 2\n", "trainlist01.txt:2: .* number 2, expected .*: 1"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, train, said):
    with pytest.raises(DataError, match=said):
        ucf101.load(grow(tmp_path, trainlist01=train), "train")


def test_missing_repeated_and_recoded(tmp_path, caplog):
    root = grow(tmp_path, trainlist01=TRAIN + TRAIN)
    (root / "UCF-101" / CLIPS[0]).unlink()
    with pytest.raises(DataError, match="ucf101: 1 of 3 files are missing"):
        ucf101.load(root, "train")
    assert len(ucf101.load(root, "train", max_missing=0.5)) == 2
    assert "3 duplicate rows left out" in caplog.text
    other = (root / "UCF-101" / CLIPS[0]).with_suffix(".mp4")
    other.touch()
    assert ucf101.load(root, "train").records[0].path == str(other)


def test_split(tmp_path):
    with pytest.raises(UnknownNameError, match="split of ucf101 'dev'.*Known: test, train"):
        ucf101.load(tmp_path, "dev")
