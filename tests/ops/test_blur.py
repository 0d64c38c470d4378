"""Reference: scipy's Gaussian filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxvid.ops.blur import blur, gaussian_blur

SIZE = (20, 24)


def clip(n=3, t=2):
    return np.random.default_rng(0).random((n, t, *SIZE, 3), dtype=np.float32)


def test_as_scipy_blurs():
    video, sigmas = clip(), np.array([0.3, 1.0, 2.5])
    got = np.asarray(jax.jit(blur)(video, jnp.asarray(sigmas)))
    assert got.dtype == np.float32 and got.shape == video.shape
    for n, sigma in enumerate(sigmas):
        for t in range(video.shape[1]):
            expected = ndimage.gaussian_filter(
                video[n, t].astype(np.float64), (sigma, sigma, 0), mode="mirror", truncate=8
            )
            np.testing.assert_allclose(got[n, t], expected, atol=2e-5)


def test_a_whole_clip_is_blurred_alike_or_left():
    video = np.broadcast_to(clip(1, 1), (400, 3, *SIZE, 3))
    got = np.asarray(gaussian_blur(jax.random.key(0), jnp.asarray(video), probability=0.3))
    assert (got == got[:, :1]).all(), "all frames of a clip alike"
    changed = (got != video).any(axis=(1, 2, 3, 4))
    assert 0.23 < changed.mean() < 0.37
    roughness = np.abs(np.diff(got[:, 0], axis=1)).mean(axis=(1, 2, 3))
    assert len(np.unique(roughness[changed].round(6))) > 50, "each clip by its own amount"


def test_sigmas_are_within_their_range_and_keys_decide():
    """A lone bright pixel keeps 1 / (2 pi sigma^2) of itself, or a little less on a grid."""
    dot = np.zeros((300, 1, 21, 21, 3), np.float32)
    dot[:, :, 10, 10] = 1
    got, same, other = (
        np.asarray(gaussian_blur(jax.random.key(key), dot, probability=1.0, sigma=(1.0, 2.0)))
        for key in (1, 1, 2)
    )
    sigmas = 1 / np.sqrt(2 * np.pi * got[:, 0, 10, 10, 0])
    assert 0.99 < sigmas.min() < 1.03 and 1.97 < sigmas.max() < 2.01
    assert abs(sigmas.mean() - 1.5) < 0.06
    np.testing.assert_array_equal(got, same)
    assert (got != other).any()


def test_flat_pictures_of_any_size_stay_and_the_dtype_too():
    for shape in ((2, 1, 1, 5, 3), (2, 2, 2, 3, 3)):
        flat = jnp.full(shape, 0.5, jnp.bfloat16)
        got = gaussian_blur(jax.random.key(0), flat, probability=1.0, sigma=(2.0, 2.0))
        assert got.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(got, np.float32), 0.5)


@pytest.mark.parametrize("sigma", [(0, 1), (2, 1)])
def test_wrong_sigmas(sigma):
    with pytest.raises(ValueError, match=r"gaussian_blur has sigma=.*expected standard deviations"):
        gaussian_blur(jax.random.key(0), clip(), sigma=sigma)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="the probability is 2"):
        gaussian_blur(jax.random.key(0), clip(), probability=2)
    with pytest.raises(ValueError, match="gaussian_blur was given uint8"):
        gaussian_blur(jax.random.key(0), np.zeros((1, 1, 4, 4, 3), np.uint8))
