import dataclasses

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.core.record import VideoMeta, VideoRecord
from jaxvid.data.sampling import KINDS, Sampling, dense, linspace, segment_frames, uniform


def rng(seed=0):
    return np.random.default_rng(seed)


def meta(num_frames, fps=10.0):
    return VideoMeta(num_frames, fps, 32, 32, num_frames / fps if fps else 0.0)


def record(start=0.0, end=None):
    return VideoRecord("fight.mp4", "fight", (0,), start, end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_every_kind_gives_sorted_indices_in_range(kind, training):
    numbers = rng(1)
    for _ in range(300):
        frames, samples, clips = (int(numbers.integers(1, high)) for high in (120, 24, 6))
        sampling = Sampling(kind, samples, float(numbers.uniform(0.3, 5)), clips)
        chosen = sampling.indices(meta(frames), record(), numbers if training else None)
        assert chosen.shape == (clips, samples) and chosen.dtype == np.int64
        assert chosen.min() >= 0 and chosen.max() < frames
        assert (np.diff(chosen, axis=1) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_equal_rngs_give_equal_frames(kind):
    sampling = Sampling(kind, 4, 2, clips=3)
    for first, second in ((None, None), (rng(5), rng(5))):
        a, b = (sampling.indices(meta(97), record(), r) for r in (first, second))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("function", [uniform, dense])
def test_training_jitters_each_clip_on_its_own(function):
    chosen = function(200, 8, clips=16, rng=rng())
    assert len({tuple(clip) for clip in chosen}) > 10


def test_uniform_by_hand():
    np.testing.assert_array_equal(uniform(40, 4), [[5, 15, 25, 35]])  # centres of 4 segments of 10
    np.testing.assert_array_equal(uniform(10, 4), [[1, 3, 6, 8]])  # 1.25 3.75 6.25 8.75
    np.testing.assert_array_equal(uniform(40, 4, clips=2), [[0, 10, 20, 30], [5, 15, 25, 35]])
    np.testing.assert_array_equal(
        uniform(60, 2, clips=3),
        [[5, 35], [15, 45], [25, 55]],  # sixths of 30: 1, 3 and 5
    )
    np.testing.assert_array_equal(uniform(3, 5), [[0, 1, 2, 2, 2]])
    np.testing.assert_array_equal(uniform(1, 3, clips=2, rng=rng()), [[0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(uniform(5, 5), [[0, 1, 2, 3, 4]])


@pytest.mark.parametrize("frames", range(16, 80, 7))
def test_two_uniform_clips_are_those_of_the_videomae_test(frames):
    tick = frames / 16
    starts = [int(tick * i) for i in range(16)]
    centres = [int(tick / 2 + tick * i) for i in range(16)]
    np.testing.assert_array_equal(uniform(frames, 16, clips=2), [starts, centres])


def test_uniform_training_takes_one_frame_of_each_segment_and_reaches_all_frames():
    drawn = uniform(23, 5, clips=4000, rng=rng())
    bounds = [0, 4, 9, 13, 18, 23]  # floor(i * 23 / 5)
    for segment in range(5):
        expected = range(bounds[segment], bounds[segment + 1])
        assert sorted(set(drawn[:, segment].tolist())) == list(expected)


def test_linspace_by_hand():
    np.testing.assert_array_equal(linspace(10, 4), [[0, 3, 6, 9]])
    np.testing.assert_array_equal(linspace(11, 4), [[0, 3, 6, 10]])  # 3.33 and 6.67 are cut off
    np.testing.assert_array_equal(linspace(11, 4, clips=2, rng=rng()), [[0, 3, 6, 10]] * 2)
    np.testing.assert_array_equal(linspace(2, 4), [[0, 1, 1, 1]])
    np.testing.assert_array_equal(linspace(9, 1), [[0]])


def test_dense_by_hand():
    np.testing.assert_array_equal(dense(20, 4, stride_frames=2), [[6, 8, 10, 12]])  # (20 - 8) / 2
    np.testing.assert_array_equal(
        dense(20, 4, stride_frames=2, clips=3), [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18]]
    )
    np.testing.assert_array_equal(dense(5, 4, stride_frames=2), [[0, 2, 4, 4]])
    np.testing.assert_array_equal(dense(5, 4, stride_frames=2, clips=2), [[0, 2, 4, 4]] * 2)
    np.testing.assert_array_equal(dense(9, 4, stride_frames=1.5), [[1, 2, 4, 5]])


def test_dense_training_starts_everywhere_the_window_fits():
    drawn = dense(20, 4, stride_frames=2, clips=2000, rng=rng())
    assert set(drawn[:, 0].tolist()) == set(range(13))
    assert (np.diff(drawn, axis=1) == 2).all()


def test_a_target_rate_makes_the_stride_a_time():
    sampling = Sampling("dense", 4, 2, target_fps=10.0)
    np.testing.assert_array_equal(
        sampling.indices(meta(16, fps=20.0), record(), None), [[0, 4, 8, 12]]
    )
    with pytest.raises(DataError, match=r"fight\.mp4: its frame rate is unknown \(0.0\).*None"):
        sampling.indices(meta(16, fps=0.0), record(), None)


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.0, None, (0, 50)),
        (1.0, 2.0, (10, 20)),  # half-open: frame 20 is shown from 2.0 s on
        (1.01, 2.01, (11, 21)),
        (1.1, 2.3, (11, 23)),
        (4.0, 9.0, (40, 50)),  # cut at the video's end
        (4.0, None, (40, 50)),
        (1.02, 1.08, (10, 11)),  # between two frames: the one on the screen
        (4.95, None, (49, 50)),
    ],
)
def test_segments_are_half_open_in_time(start, end, frames):
    assert segment_frames(meta(50), record(start, end)) == frames


def test_seconds_that_are_not_exact_in_binary_start_at_their_frame():
    assert 2.2 * 25 > 55  # by rounding
    assert segment_frames(meta(200, fps=25.0), record(2.2, 4.4)) == (55, 110)


@pytest.mark.parametrize(
    "start, end, frames",
    [
        (0.0, 1.0, (0, 2)),
        (1.0, 2.0, (2, 7)),
        (1.2, 1.4, (3, 4)),
        (0.6, 0.9, (1, 2)),  # between two frames
        (1.85, 1.9, (6, 7)),  # while the last one is shown
        (0.5, None, (1, 7)),
    ],
)
def test_segments_of_a_rate_that_varies(start, end, frames):
    varying = dataclasses.replace(
        meta(7), duration_seconds=2.0, frame_seconds=(0.0, 0.5, 1.0, 1.2, 1.4, 1.6, 1.8)
    )
    assert segment_frames(varying, record(start, end)) == frames
    assert [varying.seconds_of(k) for k in (0, 1, 6, 7)] == [0.0, 0.5, 1.8, 2.0]
    with pytest.raises(DataError, match="from 2.0 s to 3.0 s lies beyond"):
        segment_frames(varying, record(2.0, 3.0))


def test_indices_stay_within_the_segment():
    labelled = record(1.0, 2.0)
    for kind in KINDS:
        for generator in (None, rng()):
            chosen = Sampling(kind, 4, 2, clips=3).indices(meta(50), labelled, generator)
            assert chosen.min() >= 10 and chosen.max() < 20
    short = Sampling("linspace", 4).indices(meta(50), record(1.0, 1.2), None)
    np.testing.assert_array_equal(short, [[10, 11, 11, 11]])


def test_bad_videos_and_segments_are_named():
    with pytest.raises(DataError, match="fight.mp4: the video has no frames"):
        segment_frames(meta(0), record())
    with pytest.raises(DataError, match="fight.mp4.*from 5.0 s to 6.0 s lies beyond.*50 frames"):
        segment_frames(meta(50), record(5.0, 6.0))
    with pytest.raises(DataError, match="from 7.0 s to its end lies beyond"):
        segment_frames(meta(50), record(7.0))
    with pytest.raises(DataError, match="its frame rate is unknown.*label the whole video"):
        segment_frames(meta(50, fps=0.0), record(1.0))


def test_bad_settings_are_refused():
    with pytest.raises(UnknownNameError, match="unknown sampling 'unifrom'.*'uniform'"):
        Sampling("unifrom", 8)
    with pytest.raises(ConfigError, match="num_frames is 0, expected an integer from 1"):
        Sampling("uniform", 0)
    with pytest.raises(ConfigError, match="clips is 1.5, expected an integer from 1"):
        Sampling("uniform", 8, clips=1.5)
    with pytest.raises(ConfigError, match="stride_frames is 0, expected a number above 0"):
        Sampling("dense", 8, 0)
    with pytest.raises(ConfigError, match="target_fps is -1, expected a number above 0"):
        Sampling("dense", 8, target_fps=-1)
    with pytest.raises(ConfigError, match="num_frames is 0, clips is 0; expected at least 1"):
        uniform(0, 4, clips=0)
    with pytest.raises(ConfigError, match="stride_frames is -2, expected a number above 0"):
        dense(9, 4, stride_frames=-2)
