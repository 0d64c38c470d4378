"""Attention over time and over space apart, against attention with everything else masked out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.nn.factorised import (
    FactorisedBlock,
    factorised_dot_product,
    frames_first,
    places_first,
    places_last,
)

FRAMES, PLACES = 3, 4
RNG = np.random.default_rng(0)
FRAME = np.repeat(np.arange(FRAMES), PLACES)
PLACE = np.tile(np.arange(PLACES), FRAMES)
SAME_PLACE = PLACE[:, None] == PLACE
SAME_FRAME = FRAME[:, None] == FRAME


def masked(query, key, value, mask, scale):
    scores = np.where(mask, np.einsum("nqhd,nkhd->nhqk", query, key) * scale, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    return np.einsum("nhqk,nkhd->nqhd", weights, value)


def test_tokens_are_sorted_and_back():
    x = np.arange(2 * 12 * 5).reshape(2, 12, 5)
    by_place = places_first(x, FRAMES)
    assert by_place.shape == (8, 3, 5)
    np.testing.assert_array_equal(by_place[5], x[1, 1::4])
    np.testing.assert_array_equal(places_last(by_place, 2), x)
    np.testing.assert_array_equal(frames_first(x, FRAMES)[4], x[1, 4:8])


@pytest.mark.parametrize("scale", [None, 0.7])
def test_halves_of_the_heads_see_time_and_space(scale):
    arrays = [RNG.normal(size=(2, 12, 4, 5)).astype(np.float32) for _ in range(3)]
    got = jax.jit(lambda *a: factorised_dot_product(*a, frames=FRAMES, scale=scale))(*arrays)
    scale = scale or 1 / np.sqrt(5)
    over_time = masked(*(x[:, :, :2] for x in arrays), SAME_PLACE, scale)
    over_space = masked(*(x[:, :, 2:] for x in arrays), SAME_FRAME, scale)
    np.testing.assert_allclose(got, np.concatenate([over_time, over_space], 2), atol=1e-6)


def test_what_does_not_divide():
    x = jnp.zeros((1, 12, 3, 2))
    with pytest.raises(ValueError, match="3 heads: one half attends over time"):
        factorised_dot_product(x, x, x, frames=3)
    x = jnp.zeros((1, 12, 2, 2))
    with pytest.raises(ValueError, match="12 tokens are not a multiple of 5 frames"):
        factorised_dot_product(x, x, x, frames=5)


def attended(x, p, mask):
    def heads(name):
        return np.einsum("nli,ihd->nlhd", x, p[name]["kernel"]) + np.asarray(p[name]["bias"])

    y = masked(heads("query"), heads("key"), heads("value"), mask, 1 / np.sqrt(4))
    return np.einsum("nlhd,hdi->nli", y, p["out"]["kernel"]) + np.asarray(p["out"]["bias"])


def normalised(x, p, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return centred / spread * np.asarray(p["scale"]) + np.asarray(p["bias"])


@pytest.mark.parametrize("order", ["time_space", "space_time"])
def test_a_block_is_its_formula(order):
    block = FactorisedBlock(2, FRAMES, order, mlp_ratio=1.5, norm_eps=0.1, activation=jnp.sin)
    x = RNG.normal(size=(2, 12, 8)).astype(np.float32)
    params = jax.jit(lambda: block.init(jax.random.key(0), x, train=False))()["params"]
    p = jax.tree.map(lambda a: a + 0.3 * RNG.normal(size=a.shape).astype(np.float32), params)
    got = jax.jit(lambda p: block.apply({"params": p}, x, train=False))(p)
    steps = [
        ("temporal_norm", "temporal_attention", SAME_PLACE),
        ("norm1", "attention", SAME_FRAME),
    ]
    for norm, attention, mask in steps if order == "time_space" else steps[::-1]:
        x = x + attended(normalised(x, p[norm], 0.1), p[attention], mask)
    hidden = normalised(x, p["norm2"], 0.1) @ p["mlp"]["fc1"]["kernel"] + p["mlp"]["fc1"]["bias"]
    x = x + np.sin(hidden) @ p["mlp"]["fc2"]["kernel"] + p["mlp"]["fc2"]["bias"]
    np.testing.assert_allclose(got, x, atol=3e-5)


def test_its_attention_over_time_can_start_at_nothing():
    x = RNG.normal(size=(2, 12, 8)).astype(np.float32)
    block = FactorisedBlock(2, FRAMES, temporal_init=nn.initializers.zeros)
    variables = jax.jit(lambda: block.init(jax.random.key(0), x, train=False))()
    temporal = variables["params"]["temporal_attention"]
    assert not np.any(temporal["out"]["kernel"]) and np.all(temporal["query"]["kernel"])
    other = x.copy()
    other[:, PLACES:] += 1.0  # other frames do not matter to the first
    run = jax.jit(lambda x: block.apply(variables, x, train=False)[:, :PLACES])
    np.testing.assert_array_equal(run(x), run(other))
    with pytest.raises(UnknownNameError, match="unknown attention order 'both'"):
        FactorisedBlock(2, FRAMES, "both").init(jax.random.key(0), x, train=False)
