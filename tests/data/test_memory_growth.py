"""Loading clip after clip takes no more memory: from files, a store, and memory."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.memory import InMemory
from jaxvid.data.pipeline import training_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop

STATUS = Path("/proc/self/status")
BATCH = 4
WARM = 100  # clips: threads, buffers and tables come to their size
LONG_WARM = 2_000  # the C heap comes to its own: 16 MB over 10,000 clips, 28 MB over 50,000
SIDES, FRAMES = (96, 128), 10
FRAME_BYTES = SIDES[0] * SIDES[1] * 3

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="memory is read from Linux's /proc")


class Leaking(FileOpener):
    """Keeps a frame of every video that it opens."""

    kept: ClassVar[list[np.ndarray]] = []

    def __call__(self, record):
        opened = super().__call__(record)
        self.kept.append(np.full(FRAME_BYTES, 1, np.uint8))
        return opened


@pytest.fixture(scope="module")
def index(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("set")
    frames = np.zeros((3, FRAMES, *SIDES, 3), np.uint8)
    frames[:, ::2, 20:] = 200  # quick to decode: what is measured is memory
    paths = [write_video(root / f"{n}.mp4", f) for n, f in enumerate(frames)]
    return DatasetIndex(tuple(VideoRecord(str(p), p.name, (0,)) for p in paths), ("any",))


@pytest.fixture(scope="module")
def store(index, tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("stores") / "small", [r.path for r in index.records]
    settings = Settings("folder", str(Path(paths[0]).parent), None, 90, "pyav")
    store_writer.start(folder, settings)
    store_writer.write(folder, paths, settings, root=settings.root, workers=1, show=False)
    return folder


def growth_bytes(*what):
    """`growth_here` in a process of its own: one that ran other tests has freed memory to grow into."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(growth_here, *what).result()


def growth_here(index, open_clip, clips, warm=WARM):
    """By how much this process has grown over so many clips, after the first `warm`."""
    source = ClipSource(
        index,
        sampling=Sampling("uniform", 4),
        size=32,
        transforms=(RandomResizedCrop(32),),
        open_clip=open_clip,
    )
    with training_batches(source, batch_size=BATCH, seed=0, threads=2) as batches:
        for _ in range(warm // BATCH):
            next(batches)
        before = resident_bytes()
        for _ in range(clips // BATCH):
            next(batches)
        return resident_bytes() - before


def resident_bytes():
    gc.collect()
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines["VmRSS"].split()[0])


def opener(kind, store):
    made = {
        "files": lambda: FileOpener(short_side=64),
        "store": lambda: Store(store),
        "memory": lambda: InMemory(FileOpener(), limit_bytes=10**8),
        "memory that is full": lambda: InMemory(FileOpener(), limit_bytes=FRAMES * FRAME_BYTES),
    }
    return made[kind]()


KINDS = ("files", "store", "memory", "memory that is full")


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_hundred_clips_leave_nothing_behind(index, store, kind):
    assert growth_bytes(index, opener(kind, store), 300) < 150 * FRAME_BYTES


def test_a_leak_of_a_frame_a_clip_would_be_seen(index):
    assert growth_bytes(index, Leaking(), 300) > 200 * FRAME_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_clips_leave_nothing_behind(index, store, kind):
    assert growth_bytes(index, opener(kind, store), 10_000, LONG_WARM) < 500 * FRAME_BYTES
