"""What the packets of a video stream say before anything is decoded: how many frames, and where.

One pass over the file without decoding. It is cheap beside decoding (5 ms against 60 for a clip of
two seconds) and true where headers are not: Matroska states no count, MP4 counts frames that its
edit list cuts away, and a file that was cut short still states what it once had.
"""

import bisect
import dataclasses
import itertools
import statistics

import av

from jaxvid.decode.reader import MAX_MISSING_SHARE, allowed_missing

# Containers that store when each frame is shown. AVI and ASF do not: there libav guesses, and the
# guess is wrong as soon as frames are reordered.
_STATE_FRAME_TIMES = ("mov", "matroska", "flv")
# Broadcast streams, whose clock may begin anew: two recordings in one file, or a camera restarted.
_CLOCK_MAY_BREAK = ("mpegts", "mpeg")
# From packet to packet, as in FFmpeg's own tool; ahead also many usual steps: pictures may be rare.
_BACK_SECONDS, _AHEAD_SECONDS, _AHEAD_STEPS = 0.1, 10.0, 10
_VP8_SHOW_FRAME = 0x10  # RFC 6386, 9.1: this bit of the first byte is 0 in a frame not to be shown


class TruncatedError(Exception):
    """The file holds much less than its header states; the message says what and how much."""


@dataclasses.dataclass(frozen=True)
class PacketTable:
    """num_frames: packets that give a frame to be shown, from the first key frame on. duration: of all
    of them, in ticks of the stream's time base, or None where there are no times, or they begin anew
    on the way. pts: of each, in the order shown, unless some lack it or share it. exact: whether these
    name every frame that decoding gives; then `keyframes` are the numbers of those that it can start
    from. without_leading: the same without the packets that follow the first one and are shown before
    it, if there are any: where what they are built on was cut away, decoding does not give them."""

    num_frames: int
    duration: int | None
    exact: bool
    pts: tuple[int, ...] = ()
    keyframes: tuple[int, ...] = ()
    without_leading: "PacketTable | None" = None

    def keyframe_before(self, index: int) -> int:
        """The last frame, at or before this one, that decoding can start from; 0 if unknown."""
        at = bisect.bisect_right(self.keyframes, index)
        return self.keyframes[at - 1] if at else 0


def read(container: av.container.InputContainer, stream: av.VideoStream) -> PacketTable:
    """Reads the container to its end. Raises TruncatedError if more than a tenth of what its header
    states is absent. MP4, AVI and Matroska state something; where others end nobody can say."""
    family = container.format.name.split(",")[0]
    shown, found, ticks, seconds, clock = [], 0, 0, 0.0, []
    early = begins = None  # frames shown before the first key frame's packet, and its time
    for packet in _demuxed(container, container.streams if family == "matroska" else [stream]):
        start, length = packet.dts if packet.pts is None else packet.pts, packet.duration or 0
        if start is not None and packet.time_base is not None:
            seconds = max(seconds, float((start + length) * packet.time_base))
        if packet.stream_index == stream.index:
            found, ticks = found + 1, max(ticks, (packet.dts or 0) + 1)
            if packet.dts is not None:
                clock.append(packet.dts)
            if early is None and packet.is_keyframe:
                early, begins = len(shown), packet.pts
            if _is_shown(packet, stream):
                shown.append((packet.pts, length, packet.is_keyframe, packet.is_corrupt))
    if family == "mov":
        # The count of the header, less what its edit list cuts away, which only the index knows.
        _check_frames(min(stream.frames, len(stream.index_entries) or stream.frames), found)
    elif family == "avi":
        # The count of the header includes frames dropped in recording: they take a tick of time
        # but have no packet.
        _check_frames(stream.frames, ticks)
    elif family == "matroska" and container.duration:
        _check_seconds(container.duration / av.time_base, seconds)
    if early:  # cut out of a stream: no decoder can begin there, nor show what leans on it
        later = (begins is None or pts is None or pts >= begins for pts, *_ in shown[early:])
        shown = list(itertools.compress(shown[early:], later))
    table = _table(shown, family in _STATE_FRAME_TIMES and len(shown) == found)
    if family in (*_STATE_FRAME_TIMES, *_CLOCK_MAY_BREAK) and (leading := _leading(shown)):
        rest = _table([shown[0], *shown[leading + 1 :]], family in _STATE_FRAME_TIMES)
        table = dataclasses.replace(table, without_leading=rest)
    if family in _CLOCK_MAY_BREAK and _breaks(clock, float(stream.time_base)):
        return dataclasses.replace(table, duration=None)
    return table


def _leading(shown: list[tuple[int | None, int, bool, bool]]) -> int:
    """How many packets directly behind the first one are shown before it, or at a time that the
    container could not state."""
    first = shown[0][0] if shown else None
    if first is None:
        return 0
    behind = (pts for pts, *_ in shown[1:])
    return sum(1 for _ in itertools.takewhile(lambda pts: pts is None or pts <= first, behind))


def _breaks(clock: list[int], tick: float) -> bool:
    """Whether decoding times, in ticks of so many seconds, run backwards or jump."""
    steps = [(b - a) * tick for a, b in itertools.pairwise(clock)]
    if not steps:
        return False
    usual = statistics.median(steps)
    ahead = max(_AHEAD_SECONDS, _AHEAD_STEPS * usual)
    return min(steps) < -_BACK_SECONDS or max(steps) > ahead


def _check_frames(stated: int, held: int) -> None:
    if held < stated - allowed_missing(stated):
        raise TruncatedError(f"it is cut short: its header states {stated} frames, it has {held}")


def _check_seconds(stated: float, held: float) -> None:
    if held < stated * (1 - MAX_MISSING_SHARE):
        raise TruncatedError(
            f"it is cut short: its header states {stated:.2f} seconds, it ends after {held:.2f}"
        )


def _demuxed(container, streams):
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return  # damaged from here on; what is absent is seen by counting


def _is_shown(packet, stream) -> bool:
    hidden = packet.is_discard
    if stream.codec_context.name in ("vp8", "libvpx"):
        hidden = hidden or not memoryview(packet)[0] & _VP8_SHOW_FRAME
    return not hidden


def _table(shown: list[tuple[int | None, int, bool, bool]], timed: bool) -> PacketTable:
    if any(pts is None for pts, *_ in shown) or not shown:
        return PacketTable(len(shown), None, False)
    order = sorted(range(len(shown)), key=lambda i: shown[i][0])
    pts = tuple(shown[i][0] for i in order)
    last = shown[order[-1]][1] or (pts[-1] - pts[-2] if len(pts) > 1 else 0)
    duration = pts[-1] + last - pts[0]
    rising = all(a < b for a, b in itertools.pairwise(pts))
    exact = (
        timed
        and rising
        and not any(corrupt for *_, corrupt in shown)
        and order[0] == 0  # else frames before the first key frame stand first and may be dropped
        and shown[0][2]
    )
    if not exact:
        return PacketTable(len(shown), duration or None, False, pts if rising else ())
    keyframes = tuple(i for i, packet in enumerate(order) if shown[packet][2])
    return PacketTable(len(shown), duration or None, True, pts, keyframes)
