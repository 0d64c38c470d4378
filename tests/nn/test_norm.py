"""Layer normalisation against numpy in float64, its gradient against jax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn import norm
from jaxvid.nn.norm import LayerNorm, layer_norm

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 16), dtype=np.float32) * 2 + 1
SCALE = 1 + 0.1 * RNG.standard_normal(16, dtype=np.float32)
BIAS = 0.1 * RNG.standard_normal(16, dtype=np.float32)
GRADIENT = RNG.standard_normal(X.shape, dtype=np.float32)


def reference(x, scale, bias, epsilon, library=jnp):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred / library.sqrt(variance + epsilon) * scale + bias


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.5])
def test_values(epsilon):
    wide = [a.astype(np.float64) for a in (X, SCALE, BIAS)]
    expected = reference(*wide, epsilon, np)
    np.testing.assert_allclose(layer_norm(X, SCALE, BIAS, epsilon), expected, atol=2e-6)


def test_a_large_mean_does_not_eat_the_variance():
    # With a variance computed as E[x²] - E[x]², float32 would leave nothing of it.
    expected = reference(X.astype(np.float64) + 4096, SCALE, BIAS, 1e-6, np)
    np.testing.assert_allclose(layer_norm(X + 4096, SCALE, BIAS, 1e-6), expected, atol=2e-3)


@pytest.mark.parametrize("form", ["on this platform", "elsewhere"])
def test_gradients(form, monkeypatch):
    if form == "elsewhere":
        monkeypatch.setattr(norm, "_gradients_by_products", norm._gradients)
    got = jax.vjp(lambda *a: layer_norm(*a, 1e-6), X, SCALE, BIAS)[1](GRADIENT)
    expected = jax.vjp(lambda *a: reference(*a, 1e-6), X, SCALE, BIAS)[1](GRADIENT)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_module_computes_in_float32_and_returns_its_dtype():
    module = LayerNorm(1e-6, jnp.bfloat16)
    variables = module.init(jax.random.key(0), jnp.asarray(X))
    assert jax.tree.map(jnp.shape, variables["params"]) == {"scale": (16,), "bias": (16,)}
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    half = jnp.asarray(X + 100, jnp.bfloat16)
    got = module.apply(variables, half)
    assert got.dtype == jnp.bfloat16
    expected = reference(np.asarray(half, np.float64), 1.0, 0.0, 1e-6, np)
    np.testing.assert_allclose(got.astype(np.float32), expected, atol=0.01)
