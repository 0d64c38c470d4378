"""Rotary positions over (time, height, width): queries and keys turned by where their tokens lie.

Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding, section 3.2; over three
axes as in V-JEPA 2 (Assran et al. 2025, section 2.1). A head of D numbers is cut in three parts of
2·(D // 6), for time, height and width; what is left is not turned. Numbers 2i and 2i + 1 of a part are
a pair. Scores then depend on how far two tokens lie apart, and any clip has its positions.

The published models' own form is kept, which is not quite a turn: the part's K angles stand twice in a
row, 0 … K-1, 0 … K-1, so that the two numbers of a pair have the sines and cosines of two angles.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.attention import dot_product_attention

BASE = 10000.0  # angle k of K grows by BASE^(-k/K) a token
Grid = tuple[int, int, int]


def rotary_attention(grid: Grid, head_dim: int) -> Callable[..., jax.Array]:
    """`dot_product_attention` with queries and keys turned; (query, key, value, scale=…), all
    (N, L, H, head_dim), tokens in raster order over the grid (time, height, width).

    Raises ValueError as `rotary_tables`.
    """
    cos, sin = rotary_tables(grid, head_dim)

    def attend(query, key, value, *, scale: float | None = None) -> jax.Array:
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        return dot_product_attention(query, key, value, scale=scale)

    return attend


def rotary_tables(grid: Grid, head_dim: int) -> tuple[jax.Array, jax.Array]:
    """Cosines, and sines with the sign of the number they multiply: float32 (t·h·w, head_dim) each.

    Raises ValueError unless head_dim is an even number from 6.
    """
    if head_dim < 6 or head_dim % 2:
        raise ValueError(
            f"rotary positions over three axes need heads of an even size from 6, got {head_dim}; "
            "choose another width or num_heads"
        )
    count = head_dim // 6
    rates = BASE ** (-np.arange(count) / count)
    cosines, sines = [], []
    for axis, size in enumerate(grid):
        angles = np.tile(np.arange(size)[:, None] * rates, 2)  # (size, 2·count)
        signed = np.sin(angles) * np.resize([-1.0, 1.0], 2 * count)
        cosines.append(_over_grid(np.cos(angles), axis, grid))
        sines.append(_over_grid(signed, axis, grid))
    rest = (*grid, head_dim - 6 * count)
    cosines.append(jnp.ones(rest, jnp.float32))
    sines.append(jnp.zeros(rest, jnp.float32))
    cos, sin = (jnp.concatenate(parts, axis=-1).reshape(-1, head_dim) for parts in (cosines, sines))
    return cos, sin


def _over_grid(table: np.ndarray, axis: int, grid: Grid) -> jax.Array:
    """(size, K) of one axis -> float32 (t, h, w, K). Small tables on the host, the whole on the
    device."""
    shape = [1, 1, 1, table.shape[-1]]
    shape[axis] = grid[axis]
    small = jnp.asarray(table.reshape(shape), jnp.float32)
    return jnp.broadcast_to(small, (*grid, table.shape[-1]))


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x: (N, L, H, D); cos, sin: of `rotary_tables`, (L, D) -> (N, L, H, D) in x's dtype, computed in
    float32."""
    y = x.astype(jnp.float32)
    swapped = y.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)  # within pairs
    return (y * cos[:, None] + swapped * sin[:, None]).astype(x.dtype)
