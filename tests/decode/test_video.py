import os
import subprocess
import sys

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DecodeError, UnknownNameError
from jaxvid.decode import video


def test_reads_and_closes(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.mp4", numbered.frames(12), fps=10)
    with video.open(path) as reader:
        meta = reader.meta
        assert (meta.num_frames, meta.fps, meta.height, meta.width) == (12, 10.0, 48, 64)
        assert (meta.duration_seconds, meta.rotation_degrees) == (pytest.approx(1.2), 0)
        got = reader.frames_at([11, 0, 5, 5])
        assert (got.shape, got.dtype) == ((4, 48, 64, 3), np.uint8)
        assert numbered.read(got) == [11, 0, 5, 5]
    with pytest.raises(ValueError, match=r"a\.mp4: the reader is closed"):
        reader.frames_at([0])


def test_no_frames_asked_for(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.mp4", numbered.frames(2))
    with video.open(path, short_side=24) as reader:
        assert reader.frames_at([]).shape == (0, 24, 32, 3)


@pytest.mark.parametrize("index", [-1, 12, 10**6])
def test_a_frame_outside_the_video(tmp_path, write_video, numbered, index, backend):
    path = write_video(tmp_path / "a.mp4", numbered.frames(12))
    with (
        video.open(path, backend=backend) as reader,
        pytest.raises(DecodeError, match="no such frame: the video has 12, numbered 0 to 11") as e,
    ):
        reader.frames_at([0, index, 3])
    assert (e.value.frame, e.value.backend, e.value.path) == (index, backend, str(path))


@pytest.mark.parametrize("indices", [[0.5], [[0, 1]], 3, ["a"]])
def test_indices_that_are_no_numbers_of_frames(tmp_path, write_video, numbered, indices):
    path = write_video(tmp_path / "a.mp4", numbered.frames(2))
    with (
        video.open(path) as reader,
        pytest.raises(ValueError, match="frame indices are .* expected whole numbers with one ax"),
    ):
        reader.frames_at(indices)


def test_unknown_backend():
    with pytest.raises(UnknownNameError, match="unknown decoder 'pyva'. Did you mean 'pyav'"):
        video.open("a.mp4", backend="pyva")


def test_a_video_format_that_begins_with_text(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.y4m", numbered.frames(3, 64, 64), codec="rawvideo")
    assert path.read_bytes()[:60].isascii()
    with video.open(path) as reader:
        assert numbered.read(reader.frames_at([2])) == [2]


@pytest.mark.parametrize("short_side", [0, -3, 1.5, "224"])
def test_short_side_that_is_no_number_of_pixels(short_side):
    with pytest.raises(ConfigError, match="short_side is .*, expected a positive number of pixel"):
        video.open("a.mp4", short_side=short_side)


class TestBadFiles:
    def reason(self, path, backend):
        with pytest.raises(DecodeError) as info:
            video.open(path, backend=backend)
        assert (info.value.path, info.value.backend) == (str(path), backend)
        return info.value.reason

    def test_missing(self, tmp_path, backend):
        assert self.reason(tmp_path / "a.mp4", backend) == "there is no such file"

    def test_empty(self, tmp_path, backend):
        (tmp_path / "a.mp4").touch()
        assert self.reason(tmp_path / "a.mp4", backend) == "the file is empty (0 bytes)"

    def test_text(self, tmp_path, backend):
        (tmp_path / "a.mp4").write_text("<!DOCTYPE html><html>404 Not Found</html>")
        reason = self.reason(tmp_path / "a.mp4", backend)
        assert reason == "it is no video, it holds text: '<!DOCTYPE html><html>404 Not Found</html'"

    def test_noise(self, tmp_path, backend):
        noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
        (tmp_path / "a.mp4").write_bytes(noise.tobytes())
        assert self.reason(tmp_path / "a.mp4", backend) == "it is not a video, or damaged"

    def test_playlist(self, tmp_path, backend):
        """libav would fetch what it lists, and wait for more to come."""
        (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n")
        reason = self.reason(tmp_path / "a.mp4", backend)
        assert reason.startswith("it is no video, it holds text: '#EXTM3U")

    def test_name_that_no_file_can_have(self, tmp_path, backend):
        reason = self.reason(tmp_path / "a\0.mp4", backend)
        assert "the file cannot be read" in reason

    def test_path_through_a_file(self, tmp_path, backend):
        (tmp_path / "a.mp4").touch()
        reason = self.reason(tmp_path / "a.mp4" / "b.mp4", backend)
        assert reason == "the file cannot be read: Not a directory"


def test_a_file_that_may_not_be_read(tmp_path, write_video, numbered, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered.frames(2))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read all: let only the look at it fail
        monkeypatch.setattr(os, "stat", _refuse)
    with pytest.raises(DecodeError, match="Permission denied"):
        video.open(path)


def _refuse(path, **_):
    raise PermissionError(13, "Permission denied")


def test_odd_file_names(tmp_path, write_video, numbered, monkeypatch, backend):
    plain = write_video(tmp_path / "a.mp4", numbered.frames(3))
    monkeypatch.chdir(tmp_path)
    for name in ("http:a b#&;%d.mp4", "größe 2.mp4", "-i.mp4"):
        os.link(plain, name)
        with video.open(name, backend=backend) as reader:  # relative, and a colon in front
            assert numbered.read(reader.frames_at([2, 1])) == [2, 1]


def test_without_decord_the_error_says_what_to_do(tmp_path, write_video, numbered):
    path = write_video(tmp_path / "a.mp4", numbered.frames(2))
    code = (
        "import sys; sys.modules['decord'] = None\n"
        "from jaxvid.core.errors import ConfigError\n"
        "from jaxvid.decode import video\n"
        f"assert video.open({str(path)!r}).meta.num_frames == 2\n"
        "try:\n"
        f"    video.open({str(path)!r}, backend='decord')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the decoder 'decord' needs the package decord" in done.stdout
    assert "pip install decord" in done.stdout
    assert "default decoder 'pyav'" in done.stdout


def test_pyav_needs_neither_decord_nor_jax():
    code = (
        "import sys\nfrom jaxvid.decode import video, pyav, deadline\n"
        "print([m for m in ('decord', 'jax', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
