"""Linear layers in their plainest form: float32 parameters, a chosen dtype of computation."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]  # (rng, shape, dtype) -> array
Activation = Callable[[jax.Array], jax.Array]


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype) -> jax.Array:
    """x (..., I) times kernel (I, O) plus bias (O,), computed and returned in `dtype`.

    As one product of matrices: with leading axes left in, the kernel's gradient sums over several of
    them, which XLA's CPU backend does 1.2 to 1.6 times slower, measured.
    """
    rows = x.astype(dtype).reshape(-1, x.shape[-1])  # (..., I) -> (R, I)
    y = _product(rows, kernel.astype(dtype))
    if bias is not None:
        y = y + bias.astype(dtype)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])  # (R, O) -> (..., O)


LARGE = 2**22  # parameters of a kernel, 16 MiB


def _product(rows, kernel):
    if len(rows) > 1 or kernel.size < LARGE:
        return jnp.dot(rows, kernel)
    return jax.lax.platform_dependent(rows, kernel, cpu=_beside_zeros, default=jnp.dot)


def _beside_zeros(row, kernel):
    """Of one row XLA's CPU backend transposes the kernel's gradient, which an optimiser then reads
    across, three times: half of C3D's training step. Of two it does not."""
    return jnp.dot(jnp.concatenate([row, jnp.zeros_like(row)]), kernel)[:1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def dense_of_activation(
    activation: Activation, dtype, x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """`dense` of activation(x), of which x alone is kept for the gradient: in a transformer a quarter
    of all that is. The activation is computed again. Reverse-mode only."""
    return dense(activation(x), kernel, bias, dtype)


def _dense_of_activation_forward(activation, dtype, x, kernel, bias):
    return dense_of_activation(activation, dtype, x, kernel, bias), (x, kernel, bias)


def _dense_of_activation_backward(activation, dtype, kept, gradient):
    x, *parameters = kept
    x = jax.lax.platform_dependent(x, gradient, cpu=_after_on_cpu, default=_after)
    _, pull = jax.vjp(lambda x, *p: dense(activation(x), *p, dtype), x, *parameters)
    return pull(gradient)


dense_of_activation.defvjp(_dense_of_activation_forward, _dense_of_activation_backward)


def _after(x, gradient):
    """x, which no compiler may use before there is a gradient, or find what was computed of it"""
    return jax.lax.optimization_barrier((x, gradient))[0]


def _after_on_cpu(x, gradient):
    """XLA's CPU backend takes barriers away first of all, but no product with 0, which is no 0 of what
    is not finite."""
    return x + (0 * gradient[..., :1]).astype(x.dtype)


class Dense(nn.Module):
    """Parameters kernel (I, O) and, with use_bias, bias (O,), which starts at zero unless told.

    activation: of the input, if any (dense_of_activation).
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros
    activation: Activation | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., I) -> (..., features)"""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        if self.activation is None:
            return dense(x, kernel, bias, self.dtype)
        return dense_of_activation(self.activation, self.dtype, x, kernel, bias)


class HeadSplit(nn.Module):
    """A linear layer into heads: kernel (I, H, D) and, with use_bias, bias (H, D).

    `kernel_init` sees the kernel as the matrix (I, H·D).
    """

    num_heads: int
    head_dim: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, L, I) -> (N, L, H, D)"""
        split = (self.num_heads, self.head_dim)
        init = flat_init(self.kernel_init, x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], *split), jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, split, jnp.float32).reshape(-1)
        y = dense(x, kernel.reshape(x.shape[-1], -1), bias, self.dtype)
        return y.reshape(*x.shape[:-1], *split)  # (N, L, H·D) -> (N, L, H, D)


class HeadMerge(nn.Module):
    """The linear layer out of heads: kernel (H, D, features), bias (features,)."""

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, L, H, D) -> (N, L, features)"""
        heads, size = x.shape[-2:]
        init = flat_init(self.kernel_init, heads * size)
        kernel = self.param("kernel", init, (heads, size, self.features), jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        joined = x.reshape(*x.shape[:-2], heads * size)  # (N, L, H, D) -> (N, L, H·D)
        return dense(joined, kernel.reshape(heads * size, self.features), bias, self.dtype)


def flat_init(init: Initializer, fan_in: int) -> Initializer:
    """`init` applied to the matrix (fan_in, rest) that a kernel of more axes stands for."""

    def reshaped(rng, shape, dtype):
        return init(rng, (fan_in, math.prod(shape) // fan_in), dtype).reshape(shape)

    return reshaped
