"""Contrastive fine-tuning: each clip against the texts of all classes, and each text against the clips.

X-CLIP (Ni et al. 2022, section 3.4) trains with the first part alone, a cross-entropy over
similarities. Both halves are CLIP's symmetric loss (Radford et al. 2021, figure 3; InfoNCE of van
den Oord et al. 2018), for clips that may share a text as in UniCL (Yang et al. 2022, Unified
Contrastive Learning in Image-Text-Label Space, section 3.2): a text's target is spread over all
clips that it is true of.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvid.core.errors import ConfigError
from jaxvid.metrics.sums import weighted_sum

TASK = "classify"
OUTSIDE = -1e30  # the logit of a clip that does not count


def build(*, text_to_video: float = 0.0) -> Callable:
    """-> objective(outputs, targets) -> {"loss", "top1": (sum, weight)}.

    outputs["logits"]: (N, K), scaled similarities of N clips and K texts; targets["target"]: (N, K)
    float32, rows summing to 1 (a unit matrix where clip i has text i), targets["weight"]: (N,)
    float32, 0 for rows that do not count, which are nobody's negatives either. text_to_video: the
    share of the loss over clips in it, from 0 (X-CLIP's fine-tuning) to 1; 0.5 is CLIP's symmetric
    loss. Its negatives are the clips of one step, or of one part of it with optim.accumulate_steps.
    Raises ConfigError for a share outside.
    """
    if not 0.0 <= text_to_video <= 1.0:
        raise ConfigError(
            f"text_to_video is {text_to_video}, expected a share from 0 (each clip against all texts) to "
            "1 (each text against all clips)"
        )

    def objective(outputs, targets):
        logits = outputs["logits"].astype(jnp.float32)
        target, weight = targets["target"], targets["weight"]
        loss = -jnp.sum(target * jax.nn.log_softmax(logits, axis=1), axis=1)
        if text_to_video:
            counted = jnp.where(weight[:, None] > 0, logits, OUTSIDE)
            over_clips = -jnp.sum(target * jax.nn.log_softmax(counted, axis=0), axis=1)
            loss = (1.0 - text_to_video) * loss + text_to_video * over_clips
        hit = jnp.argmax(logits, axis=1) == jnp.argmax(target, axis=1)
        return {"loss": weighted_sum(loss, weight), "top1": weighted_sum(hit, weight)}

    return objective
