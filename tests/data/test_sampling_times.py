"""Clips at a target rate from files whose rate varies: their frames go by the times they are shown."""

import itertools

import numpy as np
import pytest

from jaxvid.core.record import VideoMeta, VideoRecord
from jaxvid.data.sampling import KINDS, Sampling


def varying(*pieces, digits=9):
    """Of stretches of (frames, seconds for each)."""
    lengths = [seconds for count, seconds in pieces for _ in range(count)]
    times = [0.0, *itertools.accumulate(lengths)]
    shown = tuple(round(t, digits) for t in times[:-1])
    return VideoMeta(len(shown), len(shown) / times[-1], 8, 8, times[-1], frame_seconds=shown)


def even(frames, fps=30.0):
    return VideoMeta(frames, fps, 8, 8, frames / fps)


def record(start=0.0, end=None):
    return VideoRecord("phone.mp4", "phone", (0,), start, end)


PHONE = ((270, 1 / 30), (1, 20.0), (270, 1 / 30))  # recording was paused for 20 s


@pytest.mark.parametrize("digits", [9, 3], ids=["mp4", "matroska"])  # milliseconds
def test_a_clip_spans_its_seconds_in_an_even_segment_of_an_uneven_file(digits):
    sampling = Sampling("dense", 16, 4, target_fps=30.0)
    chosen = sampling.indices(varying(*PHONE, digits=digits), record(0.0, 9.0), None)
    np.testing.assert_array_equal(np.diff(chosen), 4)  # 2.0 s from the first to the last
    assert chosen[0, 0] == (270 - 64) // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fps", [12.0, 30.0, 60.0])
@pytest.mark.parametrize("clips", [1, 3])
def test_an_even_segment_gives_what_an_even_file_does(kind, fps, clips):
    sampling = Sampling(kind, 8, 3, clips, target_fps=fps, jitter_frames=1)
    for generator in (None, 1, 2, 3):
        of_varying, of_even = (
            sampling.indices(meta, record(0.0, 9.0), generator and np.random.default_rng(generator))
            for meta in (varying(*PHONE), even(270))
        )
        np.testing.assert_array_equal(of_varying, of_even)


@pytest.mark.parametrize("kind", KINDS)
def test_speeds_are_drawn_as_of_an_even_file(kind):
    sampling = Sampling(kind, 8, 3, clips=50, target_fps=30.0, speed_jitter=(0.7, 1.2))
    of_varying, of_even = (
        sampling.indices(meta, record(0.0, 9.0), np.random.default_rng(5))
        for meta in (varying(*PHONE), even(270))
    )
    differ = of_varying != of_even  # only within a millisecond of a frame's beginning
    assert differ.mean() < 0.06 and np.abs(of_varying - of_even).max() <= 1


def test_each_sample_is_the_frame_on_the_screen_at_its_time():
    meta = varying((20, 0.1), (40, 0.05), (1, 2.0), (30, 0.2))
    sampling = Sampling("dense", 6, 2, clips=40, target_fps=4.0)
    times = np.array(meta.frame_seconds)
    for clip in sampling.indices(meta, record(), np.random.default_rng(0)):
        wanted = times[clip[0]] + 0.5 * np.arange(6)
        shown = [int(np.flatnonzero(times <= t + 1e-6)[-1]) for t in wanted]
        assert clip.tolist() == shown and wanted[-1] + 0.5 <= meta.duration_seconds + 1e-6


def test_starts_reach_from_the_first_frame_to_the_last_that_fits():
    meta = varying((10, 0.1), (10, 0.3))  # 4 s, of which 1.5 are left before the start
    sampling = Sampling("dense", 5, 5, clips=400, target_fps=10.0)
    starts = sampling.indices(meta, record(), np.random.default_rng(0))[:, 0]
    assert set(starts.tolist()) == set(range(12))
    three = Sampling("dense", 5, 5, clips=3, target_fps=10.0).indices(meta, record(), None)
    assert three[:, 0].tolist() == [0, 5, 11]


def test_uniform_and_linspace_spread_over_the_seconds():
    meta = varying((30, 0.1), (1, 3.0))  # half of the time one frame stands still
    for kind in ("uniform", "linspace"):
        chosen = Sampling(kind, 6, target_fps=10.0).indices(meta, record(), None)[0]
        assert chosen[3:].tolist() == [30] * 3 and (np.diff(chosen[:4]) > 4).all()
    cut = Sampling("uniform", 4, target_fps=10.0).indices(meta, record(2.0, 3.4), None)[0]
    assert cut[0] < 30 and cut[-1] == 30 and len(set(cut.tolist())) > 2, "cut at 3.4 s, not at 6"


def test_a_clip_longer_than_the_video_starts_at_its_first_frame_and_repeats_its_last():
    meta = varying((4, 0.1), (2, 0.3))
    chosen = Sampling("dense", 4, 5, target_fps=10.0).indices(meta, record(), None)
    assert chosen.tolist() == [[0, 4, 5, 5]]


def test_without_a_target_rate_frames_are_counted():
    chosen = Sampling("dense", 4, 2).indices(varying((10, 0.1), (10, 0.3)), record(), None)
    assert chosen.tolist() == [[6, 8, 10, 12]]
