"""Windows of three and five frames over pictures on CPUs, 6 and 8 convolutions of a frame where there are
12 and 20: Winograd's F(4, 3) and F(4, 5) along time.

Four frames that come out one after the other see k + 3 frames d through a kernel g of k frames: they are

    A^T [(G g) ⊙ (B^T d)]

(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1, of one dimension),
each of the k + 3 products a 2D convolution of one frame. Pictures have few channels, so that making
B^T d takes next to nothing. In float32 the result is off by 1 to 2.5 millionths of its largest number; a
direct convolution by 0.5.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvid.nn import conv_frames
from jaxvid.nn.conv_geometry import pad, split

AT_ONCE = 4  # frames that come out of one transform
# Where polynomials are multiplied by their values; with infinity k + 3. Of those tried none rounds better.
POINTS = {3: (0, 1, -1, 0.5, -2), 5: (0, 1, -1, 0.5, -0.5, 2, -2)}
# On two cores of a Zen 4, of the numbers of a frame that an output sees: with 27 adding products up takes
# longer than it saves, with 147 it pays.
SMALLEST_WINDOW = 100
SMALLEST_FRAME = 28 * 28  # places: smaller ones take a ms, and fewer operations to compile
PIECE_BYTES = 3 * 2**20  # of all products of a piece


def fits(x, kernel, geometry) -> bool:
    """Whether it is the quickest form for these: x (N, T, H, W, C), kernel (kt, kh, kw, C, O)."""
    kt, *window, channels, out = kernel.shape
    if kt not in POINTS or channels > conv_frames.FEW_CHANNELS or out < conv_frames.NARROW:
        return False
    if geometry.strides[0] > 1 or geometry.dilation[0] > 1:
        return False
    frames, high, wide = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    products = -(-frames // AT_ONCE) * (AT_ONCE + kt - 1)
    large = math.prod(window) * channels >= SMALLEST_WINDOW and high * wide >= SMALLEST_FRAME
    return large and 1.5 * products <= frames * kt


def forward(x, kernel, geometry):
    if conv_frames.foldable(x, geometry):
        x, kernel, geometry = conv_frames.fold(x, kernel, geometry, rows=False)
    n, kt, out = len(x), len(kernel), kernel.shape[-1]
    of_input, of_kernel, to_output = matrices(kt)
    seen = len(of_input)
    frames, rows, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    fours = -(-frames // AT_ONCE)
    before = geometry.pads[0][0]
    after = fours * AT_ONCE + kt - 1 - x.shape[1] - before
    x = pad(x, ((before, after), (0, 0), (0, 0)))
    count, each = split(rows, x.itemsize * n * seen * fours * width * out, PIECE_BYTES)
    x, high = conv_frames.rows_for(x, count * each, each, kernel, geometry)
    along = dataclasses.replace(geometry, pads=((0, 0), (0, 0), geometry.pads[2]))
    kernels = [_sum(row, kernel) for row in of_kernel]

    def piece(i, y):
        near = lax.dynamic_slice_in_dim(x, i * each * geometry.strides[1], high, axis=2)
        last = AT_ONCE * (fours - 1) + 1
        near = [near[:, j : j + last : AT_ONCE] for j in range(seen)]
        products = [
            conv_frames.conv2d(_sum(row, near), k, along)
            for row, k in zip(of_input, kernels, strict=True)
        ]
        found = jnp.stack([_sum(row, products) for row in to_output], axis=2)
        found = found.reshape(n, fours * AT_ONCE, each, width, out)
        return lax.dynamic_update_slice_in_dim(y, found, i * each, axis=2)

    y = jnp.zeros((n, fours * AT_ONCE, count * each, width, out), x.dtype)
    return lax.fori_loop(0, count, piece, y)[:, :frames, :rows]


def matrices(kt):
    """(B^T, G, A^T) of F(4, kt): a product of polynomials by its values at points, transposed."""
    points = np.array(POINTS[kt])
    others = [np.delete(points, i) for i in range(len(points))]
    scale = [math.prod(p - rest) for p, rest in zip(points, others, strict=True)]
    of_input = [[*np.poly(rest)[::-1], 0.0] for rest in others] + [np.poly(points)[::-1]]
    infinity = np.eye(len(points) + 1)[-1]
    of_kernel = np.vander(points, kt, increasing=True) / np.array(scale)[:, None]
    to_output = np.vander(points, AT_ONCE, increasing=True)
    return (
        np.array(of_input),
        np.vstack([of_kernel, infinity[-kt:]]),
        np.vstack([to_output, infinity[-AT_ONCE:]]).T,
    )


def _sum(factors, arrays):
    return sum(float(f) * a for f, a in zip(factors, arrays, strict=True) if f)
