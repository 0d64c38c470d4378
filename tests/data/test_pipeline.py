import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxvid.core.errors import BatchError, ConfigError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.order import Order, clip_rng
from jaxvid.data.pipeline import (
    evaluation_batches,
    stack_clips,
    training_batches,
)
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource
from jaxvid.data.transforms.centre_crop import CentreCrop
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop

ROOT = Path(__file__).parents[2]


class FakeSource:
    """Clips whose pixels are the row and three random numbers; a row may be slow or bad."""

    def __init__(self, rows=10, bad=(), seconds=0.0):
        self.rows, self.bad, self.seconds = rows, bad, seconds
        self.loaded = []

    def __len__(self):
        return self.rows

    def load(self, row, rng):
        self.loaded.append(row)
        time.sleep(self.seconds)
        if row in self.bad:
            raise DecodeError(f"clip{row}.mp4", None, "fake", "it is bad")
        random = rng.integers(0, 256, 3) if rng is not None else 0
        return self.example(np.append(row, random) if rng is not None else row, row, True)

    def padding(self):
        return self.example(0, 0, False)

    def check_deterministic(self):
        pass

    def example(self, pixels, row, mask):
        video = np.zeros((1, 1, 1, 4, 3), np.uint8)
        video[0, 0, 0, :, 0] = pixels
        label = np.array([row if mask else -1], np.int32)
        return {"video": video, "label": label, "mask": np.array(mask), "row": np.int32(row)}


