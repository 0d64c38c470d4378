"""Moments in Time and its edition with several labels a clip."""

import pytest

from jaxvid.core.errors import DataError, UnknownNameError
from jaxvid.data import class_lists
from jaxvid.data.datasets import moments_in_time

CLASSES = "clapping,0\r\nadult+female+singing,1\r\nplaying fun,2\r\n"
CLIPS = ("playing fun/a, b #1.mp4", "adult+female+singing/c;&.mp4", "clapping/é.mp4")
TRAIN = (
    f"{CLIPS[0]},playing fun,3,1\r\n\r\n"  # the comma is nobody's quoted
    f'"{CLIPS[1]}",adult+female+singing,4,0\r\n{CLIPS[2]},clapping,3,0\r\n'
)


def grow(root, clips=CLIPS, videos="training", **texts):
    texts = {"trainingSet.csv": TRAIN, "moments_categories.txt": CLASSES, **texts}
    for clip in clips:
        (root / videos / clip).parent.mkdir(parents=True, exist_ok=True)
        (root / videos / clip).touch()
    for name, text in texts.items():
        if text is not None:
            (root / name).write_text(text, newline="", encoding="utf-8-sig")
    return root


@pytest.mark.parametrize("videos", ["training", ".", "videos/training"])
def test_train(tmp_path, videos):
    root = grow(tmp_path / "mo ments", videos=videos)
    index = moments_in_time.load(root, "train")
    assert index.class_names == ("clapping", "adult+female+singing", "playing fun")
    assert not index.multilabel
    assert [r.id for r in index.records] == list(CLIPS)
    assert [r.labels for r in index.records] == [(2,), (1,), (0,)]
    assert [r.path for r in index.records] == [str(root / videos / clip) for clip in CLIPS]


def test_val(tmp_path):
    root = grow(tmp_path, CLIPS[:1], "validation", **{"validationSet.csv": TRAIN.split("\r\n")[0]})
    index = moments_in_time.load(root, "val")
    assert [r.labels for r in index.records] == [(2,)] and len(index.class_names) == 3


def test_classes_counted_from_one(tmp_path):
    classes = "clapping,1\nadult+female+singing,2\nplaying fun,3\n"
    root = grow(tmp_path, **{"moments_categories.txt": classes})
    assert [r.labels for r in moments_in_time.load(root, "train").records] == [(2,), (1,), (0,)]
    numbers = f"{CLIPS[1]},2\n{CLIPS[2]},1\n"
    grow(root, **{"trainingSet.csv": numbers, "moments_categories.txt": classes})
    assert [r.labels for r in moments_in_time.load(root, "train").records] == [(1,), (0,)]


def test_several_labels(tmp_path):
    names = ("a, b.mp4", "c.mp4")
    text = f"{names[0]},2,0\n{names[1]},1\n"
    index = moments_in_time.load(
        grow(tmp_path, names, "videos", **{"trainingSet.csv": text}), "train"
    )
    assert index.multilabel and [r.labels for r in index.records] == [(0, 2), (1,)]
    (tmp_path / "moments_categories.txt").unlink()
    with pytest.raises(
        DataError, match="several numbers a clip, and there is no moments_categories"
    ):
        moments_in_time.load(tmp_path, "train")


def test_the_shipped_classes(tmp_path):
    text = f"{CLIPS[2]},clapping,3\n"
    root = grow(tmp_path, **{"trainingSet.csv": text, "moments_categories.txt": None})
    index = moments_in_time.load(root, "train")
    assert index.class_names == class_lists.load("moments_in_time")
    assert index.records[0].labels == (0,)


def test_numbers_mean_nothing_without_the_sets_own_list(tmp_path):
    lines = {"trainingSet.csv": f"{CLIPS[2]},0\n", "moments_categories.txt": None}
    with pytest.raises(DataError, match="trainingSet.csv:1: '0' is none of the 339 classes"):
        moments_in_time.load(grow(tmp_path, **lines), "train")


def test_test_without_labels(tmp_path):
    root = grow(tmp_path, ("x.mp4",), "testing", **{"testingSet.csv": "x.mp4\n"})
    assert moments_in_time.load(root, "test").records[0].labels == ()


def test_places_given(tmp_path):
    root = grow(tmp_path, videos="clips of/train")
    places = {"annotations": f"{root}/trainingSet.csv", "videos": f"{root}/clips of/{{split}}"}
    index = moments_in_time.load(tmp_path / "no", "train", **places)
    assert len(index) == 3 and len(index.class_names) == 3


def test_missing_and_repeated(tmp_path, caplog):
    root = grow(tmp_path, CLIPS[:2], **{"trainingSet.csv": TRAIN + TRAIN})
    with pytest.raises(DataError, match="moments_in_time: 1 of 3 files are missing"):
        moments_in_time.load(root, "train")
    assert len(moments_in_time.load(root, "train", max_missing=0.4)) == 2
    assert "3 duplicate rows left out" in caplog.text


@pytest.mark.parametrize(
    "text, said",
    [
        ("\n", "trainingSet.csv: the list is empty"),
        (f"{CLIPS[2]}\n", "trainingSet.csv:1: 'clapping/é.mp4' has no label"),
        (",clapping\n", "trainingSet.csv:1: no file name"),
        (
            f"{CLIPS[2]},claping,3\n",
            "trainingSet.csv:1: 'claping' is none of the 3 classes .* Did you",
        ),
        (f"{CLIPS[2]},3\n", "trainingSet.csv:1: label 3, expected 0 to 2 .3 classes."),
        (f"{CLIPS[2]},-1\n", "trainingSet.csv:1: '-1' is none of the 3 classes"),
        (
            f"{CLIPS[2]},0,2\n",
            "trainingSet.csv:1: 'clapping/é.mp4' has a class folder, for one label, and 2 numbers",
        ),
        ("a.mp4,1\nb.mp4,1,7\n", "trainingSet.csv:2: label 7, expected 0 to 2"),
        (f"{CLIPS[2]},0\n{CLIPS[2]},1\n", "'clapping/é.mp4': line 1: .*; line 2: "),
    ],
)
def test_lists_that_do_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        moments_in_time.load(grow(tmp_path, **{"trainingSet.csv": text}), "train")


def test_names(tmp_path):
    with pytest.raises(
        UnknownNameError, match="split of moments_in_time 'validation'. Known: test, train, val"
    ):
        moments_in_time.load(tmp_path, "validation")
    with pytest.raises(DataError, match="moments_in_time: no annotation file.*trainingSet.csv"):
        moments_in_time.load(tmp_path, "train")
