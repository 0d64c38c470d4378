"""A wall-clock limit for one call that may hang in C code, where no signal and no timeout reaches.

The calls run in threads that are kept for the next ones: a thread for each clip costs 0.5 of the 5 ms
that a clip of a store takes on two cores.
"""

import collections
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from jaxvid.core.errors import DecodeError

Result = TypeVar("Result")


def run_with_deadline(
    function: Callable[[], Result], seconds: float, path: str, backend: str
) -> Result:
    """Calls function() in another thread and returns what it returns, or raises what it raises.

    seconds: wall-clock limit, > 0. `path` and `backend` only name the clip in the error. Raises
    DecodeError when the limit passes; the thread cannot be stopped from outside, so it is left
    behind and ends with its call. It is a daemon: it does not keep the process from ending.
    """
    if not seconds > 0:
        raise ValueError(f"the deadline of a clip is {seconds} seconds, expected more than 0")
    thread = _taken()
    try:
        succeeded, value = thread.call(function, min(seconds, threading.TIMEOUT_MAX), path)
    except queue.Empty:
        thread.leave()
        raise DecodeError(
            path, None, backend, f"not finished at the deadline of {seconds:g} seconds for one clip"
        ) from None
    except BaseException:  # an interrupt: its result belongs to nobody
        thread.leave()
        raise
    _idle.append(thread)
    if succeeded:
        return value
    raise value


class _Thread:
    """Runs one call after the other, each for one caller."""

    def __init__(self):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any], seconds: float, path: str) -> tuple[bool, Any]:
        """(True, the result) or (False, the error); raises queue.Empty at the deadline."""
        self._thread.name = f"decode {path}"
        self._calls.put(function)
        return self._outcomes.get(timeout=seconds)

    def leave(self) -> None:
        """Lets the thread end once it is through with its call."""
        self._calls.put(None)

    def _work(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                outcome = True, function()
            except BaseException as error:  # noqa: BLE001 (handed over: the caller raises it)
                outcome = False, error
            self._outcomes.put(outcome)
            del function, outcome  # an idle thread holds no clip


_idle: collections.deque[_Thread] = collections.deque()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_idle.clear)  # a child process has none of the threads


def _taken() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        return _Thread()
