import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref

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


def test_calls_one_after_the_other_share_a_thread_and_calls_at_once_do_not():
    def where():
        return threading.get_ident()

    def both():
        return where(), run_with_deadline(where, 10, "b.mp4", "pyav")

    first = run_with_deadline(where, 10, "a.mp4", "pyav")
    assert first != threading.get_ident()
    assert run_with_deadline(where, 10, "a.mp4", "pyav") == first
    outer, inner = run_with_deadline(both, 10, "a.mp4", "pyav")
    assert outer == first != inner


def test_a_thread_that_missed_its_deadline_is_not_used_again_and_ends_with_its_call():
    go_on, seen = threading.Event(), []

    def slow():
        seen.append(threading.current_thread())
        go_on.wait(60)
        return "too late"

    with pytest.raises(DecodeError, match="not finished at the deadline of 0.05 seconds"):
        run_with_deadline(slow, 0.05, "slow.mp4", "pyav")
    assert run_with_deadline(lambda: "in time", 10, "a.mp4", "pyav") == "in time"
    go_on.set()
    seen[0].join(10)
    assert not seen[0].is_alive()
    assert run_with_deadline(lambda: "in time", 10, "a.mp4", "pyav") == "in time"


def test_an_idle_thread_holds_neither_clip_nor_error():
    class Clip:
        pass

    def fails():
        clip = Clip()
        held.append(weakref.ref(clip))
        raise KeyError(clip)

    held = []
    clip = run_with_deadline(Clip, 10, "a.mp4", "pyav")
    held.append(weakref.ref(clip))
    del clip
    with pytest.raises(KeyError):
        run_with_deadline(fails, 10, "a.mp4", "pyav")
    gc.collect()
    deadline = time.monotonic() + 10
    while any(ref() is not None for ref in held) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [ref() for ref in held] == [None, None]


def test_a_forked_process_starts_threads_of_its_own():
    code = """
        import os
        from jaxvid.decode.deadline import run_with_deadline
        run_with_deadline(lambda: 1, 10, "a", "pyav")
        child = os.fork()
        if not child:
            os._exit(run_with_deadline(lambda: 7, 10, "a", "pyav"))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
