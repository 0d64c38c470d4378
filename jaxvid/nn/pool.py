"""Pooling over frames and clips, channels last; padding is never part of a maximum."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxvid.nn.conv import Padding, per_axis, resolve_padding


def max_pool(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "half",
) -> jax.Array:
    """x (N, *spatial, C) -> (N, *spatial', C); padding as in nn/conv.py. Raises ValueError."""
    strides = per_axis(strides, len(window))
    pads = resolve_padding(padding, x.shape[1:-1], window, strides)
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *pads, (0, 0)),
    )


def average_pool(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
) -> jax.Array:
    """x (N, *spatial, C) -> (N, *spatial', C); padded zeros count, as in torch. Raises ValueError."""
    strides = per_axis(strides, len(window))
    pads = resolve_padding(padding, x.shape[1:-1], window, strides)
    total = jax.lax.reduce_window(
        x,
        jnp.zeros((), x.dtype),
        jax.lax.add,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *pads, (0, 0)),
    )
    count = 1
    for size in window:
        count *= size
    return total / count


def global_mean(x: jax.Array) -> jax.Array:
    """x (N, *spatial, C) of any float dtype -> (N, C) float32, the mean over all places."""
    return jnp.mean(x.astype(jnp.float32), axis=tuple(range(1, x.ndim - 1)))
