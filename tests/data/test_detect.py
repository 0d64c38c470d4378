import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data import detect


def grow(root, *files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_set_of_its_own_comes_before_folders_of_classes(tmp_path):
    """Its layout is one of class folders too."""
    grow(
        tmp_path,
        "train/Fight/a.mp4",
        "train/NonFight/b.mp4",
        "val/Fight/c.mp4",
        "val/NonFight/d.mp4",
    )
    assert detect.detect(tmp_path) == "rwf2000"


def test_folders_of_classes(tmp_path, caplog):
    grow(tmp_path, "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")
    (tmp_path / "train/run/empty").mkdir()  # of which the reader would warn
    assert detect.detect(str(tmp_path)) == "folder"
    assert not caplog.records
    assert not detect._log.disabled


def test_paths_and_numbers_at_commas_are_no_moments_in_time(tmp_path):
    grow(tmp_path, "run/a.mp4", "walk/b.mp4")
    (tmp_path / "train.csv").write_text("run/a.mp4,0\nwalk/b.mp4,1\n")
    assert detect.detect(tmp_path) == "path_list"


def test_nothing_fits(tmp_path):
    grow(tmp_path, "readme.txt")
    with pytest.raises(
        DataError, match=r"fits no dataset .* Lay it out as .*train/CLASS/clip\.mp4"
    ):
        detect.detect(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist; give the folder"):
        detect.detect(tmp_path / "nowhere")
    with pytest.raises(DataError, match="a.txt is a file; give the folder"):
        detect.detect(grow(tmp_path, "a.txt") / "a.txt")


def test_several_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "fits", lambda name, root: name in ("rwf2000", "hmdb51", "folder"))
    monkeypatch.setattr(detect.lookup, "names", lambda kind: ["folder", "hmdb51", "rwf2000"])
    with pytest.raises(
        ConfigError, match="as hmdb51 and as rwf2000: say which with --dataset NAME"
    ):
        detect.detect(tmp_path)
