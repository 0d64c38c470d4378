"""Layer normalisation with float32 statistics, and a gradient that is fast on CPUs as well.

XLA's CPU backend is slow at sums over rows whose summands it computes on the fly, as the gradients
of scale and bias are (measured: up to 6 times PyTorch's time); there they are matrix products.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon)·scale + bias over the last axis, in two passes.

    x: (..., C) of any float dtype, in which it returns; scale, bias: (C,) float32.
    """
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x, scale, bias, epsilon):
    y = x.astype(jnp.float32)
    mean = jnp.mean(y, axis=-1, keepdims=True)
    centred = y - mean
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon
    out = centred * jax.lax.rsqrt(variance) * scale + bias
    return out.astype(x.dtype), (x, scale, mean, jnp.sqrt(variance))


def _backward(epsilon, kept, gradient):
    x, scale, mean, deviation = kept
    grads = jax.lax.platform_dependent(
        x, scale, mean, deviation, gradient, cpu=_gradients_by_products, default=_gradients
    )
    return grads


layer_norm.defvjp(_forward, _backward)


def _gradients(x, scale, mean, deviation, gradient):
    rows = tuple(range(x.ndim - 1))
    gradient = gradient.astype(jnp.float32)
    factor = 1.0 / deviation
    unit = (x.astype(jnp.float32) - mean) * factor
    scaled = gradient * scale
    along = jnp.mean(scaled * unit, axis=-1, keepdims=True)
    to_x = factor * (scaled - jnp.mean(scaled, axis=-1, keepdims=True) - unit * along)
    return to_x.astype(x.dtype), jnp.sum(gradient * unit, rows), jnp.sum(gradient, rows)


def _gradients_by_products(x, scale, mean, deviation, gradient):
    """Divided, not multiplied by what the forward pass multiplied by: XLA's CPU backend would keep that
    as large as x."""
    rows = tuple(range(x.ndim - 1))
    gradient = gradient.astype(jnp.float32)
    unit = (x.astype(jnp.float32) - mean) / deviation
    ones = jnp.ones(x.shape[:-1], jnp.float32)
    weights = scale / x.shape[-1]
    average = (gradient @ weights)[..., None]
    along = ((gradient * unit) @ weights)[..., None]
    to_x = (gradient * scale - average - unit * along) / deviation
    to_scale = jnp.tensordot(ones, gradient * unit, (rows, rows))
    return to_x.astype(x.dtype), to_scale, jnp.tensordot(ones, gradient, (rows, rows))


class LayerNorm(nn.Module):
    """Parameters scale and bias (C,), float32. References differ in epsilon: 1e-12 to 1e-5."""

    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: (..., C) -> the same shape, in `dtype`; statistics in float32."""
        width = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, width, jnp.float32)
        bias = self.param("bias", self.bias_init, width, jnp.float32)
        return layer_norm(x.astype(self.dtype), scale, bias, self.epsilon)
