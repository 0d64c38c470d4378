"""GELU, exact, by tanh and CLIP's by sigmoid, as checkpoints have it, fast everywhere.

Gradients compute erf, tanh and sigmoid again, of -x: of x XLA's CPU backend would find that it has them
already, and keep them from the forward pass on, as large as x.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x·Φ(x) with the exact normal distribution (erf, not tanh); any shape, computed in float32.

    Written with erf where jax.nn.gelu has erfc: within a float32 rounding of each other, and erf is
    several times faster on the CPU. Only x is kept for the gradient, in its own dtype.
    """
    y = x.astype(jnp.float32)
    return (y * _normal_cdf(y)).astype(x.dtype)


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, gradient):
    y = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * y * y) * (1.0 / math.sqrt(2.0 * math.pi))
    slope = 1.0 - _normal_cdf(-y) + y * density
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def _normal_cdf(x):
    return 0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))


@jax.custom_vjp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU by tanh, x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), computed in float32; any shape.

    Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2; "gelu_fast", "gelu_new" and
    "gelu_pytorch_tanh" in Hugging Face's words, Flax's default. Only x is kept for the gradient.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1.0 + _tanh_of(y))).astype(x.dtype)


def _tanh_forward(x):
    return gelu_tanh(x), x


def _tanh_backward(x, gradient):
    y = x.astype(jnp.float32)
    tanh = -_tanh_of(-y)
    inner = math.sqrt(2.0 / math.pi) * (1.0 + 3 * 0.044715 * y * y)
    slope = 0.5 * (1.0 + tanh) + 0.5 * y * (1.0 - tanh * tanh) * inner
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


gelu_tanh.defvjp(_tanh_forward, _tanh_backward)


def _tanh_of(x):
    return jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))


@jax.custom_vjp
def quick_gelu(x: jax.Array) -> jax.Array:
    """x·sigmoid(1.702·x), CLIP's approximation of GELU, computed in float32; any shape.

    Hendrycks and Gimpel 2016, section 2; "quick_gelu" in Hugging Face's words. Only x is kept for
    the gradient.
    """
    y = x.astype(jnp.float32)
    return (y * jax.nn.sigmoid(1.702 * y)).astype(x.dtype)


def _quick_forward(x):
    return quick_gelu(x), x


def _quick_backward(x, gradient):
    y = x.astype(jnp.float32)
    gate = 1.0 - jax.nn.sigmoid(-1.702 * y)
    slope = gate + 1.702 * y * gate * (1.0 - gate)
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


quick_gelu.defvjp(_quick_forward, _quick_backward)
