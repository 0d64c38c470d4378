"""Integer labels, padded with -1, as the float targets of a loss."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxvid.core.batch import LABEL


def one_hot_targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """int (B, 1) with one class a clip -> float32 (B, K), each row of sum 1.

    smoothing s gives the class 1 - s + s/K and every other s/K (Szegedy et al. 2016, arXiv
    1512.00567). A clip without a label (-1) has a row of zeros, which weighs nothing in a
    cross-entropy.
    """
    if labels.ndim != 2 or labels.shape[1] != 1:
        raise ValueError(
            f"one_hot_targets was given labels of shape {labels.shape}, expected (B, 1); "
            "clips with several labels are multi-label: multi_hot_targets"
        )
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"label smoothing is {smoothing}, expected a number in [0, 1)")
    targets = jax.nn.one_hot(labels[:, 0], num_classes, dtype=jnp.float32)
    smoothed = targets * (1.0 - smoothing) + smoothing / num_classes
    return jnp.where(labelled(labels)[:, None], smoothed, 0.0)


def multi_hot_targets(labels: jax.Array, num_classes: int) -> jax.Array:
    """int (B, L) padded with -1 -> float32 (B, K), 1 at every class of the clip."""
    if labels.ndim != 2:
        raise ValueError(
            f"multi_hot_targets was given labels of shape {labels.shape}, expected (B, L)"
        )
    return jnp.max(jax.nn.one_hot(labels, num_classes, dtype=jnp.float32), axis=1)


def head_targets(
    batch: Mapping[str, jax.Array], heads: Mapping[str, int], smoothing: float = 0.0
) -> jax.Array:
    """{"label_verb": int (B, 1), …} -> float32 (B, K), the one-hot targets of all heads in a row.

    heads: {"verb": 97, "noun": 300}, K their sum; the columns of a head stand where they stand in
    the logits, in the order of `heads`. Each head's part sums to 1, or is zeros where its label is
    -1. smoothing: see one_hot_targets, over the classes of a head.
    """
    parts = []
    for head, classes in heads.items():
        name = f"{LABEL}_{head}"
        if name not in batch:
            there = ", ".join(sorted(k for k in batch if k.startswith(LABEL)))
            raise ValueError(f"the batch has no {name!r} for head {head!r}; its labels: {there}")
        parts.append(one_hot_targets(batch[name], classes, smoothing))
    return jnp.concatenate(parts, axis=1)


def labelled(labels: jax.Array) -> jax.Array:
    """int (B, L) -> bool (B,): the clip has at least one label."""
    return jnp.any(labels >= 0, axis=1)
