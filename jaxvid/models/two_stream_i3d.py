"""Two-stream I3D: one inflated Inception sees the frames, another their optical flow.

Carreira and Zisserman 2017, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset
(section 2.4). The two of models/i3d.py, of which the paper trains each by itself; their logits are
added up, as in its published evaluation.

    model = jaxvid.create_model("two_stream_i3d", variant="full", num_classes=400)
    inputs = {"video": x, "flow": f}  # float (N, 64, 224, 224, 3) and (N, 64, 224, 224, 2)
    variables = model.init(rng, inputs, train=False)
    logits = model.apply(variables, inputs, train=False)["logits"]  # (N, 400)

It expects pixels scaled to [-1, 1] (mean and standard deviation 0.5), and flow in pixels from a
frame to the next, cut off at ±20 and divided by 20 (data.flow of a recipe makes it). 25 frames a
second, any number of them from 8 on, of any size from 32 on.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.models import i3d
from jaxvid.nn.flow_inputs import video_and_flow
from jaxvid.nn.inception import STAGE_BLOCKS, STRIDES, Triple, reach

VARIANTS = {"test": i3d.VARIANTS["test"], "full": {}}


class TwoStreamI3D(nn.Module):
    """The classifier. Its fields are those of models/i3d.py, for both streams; channels: of the
    frames."""

    num_classes: int
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

    def setup(self):
        shared = {name: getattr(self, name) for name in SHARED}
        self.rgb = i3d.I3D(**shared, stream="video", channels=self.channels)
        self.flow = i3d.I3D(**shared, stream="flow", channels=2)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels); inputs["flow"]: float (N, T, H, W, 2).

        -> logits float32 (N, num_classes), the sum of rgb_logits and flow_logits; features float32
        (N, 2·D), those of both streams. Raises ValueError for inputs that do not fit.
        """
        frames, size = reach(self.strides)
        video, flow = video_and_flow(inputs, channels=self.channels, frames=frames, size=size)
        rgb = self.rgb({"video": video}, train=train)
        moving = self.flow({"flow": flow}, train=train)
        return {
            "logits": rgb["logits"] + moving["logits"],
            "rgb_logits": rgb["logits"],
            "flow_logits": moving["logits"],
            "features": jnp.concatenate([rgb["features"], moving["features"]], axis=-1),
        }


SHARED = tuple(
    name for name in TwoStreamI3D.__dataclass_fields__ if name not in ("parent", "name", "channels")
)
MODULE = TwoStreamI3D


def build(num_classes: int, *, variant: str = "full", **overrides) -> TwoStreamI3D:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    row = lookup.variant("two_stream_i3d", VARIANTS, variant)
    return TwoStreamI3D(num_classes, **(row | overrides))


def example_inputs(variant: str = "full") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip: 64 frames, as in the paper's training."""
    frames, size = (8, 32) if variant == "test" else (64, 224)
    return {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32),
        "flow": jax.ShapeDtypeStruct((1, frames, size, size, 2), jnp.float32),
    }
