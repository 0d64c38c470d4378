"""CNN-Mamba: a ResNet's features of every frame, read by selective state-space blocks.

Mamba (Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces) over a
ResNet (He et al. 2016) and a projection of its features.

    model = jaxvid.create_model("cnn_mamba", variant="18", num_classes=2)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 2)

It expects pixels normalised with ImageNet's mean and standard deviation; ImageNet's ResNets start
it. Any number of frames.

A course's table on RWF-2000 lists such a model with 16.4M parameters; its code is not published. Here
are ResNet-18, the projection 512 -> 512 that the other models of that table have, and three blocks
with Mamba's own sizes (16 states, convolution over 4 steps, expansion 2): 16.53M with two classes,
which is the closest of the plain choices (16.26M without the projection, 14.83M with two blocks). Three
blocks of Mamba-2 with 64 states would be 16.40M, so it may have been those.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.linear import Dense
from jaxvid.nn.mlp_head import TORCH_LINEAR
from jaxvid.nn.resnet import DEPTHS, SMALL, frame_features, resnet_of
from jaxvid.nn.ssm import Mamba

VARIANTS = {
    "test": SMALL | {"projection_width": 64, "num_layers": 2},
    "18": DEPTHS[18],
    "34": DEPTHS[34],
    "50": DEPTHS[50],
}
POOLS = ("mean", "last")


class CnnMamba(nn.Module):
    """The classifier. Its fields up to bn_epsilon, and dtype, are those of jaxvid.nn.resnet.ResNet.

    projection_width: of the blocks (Mamba's d_model). num_layers: of them. d_state, d_conv, expand,
    bidirectional (a second scan, from the last frame to the first): see jaxvid.nn.ssm.Mixer. pool:
    "mean" of the tokens of all frames, or the "last" one, which has seen the whole clip. freeze_cnn:
    the ResNet gets no gradient and its norms keep their statistics, in training too; projection, blocks
    and head learn all the same.
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
    num_layers: int = 3
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    bidirectional: bool = False
    pool: str = "mean"
    drop_path_rate: float = 0.0
    head_dropout: float = 0.0
    freeze_cnn: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def frozen_paths(self) -> tuple[str, ...]:
        """Parameters that training leaves alone, weight decay included."""
        return ("^backbone/",) if self.freeze_cnn else ()

    def setup(self):
        if self.pool not in POOLS:
            raise unknown("pool", self.pool, POOLS)
        self.backbone = resnet_of(self, frozen_bn=self.frozen_bn or self.freeze_cnn)
        self.projection = Dense(self.projection_width, dtype=self.dtype, kernel_init=TORCH_LINEAR)
        self.mamba = Mamba(
            self.num_layers,
            self.d_state,
            self.d_conv,
            self.expand,
            bidirectional=self.bidirectional,
            drop_path_rate=self.drop_path_rate,
            dtype=self.dtype,
        )
        self.dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=TORCH_LINEAR)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), tokens float32 (N, T, D), one a
        frame, normalised; D = projection_width. Raises ValueError for other channels and for frames
        smaller than the strides.
        """
        video = inputs["video"]
        check_clip(video, channels=self.channels, size=self.backbone.stride)
        pooled = frame_features(self.backbone, video, train=train)
        if self.freeze_cnn:
            pooled = jax.lax.stop_gradient(pooled)
        tokens = self.mamba(self.projection(pooled), train=train)
        features = jnp.mean(tokens, axis=1) if self.pool == "mean" else tokens[:, -1]
        logits = self.head(self.dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = CnnMamba


def build(num_classes: int, *, variant: str = "18", **overrides) -> CnnMamba:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    fields = lookup.variant("cnn_mamba", VARIANTS, variant)
    return CnnMamba(num_classes, **(fields | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
