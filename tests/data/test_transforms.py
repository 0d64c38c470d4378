import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxvid.core.errors import ConfigError
from jaxvid.data.transforms import _resize
from jaxvid.data.transforms.centre_crop import CentreCrop
from jaxvid.data.transforms.random_crop import RandomCrop
from jaxvid.data.transforms.random_resized_crop import RandomResizedCrop
from jaxvid.data.transforms.short_side_resize import ShortSideResize
from jaxvid.data.transforms.three_crop import ThreeCrop

ALL = (ShortSideResize, CentreCrop, ThreeCrop, RandomCrop, RandomResizedCrop)
CROPS = ALL[1:]


def places(views, frames, height, width):
    """uint8 (V, T, H, W, 3) whose pixels say where they come from: row, column, 10 view + frame."""
    video = np.empty((views, frames, height, width, 3), np.uint8)
    video[..., 0] = np.arange(height)[:, None]
    video[..., 1] = np.arange(width)
    video[..., 2] = (10 * np.arange(views)[:, None] + np.arange(frames))[..., None, None]
    return video


def smooth(views, frames, height, width):
    y, x = np.mgrid[0:height, 0:width]
    phase = np.arange(views * frames).reshape(views, frames, 1, 1)
    red = 128 + 100 * np.sin(y / 9 + phase)
    green = 128 + 100 * np.cos(x / 11 - phase)
    return np.stack([red + 0 * x, green + 0 * y, (red + green) / 2], -1).astype(np.uint8)


def apply(transform, video, seed=0):
    clip = {"video": video, "other": "kept"}
    if hasattr(transform, "map"):
        out = transform.map(clip)
    else:
        out = transform.random_map(clip, np.random.default_rng(seed))
    assert out["other"] == "kept" and clip["video"] is video
    return out["video"]


def pillow(frame, height, width):
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.BILINEAR))


@pytest.mark.parametrize(("height", "width"), [(60, 80), (81, 61), (20, 26), (33, 33)])
def test_resizing_agrees_with_pillow(height, width):
    video = smooth(2, 2, height, width)
    out = apply(ShortSideResize(40), video)
    assert min(out.shape[2:4]) == 40
    for view in range(2):
        for frame in range(2):
            expected = pillow(video[view, frame], *out.shape[2:4])
            difference = np.abs(out[view, frame].astype(int) - expected)
            assert difference.max() <= 3 and difference.mean() < 0.6


