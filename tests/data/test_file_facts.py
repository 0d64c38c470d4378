import os

import av
import numpy as np
import pytest
from PIL import Image

from jaxvid.core.errors import ConfigError
from jaxvid.data import file_facts
from jaxvid.data.file_facts import content_hash, read_facts

NOISE = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), np.uint8)


@pytest.fixture
def clip(tmp_path, write_video):
    return write_video(tmp_path / "clip, 1 #&;.mkv", NOISE, 10, "mjpeg", pix_fmt="yuvj420p")


def pictures(folder, levels):
    folder.mkdir()
    for number, level in enumerate(levels, 1):
        Image.new("RGB", (12, 8), (level,) * 3).save(folder / f"frame{number}.png")
    return folder


def test_facts_of_sound_files(tmp_path, clip):
    folder = pictures(tmp_path / "frames", range(12))
    facts = read_facts([str(clip), str(folder), str(clip)], threads=2)
    assert list(facts) == [str(clip), str(folder)]
    film = facts[str(clip)]
    assert (film.meta.num_frames, film.meta.height, film.meta.width) == (40, 32, 48)
    assert film.meta.fps == 10 and film.size_bytes == clip.stat().st_size and film.error is None
    assert facts[str(folder)].meta.num_frames == 12


def test_a_missing_an_unreadable_and_a_stalled_file(tmp_path, clip):
    broken, pipe = tmp_path / "broken.mp4", tmp_path / "pipe.mp4"
    broken.write_bytes(bytes(range(256)) * 20)
    os.mkfifo(pipe)
    paths = [str(tmp_path / "gone.mp4"), str(broken), str(pipe), str(clip)]
    gone, bad, stalled, good = read_facts(paths, deadline_seconds=2, threads=2).values()
    assert gone.is_missing and gone.error == "there is no such file"
    assert bad.meta is None and not bad.is_missing and "not a video" in bad.error
    assert "not finished at the deadline of 2 seconds" in stalled.error
    assert good.error is None


def test_every_frame_is_decoded_only_where_that_is_asked_for(tmp_path, clip):
    """One frame in the middle is overwritten: a sample passes it by."""
    data, mark = bytearray(clip.read_bytes()), b"\xff\xd8\xff"
    starts = [i for i in range(len(data)) if data[i : i + 3] == mark]
    assert len(starts) == 40
    data[starts[20] : starts[21] - 12] = bytes(starts[21] - 12 - starts[20])
    clip.write_bytes(data)
    path = str(clip)
    assert read_facts([path], frames=1)[path].error is None
    assert "at frame" in read_facts([path], frames=None)[path].error


@pytest.mark.parametrize("frames", [3, None])
def test_the_sound_is_read_only_where_that_is_asked_for(tmp_path, frames):
    """All packets of the track are noise behind the header, and the pictures are sound."""
    path = str(tmp_path / "deaf.mkv")
    rng = np.random.default_rng(0)
    with av.open(path, "w") as file:
        video = file.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuvj420p"
        sound = file.add_stream("aac", rate=16000, layout="mono")
        for second in range(2):
            for number in range(10):
                pixels = rng.integers(0, 256, (32, 48, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels).reformat(format="yuvj420p")
                frame.pts = 10 * second + number
                file.mux(video.encode(frame))
        samples = rng.uniform(-0.5, 0.5, (1, 32000)).astype(np.float32)
        heard = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        heard.sample_rate, heard.pts = 16000, 0
        for packet in [*sound.encode(heard), *sound.encode(None)]:
            noise = av.Packet(b"\x5a" * packet.size)
            noise.stream, noise.time_base = sound, packet.time_base
            noise.pts, noise.dts, noise.duration = packet.pts, packet.dts, packet.duration
            file.mux(noise)
        file.mux(video.encode(None))
    assert read_facts([path], frames=frames)[path].error is None
    error = read_facts([path], frames=frames, audio_rate=8000)[path].error
    assert "packets of its audio track can be decoded" in error


def test_sound_that_is_whole_or_absent_is_no_fault(clip):
    path = str(clip)
    assert read_facts([path], audio_rate=8000)[path].error is None


def test_only_files_of_one_size_are_compared(tmp_path, clip):
    twin, other = tmp_path / "twin.mkv", tmp_path / "other.mkv"
    twin.write_bytes(clip.read_bytes())
    other.write_bytes(clip.read_bytes()[:-1] + b"x")
    longer = tmp_path / "longer.mkv"
    longer.write_bytes(clip.read_bytes() + b"x")
    facts = read_facts(map(str, (clip, twin, other, longer)))
    first, second, third, fourth = (f.content for f in facts.values())
    assert first == second == content_hash(str(twin)) and third not in (first, None)
    assert fourth is None


def test_folders_are_equal_when_their_frames_are(tmp_path):
    a, b = pictures(tmp_path / "a", range(11)), pictures(tmp_path / "b", range(11))
    (b / ".DS_Store").write_bytes(b"?")
    c = pictures(tmp_path / "c", reversed(range(11)))
    assert content_hash(str(a)) == content_hash(str(b)) != content_hash(str(c))
    (b / ".DS_Store").unlink()
    first, second = read_facts([str(a), str(b)]).values()
    assert first.content == second.content == content_hash(str(a))


def test_a_file_that_vanishes_before_it_is_compared(tmp_path, clip, monkeypatch):
    def vanished(path):
        raise FileNotFoundError(path)

    twin = tmp_path / "twin.mkv"
    twin.write_bytes(clip.read_bytes())
    monkeypatch.setattr(file_facts, "content_hash", vanished)
    assert {f.content for f in read_facts([str(clip), str(twin)]).values()} == {None}


def test_a_folder_that_may_not_be_listed(tmp_path, clip, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(file_facts.os, "listdir", refused)
    folder = str(pictures(tmp_path / "a", range(2)))
    assert read_facts([folder])[folder].error == "it cannot be read: Permission denied"


@pytest.mark.parametrize("numbers", [{"frames": 0}, {"threads": 0}])
def test_numbers_that_cannot_be(numbers):
    with pytest.raises(ConfigError, match="frames is .* threads .* expected at least 1"):
        read_facts([], **numbers)
