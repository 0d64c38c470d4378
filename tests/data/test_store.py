"""A store gives what the files give, and refuses what it does not hold."""

import concurrent.futures
import json
import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxvid.core import warn_once
from jaxvid.core.errors import ConfigError, DataError, DecodeError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.pipeline import evaluation_batches, training_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store, open_shard
from jaxvid.data.store_format import Settings, digest_of, key_of, read_shard_lists
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop
from jaxvid.decode import reader as reader_file
from jaxvid.decode import video

CLIPS = Path(__file__).parent / "clips"
RATE = 8000


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_video):
    """Three real clips with awkward names, one made by the test, a folder of frames, and a wreck."""
    root = tmp_path_factory.mktemp("set")
    (root / "a b").mkdir()
    shutil.copy(CLIPS / "h265.mp4", root / "a b" / "x, #1.mp4")
    shutil.copy(CLIPS / "rotation_90.mov", root / "rotation.mov")
    y, x = np.mgrid[:48, :64]
    frames = [np.stack([4 * x, 5 * y, 0 * x + 9 * k], -1).astype(np.uint8) for k in range(20)]
    write_video(root / "made.mp4", frames, fps=10)
    (root / "wreck.mp4").write_bytes(bytes(range(256)) * 20)
    return root


@pytest.fixture(scope="module")
def paths(root):
    return sorted(str(p) for p in root.rglob("*.m*") if p.is_file())


def prepare(folder, paths, root, *, workers=2, **changes):
    settings = Settings(
        "folder", str(root), **{"short_side": 40, "quality": 95, "decoder": "pyav"} | changes
    )
    store_writer.start(folder, settings)
    todo = store_writer.pending(folder, paths, root)
    return store_writer.write(folder, todo, settings, root=root, workers=workers, show=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, root, paths):
    folder = tmp_path_factory.mktemp("stores") / "small"
    prepare(folder, paths, root)
    return folder


@pytest.fixture(scope="module")
def whole(paths):
    """The paths that can be decoded."""
    return [p for p in paths if "wreck" not in p]


def index_of(paths):
    records = tuple(VideoRecord(p, Path(p).name, (0,)) for p in paths)
    return DatasetIndex(records, ("any",))


@pytest.mark.parametrize("kind", ["uniform", "dense", "linspace"])
def test_the_same_sampling_picks_the_same_frames_as_from_the_files(folder, whole, kind):
    store, files = Store(folder), FileOpener(short_side=40)
    sampling = Sampling(kind, 5, clips=2)
    for record in index_of(whole).records:
        with store(record) as ours, files(record) as theirs:
            assert ours.meta == theirs.meta
            wanted = sampling.indices(ours.meta, record, np.random.default_rng(3))
            same = sampling.indices(theirs.meta, record, np.random.default_rng(3))
            np.testing.assert_array_equal(wanted, same)
            frames, expected = ours.frames_at(wanted.ravel()), theirs.frames_at(wanted.ravel())
        assert frames.dtype == np.uint8 and frames.shape == expected.shape
        error = np.sqrt(np.mean((frames - expected.astype(float)) ** 2, axis=(1, 2, 3)))
        assert error.max() < 2.6, record.path  # grey levels; other frames: far more
        assert frames.std() > 10


def test_every_frame_is_the_one_of_its_number(folder, root):
    record = VideoRecord(str(root / "made.mp4"), "made")
    with Store(folder).open(record) as clip:
        order = [19, 0, 7, 7, 3]
        blue = clip.frames_at(order)[..., 2].mean((1, 2))
    np.testing.assert_allclose(blue, 9 * np.array(order), atol=6)


def test_training_batches_are_those_of_the_files_up_to_the_codec(folder, root, whole):
    index = index_of(whole)

    def batches(open_clip, threads):
        source = ClipSource(
            index,
            sampling=Sampling("uniform", 4),
            size=24,
            transforms=(RandomResizedCrop(24),),
            open_clip=open_clip,
        )
        with training_batches(source, batch_size=2, seed=5, threads=threads) as found:
            return [next(found) for _ in range(3)]

    theirs = batches(FileOpener(short_side=40), 1)
    for threads in (1, 4):
        for ours, file in zip(batches(Store(folder), threads), theirs, strict=True):
            assert ours["row"].tolist() == file["row"].tolist()
            difference = np.abs(ours["video"].astype(int) - file["video"])
            assert difference.mean() < 2 and np.percentile(difference, 99) < 12


