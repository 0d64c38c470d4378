import numpy as np
import pytest

from jaxvid.core.errors import DataError, NonFiniteLossError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.train.guard import EarlyStop, NonFiniteSteps, SkippedClips

INDEX = DatasetIndex(tuple(VideoRecord(f"clips/{i}.mp4", str(i), (0,)) for i in range(10)), ("a",))


def batch(*missing):
    rows = np.arange(10, dtype=np.int32)
    return {"row": rows, "mask": ~np.isin(rows, missing)}


def test_too_many_skipped_clips_end_the_run_with_their_files():
    guard = SkippedClips(INDEX, max_share=0.15, min_clips=20)
    guard.observe(batch(3))
    guard.observe(batch(3))
    with pytest.raises(DataError, match=r"5 of 30 clips.*max_skipped_share=0.15") as error:
        guard.observe(batch(3, 4, 7))
    assert all(f"clips/{i}.mp4" in str(error.value) for i in (3, 4, 7))
    assert "clips/5.mp4" not in str(error.value)


def test_a_few_skipped_clips_are_counted():
    guard = SkippedClips(INDEX, max_share=0.5, min_clips=0)
    guard.observe(batch(1, 2))
    assert (guard.skipped, guard.seen) == (2, 10)


def test_nothing_but_skipped_clips_is_fatal_at_once():
    with pytest.raises(DataError, match="10 of 10"):
        SkippedClips(INDEX, max_share=0.9).observe(batch(*range(10)))


def test_nonfinite_steps_in_a_row_end_the_run_with_the_rows():
    guard = NonFiniteSteps(INDEX, limit=2)
    guard.observe(1, True, np.array([1]))
    guard.observe(2, False, np.array([1]))
    guard.observe(3, True, np.array([1]))
    with pytest.raises(NonFiniteLossError, match="2 steps in a row, the last is step 4") as error:
        guard.observe(4, True, np.array([5, 8]))
    assert "5: clips/5.mp4" in str(error.value) and "8: clips/8.mp4" in str(error.value)


def test_early_stop_counts_evaluations_without_progress():
    stop = EarlyStop(metric="loss", mode="min", patience=2)
    for step, loss in enumerate([1.0, 0.5, 0.7]):
        stop.observe(step, {"loss": loss})
    assert not stop.reached and (stop.best, stop.best_step) == (0.5, 1)
    other = EarlyStop(metric="loss", mode="min", patience=2)
    other.set_state(stop.get_state())
    other.observe(3, {"top1": 1.0})
    assert not other.reached
    other.observe(4, {"loss": 0.6})
    assert other.reached


def test_patience_zero_never_stops():
    stop = EarlyStop(metric="top1", mode="max", patience=0)
    for step in range(5):
        stop.observe(step, {"top1": 0.0})
    assert not stop.reached
