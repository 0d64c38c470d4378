"""The views axis: folded into the batch before the model, averaged away after it."""

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


def mean_probabilities(logits: jax.Array, views: int) -> jax.Array:
    """(B·V, K) logits -> float32 (B, K): the softmax of each view, averaged over a clip's views."""
    return mean_over_views(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), views)
