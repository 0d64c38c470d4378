"""References: Pillow's ImageEnhance and the standard library's colorsys."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxvid.ops import colour


def clip(seed=0, n=2, t=2, size=6):
    return np.random.default_rng(seed).random((n, t, size, size, 3), dtype=np.float32)


@pytest.mark.parametrize(
    "adjust, enhancer",
    [
        (colour.adjust_brightness, ImageEnhance.Brightness),
        (colour.adjust_contrast, ImageEnhance.Contrast),
        (colour.adjust_saturation, ImageEnhance.Color),
    ],
)
def test_factors_mean_what_they_mean_in_pillow(adjust, enhancer):
    video = np.round(clip() * 255) / 255
    factors = np.array([0.4, 1.7])
    got = np.asarray(adjust(jnp.asarray(video, jnp.float32), jnp.asarray(factors)))
    for n, factor in enumerate(factors):
        for t in range(video.shape[1]):
            image = Image.fromarray(np.round(video[n, t] * 255).astype(np.uint8))
            expected = np.asarray(enhancer(image).enhance(factor)) / 255
            np.testing.assert_allclose(got[n, t], expected, atol=2.5 / 255)  # Pillow rounds


def test_brightness_and_contrast_by_hand():
    video = jnp.array([0.2, 0.4, 0.8], jnp.float32).reshape(1, 1, 1, 1, 3)
    grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.8
    half = jnp.array([0.5])
    np.testing.assert_allclose(
        colour.adjust_brightness(video, jnp.array([2.0])).ravel(), [0.4, 0.8, 1.0], atol=1e-6
    )
    expected = [0.1 + grey / 2, 0.2 + grey / 2, 0.4 + grey / 2]
    np.testing.assert_allclose(colour.adjust_contrast(video, half).ravel(), expected, atol=1e-6)
    np.testing.assert_allclose(colour.adjust_saturation(video, half).ravel(), expected, atol=1e-6)


def test_hue_is_turned_as_in_hsv():
    video = clip(3)
    video[0, 0, 0] = 0.5  # greys have no hue
    video[0, 0, 1] = [0.9, 0.9, 0.1]  # two channels equally high
    turns = np.array([0.37, -0.45])
    got = np.asarray(jax.jit(colour.adjust_hue)(jnp.asarray(video), jnp.asarray(turns)))
    for n, turn in enumerate(turns):
        for pixel, after in zip(video[n].reshape(-1, 3), got[n].reshape(-1, 3), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*pixel.tolist())
            np.testing.assert_allclose(
                after, colorsys.hsv_to_rgb((h + turn) % 1.0, s, v), atol=1e-5
            )


def test_all_frames_of_a_clip_change_alike_and_clips_differ():
    still = np.repeat(clip(5, n=1, t=1), 6, axis=0).repeat(3, axis=1)
    jitter = jax.jit(
        lambda rng, x: colour.colour_jitter(
            rng, x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
        )
    )
    got = np.asarray(jitter(jax.random.key(0), jnp.asarray(still)))
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    np.testing.assert_array_equal(got[:, 0], got[:, 2])
    assert all(np.abs(got[0] - got[n]).max() > 0.01 for n in range(1, 6))
    assert got.min() >= 0.0 and got.max() <= 1.0 and got.dtype == np.float32


def test_factors_stay_within_their_range():
    grey = jnp.full((500, 1, 1, 1, 3), 0.25)
    got = colour.colour_jitter(jax.random.key(0), grey, brightness=0.4)[:, 0, 0, 0, 0] / 0.25
    assert 0.6 <= float(got.min()) < 0.65 and 1.35 < float(got.max()) <= 1.4001
    got = colour.colour_jitter(jax.random.key(0), grey, brightness=2.0)[:, 0, 0, 0, 0] / 0.25
    assert float(got.max()) > 2.5 and float((got == 0).mean()) < 0.02, "0..3, not -1..3 clipped"


def test_probability_leaves_the_others_bit_for_bit():
    video = jnp.asarray(clip(7, n=200, t=1, size=2))
    got = colour.colour_jitter(jax.random.key(3), video, brightness=0.5, hue=0.2, probability=0.3)
    same = np.asarray(got == video).all(axis=(1, 2, 3, 4))
    assert 0.6 < same.mean() < 0.8


def test_greyscale_makes_three_equal_channels():
    video = jnp.asarray(clip(8, n=400, t=1, size=2)).astype(jnp.bfloat16)
    got = colour.greyscale(jax.random.key(0), video, 0.25)
    assert got.dtype == jnp.bfloat16
    grey = np.asarray((got == got[..., :1]).all(axis=(1, 2, 3, 4)))
    assert 0.15 < grey.mean() < 0.35
    np.testing.assert_array_equal(np.asarray(got)[~grey], np.asarray(video)[~grey])


@pytest.mark.parametrize("wrong", [{"brightness": -0.1}, {"hue": 0.6}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match="expected numbers >= 0, and hue at most 0.5"):
        colour.colour_jitter(jax.random.key(0), jnp.zeros((1, 1, 2, 2, 3)), **wrong)


def test_uint8_is_refused():
    video = jnp.zeros((1, 1, 2, 2, 3), jnp.uint8)
    with pytest.raises(ValueError, match="colour_jitter was given uint8"):
        colour.colour_jitter(jax.random.key(0), video, brightness=0.1)
    with pytest.raises(ValueError, match="greyscale was given uint8"):
        colour.greyscale(jax.random.key(0), video)
