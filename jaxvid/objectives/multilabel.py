"""Binary cross-entropy of each class on its own, for clips that show several at once, or none.

The loss of a clip is the mean over the classes, as torch's BCEWithLogitsLoss has it and SlowFast trains
Charades (Feichtenhofer et al. 2019, section 4).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxvid.core.errors import ConfigError
from jaxvid.metrics.sums import weighted_sum

TASK = "multilabel"


def build(*, positive_weight: float = 1.0) -> Callable:
    """-> objective(outputs, targets) -> {"loss", "hit1": (sum, weight)}.

    outputs["logits"]: (N, K); targets["target"]: (N, K) float32 in 0..1, targets["weight"]: (N,)
    float32, 0 for rows that do not count. positive_weight: factor of what a class that is there
    costs, for sets in which most classes are absent from most clips. hit1: whether the class of the
    highest score is there, of clips that have one. Raises ConfigError for a factor that is not
    above 0.
    """
    if not positive_weight > 0:
        raise ConfigError(f"positive_weight is {positive_weight}, expected a number above 0")

    def objective(outputs, targets):
        logits = outputs["logits"].astype(jnp.float32)
        target, weight = targets["target"], targets["weight"]
        each = optax.sigmoid_binary_cross_entropy(logits, target)
        if positive_weight != 1.0:
            each = each - (positive_weight - 1.0) * target * jax.nn.log_sigmoid(logits)
        best = jnp.argmax(logits, axis=-1)
        hit = jnp.take_along_axis(target, best[:, None], axis=-1)[:, 0] > 0
        labelled = weight * jnp.any(target > 0, axis=-1)
        return {
            "loss": weighted_sum(jnp.mean(each, axis=-1), weight),
            "hit1": weighted_sum(hit, labelled),
        }

    return objective
