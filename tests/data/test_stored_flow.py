"""Flow from a store: that of the frames, up to the codec, wherever the transforms take them."""

import dataclasses
import pickle

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError, UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer, stored_flow
from jaxvid.data.memory import InMemory
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store, StoreReader
from jaxvid.data.store_format import Settings, read_shard_lists
from jaxvid.data.transforms.centre_crop import CentreCrop
from jaxvid.data.transforms.multi_scale_crop import MultiScaleCrop
from jaxvid.data.transforms.rand_augment import RandAugment
from jaxvid.data.transforms.random_crop import RandomCrop
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop
from jaxvid.data.transforms.repeat_views import RepeatViews
from jaxvid.data.transforms.short_side_resize import ShortSideResize
from jaxvid.data.transforms.ten_crop import TenCrop
from jaxvid.decode import flow as optical_flow

FRAMES, HEIGHT, WIDTH = 9, 64, 96
LEVEL = stored_flow.BOUND / 127


@pytest.fixture(scope="module", autouse=True)
def opencv():
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")


@pytest.fixture(scope="module")
def index(tmp_path_factory, write_video):
    """A smooth texture, of which every frame has moved 2 pixels to the right and 1 down."""
    rng = np.random.default_rng(0)
    waves = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(160)[None])
    noise = np.fft.fft2(rng.standard_normal((96, 160)))
    smooth = np.fft.ifft2(noise * np.exp(-40 * waves**2)).real
    wide = (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    frames = [
        wide[20 - t : 20 - t + HEIGHT, 40 - 2 * t : 40 - 2 * t + WIDTH] for t in range(FRAMES)
    ]
    path = tmp_path_factory.mktemp("set") / "moving.mp4"
    write_video(path, np.repeat(np.stack(frames)[..., None], 3, -1), options={"crf": "1"})
    return DatasetIndex((VideoRecord(str(path), "moving", (0,)),), ("right",))


def prepare(folder, index, **changes):
    paths = [record.path for record in index.records]
    settings = Settings("folder", "", None, 95, "pyav", flow="dis")
    settings = dataclasses.replace(settings, **changes)
    store_writer.start(folder, settings)
    done = store_writer.write(folder, paths, settings, root="", workers=1, show=False)
    return Store(folder, root=""), done


@pytest.fixture(scope="module")
def store(index, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("stores") / "flow", index)[0]


def source(index, open_clip, *transforms, size=48, frames=5, flow="stored", **changes):
    sampling = Sampling("dense", frames, stride_frames=1)
    settings = {"sampling": sampling, "size": size, "transforms": transforms, "flow": flow}
    return ClipSource(index, open_clip=open_clip, **settings | changes)


def test_it_is_the_flow_on_the_fly_where_nothing_is_resized(index, store):
    uncut = (WIDTH - HEIGHT) // 2
    ours = source(index, store, CentreCrop(HEIGHT), size=HEIGHT).load(0, None)["flow"]
    with FileOpener()(index.records[0]) as file:
        frames = file.frames_at(np.arange(2, 8))  # the middle five, and the one after them
    theirs = optical_flow.flow(frames, "dis")[:5, :, uncut : uncut + HEIGHT]
    assert ours.shape == (1, 5, HEIGHT, HEIGHT, 2) and ours.dtype == np.float32
    error = np.abs(ours[0] - theirs)
    assert error.mean() < LEVEL and np.percentile(error, 99) < 4 * LEVEL
    np.testing.assert_allclose(np.median(ours, (0, 1, 2, 3)), (2, 1), atol=LEVEL)


@pytest.mark.parametrize(
    "transforms",
    [
        (RandomResizedCrop(48, scale=(0.3, 0.6)),),
        (MultiScaleCrop(48, scales=(0.9, 0.6)),),
        (ShortSideResize(56), RandomCrop(48)),
    ],
)
def test_it_is_cropped_and_resized_as_the_pixels_are(index, store, transforms):
    """What the pixels of the clip move like is what the vectors say."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        clip = source(index, store, RepeatViews(2), *transforms).load(0, rng)
        for pixels, ours in zip(clip["video"], clip["flow"], strict=True):
            seen = optical_flow.flow(pixels, "dis")[:-1, 8:-8, 8:-8]
            ours = ours[:-1, 8:-8, 8:-8]
            np.testing.assert_allclose(
                np.median(ours, (0, 1, 2)), np.median(seen, (0, 1, 2)), atol=0.3
            )


def test_the_pixels_do_not_depend_on_it(index, store):
    transforms = (RandomResizedCrop(48),)
    with_flow = source(index, store, *transforms).load(0, np.random.default_rng(5))
    without = source(index, store, *transforms, flow="none").load(0, np.random.default_rng(5))
    np.testing.assert_array_equal(with_flow["video"], without["video"])


@pytest.mark.parametrize("crop", [RandomCrop(32), RandomResizedCrop(32, scale=(0.1, 0.3))])
def test_it_is_cut_out_at_the_place_of_the_pixels(index, store, monkeypatch, crop):
    """The flow of this store is a picture: two channels of the frames themselves."""

    def flow_at(reader, indices):
        return reader.frames_at(indices)[..., :2]

    monkeypatch.setattr(StoreReader, "flow_at", flow_at)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        clip = source(index, store, RepeatViews(2), crop, size=32).load(0, rng)
        for pixels, flow in zip(clip["video"], clip["flow"], strict=True):
            expected = stored_flow.to_pixels(pixels[..., :2])
            growth = np.abs(flow).mean((0, 1, 2)) / np.abs(expected).mean((0, 1, 2))
            np.testing.assert_allclose(flow, expected * growth, atol=2 * LEVEL * growth.max())
            if isinstance(crop, RandomCrop):
                np.testing.assert_allclose(growth, 1, atol=0.02)


def test_mirrored_crops_move_the_other_way(index, store):
    flow = source(index, store, TenCrop(48)).load(0, None)["flow"]
    motion = np.median(flow, (1, 2, 3))
    np.testing.assert_allclose(motion[:5], [(2, 1)] * 5, atol=0.2)
    np.testing.assert_allclose(motion[5:], [(-2, 1)] * 5, atol=0.2)


def test_places_follow_the_crop(index, store, monkeypatch):
    """The left half of the flow, and only that, is in a crop of the left half."""
    levels = np.full((1, 2, 40, 80, 2), 128, np.uint8)
    levels[..., :40, 0] = 138
    flow = stored_flow.transformed(levels, {}, (CentreCrop(40),), None)
    assert flow.shape == (1, 2, 40, 40, 2)
    np.testing.assert_allclose(flow[..., :20, 0], 10 * LEVEL, rtol=0.02)
    assert not flow[..., 20:, 0].any() and not flow[..., 1].any()


@pytest.mark.parametrize(("size", "scale"), [((20, 40), 0.5), ((80, 160), 2.0)])
def test_vectors_grow_with_the_picture(size, scale):
    levels = np.full((2, 1, 40, 80, 2), 148, np.uint8)
    flow = stored_flow.transformed(levels, {}, (ShortSideResize(size[0]),), None)
    assert flow.shape == (2, 1, *size, 2)
    np.testing.assert_allclose(flow, 20 * LEVEL * scale, rtol=0.01)


def test_memory_and_worker_processes_give_the_same(index, store):
    crop = CentreCrop(48)
    expected = source(index, store, crop).load(0, None)["flow"]
    for opened in (InMemory(store, limit_bytes=10**8), pickle.loads(pickle.dumps(store))):
        again = pickle.loads(pickle.dumps(source(index, opened, crop)))
        np.testing.assert_array_equal(again.load(0, None)["flow"], expected)


def test_a_clip_that_does_not_count_has_no_motion(index, store):
    flow = source(index, store, CentreCrop(48)).padding()["flow"]
    assert flow.shape == (1, 5, 48, 48, 2) and not flow.any()


def test_stretches_and_sound_do_not_disturb_it(index, store, tmp_path, monkeypatch):
    monkeypatch.setattr(store_writer, "_CHUNK_BYTES", 2 * HEIGHT * WIDTH * 3)  # two frames
    monkeypatch.setattr(store_writer, "_sound", lambda reader, rate: iter([b"\1\0" * 80]))
    other, done = prepare(tmp_path / "store", index, audio_rate=8000)
    (video,) = (video for video, _ in read_shard_lists(tmp_path / "store").values())
    assert video.records_a_frame == 2 and done.videos == 1
    everything = np.arange(FRAMES)
    with store(index.records[0]) as whole, other(index.records[0]) as pieces:
        flow = whole.flow_at(everything)
        np.testing.assert_array_equal(pieces.flow_at(everything), flow)
        np.testing.assert_array_equal(flow[-1], flow[-2])
        np.testing.assert_array_equal(pieces.flow_at([8, 0, 8]), flow[[8, 0, 8]])
        np.testing.assert_array_equal(pieces.frames_at([8, 3]), whole.frames_at([8, 3]))
        assert (1 / 32767 == pieces.waveform(0, 0.01, 8000)).all()


def test_nothing_moves_in_a_single_frame():
    encoder = stored_flow.Encoder("dis", 90)
    assert encoder.add(np.full((1, 16, 24, 3), 50, np.uint8)) == []
    _, flow = encoder.end()
    levels = np.empty((16, 24, 2), np.uint8)
    stored_flow.decode_into(flow, levels)
    assert (levels == 128).all()


def test_levels_are_exact_where_nothing_moves_and_cut_off_at_the_bound():
    flow = np.array([-50, -20, -3.1, 0, 0.2, 20, 50], np.float32)
    levels = stored_flow.to_levels(flow)
    assert levels.tolist()[3] == 128 and levels.min() == 1 and levels.max() == 255
    np.testing.assert_allclose(stored_flow.to_pixels(levels), flow.clip(-20, 20), atol=LEVEL / 2)


def test_stores_without_flow_and_other_transforms_are_refused(index, store, tmp_path):
    plain, _ = prepare(tmp_path / "plain", index, flow="none")
    for opened in (plain, FileOpener(), InMemory(plain)):
        with pytest.raises(ConfigError, match="do not come from a store that holds any: make one"):
            source(index, opened, CentreCrop(48))
    with pytest.raises(ConfigError, match="RandAugment.* does more: compute it on the fly"):
        source(index, store, RandAugment(), CentreCrop(48))
    with pytest.raises(DataError, match="made with flow='none', asked for was 'dis'"):
        prepare(tmp_path / "plain", index)
    with pytest.raises(UnknownNameError, match="unknown optical flow 'diss'. Did you mean 'dis'"):
        prepare(tmp_path / "new", index, flow="diss")


def test_stores_of_earlier_versions_are_read(index, tmp_path):
    _, _ = prepare(tmp_path / "old", index, flow="none")
    settings, (shard,) = (
        tmp_path / "old" / "store.json",
        (tmp_path / "old" / "shards").glob("*.json"),
    )
    settings.write_text(settings.read_text().replace('"flow"', '"other"'))
    shard.write_text(shard.read_text().replace('"records_a_frame": 1', '"rotation_degrees": 0'))
    store = Store(tmp_path / "old", root="")
    assert store.flow == "none"
    with store(index.records[0]) as clip:
        assert clip.frames_at([8]).shape == (1, HEIGHT, WIDTH, 3)
