"""Attention over pooled queries, keys and values: the block of multiscale vision transformers.

Fan et al. 2021, Multiscale Vision Transformers (MViT), section 3; Li et al. 2022, MViTv2: Improved
Multiscale Vision Transformers for Classification and Detection, section 4, for relative positions,
residual pooling and the projection inside the attention.

    queries, keys, values = linear(x), each pooled by a depthwise convolution over the map of tokens
    y = attention(queries, keys, values)[+ queries];  x = max_pool(x) + linear(y);  x = x + mlp(norm(x))

Tokens are (N, L, C): a class token, where there is one, then a map of t × h × w in raster order. The
class token stays out of all pooling. Maps are (t, h, w) everywhere, strides too.
"""

import dataclasses
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core.errors import unknown
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.conv import conv
from jaxvid.nn.drop import DropPath
from jaxvid.nn.embed import torch_uniform
from jaxvid.nn.linear import Dense, HeadMerge, HeadSplit, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.pool import max_pool
from jaxvid.nn.transformer import BIASED, Mlp

Grid = tuple[int, int, int]
ONE = (1, 1, 1)
NORMAL = nn.initializers.normal(0.02)
TABLES = tuple(f"relative_{axis}_position_embedding" for axis in ("time", "height", "width"))


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """What differs between the blocks of a model. inner: the width of the attention."""

    num_heads: int
    width: int
    inner: int
    features: int
    query_stride: Grid
    key_stride: Grid


