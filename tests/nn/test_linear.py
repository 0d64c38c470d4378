"""Linear layers into, out of and without heads."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn import linear
from jaxvid.nn.activation import gelu
from jaxvid.nn.linear import Dense, HeadMerge, HeadSplit, dense

X = np.random.default_rng(0).standard_normal((2, 5, 8), dtype=np.float32)


def shapes(module, x=X):
    variables = module.init(jax.random.key(0), jnp.asarray(x))
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
    return variables, jax.tree.map(jnp.shape, variables["params"])


def test_dense():
    variables, found = shapes(Dense(3))
    assert found == {"kernel": (8, 3), "bias": (3,)}
    params = {"kernel": variables["params"]["kernel"], "bias": jnp.arange(3.0)}
    got = Dense(3).apply({"params": params}, X)
    np.testing.assert_allclose(got, X @ np.asarray(params["kernel"]) + np.arange(3), atol=1e-5)
    assert shapes(Dense(3, use_bias=False))[1] == {"kernel": (8, 3)}
    assert Dense(3, dtype=jnp.bfloat16).apply(variables, X).dtype == jnp.bfloat16


def test_one_row_through_a_large_kernel(monkeypatch):
    rng = np.random.default_rng(0)
    kernel, row = rng.standard_normal((5, 7), np.float32), rng.standard_normal((1, 5), np.float32)
    bias = np.arange(7.0, dtype=np.float32)

    def run(kernel):
        return jax.value_and_grad(lambda k: jnp.sum(jnp.sin(dense(row, k, bias, jnp.float32))))(
            jnp.asarray(kernel)
        )

    plain = run(kernel)
    monkeypatch.setattr(linear, "LARGE", 0)
    text = jax.jit(run).lower(kernel).as_text()
    assert "tensor<2x5xf32>" in text  # beside a row of zeros
    for a, b in zip(run(kernel), plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_heads_there_and_back_are_matrices_in_disguise():
    variables, found = shapes(HeadSplit(2, 3))
    assert found == {"kernel": (8, 2, 3), "bias": (2, 3)}
    bias = jnp.arange(6.0).reshape(2, 3)
    params = {"kernel": variables["params"]["kernel"], "bias": bias}
    heads = HeadSplit(2, 3).apply({"params": params}, X)
    flat = X @ np.asarray(params["kernel"]).reshape(8, 6) + np.arange(6)
    np.testing.assert_allclose(heads.reshape(2, 5, 6), flat, atol=1e-5)
    assert shapes(HeadSplit(2, 3, use_bias=False))[1] == {"kernel": (8, 2, 3)}

    variables, found = shapes(HeadMerge(4), heads)
    assert found == {"kernel": (2, 3, 4), "bias": (4,)}
    merged = HeadMerge(4).apply(variables, heads)
    kernel = np.asarray(variables["params"]["kernel"]).reshape(6, 4)
    np.testing.assert_allclose(merged, flat @ kernel, atol=1e-5)


def test_initialisers_see_the_matrix():
    seen = []

    def init(rng, shape, dtype):
        seen.append(shape)
        return jnp.zeros(shape, dtype)

    shapes(HeadSplit(2, 3, kernel_init=init))
    shapes(HeadMerge(4, kernel_init=init), X.reshape(2, 5, 2, 4))
    assert seen == [(8, 6), (8, 4)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("use_bias", [True, False])
def test_of_an_activation_that_is_not_kept(dtype, use_bias):
    module = Dense(3, use_bias=use_bias, dtype=dtype, bias_init=nn.initializers.normal(1.0))
    variables = module.init(jax.random.key(0), X)

    def total(layer, variables, x):
        return jnp.sum(jnp.sin(layer.apply(variables, x).astype(jnp.float32)))

    def plain(variables, x):
        return jnp.sum(jnp.sin(module.apply(variables, gelu(x)).astype(jnp.float32)))

    x = jnp.asarray(X, dtype)
    ours = functools.partial(total, module.clone(activation=gelu))
    want, right = jax.value_and_grad(plain, (0, 1))(variables, x)
    for run in (jax.value_and_grad(ours, (0, 1)), jax.jit(jax.value_and_grad(ours, (0, 1)))):
        got, found = run(variables, x)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, *(jax.tree.map(jnp.float32, t) for t in (found, right)))


def test_a_gradient_that_is_not_finite_stays_so():
    """In rows of its own: what is computed again waits for the gradient."""
    module = Dense(3, activation=gelu)
    variables = module.init(jax.random.key(0), X)
    _, pull = jax.vjp(lambda x: module.apply(variables, x), jnp.asarray(X))
    (found,) = pull(jnp.ones((2, 5, 3)).at[0, 1].set(jnp.inf))
    finite = np.isfinite(found).all(axis=-1)
    assert not finite[0, 1] and finite.sum() == 9
