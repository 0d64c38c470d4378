"""Making a store: whole or not at all, going on, and what is said when it cannot be."""

import dataclasses
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings, read_shard_lists

SETTINGS = Settings("folder", "", short_side=None, quality=90, decoder="pyav")


@pytest.fixture
def root(tmp_path, write_video):
    root = tmp_path / "set"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        frames = np.full((6 + number, 32, 48, 3), 40 * number, np.uint8)
        frames[:, :16] = rng.integers(0, 256, (1, 16, 48, 3))
        write_video(root / f"v{number}.mp4", frames, fps=10)
    return root


@pytest.fixture
def paths(root):
    return sorted(map(str, root.iterdir()))


def prepare(folder, paths, root, **changes):
    store_writer.start(folder, SETTINGS)
    options = {"workers": 2, "show": False, "root": root} | changes
    todo = store_writer.pending(folder, paths, root)
    return store_writer.write(folder, todo, SETTINGS, **options)


def level(folder, root, path):
    """The grey level of the lower half of a video's first frame."""
    with Store(folder, root=root).open(VideoRecord(path, "x")) as clip:
        return round(float(clip.frames_at([0])[0, 20:].mean()) / 40)


def test_a_second_run_has_nothing_to_do(tmp_path, root, paths):
    folder = tmp_path / "store"
    done = prepare(folder, paths, root)
    assert (done.videos, done.failed, done.stopped) == (5, {}, False) and done.bytes > 5000
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (folder / "shards").iterdir())
    assert prepare(folder, paths, root).videos == 0
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in (folder / "shards").iterdir())
    assert [level(folder, root, p) for p in paths] == [0, 1, 2, 3, 4]


def test_it_adds_what_is_new_failed_or_changed(tmp_path, root, paths, write_video):
    folder = tmp_path / "store"
    wreck = root / "wreck.mp4"
    wreck.write_bytes(b"\0" * 4000)
    done = prepare(folder, [*paths[:3], str(wreck)], root)
    assert done.videos == 3 and list(done.failed) == [str(wreck)]
    assert "video" in done.failed[str(wreck)]
    write_video(paths[0], np.full((8, 32, 48, 3), 200, np.uint8))
    write_video(wreck, np.full((8, 32, 48, 3), 240, np.uint8))
    wanted = [*paths, str(wreck)]
    todo = store_writer.pending(folder, wanted, root, workers=2)
    assert todo == [paths[0], paths[3], paths[4], str(wreck)]
    prepare(folder, wanted, root)
    assert [level(folder, root, p) for p in wanted] == [5, 1, 2, 3, 4, 6]


def test_a_run_that_dies_leaves_whole_shards_and_goes_on(tmp_path, root, paths, monkeypatch):
    folder = tmp_path / "store"
    monkeypatch.setattr(store_writer, "_videos_a_shard", lambda videos: 2)
    real = store_writer._store_video

    def dies(path, run, records):
        if path == paths[3]:
            raise OSError("the disk is full")
        return real(path, run, records)

    monkeypatch.setattr(store_writer, "_store_video", dies)
    with pytest.raises(OSError, match="the disk is full"):
        prepare(folder, paths, root, workers=1)
    assert sorted(read_shard_lists(folder)) == ["v0.mp4", "v1.mp4"]
    assert not list((folder / "shards").glob(".*"))
    monkeypatch.setattr(store_writer, "_store_video", real)
    assert prepare(folder, paths, root).videos == 3
    assert [level(folder, root, p) for p in paths] == [0, 1, 2, 3, 4]


def test_killed_before_its_list_is_written_a_shard_does_not_count(tmp_path, root, paths):
    folder = tmp_path / "store"
    prepare(folder, paths, root, workers=1)
    next((folder / "shards").glob("*.json")).unlink()
    assert store_writer.pending(folder, paths, root) == paths
    prepare(folder, paths, root)
    assert level(folder, root, paths[4]) == 4


def test_an_interruption_loses_nothing(tmp_path, root, paths, monkeypatch):
    folder = tmp_path / "store"
    real, seen = store_writer._store_video, []

    def interrupted(path, run, records):
        seen.append(path)
        if len(seen) == 2:
            run.stop.set()  # what Ctrl-C does
            run.outcome.stopped = True
        return real(path, run, records)

    monkeypatch.setattr(store_writer, "_store_video", interrupted)
    done = prepare(folder, paths, root, workers=1)
    assert done.stopped and done.videos == 2
    assert sorted(read_shard_lists(folder)) == ["v0.mp4", "v1.mp4"]


