"""The gradient of a convolution with respect to its kernel, on CPUs: itself a 2D convolution.

    dkernel[a, b, c, o] = sum of x[n, t, h + a, w + b, c] · dy[n, t, h, w, o] over n, t, h, w

is a convolution over H and W whose batch is what was the channels of x, whose channels are what was the
frames, and whose window is dy. XLA's fast 2D convolution takes it, some rows of the image at a time and
not too many frames together: 1.3 to 2.5 times as fast as products of columns laid out, on two cores of
a Xeon with AVX-512.
"""

import itertools

import jax.numpy as jnp
from jax import lax

from jaxvid.nn.conv_geometry import columns_of, rows_of, split

# Of x and dy at a time, to stay in a core's second-level cache; the kernel's size where that is more, as
# every piece is added to an array as large.
PIECE_BYTES = 2 * 2**20
PIECE_FRAMES = 32  # more channels than this make the convolution slower
CLIPS_BYTES = 32 * 2**20  # of x and dy at a time, where the window is of times alone


def kernel_gradient(x, kernel, gradient, geometry):
    """x (N, T, H, W, C), kernel (kt, kh, kw, C, O), gradient (N, T', H', W', O) -> as kernel."""
    kt, kh, kw, channels, out = kernel.shape
    if kt == 1:  # every frame for itself
        x = columns_of(x, (1, 1, 1), geometry.only(0))
        x = x.reshape(-1, 1, *x.shape[2:])
        gradient = gradient.reshape(-1, 1, *gradient.shape[2:])
        geometry = geometry.only(1, 2)
    clips, frames, rows, width, _ = gradient.shape
    _, high, wide = geometry.strides
    groups, together = split(clips, frames, PIECE_FRAMES)
    bytes_of_row = x.itemsize * together * frames * width * (channels * high * wide + out)
    count, each = split(rows, bytes_of_row, max(PIECE_BYTES, kernel.size * kernel.itemsize))

    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, geometry.dilation, strict=False)]
    sizes = (frames, count * each, width)
    seen = [(n - 1) * s + r for n, s, r in zip(sizes, geometry.strides, reach, strict=True)]
    missing, zero = (0, groups * together - clips, 0), jnp.zeros((), x.dtype)
    around = [
        (low, n - size - low, 0)
        for (low, _), n, size in zip(geometry.pads, seen, x.shape[1:4], strict=True)
    ]
    x = lax.pad(x, zero, (missing, *around, (0, 0, 0)))
    below = (0, count * each - rows, 0)
    gradient = lax.pad(gradient, zero, (missing, (0, 0, 0), below, (0, 0, 0), (0, 0, 0)))
    parts = list(
        itertools.product(
            range(kt),
            _runs(kh, geometry.strides[1], geometry.dilation[1]),
            _runs(kw, geometry.strides[2], geometry.dilation[2]),
        )
    )

    def add(i, totals):
        clip, row = i // count * together, i % count * each
        near = (together, seen[0], (each - 1) * high + reach[1], *x.shape[3:])
        near = lax.dynamic_slice(x, (clip, 0, row * high, 0, 0), near)
        window = (together, frames, each, width, out)
        window = lax.dynamic_slice(gradient, (clip, 0, row, 0, 0), window)
        window = window.transpose(2, 3, 0, 1, 4).reshape(each, width, -1, out)
        return [
            total + _part(near, window, part, frames, geometry)
            for total, part in zip(totals, parts, strict=True)
        ]

    zeros = [jnp.zeros((channels, len(h), len(w), out), x.dtype) for _, h, w in parts]
    totals = lax.fori_loop(0, groups * count, add, zeros)
    of_times = len(parts) // kt
    found = [
        sum(
            _spread(total, h, w, (kh, kw))
            for total, (_, h, w) in zip(totals[a : a + of_times], parts, strict=False)
        )
        for a in range(0, len(parts), of_times)
    ]
    return jnp.stack(found).transpose(0, 2, 3, 1, 4)


