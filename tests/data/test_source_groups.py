import pytest

from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.source_groups import read_groups

INDICES = {
    "train": DatasetIndex((VideoRecord("/d/train/a, b.mp4", "train/a, b.mp4", (0,)),), ("run",)),
    "val": DatasetIndex((VideoRecord("/d/val/c.mp4", "val/c.mp4", (0,)),), ("run",)),
}


def test_clips_are_found_by_id(tmp_path):
    file = tmp_path / "clips.csv"
    file.write_bytes(
        b'label,path,source\r\nrun,"train/a, b.mp4",s1\r\nrun,val/c.mp4,\r\nrun,x,s3\r\n'
    )
    assert read_groups(file, INDICES) == {"train/a, b.mp4": "s1"}


def test_columns_that_are_not_there(tmp_path):
    file = tmp_path / "clips.csv"
    file.write_text("path,label\na,b\n")
    with pytest.raises(
        DataError, match="expected a column path or id and .* group or source; its .*path, label"
    ):
        read_groups(file, INDICES)
    file.write_text("path,group\n")
    with pytest.raises(DataError, match="its columns are none"):
        read_groups(file, INDICES)


def test_clips_of_another_set(tmp_path):
    file = tmp_path / "clips.csv"
    file.write_text("id,group\nc.mp4,s1\n")
    with pytest.raises(
        DataError, match="none of its 1 clips .* first is 'train/a, b.mp4'; .* 'c.mp4'"
    ):
        read_groups(file, INDICES)