def block_plans(
    *,
    width: int,
    num_heads: int,
    depth: int,
    stage_starts: Sequence[int],
    stage_stride: Sequence[int],
    key_stride: Sequence[int],
    project_in_attention: bool,
) -> tuple[BlockPlan, ...]:
    """The blocks of a model, in order.

    A block of stage_starts pools its queries by stage_stride and has twice the heads and the width of
    the one before: widened in its attention, or in the MLP before it. key_stride: of the first block;
    each stage divides it by stage_stride, so that keys keep one resolution. Raises ValueError.
    """
    starts = tuple(stage_starts)
    if list(starts) != sorted(set(starts) & set(range(1, depth))):
        raise ValueError(
            f"stage_starts={starts}: expected rising numbers of blocks in 1…{depth - 1}"
        )
    if any(s != 1 and s % 2 for s in stage_stride):
        raise ValueError(f"stage_stride={tuple(stage_stride)}: expected 1 or even numbers")
    if width % num_heads:
        raise ValueError(f"width {width} is not a multiple of num_heads={num_heads}")
    plans, keys = [], tuple(key_stride)
    for i in range(depth):
        if i in starts:
            keys = tuple(max(k // s, 1) for k, s in zip(keys, stage_stride, strict=True))
        before, here, after = (2 ** sum(s <= j for s in starts) for j in (i - 1, i, i + 1))
        widths = (before, here, here) if project_in_attention else (here, here, after)
        plans.append(
            BlockPlan(
                num_heads * here,
                *(width * times for times in widths),
                tuple(stage_stride) if i in starts else ONE,
                keys,
            )
        )
    return tuple(plans)


def pooled_grid(grid: Sequence[int], stride: Sequence[int]) -> Grid:
    """The map that remains after pooling with an odd kernel, padded by half of it."""
    return tuple(-(-n // s) for n, s in zip(grid, stride, strict=True))


# --- relative positions ---------------------------------------------------------------------------


def linear_weights(old: int, new: int) -> np.ndarray:
    """float32 (new, old): a table of `old` rows resized to `new` is this times the table.

    Linear interpolation between centres of cells, the ends held: torch's mode="linear" (or, once an
    axis, "bilinear" and "trilinear") with align_corners=False and no smoothing before shrinking.
    """
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(old))).astype(np.float32)


def relative_places(queries: int, keys: int) -> np.ndarray:
    """int (queries, keys): the row of a table of 2·max(queries, keys) - 1 for each pair on an axis.

    The shorter axis is stretched to the longer one; rounded as the reference does, down, in float32.
    """
    f32 = np.float32
    of_queries = np.arange(queries, dtype=f32) * f32(max(keys / queries, 1.0))
    of_keys = (np.arange(keys, dtype=f32) + f32(1 - keys)) * f32(max(queries / keys, 1.0))
    return (of_queries[:, None] - of_keys).astype(np.int64)


def relative_bias(
    queries: jax.Array, tables: Sequence[jax.Array], query_grid: Grid, key_grid: Grid
) -> jax.Array:
    """What relative positions add to the scores: (N, H, L, S) in the dtype of the queries.

    queries: (N, L, H, D), the map without a class token, L places of query_grid. tables: (rows, D) of
    time, height and width; a table of another number of rows than the maps need is resized. The
    bias of a pair is the query's product with the sum of the three rows of its distances.
    """
    n, _, heads, size = queries.shape
    q = queries.reshape(n, *query_grid, heads, size)
    parts = []
    for axis, table, nq, nk in zip("thw", tables, query_grid, key_grid, strict=True):
        rows = 2 * max(nq, nk) - 1
        if table.shape[0] != rows:
            table = jnp.asarray(linear_weights(table.shape[0], rows)) @ table
        each = table.astype(q.dtype)[relative_places(nq, nk)]  # (nq, nk, D)
        parts.append(jnp.einsum(f"nthwyd,{axis}kd->nythwk", q, each))
    in_time, in_height, in_width = parts
    bias = (
        in_time[..., :, None, None] + in_height[..., None, :, None] + in_width[..., None, None, :]
    )
    return bias.reshape(n, heads, math.prod(query_grid), math.prod(key_grid))


# --- modules --------------------------------------------------------------------------------------


class HeadPool(nn.Module):
    """A map of tokens pooled by a depthwise convolution that all heads share, then normalised.

    Parameters: kernel (*kernel_size, 1, D), norm {scale, bias} (D,), which also meets the class token.
    The start is PyTorch's for convolutions, as in the reference.
    """

    kernel_size: Sequence[int]
    strides: Sequence[int]
    norm_eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, grid: Grid) -> jax.Array:
        """(N, L, H, D) -> (N, L', H, D): L places of the grid, and a class token if there is one
        more."""
        n, length, heads, size = x.shape
        alone = length - math.prod(grid)
        start = torch_uniform(math.prod(self.kernel_size))
        kernel = self.param("kernel", start, (*self.kernel_size, 1, size), jnp.float32)
        # Heads side by side are channels: no transposition, the kernel is repeated instead.
        y = conv(
            x[:, alone:].reshape(n, *grid, heads * size),
            jnp.tile(kernel.astype(x.dtype), heads),
            strides=tuple(self.strides),
            groups=heads * size,
        )
        y = y.reshape(n, -1, heads, size)
        y = jnp.concatenate([x[:, :alone], y], axis=1) if alone else y
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(y)


class PoolingAttention(nn.Module):
    """Multi-head attention of pooled queries to pooled keys and values.

    width: of the output, a multiple of num_heads. pool_queries: whether queries are convolved where
    query_stride is 1. table_rows: of the tables of relative positions along (time, height, width), as
    a new model makes them; None for none. residual: whether queries are added to the output, that of
    the class token only with residual_class_token. dropout acts on the output.
    """

    num_heads: int
    width: int
    pool_kernel: Sequence[int] = (3, 3, 3)
    query_stride: Sequence[int] = ONE
    key_stride: Sequence[int] = ONE
    pool_queries: bool = False
    table_rows: Sequence[int] | None = None
    residual: bool = False
    residual_class_token: bool = False
    qkv_bias: str = "all"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, grid: Grid, *, train: bool) -> jax.Array:
        """(N, L, C) of a map `grid` -> (N, L', width) of the map pooled by query_stride."""
        if self.qkv_bias not in BIASED:
            raise unknown("qkv_bias", self.qkv_bias, BIASED)
        alone = x.shape[1] - math.prod(grid)
        q, k, v = (self._pooled(name, x, grid) for name in ("query", "key", "value"))
        bias = self._bias(q, grid, alone) if self.table_rows is not None else None
        y = dot_product_attention(q, k, v, bias=bias)
        if self.residual:
            kept = 0 if self.residual_class_token else alone
            place = jnp.arange(y.shape[1])[:, None, None]
            y = y + jnp.where(place < kept, jnp.zeros((), q.dtype), q)
        y = HeadMerge(self.width, self.dtype, self.kernel_init, name="out")(y)
        return nn.Dropout(self.dropout, deterministic=not train)(y)

    def _pooled(self, name: str, x: jax.Array, grid: Grid) -> jax.Array:
        y = HeadSplit(
            self.num_heads,
            self.width // self.num_heads,
            name in BIASED[self.qkv_bias],
            self.dtype,
            self.kernel_init,
            name=name,
        )(x)
        stride = tuple(self.query_stride if name == "query" else self.key_stride)
        if name == "query" and stride == ONE and not self.pool_queries:
            return y
        pool = HeadPool(self.pool_kernel, stride, self.norm_eps, self.dtype, name=f"{name}_pool")
        return pool(y, grid)

    def _bias(self, queries: jax.Array, grid: Grid, alone: int) -> jax.Array:
        """relative_bias, and zeros for all pairs with the class token."""
        tables = [
            table(self, name, (rows, queries.shape[-1]))
            for name, rows in zip(TABLES, self.table_rows, strict=True)
        ]
        maps = (pooled_grid(grid, self.query_stride), pooled_grid(grid, self.key_stride))
        bias = relative_bias(queries[:, alone:], tables, *maps)
        return jnp.pad(bias, ((0, 0), (0, 0), (alone, 0), (alone, 0))) if alone else bias


