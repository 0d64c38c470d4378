"""GELU against the exact normal distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.activation import gelu

X = np.linspace(-9, 9, 2001, dtype=np.float32)
CDF = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in X.astype(np.float64)])


def test_values_within_a_rounding():
    np.testing.assert_allclose(jax.jit(gelu)(X), X * CDF, atol=1e-6)
    assert np.abs(np.asarray(jax.nn.gelu(X, approximate=True)) - X * CDF).max() > 1e-4  # not this


def test_gradient():
    expected = CDF + X * np.exp(-0.5 * X.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(jax.grad(lambda x: gelu(x).sum())(X), expected, atol=1e-6)


def test_16_bit_floats_are_computed_in_float32():
    half = jnp.asarray(X, jnp.bfloat16)
    got, pull = jax.vjp(gelu, half)
    exact = jax.vjp(gelu, half.astype(jnp.float32))
    assert got.dtype == pull(got)[0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, exact[0].astype(jnp.bfloat16))
