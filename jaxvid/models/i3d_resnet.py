"""I3D on a ResNet: the ResNet of images inflated, 5×7×7 first and 3×1×1 in every other block.

Carreira and Zisserman 2017, Quo Vadis, Action Recognition? (CVPR), section 3, for the inflation;
Wang et al. 2018, Non-local Neural Networks (CVPR), section 4.1, for the ResNet; as PyTorchVideo has
it: a maximum over every two frames after stage 1. 28,043,472 parameters for 400 classes. (The
original, on Inception, is models/i3d.py.)

    model = jaxvid.create_model("i3d_resnet", variant="50", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 8, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel, every
eighth frame. Any number of frames from 5 on (an odd last one is left out by the maximum), of any
size from 32 on.
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
        "temporal_kernels": ((3,), (3,), (3,)),
        "spatial_strides": (1, 2, 1),
        "stem_pool": False,
        "head_dropout": 0.0,
    },
    "50": {"head_pool": (4, 7, 7)},
}


class I3DResNet(nn.Module):
    """The classifier.

    stage_sizes: blocks of each stage. width: channels of the stem, and inner ones of stage 1, doubled
    from stage to stage. temporal_kernels: for each stage the frames that the first convolutions of its
    blocks cover, in turn. spatial_strides: of each stage; the stem halves height and width before, and
    again with stem_pool. head_pool: (t, h, w), the window that is averaged at every place, None for
    the whole map.
    frozen_bn: running statistics in training too, for fine-tuning with small batches. bn_momentum:
    what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[50]
    width: int = 64
    temporal_kernels: Sequence[Sequence[int]] = ((3,), (3, 1), (3, 1), (1, 3))
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
    stem_pool: bool = True
    head_pool: Sequence[int] | None = None
    channels: int = 3
    head_dropout: float = 0.5
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
                temporal=temporal,
                strides=(1, space, space),
            )
            for i, depth, temporal, space in per_stage(self, "temporal_kernels", "spatial_strides")
        ]
        backbone = backbone_of(
            self,
            Layer(self.width, (5, 7, 7), (1, 2, 2)),
            stages,
            stem_pool=self.stem_pool,
            temporal_pool=True,
            zero_last=True,
        )
        return classify(self, backbone, inputs["video"], train=train)


MODULE = I3DResNet


def build(num_classes: int, *, variant: str = "50", **overrides) -> I3DResNet:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return I3DResNet(num_classes, **(lookup.variant("i3d_resnet", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "50") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (8, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
