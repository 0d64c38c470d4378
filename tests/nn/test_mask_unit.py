"""Mask units: the order of unrolled tokens, pooling, attention inside and across, all by hand."""

import jax
import numpy as np
import pytest

from jaxvid.nn.mask_unit import MaskUnitAttention, MaskUnitBlock, pooled, reroll, unroll
from jaxvid.nn.pool import max_pool

rng = np.random.default_rng(0)
GRIDS = [((4, 8, 12), (1, 2, 2), 2), ((8, 4, 16), (2, 1, 4), 2), ((3, 6, 9), (1, 3, 3), 1)]


@pytest.mark.parametrize("grid, stride, times", GRIDS)
def test_a_unit_holds_neighbours(grid, stride, times):
    """Numbers of places in raster order show where each token came from."""
    size = [s**times for s in stride]
    places = np.arange(np.prod(grid)).reshape(1, *grid, 1)
    units = np.asarray(unroll(places, stride, times))[0, ..., 0]
    assert units.shape == (np.prod(grid) // np.prod(size), np.prod(size))
    corners = [range(0, n, s) for n, s in zip(grid, size, strict=True)]
    blocks = [
        places[0, t : t + size[0], h : h + size[1], w : w + size[2]].ravel()
        for t in corners[0]
        for h in corners[1]
        for w in corners[2]
    ]
    assert [sorted(u) for u in units.tolist()] == [sorted(b.tolist()) for b in blocks]


@pytest.mark.parametrize("grid, stride, times", GRIDS)
def test_pooling_is_that_of_maps(grid, stride, times):
    """After each pooling the rest, rolled back, is the map pooled without overlap."""
    x = rng.normal(size=(2, *grid, 5)).astype(np.float32)
    tokens, expected = unroll(x, stride, times), x
    np.testing.assert_array_equal(reroll(tokens, grid, stride, times), x)
    for left in reversed(range(times)):
        tokens = pooled(tokens, int(np.prod(stride)))
        expected = max_pool(expected, stride, strides=stride, padding="VALID")
        np.testing.assert_array_equal(
            reroll(tokens, expected.shape[1:4], stride, left), expected, err_msg=left
        )
    assert pooled(tokens, 1) is tokens


def attended(x, params, inside, pool):
    """The formula, one unit (or all) at a time."""
    heads = {
        n: np.einsum("nwuc,chd->nwuhd", x, params[n]["kernel"]) + params[n]["bias"]
        for n in ("query", "key", "value")
    }
    n, units, size = x.shape[:3]
    query = heads["query"].reshape(n, units, pool, size // pool, *heads["query"].shape[3:]).max(2)
    out = np.zeros_like(query)
    for i in range(n):
        for w in range(units):
            at = w if inside else slice(None)
            key, value = (heads[p][i, at].reshape(-1, *query.shape[3:]) for p in ("key", "value"))
            scores = np.einsum("qhd,khd->hqk", query[i, w], key) / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            out[i, w] = np.einsum("hqk,khd->qhd", weights, value)
    return np.einsum("nwuhd,hdc->nwuc", out, params["out"]["kernel"]) + params["out"]["bias"]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("pool", [1, 4])
def test_attention(inside, pool):
    x = rng.normal(size=(2, 3, 8, 6)).astype(np.float32)
    module = MaskUnitAttention(2, 8, pool, inside)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    got = module.apply(variables, x, train=False)
    np.testing.assert_allclose(
        got, attended(x, variables["params"], inside, pool), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("features, pool, projected", [(8, 1, False), (16, 1, True), (16, 4, True)])
def test_what_attention_is_added_to(features, pool, projected):
    """With branches of zeros only the skip remains: the input, or the pooled projection of it."""
    x = rng.normal(size=(2, 3, 4, 8)).astype(np.float32)
    module = MaskUnitBlock(2, features, pool)
    params = module.init(jax.random.key(0), x, train=False)["params"]
    assert ("projection" in params) == projected
    for path in (("attention", "out"), ("mlp", "fc2")):
        params[path[0]][path[1]] = jax.tree.map(np.zeros_like, params[path[0]][path[1]])
    expected = x
    if projected:
        unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        normed = unit * params["norm1"]["scale"] + params["norm1"]["bias"]
        expected = normed @ params["projection"]["kernel"] + params["projection"]["bias"]
    got = module.apply({"params": params}, x, train=False)
    np.testing.assert_allclose(got, pooled(expected, pool), atol=1e-4)
