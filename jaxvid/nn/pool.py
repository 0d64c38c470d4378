"""Pooling over frames and clips, channels last; padding is never part of a maximum.

On CPUs a window is worked off axis by axis, as the maximum or sum of shifted arrays: XLA's windowed
reductions, and above all their gradients, are several times slower there.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxvid.nn.conv import Padding, per_axis, resolve_padding


def max_pool(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "half",
) -> jax.Array:
    """x (N, *spatial, C) -> (N, *spatial', C); padding as in nn/conv.py. Raises ValueError.

    The gradient of a window goes to the first of its largest values in raster order, as in torch.
    """
    strides, pads = _resolve(x, window, strides, padding)
    return _max_pool(x, tuple(window), strides, pads)


def average_pool(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
) -> jax.Array:
    """x (N, *spatial, C) -> (N, *spatial', C); padded zeros count, as in torch. Raises ValueError."""
    strides, pads = _resolve(x, window, strides, padding)
    native = functools.partial(_reduce_window, lax.add, 0.0, window, strides, pads)
    cpu = functools.partial(_sums, window, strides, pads)
    total = lax.platform_dependent(x.astype(jnp.float32), cpu=cpu, default=native)
    return (total / math.prod(window)).astype(x.dtype)


def global_mean(x: jax.Array) -> jax.Array:
    """x (N, *spatial, C) of any float dtype -> (N, C) float32, the mean over all places."""
    return jnp.mean(x.astype(jnp.float32), axis=tuple(range(1, x.ndim - 1)))


def window_mean(x: jax.Array, window: Sequence[int | None] | None) -> jax.Array:
    """x (N, *spatial, C) -> (N, *spatial', C) float32: the mean over a window at every place it has.

    None, for an axis or for all, and whatever is more than the map has: the whole axis.
    """
    sizes = x.shape[1:-1]
    asked = window or (None,) * len(sizes)
    cut = tuple(min(w or size, size) for w, size in zip(asked, sizes, strict=True))
    return average_pool(x.astype(jnp.float32), cut)


def _resolve(x, window, strides, padding):
    if x.ndim != len(window) + 2:
        raise ValueError(
            f"a window of {len(window)} axes, {tuple(window)}, does not fit an input of shape {x.shape}"
        )
    strides = per_axis(strides, len(window))
    return strides, resolve_padding(padding, x.shape[1:-1], window, strides)


def _reduce_window(operation, start, window, strides, pads, x):
    return lax.reduce_window(
        x, start, operation, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


# --- Maxima -------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, strides, pads):
    native = functools.partial(_reduce_window, lax.max, -jnp.inf, window, strides, pads)
    cpu = functools.partial(_maxima, window, strides, pads)
    return lax.platform_dependent(x, cpu=lambda x: cpu(x)[-1], default=native)


def _max_pool_forward(x, window, strides, pads):
    return _max_pool(x, window, strides, pads), x


def _max_pool_backward(window, strides, pads, x, gradient):
    native = functools.partial(_reduce_window, lax.max, -jnp.inf, window, strides, pads)

    def native_gradient(x, gradient):
        return jax.vjp(native, x)[1](gradient)[0]

    cpu = functools.partial(_maxima_gradient, window, strides, pads)
    return (lax.platform_dependent(x, gradient, cpu=cpu, default=native_gradient),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _maxima(window, strides, pads, x):
    """The array before and after the maximum along each axis: W first, T last."""
    stages = [_pad(x, pads, -jnp.inf)]
    for axis in range(len(window), 0, -1):
        taps = _taps(stages[-1], axis, window[axis - 1], strides[axis - 1])
        stages.append(functools.reduce(jnp.maximum, taps))
    return stages


def _maxima_gradient(window, strides, pads, x, gradient):
    """Back axis by axis, T first, to the first largest of each: thus to the first in raster order."""
    stages = _maxima(window, strides, pads, x)
    for axis, (before, after) in enumerate(
        zip(reversed(stages[:-1]), reversed(stages[1:]), strict=True), start=1
    ):
        size, stride = window[axis - 1], strides[axis - 1]
        found, parts = jnp.zeros(after.shape, bool), []
        for tap in _taps(before, axis, size, stride):
            hit = ~(tap < after) & ~found
            found |= hit
            parts.append(jnp.where(hit, gradient, 0))
        spread = jax.linear_transpose(lambda x: _taps(x, axis, size, stride), before)  # noqa: B023
        gradient = spread(parts)[0]
    return _pad(gradient, [(-low, -high) for low, high in pads], 0)


# --- Sums ---------------------------------------------------------------------------------------


def _sums(window, strides, pads, x):
    x = _pad(x, pads, 0)
    for axis in range(len(window), 0, -1):
        size, stride = window[axis - 1], strides[axis - 1]
        whole = size == x.shape[axis]
        x = jnp.sum(x, axis, keepdims=True) if whole else sum(_taps(x, axis, size, stride))
    return x


def _taps(x, axis, size, stride):
    """What each place of a window of `size` sees along an axis, in order."""
    reach = (x.shape[axis] - size) // stride * stride
    return [lax.slice_in_dim(x, i, i + reach + 1, stride, axis) for i in range(size)]


def _pad(x, pads, value):
    if not any(map(any, pads)):
        return x
    rows = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), rows)
