"""Asked to stop: SIGTERM (a cluster preempts, a person kills) and Ctrl-C end a run after its step."""

import os
import signal
from typing import Self

import jax
from jax.experimental import multihost_utils


def let_sigterm_end() -> None:
    """Outside of training nothing asks whether SIGTERM came, which on several hosts jax's coordination
    service swallows: it ends the process again, and the others end with it."""
    if jax.process_count() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopSignal:
    """Within `with StopSignal() as stop:` the first SIGTERM or SIGINT only sets a flag; a second
    SIGINT interrupts at once. On several hosts all of them see the stop at the same step."""

    def __init__(self):
        self.received: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        numbers = [signal.SIGINT]
        if jax.process_count() == 1:  # else the coordination service owns SIGTERM
            numbers.append(signal.SIGTERM)
        for number in numbers:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        let_sigterm_end()

    def _handle(self, number, frame) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if jax.process_count() > 1:  # so that jax tells all hosts, and they agree on a step
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """True when the run should end after `step`; every host asks at every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = self.received or "SIGTERM"
            return True
        return self.received is not None and jax.process_count() == 1
