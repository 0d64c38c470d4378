"""Decoding by PyAV (FFmpeg), the default: one thread, frame by frame, no more than is asked for.

What happens at the end of a video. `meta.num_frames` comes from the packets of the file, not from
its header, so it is right but for streams whose packets do not all give a frame. If decoding ends
early by no more than a tenth of the frames (at least one), `meta` has over-reported: the last frame
stands in for those that are absent, and `reader.missing_frames` says how many they are. If it ends
earlier than that, or the header states more than a tenth more than the file holds, the file is
truncated or damaged, and that is a DecodeError.

Colours: swscale converts by the matrix and range that the stream states (BT.601, limited range if
it states none) to full-range RGB, 8 bits. Frames that the decoder repaired are taken as they come.
"""

import contextlib
from collections.abc import Iterator

import av
import numpy as np

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import VideoMeta
from jaxvid.decode import packets, reader
from jaxvid.decode.container import open_local
from jaxvid.decode.orientation import Orientation

av.logging.set_level(None)  # libav's chatter; its Python callback can also lock up in threads

FALLBACK_FPS = 30.0  # raw streams without any timing
MIN_FPS, MAX_FPS = 1 / 3600, 1000.0  # rates and times outside of it are damage
# Codecs whose frames say reliably that no other frame is built on them. (HEVC's may be built on by
# frames of a higher temporal layer.)
_SKIPPABLE_CODECS = ("h264",)
_SEEK_SAVES_FRAMES = 16  # a seek flushes the decoder; nearer key frames are not worth it
_AV_ERRORS = (av.FFmpegError, ValueError, OverflowError, MemoryError)


