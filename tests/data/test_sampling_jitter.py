"""Speed, jitter of frames, and the target rate of the conventions that span a whole video."""

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoMeta, VideoRecord
from jaxvid.data.sampling import KINDS, Sampling, linspace, uniform


def rng(seed=0):
    return np.random.default_rng(seed)


def meta(num_frames, fps=10.0):
    return VideoMeta(num_frames, fps, 32, 32, num_frames / fps if fps else 0.0)


def record(start=0.0, end=None):
    return VideoRecord("fight.mp4", "fight", (0,), start, end)


def drawn(sampling, frames=200, times=300, fps=10.0):
    generator = rng()
    rows = [sampling.indices(meta(frames, fps), record(), generator) for _ in range(times)]
    return np.concatenate(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_jitters_keep_to_the_segment_and_its_order(kind):
    numbers = rng(1)
    for _ in range(200):
        samples, clips, reach = (int(numbers.integers(1, high)) for high in (20, 5, 9))
        settings = {"speed_jitter": (0.5, 2.0), "jitter_frames": reach, "target_fps": 7.0}
        sampling = Sampling(kind, samples, 2, clips, **settings)
        chosen = sampling.indices(meta(60), record(1.0, 4.0), numbers)
        assert chosen.shape == (clips, samples) and chosen.dtype == np.int64
        assert chosen.min() >= 10 and chosen.max() < 40
        assert (np.diff(chosen, axis=1) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_has_no_jitter_and_equal_rngs_have_equal_ones(kind):
    jittered = Sampling(kind, 8, 3, clips=2, speed_jitter=(0.5, 2.0), jitter_frames=5)
    plain = Sampling(kind, 8, 3, clips=2)
    np.testing.assert_array_equal(
        jittered.indices(meta(90), record(), None), plain.indices(meta(90), record(), None)
    )
    first, second = (jittered.indices(meta(90), record(), rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != plain.indices(meta(90), record(), rng(3))).any()
    assert (first != jittered.indices(meta(90), record(), rng(4))).any()


def test_a_dense_clip_is_played_at_every_speed_of_the_range():
    chosen = drawn(Sampling("dense", 9, 10, clips=2, speed_jitter=(0.5, 1.5)))
    strides = (chosen[:, -1] - chosen[:, 0]) / 8
    assert strides.min() < 5.3 and strides.max() > 14.7 and 9.5 < strides.mean() < 10.5
    steps = np.diff(chosen, axis=1)
    assert (np.ptp(steps, axis=1) <= 1).all(), "one speed for a whole clip"
    pairs = strides.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.2, "each clip has its own"


def test_a_slow_uniform_clip_is_a_part_of_the_video_anywhere():
    chosen = drawn(Sampling("linspace", 5, speed_jitter=(0.5, 0.5)))
    assert (chosen[:, -1] - chosen[:, 0] == 99).all()  # 100 of 200 frames
    assert chosen[:, 0].min() < 5 and chosen[:, 0].max() > 95
    whole = drawn(Sampling("linspace", 5, speed_jitter=(1.2, 2.0)), times=5)
    np.testing.assert_array_equal(whole, np.tile(linspace(200, 5), (5, 1)))
    slow = drawn(Sampling("uniform", 5, speed_jitter=(0.5, 1.0)))
    assert (slow[:, 0] < 10).any() and (slow[:, 0] > 60).any()


def test_frames_are_shifted_both_ways_and_no_further():
    still = linspace(200, 5)[0]  # 0 49 99 149 199
    shifts = drawn(Sampling("linspace", 5, jitter_frames=3)) - still
    assert set(shifts[:, 2].tolist()) == set(range(-3, 4))
    assert set(shifts[:, 0].tolist()) == set(range(4)), "cut off at the beginning"
    assert len(np.unique(shifts, axis=0)) > 100, "each frame on its own"


@pytest.mark.parametrize("kind", ["uniform", "linspace"])
@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 30.0, 60.0])
def test_a_target_rate_chooses_from_the_frames_of_that_rate(kind, fps):
    """Against the same convention on a video that really has the target rate of 12."""
    seconds = 7.0
    sampling = Sampling(kind, 6, clips=1, target_fps=12.0)
    chosen = sampling.indices(meta(round(seconds * fps), fps), record(), None)[0]
    convention = {"uniform": uniform, "linspace": linspace}[kind]
    at_12 = convention(84, 6)[0]
    shown_at = (at_12 + 0.5) / 12
    np.testing.assert_array_equal(chosen, np.floor(shown_at * fps + 1e-9).astype(int))


def test_a_short_video_is_stretched_to_the_target_rate_instead_of_padded():
    plain = Sampling("uniform", 8).indices(meta(4, fps=5.0), record(), None)
    np.testing.assert_array_equal(plain, [[0, 1, 2, 3, 3, 3, 3, 3]])
    stretched = Sampling("uniform", 8, target_fps=10.0).indices(meta(4, 5.0), record(), None)
    np.testing.assert_array_equal(stretched, [[0, 0, 1, 1, 2, 2, 3, 3]])


def test_a_target_rate_needs_the_files_rate():
    with pytest.raises(DataError, match=r"fight\.mp4: its frame rate is unknown \(0.0\).*None"):
        Sampling("uniform", 4, target_fps=10.0).indices(meta(16, fps=0.0), record(), None)


@pytest.mark.parametrize("speeds", [(1.1, 0.9), (0, 1), (1,), 1.0, ("a", "b"), (1, float("inf"))])
def test_wrong_speeds(speeds):
    with pytest.raises(ConfigError, match="speed_jitter is .*expected a pair .low, high. with"):
        Sampling("dense", 4, speed_jitter=speeds)


def test_wrong_jitter():
    with pytest.raises(ConfigError, match="jitter_frames is -1, expected an integer from 0"):
        Sampling("dense", 4, jitter_frames=-1)
