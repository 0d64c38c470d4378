"""Two-stream networks: one ResNet sees frames, another the optical flow around them.

Simonyan and Zisserman 2014, Two-Stream Convolutional Networks for Action Recognition in Videos: the
streams, flow stacks of L displacement fields, fusion by average. Wang et al. 2016, Temporal Segment
Networks: several stacks along the clip, their class scores averaged; a temporal stream that starts
from ImageNet. Feichtenhofer et al. 2016, Convolutional Two-Stream Network Fusion, sections 3.2 to 3.4:
fusion by a 3D convolution.

    model = jaxvid.create_model("two_stream", variant="50", num_classes=400)
    inputs = {"video": x, "flow": f}  # float (N, 10, 224, 224, 3) and (N, 10, 224, 224, 2)
    variables = model.init(rng, inputs, train=False)
    logits = model.apply(variables, inputs, train=False)["logits"]  # (N, 400)

It expects pixels normalised with ImageNet's mean and standard deviation, and flow in pixels from a
frame to the next, cut off at ±20 and divided by 20 (data.flow of a recipe makes it). T frames of flow
are T // flow_stack stacks, from the middle of the clip where frames are left over; of each stack the
frame in its middle goes through the spatial stream.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.conv import HE_FAN_OUT, Conv
from jaxvid.nn.flow_inputs import video_and_flow
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean
from jaxvid.nn.resnet import DEPTHS, SMALL, resnet_of

VARIANTS = {
    # conv3d, which also sees what changes from stack to stack: between small frames flow is coarse.
    "test": {
        **SMALL,
        "flow_stack": 4,
        "fusion": "conv3d",
        "fusion_width": 64,
        "head_dropout": 0.0,
    },
    **{str(depth): dict(sizes) for depth, sizes in DEPTHS.items()},
}
FUSIONS = ("average", "learned", "conv3d")
HEAD_INIT = nn.initializers.normal(0.01)
SPATIAL_SHARE = 0.25  # of a fused map at the start, as in the authors' repository


class TwoStream(nn.Module):
    """The classifier.

    fusion: "average" of both streams' class probabilities: "logits" is the logarithm of that mean, so
    that its softmax and a cross-entropy are those of the average; "learned", one linear layer on
    both streams' features; "conv3d", the streams' last maps through a 3×3×3 convolution over the
    stacks to fusion_width channels, the maximum over time and the mean over space; the temporal stream
    ends there (table 2's form with fewer parameters).
    flow_stack: L, the fields of flow in a stack. subtract_mean_flow: each field without its mean
    vector, against a moving camera (Simonyan and Zisserman, section 3.1). The fields from stage_sizes
    to bn_epsilon are those of nn/resnet.py, for both streams.
    """

    num_classes: int
    fusion: str = "average"
    fusion_width: int = 512
    flow_stack: int = 10
    subtract_mean_flow: bool = False
    channels: int = 3
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    head_dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        if self.fusion not in FUSIONS:
            raise unknown("fusion", self.fusion, FUSIONS)
        self.spatial, self.temporal = resnet_of(self), resnet_of(self)
        self.feature_dropout = nn.Dropout(self.head_dropout)
        if self.fusion == "average":
            self.spatial_head, self.temporal_head = self._head(), self._head()
            return
        self.head = self._head()
        if self.fusion == "conv3d":
            self.fuse = Conv(
                self.fusion_width,
                (3, 3, 3),
                use_bias=True,
                dtype=self.dtype,
                kernel_init=smoothed_sum,
            )

    def _head(self) -> Dense:
        return Dense(self.num_classes, kernel_init=HEAD_INIT)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"] float (N, T, H, W, C) and ["flow"] float (N, T, H, W, 2), T >= flow_stack.

        -> logits float32 (N, num_classes); features float32 (N, D), D of both streams together, or
        of the fused map; with fusion "average" also spatial_logits and temporal_logits. Raises
        ValueError for inputs that do not fit.
        """
        size = self.spatial.stride
        video, flow = video_and_flow(
            inputs, channels=self.channels, frames=self.flow_stack, size=size
        )
        if self.subtract_mean_flow:
            flow = flow - jnp.mean(flow, axis=(2, 3), keepdims=True)
        frames = middle_frames(video, self.flow_stack)
        spatial = _along_time(self.spatial, frames, train=train)
        temporal = _along_time(self.temporal, flow_stacks(flow, self.flow_stack), train=train)
        if self.fusion == "conv3d":
            both = jnp.concatenate([spatial, temporal], axis=-1)
            fused = nn.relu(self.fuse(both))  # (N, S, h, w, D)
            features = global_mean(jnp.max(fused, axis=1))
            return {"logits": self.head(self._dropped(features, train)), "features": features}
        spatial, temporal = global_mean(spatial), global_mean(temporal)  # (N, D) each
        features = jnp.concatenate([spatial, temporal], axis=-1)
        if self.fusion == "learned":
            return {"logits": self.head(self._dropped(features, train)), "features": features}
        spatial_logits = self.spatial_head(self._dropped(spatial, train))
        temporal_logits = self.temporal_head(self._dropped(temporal, train))
        return {
            "logits": log_mean_probabilities(spatial_logits, temporal_logits),
            "features": features,
            "spatial_logits": spatial_logits,
            "temporal_logits": temporal_logits,
        }

    def _dropped(self, features: jax.Array, train: bool) -> jax.Array:
        return self.feature_dropout(features, deterministic=not train)


def log_mean_probabilities(one: jax.Array, other: jax.Array) -> jax.Array:
    """Two logits (N, K) -> log of the mean of their softmax (N, K), itself logits of that mean."""
    return jnp.logaddexp(jax.nn.log_softmax(one), jax.nn.log_softmax(other)) - np.log(2.0)


def flow_stacks(flow: jax.Array, length: int) -> jax.Array:
    """(N, T, H, W, 2) -> (N, T // length, H, W, 2·length), channels right, down, right, down, …"""
    n, frames, height, width, _ = flow.shape
    first, count = _placed(frames, length)
    used = flow[:, first : first + count * length]
    used = used.reshape(n, count, length, height, width, 2)
    used = jnp.moveaxis(used, 2, 4)  # (N, S, L, H, W, 2) -> (N, S, H, W, L, 2)
    return used.reshape(n, count, height, width, 2 * length)


def middle_frames(video: jax.Array, length: int) -> jax.Array:
    """(N, T, H, W, C) -> (N, T // length, H, W, C): the frame in the middle of each stack of flow."""
    first, count = _placed(video.shape[1], length)
    return video[:, first + length // 2 :: length][:, :count]


def _placed(frames: int, length: int) -> tuple[int, int]:
    """(first frame, number of stacks): the stacks lie in the middle of the clip."""
    count = frames // length
    return (frames - count * length) // 2, count


def _along_time(backbone: nn.Module, stacks: jax.Array, *, train: bool) -> jax.Array:
    """(N, S, H, W, C) -> the maps (N, S, h, w, D)"""
    flat = stacks.reshape(-1, *stacks.shape[2:])  # (N·S, H, W, C)
    maps = backbone(flat, train=train)
    return maps.reshape(*stacks.shape[:2], *maps.shape[1:])


def smoothed_sum(rng: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """The start of a fusing kernel (3, 3, 3, 2·D, O).

    With O = D a weighted sum of the two streams' channels, smeared over its neighbourhood by a
    Gaussian of deviation 1 (the authors' repository). Otherwise there is no such sum, and it is noise
    (as Carreira and Zisserman 2017 have it for theirs).
    """
    if shape[-2] != 2 * shape[-1]:
        return HE_FAN_OUT(rng, shape, dtype)
    places = np.indices(shape[:3]).reshape(3, -1) - 1
    smooth = np.exp(-0.5 * (places**2).sum(axis=0))
    smooth = (smooth / smooth.sum()).reshape(*shape[:3], 1, 1)
    identity = np.eye(shape[-1])
    both = np.concatenate([SPATIAL_SHARE * identity, (1 - SPATIAL_SHARE) * identity])
    return jnp.asarray(smooth * both, dtype)


MODULE = TwoStream


def build(num_classes: int, *, variant: str = "50", **overrides) -> TwoStream:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return TwoStream(num_classes, **(lookup.variant("two_stream", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "50") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip: a stack of 10 fields, as in the first paper."""
    frames, size = (8, 32) if variant == "test" else (10, 224)
    return {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32),
        "flow": jax.ShapeDtypeStruct((1, frames, size, size, 2), jnp.float32),
    }
