"""R3D: a ResNet whose every convolution is 3×3×3, over space and time alike.

Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions for Action Recognition (CVPR),
section 3.4; as torchvision has it: stages 2 to 4 halve time and space, no pooling in the stem.
33,371,472 parameters for 400 classes at depth 18.

    model = jaxvid.create_model("r3d", variant="18", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 112, 112, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with torchvision's mean (0.43216, 0.394666, 0.37645) and standard
deviation (0.22803, 0.22145, 0.216989), 15 frames a second. Any number of frames from 8 on, of any
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
        "temporal_strides": (1, 2, 2),
        "spatial_strides": (1, 2, 2),
    },
    "18": {"stage_sizes": DEPTHS[18]},
    "34": {"stage_sizes": DEPTHS[34]},
}


class R3D(nn.Module):
    """The classifier.

    stage_sizes: blocks of each stage. width: channels of the stem and of stage 1, doubled from stage
    to stage. temporal_strides, spatial_strides: of each stage; the stem halves height and width
    before. stem_pool: halves them once more, as in a ResNet of images, whose weights then fit.
    frozen_bn: running statistics in training too, for fine-tuning with small batches. bn_momentum:
    what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[18]
    width: int = 64
    temporal_strides: Sequence[int] = (1, 2, 2, 2)
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
    stem_pool: bool = False
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
            repeat(depth, basic, self.width * 2**i, strides=(time, space, space))
            for i, depth, time, space in per_stage(self, "temporal_strides", "spatial_strides")
        ]
        stem = Layer(self.width, (3, 7, 7), (1, 2, 2))
        backbone = backbone_of(self, stem, stages, stem_pool=self.stem_pool)
        return classify(self, backbone, inputs["video"], train=train)


MODULE = R3D


def build(num_classes: int, *, variant: str = "18", **overrides) -> R3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return R3D(num_classes, **(lookup.variant("r3d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 112)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
