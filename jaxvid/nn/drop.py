"""Stochastic depth: whole residual branches dropped, sample by sample.

Huang et al. 2016, Deep Networks with Stochastic Depth; rescaled in training as in EfficientNet, so
that nothing changes at evaluation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def drop_path(rng: jax.Array, branch: jax.Array, rate: float | jax.Array) -> jax.Array:
    """Zeroes the branch (N, ...) of each sample with probability `rate`; the others grow in return.

    rate: in [0, 1), a number or a float32 scalar. Raises ValueError for a number outside.
    """
    check_rate("drop path", rate)
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    shape = branch.shape[:1] + (1,) * (branch.ndim - 1)
    kept = jax.random.bernoulli(rng, keep, shape)
    return branch * (kept / keep).astype(branch.dtype)


def check_rate(what: str, rate) -> None:
    """Raises ValueError unless a rate known on the host lies in [0, 1); traced rates pass."""
    if isinstance(rate, int | float) and not 0.0 <= rate < 1.0:
        raise ValueError(f"{what} rate is {rate}, expected a share in [0, 1); 0 turns it off")


class DropPath(nn.Module):
    """Drops residual branches in training; its random numbers come from the "dropout" stream."""

    @nn.compact
    def __call__(self, branch: jax.Array, rate: float | jax.Array, *, train: bool) -> jax.Array:
        """branch: (N, ...); rate: in [0, 1). The number 0 draws nothing."""
        if not train or (isinstance(rate, int | float) and rate == 0):
            return branch
        return drop_path(self.make_rng("dropout"), branch, rate)
