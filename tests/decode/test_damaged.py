"""Files whose packets are all there and cannot all be decoded, and files damaged at random."""

import av
import numpy as np
import pytest

from jaxvid.core.errors import DecodeError
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline


def decoded_through(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def damage_after(path, number):
    """Overwrites the packets from that number on with zeros, without changing their count."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        contents = [bytes(p) for p in container.demux(video=0) if p.size]
    for content in contents[number:]:
        start = data.index(content)
        data[start : start + len(content)] = bytes(len(content))
    path.write_bytes(data)


class TestEarlyEnd:
    """The rule that `jaxvid.decode.pyav` states at its top."""

    def write(self, path, write_video, numbered, good):
        write_video(path, numbered.frames(30), codec="mjpeg", pix_fmt="yuvj420p")
        damage_after(path, good)
        return path

    def test_a_small_shortfall_repeats_the_last_frame_and_is_recorded(
        self, tmp_path, write_video, numbered
    ):
        path = self.write(tmp_path / "a.mkv", write_video, numbered, good=27)
        with video.open(path) as reader:
            assert reader.meta.num_frames == 30
            assert numbered.read(reader.frames_at([26])) == [26]
            assert reader.missing_frames == 0  # nobody asked yet
            assert numbered.read(reader.frames_at([5, 26, 27, 29])) == [5, 26, 26, 26]
            assert reader.missing_frames == 3
            assert numbered.read(reader.frames_at([29, 3])) == [26, 3]

    def test_a_larger_one_is_an_error(self, tmp_path, write_video, numbered):
        path = self.write(tmp_path / "a.mkv", write_video, numbered, good=26)
        with video.open(path) as reader:
            assert numbered.read(reader.frames_at([25, 0])) == [25, 0]
            with pytest.raises(
                DecodeError,
                match=r"at frame 26 by pyav: only 26 of its 30 .*Invalid data.* truncated or dam",
            ):
                reader.frames_at([0, 28])

    def test_nothing_can_be_decoded(self, tmp_path, write_video, numbered):
        path = self.write(tmp_path / "a.mkv", write_video, numbered, good=0)
        with pytest.raises(DecodeError, match="not one frame of its video stream can be decoded"):
            video.open(path)

    def test_useless_packets_at_the_start_are_passed_over(self, tmp_path, write_video, numbered):
        """A recording that begins between key frames: its first packets decode to nothing."""
        options = {"g": "10", "bf": "0", "x264-params": "repeat-headers=1"}
        whole = write_video(tmp_path / "a.h264", numbered.frames(40), options=options)
        with av.open(str(whole)) as container:
            second = [p.pos for p in container.demux(video=0) if p.size][1]
        (tmp_path / "b.h264").write_bytes(whole.read_bytes()[second:])
        with video.open(tmp_path / "b.h264") as reader:
            assert numbered.read(reader.frames_at([0])) == [10]

    @pytest.mark.parametrize("codec", ["libx264", "libx265"])
    @pytest.mark.parametrize("untimed", [False, True])
    def test_frames_that_lack_what_they_refer_to_do_not_count(
        self, tmp_path, write_video, codec, untimed
    ):
        """Cut at a key frame of an open group: the frames shown before it need the group before, and
        the decoder leaves them out. Tools that cut may leave such packets without a time."""
        noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), np.uint8)
        group = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:"
        parameters = {"libx264": "x264-params", "libx265": "x265-params"}
        options = {parameters[codec]: group + "log-level=none"}
        whole = write_video(tmp_path / "a.mkv", noise, 25, codec, options=options)
        with av.open(str(whole)) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
            copy = target.add_stream_from_template(source.streams.video[0])
            group, first, leading = -1, None, 0
            for packet in source.demux(video=0):
                group += packet.is_keyframe and packet.size > 0
                if group > 0 and packet.dts is not None:
                    first = packet.pts if first is None else first
                    leading += packet.pts < first
                    if untimed and packet.pts < first:
                        packet.pts = first
                    packet.stream = copy
                    target.mux(packet)
        expected = decoded_through(tmp_path / "b.mkv")
        with video.open(tmp_path / "b.mkv") as reader:
            assert reader.meta.num_frames == len(expected)
            assert leading == 3
            assert reader.meta.fps == 25
            got = reader.frames_at(np.arange(reader.meta.num_frames))
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(reader.frames_at([0])[0], expected[0])
            assert reader.missing_frames == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_flipped_bytes_decode_or_raise_in_time(tmp_path, write_video, name):
    """A small fuzz test: 25 damaged files of each kind. Nothing but DecodeError comes out."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_video(tmp_path / name, frames, 10, codec, options={"g": "4"})
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = {"frames": 0, "errors": 0}

    def read():
        with video.open(path) as reader:
            meta = reader.meta
            got = reader.frames_at([0, meta.num_frames // 2, meta.num_frames - 1])
            return got.shape == (3, meta.height, meta.width, 3)

    for seed in range(25):
        rng = np.random.default_rng(seed)
        damaged = whole.copy()
        reach = len(whole) if seed % 2 else min(len(whole), 1200)  # every other time: the header
        where = rng.integers(0, reach, rng.integers(1, 30))
        damaged[where] = rng.integers(0, 256, len(where))
        path.write_bytes(damaged.tobytes())
        try:
            assert run_with_deadline(read, 20, str(path), "pyav")
            outcomes["frames"] += 1
        except DecodeError as error:
            assert "deadline" not in error.reason
            outcomes["errors"] += 1
    assert sum(outcomes.values()) == 25
    assert outcomes["frames"], outcomes
