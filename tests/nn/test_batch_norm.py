"""Batch normalisation: torch's numbers, its running statistics, freezing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn.batch_norm import BatchNorm, normalise

SHAPE = (2, 3, 5, 4, 6)


def drawn(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)


def variables(seed=1):
    rng = np.random.default_rng(seed)
    draw = lambda: rng.uniform(0.5, 2.0, SHAPE[-1]).astype(np.float32)
    return {
        "params": {"scale": draw(), "bias": draw()},
        "batch_stats": {"mean": draw(), "var": draw()},
    }


def by_hand(x, v, mean, var, epsilon):
    return (x - mean) / np.sqrt(var + epsilon) * v["params"]["scale"] + v["params"]["bias"]


def test_training_uses_the_batch_and_moves_the_statistics_as_torch_does():
    x, v = drawn(), variables()
    module = BatchNorm(epsilon=1e-3, momentum=0.9)
    y, changed = module.apply(v, x, train=True, mutable=["batch_stats"])
    rows = x.reshape(-1, SHAPE[-1]).astype(np.float64)
    np.testing.assert_allclose(y, by_hand(x, v, rows.mean(0), rows.var(0), 1e-3), atol=2e-6)
    old = v["batch_stats"]
    np.testing.assert_allclose(
        changed["batch_stats"]["mean"], 0.9 * old["mean"] + 0.1 * rows.mean(0), rtol=1e-6
    )
    unbiased = rows.var(0, ddof=1)  # what distinguishes torch from Flax
    np.testing.assert_allclose(
        changed["batch_stats"]["var"], 0.9 * old["var"] + 0.1 * unbiased, rtol=1e-6
    )


def test_evaluation_uses_the_statistics_and_leaves_them():
    x, v = drawn(), variables()
    y, changed = BatchNorm().apply(v, x, train=False, mutable=["batch_stats"])
    stats = v["batch_stats"]
    np.testing.assert_allclose(y, by_hand(x, v, stats["mean"], stats["var"], 1e-5), atol=2e-6)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], stats)


def test_frozen_is_evaluation_in_training_but_scale_and_bias_learn():
    x, v = drawn(), variables()
    module = BatchNorm(frozen=True)
    y, changed = module.apply(v, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, module.apply(v, x, train=False))
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], v["batch_stats"])
    grads = jax.grad(lambda p: jnp.sum(module.apply({**v, "params": p}, x, train=True) ** 2))(
        v["params"]
    )
    assert all(np.abs(g).min() > 0 for g in jax.tree.leaves(grads))


def test_initialising_leaves_the_statistics_at_their_start():
    made = BatchNorm(scale_init=jax.nn.initializers.zeros).init(
        jax.random.key(0), drawn(), train=True
    )
    np.testing.assert_array_equal(made["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(made["batch_stats"]["var"], 1)
    np.testing.assert_array_equal(made["params"]["scale"], 0)


def test_one_value_a_channel_has_no_unbiased_variance_and_stays_finite():
    v = variables()
    y, changed = BatchNorm().apply(v, drawn(shape=(1, 6)), train=True, mutable=["batch_stats"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((y, changed)))


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_statistics_in_float32(train):
    x, v = drawn() + 100.0, variables()
    exact, _ = BatchNorm().apply(v, x, train=train, mutable=["batch_stats"])
    y, changed = BatchNorm(dtype=jnp.bfloat16).apply(
        v, jnp.asarray(x, jnp.bfloat16), train=train, mutable=["batch_stats"]
    )
    assert y.dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(changed))
    rounded = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)
    wanted, _ = BatchNorm().apply(v, rounded, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(np.asarray(y, np.float32), wanted, rtol=1e-2, atol=2e-2)
    assert not np.allclose(np.asarray(y, np.float32), exact, atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.02)])
def test_gradients_are_those_of_the_formula(dtype, tolerance):
    params, weights = variables()["params"], jnp.asarray(drawn(7))

    def ours(x, scale, bias):
        y, _, _ = normalise(x.astype(dtype), scale, bias, 1e-3, dtype)
        assert y.dtype == dtype
        return jnp.sum(jnp.sin(y.astype(jnp.float32)) * weights)

    def formula(x, scale, bias):
        x = x.astype(dtype).astype(jnp.float32)
        mean, var = x.mean((0, 1, 2, 3)), x.var((0, 1, 2, 3))
        return jnp.sum(jnp.sin((x - mean) / jnp.sqrt(var + 1e-3) * scale + bias) * weights)

    inputs = jnp.asarray(drawn()), params["scale"], params["bias"]
    found, expected = (jax.grad(f, (0, 1, 2))(*inputs) for f in (ours, formula))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(jnp.abs(b).max()))
