"""Root-mean-square normalisation: a scale, no mean and no bias.

Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + epsilon)·scale over the last axis. Parameter scale (C,), float32."""

    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: (..., C) -> the same shape, in `dtype`; computed in float32."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        y = x.astype(jnp.float32)
        factor = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon)
        return (y * factor * scale).astype(self.dtype)