def test_the_iterator_goes_on_in_the_middle_of_an_epoch(folder, whole):
    source = ClipSource(
        index_of(whole),
        sampling=Sampling("uniform", 2),
        size=16,
        transforms=(RandomResizedCrop(16),),
        open_clip=Store(folder),
    )
    with training_batches(source, batch_size=2, seed=1) as first:
        for _ in range(2):
            next(first)
        state, expected = first.get_state(), next(first)
    with training_batches(source, batch_size=2, seed=1) as second:
        second.set_state(state)
        np.testing.assert_array_equal(next(second)["video"], expected["video"])


def test_files_need_not_be_there_and_may_lie_elsewhere(folder, tmp_path, root):
    elsewhere = tmp_path / "other machine"
    moved = tmp_path / "moved store"
    shutil.copytree(folder, moved)
    store = Store(moved, root=elsewhere)
    record = VideoRecord(str(elsewhere / "a b" / "x, #1.mp4"), "x")
    store.check(DatasetIndex((record,), ()))
    with store.open(record) as clip:
        assert clip.path == record.path and clip.frames_at([3]).shape == (1, 40, 40, 3)
    assert len(store) == 4 and store.settings.root == str(root)


def test_it_travels_to_worker_processes(folder, whole):
    store = Store(folder)
    with store.open(index_of(whole).records[0]) as clip:
        frames = clip.frames_at([1, 2])
    again = pickle.loads(pickle.dumps(store))
    with again.open(index_of(whole).records[0]) as clip:
        np.testing.assert_array_equal(clip.frames_at([1, 2]), frames)


