"""ir-CSN: channel-separated convolutions, 1×1×1 between channels and depthwise 3×3×3 in each.

Tran et al. 2019, Video Classification with Channel-Separated Convolutional Networks (ICCV), section
3.3 ("interaction-reduced"); as PyTorchVideo has it. 22,213,776 parameters for 400 classes at depth
101.

    model = jaxvid.create_model("csn", variant="101", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 32, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel, every
second frame. Any number of frames from 8 on, of any size from 32 on.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.resnet3d import (
    DEPTHS,
    EXPANSION,
    Layer,
    backbone_of,
    bottleneck,
    classify,
    per_stage,
    repeat,
)

VARIANTS = {
    "test": {
        "stage_sizes": (1, 1, 1),
        "width": 16,
        "temporal_strides": (1, 2, 1),
        "spatial_strides": (1, 2, 1),
        "stem_pool": False,
    },
    "50": {"stage_sizes": DEPTHS[50], "head_pool": (4, 7, 7)},
    "101": {"stage_sizes": DEPTHS[101], "head_pool": (4, 7, 7)},
    "152": {"stage_sizes": DEPTHS[152], "head_pool": (4, 7, 7)},
}


class CSN(nn.Module):
    """The classifier.

    stage_sizes: blocks of each stage. width: channels of the stem, and inner ones of stage 1, doubled
    from stage to stage. temporal_strides, spatial_strides: of each stage; the stem halves height and
    width before, and again with stem_pool. head_pool: (t, h, w), the window that is averaged at every
    place, None for the whole map.
    frozen_bn: running statistics in training too, for fine-tuning with small batches. bn_momentum:
    what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[101]
    width: int = 64
    temporal_strides: Sequence[int] = (1, 2, 2, 2)
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
    stem_pool: bool = True
    head_pool: Sequence[int] | None = None
    channels: int = 3
    head_dropout: float = 0.0
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D). Raises ValueError for a clip
        of other channels, or shorter or smaller than the strides and kernels.
        """
        stages = [
            repeat(
                depth,
                bottleneck,
                self.width * 2**i,
                EXPANSION * self.width * 2**i,
                kernel_size=(3, 3, 3),
                groups=self.width * 2**i,
                strides=(time, space, space),
            )
            for i, depth, time, space in per_stage(self, "temporal_strides", "spatial_strides")
        ]
        stem = Layer(self.width, (3, 7, 7), (1, 2, 2))
        backbone = backbone_of(self, stem, stages, stem_pool=self.stem_pool, zero_last=True)
        return classify(self, backbone, inputs["video"], train=train)


MODULE = CSN


def build(num_classes: int, *, variant: str = "101", **overrides) -> CSN:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return CSN(num_classes, **(lookup.variant("csn", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "101") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (32, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
