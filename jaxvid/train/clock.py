"""Where the time of a run goes: rate, remaining time, the share spent waiting for data."""

import time
from collections.abc import Callable


class Clock:
    """Counts steps between `tick`s; time in pauses (evaluation, saving) is not training time."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._start = self._mark = now()
        self._paused = self._waited = 0.0
        self._pause_began: float | None = None
        self._steps = 0
        self.seconds_per_step: float | None = None

    def waited(self, seconds: float) -> None:
        """The host waited so long for a batch."""
        self._waited += seconds

    def step(self) -> None:
        """One more step."""
        self._steps += 1

    def pause(self) -> None:
        """Training stops for evaluation or saving."""
        self._pause_began = self._now()

    def resume(self) -> None:
        """Training goes on."""
        if self._pause_began is not None:
            self._paused += self._now() - self._pause_began
            self._pause_began = None

    def restart(self) -> None:
        """Forget what was counted: called after the first steps, whose time is no step's."""
        self._mark, self._steps, self._paused = self._now(), 0, 0.0
        self._waited = 0.0

    def tick(self, batch_size: int) -> dict[str, float]:
        """The window since the last tick: steps_per_second, clips_per_second, data_wait_share."""
        seconds = max(self._now() - self._mark - self._paused, 1e-9)
        steps, waited = self._steps, self._waited
        self._mark, self._steps, self._waited, self._paused = self._now(), 0, 0.0, 0.0
        if not steps:
            return {}
        self.seconds_per_step = seconds / steps
        return {
            "steps_per_second": steps / seconds,
            "clips_per_second": steps * batch_size / seconds,
            "data_wait_share": min(waited / seconds, 1.0),
        }

    def elapsed_seconds(self) -> float:
        """Since the clock was made, pauses included."""
        return self._now() - self._start
