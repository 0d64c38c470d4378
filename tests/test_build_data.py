"""Where the pixels come from changes nothing: files, store and memory give the same batches, in the same
order, on any number of hosts, and go on where they were."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxvid import build_data, config
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data import store_writer
from jaxvid.data.memory import InMemory
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings

CLIPS = Path(__file__).parent / "data" / "clips"
SIDE = 48
SOURCES = ("files", "store", "memory", "memory of the store")


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_video):
    """Five clips to train on and three to evaluate on: real ones, and smooth ones that move."""
    root = tmp_path_factory.mktemp("set")
    made = {
        "train/turn/a b": 0,
        "train/wave/c": 1,
        "train/wave/d": 2,
        "val/turn/e": 3,
        "val/wave/f": 4,
    }
    for name, number in made.items():
        path = root / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, waves(number, 9 + number), options={"crf": "8"})
    shutil.copy(CLIPS / "h265.mp4", root / "train" / "turn" / "x, #1.mp4")
    shutil.copy(CLIPS / "h265_10bits.mp4", root / "train" / "turn" / "ten bits.mp4")
    shutil.copy(CLIPS / "rotation_90.mov", root / "val" / "turn")
    return root


def waves(number, frames):
    """uint8 (frames, 64, 96, 3): a pattern of its own that moves a pixel and a half a frame."""
    y, x = np.mgrid[:64, :96] / 8
    t = np.arange(frames)[:, None, None] * 1.5 / 8
    planes = [np.sin(x + k - t) * np.cos(y + number) for k in range(3)]
    return (128 + 100 * np.stack(planes, -1)).astype(np.uint8)


@pytest.fixture(scope="module")
def store(root, tmp_path_factory):
    return prepare(root, tmp_path_factory.mktemp("stores") / "small")


def prepare(root, folder, **changes):
    settings = Settings("folder", str(root), SIDE, 95, "pyav", **changes)
    paths = sorted(str(p) for p in root.rglob("*.m*") if p.is_file())
    store_writer.start(folder, settings)
    done = store_writer.write(folder, paths, settings, root=root, workers=2, show=False)
    assert done.videos == 8
    return folder


@pytest.fixture
def make(root, store, monkeypatch):
    """The config of one of SOURCES."""
    monkeypatch.setattr(build_data, "_memories", {})

    def make(kind="files", **changes):
        c = config.default()
        c.run.seed = 3
        c.data.dataset, c.data.root = "folder", str(root)
        c.data.batch_size, c.data.num_frames, c.data.size = 4, 4, 32
        c.data.decode_short_side, c.data.threads = SIDE, 2
        c.data.store = str(store) if "store" in kind else ""
        c.data.in_memory = "memory" in kind
        c.data.update(changes)
        return c

    return make


@pytest.fixture
def hosts(monkeypatch):
    """Says which host of how many this process is."""

    def hosts(index, count):
        monkeypatch.setattr(build_data, "data_host", lambda devices: (index, count))

    hosts(0, 1)
    return hosts


def training(c, count, state=None):
    """(so many batches, the state after them)"""
    records = build_data.index(c, "train")
    with build_data.training_data(c, records, None) as batches:
        if state is not None:
            batches.set_state(state)
        return [next(batches) for _ in range(count)], batches.get_state()


def evaluation(c):
    data = build_data.evaluation_data(c, build_data.index(c, "val"), None, clips=2, crops=3)
    return list(data)


def assert_same(ours, theirs, *, codec=False):
    """All arrays equal; of pixels that a codec has seen, nearly."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if codec and name == "video":
                assert a[name].shape == b[name].shape and b[name].std() > 20
                error = np.abs(a[name].astype(int) - b[name]).mean()
                assert 0 < error < 2, f"{error} grey levels"  # another frame or crop: above 15
            else:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("kind", SOURCES[1:])
def test_training_batches_are_those_of_the_files(make, hosts, kind):
    jitter = {"train_views": 2, "speed_jitter": (0.8, 1.2), "jitter_frames": 1}
    theirs, _ = training(make(**jitter), 3)
    ours, _ = training(make(kind, **jitter), 3)
    assert theirs[0]["video"].shape == (4, 2, 4, 32, 32, 3)
    assert_same(ours, theirs, codec="store" in kind)


@pytest.mark.parametrize("kind", SOURCES[1:])
def test_evaluation_batches_are_those_of_the_files(make, hosts, kind):
    theirs, ours = evaluation(make()), evaluation(make(kind))
    assert [b["video"].shape for b in ours] == [(4, 6, 4, 32, 32, 3)]
    assert ours[0]["mask"].tolist() == [True, True, True, False]
    assert_same(ours, theirs, codec="store" in kind)


