import os
import subprocess
import sys
import textwrap
import time

import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline


@pytest.fixture
def silent_pipe(tmp_path):
    """A FIFO that nobody writes to: opening it to read never returns."""
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    return str(path)


def test_returns_the_result():
    assert run_with_deadline(lambda: 7, 10, "a.mp4", "pyav") == 7


def test_raises_what_the_function_raises():
    def fails():
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        run_with_deadline(fails, 10, "a.mp4", "pyav")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_refuses_a_deadline_that_is_no_time(seconds):
    with pytest.raises(ValueError, match="the deadline of a clip is .* expected more than 0"):
        run_with_deadline(lambda: 7, seconds, "a.mp4", "pyav")


def test_an_endless_deadline_is_allowed():
    assert run_with_deadline(lambda: 7, float("inf"), "a.mp4", "pyav") == 7


def test_a_stalled_file_gives_a_decode_error_at_the_deadline(silent_pipe):
    start = time.monotonic()
    with pytest.raises(DecodeError, match=r"pipe\.mp4.*by pyav: not finished .* 0\.3 sec") as info:
        run_with_deadline(lambda: video.open(silent_pipe), 0.3, silent_pipe, "pyav")
    assert 0.3 <= time.monotonic() - start < 5
    assert (info.value.path, info.value.frame, info.value.backend) == (silent_pipe, None, "pyav")


def test_the_stalled_thread_does_not_keep_the_process_alive(silent_pipe):
    code = f"""
        from jaxvid.core.errors import DecodeError
        from jaxvid.decode import video
        from jaxvid.decode.deadline import run_with_deadline
        try:
            run_with_deadline(lambda: video.open({silent_pipe!r}), 0.3, "p", "pyav")
        except DecodeError:
            print("deadline")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "deadline\n"), done.stderr
