import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.pixel_statistics import pixel_statistics


@pytest.fixture
def index(tmp_path, write_video):
    """Two flat clips of other lengths, and a broken file."""
    records = []
    for name, colour, count in (("a", (40, 80, 120), 4), ("b", (200, 160, 120), 12)):
        frames = np.full((count, 32, 32, 3), colour, np.uint8)
        path = write_video(tmp_path / f"{name}.mkv", frames, 10, "ffv1", pix_fmt="bgr0")
        records.append(VideoRecord(str(path), name, (0,)))
    (tmp_path / "c.mkv").write_bytes(b"\x00\x01\x02\x03" * 99)
    records.append(VideoRecord(str(tmp_path / "c.mkv"), "c", (0,)))
    return DatasetIndex(tuple(records), ("run",))


def test_mean_and_deviation_of_all_pixels_each_clip_with_one_weight(index):
    told = pixel_statistics(index, threads=2)
    np.testing.assert_allclose(told.mean, np.array([120, 120, 120]) / 255, atol=1e-6)
    np.testing.assert_allclose(told.std, np.array([80, 40, 0]) / 255, atol=1e-6)
    assert told.clips == 2 and len(told.failed) == 1 and "c.mkv" in told.failed[0]


def test_segments_are_kept_to(tmp_path, write_video):
    levels = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 32 * 32 * 3).reshape(10, 32, 32, 3)
    path = write_video(tmp_path / "a.mkv", levels, 10, "ffv1", pix_fmt="bgr0")
    one = VideoRecord(str(path), "a", (0,), start_seconds=0.8)
    told = pixel_statistics(DatasetIndex((one,), ("run",)))
    np.testing.assert_allclose(told.mean, 212.5 / 255, atol=1e-6)  # frames 8 and 9
    np.testing.assert_allclose(told.std, 12.5 / 255, atol=1e-6)


def test_the_seed_decides_which_clips(index):
    sound = DatasetIndex(index.records[:2], index.class_names)
    means = {seed: pixel_statistics(sound, clips=1, seed=seed).mean for seed in range(8)}
    assert len(set(means.values())) == 2
    assert means[0] == pixel_statistics(sound, clips=1, seed=0).mean


def test_nothing_can_be_read(index):
    broken = DatasetIndex(index.records[2:], index.class_names)
    with pytest.raises(DataError, match="none of 1 sampled clips can be read; the first: .*c.mkv"):
        pixel_statistics(broken)
    with pytest.raises(DataError, match="none of 0 sampled clips can be read$"):
        pixel_statistics(DatasetIndex((), ("run",)))


def test_counts_below_one(index):
    with pytest.raises(ConfigError, match="clips is 0, frames 4, threads 1, expected at least 1"):
        pixel_statistics(index, clips=0)
