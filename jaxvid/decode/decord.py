"""Decoding by decord, the other backend (x86-64 Linux and Windows only; no release since 2021).

PyAV reads the facts first (`meta` is the same whatever the backend), because decord alone cannot be
trusted with them: it counts packets that give no frame, may never return when it seeks past the
real end, lands on other frames than asked where key frames are close or timestamps are absent,
and chooses among several video streams by rules of its own. So it never seeks here. Frames are
skipped inside the first group of pictures, where skipping is safe, and the video is read through
otherwise. Of several video streams it is given a copy of the right one alone, and so of a transport
stream, where it makes frames up at the start and the end.

What it cannot decode at the end it fills with the frame before, without saying so (`missing_frames`
stays 0); more than a tenth of that is a DecodeError, as with PyAV. A damaged stream can still hang
it for good: call it under `deadline.run_with_deadline`.
"""

import io
import re

import av
import numpy as np

from jaxvid.core.errors import ConfigError
from jaxvid.decode import pyav, reader
from jaxvid.decode.container import open_local

try:
    import decord
except (ImportError, OSError) as error:
    raise ConfigError(
        f"the decoder 'decord' needs the package decord, which cannot be imported ({error}): "
        "pip install decord (there are wheels for x86-64 Linux and Windows only), or take the "
        "default decoder 'pyav', which decodes the same files"
    ) from error

decord.logging.set_level(decord.logging.QUIET)

_DECORD_ERRORS = (
    decord.DECORDError,
    decord.DECORDLimitReachedError,
    RuntimeError,
    AssertionError,
    IndexError,
    StopIteration,
    MemoryError,
)


class _Facts(pyav.Reader):
    """What PyAV says of a file, and whether decord can be given the file as it is."""

    @property
    def must_be_copied(self) -> bool:
        pictures = [
            s
            for s in self._container.streams.video
            if not s.disposition & av.stream.Disposition.attached_pic
        ]
        return len(pictures) > 1 or self._container.format.name == "mpegts"


class Reader(reader.Reader):
    """A video file, decoded by decord. Its own reader is made anew in every call of frames_at: it
    keeps wrong positions after a batch, and must not be shared by threads."""

    backend = "decord"

    def __init__(self, path: str, short_side: int | None = None):
        super().__init__(path)
        with _Facts(path, short_side, backend=self.backend) as facts:
            self.meta, self._table = facts.meta, facts.table
            self._stream_index = facts.stream_index if facts.must_be_copied else None
            turned, mirrored = facts.meta.rotation_degrees != 0, facts.orientation.mirrored
        if mirrored or (turned and self._stream_index is not None):
            raise self._error(
                "its picture is stored mirrored, or turned in one of several video streams or in "
                "a transport stream, which decord does not put right; take the decoder 'pyav'"
            )

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        self._check_unchanged()
        try:
            video = decord.VideoReader(
                self._source(),
                ctx=decord.cpu(0),
                width=self.meta.width,
                height=self.meta.height,
                num_threads=1,
                fault_tol=reader.MAX_MISSING_SHARE,
            )
            if not self._is_misread() and self._is_in_first_group(video, needed):
                return video.get_batch(needed).asnumpy()
            return self._read_through(video, needed)
        except _DECORD_ERRORS as error:
            raise self._error(f"decord says: {self._text(error)}", int(needed[-1])) from error

    def _source(self) -> str | io.BytesIO:
        if self._stream_index is None:
            return self.path
        try:
            return _stream_alone(self.path, self._stream_index)
        except av.FFmpegError as error:
            raise self._error(
                "decord needs a copy of its video stream alone, and none can be made (FFmpeg says: "
                f"{error.strerror or error}); take the decoder 'pyav'"
            ) from error

    def _is_in_first_group(self, video: decord.VideoReader, needed: np.ndarray) -> bool:
        keys = video.get_key_indices()
        return (
            self._table.exact
            and len(video) == self.meta.num_frames
            and (len(keys) < 2 or needed[-1] < keys[1])
        )

    def _read_through(self, video: decord.VideoReader, needed: np.ndarray) -> np.ndarray:
        out = np.empty((len(needed), self.meta.height, self.meta.width, 3), np.uint8)
        rows = {int(index): row for row, index in enumerate(needed)}
        for index in range(int(needed[-1]) + 1):
            frame = video.next()
            if index in rows:
                lines = frame.asnumpy().reshape(self.meta.height, -1)
                out[rows[index]] = lines[:, : 3 * self.meta.width].reshape(out.shape[1:])
        return out

    def _is_misread(self) -> bool:
        """Whether decord, which counts channels by dividing a line's bytes, padded to 64s, by the width,
        finds more than three: so it is with 16, 24 or 48 pixels, and get_batch fails."""
        return -(-3 * self.meta.width // 64) * 64 // self.meta.width > 3

    def _text(self, error: Exception) -> str:
        """Its first line, without the time, the place in decord's source and the path."""
        line = (str(error).splitlines() or [type(error).__name__])[0]
        line = re.sub(r"^(\[[0-9:]+\] \S+:[0-9]+: )+", "", line)
        return line.replace(f"[{self.path}]", "").strip()


def _stream_alone(path: str, stream_index: int) -> io.BytesIO:
    """The packets of one stream, not decoded, as a Matroska file in memory. Raises av.FFmpegError,
    where decoding times go back, as in recordings that were joined."""
    file = io.BytesIO()
    with open_local(path) as source:
        stream = source.streams[stream_index]
        with av.open(file, "w", format="matroska") as target:
            copy = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.size:  # the first ones of Matroska have no decoding time, and count
                    packet.stream = copy
                    target.mux(packet)
    file.seek(0)
    return file
