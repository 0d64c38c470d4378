"""Pooling on CPUs against XLA's native windows; padding never wins; ties as in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxvid.nn.pool import average_pool, global_mean, max_pool, window_mean

pytestmark = pytest.mark.usefixtures("quickly_made")

# Compiles five times as fast; what is computed stays.
QUICK = {"xla_backend_optimization_level": 0}


def native(operation, start, x, window, strides, pads):
    return lax.reduce_window(
        x, start, operation, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


def random_case(seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.choice([2, 3]))
    window = tuple(int(k) for k in rng.integers(1, 5, axes))
    strides = tuple(int(s) for s in rng.integers(1, 4, axes))
    pads = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in window)
    sizes = [int(rng.integers(k, k + 6)) for k in window]
    x = rng.standard_normal((2, *sizes, 3), dtype=np.float32)
    return jnp.asarray(x), window, strides, pads


def with_gradient(function):
    def run(x):
        y, back = jax.vjp(function, x)
        return y, back(jax.random.normal(jax.random.key(0), y.shape))[0]

    return jax.jit(run, compiler_options=QUICK)


@pytest.mark.parametrize("seed", range(16))
def test_max_pool_is_exact(seed):
    x, window, strides, pads = random_case(seed)
    if seed % 2:  # full of ties
        x = jnp.round(x)
    got = with_gradient(lambda x: max_pool(x, window, strides=strides, padding=pads))(x)
    want = with_gradient(lambda x: native(lax.max, -jnp.inf, x, window, strides, pads))(x)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)


@pytest.mark.parametrize("seed", range(16))
def test_average_pool_is_exact(seed):
    x, window, strides, pads = random_case(seed)
    got = with_gradient(lambda x: average_pool(x, window, strides=strides, padding=pads))(x)
    size = np.prod(window)
    want = with_gradient(lambda x: native(lax.add, 0.0, x, window, strides, pads) / size)(x)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_average_pool_of_the_whole_map_is_its_mean():
    x = jax.random.normal(jax.random.key(0), (2, 4, 7, 7, 5))
    got = jax.jit(lambda x: average_pool(x, (4, 7, 7)))(x)
    assert got.shape == (2, 1, 1, 1, 5)
    np.testing.assert_allclose(got[:, 0, 0, 0], global_mean(x), atol=1e-6)


def test_padded_zeros_count_in_an_average():
    got = jax.jit(lambda x: average_pool(x, (2, 2), padding=((1, 0), (1, 0))))(
        jnp.ones((1, 2, 2, 1))
    )
    np.testing.assert_allclose(got[0, ..., 0], [[0.25, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize("padding", ["half", "SAME"])
def test_padding_never_wins(padding):
    x = jnp.full((1, 4, 4, 4, 2), -5.0)
    pool = with_gradient(lambda x: max_pool(x, (3, 3, 3), strides=2, padding=padding))
    y, gradient = pool(x)
    np.testing.assert_array_equal(y, -5.0)
    total = jax.random.normal(jax.random.key(0), y.shape).sum()
    np.testing.assert_allclose(gradient.sum(), total, rtol=1e-4)  # none is lost in the padding


def test_the_gradient_goes_to_the_first_of_equals():
    y, back = jax.vjp(lambda x: max_pool(x, (2, 2, 2), strides=2), jnp.zeros((1, 4, 4, 4, 1)))
    first = np.zeros((1, 4, 4, 4, 1), np.float32)
    first[:, ::2, ::2, ::2] = 1
    np.testing.assert_array_equal(back(jnp.ones_like(y))[0], first)
    x = jnp.asarray([[0.0, 7.0, 1.0], [7.0, 7.0, 2.0], [0.0, 1.0, 2.0]]).reshape(1, 3, 3, 1)
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, (3, 3), padding="VALID").sum()))(x)
    np.testing.assert_array_equal(gradient.reshape(3, 3), [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.torch
def test_ties_go_where_torch_sends_them():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 3, (2, 5, 6, 6, 3)).astype(np.float32)
    there = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    y = torch.nn.functional.max_pool3d(there, (3, 3, 3), (1, 2, 2), (1, 1, 1))
    y.sum().backward()
    pool = jax.grad(lambda x: max_pool(x, (3, 3, 3), strides=(1, 2, 2)).sum())
    np.testing.assert_array_equal(jax.jit(pool)(x), np.moveaxis(there.grad.numpy(), 1, -1))


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_bfloat16_vmap_and_checkpoint(pool):
    x = jax.random.normal(jax.random.key(0), (3, 1, 4, 8, 8, 2), jnp.bfloat16)

    def total(x):
        y = jax.checkpoint(lambda x: pool(x, (2, 3, 3), strides=(1, 2, 2)))(x)
        assert y.dtype == jnp.bfloat16
        return jnp.sum(y.astype(jnp.float32))

    each = jax.jit(jax.vmap(jax.grad(total)))(x)
    assert each.dtype == jnp.bfloat16
    one = jax.jit(jax.grad(total))(x[1])
    np.testing.assert_allclose(each[1].astype(jnp.float32), one.astype(jnp.float32), atol=0.02)


def test_average_of_bfloat16_is_summed_in_float32():
    x = jnp.ones((1, 40, 40, 1), jnp.bfloat16)  # sums beyond 256 would stand still
    assert float(jax.jit(lambda x: average_pool(x, (40, 40)))(x)[0, 0, 0, 0]) == 1.0


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_keep_the_native_operation(platform):
    x = jnp.zeros((1, 4, 8, 8, 2))
    step = jax.jit(jax.grad(lambda x: max_pool(x, (3, 3, 3), strides=2).sum()))
    text = step.trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.select_and_scatter" in text


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_a_window_larger_than_the_clip_is_named(pool):
    with pytest.raises(ValueError, match="an input of 1×8×8 .* smaller than the window 2×2×2"):
        pool(jnp.zeros((1, 1, 8, 8, 2)), (2, 2, 2), padding="VALID")


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_a_window_of_other_axes_is_named(pool):
    with pytest.raises(ValueError, match="a window of 3 axes.* shape .1, 8, 8, 2."):
        pool(jnp.zeros((1, 8, 8, 2)), (1, 2, 2))


def test_unknown_padding_is_named():
    with pytest.raises(ValueError, match="padding 'same'"):
        max_pool(jnp.zeros((1, 8, 8, 2)), (2, 2), padding="same")


def test_global_mean_is_float32():
    mean = global_mean(jnp.full((2, 3, 4, 5, 6), 2.0, jnp.bfloat16))
    assert mean.shape == (2, 6) and mean.dtype == jnp.float32
    np.testing.assert_array_equal(mean, 2.0)


def test_the_mean_over_a_window_at_every_place():
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3, 2), dtype=np.float32)
    got = np.asarray(window_mean(x, (2, 3, 7)))
    assert got.shape == (2, 4, 2, 1, 2)
    for t in range(4):
        for h in range(2):
            expected = x[:, t : t + 2, h : h + 3].mean((1, 2, 3))
            np.testing.assert_allclose(got[:, t, h, 0], expected, atol=1e-6)
    whole = x.mean((1, 2, 3), keepdims=True)
    for window in (None, (5, 4, 3), (9, 9, 9), (None, None, None)):
        np.testing.assert_allclose(window_mean(x, window), whole, atol=1e-6)
    assert window_mean(x, (2, None, None)).shape == (2, 4, 1, 1, 2)
    assert window_mean(jnp.asarray(x, jnp.bfloat16), None).dtype == jnp.float32


def test_the_mean_over_windows_has_a_gradient_under_jit():
    x = np.ones((1, 4, 2, 2, 1), np.float32)
    gradient = jax.jit(jax.grad(lambda x: window_mean(x, (2, 7, 7)).sum()))(x)
    np.testing.assert_allclose(gradient[0, :, 0, 0, 0], np.array([1, 2, 2, 1]) / 8, atol=1e-6)
