"""TensorBoard's event files in s3:// buckets.

tensorboardX has a writer for S3 of its own, which needs boto3; this one needs what checkpoints there
need anyway.
"""

import logging

from tensorboardX.record_writer import register_writer_factory

from jaxvid.core.files import write_atomically

log = logging.getLogger("jaxvid")


class EventFile:
    """Kept in memory, and the whole of it written again whenever tensorboardX asks for a flush."""

    def __init__(self, path: str):
        self._path = path
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Adds to the end."""
        self._parts.append(data)

    def flush(self) -> None:
        """Also called in tensorboardX's background thread, which an error would end, and the queue to
        it would fill up and stop the run: it is said, and the next flush writes all of it."""
        try:
            self.close()
        except OSError as error:
            log.warning("TensorBoard's numbers are not written now: %s", error)

    def close(self) -> None:
        """Raises OSError where it cannot be written."""
        write_atomically(self._path, b"".join(self._parts))


class _Factory:
    def open(self, path: str) -> EventFile:
        return EventFile(path)

    def directory_check(self, path: str) -> None:
        """Buckets need no folders."""


def enable() -> None:
    """For all SummaryWriters of this process from now on."""
    register_writer_factory("s3", _Factory())
