"""Linear layers in their plainest form: float32 parameters, a chosen dtype of computation."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]  # (rng, shape, dtype) -> array


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


class Dense(nn.Module):
    """Parameters kernel (I, O) and, with use_bias, bias (O,), which starts at zero unless told."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., I) -> (..., features)"""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return dense(x, kernel, bias, self.dtype)


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
