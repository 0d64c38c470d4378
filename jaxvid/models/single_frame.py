"""The single-frame classifier: a ResNet and a small perceptron on every frame, logits averaged.

Karpathy et al. 2014, Large-scale Video Classification with Convolutional Neural Networks (CVPR),
section 3.1, over a ResNet (He et al. 2016). The baseline that knows no motion at all.

    model = jaxvid.create_model("single_frame", variant="18", num_classes=2)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 2)

It expects pixels normalised with ImageNet's mean and standard deviation; ImageNet's ResNets start
it. Any number of frames; their order makes no difference.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.mlp_head import MlpHead
from jaxvid.nn.resnet import DEPTHS, SMALL, frame_features, resnet_of

VARIANTS = {
    "test": SMALL | {"projection_width": 64, "hidden_width": 32},
    "18": DEPTHS[18],
    "34": DEPTHS[34],
    "50": DEPTHS[50],
}


class SingleFrame(nn.Module):
    """The classifier. Its fields up to bn_epsilon, and dtype, are those of jaxvid.nn.resnet.ResNet.

    projection_width, hidden_width: of the two layers between pooled features and head.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    channels: int = 3
    projection_width: int = 512
    hidden_width: int = 128
    head_dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.backbone = resnet_of(self)
        self.mlp = MlpHead(
            self.num_classes, self.projection_width, self.hidden_width, self.head_dropout
        )
        nn.share_scope(self, self.mlp)  # head, not mlp/head

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, hidden_width), averages over the
        frames. Raises ValueError for other channels and for frames smaller than the strides.
        """
        video = inputs["video"]
        check_clip(video, channels=self.channels, size=self.backbone.stride)
        pooled = frame_features(self.backbone, video, train=train)
        logits, hidden = self.mlp(pooled, train=train)
        return {"logits": jnp.mean(logits, axis=1), "features": jnp.mean(hidden, axis=1)}


MODULE = SingleFrame


def build(num_classes: int, *, variant: str = "18", **overrides) -> SingleFrame:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    fields = lookup.variant("single_frame", VARIANTS, variant)
    return SingleFrame(num_classes, **(fields | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
