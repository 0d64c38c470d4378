"""Crops at fixed places, around a box, and views of one decode."""

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data.transform_list import build_transforms
from jaxvid.data.transforms.box_crop import BoxCrop
from jaxvid.data.transforms.multi_scale_crop import MultiScaleCrop
from jaxvid.data.transforms.random_crop import RandomCrop
from jaxvid.data.transforms.repeat_views import RepeatViews
from jaxvid.data.transforms.ten_crop import TenCrop


def places(views, frames, height, width):
    """uint8 (V, T, H, W, 3) whose pixels say where they come from: row, column, 10 view + frame."""
    video = np.empty((views, frames, height, width, 3), np.uint8)
    video[..., 0] = np.arange(height)[:, None]
    video[..., 1] = np.arange(width)
    video[..., 2] = (10 * np.arange(views)[:, None] + np.arange(frames))[..., None, None]
    return video


def apply(transform, video, seed=0, **others):
    clip = {"video": video, "other": "kept", **others}
    if hasattr(transform, "map"):
        out = transform.map(clip)
    else:
        out = transform.random_map(clip, np.random.default_rng(seed))
    assert out["other"] == "kept" and clip["video"] is video and out["video"].dtype == np.uint8
    return out["video"]


# --- ten crops ---------------------------------------------------------------------------------------


def test_ten_crops_are_corners_centre_and_their_mirrors():
    video = places(2, 3, 21, 40)
    out = apply(TenCrop(16), video)
    assert out.shape == (20, 3, 16, 16, 3) and TenCrop.view_factor == 10
    corners = [(0, 0), (0, 24), (5, 0), (5, 24), (2, 12)]
    for view in range(2):
        for number, (top, left) in enumerate(corners):
            expected = video[view, :, top : top + 16, left : left + 16]
            np.testing.assert_array_equal(out[10 * view + number], expected)
            np.testing.assert_array_equal(out[10 * view + 5 + number], expected[:, :, ::-1])


def test_ten_crops_of_a_small_video_are_enlarged():
    assert apply(TenCrop(16), places(1, 1, 8, 12)).shape == (10, 1, 16, 16, 3)


# --- multi-scale crop --------------------------------------------------------------------------------


def drawn_boxes(transform, height, width, times=2000):
    rng = np.random.default_rng(0)
    return {transform.box(height, width, rng) for _ in range(times)}


def test_the_sizes_are_those_of_tsn():
    """240 x 320 frames, as in Wang et al.: neighbours of 240, 210, 180, 158 in both directions."""
    sizes = MultiScaleCrop(224).sizes(240, 320)
    sides = [240, 210, 180, 158]
    assert sizes == [
        *((240, 240), (240, 210), (210, 240), (210, 210), (210, 180)),
        *((180, 210), (180, 180), (180, 158), (158, 180), (158, 158)),
    ]
    assert len(MultiScaleCrop(224, max_distort=0).sizes(240, 320)) == len(sides)
    assert len(MultiScaleCrop(224, max_distort=3).sizes(240, 320)) == 16
    assert MultiScaleCrop(224).sizes(256, 340)[3] == (224, 224)  # 256 * 0.875
    assert (224, 224) in MultiScaleCrop(224).sizes(258, 340)  # 225 is nearly 224


@pytest.mark.parametrize("number", [5, 13])
def test_places_lie_on_a_grid_of_quarters(number):
    transform = MultiScaleCrop(16, scales=(0.5,), places=number)
    starts = {(top, left) for top, left, *_ in drawn_boxes(transform, 48, 72)}
    down, right = [0, 6, 12, 18, 24], [0, 12, 24, 36, 48]  # quarters of 48 - 24 and of 72 - 24
    corners = {(0, 0), (0, 48), (24, 0), (24, 48), (12, 24)}
    if number == 5:
        assert starts == corners
    else:
        even = {(t, left) for t in down[::2] for left in right[::2]}
        odd = {(t, left) for t in down[1::2] for left in right[1::2]}
        assert starts == even | odd and len(starts) == 13


def test_anywhere_is_anywhere():
    boxes = drawn_boxes(MultiScaleCrop(8, scales=(0.5,), places=0), 24, 28)
    assert {b[0] for b in boxes} == set(range(13)) and {b[1] for b in boxes} == set(range(17))


def test_a_box_is_cut_once_a_view_and_resized():
    video = places(4, 3, 32, 40)
    transform = MultiScaleCrop(16, scales=(0.5,))  # 16 pixels: only copied
    out = apply(transform, video, seed=1)
    assert out.shape == (4, 3, 16, 16, 3)
    starts = out[:, :, 0, 0, :2]
    assert (starts == starts[:, :1]).all() and len(np.unique(starts[:, 0], axis=0)) > 1
    top, left = starts[2, 0]
    np.testing.assert_array_equal(out[2], video[2, :, top : top + 16, left : left + 16])
    np.testing.assert_array_equal(out, apply(transform, video, seed=1))
    whole = apply(MultiScaleCrop(8, scales=(1.0,)), places(1, 1, 16, 16))
    np.testing.assert_allclose(whole[0, 0, :, 3, 0], np.arange(8) * 2 + 0.5, atol=1)


