"""Copies of training clips among those of an evaluation, in files that the test writes."""

import os
from pathlib import Path

from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import file_facts
from jaxvid.evaluate import duplicates


def index(root: Path, **files):
    """Records of files with these contents; None: there is no such file."""
    records = []
    for name, content in files.items():
        path = root / name
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        records.append(VideoRecord(str(path), name, (0,)))
    return DatasetIndex(tuple(records), ("a",))


def test_the_same_bytes_under_another_name(tmp_path):
    train = index(tmp_path / "train", a=b"11", b=b"22", c=b"22", gone=None)
    val = index(tmp_path / "val", x=b"22", y=b"23", z=b"223", gone=None)
    assert duplicates.copies(val, train) == {0: str(tmp_path / "train" / "b")}


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    read = []
    real = file_facts.content_hash
    monkeypatch.setattr(
        duplicates, "content_hash", lambda path: read.append(Path(path).name) or real(path)
    )
    train = index(tmp_path / "train", a=b"1", b=b"1", c=b"12")
    val = index(tmp_path / "val", x=b"123", y=b"77")
    assert duplicates.copies(val, train) == {}
    assert sorted(read) == ["c", "y"]


def test_folders_of_frames(tmp_path):
    for name, last in (("train/a", b"2"), ("val/same", b"2"), ("val/other", b"3")):
        for number, content in ((1, b"1"), (10, last)):
            index(tmp_path / name, **{f"frame{number}.jpg": content})
    folders = {
        split: tuple(
            VideoRecord(str(tmp_path / split / name), name, (0,))
            for name in sorted(os.listdir(tmp_path / split))
        )
        for split in ("train", "val")
    }
    train, val = (DatasetIndex(folders[split], ("a",)) for split in ("train", "val"))
    assert duplicates.copies(val, train) == {1: str(tmp_path / "train" / "a")}


def test_other_stretches_of_one_video_are_no_copies(tmp_path):
    path = str(tmp_path / "long")
    Path(path).write_bytes(b"1")
    train = DatasetIndex((VideoRecord(path, "t", (0,), 0.0, 5.0),), ("a",))
    val = DatasetIndex(
        (VideoRecord(path, "v", (0,), 5.0, 9.0), VideoRecord(path, "w", (0,), 0.0, 5.0)), ("a",)
    )
    assert duplicates.copies(val, train) == {1: path}


def test_what_is_known_of_contents_stands_in_for_the_files(tmp_path):
    train, val = index(tmp_path, a=None, b=None, c=None), index(tmp_path, x=None, y=None, z=None)
    known = {"a": "one", "b": "two", "c": None, "x": "two", "y": "three", "z": None}
    found = duplicates.copies(val, train, content_of=lambda path: known[Path(path).name])
    assert found == {0: str(tmp_path / "b")}
