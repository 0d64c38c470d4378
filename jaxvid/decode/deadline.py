"""A wall-clock limit for one call that may hang in C code, where no signal and no timeout reaches."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from jaxvid.core.errors import DecodeError

Result = TypeVar("Result")


def run_with_deadline(
    function: Callable[[], Result], seconds: float, path: str, backend: str
) -> Result:
    """Calls function() in a thread of its own and returns what it returns, or raises what it raises.

    seconds: wall-clock limit, > 0. `path` and `backend` only name the clip in the error. Raises
    DecodeError when the limit passes; the thread cannot be stopped from outside, so it is left
    behind. It is a daemon: it does not keep the process from ending.
    """
    if not seconds > 0:
        raise ValueError(f"the deadline of a clip is {seconds} seconds, expected more than 0")
    outcome: list[tuple[bool, Any]] = []

    def work():
        try:
            outcome.append((True, function()))
        except BaseException as error:  # noqa: BLE001 (handed over: the caller raises it)
            outcome.append((False, error))

    thread = threading.Thread(target=work, name=f"decode {path}", daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))
    if not outcome:
        raise DecodeError(
            path, None, backend, f"not finished at the deadline of {seconds:g} seconds for one clip"
        )
    succeeded, value = outcome[0]
    if succeeded:
        return value
    raise value
