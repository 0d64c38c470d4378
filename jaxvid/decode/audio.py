"""The sound of a stretch of a video file, by PyAV: one channel, float32, at any sample rate.

    audio.read("fight.mp4", 1.0, 3.0, 16000)  # float32 (32000,) in [-1, 1]; None: it has no sound

Time 0 is when the first video frame is shown, so the seconds are those of frame number / fps, also
where a track starts earlier or later than the pictures. Channels are averaged. Resampling is
swresample's, on a grid that starts at time 0: neighbouring stretches fit together, as well as the
container tells times (Matroska: to 1 ms).
"""

import contextlib
import math
import os
from collections.abc import Iterator

import av
import numpy as np

from jaxvid.core.errors import DecodeError
from jaxvid.decode.container import open_local

BACKEND = "audio"
_PREROLL_SECONDS = 0.25  # a codec that was sought in needs some packets until its sound is right
_MARGIN_SECONDS = 0.05  # for the resampling filter: the ends shall sound as the middle does
# Containers round times, Matroska to 1 ms: nearer frames than this follow without a gap.
_ROUNDING_SECONDS = 0.02
# Recordings of broadcasts, cut anywhere: pictures before the first key frame are never shown.
_MAY_BEGIN_ANYWHERE = ("mpegts", "mpeg")


def read(path: str, start_seconds: float, end_seconds: float, rate: int) -> np.ndarray | None:
    """float32 (round(end · rate) - round(start · rate),) in [-1, 1], of the first track that this
    FFmpeg can decode; None for a file without sound and for a folder of frames.

    start_seconds, end_seconds: 0 <= start < end, half-open; rate: samples a second, an integer from 1.
    Silence stands where the track has nothing: before its start, after its end, in gaps and in place
    of packets that are damaged.

    Raises DecodeError for a file that is none, a track nothing of which can be decoded, or one that
    changes its sample rate; ValueError for a stretch or rate that cannot be.
    """
    if not 0 <= start_seconds < end_seconds < math.inf:
        raise ValueError(
            f"{path}: sound was asked for [{start_seconds}, {end_seconds}) seconds, expected "
            "0 <= start < end"
        )
    if rate != int(rate) or rate < 1:
        raise ValueError(f"{path}: the sample rate is {rate!r}, expected a whole number from 1")
    if os.path.isdir(path):
        return None
    first, last = round(start_seconds * rate), round(end_seconds * rate)
    with _as_decode_error(path):
        wanted = (start_seconds - _MARGIN_SECONDS, end_seconds + _MARGIN_SECONDS)
        pieces = _pieces(path, *wanted)
        if pieces is None:
            return None
        source_rate, pieces = pieces
        # The margin ends where samples of both rates fall together: the grids stay the same.
        period = rate // math.gcd(rate, source_rate)
        before = max(0, math.floor(wanted[0] * rate)) // period * period
        origin = before * source_rate // rate
        size = math.ceil(wanted[1] * source_rate) - origin
        samples = _resampled(_laid_out(pieces, origin, size, source_rate), source_rate, rate)
    out = np.zeros(last - first, np.float32)
    found = samples[first - before : last - before]
    out[: len(found)] = np.clip(found, -1, 1)
    return out


# --- decoding ---------------------------------------------------------------------------------------

Pieces = list[tuple[float, np.ndarray]]  # seconds at which it starts, float32 (n,)


def _pieces(path: str, start: float, end: float) -> tuple[int, Pieces] | None:
    """(sample rate, the decoded frames that reach into [start, end)); None without a track."""
    sought = start > _PREROLL_SECONDS
    with open_local(path) as container:
        stream = _track(container, path)
        if stream is None:
            return None
        zero = _time_zero(container, stream, path)
        if sought:
            ticks = int((start - _PREROLL_SECONDS + zero) / stream.time_base)
            # Some demuxers cannot seek, and say so or stay where they are: both end well.
            with contextlib.suppress(av.FFmpegError):
                container.seek(ticks, stream=stream)
        found = _collected(_decoded(container, stream, path), stream, zero, start, end, path)
    if found is None and sought:  # it landed too late, or where no frame tells its time
        with open_local(path) as container:
            stream = _track(container, path)
            frames = _decoded(container, stream, path)
            found = _collected(frames, stream, zero, 0.0, end, path)
    return found


