"""S3D: Inception-v1 over clips, each window taken apart into space and time; S3D-G has gates too.

Xie et al. 2018, Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video
Classification. As torchvision and the kylemin/S3D repository have it: the stem is taken
apart too, and paddings are half the window. The gates of S3D-G stand where the authors' code has them:
behind conv_2c and behind each branch of each block.

    model = jaxvid.create_model("s3d", variant="S3D-G", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 64, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

Pixels are normalised as the checkpoint wants: torchvision's by its Kinetics statistics, the other
one's to [-1, 1]. Any number of frames from 8 on, of any size from 32 on.
"""

import functools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.inception import (
    STAGE_BLOCKS,
    STRIDES,
    Inception,
    Parts,
    Triple,
    reach,
)
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean, window_mean

VARIANTS = {
    "test": {
        "width_factor": 0.25,
        "stage_blocks": (1, 1, 0),
        "strides": ((2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 2, 2), (1, 1, 1)),
        "head_dropout": 0.0,
        "bn_momentum": 0.9,
    },
    "S3D": {},
    "S3D-G": {"gating": True},
}
# torch's start of convolutions: uniform within one over the root of the inputs.
INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class S3D(nn.Module):
    """The classifier.

    gating: whether channels are weighted by what the whole clip shows. head_pool: (t, h, w), the
    window averaged at every place of the last map, each average being classified; None, for an axis
    or for all: the whole of it. head_dropout: of the averages. width_factor, stage_blocks, strides:
    of nn/inception.py. bn_momentum: what stays of the running statistics at a step; 0.999 is for long
    training, in hundreds of steps they do not arrive.
    """

    num_classes: int
    gating: bool = False
    width_factor: float = 1.0
    stage_blocks: tuple[int, int, int] = STAGE_BLOCKS
    strides: tuple[Triple, ...] = STRIDES
    head_pool: Sequence[int | None] | None = (2, 7, 7)
    channels: int = 3
    head_dropout: float = 0.2
    frozen_bn: bool = False
    bn_momentum: float = 0.999
    bn_epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D). Raises ValueError when the clip
        has other channels, or less frames or pixels than the strides.
        """
        frames, size = reach(self.strides)
        check_clip(inputs["video"], channels=self.channels, frames=frames, size=size)
        norm = functools.partial(
            BatchNorm,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
            frozen=self.frozen_bn,
            dtype=self.dtype,
        )
        parts = Parts(
            norm,
            padding="half",
            separable=True,
            gating=self.gating,
            kernel_init=INIT,
            dtype=self.dtype,
        )
        trunk = Inception(
            parts, self.width_factor, self.stage_blocks, self.strides, name="backbone"
        )
        x = window_mean(trunk(inputs["video"], train=train), self.head_pool)  # (N, T', H', W', D)
        features = global_mean(x)
        # A linear head may come after the mean; what is dropped is dropped place by place before it.
        x = global_mean(nn.Dropout(self.head_dropout)(x, deterministic=not train))
        logits = Dense(self.num_classes, kernel_init=INIT, name="head")(x)
        return {"logits": logits, "features": features}


MODULE = S3D


def build(num_classes: int, *, variant: str = "S3D", **overrides) -> S3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return S3D(num_classes, **(lookup.variant("s3d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "S3D") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip: 64 frames, as in the paper's training."""
    frames, size = (8, 32) if variant == "test" else (64, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
