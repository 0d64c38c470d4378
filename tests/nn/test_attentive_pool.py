"""Attentive pooling: one query by hand, its parameters, its start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.tree import flatten
from jaxvid.nn.attentive_pool import AttentivePool

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(2, 5, 8)).astype(np.float32)


def shapes(pool, tokens=TOKENS):
    init = functools.partial(pool.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), tokens)["params"]


def noisy(pool):
    draw = lambda x: RNG.normal(size=x.shape, scale=0.5).astype(np.float32)
    return {"params": jax.tree.map(draw, shapes(pool))}


def normalised(x, norm):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]


def gelu(x):
    return np.asarray(jax.nn.gelu(x, approximate=False))


def test_a_query_without_blocks_by_hand():
    pool = AttentivePool(2, depth=0, mlp_ratio=2.0)
    variables = noisy(pool)
    params = variables["params"]
    cross, query = params["cross"], params["query_token"]
    memory = normalised(TOKENS, cross["norm1"])  # the query itself is not normalised
    q, k, v = (
        np.einsum("nli,ihd->nlhd", x, part["kernel"]) + part["bias"]
        for x, part in (
            (np.tile(query, (2, 1, 1)), cross["attention"]["query"]),
            (memory, cross["attention"]["key"]),
            (memory, cross["attention"]["value"]),
        )
    )
    weights = np.exp(np.einsum("nqhd,nkhd->nhqk", q, k) / 2)
    weights /= weights.sum(-1, keepdims=True)
    x = query + np.einsum("nhqk,nkhd->nqhd", weights, v).reshape(2, 8)
    mlp = cross["mlp"]
    hidden = gelu(normalised(x, cross["norm2"]) @ mlp["fc1"]["kernel"] + mlp["fc1"]["bias"])
    expected = x + hidden @ mlp["fc2"]["kernel"] + mlp["fc2"]["bias"]
    got = pool.apply(variables, TOKENS, train=False)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_parameters_and_dtypes():
    params = shapes(AttentivePool(2, depth=2, mlp_ratio=2.0))
    assert set(params) == {"query_token", "layer_0", "layer_1", "cross"}
    paths = set(flatten(params["cross"]))
    assert "attention/query/kernel" in paths and not any("/out/" in path for path in paths)
    assert params["cross"]["mlp"]["fc1"]["kernel"].shape == (8, 16)
    half = AttentivePool(2, depth=1, dtype=jnp.bfloat16)
    assert half.apply(noisy(half), TOKENS, train=False).dtype == jnp.bfloat16


def test_recomputing_changes_no_gradient():
    pool = AttentivePool(2, depth=2)
    variables = noisy(pool)

    def gradient(pool):
        loss = lambda v: jnp.sum(pool.apply(v, TOKENS, train=True) ** 2)
        return jax.jit(jax.grad(loss))(variables)

    plain, again = gradient(pool), gradient(pool.clone(remat=True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(np.abs(a).max() + 1))


def test_later_branches_start_smaller():
    pool = AttentivePool(4, depth=3)
    init = jax.jit(functools.partial(pool.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 2, 128)))["params"]
    for i in range(3):
        layer, smaller = params[f"layer_{i}"], 0.02 / np.sqrt(i + 1)
        for kernel in (layer["attention"]["out"]["kernel"], layer["mlp"]["fc2"]["kernel"]):
            assert float(kernel.std()) == pytest.approx(smaller, rel=0.05)
        for kernel in (layer["attention"]["key"]["kernel"], layer["mlp"]["fc1"]["kernel"]):
            assert float(kernel.std()) == pytest.approx(0.02, rel=0.05)
    cross = params["cross"]
    assert float(cross["mlp"]["fc2"]["kernel"].std()) == pytest.approx(0.01, rel=0.05)
    assert float(cross["mlp"]["fc1"]["kernel"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(params["query_token"].std()) == pytest.approx(0.02, rel=0.25)
