"""Soft-target cross-entropy over classes, with top-1 beside it.

TASK says what an objective is fed with: "classify" (ops/prepare.for_classification) or "masked"
(for_masked_pretraining).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvid.metrics.sums import weighted_sum

TASK = "classify"


def build() -> Callable:
    """-> objective(outputs, targets) -> {"loss", "top1": (sum, weight)}.

    outputs["logits"]: (N, K); targets["target"]: (N, K) float32, rows summing to 1 (smoothed and
    mixed already), targets["weight"]: (N,) float32, 0 for rows that do not count. top1 compares with
    the largest target, which under mixup and cutmix is the larger part.
    """

    def objective(outputs, targets):
        logits = outputs["logits"].astype(jnp.float32)
        target, weight = targets["target"], targets["weight"]
        loss = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
        hit = jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)
        return {"loss": weighted_sum(loss, weight), "top1": weighted_sum(hit, weight)}

    return objective
