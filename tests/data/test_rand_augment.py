"""RandAugment: every change against numpy or scipy, and the draws of the whole."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxvid.core.errors import ConfigError, UnknownNameError
from jaxvid.data.transforms import _photo_ops
from jaxvid.data.transforms._photo_ops import RISING, STEADY
from jaxvid.data.transforms.rand_augment import Policy, RandAugment, parse

BILINEAR = _photo_ops.FILTERS["bilinear"]
SETS = {"steady": {o.name: o for o in STEADY}, "rising": {o.name: o for o in RISING}}


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(seed=0, height=24, width=32):
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(y / a + x / b + seed) for a, b in ((4, 9), (7, 5), (3, 11))]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def changed(frame, name, magnitude, sign=1, kind="rising"):
    change = SETS[kind][name].make(magnitude / 10, sign, BILINEAR)
    return np.asarray(change(Image.fromarray(frame)))


def as_clip(video):
    return {"video": video, "other": "kept"}


@pytest.mark.parametrize("text, expected", [
    ("rand-m7-n4-mstd0.5-inc1", Policy(7, 4, 0.5, True)),
    ("rand-m9-mstd0.5", Policy(9, 2, 0.5, False)),
    ("rand", Policy(10, 2, 0.0, False)),
    ("rand-inc0-n1-m2.5", Policy(2.5, 1, 0.0, False)),
])  # fmt: skip
def test_policies_are_read(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text, reason", [
    ("rand-m7-p0.5", "'p0.5' is no part of it"),
    ("rand-m7-m8", "'m8' is no part of it"),
    ("rand-m", "'m' is no part"),
    ("augmix-m3", "begins with 'rand'"),
    ("rand-m11", "m is at most 10"),
    ("rand-n1.5", "n is a whole number and inc is 0 or 1"),
    ("rand-inc2", "n is a whole number and inc is 0 or 1"),
])  # fmt: skip
def test_wrong_policies(text, reason):
    with pytest.raises(ConfigError, match=f"policy is '{text}', expected something like.*{reason}"):
        RandAugment(policy=text)


def test_wrong_filter():
    with pytest.raises(UnknownNameError, match="unknown filter of RandAugment 'bicubi'.*'bicubic'"):
        RandAugment(filter="bicubi")


@pytest.mark.parametrize("sign", [1, -1])
def test_translation_is_a_share_of_each_side(sign):
    frame = picture(height=40, width=20)
    right = np.full_like(frame, 128)
    down = np.full_like(frame, 128)
    # Magnitude 10 is 45 %: 9 of 20 pixels across, 18 of 40 down.
    if sign > 0:  # the picture goes left and up
        right[:, :11], down[:22] = frame[:, 9:], frame[18:]
    else:
        right[:, 9:], down[18:] = frame[:, :11], frame[:22]
    np.testing.assert_array_equal(changed(frame, "translate_x", 10, sign), right)
    np.testing.assert_array_equal(changed(frame, "translate_y", 10, sign), down)


@pytest.mark.parametrize("name, matrix", [
    ("shear_x", [[1, 0], [0.15, 1]]),  # rows of scipy: (row, column) read from
    ("shear_y", [[1, 0.15], [0, 1]]),
    ("rotate", [[np.cos(np.pi / 12), np.sin(np.pi / 12)], [-np.sin(np.pi / 12), np.cos(np.pi / 12)]]),
])  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
def test_shears_and_turns_at_half_the_magnitude(name, matrix, sign):
    frame, matrix = picture(), np.array(matrix)
    if sign < 0:
        matrix = np.linalg.inv(matrix)  # the other way
    # Pillow's coordinates are those of pixel centres, (0.5, 0.5) on; a rotation is about the middle.
    middle = np.array(frame.shape[:2]) / 2 if name == "rotate" else np.zeros(2)
    offset = middle - matrix @ middle + matrix @ [0.5, 0.5] - 0.5
    got = changed(frame, name, 5, sign)
    for channel in range(3):
        expected = ndimage.affine_transform(
            frame[..., channel].astype(float), matrix, offset, order=1, cval=np.nan
        )
        inside = np.isfinite(expected)
        assert inside.mean() > 0.7
        np.testing.assert_allclose(got[..., channel][inside], expected[inside], atol=1.5)
        assert (got[..., channel][~ndimage.binary_dilation(inside, iterations=2)] == 128).all()


def test_bits_and_thresholds_by_hand():
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    np.testing.assert_array_equal(changed(frame, "posterize", 5), frame & 0b11000000)
    np.testing.assert_array_equal(changed(frame, "posterize", 0), frame & 0b11110000)
    np.testing.assert_array_equal(changed(frame, "posterize", 10), 0 * frame)
    np.testing.assert_array_equal(changed(frame, "posterize", 5, kind="steady"), frame & 0xC0)
    np.testing.assert_array_equal(changed(frame, "posterize", 0, kind="steady"), 0 * frame)
    np.testing.assert_array_equal(changed(frame, "solarize", 0), frame)
    np.testing.assert_array_equal(changed(frame, "solarize", 10), 255 - frame)
    quarter = np.where(frame < 192, frame, 255 - frame)  # 256 - 256 / 4
    np.testing.assert_array_equal(changed(frame, "solarize", 2.5), quarter)
    np.testing.assert_array_equal(changed(frame, "solarize", 10, kind="steady"), frame)
    added = np.where(frame < 128, frame + 55, frame)
    np.testing.assert_array_equal(changed(frame, "solarize_add", 5), added)
    np.testing.assert_array_equal(changed(frame, "invert", 3), 255 - frame)


@pytest.mark.parametrize("kind, magnitude, sign, factor", [
    ("rising", 10, 1, 1.9), ("rising", 10, -1, 0.1), ("rising", 0, 1, 1.0), ("rising", 5, -1, 0.55),
    ("steady", 0, 1, 0.1), ("steady", 10, -1, 1.9), ("steady", 5, 1, 1.0),
])  # fmt: skip
def test_factors_of_colour(kind, magnitude, sign, factor):
    dark = np.full((8, 8, 3), 100, np.uint8)
    assert abs(changed(dark, "brightness", magnitude, sign, kind)[0, 0, 0] - 100 * factor) <= 1
    coloured = dark.copy()
    coloured[..., 0] = 140
    grey = 0.299 * 140 + 0.701 * 100
    got = changed(coloured, "saturation", magnitude, sign, kind)[0, 0].astype(float)
    np.testing.assert_allclose(got, grey + factor * (coloured[0, 0] - grey), atol=1.5)
    halves = dark.copy()
    halves[:, 4:] = 120
    got = changed(halves, "contrast", magnitude, sign, kind).astype(float)
    np.testing.assert_allclose(got, 110 + factor * (halves - 110.0), atol=1.5)


def test_sharpness_and_histograms():
    frame = picture()
    assert (
        np.abs(np.diff(changed(frame, "sharpness", 10, 1).astype(int), axis=1)).sum()
        > np.abs(np.diff(changed(frame, "sharpness", 10, -1).astype(int), axis=1)).sum()
    )
    dull = 100 + frame // 8
    stretched = changed(dull, "auto_contrast", 1)
    assert stretched.min() == 0 and stretched.max() == 255
    # An equalized channel has about as many pixels in each quarter of its range.
    levels = changed(picture(height=64, width=64), "equalize", 1)[..., 0]
    counts = np.histogram(levels, bins=4, range=(0, 256))[0]
    assert counts.min() > 0.15 * levels.size


@pytest.mark.parametrize("policy", ["rand-m7-n4-mstd0.5-inc1", "rand-m9-mstd0.5"])
def test_all_frames_of_a_view_are_changed_alike_and_views_are_not(policy):
    video = np.broadcast_to(picture(), (6, 3, 24, 32, 3))
    clip = as_clip(video)
    out = RandAugment(policy).random_map(clip, rng(2))
    got = out["video"]
    assert got.dtype == np.uint8 and got.shape == video.shape and out["other"] == "kept"
    assert clip["video"] is video and (video == picture()).all()
    assert (got == got[:, :1]).all()
    assert len({view.tobytes() for view in got[:, 0]}) > 3


def test_per_frame_changes_each_frame_on_its_own():
    video = np.broadcast_to(picture(), (1, 12, 24, 32, 3))
    got = RandAugment(per_frame=True).random_map(as_clip(video), rng(2))["video"]
    assert len({frame.tobytes() for frame in got[0]}) > 6


def test_equal_rngs_give_equal_clips():
    video = np.broadcast_to(picture(), (3, 2, 24, 32, 3))
    first, second, other = (
        RandAugment().random_map(as_clip(video), rng(seed))["video"] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_how_often_and_how_much(monkeypatch):
    """Every operation equally often, half of the n done, magnitudes normal, both signs."""
    seen = []

    def recording(name):
        def make(level, sign, resample):
            seen.append((name, level * 10, sign))
            return lambda image: image

        return _photo_ops.Operation(name, make)

    monkeypatch.setattr(
        "jaxvid.data.transforms.rand_augment.RISING", tuple(recording(o.name) for o in RISING)
    )
    augment, generator = RandAugment("rand-m7-n4-mstd0.5-inc1"), rng()
    for _ in range(3000):
        augment.changes(parse(augment.policy), generator)
    names, magnitudes, signs = zip(*seen, strict=True)
    assert abs(len(seen) / 3000 - 2) < 0.1
    counts = {name: names.count(name) for name in names}
    assert len(counts) == 15 and max(counts.values()) < 1.3 * min(counts.values())
    assert abs(np.mean(magnitudes) - 7) < 0.05 and abs(np.std(magnitudes) - 0.5) < 0.05
    assert abs(np.mean(signs)) < 0.05
    seen.clear()
    for _ in range(200):
        augment.changes(Policy(9, 4, 3.0, True), generator)
    magnitudes = [m for _, m, _ in seen]
    assert min(magnitudes) >= 0 and max(magnitudes) == 10