def test_shrinking_is_antialiased():
    stripes = np.zeros((1, 1, 64, 64, 3), np.uint8)
    stripes[:, :, :, ::2] = 255
    inner = apply(ShortSideResize(16), stripes)[:, :, :, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() <= 2  # without a filter: 0 or 255


def test_short_side_keeps_the_aspect_and_what_fits_already():
    assert apply(ShortSideResize(24), smooth(1, 2, 48, 101)).shape == (1, 2, 24, 50, 3)
    assert apply(ShortSideResize(24), smooth(1, 2, 101, 48)).shape == (1, 2, 50, 24, 3)
    video = smooth(1, 2, 24, 40)
    assert apply(ShortSideResize(24), video) is video


def test_resizing_takes_views_that_are_not_contiguous():
    video = smooth(2, 3, 40, 60)
    part = video[:, ::-1, 3:37, 5:51]
    out = apply(ShortSideResize(20), part)
    np.testing.assert_array_equal(out, apply(ShortSideResize(20), part.copy()))
    crop = apply(RandomResizedCrop(16), part)
    np.testing.assert_array_equal(crop, apply(RandomResizedCrop(16), part.copy()))


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from jaxvid.data.transforms import _resize

height, width = 20, int(sys.argv[1])
size = 2 * height * width * 3
pages = -(-size // mmap.PAGESIZE) + 1
memory = np.frombuffer(mmap.mmap(-1, pages * mmap.PAGESIZE), np.uint8)
end = (pages - 1) * mmap.PAGESIZE
address = ctypes.c_void_p(memory.ctypes.data + end)
assert ctypes.CDLL(None).mprotect(address, mmap.PAGESIZE, 0) == 0  # PROT_NONE
frames = memory[end - size : end].reshape(2, height, width, 3)
_resize.cut_and_resize(frames, (0, 0, height, width), np.empty((2, 16, 16, 3), np.uint8))
print("alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="guards a page of memory with mprotect")
@pytest.mark.parametrize("width", [101, 333])
def test_nothing_is_read_beyond_the_last_frame(width):
    command = [sys.executable, "-c", GUARDED, str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done


def test_centre_crop_is_the_middle():
    out = apply(CentreCrop(16), places(2, 3, 21, 40))
    np.testing.assert_array_equal(out, places(2, 3, 21, 40)[:, :, 2:18, 12:28])


@pytest.mark.parametrize("tall", [False, True])
def test_three_crops_lie_along_the_long_side_view_by_view(tall):
    video = places(2, 2, *((41, 20) if tall else (20, 41)))
    out = apply(ThreeCrop(16), video)
    assert out.shape == (6, 2, 16, 16, 3) and ThreeCrop.view_factor == 3
    long, short = (0, 1) if tall else (1, 0)
    for view in range(2):
        for number, start in enumerate((0, 12, 25)):
            crop = out[3 * view + number]
            assert crop[..., long].min() == start and crop[..., long].max() == start + 15
            assert crop[..., short].min() == 2 and crop[..., short].max() == 17
            np.testing.assert_array_equal(crop[:, 0, 0, 2], 10 * view + np.arange(2))


def test_three_crops_of_a_square_are_equal():
    out = apply(ThreeCrop(16), places(1, 2, 16, 16))
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_array_equal(out[0], out[2])


def test_random_crop_is_one_place_a_view_and_reaches_the_corners():
    video = places(3, 2, 18, 19)
    tops, lefts, differ = set(), set(), 0
    for seed in range(60):
        out = apply(RandomCrop(16), video, seed)
        starts = out[:, :, 0, 0, :2]
        assert (starts == starts[:, :1]).all()  # all frames of a view alike
        differ += len(np.unique(starts[:, 0], axis=0)) > 1
        tops |= set(starts[..., 0].ravel().tolist())
        lefts |= set(starts[..., 1].ravel().tolist())
        top, left = starts[0, 0]
        expected = video[0, :, top : top + 16, left : left + 16]
        np.testing.assert_array_equal(out[0], expected)
    assert tops == {0, 1, 2} and lefts == {0, 1, 2, 3} and differ > 30


def test_random_resized_crop_boxes_keep_scale_and_ratio():
    transform = RandomResizedCrop(16, scale=(0.2, 0.5), ratio=(0.5, 2.0))
    rng = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(500):
        top, left, height, width = transform.box(200, 300, rng)
        assert 0 <= top <= 200 - height and 0 <= left <= 300 - width
        shares.append(height * width / 60000)
        ratios.append(width / height)
    assert 0.19 < min(shares) < 0.22 and 0.48 < max(shares) < 0.51
    assert 0.49 < min(ratios) < 0.55 and 1.8 < max(ratios) < 2.05
    assert abs(np.mean(np.log(ratios))) < 0.06  # as many tall boxes as wide ones


def test_random_resized_crop_falls_back_to_the_largest_allowed_box():
    rng = np.random.default_rng(0)
    transform = RandomResizedCrop(16, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    assert transform.box(30, 300, rng) == (0, 130, 30, 40)
    assert transform.box(300, 30, rng) == (130, 0, 40, 30)


def test_random_resized_crop_cuts_its_box_and_resizes_it():
    video = smooth(1, 2, 60, 90)
    transform = RandomResizedCrop(24, scale=(0.2, 0.6))
    top, left, height, width = transform.box(60, 90, np.random.default_rng(3))
    out = apply(transform, video, seed=3)
    for frame in range(2):
        box = video[0, frame, top : top + height, left : left + width]
        assert np.abs(out[0, frame].astype(int) - pillow(box, 24, 24)).max() <= 3


def test_random_resized_crop_has_one_box_a_view():
    same = np.repeat(smooth(1, 1, 60, 90), 3, 0)  # three equal views
    out = apply(RandomResizedCrop(16), np.repeat(same, 2, 1))
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    assert (out[0] != out[1]).any() and (out[1] != out[2]).any()
    whole = RandomResizedCrop(60, scale=(1.0, 1.0), ratio=(1.5, 1.5))
    assert apply(whole, same).shape == (3, 1, 60, 60, 3)


@pytest.mark.parametrize("transform", CROPS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (50, 3), (15, 17), (16, 16)])
def test_crops_never_fail_on_small_videos(transform, height, width):
    video = smooth(2, 2, height, width)
    views = 2 * getattr(transform, "view_factor", 1)
    for seed in range(5):
        out = apply(transform(16), video, seed)
        assert out.shape == (views, 2, 16, 16, 3) and out.dtype == np.uint8


@pytest.mark.parametrize("transform", ALL)
@pytest.mark.parametrize("size", [0, -3, 2.5, "224", True])
def test_sizes_are_checked(transform, size):
    with pytest.raises(
        ConfigError, match=f"{transform.__name__}: size is .*whole number of pixels"
    ):
        transform(size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.5, 1.2)}, r"scale is \(0.5, 1.2\), expected .* 0 < low <= high <= 1"),
        ({"scale": (0.5, 0.2)}, "scale is"),
        ({"scale": 0.5}, "scale is 0.5, expected a pair"),
        ({"scale": ("a", "b")}, "scale is"),
        ({"ratio": (0, 1)}, r"ratio is \(0, 1\), expected a pair .* 0 < low <= high$"),
        ({"ratio": (1, 1, 1)}, "ratio is"),
        ({"ratio": (1.0, math.nan)}, "ratio is"),
    ],
)
def test_ranges_are_checked(options, message):
    with pytest.raises(ConfigError, match=f"RandomResizedCrop: {message}"):
        RandomResizedCrop(16, **options)


def test_a_box_of_the_right_size_is_only_copied():
    frames = places(1, 2, 20, 20)[0]
    out = np.empty((2, 8, 9, 3), np.uint8)
    _resize.cut_and_resize(frames, (3, 4, 8, 9), out)
    np.testing.assert_array_equal(out, frames[:, 3:11, 4:13])
