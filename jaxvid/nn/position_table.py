"""Learned tables of positions that fit clips of other lengths and sizes than they were made for.

A table has one axis for each axis of the tokens and its channels last: (T, D), (H, W, D). Where the
tokens are more or fewer, each takes the row that lies at its share of the table ("nearest", as in
TimeSformer's own code) or a weighted sum of rows, so that a table made for the clip itself stays as
it is.
"""

import math
from collections.abc import Callable, Sequence

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


def resize_weighted(
    table: jax.Array | np.ndarray,
    shape: Sequence[int],
    weights: Callable[[int, int], np.ndarray],
) -> jax.Array | np.ndarray:
    """(*sizes, D) -> (*shape, D): along every axis but the last, weights(rows, size) of shape (size,
    rows) times the table; as it is where the sizes agree. weights: `cubic_weights`, or `linear_weights`
    of nn/pooled_attention.py. Raises ValueError when there are more or fewer axes."""
    if table.ndim != len(shape) + 1:
        raise ValueError(f"a table of shape {table.shape} has no (*{tuple(shape)}, D) form")
    resized = table
    for axis, (rows, size) in enumerate(zip(table.shape, shape, strict=False)):
        if rows != size:
            resized = _weighted(resized, weights(rows, size), axis)
    return resized if resized is table else resized.astype(table.dtype)


def _weighted(table, weights: np.ndarray, axis: int):
    """On the host in the weights' dtype, on the device in the table's."""
    if isinstance(table, np.ndarray):
        return np.moveaxis(np.tensordot(weights, table, (1, axis)), 0, axis)
    weights = jnp.asarray(weights, table.dtype)
    return jnp.moveaxis(jnp.tensordot(weights, table, (1, axis), precision="highest"), 0, axis)


def cubic_weights(rows: int, size: int) -> np.ndarray:
    """float64 (size, rows): how much of each row is in each of the new places.

    Keys' kernel with a = -0.75, edges repeated, no smoothing before shrinking: along both axes of a
    map it is torch's interpolate(mode="bicubic", align_corners=False).
    """
    weights = np.zeros((size, rows))
    for i, centre in enumerate((np.arange(size) + 0.5) * rows / size - 0.5):
        first = math.floor(centre) - 1
        for row in range(first, first + 4):
            weights[i, min(max(row, 0), rows - 1)] += _keys(abs(centre - row))
    return weights


def _keys(distance: float, a: float = -0.75) -> float:
    d = distance
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def position_table(
    module: nn.Module,
    name: str,
    shape: Sequence[int],
    width: int,
    *,
    made_for: Sequence[int | None],
    init: Initializer,
    resize: Callable = resize_nearest,
) -> jax.Array:
    """The parameter `name` of the module, float32, resized to (*shape, width) by `resize`, of (table,
    shape).

    Its own sizes are those of `made_for`, None standing for those of the clip it is initialised with.
    """
    existing = module.get_variable("params", name)
    found = shape if existing is None else existing.shape[:-1]
    sizes = [made or size for made, size in zip(made_for, found, strict=True)]
    table = module.param(name, init, (*sizes, width), jnp.float32)
    return resize(table, shape)
