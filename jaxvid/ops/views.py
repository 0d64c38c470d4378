"""The views axis: folded into the batch before the model, averaged away after it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def fold(array: jax.Array) -> jax.Array:
    """(B, V, …) -> (B·V, …); the views of a clip stay neighbours."""
    if array.ndim < 2:
        raise ValueError(f"fold was given shape {array.shape}, expected (B, V, …)")
    return array.reshape(-1, *array.shape[2:])  # (B·V, …)


def unfold(array: jax.Array, views: int) -> jax.Array:
    """(B·V, …) -> (B, V, …), the inverse of fold."""
    if views < 1 or array.shape[0] % views:
        raise ValueError(f"{array.shape[0]} rows cannot be unfolded into {views} views a clip")
    return array.reshape(-1, views, *array.shape[1:])  # (B, V, …)


def repeat(array: jax.Array, views: int) -> jax.Array:
    """(B, …) -> (B·V, …): labels, targets or weights of a clip for each of its views."""
    if views < 1:
        raise ValueError(f"repeat was asked for {views} views a clip, expected 1 or more")
    # Not jnp.repeat: its gather hides from the partitioner that rows stay on their device.
    shape = (array.shape[0], views, *array.shape[1:])
    return fold(jnp.broadcast_to(array[:, None], shape))


def mean_over_views(array: jax.Array, views: int) -> jax.Array:
    """(B·V, …) -> (B, …), the plain mean over a clip's views."""
    return jnp.mean(unfold(array, views), axis=1)


def max_over_views(array: jax.Array, views: int) -> jax.Array:
    """(B·V, …) -> (B, …), the largest over a clip's views: something seen in one of them is there."""
    return jnp.max(unfold(array, views), axis=1)


POOLING = {"mean": mean_over_views, "max": max_over_views}


def each_frame(change: Callable[[jax.Array], jax.Array], video: jax.Array) -> jax.Array:
    """`change` of (N·T, 1, …), where every frame is a clip of its own, as (N, T, …).

    So what is drawn once a clip is drawn once a frame.
    """
    if video.ndim < 2:
        raise ValueError(f"each_frame was given shape {video.shape}, expected (N, T, …)")
    frames = video.reshape(-1, 1, *video.shape[2:])  # (N·T, 1, …)
    return change(frames).reshape(video.shape)
