"""Residual networks over clips, from parts that a model names: layers, blocks, stages, a backbone.

A residual branch is a tuple of `Layer`s; `basic` and `bottleneck` make the two that He et al. 2016
have, with a temporal extent; a layer may be depthwise, or factored into space and time, (2+1)D. The
parameter paths are those of nn/resnet.py, so that weights of images can be inflated into these.

    stage = Stage(repeat(2, bottleneck, inner=16, width=64, temporal=(3,), strides=(1, 2, 2)), norm)
    backbone = Backbone(Layer(64, (1, 7, 7), (1, 2, 2)), (blocks_1, blocks_2), norm)
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean, max_pool, window_mean

Triple = tuple[int, int, int]  # of the axes T, H, W
Norm = Callable[..., BatchNorm]  # norm(name=…, scale_init=…) makes a BatchNorm

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
EXPANSION = 4  # of a bottleneck's width over its inner width
HEAD_INIT = nn.initializers.normal(0.01)
ONE = (1, 1, 1)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution over T, H, W without bias, padded by half its kernel.

    factored: None, or which half of a (2+1)D convolution comes first, "space" (Tran et al. 2018,
    torchvision) or "time" (PyTorchVideo); between the halves `between` channels, normalised, ReLU.
    """

    features: int
    kernel_size: Triple
    strides: Triple = ONE
    groups: int = 1
    factored: str | None = None
    between: int | None = None


Branch = tuple[Layer, ...]


def basic(
    width: int,
    *,
    kernel_size: Triple = (3, 3, 3),
    strides: Triple = ONE,
    factored: str | None = None,
    between: int | None = None,
) -> Branch:
    """Two convolutions of one kernel, the first one strides."""
    first = Layer(width, kernel_size, strides, 1, factored, between)
    return first, dataclasses.replace(first, strides=ONE)


def bottleneck(
    inner: int,
    width: int,
    *,
    temporal: int = 1,
    kernel_size: Triple = (1, 3, 3),
    strides: Triple = ONE,
    groups: int = 1,
    factored: str | None = None,
) -> Branch:
    """temporal×1×1 to the inner width, kernel_size with the strides, 1×1×1 to the width."""
    middle = Layer(inner, kernel_size, strides, groups, factored, inner if factored else None)
    return Layer(inner, (temporal, 1, 1)), middle, Layer(width, ONE)


def repeat(
    depth: int,
    branch: Callable[..., Branch],
    *args,
    strides: Triple = ONE,
    temporal: Sequence[int] | None = None,
    **options,
) -> tuple[Branch, ...]:
    """The branches of a stage: `branch` depth times, the first one with the strides.

    temporal: the temporal kernels of the bottlenecks, in turn: (3, 1) is 3, 1, 3, 1, …
    """
    made = []
    for i in range(depth):
        own = {} if temporal is None else {"temporal": temporal[i % len(temporal)]}
        made.append(branch(*args, strides=strides if i == 0 else ONE, **own, **options))
    return tuple(made)


class Factored(nn.Module):
    """A (2+1)D convolution: `spatial` 1×k×k and `temporal` k×1×1 with `norm` and ReLU between."""

    layer: Layer
    norm: Norm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features)"""
        kernel, strides = self.layer.kernel_size, self.layer.strides
        halves = {
            "spatial": ((1, *kernel[1:]), (1, *strides[1:])),
            "temporal": ((kernel[0], 1, 1), (strides[0], 1, 1)),
        }
        order = list(halves) if self.layer.factored == "space" else list(halves)[::-1]
        widths = (self.layer.between, self.layer.features)
        for name, width in zip(order, widths, strict=True):
            window, step = halves[name]
            x = Conv(width, window, step, dtype=self.dtype, name=name)(x)
            if name == order[0]:
                x = nn.relu(self.norm(name="norm")(x, train=train))
        return x


def convolve(
    layer: Layer, x: jax.Array, name: str, norm: Norm, dtype: jnp.dtype, *, train: bool
) -> jax.Array:
    """The layer as a submodule of the calling module; norm is for the inside of a factored one."""
    if layer.factored is not None:
        return Factored(layer, norm, dtype, name=name)(x, train=train)
    conv = Conv(
        layer.features,
        layer.kernel_size,
        layer.strides,
        groups=layer.groups,
        dtype=dtype,
        name=name,
    )
    return conv(x)


class Stem(nn.Module):
    """conv, norm, ReLU and, with `pool`, a maximum over 1×3×3 with stride 1×2×2."""

    layer: Layer
    norm: Norm
    pool: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features)"""
        x = convolve(self.layer, x, "conv", self.norm, self.dtype, train=train)
        x = nn.relu(self.norm(name="norm")(x, train=train))
        return max_pool(x, (1, 3, 3), strides=(1, 2, 2)) if self.pool else x


