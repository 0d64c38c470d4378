"""The generated data set: real files, whole or not at all, the same every time."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.data.datasets import synthetic
from jaxvid.data.datasets._scene import render

SMALL = {"clips_per_class": {"train": 2, "val": 1}, "num_frames": 5, "size": 32}


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "some where" / "set"
    return synthetic.generate(root, **SMALL)


def test_layout_and_records(made):
    index = synthetic.load(made, "train")
    assert index.class_names == ("left", "right", "approaching", "receding")
    assert [(r.id, r.labels[0]) for r in index.records] == [
        (f"train/{name}/{k:04d}.mp4", label)
        for label, name in enumerate(index.class_names)
        for k in range(2)
    ]
    assert len(synthetic.load(made, "val", **SMALL)) == 4
    assert sorted(p.name for p in made.iterdir()) == ["synthetic.json", "train", "val"]
    assert [p.name for p in made.parent.iterdir()] == ["set"]  # no draft is left behind


def test_files_show_the_scene(made):
    path = made / "train/receding/0001.mp4"
    shown = frames_of(path)
    wanted = render("receding", (0, 0, 3, 1), num_frames=5, size=32)
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(float) - wanted).mean() < 6  # colour at half resolution
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 10
        assert all(p.is_keyframe for p in container.demux(video=0) if p.size)


def test_no_two_clips_show_one_scene(made):
    clips = [frames_of(p) for p in sorted(made.rglob("*.mp4"))]
    for i, a in enumerate(clips):
        for b in clips[:i]:
            assert not np.array_equal(a, b) and not np.array_equal(a[::-1], b)


def test_coding_does_not_tell_the_direction(tmp_path):
    clip = render("left", 1, num_frames=6, size=32)
    synthetic._write_video(tmp_path / "a.mp4", clip, 10)
    synthetic._write_video(tmp_path / "b.mp4", clip[::-1], 10)
    np.testing.assert_array_equal(
        frames_of(tmp_path / "a.mp4")[::-1], frames_of(tmp_path / "b.mp4")
    )


def test_the_seed_decides(made, tmp_path):
    assert content(synthetic.generate(tmp_path / "same", **SMALL)) == content(made)
    other = content(synthetic.generate(tmp_path / "other", **SMALL, seed=1))
    assert other.keys() == content(made).keys()
    assert all(other[name] != data for name, data in content(made).items())


def test_a_second_call_writes_nothing(tmp_path):
    root = tmp_path / "set"
    index = synthetic.load(root, "train", **SMALL)  # an option of load generates
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert synthetic.load(root, "train", **SMALL) == index == synthetic.load(root, "train")
    assert synthetic.generate(root, **SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == times


def test_an_empty_root_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert len(synthetic.load(tmp_path / "set", "val", **SMALL)) == 4


def test_other_content_is_left_alone(tmp_path):
    (tmp_path / "holiday.mp4").write_text("precious")
    for write in (synthetic.generate, lambda root: synthetic.load(root, "train")):
        with pytest.raises(DataError, match="is no empty folder.*it holds holiday.mp4"):
            write(tmp_path)
    with pytest.raises(DataError, match="holds nothing, it is a file"):
        synthetic.generate(tmp_path / "holiday.mp4")
    assert content(tmp_path) == {"holiday.mp4": b"precious"}


def test_other_parameters(made):
    with pytest.raises(DataError, match="size is 32 there, asked for is 48.* Delete it"):
        synthetic.load(made, "val", size=48)
    with pytest.raises(DataError, match="num_frames is 5 there, .*16; size is 32 there") as caught:
        synthetic.generate(made)
    assert "seed" not in str(caught.value)


def test_another_generator(made, monkeypatch):
    monkeypatch.setattr(synthetic, "GENERATOR", 99)
    with pytest.raises(DataError, match="generator is 1 there, asked for is 99"):
        synthetic.load(made, "val")


def test_missing_clips(tmp_path):
    root = synthetic.generate(tmp_path / "set", **SMALL)
    (root / "train/left/0001.mp4").unlink()
    with pytest.raises(DataError, match="train: holds 7 clips, 8 were generated"):
        synthetic.load(root, "train")
    assert len(synthetic.load(root, "train", max_missing=0.2)) == 7
    (root / "val/left/more.mp4").touch()
    with pytest.raises(DataError, match="val: holds 5 clips, 4 were generated"):
        synthetic.load(root, "val", max_missing=0.5)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"size": 32})])
def test_a_damaged_parameters_file(tmp_path, text):
    (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(DataError, match="synthetic.json: is not what the generator wrote.*delete"):
        synthetic.load(tmp_path, "val")


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, frames, fps):
        if path.name == "0001.mp4":
            raise OSError(28, "No space left on device", str(path))
        path.touch()

    monkeypatch.setattr(synthetic, "_write_video", full)
    with pytest.raises(OSError, match="No space left"):
        synthetic.generate(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once(made, tmp_path, monkeypatch):
    """The slower one finds the root filled when it comes to rename."""
    root = tmp_path / "set"
    move = synthetic._move

    def slow(draft, target):
        if not root.exists():
            shutil.copytree(made, root)
        move(draft, target)

    monkeypatch.setattr(synthetic, "_move", slow)
    assert len(synthetic.load(root, "val", **SMALL)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_rename_that_fails(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(synthetic.Path, "rename", refuse)
    with pytest.raises(PermissionError):
        synthetic.generate(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, said",
    [
        (
            {"clips_per_class": {"train": 3}},
            "clips_per_class is {'train': 3}, expected a number >= 1",
        ),
        ({"clips_per_class": {"train": 3, "val": 0}}, "for train and for val"),
        ({"num_frames": 1}, "num_frames is 1, expected >= 2"),
        ({"size": 33}, "size is 33, expected an even number"),
        ({"size": 8}, "size is 8, expected .* >= 16"),
        ({"seed": -1}, "seed is -1, expected >= 0"),
        ({"fps": 0}, "fps is 0.0, expected more than 0"),
    ],
)
def test_impossible_parameters(tmp_path, options, said):
    for write in (synthetic.generate, lambda root, **o: synthetic.load(root, "val", **o)):
        with pytest.raises(ConfigError, match=said):
            write(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_names(tmp_path):
    with pytest.raises(UnknownNameError, match="split of synthetic 'test'.*train, val"):
        synthetic.load(tmp_path, "test")
    with pytest.raises(UnknownNameError, match="option of synthetic 'frames'.*'num_frames'"):
        synthetic.load(tmp_path, "val", frames=3)
    with pytest.raises(ConfigError, match="'synthetic' has no annotation file"):
        synthetic.load(tmp_path, "val", annotations="a.csv")
    with pytest.raises(ConfigError, match="writes its own videos under root; got videos='b'"):
        synthetic.load(tmp_path, "val", videos="b")