def kernel_gradient_along_time(x, kernel, gradient, geometry):
    """x (N, T, P, C), kernel (kt, C, O), gradient (N, T', P, O) -> as kernel; P places of a picture.

    A convolution along T whose channels are all places of all clips. Its batch is the narrower one of
    x and dy where either can be (without stride): 1.1 to 7 times as fast on two cores of a Zen 4 as by
    `kernel_gradient`, with places as frames.
    """
    stride, pads, dilation = (v[0] for v in (geometry.strides, geometry.pads, geometry.dilation))
    clips, times, _, channels = x.shape
    kt, frames, out = len(kernel), *gradient.shape[1::2]
    bytes_of_clip = (x.size + gradient.size) // clips * x.itemsize
    groups, together = split(clips, bytes_of_clip, CLIPS_BYTES)
    missing = (0, groups * together - clips, 0)
    x, gradient = (
        lax.pad(a, jnp.zeros((), a.dtype), (missing, *[(0, 0, 0)] * 3)) for a in (x, gradient)
    )
    narrow = stride == 1 and out <= channels
    reach, low = (kt - 1) * dilation, pads[0]
    if narrow:  # gradient over x: comes out as (O, kt, C), the last time first
        around = reach - low, times + low - frames
    else:  # x over gradient: (C, kt, O)
        around = low, (frames - 1) * stride + 1 + reach - times - low

    def add(i, total):
        near, after = (_places_as_channels(a, i * together, together) for a in (x, gradient))
        seen, window = (after, near) if narrow else (near, after)
        return total + lax.conv_general_dilated(
            seen.transpose(2, 0, 1),
            window,
            (dilation,),
            (around,),
            rhs_dilation=(stride,),
            dimension_numbers=("NHC", "HIO", "NHC"),
        )

    shape = (out, kt, channels) if narrow else (channels, kt, out)
    total = lax.fori_loop(0, groups, add, jnp.zeros(shape, x.dtype))
    return total[:, ::-1].transpose(1, 2, 0) if narrow else total.transpose(1, 0, 2)


def sum_of_rows(x, y):
    """x (..., C), y (..., O) -> (C, O): the sum over all places of their outer products.

    The narrower one comes first: the other way round XLA takes up to twice as long for it. The
    barrier keeps XLA from turning it back.
    """
    over_rows = (((0,), (0,)), ((), ()))
    if x.shape[-1] <= y.shape[-1]:
        return lax.dot_general(rows_of(x), rows_of(y), over_rows)
    return lax.optimization_barrier(lax.dot_general(rows_of(y), rows_of(x), over_rows)).T


def _places_as_channels(x, first, count):
    """x (N, T, P, C) -> (T, count · P, C) of some of the clips"""
    x = lax.dynamic_slice_in_dim(x, first, count)
    return x.swapaxes(0, 1).reshape(x.shape[1], -1, x.shape[-1])


def _runs(places, stride, dilation):
    """The window's places as ranges that see neighbours of each other in every stride-th row."""
    if stride == 1:
        return [range(places)]
    step = stride if dilation == 1 else places  # with both, every place for itself
    return [range(first, places, step) for first in range(min(step, places))]


def _part(near, window, part, frames, geometry):
    """Of the places `part` = (time, rows, columns): (C, rows, columns, O)"""
    time, *runs = part
    slices, steps = [slice(None)], []
    axes = zip(
        (range(time, time + 1), *runs),
        (frames, *window.shape[:2]),
        geometry.strides,
        geometry.dilation,
        strict=True,
    )
    for run, size, stride, dilation in axes:
        step = dilation if stride == 1 else 1
        start, count = run[0] * dilation, size + (len(run) - 1) * step
        slices.append(slice(start, start + (count - 1) * stride + 1, stride))
        steps.append(step)
    seen = near[tuple(slices)].transpose(4, 2, 3, 0, 1)
    return lax.conv_general_dilated(
        seen.reshape(*seen.shape[:3], -1),
        window,
        steps[1:],
        ((0, 0), (0, 0)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _spread(total, rows, columns, window):
    """(C, rows, columns, O) -> (C, kh, kw, O), zeros where other places are"""
    around = [
        (run[0], size - 1 - run[-1], run.step - 1)
        for run, size in zip((rows, columns), window, strict=True)
    ]
    return lax.pad(total, jnp.zeros((), total.dtype), ((0, 0, 0), *around, (0, 0, 0)))
