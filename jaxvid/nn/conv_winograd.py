"""3×3 windows over many channels on CPUs, 16 products where there are 36: Winograd's F(2×2, 3×3).

Four outputs that lie in a square see 4×4 places d, through a kernel g: they are

    A^T [(G g G^T) ⊙ (B^T d B)] A

(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1), a product for
each of 16 points instead of four for each of nine places. For all squares, frames and channels that
makes of every point a convolution along time, or where the window is of one time a product of matrices.
All else is sums, and rounds as those of a direct convolution do: to some 1e-6 of the largest result.
The gradient with respect to the kernel is the transpose, G^T [(B^T d B) ⊙ (A dy A^T)] G.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_frames
from jaxvid.nn.conv_geometry import pad, taps_of
from jaxvid.nn.conv_input_gradient import turned
from jaxvid.nn.conv_kernel_gradient import kernel_gradient_along_time, sum_of_rows

# As measured on two cores of a Zen 4. Below so many products a number of x and y, in windows of several
# frames and of one, transforming x and y takes longer than it saves.
NARROW, NARROW_FRAMES = 48, 80
KERNEL_BYTES = 8 * 2**20  # of a larger one, transforming takes squares in proportion to pay
# Of transformed arrays. More are worked off in pieces that stay in caches, each of squares enough for
# products of matrices to be quick.
WHOLE_BYTES = 32 * 2**20
PIECE_SQUARES = 448
LARGE = 2**15  # numbers of a kernel at a place: its gradient along time is no convolution then


def fits(x, kernel, geometry, squares) -> bool:
    """Whether it is the quickest form for these: x (N, T, H, W, C), kernel (kt, kh, kw, C / groups, O),
    where no fewer than so many squares of outputs pay for transforming a kernel of a usual size."""
    kt, high, wide, channels, out = kernel.shape
    if (high, wide) != (3, 3) or geometry.groups > 1:
        return False
    if max(*geometry.strides, *geometry.dilation[1:]) > 1:
        return False
    least = NARROW if kt > 1 else NARROW_FRAMES
    if kt * channels * out < least * (channels + out):
        return False
    squares *= max(1.0, kernel.size * kernel.itemsize / KERNEL_BYTES)
    return len(x) * math.prod(_squares(x, kernel, geometry)) >= squares


def forward(x, kernel, geometry):
    n, times, channels, out = *x.shape[:2], *kernel.shape[3:]
    frames, high, wide = _squares(x, kernel, geometry)
    _, height, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    each = _rows_of_piece(x, kernel, geometry)
    x = _padded(x, kernel, geometry)
    points = _both(_of_kernel, [[kernel[:, i, j] for j in range(3)] for i in range(3)])

    def point(seen, kernel):
        seen = seen.reshape(n, times, each * wide, channels)
        return conv_frames.along_time(seen, kernel, geometry).reshape(n, frames, each, wide, out)

    def piece(i):
        seen = _both(_of_input, _places(x, i, each))
        y = _stacked(_both(_to_output, _of_each(point, seen, points)), (3, 5))
        return y.reshape(n, frames, 2 * each, 2 * wide, out)

    if each == high:
        return piece(0)[:, :, :height, :width]
    y = lax.fori_loop(
        0,
        high // each,
        lambda i, y: lax.dynamic_update_slice_in_dim(y, piece(i), 2 * each * i, axis=2),
        jnp.zeros((n, frames, 2 * high, 2 * wide, out), x.dtype),
    )
    return y[:, :, :height, :width]


def input_gradient(x, kernel, gradient, geometry):
    # Place by place, else XLA transposes the kernel as part of each of the 16 points.
    flipped = lax.map(jnp.transpose, kernel.reshape(-1, *kernel.shape[3:])[::-1])
    flipped = flipped.reshape(*kernel.shape[:3], *flipped.shape[1:])
    return forward(gradient, flipped, turned(x, kernel, gradient, geometry))


def kernel_gradient(x, kernel, gradient, geometry):
    n, (kt, *_, channels, out) = len(x), kernel.shape
    frames, high, wide = _squares(x, kernel, geometry)
    each = _rows_of_piece(x, kernel, geometry)
    x = _padded(x, kernel, geometry)
    missing = [(0, 2 * n - m) for n, m in zip((high, wide), gradient.shape[2:4], strict=True)]
    gradient = pad(gradient, ((0, 0), *missing))
    zero = jnp.zeros((kt, channels, out), x.dtype)

    def point(total, seen, gradient):
        if kt > 1 and channels * out < LARGE:
            seen, gradient = (a.reshape(*a.shape[:2], -1, a.shape[-1]) for a in (seen, gradient))
            return total + kernel_gradient_along_time(seen, zero, gradient, geometry)
        taps = taps_of(seen, (kt, 1, 1), geometry.only(0))
        return total + jnp.stack([sum_of_rows(tap, gradient) for _, tap in taps])

    def add(i, totals):
        near = lax.dynamic_slice_in_dim(gradient, 2 * each * i, 2 * each, axis=2)
        near = near.reshape(n, frames, each, 2, wide, 2, out)
        near = [[near[:, :, :, a, :, b] for b in range(2)] for a in range(2)]
        seen = _both(_of_input, _places(x, i, each))
        return _of_each(point, totals, seen, _both(_of_gradient, near))

    totals = [[zero] * 4] * 4
    totals = add(0, totals) if each == high else lax.fori_loop(0, high // each, add, totals)
    return _stacked(_both(_to_kernel, totals), (1, 2))


# --- Squares of outputs ---------------------------------------------------------------------------


def _squares(x, kernel, geometry):
    """How many along T (frames that come out), H and W."""
    frames, height, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    return frames, -(-height // 2), -(-width // 2)


def _rows_of_piece(x, kernel, geometry) -> int:
    """Rows of squares that are worked off at a time; they divide all of them."""
    frames, high, wide = _squares(x, kernel, geometry)
    squares = len(x) * frames * wide
    if 16 * x.itemsize * squares * high * sum(kernel.shape[3:]) <= WHOLE_BYTES:
        return high
    least = min(-(-PIECE_SQUARES // squares), high)
    return next(rows for rows in range(least, high + 1) if high % rows == 0)


def _padded(x, kernel, geometry):
    """x in H and W from where the first square sees it to where the last one does."""
    _, high, wide = _squares(x, kernel, geometry)
    (top, _), (left, _) = geometry.pads[1:]
    bottom, right = 2 * high + 2 - x.shape[2] - top, 2 * wide + 2 - x.shape[3] - left
    return pad(x, ((0, 0), (top, bottom), (left, right)))


def _places(x, i, each):
    """Of the i-th piece of a padded x, 4×4 times (N, T, each, squares along W, C): what squares see."""
    x = lax.dynamic_slice_in_dim(x, 2 * each * i, 2 * each + 2, axis=2)
    n, times, _, width, channels = x.shape
    wide = width // 2 - 1
    x = x.reshape(n, times, each + 1, 2, wide + 1, 2, channels)

    def place(a, b):
        return x[:, :, a // 2 : a // 2 + each, a % 2, b // 2 : b // 2 + wide, b % 2]

    return [[place(a, b) for b in range(4)] for a in range(4)]


# --- The transforms, of the arrays in a square, along its columns and then along its rows ---------


def _both(transform, square):
    rows = zip(*map(transform, zip(*square, strict=True)), strict=True)
    return [transform(row) for row in rows]


def _of_each(function, *squares):
    return [
        [function(*arrays) for arrays in zip(*rows, strict=True)]
        for rows in zip(*squares, strict=True)
    ]


def _stacked(square, axes):
    """One array of a square of arrays: its rows and columns become these axes of it."""
    rows, columns = axes
    return jnp.stack([jnp.stack(row, columns - 1) for row in square], rows)


def _of_input(d):  # B^T d
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]


def _of_kernel(g):  # G g
    ends, middle = (g[0] + g[2]) / 2, g[1] / 2
    return g[0], ends + middle, ends - middle, g[2]


def _to_output(m):  # A^T m
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _of_gradient(y):  # A y
    return y[0], y[0] + y[1], y[0] - y[1], -y[1]


def _to_kernel(u):  # G^T u
    ends = (u[1] + u[2]) / 2
    return u[0] + ends, (u[1] - u[2]) / 2, ends + u[3]
