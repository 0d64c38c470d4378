"""Depthwise convolutions on CPUs: shifted multiply-adds, one a place of the window.

x (N, T, H, W, C), kernel (kt, kh, kw, 1, C), results (N, T', H', W', C).
"""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_input_gradient
from jaxvid.nn.conv_geometry import NO_PADS, pad, taps_of

MOST_PLACES = 49  # of a window in one loop: 125 of them take ten times as long


def forward(x, kernel, geometry):
    window = kernel.shape[:3]
    if math.prod(window) > MOST_PLACES and window[0] > 1:
        return _plane_by_plane(x, kernel, geometry)
    products = (tap * kernel[place][0] for place, tap in taps_of(x, window, geometry))
    # Row by row of the window: a sum of all, one after the other, waits for each addition.
    rows = iter(lambda: tuple(itertools.islice(products, window[2])), ())
    return sum(map(sum, rows))


def _plane_by_plane(x, kernel, geometry):
    sizes = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    x, along = pad(x, geometry.pads), dataclasses.replace(geometry, pads=NO_PADS)
    seen = (sizes[0] - 1) * geometry.strides[0] + 1

    def add(t, total):
        near = lax.dynamic_slice_in_dim(x, t * geometry.dilation[0], seen, axis=1)
        return total + forward(near, lax.dynamic_slice_in_dim(kernel, t, 1), along)

    start = jnp.zeros((len(x), *sizes, x.shape[-1]), x.dtype)
    return lax.fori_loop(0, kernel.shape[0], add, start)


def input_gradient(x, kernel, gradient, geometry):
    return conv_input_gradient.input_gradient(forward, x, kernel.swapaxes(3, 4), gradient, geometry)


def kernel_gradient(x, kernel, gradient, geometry):
    """Row after row of the gradient, the sums of each place of the window and column kept apart.

    Reductions of products over all rows at once are not fused on CPUs: 3 to 12 times slower.
    """
    x, (kt, kh, kw) = pad(x, geometry.pads), kernel.shape[:3]
    n, frames, rows, width, channels = gradient.shape
    (st, sh, sw), (dt, dh, dw) = geometry.strides, geometry.dilation
    near = (n, (kt - 1) * dt + 1, (kh - 1) * dh + 1, *x.shape[3:])

    def add(i, sums):
        t, h = i // rows, i % rows
        row = lax.dynamic_slice(gradient, (0, t, h, 0, 0), (n, 1, 1, width, channels))
        seen = lax.dynamic_slice(x, (0, t * st, h * sh, 0, 0), near)[:, ::dt, ::dh]
        columns = [seen[..., w * dw :: sw, :][..., :width, :] for w in range(kw)]
        return [s + column * row for s, column in zip(sums, columns, strict=True)]

    zeros = jnp.zeros((n, kt, kh, width, channels), x.dtype)
    sums = lax.fori_loop(0, frames * rows, add, [zeros] * kw)
    return jnp.stack([jnp.sum(s, (0, 3)) for s in sums], axis=2)
