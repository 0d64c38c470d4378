"""Convolutions and their gradients in the forms that XLA's CPU backend runs fast.

XLA has one fast convolution on CPUs, the 2D one of Eigen, and fast products of matrices. Its 3D
convolution, grouped ones and the gradient with respect to a kernel (a convolution with a window as
large as the image) are one or two orders slower. So, by the shape alone:

    depthwise      shifted multiply-adds, one a place of the window
    (k, 1, 1)      one product of matrices a place of the window
    few outputs    one product over the whole window, laid out as columns: where there are fewer
                   places than output channels, the kernel is the large array and must not be moved
    the rest       a 2D convolution whose channels are those of all frames that a window sees;
                   kernel gradients as products of columns, some rows of the image at a time

Large arrays are worked off in pieces: what stays in a cache is quick to read, and fresh memory beyond
glibc's 32 MiB is paged in again at every run, which took a third of the time.

Arrays are channels last with two or three spatial axes; inside the module always three, T×H×W.
Arithmetic is in float32 at least, results have the dtype of what they are the gradient of.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

COLUMNS_BYTES = 2**20  # columns laid out at a time: half of a core's second-level cache
FRAMES_BYTES = 5 * 2**20  # frames with their neighbours' channels laid out at a time, if …
FRAMES_WHOLE_BYTES = 16 * 2**20  # … all of them would take more than this
FEW_CHANNELS = 4  # of pictures: a column's pieces are then too short to copy one by one
NARROW = 16  # fewer output channels than fill the vector units of a matrix product
NO_PADS = ((0, 0),) * 3


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution but for its arrays; one entry of each tuple per spatial axis."""

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def out_sizes(self, sizes, window) -> tuple[int, ...]:
        reach = [(k - 1) * d + 1 for k, d in zip(window, self.dilation, strict=True)]
        return tuple(
            (size + sum(pads) - r) // s + 1
            for size, pads, r, s in zip(sizes, self.pads, reach, self.strides, strict=True)
        )

    def lifted(self) -> "Geometry":
        """Of frames as of clips of one frame each."""
        more = 3 - len(self.strides)
        return Geometry(
            (1,) * more + self.strides,
            ((0, 0),) * more + self.pads,
            (1,) * more + self.dilation,
            self.groups,
        )

    def only(self, *axes: int) -> "Geometry":
        """The same along some axes; along the others a window of one place, nothing skipped."""

        def keep(values, neutral):
            return tuple(v if i in axes else neutral for i, v in enumerate(values))

        return Geometry(keep(self.strides, 1), keep(self.pads, (0, 0)), keep(self.dilation, 1))


def forward(x, kernel, geometry: Geometry):
    """x (N, [T,] H, W, C), kernel ([kt,] kh, kw, C / groups, O) -> (N, [T',] H', W', O)"""
    (x3, kernel3), geometry = _lift(geometry, x, kernel)
    y = FORMS[_form(x3, kernel3, geometry)].forward(x3, kernel3, geometry)
    return (y if x.ndim == 5 else y[:, 0]).astype(x.dtype)


def input_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to x, given the gradient of its result."""
    (x3, kernel3, gradient), geometry = _lift(geometry, x, kernel, gradient, images=(0, 2))
    form = FORMS[_form(x3, kernel3, geometry)]
    return form.input_gradient(x3, kernel3, gradient, geometry).reshape(x.shape).astype(x.dtype)


def kernel_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to kernel, given the gradient of its result."""
    (x3, kernel3, gradient), geometry = _lift(geometry, x, kernel, gradient, images=(0, 2))
    form = FORMS[_form(x3, kernel3, geometry)]
    found = form.kernel_gradient(x3, kernel3, gradient, geometry)
    return found.reshape(kernel.shape).astype(kernel.dtype)


def _lift(geometry, *arrays, images=(0,)):
    dtype = jnp.promote_types(arrays[0].dtype, jnp.float32)
    arrays = [a.astype(dtype) for a in arrays]
    if len(geometry.strides) == 2:
        arrays = [a[:, None] if i in images else a[None] for i, a in enumerate(arrays)]
    return arrays, geometry.lifted()