def take(batches, count):
    with batches:
        return [next(batches) for _ in range(count)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def concatenated(parts):
    """The global batches from the batches of each host."""
    return [{n: np.concatenate([p[n] for p in batch]) for n in batch[0]} for batch in zip(*parts)]


@pytest.fixture
def videos(tmp_path, write_video):
    rng = np.random.default_rng(0)
    records = []
    for number in range(6):
        frames = rng.integers(0, 256, (8, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        path = write_video(tmp_path / f"v{number}.mp4", frames)
        records.append(VideoRecord(str(path), f"v{number}", (number % 2,)))
    return DatasetIndex(tuple(records), ("calm", "fight"))


def clip_source(index, **changes):
    settings = {
        "sampling": Sampling("uniform", 4),
        "size": 16,
        "transforms": (RandomResizedCrop(16),),
        **changes,
    }
    return ClipSource(index, **settings)


# -- order ----------------------------------------------------------------------------------------


def test_batches_of_real_videos_do_not_depend_on_threads(videos):
    settings = {"batch_size": 4, "seed": 3}
    one = take(training_batches(clip_source(videos), threads=1, **settings), 4)
    many = take(training_batches(clip_source(videos), threads=8, **settings), 4)
    assert_same(one, many)
    assert one[0]["video"].shape == (4, 1, 4, 16, 16, 3)
    other = take(training_batches(clip_source(videos), batch_size=4, seed=4), 1)
    assert (other[0]["video"] != one[0]["video"]).any()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_in_order_make_up_the_global_batch(hosts):
    settings = {"batch_size": 8, "seed": 0, "threads": 2}
    alone = take(training_batches(FakeSource(), **settings), 5)
    parts = [
        take(training_batches(FakeSource(), host_index=h, host_count=hosts, **settings), 5)
        for h in range(hosts)
    ]
    assert parts[0][0]["video"].shape[0] == 8 // hosts
    assert_same(concatenated(parts), alone)


def test_each_epoch_is_another_permutation_with_other_random_numbers():
    batches = take(training_batches(FakeSource(10), batch_size=4, seed=1), 10)
    rows = np.concatenate([b["row"] for b in batches]).reshape(4, 10)  # 10 batches of 4: 4 epochs
    for epoch, order in enumerate(rows):
        np.testing.assert_array_equal(order, Order(10, 1).epoch(epoch))
        assert sorted(order) == list(range(10))
    assert len({tuple(order) for order in rows}) == 4
    pixels = np.concatenate([b["video"] for b in batches])[:, 0, 0, 0, 1:, 0]
    assert len({tuple(p) for p in pixels}) > 35
    np.testing.assert_array_equal(pixels[17], clip_rng(1, 17).integers(0, 256, 3))


def test_without_shuffling_the_rows_come_in_order():
    batches = take(training_batches(FakeSource(5), batch_size=4, seed=1, shuffle=False), 3)
    assert np.concatenate([b["row"] for b in batches]).tolist() == [0, 1, 2, 3, 4] * 2 + [0, 1]


# -- state ----------------------------------------------------------------------------------------


def test_a_state_taken_in_mid_epoch_continues_exactly():
    settings = {"batch_size": 4, "seed": 7}
    straight = take(training_batches(FakeSource(), **settings), 9)
    with training_batches(FakeSource(), **settings) as batches:
        for _ in range(4):
            next(batches)
        time.sleep(0.1)  # what is prefetched by now does not count
        state = json.loads(json.dumps(batches.get_state()))
    assert state == {"next_batch": 4}
    for changes in ({}, {"threads": 5, "prefetch_batches": 1}):
        resumed = training_batches(FakeSource(), **settings, **changes)
        resumed.set_state(state)
        assert resumed.get_state() == state
        assert_same(take(resumed, 5), straight[4:])
    on_two_hosts = []
    for host in range(2):
        part = training_batches(FakeSource(), host_index=host, host_count=2, **settings)
        part.set_state(state)
        on_two_hosts.append(take(part, 5))
    assert_same(concatenated(on_two_hosts), straight[4:])


def test_a_state_can_be_set_while_batches_are_flowing():
    settings = {"batch_size": 4, "seed": 7}
    straight = take(training_batches(FakeSource(), **settings), 6)
    with training_batches(FakeSource(), **settings) as batches:
        for start in (3, 0, 2):
            batches.set_state({"next_batch": start})
            assert_same([next(batches) for _ in range(3)], straight[start : start + 3])


@pytest.mark.parametrize("state", [{}, {"next_batch": -1}, {"next_batch": "3"}, None])
def test_a_foreign_state_is_refused(state):
    batches = training_batches(FakeSource(), batch_size=2, seed=0)
    with pytest.raises(ConfigError, match='state of the data is .*expected {"next_batch": k}'):
        batches.set_state(state)


# -- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 8, 10])
def test_evaluation_shows_each_row_once_over_all_hosts(rows, hosts):
    parts = []
    for host in range(hosts):
        batches = evaluation_batches(
            FakeSource(rows), batch_size=4, host_index=host, host_count=hosts, threads=2
        )
        parts.append(list(batches))
        assert len(parts[-1]) == len(batches) == -(-rows // 4)
        assert all(b["row"].shape == (4 // hosts,) for b in parts[-1])
    batches = concatenated(parts)
    row = np.concatenate([b["row"] for b in batches])
    mask = np.concatenate([b["mask"] for b in batches])
    assert row[mask].tolist() == list(range(rows))
    assert mask[:rows].all() and not row[~mask].any()
    assert (np.concatenate([b["label"] for b in batches])[~mask] == -1).all()


def test_evaluation_can_be_repeated_and_is_the_same(videos):
    source = clip_source(videos, transforms=(CentreCrop(16),))
    batches = evaluation_batches(source, batch_size=4, threads=2)
    first, second = list(batches), list(batches)
    assert_same(first, second)
    assert np.concatenate([b["row"] for b in first])[:6].tolist() == list(range(6))


def test_evaluation_ends_for_good_and_two_passes_do_not_disturb_each_other():
    batches = evaluation_batches(FakeSource(6), batch_size=4)
    one, two = iter(batches), iter(batches)
    assert next(one)["row"].tolist() == next(two)["row"].tolist() == [0, 1, 2, 3]
    assert next(one)["row"].tolist() == [4, 5, 0, 0]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(one)
    assert next(two)["row"].tolist() == [4, 5, 0, 0]


def test_evaluation_refuses_random_transforms(videos):
    with pytest.raises(ConfigError, match="evaluation uses no random transforms"):
        evaluation_batches(clip_source(videos), batch_size=4)


# -- errors ---------------------------------------------------------------------------------------


def test_an_unreadable_file_is_masked_or_raised(videos, tmp_path):
    bad = tmp_path / "notes.mp4"
    bad.write_text("no video")
    index = DatasetIndex((*videos.records, VideoRecord(str(bad), "bad", (1,))), videos.class_names)
    settings = {"batch_size": 7, "seed": 0, "shuffle": False}
    (batch,) = take(training_batches(clip_source(index, on_error="skip"), **settings), 1)
    assert batch["mask"].tolist() == [True] * 6 + [False]
    assert batch["row"][6] == 6 and batch["label"][6] == 1
    np.testing.assert_array_equal(batch["video"][6], batch["video"][0])
    with (
        pytest.raises(DecodeError, match=r"notes\.mp4: cannot be decoded"),
        training_batches(clip_source(index), **settings) as batches,
    ):
        next(batches)


def test_what_counts_nowhere_shows_the_clips_that_do_in_turn():
    clips = [FakeSource().load(row, None) for row in range(5)]
    for row in (0, 2, 3):
        nothing = np.zeros_like(clips[row]["video"])
        clips[row] |= {"video": nothing, "mask": np.array(False)}
    batch = stack_clips(clips)
    assert batch["row"].tolist() == [0, 1, 2, 3, 4]
    for row, shown in enumerate((1, 1, 4, 1, 4)):
        np.testing.assert_array_equal(batch["video"][row], clips[shown]["video"])
    assert not stack_clips([clips[0], clips[2]])["video"].any()


def test_after_an_error_the_same_batch_is_tried_again():
    settings = {"batch_size": 4, "seed": 0, "shuffle": False}
    straight = take(training_batches(FakeSource(), **settings), 3)
    source = FakeSource(bad=(5,))
    with training_batches(source, **settings) as batches:
        assert_same([next(batches)], straight[:1])
        for _ in range(2):
            with pytest.raises(DecodeError, match="clip5.mp4"):
                next(batches)
        assert batches.get_state() == {"next_batch": 1}
        source.bad = ()
        assert_same([next(batches), next(batches)], straight[1:])


def test_a_batch_that_breaks_the_contract_does_not_leave_the_pipeline():
    clip = FakeSource().load(1, None)
    with pytest.raises(BatchError, match="'row' is missing"):
        stack_clips([{n: clip[n] for n in ("video", "label", "mask")}])
    with pytest.raises(BatchError, match="'label' is int64"):
        stack_clips([{**clip, "label": np.array([1])}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6, "host_count": 4}, "batch_size 6 cannot be divided among 4 hosts"),
        ({"batch_size": 0}, "batch_size is 0 and host_count 1, expected at least 1"),
        ({"host_index": 2, "host_count": 2}, "host_index is 2, expected 0 to 1"),
        ({"threads": 0}, "threads is 0, expected a whole number from 1"),
        ({"workers": -1}, "workers is -1, expected a whole number from 0"),
        ({"prefetch_batches": 0}, "prefetch_batches is 0, expected a whole number from 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    settings = {"batch_size": 4, **changes}
    with pytest.raises(ConfigError, match=message):
        training_batches(FakeSource(), seed=0, **settings)
    with pytest.raises(ConfigError, match=message):
        evaluation_batches(FakeSource(), **settings)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ConfigError, match="the seed of the data is .*an integer from 0"):
        training_batches(FakeSource(), batch_size=2, seed=seed)


# -- time and threads -----------------------------------------------------------------------------


def test_batches_are_loaded_ahead_but_not_without_end():
    source = FakeSource(1000)
    with training_batches(source, batch_size=4, seed=0, threads=2, prefetch_batches=2) as batches:
        assert not source.loaded  # nothing before the first next
        next(batches)
        deadline = time.monotonic() + 10
        while len(source.loaded) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        # one handed out, two ready, one waiting to be put, and 2 x threads clips
        assert 12 <= len(source.loaded) <= 4 * 4 + 2 * 2


def test_waiting_is_measured():
    source = FakeSource(seconds=0.05)
    with training_batches(source, batch_size=8, seed=0, threads=1) as batches:
        assert batches.seconds_waited == 0
        next(batches)
        first = batches.seconds_waited
        assert first > 0.35
        while len(source.loaded) < 18:  # the second batch is ready
            time.sleep(0.01)
        next(batches)
        assert batches.seconds_waited - first < first / 2


def test_close_is_quick_and_leaves_no_threads():
    class SlowAfterFirstBatch(FakeSource):
        def load(self, row, rng):
            self.seconds = 0.1 if len(self.loaded) >= 100 else 0
            return super().load(row, rng)

    before = threading.active_count()
    batches = training_batches(SlowAfterFirstBatch(), batch_size=100, seed=0, threads=2)
    next(batches)
    time.sleep(0.3)  # the background is in the middle of a batch of 5 seconds
    assert threading.active_count() > before
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 3
    while threading.active_count() > before and time.monotonic() - began < 4:
        time.sleep(0.02)
    assert threading.active_count() <= before
    with pytest.raises(ValueError, match="these batches are closed; make new ones"):
        next(batches)
    batches.close()  # again does nothing


def test_batches_that_are_dropped_stop_by_themselves():
    before = threading.active_count()
    for batch in evaluation_batches(FakeSource(100), batch_size=2, threads=2):
        assert batch["mask"].all()
        break
    del batch
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before


def run_script(body, *, interrupt=False, seconds=180):
    """Runs Python code in a process of its own, as a notebook would: no absl flags, no __main__."""
    script = "import sys; sys.path.insert(0, 'tests/data')\n" + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        if interrupt:
            assert process.stdout.readline().strip() == "ready", process.communicate()
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            # Python loses the wake-up of a signal that comes just before it goes to wait for a lock; a
            # person would press the keys again.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(12)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def test_an_interrupt_ends_a_process_that_never_closed_its_batches():
    began = time.monotonic()
    code, _, err = run_script(
        """
        from test_pipeline import FakeSource, training_batches
        slow = training_batches(FakeSource(1000, seconds=0.2), batch_size=2, seed=0, threads=2)
        next(slow)
        long = training_batches(FakeSource(1000, seconds=0.2), batch_size=500, seed=0, threads=2)
        print("ready")
        next(long)
        """,
        interrupt=True,
        seconds=30,
    )
    assert "KeyboardInterrupt" in err and "Exception ignored" not in err, err
    assert code and time.monotonic() - began < 25  # 500 clips would take 50 s


def test_worker_processes_give_the_same_batches_where_flags_were_never_parsed():
    code, out, err = run_script(
        """
        from absl import flags
        from test_pipeline import FakeSource, assert_same, take, training_batches
        assert not flags.FLAGS.is_parsed()
        settings = {"batch_size": 3, "seed": 5, "threads": 2}
        here = take(training_batches(FakeSource(), **settings), 4)
        batches = training_batches(FakeSource(), workers=2, **settings)
        there = [next(batches) for _ in range(2)]
        assert_same(here[:2], there)
        batches.set_state({"next_batch": 1})
        assert_same(here[1:2], [next(batches)])
        batches.close()
        bad = training_batches(FakeSource(bad=range(10)), workers=1, **settings)
        try:
            next(bad)
        except Exception as error:
            print(type(error).__name__, error)
        bad.close()
        """
    )
    assert code == 0 and "DecodeError" in out and ".mp4: cannot be decoded" in out, err
    assert "Exception ignored" not in err