@pytest.mark.parametrize(("options", "message"), [
    ({"scales": ()}, "scales are .*expected shares of the short side"),
    ({"scales": (1.2,)}, "scales are .*expected shares of the short side"),
    ({"scales": 0.5}, "scales are 0.5, expected shares"),
    ({"places": 4}, r"places is 4, expected 5, 13 or 0 \(anywhere\)"),
    ({"max_distort": -1}, "max_distort is -1, expected a whole number from 0"),
    ({"size": 0}, "size is 0, expected a whole number of pixels"),
])  # fmt: skip
def test_wrong_multi_scale_crops(options, message):
    with pytest.raises(ConfigError, match="MultiScaleCrop: " + message):
        MultiScaleCrop(**{"size": 16, **options})


# --- box crop ----------------------------------------------------------------------------------------


def cut(transform, box, height=40, width=80):
    """(top, left, height, width) of what was cut, read from the pixels."""
    out = apply(transform, places(2, 2, height, width), box=np.asarray(box, np.float32))
    top, left = out[0, 0, 0, 0, :2]
    assert (out[1, 1, ..., 2] == 11).all()
    return int(top), int(left), *out.shape[2:4]


def test_a_box_alone_and_with_its_margin():
    box = (0.25, 0.25, 0.5, 0.75)  # columns 20..40, rows 10..30
    assert cut(BoxCrop(margin=0, square=False), box) == (10, 20, 20, 20)
    assert cut(BoxCrop(margin=0.25, square=False), box) == (5, 15, 30, 30)


def test_a_square_keeps_the_whole_box():
    assert cut(BoxCrop(margin=0), (0.5, 0.25, 0.625, 0.75)) == (10, 35, 20, 20)  # 10 wide, 20 tall
    assert cut(BoxCrop(margin=0), (0.0, 0.25, 0.125, 0.75)) == (10, 0, 20, 20)  # moved inside
    assert cut(BoxCrop(margin=0), (0.875, 0.5, 1.0, 1.0)) == (20, 60, 20, 20)
    assert cut(BoxCrop(margin=0), (0.0, 0.0, 1.0, 1.0)) == (0, 0, 40, 80)  # as far as it goes
    assert cut(BoxCrop(margin=3), (0.4, 0.4, 0.6, 0.6)) == (0, 0, 40, 80)


def test_a_tiny_box_is_a_pixel_and_the_box_is_used_up():
    assert cut(BoxCrop(margin=0, square=False), (0.5, 0.5, 0.5001, 0.5001))[2:] == (1, 1)
    clip = {"video": places(1, 1, 8, 8), "box": np.array([0, 0, 1, 1], np.float32)}
    assert set(BoxCrop().map(clip)) == {"video"} and set(clip) == {"video", "box"}


def test_wrong_boxes():
    with pytest.raises(ConfigError, match="BoxCrop: the clip has no box.*take box_crop out"):
        apply(BoxCrop(), places(1, 1, 8, 8))
    for box in ([0.5, 0, 0.5, 1], [0, 0, 1.5, 1], [0, 0, np.nan, 1], [0, 0, 1]):
        with pytest.raises(DataError, match="the box of a clip is .*expected x1, y1, x2, y2"):
            apply(BoxCrop(), places(1, 1, 8, 8), box=np.array(box))
    with pytest.raises(ConfigError, match="BoxCrop: margin is -0.1, expected a number from 0"):
        BoxCrop(margin=-0.1)


# --- repeated views ----------------------------------------------------------------------------------


def test_repeated_views_stay_neighbours_and_are_then_cropped_on_their_own():
    video = places(2, 3, 20, 24)
    repeat = RepeatViews(3)
    out = apply(repeat, video)
    assert repeat.view_factor == 3 and out.shape == (6, 3, 20, 24, 3)
    assert out[:, 0, 0, 0, 2].tolist() == [0, 0, 0, 10, 10, 10]
    crops = apply(RandomCrop(8), out)
    assert len(np.unique(crops[:3, 0, 0, 0, :2], axis=0)) > 1


def test_wrong_repeats():
    with pytest.raises(ConfigError, match="RepeatViews: times is 0, expected a whole number from"):
        RepeatViews(0)


def test_all_are_found_by_name():
    specs = [
        {"name": "box_crop", "margin": 0.5},
        {"name": "repeat_views", "times": 2},
        {"name": "rand_augment", "policy": "rand-m5-n2"},
        {"name": "multi_scale_crop", "size": 16},
        {"name": "ten_crop", "size": 16},
    ]
    names = [type(t).__name__ for t in build_transforms(specs)]
    assert names == ["BoxCrop", "RepeatViews", "RandAugment", "MultiScaleCrop", "TenCrop"]
