import logging
import pickle
import sys
import time

import grain
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError, DecodeError, UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import source as source_file
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.transforms.centre_crop import CentreCrop
from jaxvid.data.transforms.random_crop import RandomCrop
from jaxvid.data.transforms.short_side_resize import ShortSideResize
from jaxvid.data.transforms.three_crop import ThreeCrop


def ramp(num_frames=8, height=32, width=64):
    """Frame k has the grey level 20 k + 10 and a white left edge."""
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:] = (20 * np.arange(num_frames) + 10).reshape(-1, 1, 1, 1)
    frames[:, :, :8] = 255
    return frames


@pytest.fixture
def index(tmp_path, write_video):
    records = []
    for number, label in enumerate((0, 1, 1)):
        path = write_video(tmp_path / f"v{number}.mp4", ramp(), fps=4)
        records.append(VideoRecord(str(path), f"v{number}", (label,)))
    return DatasetIndex(tuple(records), ("calm", "fight"))


def make(index, **changes):
    settings = {
        "sampling": Sampling("linspace", 4),
        "size": 16,
        "transforms": (CentreCrop(16),),
        **changes,
    }
    return ClipSource(index, **settings)


def labelled(labels, **kind):
    records = tuple(VideoRecord(f"{n}.mp4", str(n), lab) for n, lab in enumerate(labels))
    return DatasetIndex(records, ("a", "b", "c"), **kind)


