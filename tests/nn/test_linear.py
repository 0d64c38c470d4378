"""Linear layers into, out of and without heads."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn import linear
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