class Reader(reader.Reader):
    """A video file, decoded by PyAV. Takes the first video stream that can be decoded; cover art is
    none. Holds the file open and its decoder at the frame decoded last, until close()."""

    def __init__(self, path: str, short_side: int | None = None, *, backend: str = "pyav"):
        """backend: the name in errors, for a backend that takes only the facts from here."""
        super().__init__(path)
        self.backend = backend
        self._needed: frozenset[int] | None = None  # timestamps of the frames asked for
        self._resources = contextlib.ExitStack()
        with self._resources:  # closes the file if anything below fails
            with self._as_decode_error():
                self._open()
                self.table = packets.read(self._container, self._stream)
                self._can_seek = self.table.exact
                self._restart()
                if self._begins_without_leading():
                    self.table = self.table.without_leading
                    self._can_seek = self.table.exact
                self._last = max(0, self.table.num_frames - 1)
                self.orientation = _orientation(self._frame)
            self._size = reader.resized(self._frame.height, self._frame.width, short_side)
            self.meta = self._read_meta()
            self._resources = self._resources.pop_all()

    def close(self) -> None:
        super().close()
        self._resources.close()
        self._frame = self._frames = None

    @property
    def stream_index(self) -> int:
        """Which of the container's streams is decoded."""
        return self._stream.index

    # -- the file -----------------------------------------------------------------------------

    def _open(self) -> None:
        self._check_unchanged()
        self._container = self._resources.enter_context(open_local(self.path))
        self._stream = self._choose_stream()
        self._stream.codec_context.thread_count = 1  # the pipeline runs many readers side by side
        self._rgb = av.video.reformatter.VideoReformatter()

    def _choose_stream(self) -> av.VideoStream:
        streams = [
            s
            for s in self._container.streams.video
            if not s.disposition & av.stream.Disposition.attached_pic
        ]
        for stream in streams:
            if stream.codec_context is not None:
                return stream
        if streams:
            raise self._error(
                f"its {len(streams)} video streams have codecs unknown to this FFmpeg"
            )
        others = ", ".join(s.type for s in self._container.streams) or "none at all"
        raise self._error(f"it has no video stream (its streams: {others})")

    def _begins_without_leading(self) -> bool:
        """Whether the first frames that were decoded are the first ones of `table.without_leading`."""
        rest = self.table.without_leading
        if rest is None:
            return False
        try:
            second = next(self._frames, None)
        except av.FFmpegError:
            second = None
        self._restart()
        return second is not None and (self._frame.pts, second.pts) == rest.pts[:2]

    def _read_meta(self) -> VideoMeta:
        count, ticks = self.table.num_frames, self.table.duration
        seconds = float(ticks * self._stream.time_base) if ticks else 0.0
        if not count / MAX_FPS <= seconds <= count / MIN_FPS:
            seconds = 0.0  # times that cannot be: count by the header's rate
        fps = float(self._stream.average_rate or 0)
        # The header's rate, unless the frames' own times contradict it (variable rate, bad header).
        if seconds and abs(fps * seconds - count) > max(1, 0.02 * count):
            fps = count / seconds
        elif not MIN_FPS <= fps <= MAX_FPS:
            fps = FALLBACK_FPS
        height, width = self._size
        if self.orientation.transpose:
            height, width = width, height
        turn = self.orientation.degrees_clockwise
        duration = seconds or count / fps
        return VideoMeta(count, fps, height, width, duration, turn, self._uneven_times(fps))

    def _uneven_times(self, fps: float) -> tuple[float, ...]:
        """When each frame is shown, unless all are within half a frame of what the rate says."""
        if not self.table.exact:
            return ()
        ticks = np.array(self.table.pts)
        times = (ticks - ticks[0]) * float(self._stream.time_base)
        apart = np.abs(times * fps - np.arange(len(times))).max()
        return tuple(times.tolist()) if apart > 0.5 else ()

    # -- going to a frame ---------------------------------------------------------------------

    def _decode(self, needed: np.ndarray) -> np.ndarray:
        out = np.empty((len(needed), self.meta.height, self.meta.width, 3), np.uint8)
        if self._skips:
            self._needed = frozenset(self.table.pts[min(i, self._last)] for i in needed.tolist())
        for row, index in enumerate(map(int, needed)):
            with self._as_decode_error(index):
                self._go_to(index)
                out[row] = self._pixels()
        return out

    def _go_to(self, index: int) -> None:
        """Makes self._frame the frame of that number, or the last one if there are fewer."""
        index = min(index, self._last)
        key = self.table.keyframe_before(index) if self._can_seek else 0
        if key and (index < self._at or key >= self._at + _SEEK_SAVES_FRAMES):
            if not self._seek(key):
                self._give_up_seeking()
        elif index < self._at:
            self._restart()
        while self._at < min(index, self._last):
            self._step()

    def _step(self) -> None:
        reason = "its data end there"
        try:
            frame = next(self._frames, None)
        except av.FFmpegError as error:
            frame, reason = None, error.strerror
        if frame is None and self._counted and not self._skips:
            self._end_early(reason)
            return
        number = None if frame is None else self._number(frame)
        if number is None:
            self._give_up_seeking()
        else:
            self._frame, self._at = frame, number

    def _number(self, frame: av.VideoFrame) -> int | None:
        """Which frame this is; None if only a count from the start can say.

        Where timestamps are exact it is the next one that the packets promised, or a later one
        behind frames that nobody asked for and the decoder has left out.
        """
        following = self._at + 1
        if not self._can_seek:
            return following if self._counted else None
        for number in range(following, len(self.table.pts)):
            if self.table.pts[number] == frame.pts:
                return number
            if not self._left_out(self.table.pts[number]):
                break
        counts_still = self._counted and not self._skips
        self._can_seek = False
        return following if counts_still else None

    @property
    def _skips(self) -> bool:
        """Whether frames that are neither asked for nor built upon need not be decoded."""
        return self._can_seek and self._stream.codec_context.name in _SKIPPABLE_CODECS

    def _left_out(self, pts: int | None) -> bool:
        return (
            self._skips
            and self._needed is not None
            and pts is not None
            and (pts not in self._needed)
        )

    def _end_early(self, reason: str) -> None:
        count, decoded = self.meta.num_frames, self._at + 1
        if count - decoded > reader.allowed_missing(count):
            raise self._error(
                f"only {decoded} of its {count} frames can be decoded ({reason}); "
                "it is truncated or damaged",
                decoded,
            )
        self._last, self.missing_frames = self._at, count - decoded

    def _restart(self) -> None:
        """Goes to frame 0: by seeking where timestamps prove the place, else by reopening."""
        if not (self._can_seek and self._seek(0)):
            self._give_up_seeking()
        self._counted = True

    def _give_up_seeking(self) -> None:
        """Reopens the file; from here on frames are counted from the start, which is always right."""
        self._can_seek, self._counted = False, True
        self._resources.pop_all().close()
        self._open()
        self._frames = self._decoded()
        self._frame, self._at = next(self._frames, None), 0
        if self._frame is None:
            raise self._error("not one frame of its video stream can be decoded")

    def _seek(self, key: int) -> bool:
        """Goes to a key frame; False if decoding does not land on exactly that frame."""
        target = self.table.pts[key]
        self._counted = False
        self._container.seek(target, stream=self._stream)
        self._frames = self._decoded()
        try:
            for frame in self._frames:  # earlier ones: libav may land before the place
                if frame.pts == target:
                    self._frame, self._at = frame, key
                    return True
                if frame.pts is None or frame.pts > target:
                    return False
        except av.FFmpegError:
            pass
        return False

    def _decoded(self) -> Iterator[av.VideoFrame]:
        started = False
        context = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            context.skip_frame = "NONREF" if self._left_out(packet.pts) else "DEFAULT"
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if started:
                    raise
                continue  # a recording may begin between key frames, with packets of no use
            started = started or bool(frames)
            yield from frames

    # -- pixels -------------------------------------------------------------------------------

    def _pixels(self) -> np.ndarray:
        """The current frame as uint8 (H, W, 3), resized and made RGB in one go by swscale."""
        height, width = self._size
        frame = self._rgb.reformat(
            self._frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation="BILINEAR",
            threads=1,
        )
        return self.orientation.upright(frame.to_ndarray())

    @contextlib.contextmanager
    def _as_decode_error(self, frame: int | None = None):
        try:
            yield
        except DecodeError:
            raise
        except packets.TruncatedError as error:
            raise self._error(str(error)) from error
        except (av.error.InvalidDataError, av.error.EOFError) as error:
            raise self._error("it is not a video, or damaged", frame) from error
        except _AV_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise self._error(f"FFmpeg says: {reason}", frame) from error


def _orientation(frame: av.VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    return Orientation.from_matrix(np.frombuffer(bytes(matrix), np.int32))
