"""R(2+1)D: every 3D convolution as one over space and one over time, with a ReLU between.

Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions for Action Recognition (CVPR),
section 3.5. "18" is torchvision's: basic blocks, space before time, as many channels between the
two as keep the parameters of a 3D convolution. "50" is PyTorchVideo's: bottlenecks, time before
space, no more channels between. 31,505,325 and 28,107,600 parameters for 400 classes.

    model = jaxvid.create_model("r2plus1d", variant="18", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 112, 112, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

"18" expects pixels normalised with torchvision's mean (0.43216, 0.394666, 0.37645) and standard
deviation (0.22803, 0.22145, 0.216989), 15 frames a second; any number of frames from 8 on, of any
size from 16 on. "50" expects mean 0.45 and standard deviation 0.225 in every channel, every fourth
frame; from 4 frames and from 32 pixels on. The published model of "50" returns softmax
probabilities; logits are logits here.
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
    basic,
    bottleneck,
    classify,
    per_stage,
    repeat,
)

VARIANTS = {
    "test": {
        "stage_sizes": (1, 1, 1),
        "width": 16,
        "temporal_strides": (1, 2, 2),
        "spatial_strides": (1, 2, 2),
        "stem_between": 12,
    },
    "18": {},
    "50": {
        "stage_sizes": DEPTHS[50],
        "bottleneck": True,
        "temporal_strides": (1, 1, 2, 2),
        "spatial_strides": (2, 2, 2, 2),
        "head_pool": (4, 7, 7),
        "head_dropout": 0.5,
    },
}
CLIPS = {"test": (8, 32), "18": (16, 112), "50": (16, 224)}


def between(inputs: int, outputs: int) -> int:
    """Channels between space and time that give a pair as many parameters as a 3×3×3 convolution."""
    return inputs * outputs * 27 // (inputs * 9 + 3 * outputs)


class R2Plus1D(nn.Module):
    """The classifier.

    bottleneck: False is "18" of the file's description, True is "50". stage_sizes: blocks of each
    stage. width: channels of the stem, and inner ones of stage 1, doubled from stage to stage.
    temporal_strides, spatial_strides: of each stage; the stem halves height and width before.
    stem_between: channels between space and time in the stem of "18"; that of "50" sees single
    frames. head_pool: (t, h, w), the window that is averaged at every place, None for the whole map.
    frozen_bn: running statistics in training too, for fine-tuning with small batches. bn_momentum:
    what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[18]
    bottleneck: bool = False
    width: int = 64
    temporal_strides: Sequence[int] = (1, 2, 2, 2)
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
    stem_between: int = 45
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
        if self.bottleneck:
            stem = Layer(self.width, (1, 7, 7), (1, 2, 2))
        else:
            stem = Layer(self.width, (3, 7, 7), (1, 2, 2), 1, "space", self.stem_between)
        strides = per_stage(self, "temporal_strides", "spatial_strides")
        stages = [self._stage(i, depth, (time, space, space)) for i, depth, time, space in strides]
        backbone = backbone_of(self, stem, stages, zero_last=self.bottleneck)
        return classify(self, backbone, inputs["video"], train=train)

    def _stage(self, i: int, depth: int, strides: tuple[int, int, int]) -> tuple:
        width = self.width * 2**i
        if self.bottleneck:
            how = {"kernel_size": (3, 3, 3), "strides": strides, "factored": "time"}
            return repeat(depth, bottleneck, width, EXPANSION * width, **how)
        # Both convolutions of a block have the channels that its first one would get.
        inputs = [self.width * 2 ** max(i - 1, 0)] + [width] * (depth - 1)
        return tuple(
            basic(
                width,
                strides=strides if number == 0 else (1, 1, 1),
                factored="space",
                between=between(channels, width),
            )
            for number, channels in enumerate(inputs)
        )


MODULE = R2Plus1D


def build(num_classes: int, *, variant: str = "18", **overrides) -> R2Plus1D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return R2Plus1D(num_classes, **(lookup.variant("r2plus1d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS[variant]
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
