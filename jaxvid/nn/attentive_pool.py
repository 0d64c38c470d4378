"""Attentive pooling: a few blocks over the tokens, then one learned query that looks at all of them.

Bardes et al. 2024, V-JEPA (Revisiting Feature Prediction for Learning Visual Representations from
Video), section 4.3, where it probes a frozen encoder; with blocks before it as in V-JEPA 2 (Assran et
al. 2025, section 4).

    tokens = block(tokens)                              depth times
    x = query_token + attention(query_token, norm1(tokens))     no layer out of the heads
    x = x + mlp(norm2(x))

Parameters: query_token (D,); layer_0, … as nn/transformer.py's Block, by another name since blocks
count as the encoder's where rates decay from layer to layer; cross {norm1, attention {query, key,
value}, norm2, mlp {fc1, fc2}}.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.cross_attention import CrossAttention
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.rows import keep_rows
from jaxvid.nn.transformer import Block, Mlp

INIT_STD = 0.02


class AttentivePool(nn.Module):
    """depth: blocks before the query. remat: activations inside a block are computed again for the
    gradient. The last layers of a block's branches start smaller by the root of its number from 1."""

    num_heads: int
    depth: int = 3
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool) -> jax.Array:
        """(N, L, D) -> (N, D) in `dtype`."""
        x = tokens.astype(self.dtype)
        for i in range(self.depth):
            layer = Block(
                self.num_heads,
                self.mlp_ratio,
                norm_eps=self.norm_eps,
                dtype=self.dtype,
                kernel_init=_normal(1),
                out_init=_normal(i + 1),
                name=f"layer_{i}",
            )

            def run(layer, x):
                return keep_rows(layer(keep_rows(x), train=train))

            x = (nn.remat(run) if self.remat else run)(layer, x)
        query = self.param("query_token", _normal(1), x.shape[-1:], jnp.float32)
        query = jnp.broadcast_to(query.astype(self.dtype), (len(x), 1, x.shape[-1]))
        cross = _CrossBlock(
            self.num_heads, self.mlp_ratio, self.norm_eps, self.dtype, self.depth, name="cross"
        )
        return cross(query, x, train=train)[:, 0]


class _CrossBlock(nn.Module):
    """depth: the number of blocks before this one."""

    num_heads: int
    mlp_ratio: float
    norm_eps: float
    dtype: jnp.dtype
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, *, train: bool) -> jax.Array:
        """x (N, L, D) looks at memory (N, S, D) -> (N, L, D)"""
        attention = CrossAttention(
            self.num_heads,
            dtype=self.dtype,
            kernel_init=_normal(1),
            project=False,
            name="attention",
        )
        x = x + attention(x, LayerNorm(self.norm_eps, self.dtype, name="norm1")(memory))
        mlp = Mlp(
            round(x.shape[-1] * self.mlp_ratio),
            dtype=self.dtype,
            kernel_init=_normal(1),
            out_init=_normal(self.depth + 1),
            name="mlp",
        )
        return x + mlp(LayerNorm(self.norm_eps, self.dtype, name="norm2")(x), train=train)


def _normal(number: int) -> nn.initializers.Initializer:
    return nn.initializers.normal(INIT_STD / math.sqrt(number))
