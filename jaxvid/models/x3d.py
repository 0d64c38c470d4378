"""X3D: a tiny image network grown along one axis after another into an efficient video network.

Feichtenhofer 2020, X3D: Expanding Architectures for Efficient Video Recognition. Section 3.1 and
table 1 give the network, table 3 the grown instances; XS is S for clips of 4 frames.

    model = jaxvid.create_model("x3d", variant="M", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel. Time is
never strided, space by 32 in all: any number of frames from 3 on, of any size from 32 on.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import HE_FAN_OUT, Conv
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean, window_mean
from jaxvid.nn.resnet3d import HEAD_INIT, Norm, norm_of

VARIANTS = {
    "test": {
        "width_factor": 1.0,
        "depth_factor": 0.5,
        "spatial_strides": (1, 2, 2, 1),
        "head_width": 256,
        "head_dropout": 0.0,
    },
    "XS": {"head_pool": (4, 5, 5)},
    "S": {"head_pool": (13, 5, 5)},
    "M": {"head_pool": (16, 7, 7)},
    "L": {"depth_factor": 5.0, "head_pool": (16, 10, 10)},
}
CLIPS = {"test": (8, 32), "XS": (4, 160), "S": (13, 160), "M": (16, 224), "L": (16, 312)}
BASE_DEPTHS = (1, 2, 5, 3)  # of X2D, the network the expansion starts from


def round_width(width: float, factor: float) -> int:
    """width · factor as a multiple of 8, at least 8, and never more than a tenth below the product."""
    wanted = width * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class Stem(nn.Module):
    """1×3×3 over space, a depthwise 5×1×1 over time, normalisation, ReLU.

    `conv` has both convolutions, with nothing between them.
    """

    width: int
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, H / 2, W / 2, width)"""
        x = SeparatedConv(self.width, self.dtype, name="conv")(x)
        return nn.relu(self.norm(name="norm")(x, train=train))


class SeparatedConv(nn.Module):
    """`spatial` 1×3×3 with stride 2, then `temporal` 5×1×1 of each channel by itself."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, H / 2, W / 2, width)"""
        width, dtype = self.width, self.dtype
        x = Conv(width, (1, 3, 3), strides=(1, 2, 2), dtype=dtype, name="spatial")(x)
        return Conv(width, (5, 1, 1), groups=width, dtype=dtype, name="temporal")(x)


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole clip shows (Hu et al. 2018, Squeeze-and-Excitation)."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> the same shape"""
        weights = global_mean(x)
        weights = nn.relu(Dense(self.width, kernel_init=HE_FAN_OUT, name="reduce")(weights))
        weights = Dense(x.shape[-1], kernel_init=HE_FAN_OUT, name="expand")(weights)
        weights = nn.sigmoid(weights)  # (N, C)
        return x * weights[:, None, None, None, :].astype(x.dtype)


class Block(nn.Module):
    """1×1×1 to the inner width, depthwise 3×3×3, squeeze-excitation, swish, 1×1×1 back, a shortcut.

    squeeze: width of the squeeze-excitation's bottleneck, None for none. The shortcut is a
    convolution where the shape changes, normalised where the width does.
    """

    width: int
    inner: int
    strides: Sequence[int]
    squeeze: int | None
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', width)"""

        def normed(y: jax.Array, name: str, **start) -> jax.Array:
            return self.norm(name=name, **start)(y, train=train)

        def conv(y: jax.Array, features: int, kernel_size: tuple, name: str, **how) -> jax.Array:
            return Conv(features, kernel_size, dtype=self.dtype, name=name, **how)(y)

        point = (1, 1, 1)
        y = nn.relu(normed(conv(x, self.inner, point, "conv_1"), "norm_1"))
        depthwise = {"strides": self.strides, "groups": self.inner}
        y = normed(conv(y, self.inner, (3, 3, 3), "conv_2", **depthwise), "norm_2")
        if self.squeeze is not None:
            y = SqueezeExcite(self.squeeze, name="squeeze")(y)
        y = conv(nn.swish(y), self.width, point, "conv_3")
        # A branch that starts at zero leaves the block an identity, as in the reference's training.
        y = normed(y, "norm_3", scale_init=nn.initializers.zeros)
        widens = x.shape[-1] != self.width
        if widens or math.prod(self.strides) > 1:
            x = conv(x, self.width, point, "shortcut", strides=self.strides)
            x = normed(x, "shortcut_norm") if widens else x
        return nn.relu(x + y)


