"""What the measurements count; how long anything takes is not tested."""

import dataclasses
import os
import time

import grain
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import bench, store_writer
from jaxvid.data.memory import InMemory
from jaxvid.data.pipeline import training_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop
from jaxvid.data.transforms.short_side_resize import ShortSideResize
from jaxvid.decode.pyav import Reader

SLOW = 0.05  # seconds, far longer than anything these small clips take


@pytest.fixture
def index(tmp_path, write_video):
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 48, 3), np.uint8)
    paths = [write_video(tmp_path / f"{n}.mp4", f) for n, f in enumerate(frames)]
    return DatasetIndex(tuple(VideoRecord(str(p), p.name, (0,)) for p in paths), ("any",))


def source(index, open_clip=None):
    return ClipSource(
        index,
        sampling=Sampling("uniform", 4),
        size=16,
        transforms=(ShortSideResize(20), RandomResizedCrop(16)),
        open_clip=open_clip or FileOpener(),
    )


@pytest.fixture
def store(index, tmp_path):
    settings = Settings("folder", str(tmp_path), None, 90, "pyav")
    store_writer.start(tmp_path / "store", settings)
    paths = [record.path for record in index.records]
    store_writer.write(tmp_path / "store", paths, settings, root=tmp_path, workers=1, show=False)
    return Store(tmp_path / "store")


def slowed(monkeypatch, owner, name):
    real = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(SLOW)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize(
    ("stage", "owner", "name"),
    [
        ("decode", Reader, "_decode"),
        ("decode", FileOpener, "__call__"),
        ("read", bench, "_read_all"),
        ("resize", RandomResizedCrop, "random_map"),
        ("resize", ShortSideResize, "map"),
        ("batch", bench, "stack_clips"),
        ("other", ClipSource, "_example"),
    ],
)
def test_time_counts_where_it_is_spent(index, monkeypatch, stage, owner, name):
    slowed(monkeypatch, owner, name)
    told = bench.stages(source(index), batch_size=1, seconds=1e-6)
    assert told.clips == 1 and told.seconds[stage] >= SLOW
    assert max(told.seconds, key=told.seconds.get) == stage
    assert all(seconds >= 0 for seconds in told.seconds.values())


def test_transfer_is_given_whole_batches(index):
    batches = []

    def transfer(batch):
        time.sleep(SLOW)
        batches.append(batch)

    told = bench.stages(source(index), batch_size=3, seconds=1e-6, transfer=transfer)
    assert [b["video"].shape[0] for b in batches] == [3]
    assert told.seconds["transfer"] >= SLOW / 3 and told.clips == 3


def test_a_store_reads_its_records_and_decodes_them(index, store, monkeypatch):
    slowed(monkeypatch, store._shards, "open")
    told = bench.stages(source(index, store), batch_size=2, seconds=1e-6)
    assert told.seconds["read"] >= SLOW and 0 < told.seconds["decode"] < SLOW
    sizes = [len(b) for r in index.records for b in store(r).encoded([1, 3, 5, 7])]
    assert told.bytes_read == pytest.approx(sum(sizes) / 2, rel=0.05)  # random frames, all of noise


def test_files_and_folders_are_read_whole(index, tmp_path):
    told = bench.stages(source(index), batch_size=2, seconds=1e-6)
    sizes = [os.path.getsize(record.path) for record in index.records]
    assert told.bytes_read == sum(sizes) / 2
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(b"12345")
    assert bench._read_all(str(folder)) == 10


def test_memory_is_measured_once_it_is_full(index, monkeypatch):
    slowed(monkeypatch, Reader, "_decode")
    told = bench.stages(source(index, InMemory(FileOpener())), batch_size=2, seconds=1e-6)
    assert told.bytes_read == 0 and sum(told.seconds.values()) < SLOW


def test_the_clips_are_those_of_the_source(index, monkeypatch):
    whole = source(index)
    taken = []
    real = bench.stack_clips
    monkeypatch.setattr(
        bench, "stack_clips", lambda clips, *rest: taken.extend(clips) or real(clips, *rest)
    )
    bench.stages(whole, batch_size=2, seconds=1e-6, seed=4)
    for number, clip in enumerate(taken):
        again = whole.load(int(clip["row"]), bench.clip_rng(4, number))
        np.testing.assert_array_equal(clip["video"], again["video"])
    assert isinstance(whole.transforms[0], grain.transforms.Map)  # and it is left as it was
    assert isinstance(whole.open_clip, FileOpener)


def test_throughput_counts_clips_bytes_and_skipped_ones(index):
    records = (*index.records, VideoRecord("nowhere.mp4", "x", (0,)))
    clips = source(dataclasses.replace(index, records=records))
    clips.on_error = "skip"
    with training_batches(clips, batch_size=3, seed=0) as batches:
        told = bench.throughput(batches, 1e-6)
    assert (told.clips, told.skipped) == (3, 1) and told.seconds > 0
    assert told.bytes == 3 * (4 * 16 * 16 * 3 + 4 + 1 + 4)
    assert told.clips_per_second == told.clips / told.seconds


def test_no_time_is_refused(index):
    with pytest.raises(ConfigError, match="the time to measure is 0 seconds, expected more than 0"):
        bench.stages(source(index), batch_size=1, seconds=0)
    with pytest.raises(ConfigError, match="the time to measure is -1 seconds"):
        bench.throughput(iter(()), -1)


def test_who_waits_is_said_in_words():
    said = bench.verdict(gives=50, needs=200)
    assert "the model waits for data" in said and "75%" in said
    assert "the data keep up: 300.0 clips/s for a model that takes 200.0" in bench.verdict(300, 200)


def test_advice_goes_by_what_takes_longest():
    def told(stage):
        return bench.Stages(dict.fromkeys(bench.STAGES, 1.0) | {stage: 2.0}, 0, 1)

    assert "jaxvid data prepare" in bench.advice(told("decode"), prepared=False)
    assert "more cores" in bench.advice(told("decode"), prepared=True)
    assert "local disk" in bench.advice(told("read"), prepared=True)
    assert "data.decode_short_side" in bench.advice(told("resize"), prepared=False)
    assert "transfer takes longest" in bench.advice(told("transfer"), prepared=False)
