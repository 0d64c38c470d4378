"""GELU against the exact normal distribution, its flavour by tanh against its formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.activation import gelu, gelu_tanh, quick_gelu

X = np.linspace(-9, 9, 2001, dtype=np.float32)
CDF = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in X.astype(np.float64)])


def test_values_within_a_rounding():
    np.testing.assert_allclose(jax.jit(gelu)(X), X * CDF, atol=1e-6)
    assert np.abs(np.asarray(jax.nn.gelu(X, approximate=True)) - X * CDF).max() > 1e-4  # not this


def test_gradient():
    expected = CDF + X * np.exp(-0.5 * X.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(jax.grad(lambda x: gelu(x).sum())(X), expected, atol=1e-6)


def test_the_flavour_by_tanh():
    y = X.astype(np.float64)
    tanh = np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))
    np.testing.assert_allclose(jax.jit(gelu_tanh)(X), y / 2 * (1 + tanh), atol=1e-6)
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * y**2)
    slope = (1 + tanh) / 2 + y / 2 * (1 - tanh**2) * inner
    got = jax.grad(lambda x: gelu_tanh(x).sum())(X)
    np.testing.assert_allclose(got, slope, atol=4e-6)
    assert np.abs(got - jax.grad(lambda x: gelu(x).sum())(X)).max() > 1e-4


def test_clips_flavour_by_sigmoid():
    y = X.astype(np.float64)
    gate = 1 / (1 + np.exp(-1.702 * y))
    np.testing.assert_allclose(jax.jit(quick_gelu)(X), y * gate, atol=1e-6)
    slope = gate + 1.702 * y * gate * (1 - gate)
    np.testing.assert_allclose(jax.grad(lambda x: quick_gelu(x).sum())(X), slope, atol=1e-6)


@pytest.mark.parametrize("function", [gelu, gelu_tanh, quick_gelu])
def test_16_bit_floats_are_computed_in_float32(function):
    half = jnp.asarray(X, jnp.bfloat16)
    got, pull = jax.vjp(function, half)
    exact = jax.vjp(function, half.astype(jnp.float32))
    assert got.dtype == pull(got)[0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, exact[0].astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("function", "costly"), [(gelu, "erf"), (gelu_tanh, "tanh"), (quick_gelu, "exponential")]
)
def test_only_the_input_is_kept_for_the_gradient(function, costly):
    def loss(x, inner, outer):
        return jnp.sum(jnp.square(function(x @ inner) @ outer))

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 8), (8, 32), (32, 8))]
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile().as_text()
    assert compiled.count(f" {costly}(") == 2  # once for the value, once more for its slope
