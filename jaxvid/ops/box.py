"""Boxes in a frame and stretches of time, one for each clip: what random erasing and cutmix cut out."""

import jax
import jax.numpy as jnp


def inside_box(
    top: jax.Array,
    left: jax.Array,
    bottom: jax.Array,
    right: jax.Array,
    height: int,
    width: int,
) -> jax.Array:
    """bool (N, height, width): True in rows [top, bottom) and columns [left, right).

    The four are (N,), in pixels; what lies outside the frame is cut off.
    """
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])  # (N, H)
    in_columns = (columns >= left[:, None]) & (columns < right[:, None])  # (N, W)
    return in_rows[:, :, None] & in_columns[:, None, :]


def inside_stretch(start: jax.Array, stop: jax.Array, num_frames: int) -> jax.Array:
    """bool (N, num_frames): True in frames [start, stop), both (N,); the rest is cut off."""
    frames = jnp.arange(num_frames)
    return (frames >= start[:, None]) & (frames < stop[:, None])
