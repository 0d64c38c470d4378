"""Attention of some tokens to others: queries of one sequence, keys and values of another.

Parameters as of nn/transformer.py's Attention: query, key, value {kernel (I, H, D)[, bias (H, D)]},
out {kernel (H, D, I), bias}, the last unless `project` is off.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.linear import HeadMerge, HeadSplit, Initializer


class CrossAttention(nn.Module):
    """qkv_bias: whether the three projections have one. project: whether a layer out of the heads
    follows. Raises ValueError when num_heads does not divide the width."""

    num_heads: int
    qkv_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    qkv_init: Initializer | None = None  # kernel_init when None
    project: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array) -> jax.Array:
        """x (N, L, I) looks at memory (N, S, J) -> (N, L, I) in `dtype`."""
        width = x.shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"width {width} is not a multiple of num_heads={self.num_heads}; "
                "choose another number of heads"
            )
        query, key, value = (
            HeadSplit(
                self.num_heads,
                width // self.num_heads,
                self.qkv_bias,
                self.dtype,
                self.qkv_init or self.kernel_init,
                name=name,
            )(source)
            for name, source in (("query", x), ("key", memory), ("value", memory))
        )
        y = dot_product_attention(query, key, value)
        if not self.project:
            return y.reshape(*x.shape)  # (N, L, H, D) -> (N, L, I)
        return HeadMerge(width, self.dtype, self.kernel_init, name="out")(y)
