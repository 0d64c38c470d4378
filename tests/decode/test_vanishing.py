"""Files that vanish, shrink or stall after they were opened, and facts that cannot be."""

import itertools
import os
import threading

import numpy as np
import pytest
from PIL import Image

from jaxvid.core.errors import DecodeError
from jaxvid.decode import video
from jaxvid.decode.deadline import run_with_deadline


def noise(count, height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


class TestVanishing:
    def test_between_two_visits(self, tmp_path, write_video, numbered, backend):
        path = write_video(tmp_path / "a.mp4", numbered.frames(12))
        with video.open(path, backend=backend) as reader:
            assert numbered.read(reader.frames_at([3])) == [3]
        path.unlink()
        with pytest.raises(DecodeError, match=rf"a\.mp4.*by {backend}: there is no such file"):
            video.open(path, backend=backend)

    def test_an_open_file_stays_readable_where_nothing_must_be_reopened(
        self, tmp_path, write_video, numbered
    ):
        path = write_video(tmp_path / "a.mp4", numbered.frames(40), options={"g": "10"})
        with video.open(path) as reader:
            path.unlink()
            assert numbered.read(reader.frames_at([35, 2, 17])) == [35, 2, 17]

    def test_between_two_reads(self, tmp_path, write_video, numbered):
        """AVI states no times, so that going back means opening the file again."""
        path = write_video(tmp_path / "a.avi", numbered.frames(12), codec="mpeg4")
        with video.open(path) as reader:
            assert numbered.read(reader.frames_at([8])) == [8]
            path.unlink()
            assert numbered.read(reader.frames_at([10])) == [10]  # onwards it is still open
            with pytest.raises(DecodeError, match=r"a\.avi: .* at frame 2 by pyav: .*No such file"):
                reader.frames_at([2])

    def test_decord_opens_it_at_every_read(self, tmp_path, write_video, numbered):
        pytest.importorskip("decord")
        path = write_video(tmp_path / "a.mp4", numbered.frames(12))
        with video.open(path, backend="decord") as reader:
            path.unlink()
            with pytest.raises(DecodeError, match=r"a\.mp4: .*by decord: decord says: "):
                reader.frames_at([2])

    def test_another_video_in_its_place_is_not_taken_for_it(
        self, tmp_path, write_video, numbered, backend
    ):
        """Downloads are often renamed over an older file; half of each would be a clip of none."""
        path = write_video(tmp_path / "a.avi", numbered.frames(12), codec="mpeg4")
        other = write_video(tmp_path / "b.avi", numbered.frames(30)[18:], codec="mpeg4")
        with video.open(path, backend=backend) as reader:
            assert numbered.read(reader.frames_at([8])) == [8]
            other.replace(path)
            with pytest.raises(
                DecodeError, match=rf"a\.avi.* by {backend}: the file was changed wh"
            ):
                reader.frames_at([2])

    @pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
    def test_cut_off_while_open(self, tmp_path, write_video, name, codec):
        path = write_video(tmp_path / name, noise(60, 128, 128), codec=codec, options={"g": "6"})
        with video.open(path) as reader:
            os.truncate(path, path.stat().st_size // 4)
            with pytest.raises(DecodeError, match=name):
                reader.frames_at([0, 30, 59])

    def test_an_image_of_a_folder(self, tmp_path):
        for number in range(3):
            Image.new("RGB", (8, 8), (number * 9,) * 3).save(tmp_path / f"{number}.png")
        with video.open(tmp_path) as reader:
            (tmp_path / "1.png").unlink()
            assert reader.frames_at([0, 2]).shape == (2, 8, 8, 3)
            with pytest.raises(DecodeError, match=r"at frame 1 by frames: 1\.png cannot be read"):
                reader.frames_at([0, 1])


class TestStalls:
    """A named pipe whose writer stops half-way: a network folder that no longer answers."""

    @pytest.fixture
    def half_written(self, tmp_path, write_video):
        whole = write_video(tmp_path / "whole.mkv", noise(80, 128, 128), codec="mpeg4").read_bytes()
        assert len(whole) > 4 * 65536  # half of it does not fit into the pipe
        path, release = tmp_path / "pipe.mkv", threading.Event()
        os.mkfifo(path)

        def write():
            with open(path, "wb", buffering=0) as pipe:
                pipe.write(whole[: len(whole) // 2])
                release.wait(60)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        yield path
        release.set()
        thread.join(60)

    def test_half_way_through_a_file(self, half_written):
        def read():
            with video.open(half_written) as reader:
                return reader.frames_at([0])

        with pytest.raises(DecodeError, match=r"pipe\.mkv.* not finished at the deadline of 1 sec"):
            run_with_deadline(read, 1, str(half_written), "pyav")

    def test_others_are_read_meanwhile(self, half_written, tmp_path, write_video, numbered):
        """A call into libav that never returns must not hold the interpreter's lock."""
        good = write_video(tmp_path / "good.mp4", numbered.frames(12))
        outcome = []

        def stall():
            try:
                run_with_deadline(lambda: video.open(half_written), 3, str(half_written), "pyav")
            except DecodeError as error:
                outcome.append(error)

        stalled = threading.Thread(target=stall)
        stalled.start()
        for _ in range(5):
            with video.open(good) as reader:
                assert numbered.read(reader.frames_at([0, 11])) == [0, 11]
        assert not outcome  # the five did not wait for it
        stalled.join(30)
        assert len(outcome) == 1

    @pytest.mark.parametrize("call", ["path.isdir", "stat", "listdir"])
    def test_the_file_system_itself(self, tmp_path, monkeypatch, call):
        """The first calls of all, which a dead network folder never answers."""
        Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
        target = tmp_path if call == "listdir" else tmp_path / "1.png"
        release = threading.Event()

        def stalls(path):
            release.wait(30)
            raise OSError(5, "Input/output error")

        owner = os.path if call == "path.isdir" else os
        with monkeypatch.context() as patch:
            patch.setattr(owner, call.split(".")[-1], stalls)
            with pytest.raises(DecodeError, match="not finished at the deadline of 0.3 seconds"):
                run_with_deadline(lambda: video.open(target), 0.3, str(target), "pyav")
            release.set()


class TestFactsThatCannotBe:
    def test_times_of_a_broken_clock(self, tmp_path, write_video, numbered):
        """Two hundred days between two frames: neither a rate nor a duration can be made of it."""
        times = [0, 1, 2, 3, 200 * 86400 * 10]
        path = write_video(tmp_path / "a.mkv", numbered.frames(5), fps=10, codec="mpeg4", pts=times)
        with video.open(path) as reader:
            assert reader.meta.num_frames == 5
            assert 5 <= reader.meta.fps <= 1000
            assert reader.meta.duration_seconds == pytest.approx(5 / reader.meta.fps)
            assert numbered.read(reader.frames_at([0, 4])) == [0, 4]

    def test_slow_recordings_keep_their_rate(self, tmp_path, write_video, numbered):
        path = write_video(tmp_path / "a.mkv", numbered.frames(5), fps=10, pts=range(0, 3000, 600))
        with video.open(path) as reader:
            assert reader.meta.fps == pytest.approx(1 / 60, rel=0.3)

    def test_frames_too_large_for_memory(self, tmp_path, write_video, numbered, monkeypatch):
        path = write_video(tmp_path / "a.mp4", numbered.frames(5))

        def too_much(needed):
            raise MemoryError

        with video.open(path) as reader:
            monkeypatch.setattr(reader, "_decode", too_much)
            with pytest.raises(
                DecodeError, match="3 frames of 64x48 pixels do not fit into memory"
            ):
                reader.frames_at([0, 1, 4])

    def test_no_thread_or_file_is_left_by_failures(self, tmp_path):
        folder = "/proc/self/fd"
        if not os.path.isdir(folder):
            pytest.skip("needs /proc")
        path = tmp_path / "a.mp4"
        path.write_bytes(bytes(range(256)) * 40)
        run_with_deadline(
            lambda: None, 20, str(path), "pyav"
        )  # its thread stays for the next calls
        before = len(os.listdir(folder)), threading.active_count()
        for _ in itertools.repeat(None, 20):
            with pytest.raises(DecodeError):
                run_with_deadline(lambda: video.open(path), 20, str(path), "pyav")
        assert (len(os.listdir(folder)), threading.active_count()) <= before
