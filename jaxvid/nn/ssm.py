"""Selective state-space blocks: Mamba, with one direction through time or two.

Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, section 3.4 and
figure 3; two directions as Zhu et al. 2024, Vision Mamba, section 3.3. Names, sizes and starts are
those of the repository state-spaces/mamba. A block of width I, with E = expand·I channels, is

    x = x + drop_path(mixer(norm(x)))                the sum float32, norm: RMSNorm
    mixer(u) = out_proj(ssm(v)·silu(z)),  v, z = in_proj(u)
    ssm(v): w = silu(causal convolution of v);  dt, B, C = x_proj(w);  dt = softplus(dt_proj(dt))
            selective_scan(w, dt, -exp(A_log), B, C) + D·w

Parameters of a block: norm/scale; mixer/{in_proj,out_proj}/kernel; mixer/forward and, with two
directions, mixer/backward: conv/{kernel (d_conv, 1, E), bias}, x_proj/kernel, dt_proj/{kernel, bias},
A_log (E, S), D (E,).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.drop import DropPath
from jaxvid.nn.linear import Dense, Initializer, dense
from jaxvid.nn.mlp_head import TORCH_LINEAR
from jaxvid.nn.rms_norm import RMSNorm
from jaxvid.nn.selective_scan import selective_scan
from jaxvid.nn.transformer import Stack

DT_MIN, DT_MAX = 1e-3, 0.1  # where the step sizes start


class CausalConv(nn.Module):
    """A depthwise convolution over time that sees this step and the ones before."""

    window: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, E) -> (N, T, E) in `dtype`; the window's last tap is the step itself."""
        steps, width = x.shape[1:]
        start = _within(self.window**-0.5)
        kernel = self.param("kernel", start, (self.window, 1, width), jnp.float32)
        bias = self.param("bias", start, (width,), jnp.float32)
        kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (self.window - 1, 0), (0, 0)))
        # A few shifted products, which XLA fuses into one pass.
        return bias + sum(padded[:, k : k + steps] * kernel[k] for k in range(self.window))


class StepSize(nn.Module):
    """softplus of a linear layer; its bias starts so that the steps are DT_MIN to DT_MAX.

    linear_init: of the kernel, with a bias of zeros; None: Mamba's own start of both.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    linear_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, rank) -> (N, T, features), positive, float32"""
        rank = x.shape[-1]
        start = self.linear_init or _within(rank**-0.5)
        bias_start = nn.initializers.zeros if self.linear_init else _step_bias
        kernel = self.param("kernel", start, (rank, self.features), jnp.float32)
        bias = self.param("bias", bias_start, (self.features,), jnp.float32)
        return nn.softplus(dense(x, kernel, None, self.dtype).astype(jnp.float32) + bias)


class Direction(nn.Module):
    """One way through time: convolution, SiLU, and the scan with what it computes from them."""

    d_state: int
    d_conv: int
    dt_rank: int
    chunk: int | None = None
    dtype: jnp.dtype = jnp.float32
    linear_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, E) -> (N, T, E) in `dtype`"""
        width = x.shape[-1]
        x = nn.silu(CausalConv(self.d_conv, self.dtype, name="conv")(x))
        sizes = self.dt_rank + 2 * self.d_state
        start = self.linear_init or TORCH_LINEAR
        project = Dense(sizes, False, self.dtype, start, name="x_proj")
        dt, b, c = jnp.split(project(x), (self.dt_rank, self.dt_rank + self.d_state), axis=-1)
        dt = StepSize(width, self.dtype, self.linear_init, name="dt_proj")(dt)
        a_log = self.param("A_log", _log_of_place, (width, self.d_state), jnp.float32)
        skip = self.param("D", nn.initializers.ones, (width,), jnp.float32)
        y = selective_scan(x, dt, -jnp.exp(a_log), b, c, chunk=self.chunk)
        return (y + x.astype(jnp.float32) * skip).astype(self.dtype)


class Mixer(nn.Module):
    """What stands where a transformer has attention and an MLP.

    d_state: states S of a channel. d_conv: steps that the convolution sees. expand: E / I. dt_rank:
    width of the step sizes' bottleneck, I / 16 rounded up when None. bidirectional: a second scan of
    the reversed sequence with its own convolution and coefficients, added. chunk: see selective_scan.
    out_scale: what the start of out_proj is multiplied by. linear_init: the start of the other linear
    layers, their biases zero; None: Mamba's own.
    """

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    bidirectional: bool = False
    chunk: int | None = None
    out_scale: float = 1.0
    dtype: jnp.dtype = jnp.float32
    linear_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, I) -> (N, T, I) in `dtype`"""
        width, start = x.shape[-1], self.linear_init or TORCH_LINEAR
        wide = Dense(2 * self.expand * width, False, self.dtype, start, name="in_proj")(x)
        x, gate = jnp.split(wide, 2, axis=-1)
        y = self._direction(width, "forward")(x)
        if self.bidirectional:
            y = y + jnp.flip(self._direction(width, "backward")(jnp.flip(x, axis=1)), axis=1)
        out_init = _scaled(TORCH_LINEAR, self.out_scale)
        return Dense(width, False, self.dtype, out_init, name="out_proj")(y * nn.silu(gate))

    def _direction(self, width: int, name: str) -> Direction:
        rank = self.dt_rank or math.ceil(width / 16)
        sizes = (self.d_state, self.d_conv, rank)
        return Direction(*sizes, self.chunk, self.dtype, self.linear_init, name=name)


