"""The training loop: batches in, steps dispatched, numbers out, checkpoints on the way.

The host runs at most `AHEAD` steps before the device: each step's sums are fetched only when later
steps are queued already, so the device never waits for the host, and every step's numbers are seen.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.core import heap
from jaxvid.core.batch import ROW
from jaxvid.core.errors import CheckpointError
from jaxvid.metrics.sums import add, finish
from jaxvid.train.clock import Clock
from jaxvid.train.compilation import watch
from jaxvid.train.cost import Cost
from jaxvid.train.guard import EarlyStop, NonFiniteSteps, SkippedClips
from jaxvid.train.profile import Profile
from jaxvid.train.state import TrainState
from jaxvid.train.stop import StopSignal
from jaxvid.train.watchdog import Watchdog
from jaxvid.train.writers import MetricsWriter, Progress

log = logging.getLogger("jaxvid")
AHEAD = 2


@dataclasses.dataclass
class Window:
    """Sums of the steps since the last log line, on the host."""

    sums: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def add(self, sums: dict[str, tuple[Any, Any]]) -> None:
        """One more step's {name: (sum, weight)}."""
        step = {k: (float(s), float(w)) for k, (s, w) in sums.items()}
        self.sums = add(self.sums, step) if self.sums else step

    def close(self) -> dict[str, float]:
        """Averages, and an empty window; steps that were not finite are a count, not a share."""
        sums = dict(self.sums)
        skipped = sums.pop("nonfinite", (0.0, 0.0))[0]
        self.sums = {}
        return {**finish(sums), "nonfinite_steps": skipped}


