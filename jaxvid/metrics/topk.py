"""Top-k accuracy: is the label among the k classes of highest score?

Equal scores are ranked by class index, as argmax and `lax.top_k` do, so that a model which scores
all classes alike is not right every time; a label whose score is NaN is never right.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.metrics.sums import weighted_sum


def topk_sums(
    scores: jax.Array, labels: jax.Array, weights: jax.Array | None = None, *, k: int = 1
) -> tuple:
    """(number right, number of clips), weighted, as jax scalars; for metrics inside jit.

    scores: (N, K) logits or probabilities. labels: int (N,), -1 = unlabelled; or soft targets
    float (N, K), whose class is the one of most weight and whose zero rows are unlabelled.
    weights: bool or float (N,), None = all count. Unlabelled clips count nothing.
    """
    _check(scores, k)
    if labels.ndim == 2:
        labels = jnp.where(jnp.any(labels > 0, axis=-1), jnp.argmax(labels, axis=-1), -1)
    counted = (labels >= 0).astype(jnp.float32)
    weights = counted if weights is None else counted * weights.astype(jnp.float32)
    return weighted_sum(_ranks(scores, labels, jnp) < k, weights)


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """The share of clips, as a fraction, on the host. scores (n, K); labels int (n,) in 0..K-1.

    NaN when there are no clips.
    """
    _check(scores, k)
    if not len(labels):
        return float("nan")
    return float(np.mean(_ranks(np.asarray(scores), np.asarray(labels), np) < k))


def _ranks(scores, labels, xp):
    """int (N,): how many classes stand before the label's. xp: numpy or jax.numpy."""
    column = xp.maximum(labels, 0)[:, None]
    own = xp.take_along_axis(scores, column, axis=1)  # (N, 1)
    classes = xp.arange(scores.shape[1])[None]
    beaten = (own > scores) | ((own == scores) & (column < classes))
    return xp.sum(~beaten & (classes != column), axis=1)


def _check(scores, k: int) -> None:
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"top-{k} of {scores.shape[1]} classes: k must be in 1..number of classes")
