"""Against the formula in float64, and its dtypes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.rms_norm import RMSNorm


def test_the_formula():
    rng = np.random.default_rng(0)
    x, scale = rng.normal(2.0, 3.0, (2, 3, 8)), rng.normal(1.0, 0.3, 8)
    x[0, 0] *= 1e-3  # where epsilon counts
    for epsilon in (1e-5, 1e-3):
        got = RMSNorm(epsilon).apply({"params": {"scale": scale.astype(np.float32)}}, x)
        expected = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * scale
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_sixteen_bit_inputs_are_squared_in_float32():
    x = jnp.full((1, 4), 3e4, jnp.float16)  # whose square float16 has not
    module = RMSNorm(dtype=jnp.float16)
    variables = module.init(jax.random.key(0), x)
    assert variables["params"]["scale"].dtype == jnp.float32
    y = module.apply(variables, x)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, 1.0)
