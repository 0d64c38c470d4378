"""Functions that end well and badly, each in a process of its own. They stand here, and what they
import is little, for a fresh process imports this file."""

import os
import signal
import sys

import pytest

from jaxvid.core.apart import ProcessDied, run_apart
from jaxvid.core.errors import ConfigError


def process_and(x):
    print("said by the process", file=sys.stderr)
    return os.getpid(), x


def refuse(name):
    raise ConfigError(f"no such thing as {name}")


def die(number):
    os.kill(os.getpid(), number)


def test_what_it_returns_and_says(capfd):
    process, x = run_apart(process_and, [3])
    assert process != os.getpid() and x == [3]
    assert "said by the process" in capfd.readouterr().err


def test_its_exceptions_arrive_with_where_they_came_from():
    with pytest.raises(ConfigError, match="no such thing as x3d") as caught:
        run_apart(refuse, "x3d")
    assert "in refuse" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "function, argument, cause, code",
    [(die, signal.SIGSEGV, "SIGSEGV", -11), (os._exit, 3, "exit code 3", 3)],
)
def test_a_process_that_dies_without_a_result(function, argument, cause, code):
    with pytest.raises(ProcessDied, match=f"the process died of {cause}$") as caught:
        run_apart(function, argument)
    assert (caught.value.cause, caught.value.code) == (cause, code)


def test_signals_without_a_name():
    assert ProcessDied(-signal.SIGRTMIN - 1).cause == f"signal {signal.SIGRTMIN + 1}"