def test_two_machines_share_the_work(tmp_path, root, paths):
    folder = tmp_path / "store"
    assert prepare(folder, paths[0::2], root).videos == 3
    assert prepare(folder, paths[1::2], root).videos == 2
    assert [level(folder, root, p) for p in paths] == [0, 1, 2, 3, 4]


def test_old_parts_are_cleared_away_and_new_ones_left(tmp_path, root, paths):
    folder = tmp_path / "store"
    store_writer.start(folder, SETTINGS)
    old, new = folder / "shards" / ".a.part", folder / "shards" / ".b.part"
    for part in (old, new):
        part.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    prepare(folder, paths[:1], root)
    assert not old.exists() and new.exists()


def test_one_way_of_making_for_all_videos(tmp_path):
    folder = tmp_path / "store"
    store_writer.start(folder, SETTINGS)
    store_writer.start(folder, dataclasses.replace(SETTINGS, root="/another/machine"))
    other = dataclasses.replace(SETTINGS, short_side=128, dataset="ucf101")
    said = "made with dataset='folder', asked for was 'ucf101'; short_side=None, asked for was 128"
    with pytest.raises(DataError, match=re.escape(said)):
        store_writer.check(folder, other)


def test_wrong_settings_and_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no store; take a new one"):
        store_writer.start(tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="quality is 101, expected 1 to 100"):
        store_writer.check(tmp_path / "new", dataclasses.replace(SETTINGS, quality=101))
    with pytest.raises(ConfigError, match="audio_rate is -1, expected 0"):
        store_writer.check(tmp_path / "new", dataclasses.replace(SETTINGS, audio_rate=-1))


def test_the_estimate_is_near(tmp_path, root, paths):
    (root / "wreck.mp4").write_bytes(b"\0" * 4000)
    expected = store_writer.estimate(
        [*paths, str(root / "wreck.mp4")], SETTINGS, deadline_seconds=60
    )
    done = prepare(tmp_path / "store", paths, root)
    assert expected.videos == 6
    assert 0.7 * done.bytes < expected.bytes < 1.5 * done.bytes
    assert store_writer.estimate([], SETTINGS, deadline_seconds=60).bytes == 0


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path):
    enough = store_writer.Estimate(5, 1000)
    assert store_writer.check_space(tmp_path / "not" / "there" / "yet", enough) > 1000
    with pytest.raises(DataError, match="about 1000000000.0 GB are needed and .* GB free"):
        store_writer.check_space(tmp_path, store_writer.Estimate(5, 10**18))


def test_a_shard_that_comes_out_cut_off_is_noticed(tmp_path, root, paths, monkeypatch):
    real = store_writer._Records.add

    def loses_one(self, records):
        real(self, records)
        self.count += len(records) > 1

    monkeypatch.setattr(store_writer._Records, "add", loses_one)
    with pytest.raises(OSError, match="a shard came out cut off; is the disk full"):
        prepare(tmp_path / "store", paths[:1], root)
    assert not read_shard_lists(tmp_path / "store")


def test_a_disk_that_refuses_is_an_os_error(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_):
            pass

        def write(self, record):
            pass

        def ok(self):
            return False

        def close(self):
            raise RuntimeError("No space left on device")

    monkeypatch.setattr(store_writer, "ArrayRecordWriter", Full)
    records = store_writer._Records(tmp_path / "part")
    with pytest.raises(OSError, match="cannot be written; is the disk full"):
        records.add([b"x"])
    with pytest.raises(OSError, match="cannot be written: No space left on device"):
        records.__exit__(None, None, None)


def test_long_videos_are_worked_through_in_stretches(tmp_path, root, paths, monkeypatch):
    monkeypatch.setattr(store_writer, "_CHUNK_BYTES", 2 * 32 * 48 * 3)  # two frames
    calls = []
    real = store_writer._encoded
    monkeypatch.setattr(store_writer, "_encoded", lambda *a: calls.append(len(a[1])) or real(*a))
    prepare(tmp_path / "store", paths[1:2], root)
    assert calls == [2, 2, 2, 1]
    assert level(tmp_path / "store", root, paths[1]) == 1


def test_how_many_videos_make_a_shard():
    assert store_writer._videos_a_shard(1600) == 16
    assert store_writer._videos_a_shard(240_000) == 240
    assert Path(store_writer._shard_name(["a"])).name != store_writer._shard_name(["b"])
