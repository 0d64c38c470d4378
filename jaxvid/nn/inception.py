"""Inception-v1 over clips: the trunk that I3D and S3D share.

Szegedy et al. 2015, Going Deeper with Convolutions: blocks of four branches, their widths (table 1).
Carreira and Zisserman 2017, Quo Vadis, Action Recognition?: every window gets a third axis (figure 3).
Xie et al. 2018, Rethinking Spatiotemporal Feature Learning: a window over space and one over time in
the place of each, and gates.

    parts = Parts(norm=functools.partial(BatchNorm, epsilon=1e-3, momentum=0.99))
    maps = Inception(parts)(video, train=False)  # (N, 64, 224, 224, 3) -> (N, 8, 7, 7, 1024)

Parameter paths: stem, conv_2b, conv_2c, mixed_3b, mixed_3c, mixed_4b … 4f, mixed_5b, mixed_5c, as the
papers call them; every convolution is {conv, norm}, a separated one {conv: {spatial, norm, temporal},
norm}.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.conv import HE_FAN_OUT, Conv
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.pool import global_mean, max_pool

Triple = tuple[int, int, int]  # of the axes T, H, W
POINT, CUBE = (1, 1, 1), (3, 3, 3)

# stage -> block -> widths of branch 0, of 1 before and after its window, of 2 likewise, of branch 3
BLOCKS = {
    3: {"b": (64, 96, 128, 16, 32, 32), "c": (128, 128, 192, 32, 96, 64)},
    4: {
        "b": (192, 96, 208, 16, 48, 64),
        "c": (160, 112, 224, 24, 64, 64),
        "d": (128, 128, 256, 24, 64, 64),
        "e": (112, 144, 288, 32, 64, 64),
        "f": (256, 160, 320, 32, 128, 128),
    },
    5: {"b": (256, 160, 320, 32, 128, 128), "c": (384, 192, 384, 48, 128, 128)},
}
STAGE_BLOCKS = tuple(len(blocks) for blocks in BLOCKS.values())
# of the stem and of the pools before stages 2, 3, 4 and 5
STRIDES = ((2, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
POOLS = ((1, 3, 3), (1, 3, 3), (3, 3, 3), (2, 2, 2))
MIN_WIDTH = 4
GATE_INIT = nn.initializers.truncated_normal(0.01)  # as the authors of S3D-G start theirs


@dataclasses.dataclass(frozen=True)
class Parts:
    """What all the convolutions of a trunk have in common.

    norm: norm(name=…) makes a BatchNorm. padding: of convolutions and pools, a word of nn/conv.py:
    "SAME" as in TensorFlow, or "half" the window as torch models write it out. separable: k×k×k
    becomes 1×k×k, norm, ReLU, k×1×1. gating: conv_2c and the branches of the blocks end in gates.
    """

    norm: Callable[..., BatchNorm]
    padding: str = "SAME"
    separable: bool = False
    gating: bool = False
    kernel_init: Initializer = HE_FAN_OUT
    dtype: jnp.dtype = jnp.float32

    def conv(self, features: int, window: Triple, strides: Triple, name: str) -> Conv:
        """A convolution in the way of these parts."""
        return Conv(
            features,
            window,
            strides=strides,
            padding=self.padding,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name=name,
        )


class SeparableConv(nn.Module):
    """`spatial` 1×k×k, `norm`, ReLU, `temporal` t×1×1."""

    features: int
    window: Triple
    strides: Triple
    parts: Parts

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features)"""
        (t, *area), (stride_t, *stride_area) = self.window, self.strides
        x = self.parts.conv(self.features, (1, *area), (1, *stride_area), "spatial")(x)
        x = nn.relu(self.parts.norm(name="norm")(x, train=train))
        return self.parts.conv(self.features, (t, 1, 1), (stride_t, 1, 1), "temporal")(x)