def table(module: nn.Module, name: str, shape: tuple[int, ...]) -> jax.Array:
    """A learned table that starts with this shape, in the shape it has by now.

    Other than `self.param` it may be of another size than this clip would give it: whoever asks
    resizes it or refuses the clip.
    """
    if module.has_variable("params", name):
        return module.get_variable("params", name)
    return module.param(name, NORMAL, shape, jnp.float32)


class PoolingBlock(nn.Module):
    """One pre-norm block: attention with a max-pooled skip, then an MLP.

    features: width of the output. project_in_attention: a change of width happens in the attention
    (its skip is a projection of the normalised input), not in the MLP. attention: what
    `PoolingAttention` takes beside the fields of the same names here.
    """

    num_heads: int
    inner: int
    features: int
    query_stride: Sequence[int]
    project_in_attention: bool
    attention: dict
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, grid: Grid, drop_path: float = 0.0, *, train: bool
    ) -> jax.Array:
        """(N, L, C) of a map `grid` -> (N, L', features) of the map pooled by query_stride."""
        shared = {"norm_eps": self.norm_eps, "dropout": self.dropout, "dtype": self.dtype}
        attend = PoolingAttention(
            num_heads=self.num_heads,
            width=self.inner,
            query_stride=self.query_stride,
            **shared,
            **self.attention,
            name="attention",
        )
        mlp = Mlp(
            int(self.inner * self.mlp_ratio),
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=NORMAL,
            features=self.features,
            hidden_dropout=self.dropout,
            name="mlp",
        )
        x = x.astype(self.dtype)
        widens = x.shape[-1] != self.features
        normed = LayerNorm(self.norm_eps, self.dtype, name="norm1")(x)
        if widens and self.project_in_attention:
            x = self._projection()(normed)
        y = attend(normed, grid, train=train)
        x = self._skip(x, grid) + DropPath(name="drop_path1")(y, drop_path, train=train)
        normed = LayerNorm(self.norm_eps, self.dtype, name="norm2")(x)
        if widens and not self.project_in_attention:
            x = self._projection()(normed)
        y = mlp(normed, train=train)
        return x + DropPath(name="drop_path2")(y, drop_path, train=train)

    def _projection(self) -> Dense:
        return Dense(self.features, dtype=self.dtype, kernel_init=NORMAL, name="projection")

    def _skip(self, x: jax.Array, grid: Grid) -> jax.Array:
        """The map under a maximum of the queries' stride, in windows that overlap."""
        stride = tuple(self.query_stride)
        if stride == ONE:
            return x
        n, length, width = x.shape
        alone = length - math.prod(grid)
        window = tuple(s + 1 if s > 1 else 1 for s in stride)
        y = max_pool(x[:, alone:].reshape(n, *grid, width), window, strides=stride)
        y = y.reshape(n, -1, width)
        return jnp.concatenate([x[:, :alone], y], axis=1) if alone else y
