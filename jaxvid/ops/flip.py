"""Horizontal flips: decided once for each clip, then applied to its frames and to its targets.

flips = flip_decisions(rng, n)
video = flip_video(video, flips)
flow = flip_flow(flow, flips)
targets = flip_targets(targets, flips, swap)   # only where left and right are classes
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.ops.chance import chosen


def flip_decisions(rng: jax.Array, n: int, probability: float = 0.5) -> jax.Array:
    """bool (n,): which clips are mirrored. Raises ValueError for a probability outside [0, 1]."""
    return chosen(rng, n, probability)


def flip_video(video: jax.Array, flips: jax.Array) -> jax.Array:
    """(N, T, H, W, C) of any dtype and range, all frames of the clips in bool (N,) mirrored."""
    return jnp.where(flips[:, None, None, None, None], video[:, :, :, ::-1, :], video)


def flip_flow(flow: jax.Array, flips: jax.Array) -> jax.Array:
    """(N, T, H, W, 2) as jaxvid/decode/flow.py gives it: mirrored like the video, and what moves to
    the right then moves to the left (channel 0 changes its sign)."""
    sign = jnp.asarray([-1, 1], flow.dtype)
    return jnp.where(flips[:, None, None, None, None], flow[:, :, :, ::-1, :] * sign, flow)


def flip_targets(targets: jax.Array, flips: jax.Array, swap: np.ndarray) -> jax.Array:
    """(N, K) targets; those of flipped clips with every class moved to its mirror, `swap` (K,).

    `swap` is swap_table's: its own inverse, so taking columns and putting columns are the same.
    """
    if len(swap) != targets.shape[-1]:
        raise ValueError(
            f"the swap table has {len(swap)} classes and the targets have {targets.shape[-1]}"
        )
    return jnp.where(flips[:, None], targets[:, np.asarray(swap)], targets)


def swap_table(class_names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> np.ndarray:
    """int32 (K,): for each class the index of its mirror image; classes in no pair are their own.

    pairs: names of classes that change into each other in a mirror, such as
    ("left", "right"). Raises ValueError for a name that is no class or stands in two pairs.
    """
    index = {name: i for i, name in enumerate(class_names)}
    table = np.arange(len(class_names), dtype=np.int32)
    for left, right in pairs:
        for name in (left, right):
            if name not in index:
                raise ValueError(f"flip pair ({left!r}, {right!r}): {name!r} is not a class")
            if table[index[name]] != index[name]:
                raise ValueError(f"flip pair ({left!r}, {right!r}): {name!r} is in two pairs")
        table[index[left]], table[index[right]] = index[right], index[left]
    return table
