"""One run at a time in a workdir: two would write over each other's checkpoints.

The lock is the system's: it is gone with the process that holds it, however that ends.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator

from jaxvid.core.errors import ConfigError
from jaxvid.core.places import Place, is_remote

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

NAME = "run.lock"
PATIENCE_SECONDS = 10.0  # a run that was just killed is still letting go


@contextlib.contextmanager
def only_run(workdir: Place) -> Iterator[None]:
    """Holds the workdir for this process. Raises ConfigError when another one keeps it for longer than
    PATIENCE_SECONDS, with its host and number. Buckets, and file systems without locks, are not held."""
    if fcntl is None or is_remote(workdir):
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / NAME, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError:  # what is wrong with the folder is said where it is written to
        yield
        return
    with file:
        _take(file, workdir)
        yield


def _take(file, workdir: Place) -> None:
    last = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > last:
                file.seek(0)
                raise ConfigError(
                    f"--workdir {workdir}: another run is at work there ({file.read() or 'unknown'}); "
                    "wait for its end, stop it, or give another --workdir"
                ) from None
            time.sleep(0.2)
        except OSError:  # a file system without locks
            return
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
    file.flush()
