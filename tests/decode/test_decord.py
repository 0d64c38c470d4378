import os
from pathlib import Path

import av
import numpy as np
import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline

pytest.importorskip("decord")

CLIPS = Path(__file__).parents[1] / "data" / "clips"


def with_both(path, indices, **options):
    """(meta, frames) by PyAV and by decord."""
    read = []
    for backend in video.BACKENDS:
        with video.open(path, backend=backend, **options) as reader:
            read.append((reader.meta, reader.frames_at(indices)))
    return read


class TestSameAsPyav:
    @pytest.mark.parametrize(
        "name", ["arm_wrestling.mp4", "h265.mp4", "rotation_0.mov", "rotation_90.mov"]
    )
    def test_pixels(self, name):
        with video.open(CLIPS / name) as reader:
            count = reader.meta.num_frames
        indices = np.random.default_rng(0).integers(0, count, 6)
        (meta, expected), (decord_meta, got) = with_both(CLIPS / name, indices)
        assert decord_meta == meta
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("width", [16, 20, 24, 48, 66])
    def test_narrow(self, tmp_path, write_video, width):
        frames = np.random.default_rng(0).integers(0, 255, (8, 32, width, 3))
        path = write_video(tmp_path / "a.mp4", frames)
        (_, expected), (_, got) = with_both(path, [5, 0, 7])
        np.testing.assert_array_equal(got, expected)

    def test_ten_bits(self):
        """Chroma is scaled up by other filters: alike on the whole, not at the edges of colours."""
        (meta, expected), (decord_meta, got) = with_both(CLIPS / "h265_10bits.mp4", [29, 3])
        assert decord_meta == meta
        difference = np.abs(got.astype(int) - expected)
        assert np.median(difference) <= 1
        assert difference.mean() < 5

    @pytest.mark.parametrize("name", ["arm_wrestling.mp4", "rotation_90.mov"])
    def test_short_side(self, name):
        (meta, expected), (decord_meta, got) = with_both(CLIPS / name, [2, 0], short_side=96)
        assert decord_meta == meta
        assert got.shape == expected.shape
        assert np.abs(got.astype(int) - expected).mean() < 3

    @pytest.mark.parametrize(
        ("name", "codec"),
        [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")],
    )
    def test_every_frame_of_many_groups(self, tmp_path, write_video, numbered, name, codec):
        options = {"g": "5", "qmin": "1", "qmax": "2"} if codec == "mpeg4" else {"g": "5"}
        path = write_video(tmp_path / name, numbered.frames(20), 10, codec, options=options)
        with video.open(path, backend="decord") as reader:
            assert numbered.read(reader.frames_at(np.arange(20))) == list(range(20))
            assert numbered.read(reader.frames_at([13, 2, 13])) == [13, 2, 13]
            assert numbered.read(reader.frames_at([19])) == [19]


def test_far_apart_in_one_group_without_times(tmp_path, write_video, numbered):
    options = {"g": "100", "qmin": "1", "qmax": "2", "bf": "2"}
    path = write_video(tmp_path / "a.avi", numbered.frames(40), 10, "mpeg4", options=options)
    with video.open(path, backend="decord") as reader:
        assert numbered.read(reader.frames_at([2, 17, 18, 39])) == [2, 17, 18, 39]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_transport_stream(tmp_path, write_video, numbered, codec):
    """From the file itself decord gives the last frame again and again, or noise for the first."""
    options = {"g": "10", "x265-params": "keyint=10:log-level=none"}
    path = write_video(tmp_path / "a.ts", numbered.frames(40), 10, codec, options=options)
    with video.open(path, backend="decord") as reader:
        assert numbered.read(reader.frames_at([0, 6, 13, 39])) == [0, 6, 13, 39]


def test_refuses_transport_streams_that_were_joined(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.ts", numbered.frames(10))
    path.write_bytes(2 * path.read_bytes())
    with (
        video.open(path, backend="decord") as reader,
        pytest.raises(DecodeError, match="by decord: decord needs a copy of its video st") as error,
    ):
        reader.frames_at([0])
    assert "(FFmpeg says: Invalid argument); take the decoder 'pyav'" in str(error.value)


def test_a_container_that_over_reports_does_not_hang(tmp_path, write_video, numbered):
    """Half of the packets are cut away by the edit list; decord counts them all."""
    path = write_video(tmp_path / "a.mp4", numbered.frames(20), options={"g": "7", "bf": "0"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    seconds = int.from_bytes(data[entry : entry + 4], "big")
    data[entry : entry + 4] = (seconds // 2).to_bytes(4, "big")
    path.write_bytes(data)

    def read():
        with video.open(path, backend="decord") as reader:
            assert reader.meta.num_frames == 10
            return numbered.read(reader.frames_at([0, 9, 5]))

    assert run_with_deadline(read, 60, str(path), "decord") == [0, 9, 5]


def two_streams(path, first, second, *, degrees=0):
    """`second` is what libav, and so decord, takes."""
    with av.open(str(path), "w") as container:
        made = []
        for frames in (first, second):
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.disposition = "yuv420p", av.stream.Disposition.default
            stream.set_display_rotation(-degrees)
            made.append(stream)
        for stream, frames in zip(made, (first, second), strict=True):
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return path


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 96, 128, 3), np.uint8)


def test_takes_the_first_of_two_video_streams_as_pyav_does(tmp_path, numbered):
    path = two_streams(tmp_path / "a.mp4", numbered.frames(3), noise(9))
    with video.open(path, backend="decord") as reader:
        assert (reader.meta.num_frames, reader.meta.height) == (3, 48)
        assert numbered.read(reader.frames_at([2, 0, 1])) == [2, 0, 1]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_takes_the_first_also_where_libav_would(tmp_path, numbered, name):
    """decord goes by rules of its own. With frames that are built on later ones Matroska has no decoding
    times for the first packets, the key frame's among them."""
    path = two_streams(tmp_path / name, numbered.frames(9), numbered.frames(9)[::-1])
    with video.open(path, backend="decord") as reader:
        assert numbered.read(reader.frames_at([8, 0, 4])) == [8, 0, 4]


def test_refuses_to_turn_one_of_two_video_streams(tmp_path, numbered):
    path = two_streams(tmp_path / "a.mp4", numbered.frames(3), noise(9), degrees=90)
    with pytest.raises(DecodeError, match="by decord: .*which decord does not put right; take the"):
        video.open(path, backend="decord")


def test_refuses_a_mirrored_video(tmp_path, numbered):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        for pixels in numbered.frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(DecodeError, match="by decord: .*mirrored.*; take the decoder 'pyav'"):
        video.open(path, backend="decord")


def test_what_decord_says_is_passed_on_without_its_source_lines(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.mp4", numbered.frames(5))
    with video.open(path, backend="decord") as reader:
        before = path.stat()  # size and time stay, else the change itself is the error
        path.write_bytes(b"gone".ljust(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(DecodeError, match=r"at frame 3 by decord: decord says: Error read"):
            reader.frames_at([1, 3])


def test_more_than_a_tenth_lost_is_an_error(tmp_path, write_video):
    frames = noise(30)
    path = write_video(tmp_path / "a.mkv", frames, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        contents = [bytes(p) for p in container.demux(video=0) if p.size]
    for content in contents[20:]:
        start = data.index(content)
        data[start : start + len(content)] = bytes(len(content))
    path.write_bytes(data)

    def read():
        with video.open(path, backend="decord") as reader:
            return reader.frames_at([0, 29])

    with pytest.raises(DecodeError, match="by decord: decord says: ") as info:
        run_with_deadline(read, 60, str(path), "decord")
    assert "/workspace" not in info.value.reason
