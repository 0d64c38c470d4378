"""Residual networks over single frames: the feature extractor of the models that add time above it.

He et al. 2016, Deep Residual Learning for Image Recognition (CVPR), table 1, as torchvision builds
them: a bottleneck strides in its 3×3 convolution ("v1.5"), paddings are half the window. The 3D
ResNets have the same parameter paths, so that these weights can be inflated into theirs.

    backbone = ResNet(**DEPTHS[18])
    variables = backbone.init(rng, images, train=False)  # images: float (N, H, W, C), normalised
    maps = backbone.apply(variables, images, train=False)  # (N, H / 32, W / 32, 512)
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.conv import Conv
from jaxvid.nn.pool import global_mean, max_pool

DEPTHS = {
    18: {"stage_sizes": (2, 2, 2, 2), "bottleneck": False},
    34: {"stage_sizes": (3, 4, 6, 3), "bottleneck": False},
    50: {"stage_sizes": (3, 4, 6, 3), "bottleneck": True},
    101: {"stage_sizes": (3, 4, 23, 3), "bottleneck": True},
}
# Small enough for one core, and gentle: frames of 48×48 still leave it as 6×6.
SMALL = {"stage_sizes": (1, 1, 1), "width": 16, "stem_kernel": 3, "stem_pool": False}
EXPANSION = 4  # of a bottleneck's output over its width


class Stem(nn.Module):
    """conv, norm, ReLU and, with `pool`, a maximum over 3×3 with stride 2."""

    features: int
    kernel: int
    stride: int
    pool: bool
    norm: Callable[..., BatchNorm]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', features)"""
        window = (self.kernel, self.kernel)
        x = Conv(self.features, window, self.stride, dtype=self.dtype, name="conv")(x)
        x = nn.relu(self.norm(name="norm")(x, train=train))
        return max_pool(x, (3, 3), strides=2) if self.pool else x


class Block(nn.Module):
    """Two 3×3 convolutions, or 1×1, 3×3 and 1×1 with four times the width; plus the input."""

    width: int
    stride: int
    bottleneck: bool
    norm: Callable[..., BatchNorm]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H / stride, W / stride, width or 4·width)"""
        if self.bottleneck:
            last = EXPANSION * self.width
            layers = [(self.width, 1, 1), (self.width, 3, self.stride), (last, 1, 1)]
        else:
            last = self.width
            layers = [(self.width, 3, self.stride), (last, 3, 1)]
        y = x
        for number, (features, kernel, stride) in enumerate(layers, 1):
            window = (kernel, kernel)
            y = Conv(features, window, stride, dtype=self.dtype, name=f"conv_{number}")(y)
            y = self.norm(name=f"norm_{number}")(y, train=train)
            if number < len(layers):
                y = nn.relu(y)
        if x.shape[-1] != last or self.stride != 1:
            x = Conv(last, (1, 1), self.stride, dtype=self.dtype, name="shortcut")(x)
            x = self.norm(name="shortcut_norm")(x, train=train)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Blocks of one width; the first one strides."""

    size: int
    width: int
    stride: int
    bottleneck: bool
    norm: Callable[..., BatchNorm]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H / stride, W / stride, width or 4·width)"""
        for i in range(self.size):
            stride = self.stride if i == 0 else 1
            x = Block(
                self.width, stride, self.bottleneck, self.norm, self.dtype, name=f"block_{i}"
            )(x, train=train)
        return x


class ResNet(nn.Module):
    """The maps before the pooling. stage_sizes: blocks of each stage; the width doubles and the map
    halves from stage to stage. frozen_bn: running statistics in training too."""

    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @property
    def features(self) -> int:
        """Channels of the maps: 512 of a ResNet-18."""
        return self.width * 2 ** (len(self.stage_sizes) - 1) * (EXPANSION if self.bottleneck else 1)

    @property
    def stride(self) -> int:
        """Pixels of the frame to one of the maps: 32 of a ResNet-18; smaller frames make no sense."""
        return self.stem_stride * (2 if self.stem_pool else 1) * 2 ** (len(self.stage_sizes) - 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x: float (N, H, W, C), normalised -> (N, H / stride, W / stride, features) in `dtype`"""
        norm = functools.partial(
            BatchNorm,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
            frozen=self.frozen_bn,
            dtype=self.dtype,
        )
        stem = Stem(
            self.width,
            self.stem_kernel,
            self.stem_stride,
            self.stem_pool,
            norm,
            self.dtype,
            name="stem",
        )
        x = stem(x, train=train)
        for i, size in enumerate(self.stage_sizes):
            width, stride = self.width * 2**i, 1 if i == 0 else 2
            stage = Stage(
                size, width, stride, self.bottleneck, norm, self.dtype, name=f"stage_{i + 1}"
            )
            x = stage(x, train=train)
        return x


FIELDS = tuple(n for n in ResNet.__dataclass_fields__ if n not in ("parent", "name"))


def resnet_of(model: nn.Module, **options) -> ResNet:
    """The ResNet whose fields a model has under the same names; options: other values of them."""
    return ResNet(**({name: getattr(model, name) for name in FIELDS} | options))


def frame_features(backbone: ResNet, video: jax.Array, *, train: bool) -> jax.Array:
    """video (N, T, H, W, C) -> (N, T, D) float32: every frame's maps, averaged over their places."""
    frames = video.reshape(-1, *video.shape[2:])  # (N, T, H, W, C) -> (N·T, H, W, C)
    pooled = global_mean(backbone(frames, train=train))
    return pooled.reshape(*video.shape[:2], -1)  # (N·T, D) -> (N, T, D)
