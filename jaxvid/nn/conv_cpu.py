"""Convolutions as XLA's CPU backend computes them fast: products of matrices and 2D convolutions.

All functions take channels-last arrays with three spatial axes, T×H×W.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jax import lax


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What a convolution is but its arrays; one entry of each tuple per spatial axis."""

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def out_sizes(self, sizes, window) -> tuple[int, ...]:
        return tuple(
            (size + low + high - (k - 1) * d - 1) // s + 1
            for size, k, s, (low, high), d in zip(
                sizes, window, self.strides, self.pads, self.dilation, strict=True
            )
        )


def forward(x, kernel, geometry: Geometry):
    """x (N, T, H, W, C), kernel (kt, kh, kw, C / groups, O) -> (N, T', H', W', O)"""
    if _is_depthwise(x, kernel, geometry):
        return _depthwise(x, kernel, geometry)
    if geometry.groups == 1 and kernel.shape[1:3] == (1, 1):
        return sum(
            _matmul(tap, kernel[index]) for index, tap in _taps(x, kernel.shape[:3], geometry)
        )
    return _over_frames(x, kernel, geometry)


def input_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to x, given the gradient of its result."""
    return jax.vjp(lambda x: forward(x, kernel, geometry), x)[1](gradient)[0]


def kernel_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to kernel, given the gradient of its result."""
    if _is_depthwise(x, kernel, geometry):
        axes = tuple(range(gradient.ndim - 1))
        sums = [
            jnp.sum(tap.astype(jnp.float32) * gradient.astype(jnp.float32), axes)
            for _, tap in _taps(x, kernel.shape[:3], geometry)
        ]
        return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)
    if geometry.groups > 1:
        return jax.vjp(lambda k: forward(x, k, geometry), kernel)[1](gradient)[0]
    products = [_sum_of_rows(tap, gradient) for _, tap in _taps(x, kernel.shape[:3], geometry)]
    return jnp.stack(products).reshape(kernel.shape).astype(kernel.dtype)


def _is_depthwise(x, kernel, geometry) -> bool:
    return geometry.groups > 1 and geometry.groups == x.shape[-1] == kernel.shape[-1]


def _padded(x, pads):
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _taps(x, window, geometry):
    """For each place of the window, in raster order: (place, what it sees, (N, T', H', W', C))."""
    sizes = geometry.out_sizes(x.shape[1:-1], window)
    x = _padded(x, geometry.pads)
    for place in itertools.product(*map(range, window)):
        start = [p * d for p, d in zip(place, geometry.dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, sizes, geometry.strides, strict=True)]
        yield (
            place,
            lax.slice(
                x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *geometry.strides, 1)
            ),
        )


def _depthwise(x, kernel, geometry):
    taps = _taps(x, kernel.shape[:3], geometry)
    return sum(tap * kernel[place][0] for place, tap in taps)


def _over_frames(x, kernel, geometry):
    """One 2D convolution, the frames that a window sees laid side by side in the channels."""
    times = dataclasses.replace(
        geometry,
        strides=(geometry.strides[0], 1, 1),
        pads=(geometry.pads[0], (0, 0), (0, 0)),
        groups=1,
    )
    n, (kt, *window, c, o) = x.shape[0], kernel.shape
    frames = [tap for _, tap in _taps(x, (kt, 1, 1), times)]
    if geometry.groups == 1:
        frames = [jnp.concatenate(frames, axis=-1)]
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(1, *window, kt * c, o)
    y = sum(
        lax.conv_general_dilated(
            frame.reshape(-1, *frame.shape[2:]),
            k,
            geometry.strides[1:],
            geometry.pads[1:],
            rhs_dilation=geometry.dilation[1:],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=geometry.groups,
        )
        for frame, k in zip(frames, kernel, strict=True)
    )
    return y.reshape(n, -1, *y.shape[1:])


def _matmul(x, kernel):
    kernel = kernel.reshape(x.shape[-1], -1)
    y = jnp.dot(x.reshape(-1, x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _sum_of_rows(x, y):
    """x (..., C), y (..., O) -> (C, O) float32: the sum over all places of their outer products.

    The smaller matrix first: the other way round XLA's products of tall matrices take twice as long.
    The barrier keeps XLA from turning it back.
    """
    x, y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
    over_rows = (((0,), (0,)), ((), ()))
    if x.shape[-1] <= y.shape[-1]:
        return lax.dot_general(x, y, over_rows, preferred_element_type=jnp.float32)
    product = lax.dot_general(y, x, over_rows, preferred_element_type=jnp.float32)
    return lax.optimization_barrier(product).T
