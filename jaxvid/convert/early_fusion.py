"""Early fusion: no published weights of its own; ImageNet's ResNets start it, the kernel of their
first convolution repeated over the frames."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxvid.convert import inflate
from jaxvid.convert.resnet import transfer
from jaxvid.convert.source import Clip

HEAD = ("head/{leaf:.+}",)
SOURCES = {}
TRANSFERS = {"resnet": transfer("projection", "fc", "head", adapt=inflate.adapt)}


def example_inputs(arguments: Mapping[str, Any], clip: Clip) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of one clip, as long as the model wants it whatever the checkpoint was made for."""
    shape = (1, arguments["num_frames"], *clip[1:])
    return {"video": jax.ShapeDtypeStruct(shape, jnp.float32)}
