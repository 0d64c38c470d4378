import json
import os
import subprocess
import sys

import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.train import lock
from jaxvid.train.lock import NAME, only_run


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.3)


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path):
    run = tmp_path / "deep" / "run"
    with only_run(run):
        told = json.loads((run / NAME).read_text())
        assert told["process"] == os.getpid() and told["host"]
        with (
            pytest.raises(ConfigError, match=f"another run is at work there .*{os.getpid()}"),
            only_run(run),
        ):
            pytest.fail("two runs at once")
    with only_run(run):
        assert (run / NAME).read_text().count("{") == 1


def test_the_lock_goes_with_a_killed_process(tmp_path):
    code = f"""if True:
        import time
        from pathlib import Path
        from jaxvid.train.lock import only_run
        with only_run(Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"another run .* {other.pid}"), only_run(tmp_path):
        pytest.fail("two runs at once")
    other.kill()
    other.wait()
    with only_run(tmp_path):
        pass


def test_where_nothing_can_be_locked_the_run_goes_on(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError("no locks here")

    (tmp_path / "file").write_text("")
    with only_run(tmp_path / "file"):  # what is wrong is said where it is written to
        pass
    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with only_run(tmp_path):
        pass
    monkeypatch.setattr(lock, "fcntl", None)
    with only_run(tmp_path / "new"):
        assert not (tmp_path / "new").exists()
