"""C3D: eight 3×3×3 convolutions, five pools, two wide linear layers.

Tran et al. 2015, Learning Spatiotemporal Features with 3D Convolutional Networks (section 3.3, figure
3), as MMAction2 builds it: the last pool is padded by one pixel, no normalisation.

    model = jaxvid.create_model("c3d", num_classes=101)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 112, 112, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 101)

MMAction2's checkpoints expect pixels from which (104, 117, 128) is subtracted, of 0..255. The clips a
model is initialised with fix their number of frames and size for good: its first linear layer has
weights for every place of the last map. Clips of another map are an error.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import max_pool

Triple = tuple[int, int, int]  # of the axes T, H, W
VARIANTS = {
    "test": {
        "widths": (16, 32, 48),
        "depths": (1, 1, 2),
        "pools": ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        "fc_width": 64,
        "init_std": 0.03,
        "batch_norm": True,
        "dropout": 0.0,
        "head_dropout": 0.0,
    },
    "C3D": {},
}
HEAD_INIT = nn.initializers.normal(0.01)


class Backbone(nn.Module):
    """conv_1a, pool, conv_2a, pool, conv_3a, conv_3b, pool, …; the fields are those of `C3D`."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    pools: tuple[Triple, ...]
    batch_norm: bool
    frozen_bn: bool
    bn_momentum: float
    bn_epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T / 16, (H / 16 + 2) // 2, (W / 16 + 2) // 2, 512), all rounded
        down"""
        stages = zip(self.widths, self.depths, self.pools, strict=True)
        for stage, (width, depth, pool) in enumerate(stages, 1):
            for letter in "abcdefgh"[:depth]:
                x = self._layer(x, width, f"{stage}{letter}", train)
            last = stage == len(self.widths)
            x = max_pool(x, pool, strides=pool, padding=(0, 1, 1) if last else 0)
        return x

    def _layer(self, x: jax.Array, width: int, label: str, train: bool) -> jax.Array:
        """The convolution with its norm, where there is one in place of the bias, and ReLU."""
        bias = not self.batch_norm
        x = Conv(width, (3, 3, 3), use_bias=bias, dtype=self.dtype, name=f"conv_{label}")(x)
        if self.batch_norm:
            norm = BatchNorm(
                self.bn_epsilon,
                self.bn_momentum,
                self.frozen_bn,
                self.dtype,
                name=f"norm_{label}",
            )
            x = norm(x, train=train)
        return nn.relu(x)


class C3D(nn.Module):
    """The classifier.

    widths, depths, pools: of each stage, the channels, the number of convolutions and the window of
    the pool after them. fc_width: of the two inner linear layers, which start from a normal of
    init_std. batch_norm: after each convolution, in place of its bias; not in the paper, but without
    it training from scratch needs much care. dropout: between the inner layers; head_dropout: before
    the head.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: tuple[int, ...] = (1, 1, 2, 2, 2)
    pools: tuple[Triple, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    fc_width: int = 4096
    init_std: float = 0.005
    batch_norm: bool = False
    channels: int = 3
    dropout: float = 0.5
    head_dropout: float = 0.5
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, fc_width). Raises ValueError when the
        clip has other channels, too few frames or pixels, or not the size the weights were made for.
        """
        video = inputs["video"]
        frames = math.prod(pool[0] for pool in self.pools)
        size = math.prod(pool[1] for pool in self.pools[:-1])  # the last one is padded
        check_clip(video, channels=self.channels, frames=frames, size=size)
        backbone = Backbone(
            self.widths,
            self.depths,
            self.pools,
            self.batch_norm,
            self.frozen_bn,
            self.bn_momentum,
            self.bn_epsilon,
            self.dtype,
            name="backbone",
        )
        maps = backbone(video, train=train)  # (N, t, h, w, C)
        self._check_map(video, maps)
        # In torch's order, C before the places, so that its weights are these.
        x = jnp.moveaxis(maps, -1, 1).reshape(len(maps), -1)  # (N, C·t·h·w)
        x = self._inner(x, "fc_6")
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        features = self._inner(x, "fc_7").astype(jnp.float32)
        x = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        logits = Dense(self.num_classes, kernel_init=HEAD_INIT, name="head")(x)
        return {"logits": logits, "features": features}

    def _inner(self, x: jax.Array, name: str) -> jax.Array:
        init = nn.initializers.normal(self.init_std)
        return nn.relu(Dense(self.fc_width, dtype=self.dtype, kernel_init=init, name=name)(x))

    def _check_map(self, video: jax.Array, maps: jax.Array) -> None:
        weights = self.get_variable("params", "fc_6")
        if weights is None:  # being initialised
            return
        *places, width = maps.shape[1:]
        expected = weights["kernel"].shape[0]
        if math.prod(places) * width != expected:
            raise ValueError(
                f"inputs['video'] has shape {video.shape} and ends as a map of "
                f"{'×'.join(map(str, places))} places, but the weights of C3D's first linear layer are "
                f"for {expected // width} places: give clips of the frames and size it was "
                "initialised or trained with (16×112×112 in the paper: 1×4×4 places), or "
                "initialise a new model with clips of this size"
            )


MODULE = C3D


def build(num_classes: int, *, variant: str = "C3D", **overrides) -> C3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return C3D(num_classes, **(lookup.variant("c3d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "C3D") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 112)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
