"""The loop with a step that is arithmetic and batches that are lists."""

import json

import numpy as np
import pytest

from jaxvid.core import appending
from jaxvid.core.errors import CheckpointError, DataError, NonFiniteLossError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.train import loop as loop_module
from jaxvid.train.clock import Clock
from jaxvid.train.guard import EarlyStop, NonFiniteSteps, SkippedClips
from jaxvid.train.loop import AHEAD, Loop
from jaxvid.train.stop import StopSignal
from jaxvid.train.writers import MetricsWriter, Progress

INDEX = DatasetIndex(tuple(VideoRecord(f"{i}.mp4", str(i), (0,)) for i in range(8)), ("a",))


class Batches:
    seconds_waited = 0.0

    def __init__(self, bad_rows=()):
        self.number, self.bad = 0, bad_rows

    def __next__(self):
        rows = np.arange(4, dtype=np.int32) + self.number % 2 * 4
        self.number += 1
        return {"row": rows, "mask": ~np.isin(rows, self.bad)}

    def get_state(self):
        return {"next_batch": self.number}

    def set_state(self, state):
        self.number = state["next_batch"]


class Saved:
    """Stands for Checkpoints."""

    def __init__(self):
        self.all = {}

    def save(self, step, state, extra, metrics):
        self.all[step] = (state, json.loads(json.dumps(extra)), dict(metrics))

    def wait(self):
        pass


def step_of(nonfinite_from=10**9):
    def step(state, batch):
        bad = float(state + 1 >= nonfinite_from)
        return state + 1, {"loss": (100.0 - state, 1.0), "nonfinite": (bad, 1.0)}

    return step


def make(tmp_path, *, steps=10, train_step=None, batches=None, saved=None, **options):
    tmp_path.mkdir(exist_ok=True)
    loop = Loop(
        train_step=train_step or step_of(),
        batches=batches or Batches(),
        to_device=lambda batch: batch,
        total_steps=steps,
        batch_size=4,
        checkpoints=saved if saved is not None else Saved(),
        writer=MetricsWriter(tmp_path, tensorboard=False),
        progress=Progress(steps, 0, enabled=False),
        stop=options.pop("stop", None) or StopSignal(),
        skipped=SkippedClips(INDEX, max_share=options.pop("max_share", 0.5), min_clips=4),
        nonfinite=NonFiniteSteps(INDEX, limit=3),
        early_stop=EarlyStop(metric="top1", mode="max", patience=options.pop("patience", 0)),
        fingerprint=options.pop("fingerprint", "8 clips"),
        **{"log_every": 4, **options},
    )
    return loop


def written(tmp_path, split="train"):
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in rows if r["split"] == split]


def test_windows_are_averages_of_their_steps(tmp_path):
    assert make(tmp_path).run(0, 0) == (10, 10, "done")
    # losses are 100, 99, … 91; a window every four steps and one at the end
    assert written(tmp_path) == [(4, 98.5), (8, 94.5), (10, 91.5)]


@pytest.mark.parametrize("at", [3, 5, 8])
def test_a_resumed_run_writes_what_an_undisturbed_one_writes(tmp_path, at):
    make(tmp_path / "whole").run(0, 0)
    stop, saved = StopSignal(), Saved()

    def step(state, batch):
        stop.received = "SIGTERM" if state + 1 == at else None
        return step_of()(state, batch)

    make(tmp_path / "cut", train_step=step, stop=stop, saved=saved).run(0, 0)
    state, extra, _ = saved.all[at]
    loop = make(tmp_path / "cut")
    loop.resume(extra)
    assert loop.batches.number == at
    loop.run(state, at)
    assert written(tmp_path / "cut") == written(tmp_path / "whole")


def test_the_host_sees_every_step_but_never_waits_for_the_newest(tmp_path):
    dispatched, seen = [], []

    def step(state, batch):
        dispatched.append(state + 1)
        return state + 1, {"loss": (1.0, 1.0), "nonfinite": (0.0, 1.0)}

    loop = make(tmp_path, steps=20, train_step=step)
    observe = loop.nonfinite.observe
    loop.nonfinite.observe = lambda s, bad, rows: (
        seen.append((s, len(dispatched))),
        observe(s, bad, rows),
    )
    loop.run(0, 0)
    assert [s for s, _ in seen] == list(range(1, 21))
    assert all(known - s == AHEAD for s, known in seen[:-AHEAD])


def test_steps_that_are_not_finite_end_the_run_with_the_rows_of_the_batch(tmp_path):
    loop = make(tmp_path, train_step=step_of(nonfinite_from=4))
    with pytest.raises(NonFiniteLossError, match="3 steps in a row, the last is step 6") as error:
        loop.run(0, 0)
    assert "4: 4.mp4" in str(error.value) and "0: 0.mp4" not in str(error.value)


