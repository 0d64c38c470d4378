"""CNN-LSTM: a ResNet's features of every frame, read by an LSTM whose last state is classified.

Donahue et al. 2015, Long-term Recurrent Convolutional Networks for Visual Recognition and
Description (CVPR), section 4, over a ResNet (He et al. 2016) and a projection of its features.

    model = jaxvid.create_model("cnn_lstm", variant="18", num_classes=2)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 2)

It expects pixels normalised with ImageNet's mean and standard deviation; ImageNet's ResNets start
it. Any number of frames.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.linear import Dense
from jaxvid.nn.lstm import LSTM
from jaxvid.nn.mlp_head import TORCH_LINEAR
from jaxvid.nn.resnet import DEPTHS, SMALL, frame_features, resnet_of

VARIANTS = {
    # A stage more: averaged over a map, features tell where a shape is only by the borders they see.
    "test": SMALL
    | {"stage_sizes": (1, 1, 1, 1), "width": 12}
    | {"projection_width": 64, "hidden_width": 64, "num_layers": 1},
    "18": DEPTHS[18],
    "34": DEPTHS[34],
    "50": DEPTHS[50],
}


class CnnLstm(nn.Module):
    """The classifier. Its fields up to bn_epsilon, and dtype, are those of jaxvid.nn.resnet.ResNet.

    hidden_width, num_layers, bidirectional, lstm_dropout (between layers): of the LSTM; with two
    directions the last states of both are classified. freeze_cnn: the ResNet gets no gradient and its
    norms keep their statistics, in training too; projection, LSTM and head learn all the same. (In
    the course whose table the README reproduces, the LSTM was frozen with the ResNet by mistake, and
    ended at 63.0: here that cannot be said.)
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
    hidden_width: int = 389
    num_layers: int = 3
    bidirectional: bool = False
    lstm_dropout: float = 0.0
    head_dropout: float = 0.0
    freeze_cnn: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def frozen_paths(self) -> tuple[str, ...]:
        """Parameters that training leaves alone, weight decay included."""
        return ("^backbone/",) if self.freeze_cnn else ()

    def setup(self):
        self.backbone = resnet_of(self, frozen_bn=self.frozen_bn or self.freeze_cnn)
        self.projection = Dense(self.projection_width, dtype=self.dtype, kernel_init=TORCH_LINEAR)
        self.lstm = LSTM(
            self.hidden_width, self.num_layers, self.bidirectional, self.lstm_dropout, self.dtype
        )
        self.dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=TORCH_LINEAR)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), the last layer's last state
        (D = hidden_width, or twice that: forward, backward), tokens (N, T, D), its outputs. Raises
        ValueError for other channels and for frames smaller than the strides.
        """
        video = inputs["video"]
        check_clip(video, channels=self.channels, size=self.backbone.stride)
        pooled = frame_features(self.backbone, video, train=train)
        if self.freeze_cnn:
            pooled = jax.lax.stop_gradient(pooled)
        tokens, (h_n, _) = self.lstm(self.projection(pooled), train=train)
        directions = 2 if self.bidirectional else 1
        features = jnp.concatenate(
            list(h_n[-directions:]), axis=-1
        )  # (D / hidden, N, hidden) -> (N, D)
        logits = self.head(self.dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = CnnLstm


def build(num_classes: int, *, variant: str = "18", **overrides) -> CnnLstm:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    fields = lookup.variant("cnn_lstm", VARIANTS, variant)
    return CnnLstm(num_classes, **(fields | overrides))


def example_inputs(variant: str = "18") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