class Block(nn.Module):
    """Norm, mixer, and the input added. The fields but norm_eps are those of `Mixer`."""

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    bidirectional: bool = False
    chunk: int | None = None
    out_scale: float = 1.0
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    linear_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, drop_path: float | jax.Array = 0.0, *, train: bool
    ) -> jax.Array:
        """(N, T, I) -> (N, T, I) float32; drop_path: the rate of stochastic depth here."""
        mixer = Mixer(
            self.d_state,
            self.d_conv,
            self.expand,
            self.dt_rank,
            self.bidirectional,
            self.chunk,
            self.out_scale,
            self.dtype,
            self.linear_init,
            name="mixer",
        )
        y = mixer(RMSNorm(self.norm_eps, self.dtype, name="norm")(x))
        y = DropPath(name="drop_path")(y, drop_path, train=train)
        return x.astype(jnp.float32) + y.astype(jnp.float32)


class Mamba(nn.Module):
    """`depth` blocks and a last norm: block_0, block_1, …, norm.

    d_state to chunk, linear_init: see `Mixer`. drop_path_rate, remat, scan_layers: see
    nn/transformer.py's Stack.
    """

    depth: int
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    bidirectional: bool = False
    chunk: int | None = None
    norm_eps: float = 1e-5
    drop_path_rate: float = 0.0
    remat: bool = False
    scan_layers: bool = False
    dtype: jnp.dtype = jnp.float32
    linear_init: Initializer | None = None

    def setup(self):
        def block(name: str) -> Block:
            return Block(
                self.d_state,
                self.d_conv,
                self.expand,
                self.dt_rank,
                self.bidirectional,
                self.chunk,
                # One branch a block adds to the sum: the repository's rescaling of its start.
                out_scale=self.depth**-0.5,
                norm_eps=self.norm_eps,
                dtype=self.dtype,
                linear_init=self.linear_init,
                name=name,
            )

        self.stack = Stack(block, self.depth, self.drop_path_rate, self.remat, self.scan_layers)
        nn.share_scope(self, self.stack)  # block_0, not stack/block_0
        self.norm = RMSNorm(self.norm_eps)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, I) -> (N, T, I) float32, normalised"""
        return self.norm(self.stack(x.astype(jnp.float32), train=train))


# --- where parameters start -----------------------------------------------------------------------


def _within(bound: float) -> Initializer:
    """Uniform in [-bound, bound)"""
    return lambda rng, shape, dtype: jax.random.uniform(rng, shape, dtype, -bound, bound)


def _scaled(init: Initializer, factor: float) -> Initializer:
    return lambda rng, shape, dtype: init(rng, shape, dtype) * factor


def _log_of_place(rng, shape, dtype):
    """A = -1, -2, …, -S for every channel: S4D-Real, Gu et al. 2022."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype)), shape)


def _step_bias(rng, shape, dtype):
    """softplus⁻¹ of step sizes drawn evenly in their logarithm."""
    low, high = math.log(DT_MIN), math.log(DT_MAX)
    steps = jnp.exp(jax.random.uniform(rng, shape, dtype, low, high))
    return steps + jnp.log(-jnp.expm1(-steps))
