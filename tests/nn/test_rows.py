"""Loops of a layer run on each device for itself: numbers stay, and no sum over devices is in a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxvid.nn import conv_frames, conv_kernel_gradient
from jaxvid.nn.conv import conv
from jaxvid.nn.lstm import LSTM
from jaxvid.nn.rows import division, map_rows, rows_divided, sum_rows
from jaxvid.nn.selective_scan import selective_scan

QUICK = {"xla_backend_optimization_level": 0}  # quickly made
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def divided(*shape):
    """How batches are divided over a mesh (data, fsdp, tensor) of the first devices."""
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = jax.make_mesh(
        shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3, devices=devices
    )
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def double_and_add(x, y, whole):
    return 2 * x + y[:, :1] + whole


def outer(x, y, whole):
    return jnp.einsum("ni,nj->ij", x, y) * whole


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (2, 2, 1), (2, 1, 2)])
def test_what_each_device_does_for_itself_adds_up_to_the_whole(shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 5))
    arrays, by = (x.astype(np.float32), y.astype(np.float32)), divided(*shape)

    def both(x, y):
        mapped = map_rows(double_and_add, (x, y), jnp.float32(3), by=by)
        return mapped, sum_rows(outer, (x, y), jnp.float32(3), by=by)

    mapped, summed = jax.jit(both)(*(jax.device_put(a, by) for a in arrays))
    np.testing.assert_array_equal(mapped, double_and_add(*arrays, np.float32(3)))
    np.testing.assert_allclose(summed, outer(*arrays, np.float32(3)), atol=1e-5)


def test_rows_along_a_later_axis_and_several_results():
    by = divided(4, 1, 1)
    x = np.arange(3 * 8 * 2, dtype=np.float32).reshape(3, 8, 2)

    def running(x):
        return jnp.cumsum(x, axis=0), jnp.sum(x, axis=0, keepdims=True)

    each, last = jax.jit(lambda x: map_rows(running, (x,), by=by, axis=1))(x)
    assert each.sharding.shard_shape(each.shape) == (3, 2, 2)
    np.testing.assert_array_equal(each, np.cumsum(x, axis=0))
    np.testing.assert_array_equal(last[0], each[-1])


def test_rows_that_do_not_divide_and_one_device_are_left_alone():
    x = jnp.ones((6, 2))
    for by, array in ((divided(4, 1, 1), x), (divided(1, 1, 2), x), (None, x)):
        jaxpr = jax.make_jaxpr(lambda x, by=by: sum_rows(jnp.sum, (x,), by=by))(array)
        assert "shard_map" not in str(jaxpr)
    jaxpr = jax.make_jaxpr(lambda x: sum_rows(jnp.sum, (x,), by=divided(2, 1, 1)))(x)
    assert "shard_map" in str(jaxpr) and "psum" in str(jaxpr)


def test_the_division_is_that_of_the_context():
    by = divided(2, 1, 1)
    assert division() is None
    with rows_divided(by):
        assert division() is by
    assert division() is None


def of_frames(x, kernel):
    return conv(x, kernel, padding=1)


def narrow(x, kernel):
    return conv(x, kernel[..., :4], padding=1)


def depthwise(x, kernel):
    kernel = jnp.concatenate([kernel] * 2, axis=0)[:5, :, :, :1]
    return conv(x, kernel, padding=(2, 1, 1), groups=16)


def lstm(x, kernel):
    size = {"input_kernel": (16, 64), "hidden_kernel": (16, 64)}
    params = {k: jnp.resize(kernel, v) for k, v in size.items()}
    params |= {k: kernel.reshape(-1)[:64] for k in ("input_bias", "hidden_bias")}
    steps = x.reshape(8, -1, 16)[:, :24]
    layers = {"layer_0": {"forward": params, "backward": params}}
    return LSTM(16, bidirectional=True).apply({"params": layers}, steps, train=True)[0]


def mamba(x, kernel):
    x = x.reshape(8, -1, 16)[:, :24]
    a = -jnp.exp(jnp.resize(kernel, (16, 4)))
    return selective_scan(x, jax.nn.softplus(x), a, x[..., :4], x[..., 4:8])


LAYERS = [of_frames, narrow, depthwise, lstm, mamba]


def gradients(layer, by, x, kernel):
    """(of x, of kernel), compiled for `by`."""

    def total(x, kernel):
        with rows_divided(by):
            return jnp.sum(jnp.square(layer(x, kernel)))

    step = jax.jit(jax.grad(total, argnums=(0, 1)))
    if by is not None:
        whole = NamedSharding(by.mesh, PartitionSpec())
        x, kernel = jax.device_put(x, by), jax.device_put(kernel, whole)
    compiled = step.lower(x, kernel).compile(compiler_options=QUICK)
    return compiled, compiled(x, kernel)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_sum_over_devices_is_in_a_loop(layer, monkeypatch):
    for limit in ("FRAMES_BYTES", "FRAMES_WHOLE_BYTES"):
        monkeypatch.setattr(conv_frames, limit, 20_000)
    monkeypatch.setattr(conv_kernel_gradient, "PIECE_BYTES", 20_000)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4, 8, 8, 16)).astype(np.float32)
    kernel = 0.1 * rng.normal(size=(3, 3, 3, 16, 16)).astype(np.float32)
    step, got = gradients(layer, divided(4, 1, 1), x, kernel)
    text = step.as_text()
    entry = text[text.index("\nENTRY") :]
    for kind in COLLECTIVES:
        looped = text.count(f" {kind}(") - entry.count(f" {kind}(")
        assert not looped, f"{looped} × {kind} in loops"
    assert text.count(" while(") and entry.count(" all-reduce(")
    _, expected = gradients(layer, None, x, kernel)
    for one, other in zip(got, expected, strict=True):
        scale = float(jnp.max(jnp.abs(other)))
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)
