"""Functions that end well and badly, each in a process of its own. They stand here, and what they
import is little, for a fresh process imports this file."""

import multiprocessing
import multiprocessing.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxvid.core.apart import ProcessDied, run_apart
from jaxvid.core.errors import ConfigError


def process_and(x):
    print("said by the process", file=sys.stderr)
    return os.getpid(), x


def say(words):
    sys.stdout.write(words)  # and no more: it stays in the process until that ends, which takes it
    multiprocessing.util.Finalize(None, time.sleep, (0.3,), exitpriority=1)


def refuse(name):
    raise ConfigError(f"no such thing as {name}")


def die(number):
    os.kill(os.getpid(), number)


def test_what_it_returns_and_says(capfd):
    process, x = run_apart(process_and, [3])
    assert process != os.getpid() and x == [3]
    assert "said by the process" in capfd.readouterr().err


def test_it_ends_in_peace(capfd, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    run_apart(say, "half a line")
    assert capfd.readouterr().out == "half a line"


def test_an_interrupted_wait_ends_it(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiprocessing.connection.Connection.recv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_apart(time.sleep, 60)
    until(lambda: not multiprocessing.active_children())


def test_its_exceptions_arrive_with_where_they_came_from():
    with pytest.raises(ConfigError, match="no such thing as x3d") as caught:
        run_apart(refuse, "x3d")
    assert "in refuse" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "function, argument, cause, code",
    [(die, signal.SIGSEGV, "SIGSEGV (exit code -11)", -11), (os._exit, 3, "exit code 3", 3)],
)
def test_a_process_that_dies_without_a_result(function, argument, cause, code):
    with pytest.raises(ProcessDied, match=re.escape(f"the process died of {cause}")) as caught:
        run_apart(function, argument)
    assert (caught.value.cause, caught.value.code) == (cause, code)


def test_signals_without_a_name():
    code = -signal.SIGRTMIN - 1
    assert ProcessDied(code).cause == f"exit code {code}"


def test_it_does_not_outlive_who_waits_for_it(tmp_path):
    told = tmp_path / "process"
    inner = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"from jaxvid.core.apart import run_apart; run_apart(exec, {inner!r})"
    waiting = subprocess.Popen([sys.executable, "-c", outer])
    until(lambda: told.exists() and told.read_text())
    process = Path(f"/proc/{told.read_text()}/stat")
    assert process.exists()
    waiting.kill()
    waiting.wait()
    until(lambda: not process.exists() or process.read_text().split()[2] == "Z")


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen within 60 s"
        time.sleep(0.05)