def test_many_threads_read_at_once(folder, whole, monkeypatch):
    monkeypatch.setattr("jaxvid.data.store._open_files_limit", lambda: 0)
    store, records = Store(folder), index_of(whole).records
    store._shards._most = 1  # every other one closes what others read from

    def read(number):
        with store(records[number % 3]) as clip:
            return clip.frames_at([number % 2, 0])

    expected = [read(n) for n in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found, alone in zip(pool.map(read, range(24)), expected, strict=True):
            np.testing.assert_array_equal(found, alone)


def test_the_usual_checks_of_a_reader_hold(folder, root):
    with Store(folder).open(VideoRecord(str(root / "made.mp4"), "made")) as clip:
        assert clip.frames_at([]).shape == (0, 40, 53, 3)
        with pytest.raises(DecodeError, match="made.mp4: cannot be decoded at frame 20 by store"):
            clip.frames_at([20])
    with pytest.raises(ValueError, match="the reader is closed"):
        clip.frames_at([0])


def test_a_video_that_could_not_be_decoded_says_so(folder, root):
    record = VideoRecord(str(root / "wreck.mp4"), "wreck")
    with pytest.raises(DecodeError, match="could not be decoded when .*small was made: .*damaged"):
        Store(folder).open(record)
    source = ClipSource(
        DatasetIndex((record,), ("any",)),
        sampling=Sampling("uniform", 2),
        size=16,
        transforms=(),
        open_clip=Store(folder),
        on_error="skip",
    )
    assert not next(iter(evaluation_batches(source, batch_size=1)))["mask"].any()


def test_records_of_another_set_are_refused(folder, root, paths):
    store = Store(folder)
    strange = [str(root / f"strange {n}.mp4") for n in range(12)]
    with pytest.raises(DataError) as error:
        store.check(index_of([*paths, *strange]))
    assert f"12 of the {len(paths) + 12} videos are not in this store of 'folder'" in str(
        error.value
    )
    assert str(error.value).count("strange") == 10 and "jaxvid data prepare" in str(error.value)
    with pytest.raises(
        DecodeError, match="holds no 'strange 0.mp4': run jaxvid data prepare again"
    ):
        store.open(VideoRecord(strange[0], "x"))


def test_changed_files_are_refused(folder, root, tmp_path, paths):
    copy = tmp_path / "set"
    shutil.copytree(root, copy)
    names = [str(copy / Path(p).relative_to(root)) for p in paths]
    store = Store(folder, root=copy)
    store.check(index_of(names))
    data = bytearray((copy / "made.mp4").read_bytes())
    data[-1] ^= 1  # of the same size
    (copy / "made.mp4").write_bytes(data)
    with pytest.raises(DataError, match="made.mp4: the file is not the one that .* was made from"):
        store.check(index_of(names))


def test_what_differs_from_the_recipe_is_said(folder, paths, caplog, monkeypatch):
    monkeypatch.setattr(warn_once, "_said", set())  # what was said once is not said again
    with caplog.at_level(logging.WARNING, "jaxvid.data"):
        Store(folder).check(index_of(paths), short_side=48)
    assert "its frames have a short side of 40 pixels, not the 48 asked for" in caplog.text
    assert "1 of 4 videos could not be decoded" in caplog.text
    caplog.clear()
    Store(folder).check(index_of(paths[:1]), short_side=40)
    assert not caplog.text


def test_a_folder_without_a_whole_store_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="no store is there .*jaxvid data prepare"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match="store.json: cannot be read"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text('{"version": 99}')
    with pytest.raises(DataError, match="has version 99, this jaxvid reads 1"):
        Store(tmp_path)
    shutil.copy(folder / "store.json", tmp_path / "store.json")
    with pytest.raises(DataError, match="holds no videos yet"):
        Store(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "x.json").write_text('{"videos": []}')
    with pytest.raises(DataError, match="x.array_record: the shard is missing"):
        Store(tmp_path)
    (tmp_path / "shards" / "x.array_record").write_bytes(b"")
    (tmp_path / "shards" / "x.json").write_text('{"videos": [{"name": 1}]}')
    with pytest.raises(DataError, match="x.json: the list of a shard is damaged"):
        Store(tmp_path)


@pytest.fixture
def damaged(folder, tmp_path):
    """A copy of the store; what it gives is the shard of made.mp4, to be spoilt."""
    shutil.copytree(folder, tmp_path / "copy")
    _, shard = read_shard_lists(tmp_path / "copy")["made.mp4"]
    return tmp_path / "copy", tmp_path / "copy" / "shards" / f"{shard}.array_record"


def test_damage_is_a_decode_error_that_names_the_shard(damaged, root):
    copy, shard = damaged
    data = bytearray(shard.read_bytes())
    start = data.index(b"\xff\xd8\xff")  # of a JPEG
    for place in range(start, start + 600):
        data[place] ^= 255
    shard.write_bytes(data)
    said = f": .*shard {shard.stem} cannot be read: Corrupted"
    shards_videos = [k for k, (_, name) in read_shard_lists(copy).items() if name == shard.stem]
    clips = [Store(copy).open(VideoRecord(str(root / key), key)) for key in shards_videos]
    with pytest.raises(DecodeError, match=said):
        for clip in clips:
            clip.frames_at(np.arange(clip.meta.num_frames))


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_shard_that_is_cut_off_or_vanishes_is_noticed(damaged, root, how):
    copy, shard = damaged
    store = Store(copy)
    if how == "cut":
        shard.write_bytes(shard.read_bytes()[:-1000])
    else:
        shard.unlink()
    said = "no whole ArrayRecord file" if how == "cut" else "does not exist"
    clip = store.open(VideoRecord(str(root / "made.mp4"), "m"))
    with pytest.raises(DecodeError, match=said):
        clip.frames_at([0])


def test_a_record_that_is_no_picture_is_named(folder, root, monkeypatch):
    with Store(folder).open(VideoRecord(str(root / "made.mp4"), "m")) as clip:
        monkeypatch.setattr(clip, "_read", lambda records: [b"nothing"] * len(records))
        with pytest.raises(
            DecodeError, match="at frame 3 .*the frame's record in shard .* damaged"
        ):
            clip.frames_at([3, 4])


def test_missing_last_frames_are_repeats_and_counted(folder, root, monkeypatch):
    with Store(folder).open(VideoRecord(str(root / "made.mp4"), "m")) as clip:
        object.__setattr__(clip._video, "missing", 2)
        clip.frames_at([17])
        assert clip.missing_frames == 0
        clip.frames_at([18])
        assert clip.missing_frames == 2
        object.__setattr__(clip._video, "missing", 0)


# --- sound ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory, root):
    """(store with sound, record): the waveform is made up and 23.5 s long."""
    folder = tmp_path_factory.mktemp("sound") / "store"
    patch = pytest.MonkeyPatch()
    patch.setattr(reader_file.Reader, "waveform", _made_up)
    patch.setattr(store_writer, "_seconds", lambda meta: 23.5)
    prepare(folder, [str(root / "made.mp4"), str(root / "rotation.mov")], root, audio_rate=RATE)
    patch.undo()
    return Store(folder)


def _made_up(self, start_seconds, end_seconds, rate):
    self.has_audio = "rotation" not in self.path
    time = np.arange(round(start_seconds * rate), round(end_seconds * rate)) / rate
    return np.sin(time * time).astype(np.float32)


@pytest.mark.parametrize(
    "start, end", [(0, 1), (9.5, 20.25), (10, 20), (0.1, 23.5), (22, 25), (30, 31)]
)
def test_sound_is_that_of_the_file(heard, root, start, end):
    with heard.open(VideoRecord(str(root / "made.mp4"), "m")) as clip:
        assert clip.has_audio is None
        wave = clip.waveform(start, end, RATE)
        assert clip.has_audio
    time = np.arange(round(start * RATE), round(end * RATE)) / RATE
    expected = np.where(time < 23.5, np.sin(time * time), 0)
    assert wave.dtype == np.float32 and wave.shape == expected.shape
    np.testing.assert_allclose(wave, expected, atol=2e-5)


def test_a_video_without_sound_is_silent(heard, root):
    with heard.open(VideoRecord(str(root / "rotation.mov"), "m")) as clip:
        wave = clip.waveform(0.5, 1, RATE)
        assert not clip.has_audio and wave.shape == (RATE // 2,) and not wave.any()


def test_another_rate_is_refused(heard, folder, root):
    record = VideoRecord(str(root / "made.mp4"), "m")
    with (
        heard.open(record) as clip,
        pytest.raises(ConfigError, match="holds sound at 8000 samples"),
    ):
        clip.waveform(0, 1, 16000)
    with pytest.raises(ConfigError, match="holds no sound, .* --audio-rate 16000"):
        Store(folder).open(record).waveform(0, 1, 16000)


# --- the format ----------------------------------------------------------------------------------------


def test_keys_are_relative_to_the_root_with_slashes(tmp_path, monkeypatch):
    assert key_of(tmp_path / "a b" / "c.mp4", tmp_path) == "a b/c.mp4"
    assert key_of("/somewhere/else.mp4", tmp_path) == "/somewhere/else.mp4"
    assert key_of(str(tmp_path) + "2/c.mp4", tmp_path) == str(tmp_path) + "2/c.mp4"
    monkeypatch.chdir(tmp_path)
    assert key_of("d/c.mp4", ".") == "d/c.mp4"


def test_digests_tell_contents_apart(tmp_path):
    file = tmp_path / "file"
    seen = set()
    for content in (b"", b"a", b"b", b"a" * 200_000, b"a" * 199_999 + b"b", b"b" + b"a" * 199_999):
        file.write_bytes(content)
        seen.add(digest_of(file))
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (frames / name).write_bytes(b"x")
        seen.add(digest_of(frames))
    assert len(seen) == 8


def test_a_shard_tells_how_it_was_made(folder):
    shard = next((folder / "shards").glob("*.array_record"))
    told = json.loads(open_shard(shard).read([0])[0])
    assert told["dataset"] == "folder" and told["short_side"] == 40


def test_the_folder_of_frames_of_a_course_is_stored_too(tmp_path, root):
    frames = tmp_path / "set" / "clip"
    frames.mkdir(parents=True)
    with video.open(str(root / "made.mp4")) as clip:
        for number, frame in enumerate(clip.frames_at(np.arange(4))):
            (frames / f"frame{number + 8}.jpg").write_bytes(store_writer.jpeg.encode(frame, 98))
    done = prepare(tmp_path / "store", [str(frames)], tmp_path / "set", short_side=None)
    assert done.videos == 1
    with Store(tmp_path / "store").open(VideoRecord(str(frames), "clip")) as clip:
        assert clip.meta.num_frames == 4 and clip.meta.height == 48
        np.testing.assert_allclose(clip.frames_at([0, 3])[..., 2].mean((1, 2)), [0, 27], atol=5)


def test_a_rate_that_varies_is_kept(tmp_path, write_video):
    root, frames = tmp_path / "set", np.zeros((8, 32, 48, 3), np.uint8)
    root.mkdir()
    file = write_video(root / "v.mp4", frames, 30, pts=[0, 1, 2, 30, 31, 60, 90, 91])
    prepare(tmp_path / "store", [str(file)], root, short_side=32)
    ((kept, _),) = read_shard_lists(tmp_path / "store").values()
    with video.open(file) as reader:
        assert reader.meta.frame_seconds and kept.meta == reader.meta


def test_contents_are_told_apart_without_the_files(folder, root, tmp_path):
    store = Store(folder, root=tmp_path / "nowhere")
    found = [
        store.content(str(tmp_path / "nowhere" / name)) for name in ("made.mp4", "rotation.mov")
    ]
    assert found[0] == digest_of(root / "made.mp4") != found[1] == digest_of(root / "rotation.mov")
    assert store.content(str(tmp_path / "nowhere" / "gone.mp4")) is None