class Unit(nn.Module):
    """`conv`, `norm`, ReLU."""

    features: int
    window: Triple
    parts: Parts
    strides: Triple = POINT

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features)"""
        if self.parts.separable and self.window != POINT:
            whole = SeparableConv(self.features, self.window, self.strides, self.parts, name="conv")
            x = whole(x, train=train)
        else:
            x = self.parts.conv(self.features, self.window, self.strides, "conv")(x)
        return nn.relu(self.parts.norm(name="norm")(x, train=train))


def gate(x: jax.Array, name: str) -> jax.Array:
    """Channels weighted by what the whole clip shows, sigmoid(W · mean + b) ⊙ x (Xie et al. 2018,
    feature gating): (N, T, H, W, C) -> the same shape. The linear layer is the calling module's."""
    weights = nn.sigmoid(Dense(x.shape[-1], kernel_init=GATE_INIT, name=name)(global_mean(x)))
    return x * weights[:, None, None, None, :].astype(x.dtype)  # (N, C) over all places


class Mixed(nn.Module):
    """An Inception block: `branch_0`; `branch_1a`, `branch_1b`; `branch_2a`, `branch_2b`; a maximum
    and `branch_3b`; side by side. widths: a row of BLOCKS."""

    widths: tuple[int, int, int, int, int, int]
    parts: Parts

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, H, W, sum of the four branches' widths)"""

        def unit(y: jax.Array, features: int, window: Triple, name: str) -> jax.Array:
            return Unit(features, window, self.parts, name=name)(y, train=train)

        w = self.widths
        branches = [
            unit(x, w[0], POINT, "branch_0"),
            unit(unit(x, w[1], POINT, "branch_1a"), w[2], CUBE, "branch_1b"),
            unit(unit(x, w[3], POINT, "branch_2a"), w[4], CUBE, "branch_2b"),
            unit(max_pool(x, CUBE, padding=self.parts.padding), w[5], POINT, "branch_3b"),
        ]
        if self.parts.gating:
            branches = [gate(branch, f"gate_{i}") for i, branch in enumerate(branches)]
        return jnp.concatenate(branches, axis=-1)


class Inception(nn.Module):
    """Stem, two convolutions, and the blocks of stages 3, 4 and 5, with pools before stages 2 to 5.

    width_factor: what all widths are multiplied by. stage_blocks: how many blocks of each stage, the
    first ones. strides: of the stem and the four pools; no pool where they are all 1.
    """

    parts: Parts
    width_factor: float = 1.0
    stage_blocks: tuple[int, int, int] = STAGE_BLOCKS
    strides: tuple[Triple, ...] = STRIDES

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T / 8, H / 32, W / 32, 1024) in the parts' dtype, rounded as they
        pad"""

        def unit(y: jax.Array, width: int, window: Triple, name: str, strides=POINT) -> jax.Array:
            return Unit(self._width(width), window, self.parts, strides, name=name)(y, train=train)

        x = unit(x, 64, (7, 7, 7), "stem", self.strides[0])
        x = self._pool(x, stage=2)
        x = unit(x, 64, POINT, "conv_2b")
        x = unit(x, 192, CUBE, "conv_2c")
        if self.parts.gating:
            x = gate(x, "gate_2c")
        for (stage, blocks), count in zip(BLOCKS.items(), self.stage_blocks, strict=True):
            x = self._pool(x, stage)
            for letter, widths in list(blocks.items())[:count]:
                widths = tuple(map(self._width, widths))
                x = Mixed(widths, self.parts, name=f"mixed_{stage}{letter}")(x, train=train)
        return x

    def _pool(self, x: jax.Array, stage: int) -> jax.Array:
        window, strides = POOLS[stage - 2], self.strides[stage - 1]
        if strides == POINT:
            return x
        return max_pool(x, window, strides=strides, padding=self.parts.padding)

    def _width(self, full: int) -> int:
        return max(round(full * self.width_factor), MIN_WIDTH)


def reach(strides: Sequence[Triple]) -> tuple[int, int]:
    """(frames, pixels a side) of the input that become one place of the last map."""
    time, height, width = (math.prod(axis) for axis in zip(*strides, strict=True))
    return time, max(height, width)
