"""I3D: Inception-v1 with its windows inflated to three axes, for frames or for optical flow.

Carreira and Zisserman 2017, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset
(section 2.4, figure 3). Windows and pools are padded as TensorFlow's "SAME" does, from the input's
size.

    model = jaxvid.create_model("i3d", variant="rgb", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 64, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels scaled to [-1, 1] (mean and standard deviation 0.5), or, as variant "flow", optical
flow in pixels from a frame to the next, cut off at ±20 and divided by 20, as inputs["flow"]
(N, T, H, W, 2). 25 frames a second, any number of them from 8 on, of any size from 32 on. The paper's
two-stream model adds the logits of both: models/two_stream_i3d.py.
"""

import functools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.batch_norm import BatchNorm
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.inception import (
    STAGE_BLOCKS,
    STRIDES,
    Inception,
    Parts,
    Triple,
    reach,
)
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean, window_mean

VARIANTS = {
    "test": {
        "width_factor": 0.25,
        "stage_blocks": (1, 1, 0),
        "strides": ((2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 2, 2), (1, 1, 1)),
        "head_dropout": 0.0,
        "bn_momentum": 0.9,
    },
    "rgb": {},
    "flow": {"stream": "flow", "channels": 2},
}
STREAMS = ("video", "flow")
# Sonnet's, which the models without ImageNet were started with.
INIT = nn.initializers.lecun_normal()


class I3D(nn.Module):
    """The classifier.

    stream: which of the inputs it sees, "video" or "flow". head_pool: (t, h, w), the window averaged
    at every place of the last map, each average being classified; None, for an axis or for all: the
    whole of it. head_dropout: of the averages. width_factor, stage_blocks, strides: of
    nn/inception.py. bn_momentum: what stays of the running statistics at a step.
    """

    num_classes: int
    stream: str = "video"
    width_factor: float = 1.0
    stage_blocks: tuple[int, int, int] = STAGE_BLOCKS
    strides: tuple[Triple, ...] = STRIDES
    head_pool: Sequence[int | None] | None = (2, 7, 7)
    channels: int = 3
    head_dropout: float = 0.5
    frozen_bn: bool = False
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs[stream]: float (N, T, H, W, channels), normalised; flow may also come as "video".

        -> logits float32 (N, num_classes), the mean of logits_time (N, T', num_classes) over its
        times; features float32 (N, D). Raises ValueError when the clip has other channels, or less
        frames or pixels than the strides.
        """
        if self.stream not in STREAMS:
            raise unknown("stream", self.stream, STREAMS)
        name = self.stream if self.stream in inputs else "video"
        frames, size = reach(self.strides)
        check_clip(inputs[name], channels=self.channels, frames=frames, size=size, name=name)
        norm = functools.partial(
            BatchNorm,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
            frozen=self.frozen_bn,
            dtype=self.dtype,
        )
        trunk = Inception(
            Parts(norm, padding="SAME", kernel_init=INIT, dtype=self.dtype),
            self.width_factor,
            self.stage_blocks,
            self.strides,
            name="backbone",
        )
        x = window_mean(trunk(inputs[name], train=train), self.head_pool)  # (N, T', H', W', D)
        features = global_mean(x)
        x = nn.Dropout(self.head_dropout)(x, deterministic=not train)
        x = jnp.mean(x, axis=(2, 3))  # (N, T', D); a linear head may come after the mean
        logits = Dense(self.num_classes, kernel_init=INIT, name="head")(x)
        return {"logits": jnp.mean(logits, axis=1), "logits_time": logits, "features": features}


MODULE = I3D


def build(num_classes: int, *, variant: str = "rgb", **overrides) -> I3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return I3D(num_classes, **(lookup.variant("i3d", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "rgb") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip: 64 frames, as in the paper's training."""
    frames, size = (8, 32) if variant == "test" else (64, 224)
    name, channels = ("flow", 2) if variant == "flow" else ("video", 3)
    return {name: jax.ShapeDtypeStruct((1, frames, size, size, channels), jnp.float32)}
