"""A function in a process of its own: where that one dies, this one goes on and says of what.

    run_apart(compile, config)  # its result, or its exception

For compiled code whose faults no `except` catches.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class ProcessDied(RuntimeError):
    """The process ended without a result. code: as subprocess has it, negative for signals."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code

    @property
    def cause(self) -> str:
        """Such as "SIGSEGV (exit code -11)", "exit code 3"."""
        number = f"exit code {self.code}"
        names = {one.value: one.name for one in signal.Signals}  # not of all real-time signals
        return f"{names[-self.code]} ({number})" if -self.code in names else number

    def __str__(self) -> str:
        return f"the process died of {self.cause}"


def run_apart(function: Callable, *args: Any) -> Any:
    """function(*args) in a fresh Python process: function, args, result and exceptions are pickled.

    What it prints appears as it comes. It ends with this process, however that ends. Raises what the
    function raises, and ProcessDied where the process ends without either.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks that nobody opens
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()  # else the end of the process would not be the end of what can be read
    try:
        done, result = ours.recv()
    except (EOFError, OSError):  # before or within an answer
        process.join()
        raise ProcessDied(process.exitcode) from None
    except BaseException:  # this process is interrupted
        process.kill()
        raise
    process.join()
    if not done:
        raise result
    return result


def _answer(connection: Connection, function: Callable, args: tuple) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = (True, function(*args))
    except Exception as error:  # noqa: BLE001 - raised by the one who waits
        error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
        answer = (False, error)
    connection.send(answer)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
