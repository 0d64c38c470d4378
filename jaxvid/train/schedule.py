"""Learning rate against steps."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from jaxvid.core.errors import ConfigError, unknown

SCHEDULES = ("cosine", "constant")


def warmup_then(
    kind: str, *, peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0
) -> Callable[[jnp.ndarray], jnp.ndarray]:
    """Linear from 0 to `peak` over `warmup_steps`, then "cosine" down to `end` at `total_steps`
    (Loshchilov & Hutter 2017, without restarts) or "constant"."""
    if kind not in SCHEDULES:
        raise unknown("optim.schedule", kind, SCHEDULES)
    if not 0 <= warmup_steps < total_steps:
        raise ConfigError(
            f"the warm-up of {warmup_steps} steps does not fit into a run of {total_steps}; "
            "lower optim.warmup_steps / optim.warmup_epochs or train longer"
        )
    if kind == "constant":
        after = optax.constant_schedule(peak)
    else:
        decay = total_steps - warmup_steps
        after = optax.cosine_decay_schedule(peak, decay, alpha=end / peak if peak else 0.0)
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])
