"""The RWF-2000 reader on trees of empty files: it lists, it never decodes."""

import logging
from pathlib import Path

import pytest

from jaxvid.core import lookup
from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.data.datasets import rwf2000


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


OLD = (
    "train/Fight/v10.avi",
    "train/Fight/v2.avi",
    "train/NonFight/two words #1.AVI",
    "val/Fight/a.mp4",
    "val/NonFight/b.MkV",
)
NEW = (
    "train/Train_Fight/v10.avi",
    "train/Train_Fight/v2.avi",
    "train/Train_NonFight/n.avi",
    "val/Val_Fight/a.avi",
    "val/Val_NonFight/b.avi",
)
FRAMES = (
    "train/Fight/clip10/frame1.jpg",
    "train/Fight/clip2/frame10.jpg",
    "train/Fight/clip2/frame2.jpg",
    "train/NonFight/n 1/frame1.PNG",
    "val/Fight/a/frame1.jpg",
    "val/NonFight/b/frame1.jpg",
)


@pytest.mark.parametrize(
    "files, train_ids",
    [
        (OLD, ["NonFight/two words #1.AVI", "Fight/v2.avi", "Fight/v10.avi"]),
        (NEW, ["Train_NonFight/n.avi", "Train_Fight/v2.avi", "Train_Fight/v10.avi"]),
        (FRAMES, ["NonFight/n 1", "Fight/clip2", "Fight/clip10"]),
    ],
    ids=["older", "newer", "frames"],
)
def test_three_layouts_in_natural_order(tmp_path, files, train_ids):
    index = rwf2000.load(grow(tmp_path, *files), "train")
    assert [r.id for r in index.records] == ["train/" + name for name in train_ids]
    assert [r.path for r in index.records] == [str(tmp_path / r.id) for r in index.records]
    assert [r.labels for r in index.records] == [(0,), (1,), (1,)]
    assert index.class_names == ("NonFight", "Fight")
    val = rwf2000.load(tmp_path, "val")
    assert [r.labels for r in val.records] == [(0,), (1,)]
    assert not {r.id for r in val.records} & {r.id for r in index.records}


def test_the_set_is_found_by_its_name():
    assert lookup.module("dataset", "rwf2000") is rwf2000
    assert {"rwf2000", "folder", "synthetic"} <= set(lookup.names("dataset"))
    assert not any(name.startswith("_") for name in lookup.names("dataset"))


def test_case_of_folders_and_the_archive_folder_do_not_matter(tmp_path):
    grow(tmp_path, "RWF-2000/train/fight/a.avi", "RWF-2000/Train/nonFight/b.avi")
    if not (tmp_path / "RWF-2000" / "Train" / "fight").exists():  # a file system that tells case
        (tmp_path / "RWF-2000/Train/nonFight").rename(tmp_path / "RWF-2000/train/nonFight")
    ids = [r.id for r in rwf2000.load(tmp_path, "train").records]
    assert ids == ["RWF-2000/train/nonFight/b.avi", "RWF-2000/train/fight/a.avi"]


def test_hidden_and_other_files_are_passed_over_and_logged(tmp_path, caplog):
    grow(tmp_path, *OLD, "train/Fight/.DS_Store", "train/Fight/._v2.avi", "train/Fight/.x/1.jpg")
    grow(tmp_path, "train/Fight/notes.txt", "train/Fight/cut/notes.txt", "train/.hidden/a.avi")
    with caplog.at_level(logging.INFO, "jaxvid.data"):
        index = rwf2000.load(tmp_path, "train")
    assert len(index) == 3
    assert "files that are no videos passed over: " in caplog.text
    assert "1 folders without images passed over, the first is cut; videos count" in caplog.text
    assert "1 NonFight, 2 Fight" in caplog.text


def test_videos_takes_the_place_of_root(tmp_path):
    grow(tmp_path / "elsewhere", *OLD)
    index = rwf2000.load(tmp_path / "nothing", "val", videos=tmp_path / "elsewhere")
    assert [r.id for r in index.records] == ["val/NonFight/b.MkV", "val/Fight/a.mp4"]


def test_missing_root_says_where_it_looked_and_what_to_do(tmp_path):
    root = tmp_path / "data" / "rwf2000"
    with pytest.raises(DataError) as caught:
        rwf2000.load(root, "val")
    said = str(caught.value)
    for path in ("val/Fight", "val/NonFight", "val/Val_Fight", "RWF-2000/val/Val_NonFight"):
        assert f"{root / path}: not there" in said
    assert f"{root} holds nothing, it does not exist" in said
    assert "mchengny/RWF2000-Video-Database-for-Violence-Detection" in said
    assert "15687512" in said and "9.4 GB" in said and "CC-BY-4.0" in said
    assert "non-commercial" in said and "Nothing is downloaded" in said
    assert "python -m jaxvid.main --config configs/quickstart.py" in said


def test_another_layout_says_what_is_there(tmp_path):
    grow(tmp_path, "train/Fight/a.avi", "train/Peace/b.avi")
    with pytest.raises(DataError) as caught:
        rwf2000.load(tmp_path, "train")
    assert f"{tmp_path / 'train/Fight'}: there" in str(caught.value)
    assert f"{tmp_path / 'train/NonFight'}: not there" in str(caught.value)
    assert f"{tmp_path} holds train/." in str(caught.value)


def test_a_file_for_a_root(tmp_path):
    (tmp_path / "rwf.zip").touch()
    with pytest.raises(DataError, match=r"rwf.zip holds nothing, it is a file"):
        rwf2000.load(tmp_path / "rwf.zip", "train")


def test_empty_class_folder_is_named(tmp_path):
    grow(tmp_path, "train/Fight/a.avi", "train/NonFight/.DS_Store")
    with pytest.raises(DataError, match=r"NonFight: the class folder holds no clip.*it is empty"):
        rwf2000.load(tmp_path, "train")


def test_images_without_a_folder_are_no_clip(tmp_path):
    images = [f"train/NonFight/frame{i}.jpg" for i in range(12)]
    grow(tmp_path, "train/Fight/a.avi", *images)
    with pytest.raises(DataError, match=r"for each clip, a folder of images. .*frame9.jpg and 2 m"):
        rwf2000.load(tmp_path, "train")


def test_unknown_split(tmp_path):
    with pytest.raises(UnknownNameError, match="split of rwf2000 'vla'.*'val'.*train, val"):
        rwf2000.load(tmp_path, "vla")


def test_annotations_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'rwf2000' has no annotation file.*'list.csv'"):
        rwf2000.load(tmp_path, "val", annotations="list.csv")
