"""A profile of a few steps, for TensorBoard: what host and devices do when, and for how long."""

import logging
import tempfile
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import jax
from etils import epath

from jaxvid.core.places import is_remote, storage_errors

log = logging.getLogger("jaxvid")


class Profile:
    """Traces `count` steps from step number `start` on (the first one of a run is 1) into `folder`.

    A count of 0 traces nothing. A run that goes on from within these steps traces the rest of them;
    one that ends within them writes what there is (`close`).
    """

    def __init__(self, folder: str | PathLike = "", *, start: int = 0, count: int = 0):
        self._folder = folder
        self._local = Path(folder) if not is_remote(folder) else None
        self._steps = range(start, start + count)
        self._began: int | None = None

    def step(self, number: int) -> AbstractContextManager:
        """To be entered around step `number`."""
        if number not in self._steps:
            return nullcontext()
        if self._began is None:
            self._local = self._local or Path(tempfile.mkdtemp())  # the tracer writes to disks only
            jax.profiler.start_trace(self._local)
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
        if is_remote(self._folder):
            _copy(self._local, epath.Path(self._folder))
        steps = f"steps {began} to {last}" if last else f"the steps from {began} on"
        log.info("profile of %s: tensorboard --logdir %s (needs xprof)", steps, self._folder)


def _copy(folder: Path, target: epath.Path) -> None:
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        there = target / file.relative_to(folder).as_posix()
        with storage_errors(there):
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.read_bytes())
