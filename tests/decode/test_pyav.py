import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jaxvid.core.errors import DecodeError
from jaxvid.core.record import VideoMeta
from jaxvid.decode import pyav, video

CLIPS = Path(__file__).parents[1] / "data" / "clips"
CLIP_FACTS = {
    "arm_wrestling.mp4": VideoMeta(280, 28.0, 256, 340, 10.0, 0),
    "h265.mp4": VideoMeta(10, 10.0, 128, 128, 1.0, 0),
    "h265_10bits.mp4": VideoMeta(30, 30.0, 200, 200, 1.0, 0),
    "rotation_0.mov": VideoMeta(3, 30.0, 320, 568, 0.1, 0),
    "rotation_90.mov": VideoMeta(3, 30.0, 568, 320, 0.1, 90),
}


def decoded_through(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


@pytest.fixture
def seeks(monkeypatch):
    """Lists the key frames sought, and makes every seek worth it that saves anything."""
    sought = []
    seek = pyav.Reader._seek
    monkeypatch.setattr(pyav, "_SEEK_SAVES_FRAMES", 1)
    monkeypatch.setattr(
        pyav.Reader, "_seek", lambda self, key: (sought.append(key), seek(self, key))[1]
    )
    return sought


@pytest.fixture
def steps(monkeypatch):
    """Lists the numbers of the frames decoded one after another, but for the first."""
    taken = []
    step = pyav.Reader._step
    monkeypatch.setattr(pyav.Reader, "_step", lambda self: (step(self), taken.append(self._at))[0])
    return taken


class TestRealClips:
    @pytest.mark.parametrize("name", CLIP_FACTS)
    def test_facts(self, name):
        with video.open(CLIPS / name) as reader:
            assert reader.meta == CLIP_FACTS[name]
            last = reader.meta.num_frames - 1
            shape = (2, reader.meta.height, reader.meta.width, 3)
            assert reader.frames_at([0, last]).shape == shape
            assert reader.missing_frames == 0

    @pytest.mark.parametrize("name", ["arm_wrestling.mp4", "h265.mp4"])
    def test_seeking_gives_what_decoding_through_gives(self, name, seeks):
        expected = decoded_through(CLIPS / name)
        rng = np.random.default_rng(0)
        with video.open(CLIPS / name) as reader:
            for _ in range(4):
                indices = rng.integers(0, len(expected), 3)
                got = reader.frames_at(indices)
                for index, frame in zip(indices, got, strict=True):
                    np.testing.assert_array_equal(frame, expected[index])
        assert len(set(seeks)) > 2

    def test_rotated_by_90_is_upright(self):
        """The two files show the same scene; the second is stored lying."""
        stored = decoded_through(CLIPS / "rotation_90.mov")[1]
        with video.open(CLIPS / "rotation_90.mov") as reader:
            np.testing.assert_array_equal(reader.frames_at([1])[0], np.rot90(stored, -1))

    @pytest.mark.parametrize("name", ["arm_wrestling.mp4", "rotation_90.mov"])
    def test_short_side_is_a_resize_of_the_whole_frame(self, name):
        with video.open(CLIPS / name) as reader:
            whole, meta = reader.frames_at([2])[0], reader.meta
        with video.open(CLIPS / name, short_side=112) as reader:
            small = reader.frames_at([2])[0]
            assert small.shape == (reader.meta.height, reader.meta.width, 3)
            assert min(small.shape[:2]) == 112
            assert max(small.shape[:2]) == {"arm_wrestling.mp4": 149, "rotation_90.mov": 199}[name]
        assert small.shape[0] / small.shape[1] == pytest.approx(meta.height / meta.width, rel=0.01)
        size = small.shape[1::-1]
        expected = np.asarray(Image.fromarray(whole).resize(size, Image.BILINEAR)).astype(int)
        assert np.abs(small - expected).mean() < 3  # swscale and Pillow resize a little differently


class TestColours:
    @pytest.mark.parametrize(
        ("codec", "pix_fmt", "color_range", "white"),
        [
            ("libx264", "yuv420p", 1, 255),
            ("libx264", "yuv420p", 2, 235),
            ("libx264", "yuv420p10le", 1, 255),
            ("libx264", "yuv420p10le", 2, 235),
            ("mjpeg", "yuvj420p", 2, 235),
        ],
    )
    def test_limited_and_full_range(self, tmp_path, codec, pix_fmt, color_range, white):
        """Luma 235 (940 in ten bits) is white in limited range, light gray in full range."""
        path = tmp_path / "a.mkv"
        wide = "10" in pix_fmt
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
            stream.codec_context.color_range = color_range
            frame = av.VideoFrame(32, 32, pix_fmt)
            frame.color_range = color_range
            dtype = np.uint16 if wide else np.uint8
            for plane, level in zip(frame.planes, (235, 128, 128), strict=True):
                count = plane.buffer_size // np.dtype(dtype).itemsize
                plane.update(np.full(count, level << (2 if wide else 0), dtype).tobytes())
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with video.open(path) as reader:
            assert np.abs(reader.frames_at([0]).astype(int) - white).max() <= 3
        with video.open(path, short_side=16) as reader:
            assert np.abs(reader.frames_at([0]).astype(int) - white).max() <= 3

    def test_red_is_the_first_channel(self, tmp_path, write_video):
        frames = np.zeros((1, 32, 32, 3), np.uint8)
        frames[..., 0] = 255
        path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="yuv444p")
        with video.open(path) as reader:
            red, green, blue = reader.frames_at([0])[0, 5, 5].tolist()
        assert red > 250
        assert max(green, blue) < 5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_display_matrix(tmp_path, degrees, mirrored):
    """All eight ways in which a picture can be stored, as written by FFmpeg: it turns first."""
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24] = (255, 0, 0)
    stored[16:, 24:] = (0, 0, 255)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(-degrees, hflip=mirrored)  # FFmpeg counts counter-clockwise
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    shown = np.rot90(stored, -degrees // 90)
    shown = shown[:, ::-1] if mirrored else shown
    with video.open(path) as reader:
        assert (reader.meta.height, reader.meta.width) == shown.shape[:2]
        assert reader.meta.rotation_degrees == ((360 - degrees) % 360 if mirrored else degrees)
        got = reader.frames_at([0])[0]
    for row in (3, -4):
        for column in (3, -4):
            assert np.abs(got[row, column].astype(int) - shown[row, column]).max() < 12


NO_B_FRAMES = {"bf": "0"}  # then every frame is built upon and none is left out


class TestWhatIsDecoded:
    def test_each_needed_frame_once_and_none_after_the_last(
        self, tmp_path, write_video, numbered, steps
    ):
        path = write_video(tmp_path / "a.mp4", numbered.frames(40), options=NO_B_FRAMES)
        with video.open(path) as reader:
            assert numbered.read(reader.frames_at([9, 3, 9, 3, 3])) == [9, 3, 9, 3, 3]
        assert steps == list(range(1, 10))

    def test_goes_on_where_it_stopped_and_comes_back(self, tmp_path, write_video, numbered, steps):
        path = write_video(tmp_path / "a.mp4", numbered.frames(40), options=NO_B_FRAMES)
        with video.open(path) as reader:
            for indices in ([5], [7], [7], [2]):
                assert numbered.read(reader.frames_at(indices)) == indices
        assert steps == [1, 2, 3, 4, 5, 6, 7, 1, 2]

    def test_far_key_frames_are_sought(self, tmp_path, write_video, numbered, steps):
        path = write_video(
            tmp_path / "a.mkv", numbered.frames(42), options={"g": "20", **NO_B_FRAMES}
        )
        with video.open(path) as reader:
            assert numbered.read(reader.frames_at([1, 22, 41])) == [1, 22, 41]
            assert numbered.read(reader.frames_at([21])) == [21]
        assert steps == [1, 21, 22, 41, 21]

    def test_near_key_frames_are_not(self, tmp_path, write_video, numbered, steps):
        path = write_video(
            tmp_path / "a.mkv", numbered.frames(20), options={"g": "5", **NO_B_FRAMES}
        )
        with video.open(path) as reader:
            reader.frames_at([1, 12])
        assert steps == list(range(1, 13))

    @pytest.mark.parametrize("seed", range(6))
    def test_frames_nobody_needs_are_left_out_without_a_trace(
        self, tmp_path, write_video, steps, seed
    ):
        """h264 with B frames: what is asked for is what decoding everything gives, bit for bit."""
        rng = np.random.default_rng(seed)
        noise = rng.integers(0, 256, (8, 8, 10, 3))
        frames = [np.kron(noise[i // 5], np.ones((6, 6, 1))) + i for i in range(40)]
        options = {"g": "12", "bf": "3", "b-pyramid": "none" if seed % 2 else "normal"}
        path = write_video(tmp_path / f"a.{('mp4', 'mkv')[seed % 2]}", frames, options=options)
        with video.open(path) as reader:
            everything = reader.frames_at(np.arange(40))
        steps.clear()
        wanted = rng.choice(40, 6, replace=False)
        with video.open(path) as reader:
            np.testing.assert_array_equal(reader.frames_at(wanted), everything[wanted])
            first = len(steps)
            again = rng.choice(40, 5)
            np.testing.assert_array_equal(reader.frames_at(again), everything[again])
        assert first < wanted.max()

    def test_one_thread(self, tmp_path, write_video, numbered):
        path = write_video(tmp_path / "a.mp4", numbered.frames(2))
        with video.open(path) as reader:
            assert reader._stream.codec_context.thread_count == 1

    @pytest.mark.parametrize("damage", ["other times", "no frame", "an error"])
    def test_a_seek_that_goes_wrong_is_made_up_for(
        self, tmp_path, write_video, numbered, monkeypatch, seeks, damage
    ):
        """Whatever happens after a seek, frames are those that decoding through gives."""
        path = write_video(tmp_path / "a.mkv", numbered.frames(30), options={"g": "10"})
        with video.open(path) as reader:
            honest = reader._decoded

            def dishonest():
                monkeypatch.setattr(reader, "_decoded", honest)
                frames = honest()
                yield next(frames)
                if damage == "an error":
                    raise av.error.InvalidDataError(1, "damaged")
                if damage == "other times":
                    next(frames)
                    yield from frames

            monkeypatch.setattr(reader, "_decoded", dishonest)
            assert numbered.read(reader.frames_at([22, 25])) == [22, 25]
            assert numbered.read(reader.frames_at([11])) == [11]
        assert seeks == [0, 20]  # the first when opened; none is tried after the failure


class TestTimes:
    def test_variable_frame_rate_counts_frames(self, tmp_path, write_video, numbered):
        times = [0, 1, 2, 30, 31, 60, 90, 91]
        path = write_video(tmp_path / "a.mp4", numbered.frames(8), fps=30, pts=times)
        with video.open(path) as reader:
            assert reader.meta.num_frames == 8
            assert 92 / 30 <= reader.meta.duration_seconds < 4  # the last one's length is a guess
            assert reader.meta.fps == pytest.approx(8 / reader.meta.duration_seconds, rel=0.1)
            assert numbered.read(reader.frames_at(np.arange(8))) == list(range(8))
            assert reader.meta.frame_seconds == pytest.approx(np.array(times) / 30, abs=1e-3)

    def test_a_rate_that_hardly_varies_is_a_constant_one(self, tmp_path, write_video, numbered):
        """Matroska counts milliseconds."""
        path = write_video(tmp_path / "a.mkv", numbered.frames(20), fps=30)
        with video.open(path) as reader:
            assert reader.meta.frame_seconds == ()

    def test_fractional_rate(self, tmp_path, write_video, numbered):
        path = write_video(tmp_path / "a.mp4", numbered.frames(5), fps=Fraction(30000, 1001))
        with video.open(path) as reader:
            assert reader.meta.fps == pytest.approx(29.97, abs=0.001)

    def test_one_frame(self, tmp_path, write_video, numbered):
        path = write_video(tmp_path / "a.mp4", numbered.frames(1), fps=25)
        with video.open(path) as reader:
            assert reader.meta == VideoMeta(1, 25.0, 48, 64, 0.04)
            assert reader.frames_at([0, 0]).shape == (2, 48, 64, 3)

    def test_a_still_picture_has_the_fallback_rate_of_libav(self, tmp_path):
        Image.new("RGB", (64, 48), (9, 9, 9)).save(tmp_path / "a.png")
        with video.open(tmp_path / "a.png") as reader:
            assert (reader.meta.num_frames, reader.meta.fps > 0) == (1, True)


def write_streams(path, *streams):
    """Writes one file with sound and then several video streams of these frames."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        made = []
        for frames in streams:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition.default  # else libav takes the first
            made.append(stream)
        _mux_sound(container, sound)
        for stream, frames in zip(made, streams, strict=True):
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return path


def _mux_sound(container, stream):
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    sound.sample_rate = 8000
    container.mux(stream.encode(sound))
    container.mux(stream.encode())


class TestStreams:
    def test_audio_only(self, tmp_path):
        path = write_streams(tmp_path / "a.mp4")
        with pytest.raises(DecodeError, match=r"it has no video stream \(its streams: audio\)"):
            video.open(path)

    def test_cover_art_is_no_video(self, tmp_path):
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            cover = container.add_stream("mjpeg", rate=10)
            cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            sound = container.add_stream("aac", rate=8000)
            picture = np.zeros((32, 32, 3), np.uint8)
            container.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(cover.encode())
            _mux_sound(container, sound)
        with pytest.raises(
            DecodeError, match=r"it has no video stream \(its streams: audio, video"
        ):
            video.open(tmp_path / "a.mp4")

    def test_the_first_of_two_video_streams(self, tmp_path, numbered):
        large = np.random.default_rng(0).integers(0, 256, (9, 96, 128, 3), np.uint8)
        path = write_streams(tmp_path / "a.mp4", numbered.frames(3), large)
        with video.open(path) as reader:
            assert (reader.meta.num_frames, reader.meta.height) == (3, 48)
            assert reader.stream_index == 1  # after the sound
            assert numbered.read(reader.frames_at([2, 1])) == [2, 1]

    def test_a_codec_that_is_unknown(self, tmp_path, write_video, numbered):
        path = write_video(tmp_path / "a.avi", numbered.frames(3), codec="mpeg4")
        path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQQQ"))
        with pytest.raises(DecodeError, match="its 1 video streams have codecs unknown to this FF"):
            video.open(path)

    def test_a_change_of_size_half_way(self, tmp_path, write_video, numbered):
        """All frames come in the size of the first."""
        a = write_video(tmp_path / "a.h264", numbered.frames(5))
        b = write_video(tmp_path / "b.h264", numbered.frames(10, 96, 128)[5:])
        (tmp_path / "c.h264").write_bytes(a.read_bytes() + b.read_bytes())
        with video.open(tmp_path / "c.h264") as reader:
            assert numbered.read(reader.frames_at(np.arange(10))) == list(range(10))


def open_files():
    return [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _is_open(n)]


def _is_open(number):
    return os.path.exists(f"/proc/self/fd/{number}")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
def test_no_file_stays_open(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.avi", numbered.frames(20), 10, "mpeg4")
    broken = write_streams(tmp_path / "b.mp4")
    errors = []  # each holds its traceback and so every frame of it, as a log would
    for _ in range(3):
        with video.open(path) as reader:
            for index in (15, 3, 8):  # going back reopens an AVI
                reader.frames_at([index])
        with pytest.raises(DecodeError) as info:
            video.open(broken)
        errors.append(info)
    assert not [name for name in open_files() if str(tmp_path) in name]


def test_errors_of_ffmpeg_do_not_leak(tmp_path, write_video, numbered, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered.frames(3))

    def fail(*_, **__):
        raise av.error.PermissionError(13, "Permission denied")

    with video.open(path) as reader:
        monkeypatch.setattr(pyav.Reader, "_pixels", fail)
        with pytest.raises(DecodeError, match="at frame 2 by pyav: FFmpeg says: Permission denied"):
            reader.frames_at([2])


def test_readers_in_many_threads(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.mp4", numbered.frames(30), options={"g": "10"})
    results = {}

    def work(start):
        for _ in range(3):
            with video.open(path) as reader:
                results[start] = numbered.read(reader.frames_at([start, 29, start + 1]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [i, 29, i + 1] for i in range(8)}
