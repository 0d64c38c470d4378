"""Patches and back, the embedding as a strided convolution, the position table."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.embed import TubeletEmbed, patchify, sincos_table, token_grid, unpatchify

PATCH = (2, 4, 3)
RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((2, 4, 8, 9, 3), dtype=np.float32)


def test_order_of_patches_and_of_numbers_in_them():
    patches = np.asarray(patchify(VIDEO, PATCH))
    t, h, w = token_grid(VIDEO.shape, PATCH)
    assert (t, h, w) == (2, 2, 3) and patches.shape == (2, 12, 2 * 4 * 3 * 3)
    for token, (i, j, k) in enumerate(np.ndindex(t, h, w)):
        block = VIDEO[:, 2 * i : 2 * i + 2, 4 * j : 4 * j + 4, 3 * k : 3 * k + 3]
        np.testing.assert_array_equal(patches[:, token], block.reshape(2, -1))


def test_there_and_back():
    patches = patchify(VIDEO, PATCH)
    np.testing.assert_array_equal(unpatchify(patches, (2, 2, 3), PATCH), VIDEO)


def test_embedding_is_a_convolution_whose_stride_is_its_kernel():
    module = TubeletEmbed(5, PATCH)
    patches = patchify(VIDEO, PATCH)
    params = module.init(jax.random.key(0), patches)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (2, 4, 3, 3, 5), "bias": (5,)}
    bound = 1 / math.sqrt(2 * 4 * 3 * 3)
    for leaf in jax.tree.leaves(params):
        assert 0.5 * bound < float(jnp.abs(leaf).max()) <= bound
    expected = jax.lax.conv_general_dilated(
        VIDEO, params["kernel"], PATCH, "VALID", dimension_numbers=("NTHWC", "THWIO", "NTHWC")
    )
    got = module.apply({"params": params}, patches)
    expected = np.asarray(expected).reshape(2, 12, 5) + np.asarray(params["bias"])
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("width", [6, 7])
def test_table(width):
    table = sincos_table(4, width)
    assert table.dtype == np.float32 and table.shape == (4, width)
    for i, j in np.ndindex(4, width):
        angle = i / 10000 ** (2 * (j // 2) / width)
        assert table[i, j] == np.float32(math.cos(angle) if j % 2 else math.sin(angle))


def test_table_cannot_be_spoilt():
    with pytest.raises(ValueError, match="read-only"):
        sincos_table(4, 6)[0] = 1


def test_videos_that_the_patch_does_not_divide():
    with pytest.raises(ValueError, match=r"\(5, 8, 9\), expected multiples .*\(4, 8, 9\)"):
        token_grid((1, 5, 8, 9, 3), PATCH)
    with pytest.raises(ValueError, match=r"\(1, 8, 9\), expected multiples .*\(2, 8, 9\)"):
        patchify(VIDEO[:, :1], PATCH)
    with pytest.raises(ValueError, match=r"shape \(4, 8, 9, 3\), expected \(N, T, H, W, C\)"):
        token_grid((4, 8, 9, 3), PATCH)


def test_patches_that_do_not_fit():
    with pytest.raises(ValueError, match=r"needs \(N, 8, a multiple of 24\)"):
        unpatchify(patchify(VIDEO, PATCH), (2, 2, 2), PATCH)
    with pytest.raises(ValueError, match="72 numbers, expected 24: .* with 1 channels"):
        TubeletEmbed(5, PATCH, channels=1).init(jax.random.key(0), patchify(VIDEO, PATCH))
