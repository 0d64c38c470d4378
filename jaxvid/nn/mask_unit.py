"""Attention inside mask units, and queries pooled by a maximum: the block of Hiera.

Ryali et al. 2023, Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles, section 3.

A map of tokens is cut into mask units, blocks of stride^times tokens, as many as `times` poolings make
one token of. Tokens travel unrolled, (N, W, U, C): W units in raster order, and of each its U tokens in
such an order that the tokens of one pooling lie U / p apart, p the product of the stride. Attention in
units and pooling are reshapes then; only `unroll` and `reroll` move anything.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.drop import DropPath
from jaxvid.nn.linear import Dense, HeadMerge, HeadSplit
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Mlp

# The published start: small numbers in all linear layers, their biases and those of norms not zero.
START = {
    "kernel_init": nn.initializers.normal(0.02),
    "bias_init": nn.initializers.constant(0.02),
}


def unroll(x: jax.Array, stride: Sequence[int], times: int) -> jax.Array:
    """(N, t, h, w, C) -> (N, W, U, C), W of them t·h·w / U and U the product of stride^times.

    Every axis must be a multiple of its stride^times.
    """
    n, *grid, width = x.shape
    units = [size // s**times for size, s in zip(grid, stride, strict=True)]
    digits = [(unit, *[s] * times) for unit, s in zip(units, stride, strict=True)]
    x = x.reshape(n, *(size for axis in digits for size in axis), width)
    x = x.transpose(_order(times))
    return x.reshape(n, math.prod(units), math.prod(stride) ** times, width)


def reroll(x: jax.Array, grid: Sequence[int], stride: Sequence[int], times: int) -> jax.Array:
    """(N, W, U, C) of a map `grid` -> (N, t, h, w, C), the way back from `unroll`.

    times: the poolings that are still to come, of which U is made.
    """
    n, width = x.shape[0], x.shape[-1]
    units = [size // s**times for size, s in zip(grid, stride, strict=True)]
    x = x.reshape(n, *units, *list(stride) * times, width)
    order = _order(times)
    x = x.transpose([order.index(i) for i in range(len(order))])
    return x.reshape(n, *grid, width)


def _order(times: int) -> list[int]:
    """From (N, an axis's unit and its digits, highest first, for t, h, w, C) to (N, all units, all
    lowest digits, …, all highest, C): the first pooling joins the nearest, which differ in the
    lowest."""
    places = [0, *range(times, 0, -1)]
    inner = [1 + axis * (times + 1) + place for place in places for axis in range(3)]
    return [0, *inner, 1 + 3 * (times + 1)]


def pooled(x: jax.Array, tokens: int) -> jax.Array:
    """(N, W, U, …) -> (N, W, U / tokens, …), the maximum of every `tokens` that lie together."""
    if tokens == 1:
        return x
    n, units, size, *rest = x.shape
    return jnp.max(x.reshape(n, units, tokens, size // tokens, *rest), axis=2)


class MaskUnitAttention(nn.Module):
    """Multi-head attention of unrolled tokens, inside each mask unit or, unless `inside`, of all to
    all.

    features: width of the output, a multiple of num_heads. pool: how many queries become one. dropout
    acts on the output.
    """

    num_heads: int
    features: int
    pool: int = 1
    inside: bool = True
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, W, U, C) -> (N, W, U / pool, features) in `dtype`."""
        n, units, size = x.shape[:3]
        heads = (self.num_heads, self.features // self.num_heads)
        query, key, value = (
            HeadSplit(*heads, dtype=self.dtype, **START, name=name)(x)  # (N, W, U, H, D)
            for name in ("query", "key", "value")
        )
        query = pooled(query, self.pool)
        rows = n * units if self.inside else n
        y = dot_product_attention(*(a.reshape(rows, -1, *heads) for a in (query, key, value)))
        y = y.reshape(n, units, size // self.pool, *heads)
        y = HeadMerge(self.features, dtype=self.dtype, **START, name="out")(y)
        return nn.Dropout(self.dropout, deterministic=not train)(y)


class MaskUnitBlock(nn.Module):
    """One pre-norm block: attention, then an MLP.

    What attention is added to is pooled as the queries are and, where the width changes, a
    projection of the normalised input. The fields are those of `MaskUnitAttention`.
    """

    num_heads: int
    features: int
    pool: int = 1
    inside: bool = True
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: float = 0.0, *, train: bool) -> jax.Array:
        """(N, W, U, C) -> (N, W, U / pool, features); drop_path: the rate of stochastic depth here."""
        how = {"dtype": self.dtype, **START}
        attention = MaskUnitAttention(
            self.num_heads,
            self.features,
            self.pool,
            self.inside,
            self.dropout,
            self.dtype,
            name="attention",
        )
        mlp = Mlp(int(self.features * self.mlp_ratio), dropout=self.dropout, **how, name="mlp")
        x = x.astype(self.dtype)
        normed = self._norm("norm1")(x)
        if x.shape[-1] != self.features:
            x = Dense(self.features, **how, name="projection")(normed)
        y = attention(normed, train=train)
        x = pooled(x, self.pool) + DropPath(name="drop_path1")(y, drop_path, train=train)
        y = mlp(self._norm("norm2")(x), train=train)
        return x + DropPath(name="drop_path2")(y, drop_path, train=train)

    def _norm(self, name: str) -> LayerNorm:
        return LayerNorm(self.norm_eps, self.dtype, START["bias_init"], name=name)
