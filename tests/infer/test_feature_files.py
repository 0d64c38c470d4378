"""Files of features, as they are read and refused."""

import numpy as np
import pytest

from jaxvid.core.errors import DataError
from jaxvid.infer.feature_files import FeatureFiles


def files(*paths, frames=4, clips=1):
    return FeatureFiles(tuple(map(str, paths)), frames, 3, clips)


def test_rows_are_spread_over_the_file(tmp_path):
    rows = np.arange(24.0).reshape(8, 3)
    np.save(tmp_path / "a.npy", rows)
    clip = files(tmp_path / "a.npy", clips=2).load(0, None)
    assert clip["features"].shape == (2, 4, 3) and clip["features"].dtype == np.float32
    np.testing.assert_array_equal(clip["features"], [rows[0::2], rows[1::2]])
    assert clip["mask"] and clip["label"].tolist() == [-1]


def test_one_row_for_the_whole_video(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, 2, 3]))
    clip = files(tmp_path / "a.npy").load(0, None)
    np.testing.assert_array_equal(clip["features"], np.tile([1.0, 2.0, 3.0], (1, 4, 1)))


@pytest.mark.parametrize(
    "array, words",
    [
        (np.zeros((5, 4)), r"features of shape \(5, 4\), expected \(frames, 3\)"),
        (np.zeros((0, 3)), r"features of shape \(0, 3\), expected"),
        (np.array(["a"] * 3), "expected one .npy array of numbers"),
    ],
)
def test_arrays_that_are_none(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=words):
        files(tmp_path / "a.npy").load(0, None)


def test_files_that_are_none(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"no array")
    for name in ("video.mp4", "absent.npy"):
        with pytest.raises(DataError, match=rf"{name}: no features can be read there .*\.npy file"):
            files(tmp_path / name).load(0, None)
