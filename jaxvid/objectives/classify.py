"""Soft-target cross-entropy over classes, with top-1 beside it.

TASK says what an objective is fed with, and how its results are measured: "classify", "multilabel" or
"multihead" (ops/prepare.for_classification with other targets), "masked" (for_masked_pretraining).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxvid.metrics.sums import weighted_sum

TASK = "classify"


def build(*, class_weights: Sequence[float] | None = None) -> Callable:
    """-> objective(outputs, targets) -> {"loss", "top1": (sum, weight)}.

    outputs["logits"]: (N, K); targets["target"]: (N, K) float32, rows summing to 1 (smoothed and
    mixed already), targets["weight"]: (N,) float32, 0 for rows that do not count. top1 compares with
    the largest target, which under mixup and cutmix is the larger part. class_weights: K factors; a
    clip's loss and its weight in the mean are multiplied by its class's, as torch's CrossEntropyLoss
    does it (of soft targets by their mean).
    """
    factors = None if class_weights is None else jnp.asarray(class_weights, jnp.float32)

    def objective(outputs, targets):
        logits = outputs["logits"].astype(jnp.float32)
        target, weight = targets["target"], targets["weight"]
        hit = jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)
        sums = {"top1": weighted_sum(hit, weight)}
        own = weight if factors is None else weight * (target @ factors)
        loss = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
        return {"loss": weighted_sum(loss, own), **sums}

    return objective
