"""Flow of files as a store has it: the same levels, up to the codec."""

import dataclasses

import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.computed_flow import FlowOpener
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings
from jaxvid.data.transforms.centre_crop import CentreCrop

FRAMES = 9


@pytest.fixture(scope="module", autouse=True)
def opencv():
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_video):
    """(record, store): a smooth texture of which frame t has moved t pixels more than the one
    before."""
    folder = tmp_path_factory.mktemp("computed")
    waves = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(160)[None])
    noise = np.fft.fft2(np.random.default_rng(0).standard_normal((96, 160)))
    smooth = np.fft.ifft2(noise * np.exp(-40 * waves**2)).real
    wide = (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    places = [44 - t * (t + 1) // 2 for t in range(FRAMES)]
    frames = np.stack([wide[10:74, x : x + 96] for x in places])
    path = str(folder / "moving.mp4")
    write_video(path, np.repeat(frames[..., None], 3, -1), options={"crf": "1"})
    settings = Settings("folder", "", 48, 95, "pyav", flow="dis")
    store_writer.start(folder / "store", settings)
    store_writer.write(folder / "store", [path], settings, root="", workers=1, show=False)
    return VideoRecord(path, "moving", (0,)), Store(folder / "store", root="")


def test_levels_are_the_stores(made):
    record, store = made
    asked = [0, 5, 3, 8, 7, 3]
    with store(record) as kept, FlowOpener(FileOpener(short_side=48), "dis")(record) as ours:
        found, expected = ours.flow_at(asked), kept.flow_at(asked)
        assert ours.meta == kept.meta and found.dtype == np.uint8
        np.testing.assert_array_equal(found[3], found[4])  # the last frame's is the one before's
    apart = np.abs(found.astype(int) - expected)
    assert apart.mean() < 1 and np.percentile(apart, 99) <= 4
    assert np.median(expected[1, ..., 0]) > np.median(expected[0, ..., 0]) + 10  # it does tell


def test_a_source_gives_the_clip_of_the_store(made):
    record, store = made
    clips = [
        ClipSource(
            DatasetIndex((record,), ("right",)),
            sampling=Sampling("dense", 3, stride_frames=3),
            size=48,
            transforms=(CentreCrop(48),),
            flow="stored",
            open_clip=opener,
        ).load(0, None)
        for opener in (store, FlowOpener(FileOpener(short_side=48), "dis"))
    ]
    apart = np.abs(clips[0]["flow"] - clips[1]["flow"])
    assert apart.mean() < 20 / 127
    assert np.abs(clips[0]["flow"]).mean() > 1


def test_of_a_single_frame_nothing_moves(made, tmp_path, write_video):
    path = tmp_path / "one.mp4"
    write_video(path, np.full((1, 32, 32, 3), 90, np.uint8))
    with FlowOpener(FileOpener(), "dis")(dataclasses.replace(made[0], path=str(path))) as reader:
        assert (reader.flow_at([0, 0]) == 128).all()


def test_an_unknown_method():
    with pytest.raises(UnknownNameError, match="unknown optical flow 'diss'. Did you mean 'dis'"):
        FlowOpener(FileOpener(), "diss")
