"""Which tokens masked pretraining hides: tubes, scattered tokens, or whole moments.

VideoMAE (Tong et al. 2022), section 3.3 and its ablation. Masks are bool (N, t·h·w) in raster order
over the grid (t, h, w) of tokens, True = masked; each row masks the same number, known beforehand.
"""

import math

import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown

KINDS = ("tube", "random", "frame")
Grid = tuple[int, int, int]  # tokens over time, height, width


def num_masked(kind: str, grid: Grid, ratio: float) -> int:
    """Masked tokens of each clip; rounded down to whole tokens ("random"), tubes or moments
    ("frame").

    Raises ValueError for a ratio that leaves nothing masked or nothing visible.
    """
    units, tokens_each = _units(kind, grid)
    # The published code truncates; the small term is for ratios such as 0.29 whose product is
    # 28.99….
    count = math.floor(ratio * units + 1e-6)
    if not 0 < count < units:
        raise ValueError(
            f"mask ratio {ratio} hides {count} of the {units} {_NOUNS[kind]} of grid "
            f"{tuple(grid)}; expected at least one hidden and one visible: a ratio from "
            f"{1 / units:.4g} to {(units - 1) / units:.4g}"
        )
    return count * tokens_each


def make_mask(kind: str, rng: jax.Array, batch: int, grid: Grid, ratio: float) -> jax.Array:
    """The mask of that kind: "tube", "random" or "frame". Raises as `num_masked`."""
    if kind not in KINDS:
        raise unknown("mask", kind, KINDS)
    makers = {"tube": tube_mask, "random": random_mask, "frame": frame_mask}
    return makers[kind](rng, batch, grid, ratio)


def tube_mask(rng: jax.Array, batch: int, grid: Grid, ratio: float) -> jax.Array:
    """The same places hidden at every moment."""
    t, h, w = grid
    hidden = _choose(rng, batch, h * w, num_masked("tube", grid, ratio) // t)
    return jnp.tile(hidden, (1, t))


def random_mask(rng: jax.Array, batch: int, grid: Grid, ratio: float) -> jax.Array:
    """Tokens hidden independently of place and time."""
    return _choose(rng, batch, math.prod(grid), num_masked("random", grid, ratio))


def frame_mask(rng: jax.Array, batch: int, grid: Grid, ratio: float) -> jax.Array:
    """Whole moments (all tokens of a tubelet's frames) hidden."""
    t, h, w = grid
    hidden = _choose(rng, batch, t, num_masked("frame", grid, ratio) // (h * w))
    return jnp.repeat(hidden, h * w, axis=1)


def split_tokens(mask: jax.Array, num_visible: int) -> tuple[jax.Array, jax.Array]:
    """(visible, masked): int32 (N, num_visible) and (N, rest), places of tokens in raster order.

    mask: bool (N, tokens) with num_visible False in each row.
    """
    order = jnp.argsort(mask, axis=1, stable=True).astype(jnp.int32)  # False before True
    return order[:, :num_visible], order[:, num_visible:]


def _choose(rng, batch: int, units: int, count: int):
    """bool (batch, units) with `count` True a row, every choice equally likely."""
    order = jnp.argsort(jax.random.uniform(rng, (batch, units)), axis=1)
    return jnp.argsort(order, axis=1) < count  # the rank of each unit in a random order


_NOUNS = {"tube": "tubes", "random": "tokens", "frame": "moments"}


def _units(kind: str, grid: Grid) -> tuple[int, int]:
    """What is hidden or not as one: how many there are, and tokens in each."""
    t, h, w = grid
    if kind not in KINDS:
        raise unknown("mask", kind, KINDS)
    return {"tube": (h * w, t), "random": (t * h * w, 1), "frame": (t, h * w)}[kind]
