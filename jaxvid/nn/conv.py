"""Convolutions over frames and clips, channels last, equal on every platform and fast on each.

y = conv(x, kernel, strides=(1, 2, 2), padding=(0, 3, 3))  # x: (N, T, H, W, C)
y = Conv(64, (1, 7, 7), strides=(1, 2, 2))(x)
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxvid.nn import conv_cpu
from jaxvid.nn.conv_geometry import Geometry
from jaxvid.nn.linear import Initializer
from jaxvid.nn.rows import division, map_rows, sum_rows

HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # torchvision's ResNets
Padding = str | int | Sequence[int | tuple[int, int]]


def resolve_padding(
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis, whatever way it was said.

    "half": (window - 1) // 2 on both sides, as torch models write it out; "SAME": TensorFlow's, from
    the input's size, more at the end than at the start; "VALID"; a number for all axes, or one number
    or pair an axis. Raises ValueError for other words, for numbers of another count of axes, and when
    an axis is shorter than the window.
    """
    dilation = dilation or (1,) * len(window)
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    if padding == "half":
        pairs = [((r - 1) // 2,) * 2 for r in reach]
    elif padding == "VALID":
        pairs = [(0, 0)] * len(reach)
    elif padding == "SAME":
        totals = [
            max((-(-size // s) - 1) * s + r - size, 0)
            for size, r, s in zip(sizes, reach, strides, strict=True)
        ]
        pairs = [(t // 2, t - t // 2) for t in totals]
    elif isinstance(padding, str):
        raise ValueError(f"padding {padding!r}: expected 'half', 'SAME', 'VALID' or numbers")
    else:
        each = per_axis(padding, len(reach), "padding")
        pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in each]
    for size, r, pair in zip(sizes, reach, pairs, strict=True):
        if size + sum(pair) < r:
            raise ValueError(
                f"an input of {'×'.join(map(str, sizes))} (T×H×W, or H×W) is smaller than the window "
                f"{'×'.join(map(str, window))} with padding {pairs}: give longer or larger clips"
            )
    return tuple(pairs)


def per_axis(value: int | Sequence[int], axes: int, name: str = "strides") -> tuple[int, ...]:
    """2 -> (2, 2, 2) for three axes; a sequence as a tuple. ValueError when it has another length."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{name} {values}: expected one number, or one for each of {axes} axes")
    return values


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "half",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """x (N, *spatial, C) with kernel (*window, C / groups, O) -> (N, *spatial', O), in x's dtype.

    Two or three spatial axes. Raises ValueError when channels, groups or sizes do not fit.
    """
    axes = kernel.ndim - 2
    if x.ndim != axes + 2 or x.shape[-1] != kernel.shape[-2] * groups:
        raise ValueError(
            f"an input of shape {x.shape} does not fit a kernel of shape {kernel.shape} with "
            f"{groups} groups: expected {axes + 2} axes and {kernel.shape[-2] * groups} channels "
            "in the last one"
        )
    if kernel.shape[-1] % groups:
        raise ValueError(f"{kernel.shape[-1]} output channels do not divide into {groups} groups")
    strides, dilation = per_axis(strides, axes), per_axis(dilation, axes, "dilation")
    pads = resolve_padding(padding, x.shape[1:-1], kernel.shape[:-2], strides, dilation)
    return _conv(x, kernel, Geometry(strides, pads, dilation, groups), division())


# On CPUs it is made of loops over pieces, which every device runs on its own rows of the batch (`by`,
# nn/rows.py). Several processes need that: XLA's CPU backend lets what follows a loop begin before the
# loop ends, and sums over devices in it and after it meet in another order in every process.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, geometry, by):
    forward = functools.partial(conv_cpu.forward, geometry=geometry)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: map_rows(forward, (x,), kernel, by=by),
        default=functools.partial(_native, geometry=geometry),
    )


def _conv_forward(x, kernel, geometry, by):
    return _conv(x, kernel, geometry, by), (x, kernel)


def _conv_backward(geometry, by, kept, gradient):
    def of_input(x, gradient, kernel):
        return conv_cpu.input_gradient(x, kernel, gradient, geometry)

    def of_kernel(x, gradient, kernel):
        return conv_cpu.kernel_gradient(x, kernel, gradient, geometry)

    def cpu(x, kernel, gradient):
        to_input = map_rows(of_input, (x, gradient), kernel, by=by)
        to_kernel = sum_rows(of_kernel, (x, gradient), kernel, by=by)
        return to_input, to_kernel.astype(kernel.dtype)

    def native(x, kernel, gradient):
        return jax.vjp(functools.partial(_native, geometry=geometry), x, kernel)[1](gradient)

    return lax.platform_dependent(*kept, gradient, cpu=cpu, default=native)


_conv.defvjp(_conv_forward, _conv_backward)


def _native(x, kernel, geometry):
    letters = "THW"[-len(geometry.strides) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=geometry.groups,
    )


class Conv(nn.Module):
    """Parameters kernel (*kernel_size, C / groups, features) and, with use_bias, bias (features,).

    The number of spatial axes is the length of kernel_size. padding: see `resolve_padding`.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "half"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = HE_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, *spatial, C) -> (N, *spatial', features) in `dtype`"""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y
