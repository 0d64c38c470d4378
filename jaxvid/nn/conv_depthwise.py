"""Depthwise convolutions on CPUs: shifted multiply-adds, one a place of the window.

x (N, T, H, W, C), kernel (kt, kh, kw, 1, C), results (N, T', H', W', C). `forward` also takes x of one
channel, which every channel of the kernel then sees.
"""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_input_gradient
from jaxvid.nn.conv_geometry import NO_PADS, pad, taps_of, unpad

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
    blocks = [-(-k // s) for k, s in zip(kernel.shape[:3], geometry.strides, strict=True)]
    if max(geometry.strides) > 1 == max(geometry.dilation) and math.prod(blocks) <= MOST_PLACES:
        return _input_gradient_of_strides(x, kernel[..., 0, :], gradient, geometry, blocks)
    return conv_input_gradient.input_gradient(forward, x, kernel.swapaxes(3, 4), gradient, geometry)


def _input_gradient_of_strides(x, kernel, gradient, geometry, blocks):
    """Every place of the gradient, times a block of the window as large as the strides, is written where
    that block saw x: one loop over x, without moving places about. kernel (kt, kh, kw, C); `blocks` of
    them along each axis."""
    strides, channels = geometry.strides, x.shape[-1]
    sizes = [n + b - 1 for n, b in zip(gradient.shape[1:4], blocks, strict=True)]
    whole = [(0, b * s - k) for b, s, k in zip(blocks, strides, kernel.shape[:3], strict=True)]
    kernel = jnp.pad(kernel, (*whole, (0, 0)))
    inside = (1, strides[0], 1, strides[1], 1, strides[2], channels)  # of one block, to broadcast
    gradient = pad(gradient, [(b - 1, b - 1) for b in blocks])

    def product(block):
        first = [b * s for b, s in zip(block, strides, strict=True)]
        last = [a + s for a, s in zip(first, strides, strict=True)]
        of_kernel = lax.slice(kernel, (*first, 0), (*last, channels)).reshape(inside)
        start = [b - 1 - i for b, i in zip(blocks, block, strict=True)]
        stop = [a + n for a, n in zip(start, sizes, strict=True)]
        near = lax.slice(gradient, (0, *start, 0), (len(x), *stop, channels))
        return jnp.expand_dims(near, (2, 4, 6)) * of_kernel

    y = sum(map(product, itertools.product(*map(range, blocks))))  # (N, T, st, H, sh, W, sw, C)
    y = y.reshape(len(x), *(n * s for n, s in zip(sizes, strides, strict=True)), channels)
    return unpad(y, geometry.pads, x.shape[1:4])


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
