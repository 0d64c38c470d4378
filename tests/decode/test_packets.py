"""Containers that say too much, too little or nothing about their frames."""

import struct

import av
import numpy as np
import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.decode import packets, video


def read(path):
    with av.open(str(path)) as container:
        return packets.read(container, container.streams.video[0])


def numbers_at_both_ends(path, numbered):
    """What is read at frames 0, 1 and the last, and how many frames there are said to be."""
    with video.open(path) as reader:
        count = reader.meta.num_frames
        return numbered.read(reader.frames_at([0, 1, count - 1])), count


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv", "a.mov"])
def test_timed_containers(tmp_path, write_video, numbered, name):
    path = write_video(tmp_path / name, numbered.frames(20), options={"g": "5", "bf": "2"})
    table = read(path)
    assert (table.num_frames, table.exact) == (20, True)
    assert table.keyframes == (0, 5, 10, 15)
    assert [table.keyframe_before(i) for i in (0, 4, 5, 19)] == [0, 0, 5, 15]
    assert list(table.pts) == sorted(table.pts)


@pytest.mark.parametrize("name", ["a.avi", "a.ts", "a.h264"])
def test_containers_without_reliable_times_are_only_counted(tmp_path, write_video, numbered, name):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    options = {"g": "5", "qmin": "1", "qmax": "2"}
    path = write_video(tmp_path / name, numbered.frames(20), 25, codec, options=options)
    table = read(path)
    assert (table.num_frames, table.exact, table.keyframe_before(19)) == (20, False, 0)
    with video.open(path) as reader:
        assert reader.meta.fps == 25
        assert reader.meta.duration_seconds == pytest.approx(0.8)
        assert numbered.read(reader.frames_at([19, 6, 0])) == [19, 6, 0]


@pytest.mark.parametrize(
    ("skip", "share", "first", "count"), [(0, 0.5, 0, 10), (10, 0.5, 10, 10), (5, 0.25, 5, 5)]
)
def test_edit_list_of_an_mp4(tmp_path, write_video, numbered, skip, share, first, count):
    """A clip cut out of a longer one without encoding keeps packets that are not to be shown."""
    frames = numbered.frames(20)
    path = write_video(tmp_path / "a.mp4", frames, options={"g": "7", "bf": "2"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    duration, media_time = struct.unpack_from(">Ii", data, entry)
    ticks_a_frame = media_time // 2  # it begins two frames in: B-frames are decoded that much later
    struct.pack_into(">Ii", data, entry, int(share * duration), media_time + skip * ticks_a_frame)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 20  # what trusting the header would give
    assert numbers_at_both_ends(path, numbered) == ([first, first + 1, first + count - 1], count)


def test_frames_dropped_in_an_avi_are_not_taken_for_truncation(tmp_path, write_video, numbered):
    pts = [*range(10), *range(18, 28)]
    path = write_video(tmp_path / "a.avi", numbered.frames(20), 10, "mpeg4", pts=pts)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 28
    assert numbers_at_both_ends(path, numbered) == ([0, 1, 19], 20)


def test_hidden_vp8_frames_are_not_counted(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.webm", numbered.frames(20), 10, "libvpx")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packet = [bytes(p) for p in container.demux(stream) if p.size][7]
    data[data.index(packet)] &= ~0x10  # the bit that says that the frame is to be shown
    path.write_bytes(data)
    table = read(path)
    assert (table.num_frames, table.exact) == (19, False)
    with video.open(path) as reader:
        assert numbered.read(reader.frames_at(np.arange(19))) == [*range(7), *range(8, 20)]
        assert reader.missing_frames == 0


@pytest.mark.parametrize("codec, options", [("libx264", {}), ("mpeg2video", {"bf": "2"})])
def test_a_recording_that_begins_between_key_frames(tmp_path, write_video, codec, options):
    """What cannot be decoded at its start is not counted, and all that can be is there."""
    frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3))
    options = {"g": "8", "qmin": "1", "qmax": "2"} | options
    path = write_video(tmp_path / "a.ts", frames, 25, codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 8 // 188 * 188 :])  # whole packets of the transport stream
    with av.open(str(path)) as container:
        expected = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    with video.open(path) as reader:
        assert 24 <= reader.meta.num_frames == len(expected) < 40
        got = reader.frames_at(np.arange(len(expected)))
        assert reader.missing_frames == 0
    assert np.abs(got.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("name, codec", [("a.ts", "libx264"), ("a.mpg", "mpeg2video")])
def test_a_clock_that_begins_anew_tells_no_rate(tmp_path, write_video, name, codec):
    """Two recordings in one file: their times lie over each other, and would make 50 frames a second."""
    path = write_video(tmp_path / name, noise(40), 25, codec)
    path.write_bytes(path.read_bytes() * 2)
    assert read(path).duration is None
    with video.open(path) as reader:
        assert (reader.meta.num_frames, reader.meta.fps) == (80, 25)
        assert reader.meta.duration_seconds == pytest.approx(3.2)


@pytest.mark.parametrize("step, pause, breaks", [(1, 60, True), (1, 5, False), (1500, 60, False)])
def test_a_clock_that_jumps(tmp_path, step, pause, breaks):
    """Ahead by a minute between frames of a 25th of a second; not by little, nor where all are rare."""
    path = tmp_path / "a.ts"
    with av.open(str(path), "w", format="mpegts") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        for number, pixels in enumerate(noise(20)):
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format="yuv420p")
            frame.pts = step * number + 25 * pause * (number >= 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    table = read(path)
    assert table.num_frames == 20 and (table.duration is None) == breaks


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def noise(count=30):
    return np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "codec", "stated"),
    [
        ("a.mp4", "libx264", "30 frames, it has"),
        ("a.avi", "mjpeg", "30 frames, it has"),
        ("a.mkv", "libx264", r"3\.00 seconds, it ends after 1\."),
    ],
)
def test_truncated(tmp_path, write_video, backend, name, codec, stated):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    muxer = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, noise(), 10, codec, pix_fmt=pix_fmt, muxer=muxer)
    cut(path, 0.5)
    with pytest.raises(DecodeError, match=f"it is cut short: its header states {stated}") as info:
        video.open(path, backend=backend)
    assert (info.value.path, info.value.backend) == (str(path), backend)


def test_an_mp4_that_lost_its_index(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", noise(), 10)
    cut(path, 0.9)
    with pytest.raises(DecodeError, match="it is not a video, or damaged"):
        video.open(path)


def test_a_few_frames_lost_only_shorten_the_video(tmp_path, write_video):
    path = write_video(tmp_path / "a.avi", noise(), 10, "mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        at = [p.pos for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[: at[28]])
    with video.open(path) as reader:
        assert reader.meta.num_frames == 28
        assert reader.frames_at([27]).shape == (1, 48, 64, 3)
        assert reader.missing_frames == 0
