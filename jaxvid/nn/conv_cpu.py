"""Convolutions and their gradients in the forms that XLA's CPU backend runs fast.

XLA has one fast convolution on CPUs, the 2D one of Eigen, and fast products of matrices. Its 3D
convolution, grouped ones and the gradient with respect to a kernel, laid out as JAX derives it, are
one or two orders slower. So, by the shape alone:

    depthwise      shifted multiply-adds, one a place of the window (nn/conv_depthwise.py)
    (1, 1, 1)      a product of matrices
    (k, 1, 1)      a 2D convolution over T and H·W; the gradient of the kernel along T alone
    few places     one product over the whole window, laid out as columns: where the kernel is the
                   large array, it must not be moved, as convolutions for the gradient of x do
    one channel    shifted multiply-adds, as depthwise ones
    3×3, wide      fewer products of many channels (nn/conv_winograd.py)
    patches        windows side by side, that share no place: their places as channels
    pictures       through large windows of several frames: fewer convolutions of frames than the
                   window has (nn/conv_winograd_time.py)
    the rest       2D convolutions over frames (nn/conv_frames.py); the gradient of the kernel is a
                   2D convolution over what were the channels (nn/conv_kernel_gradient.py)

Arrays are channels last with two or three spatial axes; inside the module always three, T×H×W.
Arithmetic is in float32 at least, results have the dtype of x; the gradient with respect to a kernel is
left in that of the arithmetic, to be added up over devices.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_depthwise, conv_frames, conv_winograd, conv_winograd_time
from jaxvid.nn.conv_geometry import NO_PADS, Geometry, columns_of, rows_of
from jaxvid.nn.conv_kernel_gradient import kernel_gradient as kernel_gradient_of_frames
from jaxvid.nn.conv_kernel_gradient import kernel_gradient_along_time, sum_of_rows


def forward(x, kernel, geometry: Geometry):
    """x (N, [T,] H, W, C), kernel ([kt,] kh, kw, C / groups, O) -> (N, [T',] H', W', O)"""
    (x3, kernel3), geometry = _lift(geometry, x, kernel)
    y = FORMS[_form(x3, kernel3, geometry, FEW)].forward(x3, kernel3, geometry)
    return (y if x.ndim == 5 else y[:, 0]).astype(x.dtype)


def input_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to x, given the gradient of its result."""
    (x3, kernel3, gradient), geometry = _lift(geometry, x, kernel, gradient, images=(0, 2))
    form = FORMS[_form(x3, kernel3, geometry, FEW_BACK)]
    return form.input_gradient(x3, kernel3, gradient, geometry).reshape(x.shape).astype(x.dtype)


def kernel_gradient(x, kernel, gradient, geometry: Geometry):
    """Of `forward` with respect to kernel, given the gradient of its result."""
    (x3, kernel3, gradient), geometry = _lift(geometry, x, kernel, gradient, images=(0, 2))
    form = FORMS[_form(x3, kernel3, geometry, FEW)]
    found = form.kernel_gradient(x3, kernel3, gradient, geometry)
    return found.reshape(kernel.shape)


def _lift(geometry, *arrays, images=(0,)):
    dtype = jnp.promote_types(arrays[0].dtype, jnp.float32)
    arrays = [a.astype(dtype) for a in arrays]
    if len(geometry.strides) == 2:
        arrays = [a[:, None] if i in images else a[None] for i, a in enumerate(arrays)]
    return arrays, geometry.lifted()


@dataclasses.dataclass(frozen=True)
class Few:
    places: float  # an output channel, for which columns are the quickest form
    squares: int  # of outputs, below which fewer products do not pay (nn/conv_winograd.py)


FEW = Few(0.5, 40)
FEW_BACK = Few(2.0, 100)  # of the gradient with respect to x
MANY_CHANNELS = 16  # of patches: moving their places costs more than it saves


def _form(x, kernel, geometry, few: Few) -> str:
    channels, out = x.shape[-1], kernel.shape[-1]
    if geometry.groups > 1:
        return "depthwise" if geometry.groups == channels == out else "grouped"
    if kernel.shape[:3] == (1, 1, 1):
        return "pointwise"
    places = x.shape[0] * math.prod(geometry.out_sizes(x.shape[1:4], kernel.shape[:3]))
    if places <= few.places * out:
        return "columns"
    if kernel.shape[1:3] == (1, 1):
        return "temporal"
    if channels == 1 and math.prod(kernel.shape[:3]) <= conv_depthwise.MOST_PLACES:
        return "one channel"
    if conv_winograd.fits(x, kernel, geometry, few.squares):
        return "winograd"
    patches = kernel.shape[1:3] == geometry.strides[1:] and geometry.only(1, 2).pads == NO_PADS
    if patches and max(geometry.dilation[1:]) == 1:
        return "patches"
    return "winograd along time" if conv_winograd_time.fits(x, kernel, geometry) else "frames"


def _matmul(x, kernel):
    return jnp.dot(rows_of(x), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


# --- (1, 1, 1) and (k, 1, 1) --------------------------------------------------------------------


def _pointwise(x, kernel, geometry):
    return _matmul(columns_of(x, (1, 1, 1), geometry), kernel[0, 0, 0])


def _pointwise_kernel(x, kernel, gradient, geometry):
    return sum_of_rows(columns_of(x, (1, 1, 1), geometry), gradient)


def _temporal(x, kernel, geometry):
    x = _strided_in_space(x, geometry)
    y = conv_frames.along_time(x.reshape(*x.shape[:2], -1, x.shape[-1]), kernel[:, 0, 0], geometry)
    return y.reshape(*y.shape[:2], *x.shape[2:4], y.shape[-1])


def _temporal_kernel(x, kernel, gradient, geometry):
    x = _strided_in_space(x, geometry)
    x, gradient = (a.reshape(*a.shape[:2], -1, a.shape[-1]) for a in (x, gradient))
    return kernel_gradient_along_time(x, kernel[:, 0, 0], gradient, geometry)


def _strided_in_space(x, geometry):
    return columns_of(x, (1, 1, 1), geometry.only(1, 2))


# --- Few places: one product of matrices --------------------------------------------------------


def _by_columns(x, kernel, geometry):
    return _matmul(columns_of(x, kernel.shape[:3], geometry), rows_of(kernel))


def _by_columns_input(x, kernel, gradient, geometry):
    product = lax.dot_general(rows_of(gradient), rows_of(kernel), (((1,), (1,)), ((), ())))
    product = product.reshape(*gradient.shape[:-1], -1)  # (R, kt·kh·kw·C)
    spread = jax.linear_transpose(lambda x: columns_of(x, kernel.shape[:3], geometry), x)
    return spread(product)[0]


def _by_columns_kernel(x, kernel, gradient, geometry):
    columns = rows_of(columns_of(x, kernel.shape[:3], geometry))
    return lax.dot_general(columns, rows_of(gradient), (((0,), (0,)), ((), ())))


# --- Patches: their places as channels, and a window of times alone ------------------------------


def _patches(x, kernel, geometry):
    if x.shape[-1] > MANY_CHANNELS:
        return conv_frames.forward(x, kernel, geometry)
    return forward(*_as_channels(x, kernel, geometry))


def _patches_kernel(x, kernel, gradient, geometry):
    x, wide_kernel, along_time = _as_channels(x, kernel, geometry)
    return kernel_gradient(x, wide_kernel, gradient, along_time).reshape(kernel.shape)


def _as_channels(x, kernel, geometry):
    kt, high, wide, channels, out = kernel.shape
    n, times, rows, columns = (*x.shape[:2], x.shape[2] // high, x.shape[3] // wide)
    x = x[:, :, : rows * high, : columns * wide]
    x = x.reshape(n, times, rows, high, columns, wide, channels).swapaxes(3, 4)
    x = x.reshape(n, times, rows, columns, high * wide * channels)
    return x, kernel.reshape(kt, 1, 1, -1, out), geometry.only(0)


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
    "depthwise": Form(
        conv_depthwise.forward, conv_depthwise.input_gradient, conv_depthwise.kernel_gradient
    ),
    "pointwise": Form(_pointwise, _derived_input(_pointwise), _pointwise_kernel),
    "temporal": Form(_temporal, _derived_input(_temporal), _temporal_kernel),
    "columns": Form(_by_columns, _by_columns_input, _by_columns_kernel),
    "one channel": Form(conv_depthwise.forward, _by_columns_input, kernel_gradient_of_frames),
    "patches": Form(_patches, conv_frames.input_gradient, _patches_kernel),
    "winograd": Form(
        conv_winograd.forward, conv_winograd.input_gradient, conv_winograd.kernel_gradient
    ),
    "winograd along time": Form(
        conv_winograd_time.forward, conv_frames.input_gradient, kernel_gradient_of_frames
    ),
    "frames": Form(conv_frames.forward, conv_frames.input_gradient, kernel_gradient_of_frames),
    "grouped": Form(  # groups that are not depthwise: rare, right and not tuned
        conv_frames.sum_over_times,
        _derived_input(conv_frames.sum_over_times),
        _derived_kernel(conv_frames.sum_over_times),
    ),
}
