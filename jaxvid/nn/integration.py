"""The frames of a clip made into one feature of it by a small transformer over time.

X-CLIP's multi-frame integration transformer (Ni et al. 2022, section 3.2), which is also the temporal
transformer of CLIP4Clip (Luo et al. 2021, section 3.3, seqTransf) and ActionCLIP (Wang et al. 2021).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.activation import Activation, quick_gelu
from jaxvid.nn.clip_towers import clip_init, table
from jaxvid.nn.transformer import Block, Stack


class Integration(nn.Module):
    """Multi-frame integration: position_embedding (T, I), a normal of position_std or of 0.02 (None),
    blocks, a residual past all of it, the mean."""

    depth: int
    num_heads: int
    mlp_ratio: float
    norm_eps: float
    position_std: float | None
    dtype: jnp.dtype
    remat: bool
    scan_layers: bool
    activation: Activation = quick_gelu

    @nn.compact
    def __call__(self, frames: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, I) -> float32 (N, I). Raises ValueError for frames it has no position for."""
        width, start = frames.shape[-1], nn.initializers.normal(0.02)
        if self.position_std is not None:
            start = nn.initializers.normal(self.position_std)
        places = table(self, "position_embedding", frames.shape[1:], start, "number of frames")

        def block(name: str) -> Block:
            return Block(
                self.num_heads,
                self.mlp_ratio,
                norm_eps=self.norm_eps,
                activation=self.activation,
                dtype=self.dtype,
                kernel_init=clip_init(width, self.depth),
                qkv_init=nn.initializers.normal(width**-0.5),
                name=name,
            )

        stack = Stack(block, self.depth, 0.0, self.remat, self.scan_layers)
        nn.share_scope(self, stack)
        x = stack((frames + places).astype(self.dtype), train=train)
        return jnp.mean(x.astype(jnp.float32) + frames.astype(jnp.float32), axis=1)