@pytest.mark.parametrize("kind", SOURCES)
def test_training_goes_on_in_the_middle_of_an_epoch(make, hosts, kind):
    """Batches of 4 from 5 clips: after two of them the second epoch has come to its third clip."""
    straight, _ = training(make(kind), 5)
    _, state = training(make(kind), 2)
    build_data._memories.clear()  # as in a new process
    later, _ = training(make(kind), 3, state)
    assert_same(later, straight[2:])


@pytest.mark.parametrize("kind", SOURCES)
def test_another_number_of_hosts_goes_on_with_the_same_clips(make, hosts, kind):
    straight, _ = training(make(kind), 4)
    _, state = training(make(kind), 2)
    for count in (2, 4):
        parts = []
        for index in range(count):
            hosts(index, count)
            parts.append(training(make(kind), 2, state)[0])
        assert parts[0][0]["video"].shape[0] == 4 // count
        joined = [
            {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
            for batch in zip(*parts, strict=True)
        ]
        assert_same(joined, straight[2:])


def test_flow_comes_from_the_store_with_the_same_pixels(make, hosts, root, tmp_path):
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")
    folder = prepare(root, tmp_path / "with flow", flow="dis")
    expected, _ = training(make("store"), 3)
    for kind in ("store", "memory of the store"):
        c = make(kind, store=str(folder), flow="stored", train_views=1)
        ours, _ = training(c, 3)
        flow = np.concatenate([batch.pop("flow") for batch in ours])
        assert flow.shape == (12, 1, 4, 32, 32, 2) and flow.std() > 0.3
        assert_same(ours, expected)
        (later,), _ = training(c, 1, {"next_batch": 2})
        np.testing.assert_array_equal(later["flow"], flow[8:])
        evaluated = evaluation(c)[0]["flow"]
        assert evaluated.shape == (4, 6, 4, 32, 32, 2)
        np.testing.assert_array_equal(evaluated[3], evaluated[0])  # padding, which counts nowhere
    with pytest.raises(ConfigError, match="do not come from a store that holds any"):
        training(make("store", flow="stored"), 1)


def test_worker_processes_give_the_same_batches_from_a_store(make, hosts):
    straight, _ = training(make("store"), 2)
    assert_same(training(make("store", workers=1), 2)[0], straight)


def test_training_and_evaluation_share_one_memory(make, hosts):
    c = make("memory")
    training(c, 2)
    evaluation(c)
    (memory,) = build_data._memories.values()
    assert memory.videos_held == 8 and memory.limit_bytes == 4 * 2**30
    other = make("memory of the store", memory_gib=0.5)
    training(other, 1)
    (memory,) = build_data._memories.values()  # the first one is let go
    assert memory.limit_bytes == 2**29 and memory.backend == Store.backend


@pytest.mark.parametrize(
    "change", [{"memory_gib": 1.0}, {"decode_short_side": 40}, {"decoder": "decord"}]
)
def test_another_memory_for_other_settings(make, change):
    records = build_data.index(make(), "train")
    first = build_data.training_source(make("memory"), records).open_clip
    again = build_data.training_source(make("memory"), records).open_clip
    other = build_data.training_source(make("memory", **change), records).open_clip
    assert isinstance(first, InMemory) and again is first and other is not first


def test_the_store_is_compared_with_the_records_before_training(
    make, root, store, tmp_path, caplog
):
    more = tmp_path / "more"
    shutil.copytree(root, more)
    shutil.copy(CLIPS / "rotation_0.mov", more / "train" / "turn")
    c = make("store", root=str(more))
    with pytest.raises(DataError, match="1 of the 6 videos are not in this store of 'folder'"):
        build_data.training_source(c, build_data.index(c, "train"))
    evaluation_records = build_data.index(c, "val")
    build_data.evaluation_source(c, evaluation_records, clips=1, crops=1)  # elsewhere, and whole
    with caplog.at_level(logging.WARNING, "jaxvid.data"):
        c.data.decode_short_side = 64
        build_data.evaluation_source(c, evaluation_records, clips=1, crops=1)
    assert "a short side of 48 pixels, not the 64 asked for" in caplog.text
    shutil.copy(more / "val" / "turn" / "e.mp4", more / "val" / "wave" / "f.mp4")
    with pytest.raises(DataError, match="f.mp4: the file is not the one that"):
        build_data.evaluation_source(c, evaluation_records, clips=1, crops=1)
