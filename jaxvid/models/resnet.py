"""ResNet: an image classifier on every frame, its logits averaged over the clip.

He et al. 2016, Deep Residual Learning for Image Recognition (CVPR). ImageNet's weights fit it, and
start the models that have a ResNet as their `backbone` (single_frame, late_fusion, early_fusion,
cnn_lstm, …).

    model = jaxvid.create_model("resnet", variant="18", num_classes=1000)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, T, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 1000)

It expects pixels normalised with ImageNet's mean and standard deviation. Any number of frames; it
does not see their order.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.linear import Dense
from jaxvid.nn.mlp_head import TORCH_LINEAR
from jaxvid.nn.resnet import DEPTHS, SMALL, frame_features, resnet_of

VARIANTS = {"test": SMALL} | {str(depth): fields for depth, fields in DEPTHS.items()}


class FrameResNet(nn.Module):
    """The classifier. Its fields up to bn_epsilon, and dtype, are those of jaxvid.nn.resnet.ResNet.

    frozen_bn: running statistics in training too. bn_momentum: what stays of them at a step.
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
    head_dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.backbone = resnet_of(self)
        self.dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=TORCH_LINEAR)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), averages over the frames.
        Raises ValueError for other channels and for frames smaller than the strides.
        """
        video = inputs["video"]
        check_clip(video, channels=self.channels, size=self.backbone.stride)
        pooled = frame_features(self.backbone, video, train=train)
        logits = self.head(self.dropout(pooled, deterministic=not train))
        return {"logits": jnp.mean(logits, axis=1), "features": jnp.mean(pooled, axis=1)}


MODULE = FrameResNet


def build(num_classes: int, *, variant: str = "18", **overrides) -> FrameResNet:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return FrameResNet(num_classes, **(lookup.variant("resnet", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for: one image, a short clip for "test"."""
    frames, size = (8, 32) if variant == "test" else (1, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