def test_skipped_clips_end_the_run(tmp_path):
    loop = make(tmp_path, batches=Batches(bad_rows=(5, 6)), max_share=0.1)
    with pytest.raises(DataError, match="5.mp4"):
        loop.run(0, 0)


def test_evaluation_saving_and_early_stop(tmp_path):
    scores = iter([0.5, 0.6, 0.6, 0.6, 0.9])
    saved = Saved()
    loop = make(
        tmp_path,
        steps=20,
        saved=saved,
        patience=2,
        evaluate_every=2,
        save_every=3,
        evaluators=(lambda step, state: ("val", {"top1": next(scores), "loss": 1.0}),),
    )
    assert loop.run(0, 0) == (8, 8, "early stop")
    assert sorted(saved.all) == [2, 3, 4, 6, 8]
    assert saved.all[3][2] == {} and saved.all[4][2]["top1"] == 0.6
    again = make(tmp_path, steps=20, patience=2)
    again.resume(saved.all[8][1])
    assert again.run(8, 8) == (8, 8, "early stop")


def test_a_signal_saves_after_the_step_and_leaves_the_evaluation_to_the_next_start(tmp_path):
    stop, saved, evaluated = StopSignal(), Saved(), []

    def step(state, batch):
        if state + 1 == 4:
            stop.received = "SIGTERM"
        return step_of()(state, batch)

    def evaluator(number, state):
        evaluated.append(number)
        return "val", {"top1": 0.5}

    options = {"evaluate_every": 4, "evaluators": (evaluator,)}
    loop = make(tmp_path, train_step=step, stop=stop, saved=saved, **options)
    assert loop.run(0, 0) == (4, 4, "SIGTERM")
    assert evaluated == [] and saved.all[4][1]["owes_evaluation"]
    after = make(tmp_path, **options)
    after.resume(saved.all[4][1])
    after.run(4, 4)
    assert evaluated == [4, 8, 10]


def test_another_training_split_is_refused(tmp_path):
    saved = Saved()
    make(tmp_path, saved=saved).run(0, 0)
    with pytest.raises(CheckpointError, match="was 8 clips when this run began and is 9 clips now"):
        make(tmp_path, fingerprint="9 clips").resume(saved.all[10][1])


def test_the_watchdog_is_told_what_the_loop_does(tmp_path):
    told = []

    class Dog:
        def phase(self, kind, step):
            told.append((kind, step))

    evaluators = (lambda step, state: ("val", {"top1": 0.5}),)
    make(tmp_path, steps=2, evaluators=evaluators, watchdog=Dog()).run(0, 0)
    waits = [(kind, i) for i in (1, 2) for kind in ("waiting for data", "waiting for the devices")]
    assert told == [*waits, ("evaluating", 2), ("saving", 2)]


def test_what_a_run_goes_on_from_is_in_the_files_of_a_bucket_too(tmp_path, monkeypatch):
    monkeypatch.setattr(appending, "is_remote", lambda path: True)
    found = {}

    class Looking(Saved):
        def save(self, step, *rest):
            super().save(step, *rest)
            found[step] = [s for s, _ in written(tmp_path)]

    make(tmp_path, steps=8, log_every=1, save_every=4, saved=Looking()).run(0, 0)
    assert found == {4: [1, 2, 3, 4], 8: [1, 2, 3, 4, 5, 6, 7, 8]}


@pytest.mark.parametrize("waits_for_data", [True, False])
def test_rates_are_the_same_before_and_after_an_evaluation(tmp_path, waits_for_data):
    now = [0.0]

    class Slow(Batches):
        def __next__(self):
            now[0] += 1.0 if waits_for_data else 0.0
            return super().__next__()

    class OnDevice:
        """A number that is there when the device has come to it."""

        def __init__(self, at):
            self.at = at

        def __float__(self):
            return 1.0

    free = [0.0]

    def step(state, batch):
        free[0] = max(free[0], now[0]) + (0.01 if waits_for_data else 1.0)
        return state + 1, {"loss": (OnDevice(free[0]), 1.0), "nonfinite": (0.0, 1.0)}

    def fetched(sums):
        if isinstance(sums["loss"][0], OnDevice):
            now[0] = max(now[0], sums["loss"][0].at)
        return sums

    def evaluate(step, state):
        now[0] += 100.0
        return "val", {"loss": 1.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module.jax, "device_get", fetched)
        patch.setattr(loop_module.jax, "block_until_ready", fetched)
        clock = Clock(now=lambda: now[0])
        options = {"clock": clock, "evaluators": (evaluate,), "evaluate_every": 8, "log_every": 4}
        make(tmp_path, steps=24, batches=Slow(), train_step=step, **options).run(0, 0)
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [r["steps_per_second"] for r in rows if "steps_per_second" in r]
    # None of the first window, whose steps are queued before the device has done them.
    assert rates == pytest.approx([1.0] * 5, rel=0.02)
