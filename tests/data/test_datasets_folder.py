"""The reader of class folders on trees of empty files."""

import logging
from pathlib import Path

import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.data.datasets import folder


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


TREE = (
    "train/wave/clip 10.mp4",
    "train/wave/clip 2.MOV",
    "train/jump/frames3/1.jpg",
    "train/Run/x.webm",
    "val/wave/a.mp4",
    "val/jump/b.mp4",
    "test/Run/c.mp4",
    ".cache/x/y.mp4",
)


def test_classes_are_the_sorted_names_of_the_training_split(tmp_path, caplog):
    grow(tmp_path, *TREE)
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = folder.load(tmp_path, "train")
    assert index.class_names == ("Run", "jump", "wave")
    assert [(r.id, r.labels) for r in index.records] == [
        ("train/Run/x.webm", (0,)),
        ("train/jump/frames3", (1,)),
        ("train/wave/clip 2.MOV", (2,)),
        ("train/wave/clip 10.mp4", (2,)),
    ]
    assert index.records[0].path == str(tmp_path / "train/Run/x.webm")
    assert "4 clips of 3 classes: Run 1, jump 1, wave 2" in caplog.text


def test_other_splits_share_the_classes(tmp_path, caplog):
    grow(tmp_path, *TREE)
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        val = folder.load(tmp_path, "val")
    assert [(r.id, r.labels) for r in val.records] == [
        ("val/jump/b.mp4", (1,)),
        ("val/wave/a.mp4", (2,)),
    ]
    assert "Run 0, jump 1, wave 1" in caplog.text
    test = folder.load(tmp_path, "test")
    assert [r.labels for r in test.records] == [(0,)]
    assert test.class_names == val.class_names == ("Run", "jump", "wave")


def test_class_names_can_be_given(tmp_path):
    grow(tmp_path, "test/b/1.mp4", "test/a/2.mp4")
    index = folder.load(tmp_path, "test", class_names=["b", "a", "c"])
    assert index.class_names == ("b", "a", "c")
    assert [r.labels for r in index.records] == [(0,), (1,)]


def test_videos_takes_the_place_of_root(tmp_path):
    grow(tmp_path / "elsewhere", *TREE)
    index = folder.load(tmp_path / "nothing", "val", videos=tmp_path / "elsewhere")
    assert [r.id for r in index.records] == ["val/jump/b.mp4", "val/wave/a.mp4"]


def test_many_classes_are_logged_in_part(tmp_path, caplog):
    grow(tmp_path, *(f"train/c{i:02d}/a.mp4" for i in range(12)))
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        folder.load(tmp_path, "train")
    assert "12 clips of 12 classes: c00 1," in caplog.text
    assert "c09 1 and 2 more" in caplog.text


def test_missing_root(tmp_path):
    with pytest.raises(DataError) as caught:
        folder.load(tmp_path / "none", "train")
    said = str(caught.value)
    assert f"{tmp_path / 'none/train'}: no class folders there" in said
    assert f"{tmp_path / 'none'} holds nothing, it does not exist" in said
    assert str(tmp_path / "none/train/CLASS/clip.mp4") in said


def test_no_level_of_splits_is_not_guessed(tmp_path):
    grow(tmp_path, "cats/1.mp4", "dogs/2.mp4")
    with pytest.raises(DataError) as caught:
        folder.load(tmp_path, "train")
    assert "holds cats/, dogs/" in str(caught.value)
    assert "which clips train and which validate is not guessed" in str(caught.value)


def test_other_names_for_splits(tmp_path, caplog):
    grow(tmp_path, "Training/cats/1.mp4", "Training/cats/2.v1/1.jpg", "Validation/cats/1.webm")
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        train, val = folder.load(tmp_path, "train"), folder.load(tmp_path, "val")
    assert [r.id for r in train.records] == ["Training/cats/1.mp4", "Training/cats/2.v1"]
    assert [r.id for r in val.records] == ["Validation/cats/1.webm"]
    assert (
        f"{tmp_path / 'Validation'}: detected as the split 'val', a folder a class" in caplog.text
    )
    assert "cats 2 (1 .mp4, 1 folders of images)" in caplog.text


def test_two_folders_for_a_split(tmp_path):
    grow(tmp_path, "train/cats/1.mp4", "valid/cats/1.mp4", "dev/cats/2.mp4")
    with pytest.raises(DataError, match="which of dev, valid is the split 'val'. Call it val"):
        folder.load(tmp_path, "val")


def test_a_name_that_is_like_a_splits(tmp_path):
    grow(tmp_path, "trainset/cats/1.mp4")
    with pytest.raises(DataError, match="Rename 'trainset' to 'train'?"):
        folder.load(tmp_path, "train")


def test_a_table_is_for_another_reader(tmp_path):
    grow(tmp_path, "clips/1.mp4", "train.csv")
    with pytest.raises(DataError, match="If train.csv lists the clips.*use dataset 'table'"):
        folder.load(tmp_path, "train")


def test_a_missing_split_says_what_is_there(tmp_path):
    grow(tmp_path, "train/cats/1.mp4")
    with pytest.raises(DataError, match=f"{tmp_path} holds train/.\n") as caught:
        folder.load(tmp_path, "val")
    assert "guessed" not in str(caught.value)


def test_clips_without_class_folders(tmp_path):
    grow(tmp_path, "train/1.mp4", "train/2.mp4")
    with pytest.raises(DataError, match="train: no class folders there; .*holds 1.mp4, 2.mp4"):
        folder.load(tmp_path, "train")


def test_empty_class_folder_is_named(tmp_path):
    grow(tmp_path, *TREE)
    (tmp_path / "val/Run").mkdir()
    with pytest.raises(DataError, match=r"val.Run: the class folder holds no clip.*it is empty"):
        folder.load(tmp_path, "val")


def test_a_class_that_training_does_not_have(tmp_path):
    grow(tmp_path, *TREE, "val/waves/1.mp4")
    with pytest.raises(DataError, match="1 of its class.*: waves. Did you mean 'wave'?.*Run, jump"):
        folder.load(tmp_path, "val")


def test_unknown_split(tmp_path):
    with pytest.raises(UnknownNameError, match="split of folder 'tests'.*'test'"):
        folder.load(tmp_path, "tests")


def test_annotations_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'folder' has no annotation file.*'a.csv'"):
        folder.load(tmp_path, "val", annotations="a.csv")
