"""A profile of a few steps, for TensorBoard: what host and devices do when, and for how long."""

import logging
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import Any

import jax

log = logging.getLogger("jaxvid")


class Profile:
    """Traces `count` steps from step number `start` on (the first one of a run is 1) into `folder`.

    A count of 0 traces nothing. A run that goes on from within these steps traces the rest of them;
    one that ends within them writes what there is (`close`).
    """

    def __init__(self, folder: str | PathLike = "", *, start: int = 0, count: int = 0):
        self._folder = str(folder)
        self._steps = range(start, start + count)
        self._began: int | None = None

    def step(self, number: int) -> AbstractContextManager:
        """To be entered around step `number`."""
        if number not in self._steps:
            return nullcontext()
        if self._began is None:
            jax.profiler.start_trace(self._folder)
            self._began = number
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, number: int, sums: Any) -> None:
        """Ends the trace after its last step, once the devices have done it. sums: what it returned."""
        if self._began is not None and number == self._steps[-1]:
            jax.block_until_ready(sums)
            self._end(number)

    def close(self) -> None:
        """Ends the trace where the run ends."""
        if self._began is not None:
            self._end(None)

    def _end(self, last: int | None) -> None:
        began, self._began = self._began, None
        jax.profiler.stop_trace()
        steps = f"steps {began} to {last}" if last else f"the steps from {began} on"
        log.info("profile of %s: tensorboard --logdir %s (needs xprof)", steps, self._folder)
