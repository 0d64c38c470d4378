"""Convolutions of many places on CPUs: 2D ones over frames, added up over the times of the window, or
with neighbouring frames as channels where frames have few.

Large arrays are worked off in pieces: what stays in a cache is quick to read, and fresh memory beyond
glibc's 32 MiB is paged in again at every run, which took a third of the time. Sizes and limits are
from measurements on two cores of a Xeon with AVX-512.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_input_gradient
from jaxvid.nn.conv_geometry import NO_PADS, Geometry, columns_of, pad, rows_of, split, taps_of

FRAMES_BYTES = 5 * 2**20  # frames with their neighbours' channels laid out at a time, if …
FRAMES_WHOLE_BYTES = 16 * 2**20  # … all of them would take more than this
NEIGHBOURS_BYTES = 5 * 2**19  # of the outputs for all frames that see a frame, at a time
FEW_CHANNELS = 4  # of pictures: a column's pieces are then too short to copy one by one
NARROW = 16  # fewer output channels than fill the vector units of a matrix product
WIDE = 32  # channels of a frame that need no company


def forward(x, kernel, geometry):
    narrow = kernel.shape[-1] < NARROW and kernel.shape[0] > 1 and geometry.strides[0] == 1
    if foldable(x, geometry) and (narrow or kernel.shape[0] == 1 or kernel.shape[2] <= 4):
        # Six times faster for windows of 3, up to 1.4 times for 7×7; for 5×7×7 a tenth slower.
        return forward(*fold(x, kernel, geometry, rows=False))
    if narrow:
        return _to_neighbours(x, kernel, geometry)
    if kernel.shape[0] > 1 and x.shape[-1] < WIDE:
        return _in_pieces(x, kernel, geometry)
    return sum_over_times(x, kernel, geometry)


def sum_over_times(x, kernel, geometry):
    """A 2D convolution of the frames for each time of the window."""
    taps = taps_of(x, (kernel.shape[0], 1, 1), geometry.only(0))
    return sum(conv2d(tap, kernel[place[0]], geometry) for place, tap in taps)


def _from_neighbours(x, kernel, geometry):
    """One 2D convolution, the frames that a window sees laid side by side in the channels."""
    kt, kh, kw, c, o = kernel.shape
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(kh, kw, kt * c, o)
    return conv2d(columns_of(x, (kt, 1, 1), geometry.only(0)), kernel, geometry)


def _in_pieces(x, kernel, geometry):
    """`_from_neighbours`, some of the frames that come out at a time if x is large."""
    kt = kernel.shape[0]
    frames = geometry.only(0).out_sizes(x.shape[1:4], (kt, 1, 1))[0]
    bytes_of_frame = x.itemsize * (x.size // x.shape[1]) * kt
    if bytes_of_frame * frames <= FRAMES_WHOLE_BYTES:
        return _from_neighbours(x, kernel, geometry)
    count, each = split(frames, bytes_of_frame, FRAMES_BYTES)
    stride, reach = geometry.strides[0], (kt - 1) * geometry.dilation[0] + 1
    seen, before = (each - 1) * stride + reach, geometry.pads[0][0]
    after = (count * each - 1) * stride + reach - x.shape[1] - before
    x = pad(x, ((before, after), *NO_PADS[1:]))
    along = dataclasses.replace(geometry, pads=((0, 0), *geometry.pads[1:]))

    def piece(_, i):
        near = lax.dynamic_slice_in_dim(x, i * each * stride, seen, axis=1)
        return None, _from_neighbours(near, kernel, along)

    y = jnp.moveaxis(lax.scan(piece, None, jnp.arange(count))[1], 0, 1)  # (N, pieces, each, …)
    return y.reshape(y.shape[0], count * each, *y.shape[3:])[:, :frames]


def _to_neighbours(x, kernel, geometry):
    """One 2D convolution with an output for each frame that sees its frame; then their sum."""
    kt, kh, kw, c, o = kernel.shape
    all_outputs = jnp.moveaxis(kernel, 0, 3).reshape(kh, kw, c, kt * o)
    frames, rows, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    # Where the first frame of x lies among the frames of the result, for each time of the window.
    shifts = [geometry.pads[0][0] - a * geometry.dilation[0] for a in range(kt)]
    size_of_row = x.itemsize * math.prod(x.shape[:2]) * width * kt * o
    count, each = split(rows, size_of_row, NEIGHBOURS_BYTES)
    x, seen = rows_for(x, count * each, each, kernel, geometry)
    along = dataclasses.replace(geometry, pads=(*NO_PADS[:2], geometry.pads[2]))

    def piece(i, y):
        near = lax.dynamic_slice_in_dim(x, i * each * geometry.strides[1], seen, axis=2)
        taps = jnp.split(conv2d(near, all_outputs, along), kt, axis=-1)
        aligned = [
            pad(tap, ((shift, frames - x.shape[1] - shift), *NO_PADS[1:]))
            for tap, shift in zip(taps, shifts, strict=True)
        ]
        return lax.dynamic_update_slice_in_dim(y, sum(aligned), i * each, axis=2)

    y = jnp.zeros((len(x), frames, count * each, width, o), x.dtype)
    return lax.fori_loop(0, count, piece, y)[:, :, :rows]


def rows_for(x, rows, each, kernel, geometry):
    """x padded in H so that `rows` rows come out, and how many of its rows make `each` of them."""
    stride, reach = geometry.strides[1], (kernel.shape[1] - 1) * geometry.dilation[1] + 1
    before = geometry.pads[1][0]
    after = (rows - 1) * stride + reach - x.shape[2] - before
    return pad(x, ((0, 0), (before, after), (0, 0))), (each - 1) * stride + reach


def conv2d(x, kernel, geometry):
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        geometry.strides[1:],
        geometry.pads[1:],
        rhs_dilation=geometry.dilation[1:],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def along_time(x, kernel, geometry):
    """x (N, T, P, C), kernel (kt, C, O) -> (N, T', P, O); P places of a picture, their axes not moved."""
    if len(kernel) == 1:
        seen = columns_of(x[:, :, None], (1, 1, 1), geometry.only(0))[:, :, 0]
        return jnp.dot(rows_of(seen), kernel[0]).reshape(*seen.shape[:-1], -1)
    values = geometry.strides, geometry.pads, geometry.dilation
    as_rows = Geometry(*((neutral, v[0], neutral) for v, neutral in zip(values, (1, (0, 0), 1))))
    return conv2d(x[:, None], kernel[:, None], as_rows)[:, 0]


def input_gradient(x, kernel, gradient, geometry):
    if foldable(x, geometry):

        def fold_x(x):
            return fold(x, kernel, geometry, rows=True)[0]

        _, folded_kernel, folded = fold(x, kernel, geometry, rows=True)
        inner = input_gradient(jax.eval_shape(fold_x, x), folded_kernel, gradient, folded)
        return jax.linear_transpose(fold_x, x)(inner)[0]
    return conv_input_gradient.input_gradient(forward, x, kernel, gradient, geometry)


# --- Pictures: strides moved into the channels --------------------------------------------------


def foldable(x, geometry) -> bool:
    strided = geometry.strides[2] > 1 and max(geometry.dilation[1:]) == 1
    return strided and x.shape[-1] <= FEW_CHANNELS


def fold(x, kernel, geometry, rows):
    """The same convolution with neighbouring columns (and rows) as channels, without their stride.

    Along W that is a mere reshape. Along H too, rows are copied, and no zeros are multiplied in the
    gradient with respect to x.
    """
    (st, sh, sw), (times, high, wide) = geometry.strides, geometry.pads
    folded = _fold_kernel(kernel, geometry.strides, rows)
    _, height, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    width = (width - 1 + folded.shape[2]) * sw
    x = pad(x, (*NO_PADS[:2], (wide[0], width - x.shape[3] - wide[0])))
    x = x.reshape(*x.shape[:3], width // sw, sw * x.shape[-1])
    if rows:
        height = (height - 1 + folded.shape[1]) * sh
        x = pad(x, ((0, 0), (high[0], height - x.shape[2] - high[0]), (0, 0)))
        x = jnp.concatenate([x[:, :, i::sh] for i in range(sh)], axis=-1)
        high, sh = (0, 0), 1
    return x, folded, Geometry((st, sh, 1), (times, high, (0, 0)), geometry.dilation)


def _fold_kernel(kernel, strides, rows):
    kt, kh, kw, c, o = kernel.shape
    sh, sw = strides[1] if rows else 1, strides[2]
    kernel = jnp.pad(kernel, ((0, 0), (0, -kh % sh), (0, -kw % sw), (0, 0), (0, 0)))
    kernel = kernel.reshape(kt, -1, sh, kernel.shape[2] // sw, sw * c, o)
    return kernel.swapaxes(2, 3).reshape(kt, kernel.shape[1], -1, sh * sw * c, o)