def _track(container, path: str):
    """The first audio stream with a decoder; None where there is no audio stream at all."""
    streams = container.streams.audio
    for stream in streams:
        if stream.codec_context is not None:
            stream.codec_context.thread_count = 1  # the pipeline runs many readers side by side
            return stream
    if streams:
        raise DecodeError(
            path,
            None,
            BACKEND,
            f"its {len(streams)} audio tracks have codecs unknown to this FFmpeg",
        )
    return None


def _time_zero(container, track, path: str) -> float:
    """When the first picture is shown, in the container's seconds; without pictures the track's
    start."""
    pictures = [
        s
        for s in container.streams.video
        if s.codec_context is not None
        and not s.disposition & av.stream.Disposition.attached_pic
        and s.start_time is not None
    ]
    stream = (pictures or [track])[0]
    zero = stream.start_time
    if pictures and container.format.name in _MAY_BEGIN_ANYWHERE:
        zero = _first_key(path, stream.index) or zero
    return float((zero or 0) * stream.time_base)


def _first_key(path: str, index: int) -> int | None:
    """The timestamp of the first picture that can be decoded, where others stand before it."""
    with open_local(path) as container:
        packets = (packet for packet in container.demux(container.streams[index]) if packet.size)
        first = next(packets, None)
        if first is None or first.is_keyframe:
            return None
        return next((packet.pts for packet in packets if packet.is_keyframe), None)


def _decoded(container, stream, path: str) -> Iterator[av.AudioFrame]:
    decoded = damaged = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:  # each codec has words of its own for damage
            damaged += 1
            continue
        decoded += len(frames)
        yield from frames
    if damaged and not decoded:
        raise DecodeError(
            path, None, BACKEND, f"none of the {damaged} packets of its audio track can be decoded"
        )


def _collected(
    frames: Iterator[av.AudioFrame], stream, zero: float, start: float, end: float, path: str
) -> tuple[int, Pieces] | None:
    """As `_pieces`; None when the first frame lies behind the start of a stretch that was sought."""
    pieces: Pieces = []
    rate, clock = stream.codec_context.sample_rate or 1, None
    for frame in frames:
        time = None if frame.pts is None else float(frame.pts * stream.time_base) - zero
        if clock is None:
            if start > _PREROLL_SECONDS and (time is None or time > start):
                return None
            rate, clock = frame.sample_rate, 0.0 if time is None else time
        elif frame.sample_rate != rate:
            raise DecodeError(
                path,
                None,
                BACKEND,
                f"its audio changes from {rate} to {frame.sample_rate} Hz at {clock:.2f} seconds; "
                "re-encode the track at one rate",
            )
        if time is not None and abs(time - clock) > _ROUNDING_SECONDS:
            clock = time
        if clock >= end:
            break
        if clock + frame.samples / rate > start:
            pieces.append((clock, _mono(frame)))
        clock += frame.samples / rate
    return rate, pieces


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """float32 (n,), the mean of the channels, full scale being 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T  # (1, n·C) -> (C, n)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.mean(axis=0, dtype=np.float32)


# --- samples ----------------------------------------------------------------------------------------


def _laid_out(pieces: Pieces, origin: int, size: int, rate: int) -> np.ndarray:
    """float32 (size,): the pieces at their times, sample `origin` of the time line first."""
    out = np.zeros(size, np.float32)
    for time, samples in pieces:
        place = round(time * rate) - origin
        samples = samples[max(0, -place) :]
        place = max(0, place)
        room = out[place : place + len(samples)]
        room[:] = samples[: len(room)]
    return out


def _resampled(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    if source_rate == rate:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = source_rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([f.to_ndarray()[0] for f in frames])


@contextlib.contextmanager
def _as_decode_error(path: str):
    try:
        yield
    except av.FFmpegError as error:
        reason = f"FFmpeg says of its sound: {error.strerror or error}"
        raise DecodeError(path, None, BACKEND, reason) from error
