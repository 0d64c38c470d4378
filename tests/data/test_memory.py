"""Videos held in memory: read once, the same frames, within the limit."""

import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DecodeError
from jaxvid.core.record import VideoRecord
from jaxvid.data import memory
from jaxvid.data.memory import InMemory
from jaxvid.data.source import FileOpener

SIZE = 6 * 32 * 48 * 3  # of one video, decoded


class Counting(FileOpener):
    """Opens files and counts how often."""

    opened: ClassVar[list[str]] = []

    def __call__(self, record):
        self.opened.append(record.id)
        return super().__call__(record)


@pytest.fixture
def counting():
    Counting.opened.clear()
    return Counting()


@pytest.fixture
def records(tmp_path, write_video):
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 32, 48, 3), np.uint8)
    return [
        VideoRecord(str(write_video(tmp_path / f"{n}.mp4", f)), str(n))
        for n, f in enumerate(frames)
    ]


def test_frames_are_those_of_the_file_and_read_once(records, counting):
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    for _ in range(3):
        for record in records:
            with opened(record) as ours, FileOpener()(record) as file:
                assert ours.meta == file.meta and ours.backend == opened.backend == "pyav"
                wanted = [5, 0, 0, 3]
                np.testing.assert_array_equal(ours.frames_at(wanted), file.frames_at(wanted))
    assert counting.opened == ["0", "1", "2"]
    assert opened.videos_held == 3 and opened.bytes_held == 3 * SIZE


def test_what_is_handed_out_can_be_written_to(records, counting):
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    with opened(records[0]) as clip:
        before = clip.frames_at([0, 1])
        before[:] = 0
        assert clip.frames_at([0, 1]).any()


def test_segments_of_one_video_share_its_frames(records, counting):
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    for start in (0.0, 0.2):
        opened(VideoRecord(records[0].path, f"from {start}", start_seconds=start)).close()
    assert len(counting.opened) == 1


def test_what_does_not_fit_is_read_each_time_and_said_once(records, counting, caplog):
    opened = InMemory(counting, limit_bytes=2 * SIZE)
    with caplog.at_level(logging.WARNING, "jaxvid.data"):
        for _ in range(2):
            for record in records:
                with opened(record) as clip:
                    assert clip.frames_at([2]).shape == (1, 32, 48, 3)
    assert counting.opened == ["0", "1", "2", "2"]
    assert opened.videos_held == 2 and opened.bytes_held <= opened.limit_bytes
    assert len(caplog.records) == 1 and "memory: 2 videos fill" in caplog.text
    assert records[2].path in caplog.text


class OfOneFile(FileOpener):
    """Stands for a set with many clips in one file: which one, the id says."""

    def key(self, record):
        return record.path, record.id

    def __call__(self, record):
        return super().__call__(VideoRecord(record.id, record.id))


def test_many_videos_of_one_file_are_told_apart(records):
    opened = pickle.loads(pickle.dumps(InMemory(OfOneFile(), limit_bytes=10 * SIZE)))
    for _ in range(2):
        for record in records:
            with opened(VideoRecord("shard", record.path)) as ours, FileOpener()(record) as file:
                np.testing.assert_array_equal(ours.frames_at([0, 5]), file.frames_at([0, 5]))
    assert opened.videos_held == 3


def test_many_threads_decode_a_video_once(records, counting):
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    together = threading.Barrier(8)

    def read(number):
        together.wait()
        with opened(records[number % 2]) as clip:
            return clip.frames_at([1]).mean()

    with ThreadPoolExecutor(8) as pool:
        means = list(pool.map(read, range(8)))
    assert len(set(means)) == 2 and sorted(counting.opened) == ["0", "1"]


def test_a_video_that_cannot_be_read_takes_no_room(records, counting, monkeypatch):
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    for _ in range(2):
        with pytest.raises(DecodeError, match="there is no such file"):
            opened(VideoRecord("nowhere.mp4", "x"))
    monkeypatch.setattr("jaxvid.decode.pyav.Reader._decode", _fails)
    with pytest.raises(DecodeError, match="damaged half-way"):
        opened(records[0])
    assert opened.bytes_held == 0 and opened.videos_held == 0


def _fails(self, needed):
    raise self._error("damaged half-way", 3)


def test_sound_and_missing_frames_come_from_the_file(records, counting, monkeypatch):
    def waveform(self, start_seconds, end_seconds, rate):
        self.has_audio = True
        return np.full(round((end_seconds - start_seconds) * rate), 0.5, np.float32)

    monkeypatch.setattr("jaxvid.decode.reader.Reader.waveform", waveform)
    opened = InMemory(counting, limit_bytes=10 * SIZE)
    opened(records[0])
    opened._held[records[0].path][1].missing_frames = 1
    with opened(records[0]) as clip:
        assert clip.waveform(0, 0.5, 8000).tolist() == [0.5] * 4000 and clip.has_audio
        clip.frames_at([4])
        assert clip.missing_frames == 0
        clip.frames_at([5])
        assert clip.missing_frames == 1
    with pytest.raises(ValueError, match="the reader is closed; ask for sound before close"):
        clip.waveform(0, 1, 8000)


def test_it_travels_to_worker_processes_empty(records):
    opened = InMemory(FileOpener(), limit_bytes=10 * SIZE)
    opened(records[0]).close()
    again = pickle.loads(pickle.dumps(opened))
    assert again.videos_held == 0 and again.bytes_held == 0 and again.limit_bytes == 10 * SIZE
    again(records[0]).close()
    assert again.videos_held == 1


def test_limits(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="limit_bytes is 0, expected a number of bytes from 1"):
        InMemory(FileOpener(), limit_bytes=0)
    container = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", container)
    machine = InMemory(FileOpener()).limit_bytes
    assert machine > 2**28
    container.write_text("max\n")
    assert InMemory(FileOpener()).limit_bytes == machine
    container.write_text("1000\n")
    assert InMemory(FileOpener()).limit_bytes == 500
