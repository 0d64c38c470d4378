"""Says which host does what when a run stands still: waiting for data, for the devices, for the disk.

It only speaks. A host that is dead is ended by sharding/goodbye.py; one that is slow is better
found than killed: of all hosts that wait, the one that does not wait for "the devices" is the one
to look at.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Self

log = logging.getLogger("jaxvid")


class Watchdog:
    """Within `with Watchdog(host) as watchdog:` a phase that lasts too long is a warning in the log.

    host: this host in words. A phase is too long after `first_seconds` when it is the first of its
    kind (it compiles, opens files), later after `factor` times the longest one so far, and in any
    case not before `least_seconds` (0: never). It is said again each time it has lasted twice as long.
    """

    def __init__(
        self,
        host: str = "",
        *,
        first_seconds: float = 1800.0,
        least_seconds: float = 60.0,
        factor: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ):
        self._host = host
        self._first, self._least, self._factor = first_seconds, least_seconds, factor
        self._now = now
        self._longest: dict[str, float] = {}
        self._phase: tuple[str, int, float] | None = None  # kind, step, since when
        self._said = 0.0  # seconds of the phase at the last warning
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jaxvid-watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._least:
            self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._stop.set()
        if self._least:
            self._thread.join()

    def phase(self, kind: str, step: int) -> None:
        """From now on this host does `kind` ("waiting for data", "saving", …) for that step."""
        now = self._now()
        if self._phase:
            before, _, since = self._phase
            self._longest[before] = max(self._longest.get(before, 0.0), now - since)
        self._phase, self._said = (kind, step, now), 0.0

    def check(self) -> None:
        """Warns when the phase has lasted too long; called by the watching thread."""
        phase, said = self._phase, self._said
        if phase is None:
            return
        kind, step, since = phase
        seconds = self._now() - since
        longest = self._longest.get(kind)
        expected = self._first if longest is None else self._factor * longest
        limit = max(expected, self._least)
        if seconds < max(limit, 2 * said):
            return
        self._said = seconds
        before = (
            "it is the first" if longest is None else f"the longest before took {longest:.1f} s"
        )
        log.warning(
            "%s has been %s (step %d) for %.0f s; %s. It stands in:\n%s",
            *(self._host or "this host", kind, step, seconds, before, self._where()),
        )

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)
        return "".join(traceback.format_stack(frame, limit=8)) if frame else "(it has ended)"

    def _run(self) -> None:
        while not self._stop.wait(min(self._least / 4, 10.0)):
            self.check()
