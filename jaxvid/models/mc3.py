"""MC3, mixed convolutions: 3×3×3 in the stem and in stage 1, 1×3×3 after them.

Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions for Action Recognition (CVPR),
section 3.5; as torchvision has it: time is never strided. 11,695,440 parameters for 400 classes.

    model = jaxvid.create_model("mc3", variant="18", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 112, 112, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with torchvision's mean (0.43216, 0.394666, 0.37645) and standard
deviation (0.22803, 0.22145, 0.216989), 15 frames a second. Any number of frames from 3 on, of any
size from 16 on.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.resnet3d import DEPTHS, Layer, backbone_of, basic, classify, per_stage, repeat

VARIANTS = {
    "test": {
        "stage_sizes": (1, 1, 1),
        "width": 16,
        "temporal_kernels": (3, 3, 1),
        "spatial_strides": (1, 2, 2),
    },
    "18": {},
}


class MC3(nn.Module):
    """The classifier.

    stage_sizes: blocks of each stage. width: channels of the stem and of stage 1, doubled from stage
    to stage. temporal_kernels: frames that the convolutions of each stage cover. spatial_strides: of
    each stage; the stem halves height and width before.
    frozen_bn: running statistics in training too, for fine-tuning with small batches. bn_momentum:
    what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[18]
    width: int = 64
    temporal_kernels: Sequence[int] = (3, 1, 1, 1)
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
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
                depth, basic, self.width * 2**i, kernel_size=(time, 3, 3), strides=(1, space, space)
            )
            for i, depth, time, space in per_stage(self, "temporal_kernels", "spatial_strides")
        ]
        backbone = backbone_of(self, Layer(self.width, (3, 7, 7), (1, 2, 2)), stages)
        return classify(self, backbone, inputs["video"], train=train)


MODULE = MC3


def build(num_classes: int, *, variant: str = "18", **overrides) -> MC3:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return MC3(num_classes, **(lookup.variant("mc3", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 112)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