@dataclasses.dataclass
class Loop:
    """One run, from the state it is given to `total_steps`. `run` may end earlier and says why."""

    train_step: Callable
    batches: Iterator
    to_device: Callable
    total_steps: int
    batch_size: int
    checkpoints: Checkpoints
    writer: MetricsWriter
    progress: Progress
    stop: StopSignal
    skipped: SkippedClips
    nonfinite: NonFiniteSteps
    early_stop: EarlyStop
    evaluators: Sequence[Callable] = ()  # each: (step, state) -> (split, numbers)
    fingerprint: str = ""  # of the training records: a checkpoint goes on only with the same ones
    log_every: int = 20
    save_every: int = 0
    evaluate_every: int = 0
    clock: Clock = dataclasses.field(default_factory=Clock)
    watchdog: Watchdog = dataclasses.field(default_factory=Watchdog)
    cost: Cost = dataclasses.field(default_factory=Cost)
    profile: Profile = dataclasses.field(default_factory=Profile)

    def __post_init__(self):
        self._window = Window()
        self._pending: collections.deque = collections.deque()
        self._owes_evaluation = False
        self._compiled = watch().copy()

    def run(self, state: TrainState, step: int) -> tuple[TrainState, int, str]:
        """-> (state, step, reason): reason is "done", "early stop" or the signal's name."""
        began = step
        if self._owes_evaluation:
            self._evaluate(step, state)
        if self.early_stop.reached and step < self.total_steps:
            return state, step, "early stop"
        if step < self.total_steps:
            log.info("step %d of %d; the first one compiles", step, self.total_steps)
        while step < self.total_steps:
            waited = self.batches.seconds_waited
            self.watchdog.phase("waiting for data", step + 1)
            batch = next(self.batches)
            self.watchdog.phase("waiting for the devices", step + 1)
            self.skipped.observe(batch)
            rows = batch[ROW]
            step += 1
            with self.profile.step(step):
                state, sums = self.train_step(state, self.to_device(batch))
            self.profile.after(step, sums)
            self.clock.waited(self.batches.seconds_waited - waited)
            self.progress.step()
            if step == began + 1:
                jax.block_until_ready(sums)
                compiled = watch().since(self._compiled).words()
                log.info("first step after %.1f s, %s", self.clock.elapsed_seconds(), compiled)
                heap.give_back()
            self._count(step - began)
            self._pending.append((step, sums, rows, self._rates(step)))
            while len(self._pending) > AHEAD:
                self._settle()
            reason = self._after(step, state)
            if reason:
                return state, step, reason
        return state, step, "done"

    def _count(self, since: int) -> None:
        """The time of a run's first step is compilation; the next ones are queued at once, without waiting
        for the device. What follows is dispatched as fast as the device works."""
        if since <= AHEAD + 2:
            self.clock.restart()
        else:
            self.clock.step()

    def _rates(self, step: int) -> dict[str, float]:
        """Of the window that ends with this step. Counted where steps are dispatched, always as far ahead
        of the device, and not where they settle, which is at once before an evaluation and later else."""
        return self.clock.tick(self.batch_size) if self._logged(step) else {}

    def _logged(self, step: int) -> bool:
        return step % self.log_every == 0 or step == self.total_steps

    def _settle(self) -> None:
        """Takes the oldest step's numbers, which the device has finished or is about to."""
        step, sums, rows, rates = self._pending.popleft()
        sums = jax.device_get(sums)
        self.nonfinite.observe(step, sums["nonfinite"][0] > 0, rows)
        self._window.add(sums)
        if self._logged(step):
            numbers = {**self._window.close(), **rates, **self.cost.numbers(rates)}
            numbers["data_skipped"] = float(self.skipped.skipped)
            self.writer.write(step, "train", numbers)
            self.progress.numbers(step, _for_the_bar(numbers))

    def _after(self, step: int, state: TrainState) -> str | None:
        """What is due after a step: evaluation, saving, stopping. Returns the reason to end, if any."""
        last = step == self.total_steps
        stopping = self.stop.requested(step)
        evaluating = bool(self.evaluators) and (last or _due(step, self.evaluate_every))
        if not (last or stopping or evaluating or _due(step, self.save_every)):
            return None
        while self._pending:
            self._settle()
        self.clock.pause()
        numbers = {}
        # A run asked to stop leaves the evaluation to the one that goes on: clusters do not wait.
        self._owes_evaluation = evaluating and stopping and not last
        if evaluating and not self._owes_evaluation:
            numbers = self._evaluate(step, state)
        self.watchdog.phase("saving", step)
        self.writer.flush()
        self.checkpoints.save(step, state, self._extra(), numbers)
        self.clock.resume()
        if stopping and not last:
            self.checkpoints.wait()
            return self.stop.received
        return "early stop" if self.early_stop.reached and not last else None

    def _evaluate(self, step: int, state: TrainState) -> dict[str, float]:
        numbers = {}
        self.watchdog.phase("evaluating", step)
        for evaluate in self.evaluators:
            split, new = evaluate(step, state)
            self.writer.write(step, split, new)
            numbers.update(new)
        self.early_stop.observe(step, numbers)
        self._owes_evaluation = False
        return numbers

    def _extra(self) -> dict:
        return {
            "records": self.fingerprint,
            "owes_evaluation": self._owes_evaluation,
            "iterator": self.batches.get_state(),
            "window": self._window.sums,
            "nonfinite_in_a_row": self.nonfinite.in_a_row,
            "skipped": [self.skipped.skipped, self.skipped.seen],
            "early_stop": self.early_stop.get_state(),
        }

    def resume(self, extra: dict) -> None:
        """Continues from what `_extra` put into a checkpoint. Raises CheckpointError when the training
        split is not the one the run began with: its order would not be the same."""
        if extra["records"] != self.fingerprint:
            raise CheckpointError(
                f"the training split was {extra['records']} when this run began and is "
                f"{self.fingerprint} now; restore the files or start in another --workdir"
            )
        self.batches.set_state(extra["iterator"])
        self._window = Window({k: tuple(v) for k, v in extra["window"].items()})
        self.nonfinite.in_a_row = extra["nonfinite_in_a_row"]
        self.skipped.skipped, self.skipped.seen = extra["skipped"]
        self.early_stop.set_state(extra["early_stop"])
        self._owes_evaluation = extra["owes_evaluation"]


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _for_the_bar(numbers: dict[str, float]) -> dict[str, float]:
    shown = {k: numbers[k] for k in ("loss", "top1") if numbers.get(k) is not None}
    if "steps_per_second" in numbers:
        shown["steps/s"] = numbers["steps_per_second"]
        shown["clips/s"] = numbers["clips_per_second"]
        shown["data wait %"] = 100 * numbers["data_wait_share"]
    if "peak_share" in numbers:
        shown["peak %"] = 100 * numbers["peak_share"]
    if "device_memory_bytes" in numbers:
        shown["GiB"] = numbers["device_memory_bytes"] / 2**30
    if numbers["data_skipped"]:
        shown["skipped"] = numbers["data_skipped"]
    return shown
