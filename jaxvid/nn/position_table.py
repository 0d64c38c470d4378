"""Learned tables of positions that fit clips of other lengths and sizes than they were made for.

A table has one axis for each axis of the tokens and its channels last: (T, D), (H, W, D). Where the
tokens are more or fewer, each takes the row that lies at its share of the table ("nearest", as in
TimeSformer's own code), so that a table made for the clip itself stays as it is.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.linear import Initializer


def nearest_rows(rows: int, size: int) -> np.ndarray:
    """int (size,): which of `rows` each of `size` places takes, floor(i · rows / size).

    In float32, as PyTorch's interpolate(mode="nearest") computes it.
    """
    places = np.arange(size, dtype=np.float32) * (np.float32(rows) / np.float32(size))
    return np.minimum(np.floor(places).astype(np.int64), rows - 1)


def resize_nearest(table: jax.Array | np.ndarray, shape: Sequence[int]) -> jax.Array | np.ndarray:
    """(*sizes, D) -> (*shape, D) by `nearest_rows` along every axis but the last; as it is where the
    sizes agree. Raises ValueError when there are more or fewer axes."""
    if table.ndim != len(shape) + 1:
        raise ValueError(f"a table of shape {table.shape} has no (*{tuple(shape)}, D) form")
    for axis, (rows, size) in enumerate(zip(table.shape, shape, strict=False)):
        if rows != size:
            table = table.take(nearest_rows(rows, size), axis=axis)
    return table


def position_table(
    module: nn.Module,
    name: str,
    shape: Sequence[int],
    width: int,
    *,
    made_for: Sequence[int | None],
    init: Initializer,
) -> jax.Array:
    """The parameter `name` of the module, float32, resized to (*shape, width).

    Its own sizes are those of `made_for`, None standing for those of the clip it is initialised with.
    """
    existing = module.get_variable("params", name)
    found = shape if existing is None else existing.shape[:-1]
    sizes = [made or size for made, size in zip(made_for, found, strict=True)]
    table = module.param(name, init, (*sizes, width), jnp.float32)
    return resize_nearest(table, shape)