def test_a_clip_has_the_pixels_and_label_of_its_record(index):
    source = make(index)
    clip = source.load(2, None)
    assert len(source) == 3 and source.clip_shape == (1, 4, 16, 16, 3)
    assert clip["video"].shape == (1, 4, 16, 16, 3) and clip["video"].dtype == np.uint8
    levels = clip["video"][0].mean((1, 2, 3))
    np.testing.assert_allclose(levels, [10, 50, 90, 150], atol=4)  # frames 0 2 4 7 of 8
    assert clip["label"].tolist() == [1] and clip["label"].dtype == np.int32
    assert clip["mask"].dtype == bool and clip["mask"].shape == () and clip["mask"]
    assert clip["row"] == 2 and clip["row"].dtype == np.int32


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_views_are_clips_times_crops_in_order(index, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    source = make(
        index,
        sampling=Sampling("uniform", 2, clips=2),
        transforms=(ShortSideResize(16), ThreeCrop(16)),
        open_clip=FileOpener(decoder),
    )
    video = source.load(0, None)["video"]
    assert video.shape == source.clip_shape == (6, 2, 16, 16, 3)
    levels = video[:, 0, :, 8].mean((1, 2))
    np.testing.assert_allclose(levels, [10, 10, 10, 50, 50, 50], atol=4)  # frames 0 0 0 2 2 2
    white = video[:, 0, :, 0].mean((1, 2)) > 200  # only the left crop holds the left edge
    assert white.tolist() == [True, False, False] * 2


def test_segments_are_kept_to(index):
    first = index.records[0]
    part = VideoRecord(first.path, "part", (0,), start_seconds=1.0, end_seconds=1.5)
    video = make(DatasetIndex((part,), index.class_names)).load(0, None)["video"]
    levels = video[0].mean((1, 2, 3))
    np.testing.assert_allclose(levels, [90, 110, 110, 110], atol=4)  # frames 4 and 5, then padding


@pytest.mark.parametrize(("short_side", "white_columns"), [(None, 8), (16, 4)])
def test_the_decoder_may_resize(index, short_side, white_columns):
    source = make(index, transforms=(ThreeCrop(16),), open_clip=FileOpener(short_side=short_side))
    left = source.load(0, None)["video"][0, 0]
    assert (left.mean((0, 2)) > 180).sum() == white_columns


def test_random_transforms_follow_the_rng(index):
    source = make(index, transforms=(RandomCrop(16),), sampling=Sampling("uniform", 4))
    a, b, c = (source.load(0, np.random.default_rng(s))["video"] for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_a_source_can_be_pickled(index):
    source = pickle.loads(pickle.dumps(make(index)))
    assert source.load(1, None)["label"].tolist() == [1]


def test_multi_label_rows_are_padded():
    index = labelled([(2, 0), (), (1,)], multilabel=True)
    assert make(index).label_width == 2
    source = make(index, max_label_width=3, on_error="skip")
    assert source.load(0, None)["label"].tolist() == [2, 0, -1]
    assert source.load(1, None)["label"].tolist() == [-1, -1, -1]
    with pytest.raises(DataError, match=r"1 records .* at most max_label_width=1; .*0\.mp4 with"):
        make(index, max_label_width=1)


def test_heads_have_a_label_each():
    index = labelled([(3, 7), ()], heads={"verb": 10, "noun": 20})
    source = make(index, on_error="skip")
    clip = source.load(0, None)
    assert clip["label_verb"].tolist() == [3] and clip["label_noun"].tolist() == [7]
    assert "label" not in clip
    assert source.load(1, None)["label_noun"].tolist() == [-1]
    assert source.padding()["label_verb"].tolist() == [-1]
    with pytest.raises(DataError, match="expected one for each of verb, noun; .*1.mp4 with"):
        make(labelled([(1, 2), (1,)], heads={"verb": 10, "noun": 20}))


def test_single_label_rows_have_at_most_one_label():
    assert make(labelled([()]), on_error="skip").load(0, None)["label"].tolist() == [-1]
    with pytest.raises(DataError, match="2 records .* at most one .*1.mp4 with"):
        make(labelled([(0,), (0, 1), (1, 2)]))


@pytest.fixture
def with_a_bad_file(index, tmp_path):
    bad = tmp_path / "notes.mp4"
    bad.write_text("this is no video")
    record = VideoRecord(str(bad), "notes", (1,))
    return DatasetIndex((*index.records, record), index.class_names)


def test_raise_names_the_file(with_a_bad_file):
    with pytest.raises(DecodeError, match=r"notes\.mp4: cannot be decoded"):
        make(with_a_bad_file).load(3, None)


def test_skip_masks_logs_and_keeps_label_and_row(with_a_bad_file, caplog):
    source = make(with_a_bad_file, on_error="skip", transforms=(ThreeCrop(16),))
    with caplog.at_level(logging.WARNING, "jaxvid.data"):
        clip = source.load(3, None)
    assert clip["video"].shape == (3, 4, 16, 16, 3) and not clip["video"].any()
    assert not clip["mask"] and clip["label"].tolist() == [1] and clip["row"] == 3
    (line,) = caplog.records
    assert line.name == "jaxvid.data" and "notes.mp4: cannot be decoded" in line.getMessage()
    caplog.clear()
    assert source.load(0, None)["mask"] and not caplog.records


def test_a_segment_beyond_the_video_is_a_bad_clip(index):
    late = VideoRecord(index.records[0].path, "late", (1,), start_seconds=60.0)
    index = DatasetIndex((late,), index.class_names)
    with pytest.raises(DataError, match="v0.mp4: the segment from 60.0 s to its end lies beyond"):
        make(index).load(0, None)
    assert not make(index, on_error="skip").load(0, None)["mask"]


class SleepingReader:
    def __enter__(self):
        time.sleep(5)

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_the_deadline_ends_a_decoder_that_hangs(index, monkeypatch, on_error):
    monkeypatch.setattr(source_file.video, "open", lambda *_, **__: SleepingReader())
    source = make(index, deadline_seconds=0.2, on_error=on_error)
    began = time.perf_counter()
    if on_error == "skip":
        assert not source.load(0, None)["mask"]
    else:
        with pytest.raises(DecodeError, match=r"v0\.mp4: .*deadline of 0.2 seconds"):
            source.load(0, None)
    assert time.perf_counter() - began < 4


def test_padding_counts_nowhere(index):
    clip = make(index).padding()
    assert not clip["mask"] and clip["row"] == 0 and clip["label"].tolist() == [-1]
    assert clip["video"].shape == (1, 4, 16, 16, 3) and not clip["video"].any()


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_transforms_that_do_not_give_the_size_are_named(index, on_error):
    source = make(index, transforms=(ShortSideResize(16),), on_error=on_error)
    with pytest.raises(
        ConfigError,
        match=r"v0\.mp4: the clip is uint8 of shape \(1, 4, 16, 32, 3\) after the transforms "
        r"\[ShortSideResize\(size=16\)\] \(decoded: \(1, 4, 32, 64, 3\)\), expected uint8 of "
        r"shape \(1, 4, 16, 16, 3\)",
    ):
        source.load(0, None)


def test_an_error_inside_a_transform_says_which_clip(index):
    class Broken(grain.transforms.Map):
        def map(self, clip):
            raise KeyError("nonsense")

    with pytest.raises(KeyError) as caught:
        make(index, transforms=(Broken(),)).load(1, None)
    (note,) = caught.value.__notes__
    assert note == f"while loading {index.records[1].path} (row 1)"


def test_evaluation_refuses_random_transforms(index):
    source = make(index, transforms=(RandomCrop(16),))
    with pytest.raises(
        ConfigError, match=r"no random transforms.*RandomCrop.*centre_crop or three"
    ):
        source.check_deterministic()
    with pytest.raises(ConfigError, match=r"RandomCrop\(size=16\) is random and evaluation has no"):
        source.load(0, None)
    make(index).check_deterministic()


def test_bad_settings_are_refused(index):
    with pytest.raises(DataError, match="the dataset index has no records; .*calm, fight"):
        make(DatasetIndex((), index.class_names))
    with pytest.raises(UnknownNameError, match="unknown decoder 'pyva'.*'pyav'"):
        FileOpener("pyva")
    with pytest.raises(ConfigError, match="on_error is 'ignore', expected 'raise' or 'skip'"):
        make(index, on_error="ignore")
    with pytest.raises(ConfigError, match="deadline_seconds is 0, expected more than 0"):
        make(index, deadline_seconds=0)
    with pytest.raises(ConfigError, match="size is 0, expected a whole number of pixels"):
        make(index, size=0)


def test_a_video_of_one_frame_is_no_clip(tmp_path, write_video):
    path = write_video(tmp_path / "one picture.mp4", ramp(1), fps=4)
    single = DatasetIndex((VideoRecord(str(path), "x", (0,)),), ("a",))
    with pytest.raises(DecodeError, match="one picture.mp4.*a single frame and a clip has 4"):
        make(single).load(0, None)
    assert not make(single, on_error="skip").load(0, None)["mask"]
    assert make(single, sampling=Sampling("uniform", 1)).load(0, None)["mask"]


# --- optical flow ---------------------------------------------------------------------------------


@pytest.fixture
def with_flow():
    pytest.importorskip("cv2", reason="optical flow needs the extra: pip install -e '.[flow]'")


@pytest.fixture
def moving(tmp_path, write_video):
    """A smooth texture that moves 2 pixels to the right a frame, seen in 96 × 64."""
    rng = np.random.default_rng(0)
    waves = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(160)[None])
    noise = np.fft.fft2(rng.standard_normal((64, 160)))
    smooth = np.fft.ifft2(noise * np.exp(-40 * waves**2)).real
    wide = (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    frames = np.stack([wide[:, 40 - 2 * t : 136 - 2 * t] for t in range(8)])
    frames = np.repeat(frames[..., None], 3, axis=-1)
    path = write_video(tmp_path / "moving.mp4", frames, options={"crf": "1"})
    return DatasetIndex((VideoRecord(str(path), "moving", (0,)),), ("right",))


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_is_of_the_pixels_the_model_sees(moving, with_flow, method):
    def load(size, *transforms, **changes):
        settings = {"sampling": Sampling("dense", 4, stride_frames=1), "flow": method}
        return make(moving, size=size, transforms=transforms, **settings, **changes).load(0, None)

    clip = load(48, CentreCrop(48))
    assert clip["flow"].shape == (1, 4, 48, 48, 2) and clip["flow"].dtype == np.float32
    np.testing.assert_allclose(clip["flow"].mean((0, 1, 2, 3)), (2, 0), atol=0.2)
    shrunk = load(32, ShortSideResize(32), CentreCrop(32))
    np.testing.assert_allclose(shrunk["flow"].mean((0, 1, 2, 3)), (1, 0), atol=0.2)
    views = load(48, ThreeCrop(48))
    assert views["flow"].shape == (3, 4, 48, 48, 2)
    np.testing.assert_array_equal(views["flow"][1], clip["flow"][0])
    assert (views["flow"][0] != views["flow"][2]).any()


def test_flow_is_over_the_stride_of_the_sampled_frames(moving, with_flow):
    sampling = Sampling("dense", 3, stride_frames=2)
    source = make(moving, size=48, transforms=(CentreCrop(48),), flow="dis", sampling=sampling)
    flow = source.load(0, None)["flow"]
    np.testing.assert_allclose(np.median(flow, (0, 1, 2, 3)), (4, 0), atol=0.3)


def test_a_clip_that_does_not_count_has_no_motion(with_a_bad_file, with_flow, monkeypatch):
    source = make(with_a_bad_file, on_error="skip", flow="dis")
    assert source.load(0, None)["flow"].shape == (1, 4, 16, 16, 2)
    monkeypatch.setattr(source_file.optical_flow, "flow", None)  # nothing is computed for it
    for clip in (source.load(3, None), source.padding()):
        assert clip["flow"].shape == (1, 4, 16, 16, 2) and clip["flow"].dtype == np.float32
        assert not clip["flow"].any() and not clip["mask"]
    assert "flow" not in make(with_a_bad_file).load(0, None)


def test_flow_that_cannot_be_is_refused_at_once(index, monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown optical flow 'tvl'. Did you mean 'tvl1'"):
        make(index, flow="tvl")
    with pytest.raises(ConfigError, match="a clip has 1: set data.num_frames to 2 or more"):
        make(index, flow="dis", sampling=Sampling("uniform", 1))
    monkeypatch.setitem(sys.modules, "cv2", None)
    source_file.optical_flow.opencv.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'jaxvid\[flow\]'"):
        make(index, flow="dis")
    source_file.optical_flow.opencv.cache_clear()