class Block(nn.Module):
    """A branch, normalised after each layer, plus the input, then ReLU.

    The input passes through a strided 1×1×1 convolution and a norm where the shape changes.
    zero_last: the branch's last norm starts at zero, so that the block starts as an identity.
    """

    branch: Branch
    norm: Norm
    zero_last: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features of the last layer)"""
        y, last = x, len(self.branch)
        for number, layer in enumerate(self.branch, 1):
            y = convolve(layer, y, f"conv_{number}", self.norm, self.dtype, train=train)
            start = {"scale_init": nn.initializers.zeros} if self._zero(number) else {}
            y = self.norm(name=f"norm_{number}", **start)(y, train=train)
            y = nn.relu(y) if number < last else y
        width, strides = y.shape[-1], branch_strides(self.branch)
        if x.shape[-1] != width or strides != ONE:
            x = Conv(width, ONE, strides, dtype=self.dtype, name="shortcut")(x)
            x = self.norm(name="shortcut_norm")(x, train=train)
        return nn.relu(x + y)

    def _zero(self, number: int) -> bool:
        return self.zero_last and number == len(self.branch)


def branch_strides(branch: Branch) -> Triple:
    """Of all layers together."""
    return _product([layer.strides for layer in branch])


def _product(triples: Sequence[Triple]) -> Triple:
    return tuple(math.prod(numbers) for numbers in zip(*triples, strict=True))


class Stage(nn.Module):
    """block_0, block_1, …, one for each branch."""

    branches: tuple[Branch, ...]
    norm: Norm
    zero_last: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features of the last branch)"""
        for i, branch in enumerate(self.branches):
            block = Block(branch, self.norm, self.zero_last, self.dtype, name=f"block_{i}")
            x = block(x, train=train)
        return x


class Backbone(nn.Module):
    """stem, then stage_1, stage_2, …: the maps before the pooling.

    stem_layer, stem_pool: as in `Stem`. stages: the branches of each. temporal_pool: after stage 1,
    the maximum of every two frames (PyTorchVideo's C2D and I3D), an odd last one left out.
    zero_last: as in `Block`.
    """

    stem_layer: Layer
    stages: tuple[tuple[Branch, ...], ...]
    norm: Norm
    stem_pool: bool = False
    temporal_pool: bool = False
    zero_last: bool = False
    dtype: jnp.dtype = jnp.float32

    def strides(self) -> Triple:
        """Frames, rows and columns of the clip to one of the maps."""
        each = [branch_strides(branch) for branches in self.stages for branch in branches]
        pools = [(1, 2, 2)] * self.stem_pool + [(2, 1, 1)] * self.temporal_pool
        return _product([self.stem_layer.strides, *each, *pools])

    def smallest_clip(self) -> tuple[int, int]:
        """(frames, side) that make sense: what the strides and the largest kernel cover."""
        layers = [layer for branches in self.stages for branch in branches for layer in branch]
        kernels = [layer.kernel_size for layer in (self.stem_layer, *layers)]
        frames, *side = map(max, zip(self.strides(), *kernels, strict=True))
        return frames, max(side)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', features of the last stage) in `dtype`"""
        stem = Stem(self.stem_layer, self.norm, self.stem_pool, self.dtype, name="stem")
        x = stem(x, train=train)
        for i, branches in enumerate(self.stages):
            name = f"stage_{i + 1}"
            x = Stage(branches, self.norm, self.zero_last, self.dtype, name=name)(x, train=train)
            if i == 0 and self.temporal_pool:
                x = max_pool(x, (2, 1, 1), strides=(2, 1, 1), padding="VALID")
        return x


def backbone_of(
    model: nn.Module, stem: Layer, stages: Sequence[tuple[Branch, ...]], **options
) -> Backbone:
    """The submodule `backbone` of a model with fields for its norms; options: of `Backbone`."""
    norm = norm_of(model)
    return Backbone(stem, tuple(stages), norm, dtype=model.dtype, name="backbone", **options)


def norm_of(model: nn.Module) -> Norm:
    """The BatchNorm that a model's fields bn_epsilon, bn_momentum, frozen_bn and dtype ask for."""
    return functools.partial(
        BatchNorm,
        epsilon=model.bn_epsilon,
        momentum=model.bn_momentum,
        frozen=model.frozen_bn,
        dtype=model.dtype,
    )


def per_stage(model: nn.Module, *fields: str) -> list[tuple]:
    """(i, stage_sizes[i], one value of each other field) for each stage of a model.

    Raises ValueError when one of the fields has fewer or more values than there are stages.
    """
    sizes = tuple(model.stage_sizes)
    for name in fields:
        if len(getattr(model, name)) != len(sizes):
            raise ValueError(
                f"{name}={getattr(model, name)} has {len(getattr(model, name))} values, "
                f"stage_sizes={sizes} has {len(sizes)} stages: give one value a stage"
            )
    return list(zip(range(len(sizes)), sizes, *(getattr(model, n) for n in fields), strict=True))


def classify(
    model: nn.Module, backbone: Backbone, video: jax.Array, *, train: bool
) -> dict[str, jax.Array]:
    """What these models return for a clip: backbone, pooling, dropout, linear head.

    To be called inside a compact method of `model`, which has the fields num_classes, channels,
    head_dropout and, where the pooling has a window, head_pool. -> logits float32 (N, num_classes),
    features float32 (N, D). Raises ValueError for a clip too short, too small, of other channels.
    """
    frames, size = backbone.smallest_clip()
    check_clip(video, channels=model.channels, frames=frames, size=size)
    pooled = window_mean(backbone(video, train=train), getattr(model, "head_pool", None))
    # Dropped before the mean over the window's places, which is usually one.
    dropped = nn.Dropout(model.head_dropout)(pooled, deterministic=not train)
    logits = Dense(model.num_classes, kernel_init=HEAD_INIT, name="head")(global_mean(dropped))
    return {"logits": logits, "features": global_mean(pooled)}
