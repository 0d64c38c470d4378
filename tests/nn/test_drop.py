"""Stochastic depth: whole samples, the right share, nothing at evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.drop import DropPath, drop_path


def test_samples_are_dropped_whole_and_the_rest_rescaled():
    out = np.asarray(drop_path(jax.random.key(0), jnp.ones((400, 3, 2)), 0.25))
    per_sample = out.reshape(400, -1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(np.unique(out)) == {np.float32(0.0), np.float32(1 / 0.75)}
    assert 0.17 < (per_sample[:, 0] == 0).mean() < 0.33  # 3.7 standard deviations each way


def test_a_traced_rate_gives_the_same():
    branch = jnp.ones((16, 2))
    eager = drop_path(jax.random.key(1), branch, 0.5)
    np.testing.assert_array_equal(jax.jit(drop_path)(jax.random.key(1), branch, 0.5), eager)


def test_dtype_is_kept():
    assert drop_path(jax.random.key(0), jnp.ones((4, 2), jnp.bfloat16), 0.5).dtype == jnp.bfloat16


def test_nothing_is_drawn_at_evaluation_or_at_rate_0():
    branch = jnp.ones((4, 2))
    for rate, train in ((0.5, False), (0.0, True), (0, True)):
        assert DropPath().apply({}, branch, rate, train=train) is branch


def test_the_module_draws_from_dropout():
    rngs = {"dropout": jax.random.key(0)}
    out = DropPath().apply({}, jnp.ones((64, 2)), 0.5, train=True, rngs=rngs)
    assert 0 < (out == 0).mean() < 1


@pytest.mark.parametrize("rate", [1.0, 1, -0.1])
def test_a_rate_that_is_no_share(rate):
    with pytest.raises(ValueError, match=rf"drop path rate is {rate}, expected .* \[0, 1\)"):
        drop_path(jax.random.key(0), jnp.ones((2, 2)), rate)
