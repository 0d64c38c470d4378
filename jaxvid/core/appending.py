"""Text files that grow line by line, also where nothing can be appended to: in buckets."""

import os
import time
from collections.abc import Callable

from etils import epath

from jaxvid.core.files import write_atomically
from jaxvid.core.places import is_remote, storage_errors

UPLOAD_SECONDS = 30.0


class GrowingFile:
    """A text file that is added to.

    On this machine every addition is on disk when `add` returns. Objects of a bucket cannot grow: the
    text is kept in memory and the whole of it written again, at most every `seconds` and at `flush`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        seconds: float = UPLOAD_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ):
        self.path = epath.Path(path)
        self._remote = is_remote(path)
        self._seconds, self._now = seconds, now
        self._text: list[str] | None = None  # of a remote file, once it was read
        self._changed = False
        self._written = now()

    def add(self, text: str) -> None:
        """Adds to the end. Raises OSError."""
        if not self._remote:
            with self.path.open("a") as file:
                file.write(text)
            return
        self._remembered().append(text)
        self._changed = True
        if self._now() - self._written >= self._seconds:
            self.flush()

    def read(self) -> str:
        """All of it; "" where there is no file."""
        if self._remote:
            return "".join(self._remembered())
        return self.path.read_text() if self.path.exists() else ""

    def replace(self, text: str) -> None:
        """Makes it hold `text` and nothing else, at once."""
        write_atomically(self.path, text.encode())
        self._text, self._changed = [text], False

    def flush(self) -> None:
        """What was added to a bucket's file is written."""
        if self._changed:
            self.replace(self.read())
            self._written = self._now()

    def _remembered(self) -> list[str]:
        if self._text is None:
            with storage_errors(self.path):
                self._text = [self.path.read_text() if self.path.exists() else ""]
        return self._text
