"""Cross-entropy of several single-label heads, added up: EPIC-KITCHENS' verb and noun.

The model has one head of as many logits as all of them together, in their order (Damen et al. 2022,
Rescaling Egocentric Vision, section 4.1: one backbone, a classifier of verbs and one of nouns).
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvid.core.errors import ConfigError
from jaxvid.metrics.sums import weighted_sum

TASK = "multihead"


def build(*, heads: Mapping[str, int], class_weights: Sequence[float] | None = None) -> Callable:
    """-> objective(outputs, targets) -> {"loss", "top1_<head>", …, "top1": (sum, weight)}.

    heads: the number of classes of each, from the data set. outputs["logits"]: (N, K), K their sum;
    targets["target"]: (N, K) float32 with rows of sum 1 in each head's part, or zeros there where
    the head has no label, which then teaches and counts nothing; targets["weight"]: (N,) float32, 0
    for rows that do not count. class_weights: K factors of what a class costs; the sum is divided by
    the clips, not by their factors. top1: all heads right at once. Raises ConfigError for a set
    without heads.
    """
    if not heads:
        raise ConfigError(
            "objective.name='multihead' is for sets with several heads (EPIC-KITCHENS); this one has "
            "one list of classes: use 'classify', or 'multilabel'"
        )
    factors = jnp.ones(sum(heads.values())) if class_weights is None else jnp.asarray(class_weights)

    def objective(outputs, targets):
        weight, sums, right = targets["weight"], {}, True
        all_known = weight
        loss = 0.0
        for head, part in slices(heads).items():
            logits = outputs["logits"][:, part].astype(jnp.float32)
            target = targets["target"][:, part]
            loss -= jnp.sum(factors[part] * target * jax.nn.log_softmax(logits), axis=-1)
            hit = jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)
            known = jnp.any(target > 0, axis=-1)
            sums[f"top1_{head}"] = weighted_sum(hit, weight * known)
            right, all_known = right & hit, all_known * known
        return {"loss": weighted_sum(loss, weight), **sums, "top1": weighted_sum(right, all_known)}

    return objective


def slices(heads: Mapping[str, int]) -> dict[str, slice]:
    """{head: its part of the logits}"""
    result, start = {}, 0
    for head, size in heads.items():
        result[head] = slice(start, start + size)
        start += size
    return result
