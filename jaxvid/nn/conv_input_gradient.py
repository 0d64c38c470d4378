"""The gradient of a convolution with respect to its input, as convolutions of the gradient.

forward(x, kernel, geometry) is a convolution without stride or groups, or a depthwise one; kernel is
(kt, kh, kw, C, O), of a depthwise one (kt, kh, kw, C, 1): what it makes of the flipped kernel with
the last two axes swapped, over the gradient, is the gradient with respect to x.
"""

import dataclasses
import itertools
import math

import jax.numpy as jnp

from jaxvid.nn.conv_geometry import Geometry, unpad


def input_gradient(forward, x, kernel, gradient, geometry):
    """(N, T, H, W, C), as x."""
    if max(geometry.strides) > 1:
        return _strided(forward, x, kernel, gradient, geometry)
    flipped = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    return forward(gradient, flipped, turned(x, kernel, gradient, geometry))


def turned(x, kernel, gradient, geometry) -> Geometry:
    """The convolution without stride that leads from the gradient back to x's."""
    pads = tuple(
        ((k - 1) * d - low, size + low - n)
        for k, d, (low, _), size, n in zip(
            kernel.shape[:3],
            geometry.dilation,
            geometry.pads,
            x.shape[1:4],
            gradient.shape[1:4],
            strict=True,
        )
    )
    return dataclasses.replace(geometry, pads=pads)


def _strided(forward, x, kernel, gradient, geometry):
    """A convolution without stride for each place of x within the strides, which see different places
    of the window. One convolution of gradients with zeros between them would multiply mostly zeros."""
    strides, pads = geometry.strides, geometry.pads
    sizes = [-(-(n + sum(p)) // s) for n, p, s in zip(x.shape[1:4], pads, strides, strict=True)]
    parts = [
        _of_phase(forward, kernel, gradient, phase, sizes, geometry)
        for phase in itertools.product(*map(range, strides))
    ]
    y = jnp.stack(parts, 1).reshape(len(x), *strides, *sizes, x.shape[-1])
    y = y.transpose(0, 4, 1, 5, 2, 6, 3, 7)  # (N, T, st, H, sh, W, sw, C)
    y = y.reshape(len(x), *(n * s for n, s in zip(sizes, strides, strict=True)), x.shape[-1])
    return unpad(y, pads, x.shape[1:4])


def _of_phase(forward, kernel, gradient, phase, sizes, geometry):
    """Of the places phase, phase + stride, … of the padded x: (N, *sizes, C)"""
    places, pads, dilation = [], [], []
    axes = zip(
        kernel.shape,
        gradient.shape[1:4],
        geometry.strides,
        geometry.dilation,
        phase,
        sizes,
        strict=False,
    )
    for k, n, stride, d, r, size in axes:
        seen = [a for a in range(k) if a * d % stride == r]  # from these places of the window
        if not seen:
            return jnp.zeros((len(gradient), *sizes, kernel.shape[3]), gradient.dtype)
        common = math.gcd(stride, d)
        first, step = seen[0] * d // stride, d // common
        places.append(slice(seen[0], None, stride // common))
        pads.append((first + (len(seen) - 1) * step, size - n - first))
        dilation.append(step)
    part = jnp.flip(kernel[tuple(places)], (0, 1, 2)).swapaxes(3, 4)
    return forward(gradient, part, Geometry((1, 1, 1), tuple(pads), tuple(dilation)))