def _form(x, kernel, geometry) -> str:
    channels, out = x.shape[-1], kernel.shape[-1]
    if geometry.groups > 1:
        return "depthwise" if geometry.groups == channels == out else "grouped"
    if kernel.shape[1:3] == (1, 1):
        return "temporal"
    places = x.shape[0] * math.prod(geometry.out_sizes(x.shape[1:4], kernel.shape[:3]))
    return "columns" if places <= 2 * out else "frames"


# --- Windows ------------------------------------------------------------------------------------


def _pad(x, pads):
    """(before, after) of T, H, W with zeros; below zero takes away."""
    if not any(map(any, pads)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)))


def _taps(x, window, geometry):
    """For each place of the window, in raster order: (place, what it sees, (N, T', H', W', C))."""
    sizes = geometry.out_sizes(x.shape[1:4], window)
    x = _pad(x, geometry.pads)
    for place in itertools.product(*map(range, window)):
        start = [p * d for p, d in zip(place, geometry.dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, sizes, geometry.strides, strict=True)]
        low, high = (0, *start, 0), (x.shape[0], *stop, x.shape[-1])
        yield place, lax.slice(x, low, high, (1, *geometry.strides, 1))


def _columns(x, window, geometry):
    """What the whole window sees: (N, T', H', W', kt·kh·kw·C), the places in raster order."""
    taps = [tap for _, tap in _taps(x, window, geometry)]
    return taps[0] if len(taps) == 1 else jnp.concatenate(taps, axis=-1)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _matmul(x, kernel):
    return jnp.dot(_rows(x), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _sum_of_rows(x, y):
    """x (..., C), y (..., O) -> (C, O): the sum over all places of their outer products.

    The narrower one comes first: the other way round XLA takes up to twice as long for it. The
    barrier keeps XLA from turning it back.
    """
    over_rows = (((0,), (0,)), ((), ()))
    if x.shape[-1] <= y.shape[-1]:
        return lax.dot_general(_rows(x), _rows(y), over_rows)
    return lax.optimization_barrier(lax.dot_general(_rows(y), _rows(x), over_rows)).T


# --- Depthwise and (k, 1, 1) --------------------------------------------------------------------


def _depthwise(x, kernel, geometry):
    return sum(tap * kernel[place][0] for place, tap in _taps(x, kernel.shape[:3], geometry))


def _depthwise_kernel(x, kernel, gradient, geometry):
    """Row after row of the gradient, the sums of each place of the window and column kept apart.

    Reductions of products over all rows at once are not fused on CPUs: 3 to 12 times slower.
    """
    x, window = _pad(x, geometry.pads), kernel.shape[:3]
    n, frames, rows, width, channels = gradient.shape
    reach = [(k - 1) * d + 1 for k, d in zip(window, geometry.dilation, strict=True)]
    along = dataclasses.replace(geometry, pads=NO_PADS)

    def add(i, sums):
        t, h = i // rows, i % rows
        row = lax.dynamic_slice(gradient, (0, t, h, 0, 0), (n, 1, 1, width, channels))
        start = (0, t * geometry.strides[0], h * geometry.strides[1], 0, 0)
        seen = lax.dynamic_slice(x, start, (n, *reach[:2], *x.shape[3:]))
        return [s + tap * row for s, (_, tap) in zip(sums, _taps(seen, window, along), strict=True)]

    zeros = jnp.zeros((n, 1, 1, width, channels), x.dtype)
    sums = lax.fori_loop(0, frames * rows, add, [zeros] * math.prod(window))
    return jnp.stack([jnp.sum(s, (0, 1, 2, 3)) for s in sums])


def _temporal(x, kernel, geometry):
    return sum(_matmul(tap, kernel[place]) for place, tap in _taps(x, kernel.shape[:3], geometry))


def _temporal_kernel(x, kernel, gradient, geometry):
    taps = _taps(x, kernel.shape[:3], geometry)
    return jnp.stack([_sum_of_rows(tap, gradient) for _, tap in taps])


# --- Few places: one product of matrices --------------------------------------------------------


def _by_columns(x, kernel, geometry):
    return _matmul(_columns(x, kernel.shape[:3], geometry), _rows(kernel))


def _by_columns_input(x, kernel, gradient, geometry):
    product = lax.dot_general(_rows(gradient), _rows(kernel), (((1,), (1,)), ((), ())))
    product = product.reshape(*gradient.shape[:-1], -1)  # (R, kt·kh·kw·C)
    spread = jax.linear_transpose(lambda x: _columns(x, kernel.shape[:3], geometry), x)
    return spread(product)[0]


def _by_columns_kernel(x, kernel, gradient, geometry):
    columns = _rows(_columns(x, kernel.shape[:3], geometry))
    return lax.dot_general(columns, _rows(gradient), (((0,), (0,)), ((), ())))


# --- Many places: 2D convolutions ---------------------------------------------------------------


def _frames(x, kernel, geometry):
    if _few_channels(x, geometry) and kernel.shape[2] <= 4:
        # Six times faster for windows of 3; windows of 7 lose a tenth by it.
        return _frames(*_fold(x, kernel, geometry, rows=False))
    if kernel.shape[-1] < NARROW and kernel.shape[0] > 1 and geometry.strides[0] == 1:
        return _to_neighbours(x, kernel, geometry)
    return _from_neighbours(x, kernel, geometry, pieces=True)


def _from_neighbours(x, kernel, geometry, pieces):
    """One 2D convolution, the frames that a window sees laid side by side in the channels."""
    kt, kh, kw, c, o = kernel.shape
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(kh, kw, kt * c, o)
    frames = geometry.out_sizes(x.shape[1:4], (kt, kh, kw))[0]
    bytes_of_frame = x.itemsize * (x.size // x.shape[1]) * kt
    x, along = _pad(x, (geometry.pads[0], *NO_PADS[1:])), geometry.only(0)
    along = dataclasses.replace(along, pads=NO_PADS)
    if not pieces or kt == 1 or bytes_of_frame * frames <= FRAMES_WHOLE_BYTES:
        return _conv2d(_columns(x, (kt, 1, 1), along), kernel, geometry)
    count, each = _split(frames, bytes_of_frame, FRAMES_BYTES)
    stride, reach = along.strides[0], (kt - 1) * along.dilation[0] + 1
    seen = (each - 1) * stride + reach
    x = _pad(x, ((0, max(0, (count - 1) * each * stride + seen - x.shape[1])), *NO_PADS[1:]))

    def piece(_, i):
        near = lax.dynamic_slice_in_dim(x, i * each * stride, seen, axis=1)
        return None, _conv2d(_columns(near, (kt, 1, 1), along), kernel, geometry)

    y = jnp.moveaxis(lax.scan(piece, None, jnp.arange(count))[1], 0, 1)  # (N, pieces, each, …)
    return y.reshape(y.shape[0], count * each, *y.shape[3:])[:, :frames]


def _to_neighbours(x, kernel, geometry):
    """One 2D convolution with an output for each frame that sees its frame; then their sum."""
    kt, kh, kw, c, o = kernel.shape
    x = _pad(x, (geometry.pads[0], *NO_PADS[1:]))
    all_outputs = jnp.moveaxis(kernel, 0, 3).reshape(kh, kw, c, kt * o)
    frames, rows, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    frames -= sum(geometry.pads[0])
    step = geometry.dilation[0]
    count, each = _split(rows, x.itemsize * math.prod(x.shape[:2]) * width * kt * o, FRAMES_BYTES)
    x, seen = _rows_for(x, count * each, each, kernel, geometry)
    along = dataclasses.replace(geometry, pads=(*NO_PADS[:2], geometry.pads[2]))

    def piece(_, i):
        near = lax.dynamic_slice_in_dim(x, i * each * geometry.strides[1], seen, axis=2)
        y = _conv2d(near, all_outputs, along)
        taps = [y[:, a * step : a * step + frames, ..., a * o : (a + 1) * o] for a in range(kt)]
        return None, sum(taps)

    y = jnp.moveaxis(lax.scan(piece, None, jnp.arange(count))[1], 0, 2)  # (N, T', pieces, each, …)
    return y.reshape(*y.shape[:2], count * each, *y.shape[4:])[:, :, :rows]


def _split(whole, bytes_of_one, bytes_of_piece):
    """(number of pieces, size of each): as equal as they can be, at most about so many bytes."""
    count = -(-whole // max(1, bytes_of_piece // bytes_of_one))
    return count, -(-whole // count)


def _rows_for(x, rows, each, kernel, geometry):
    """x padded in H so that `rows` rows come out, and how many of its rows make `each` of them."""
    stride, reach = geometry.strides[1], (kernel.shape[1] - 1) * geometry.dilation[1] + 1
    before = geometry.pads[1][0]
    after = (rows - 1) * stride + reach - x.shape[2] - before
    return _pad(x, ((0, 0), (before, after), (0, 0))), (each - 1) * stride + reach


def _conv2d(x, kernel, geometry):
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


def _frames_input(x, kernel, gradient, geometry):
    if _few_channels(x, geometry):

        def fold(x):
            return _fold(x, kernel, geometry, rows=True)[0]

        _, folded_kernel, folded = _fold(x, kernel, geometry, rows=True)
        inner = _frames_input(jax.eval_shape(fold, x), folded_kernel, gradient, folded)
        return jax.linear_transpose(fold, x)(inner)[0]
    if max(geometry.strides) > 1:
        whole = jax.linear_transpose(
            lambda x: _from_neighbours(x, kernel, geometry, pieces=False),
            jax.ShapeDtypeStruct(x.shape, x.dtype),
        )
        return whole(gradient)[0]
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
    flipped = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    return _frames(gradient, flipped, dataclasses.replace(geometry, pads=pads))


def _frames_kernel(x, kernel, gradient, geometry):
    if _few_channels(x, geometry):
        x, folded_kernel, folded = _fold(x, kernel, geometry, rows=False)
        inner = _frames_kernel(x, folded_kernel, gradient, folded)

        def fold(kernel):
            return _fold_kernel(kernel, geometry.strides, rows=False)

        return jax.linear_transpose(fold, kernel)(inner)[0]
    kt, kh, kw, c, o = kernel.shape
    frames = gradient.shape[1]
    wide = kt * c <= o or frames + (kt - 1) * geometry.dilation[0] > 1.2 * frames
    if kt == 1 or geometry.strides[0] > 1 or wide:
        x = _columns(x, (kt, 1, 1), geometry.only(0))
        found = _sum_of_columns(x, (kh, kw), gradient, 1, geometry.only(1, 2))
        return jnp.moveaxis(found.reshape(o, kh, kw, kt, c), 0, 4).transpose(2, 0, 1, 3, 4)
    x = _pad(x, (geometry.pads[0], *NO_PADS[1:]))
    found = _sum_of_columns(x, (kh, kw), gradient, kt, geometry)
    return found.reshape(kt, o, kh, kw, c).transpose(0, 2, 3, 4, 1)


def _sum_of_columns(x, window, gradient, kt, geometry):
    """(kt·O, kh·kw·C): over all places, what the window sees of a frame times the gradients of the
    kt frames that see it; some rows of the image at a time."""
    n, _, rows, width, _ = gradient.shape
    bytes_of_row = x.itemsize * n * x.shape[1] * width * math.prod(window) * x.shape[-1]
    count, each = _split(rows, bytes_of_row, COLUMNS_BYTES)
    along = dataclasses.replace(geometry.only(1, 2), pads=(*NO_PADS[:2], geometry.pads[2]))
    x, seen = _rows_for(
        x, count * each, each, jax.ShapeDtypeStruct((1, *window), x.dtype), geometry
    )
    gradient = _pad(gradient, ((0, 0), (0, count * each - rows), (0, 0)))
    reach = (kt - 1) * geometry.dilation[0]
    back = Geometry((1, 1, 1), ((reach, reach), *NO_PADS[1:]), (geometry.dilation[0], 1, 1))

    def piece(i, total):
        near = lax.dynamic_slice_in_dim(x, i * each * geometry.strides[1], seen, axis=2)
        rows = lax.dynamic_slice_in_dim(gradient, i * each, each, axis=2)
        if kt > 1:  # frame f is seen by frame f - a at the window's place a
            taps = [tap for _, tap in _taps(rows, (kt, 1, 1), back)]
            rows = jnp.concatenate(taps[::-1], axis=-1)
        columns = _columns(near, (1, *window), along)
        return total + lax.dot_general(_rows(rows), _rows(columns), (((0,), (0,)), ((), ())))

    shape = (kt * gradient.shape[-1], math.prod(window) * x.shape[-1])
    total = lax.fori_loop(0, count, piece, jnp.zeros(shape, x.dtype))
    return lax.optimization_barrier(total)


# --- Pictures: strides moved into the channels --------------------------------------------------


def _few_channels(x, geometry) -> bool:
    strided = geometry.strides[2] > 1 and max(geometry.dilation[1:]) == 1
    return strided and x.shape[-1] <= FEW_CHANNELS


def _fold(x, kernel, geometry, rows):
    """The same convolution with neighbouring columns (and rows) as channels, without their stride.

    Along W that is a mere reshape. Along H too, rows are copied, and no zeros are multiplied in the
    gradient with respect to x.
    """
    (st, sh, sw), (times, high, wide) = geometry.strides, geometry.pads
    folded = _fold_kernel(kernel, geometry.strides, rows)
    _, height, width = geometry.out_sizes(x.shape[1:4], kernel.shape[:3])
    width = (width - 1 + folded.shape[2]) * sw
    x = _pad(x, (*NO_PADS[:2], (wide[0], width - x.shape[3] - wide[0])))
    x = x.reshape(*x.shape[:3], width // sw, sw * x.shape[-1])
    if rows:
        height = (height - 1 + folded.shape[1]) * sh
        x = _pad(x, ((0, 0), (high[0], height - x.shape[2] - high[0]), (0, 0)))
        x = jnp.concatenate([x[:, :, i::sh] for i in range(sh)], axis=-1)
        high, sh = (0, 0), 1
    return x, folded, Geometry((st, sh, 1), (times, high, (0, 0)), geometry.dilation)


def _fold_kernel(kernel, strides, rows):
    kt, kh, kw, c, o = kernel.shape
    sh, sw = strides[1] if rows else 1, strides[2]
    kernel = jnp.pad(kernel, ((0, 0), (0, -kh % sh), (0, -kw % sw), (0, 0), (0, 0)))
    kernel = kernel.reshape(kt, -1, sh, kernel.shape[2] // sw, sw * c, o)
    return kernel.swapaxes(2, 3).reshape(kt, kernel.shape[1], -1, sh * sw * c, o)


# --- Groups that are not depthwise: rare, right and not tuned -----------------------------------


def _grouped(x, kernel, geometry):
    taps = _taps(x, (kernel.shape[0], 1, 1), geometry.only(0))
    return sum(_conv2d(tap, kernel[place[0]], geometry) for place, tap in taps)


# --- The table ----------------------------------------------------------------------------------


def _derived_input(forward):
    def gradient_of(x, kernel, gradient, geometry):
        return jax.linear_transpose(lambda x: forward(x, kernel, geometry), x)(gradient)[0]

    return gradient_of


def _derived_kernel(forward):
    def gradient_of(x, kernel, gradient, geometry):
        return jax.linear_transpose(lambda k: forward(x, k, geometry), kernel)(gradient)[0]

    return gradient_of


@dataclasses.dataclass(frozen=True)
class Form:
    forward: object
    input_gradient: object
    kernel_gradient: object


FORMS = {
    "depthwise": Form(_depthwise, _derived_input(_depthwise), _depthwise_kernel),
    "temporal": Form(_temporal, _derived_input(_temporal), _temporal_kernel),
    "columns": Form(_by_columns, _by_columns_input, _by_columns_kernel),
    "frames": Form(_frames, _frames_input, _frames_kernel),
    "grouped": Form(_grouped, _derived_input(_grouped), _derived_kernel(_grouped)),
}