class Stage(nn.Module):
    """`depth` blocks; the first one strides, and every other one, from it on, squeezes."""

    depth: int
    width: int
    inner: int
    strides: Sequence[int]
    squeeze: int | None
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H', W', width)"""
        for i in range(self.depth):
            block = Block(
                width=self.width,
                inner=self.inner,
                strides=self.strides if i == 0 else (1, 1, 1),
                squeeze=self.squeeze if i % 2 == 0 else None,
                norm=self.norm,
                dtype=self.dtype,
                name=f"block_{i}",
            )
            x = block(x, train=train)
        return x


class Backbone(nn.Module):
    """Stem, four stages, and the 1×1×1 convolution to the last inner width (conv_5).

    The fields are those of `X3D`.
    """

    width_factor: float
    depth_factor: float
    bottleneck_factor: float
    stem_width: int
    se_ratio: float
    spatial_strides: Sequence[int]
    temporal_strides: Sequence[int]
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T', H / 32, W / 32, inner width of the last stage)"""
        width = round_width(self.stem_width, self.width_factor)
        x = Stem(width, self.norm, self.dtype, name="stem")(x, train=train)
        base = self.stem_width
        for i, depth in enumerate(BASE_DEPTHS):
            width = round_width(base, self.width_factor)
            inner = int(self.bottleneck_factor * width)
            space = self.spatial_strides[i]
            stage = Stage(
                depth=math.ceil(depth * self.depth_factor),
                width=width,
                inner=inner,
                strides=(self.temporal_strides[i], space, space),
                squeeze=round_width(inner, self.se_ratio) if self.se_ratio else None,
                norm=self.norm,
                dtype=self.dtype,
                name=f"stage_{i + 1}",
            )
            x = stage(x, train=train)
            base = round_width(base, 2.0)
        x = Conv(inner, (1, 1, 1), dtype=self.dtype, name="conv_5")(x)
        return nn.relu(self.norm(name="norm_5")(x, train=train))


class X3D(nn.Module):
    """The classifier.

    width_factor, depth_factor: what stem_width and the depths 1, 2, 5, 3 of the base network are
    multiplied by; bottleneck_factor: inner to outer width of a block; se_ratio: squeezed to inner
    width, 0 for no squeeze-excitation. spatial_strides, temporal_strides: of the four stages; the
    stem halves height and width before. head_width: of the layer between pooling and head (fc_1);
    head_norm: whether that one is normalised too. head_pool: (t, h, w), the window that is averaged
    at every place before fc_1, None for the whole map; they differ only where clips are longer or
    larger than the window was made for. head_dropout: before the head, 0.5 as in the paper.
    """

    num_classes: int
    width_factor: float = 2.0
    depth_factor: float = 2.2
    bottleneck_factor: float = 2.25
    stem_width: int = 12
    se_ratio: float = 0.0625
    spatial_strides: Sequence[int] = (2, 2, 2, 2)
    temporal_strides: Sequence[int] = (1, 1, 1, 1)
    head_width: int = 2048
    head_norm: bool = False
    head_pool: Sequence[int] | None = None
    channels: int = 3
    head_dropout: float = 0.5
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, head_width). Raises ValueError when
        the clip has other channels, or fewer frames or pixels than kernels and strides.
        """
        video = inputs["video"]
        check_clip(
            video,
            channels=self.channels,
            frames=max(3, math.prod(self.temporal_strides)),  # 3: the kernel of the blocks
            size=max(3, 2 * math.prod(self.spatial_strides)),
        )
        backbone = Backbone(
            width_factor=self.width_factor,
            depth_factor=self.depth_factor,
            bottleneck_factor=self.bottleneck_factor,
            stem_width=self.stem_width,
            se_ratio=self.se_ratio,
            spatial_strides=self.spatial_strides,
            temporal_strides=self.temporal_strides,
            norm=norm_of(self),
            dtype=self.dtype,
            name="backbone",
        )
        x = backbone(video, train=train)
        x = window_mean(x, self.head_pool)  # (N, T', H', W', C) float32
        x = Dense(self.head_width, use_bias=False, kernel_init=HE_FAN_OUT, name="fc_1")(x)
        if self.head_norm:
            x = norm_of(self)(dtype=jnp.float32, name="fc_1_norm")(x, train=train)
        x = nn.relu(x)
        features = global_mean(x)
        # Dropped before the mean over windows, as in the reference; one window is the usual case.
        x = global_mean(nn.Dropout(self.head_dropout)(x, deterministic=not train))
        logits = Dense(self.num_classes, kernel_init=HEAD_INIT, name="head")(x)
        return {"logits": logits, "features": features}


MODULE = X3D


def build(num_classes: int, *, variant: str = "M", **overrides) -> X3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return X3D(num_classes, **(lookup.variant("x3d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "M") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS[variant]
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
