"""Videos cut into tubelets, tubelets as tokens, and the fixed table of their positions.

Patches are t × p × p blocks of pixels. Their order is raster order (time, height, width), and the
order of the numbers in one is (t, p, p, channel) with the channel fastest, as in VideoMAE's loss.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.linear import Initializer, dense

Patch = tuple[int, int, int]  # frames, rows, columns


def token_grid(shape: tuple[int, ...], patch: Patch) -> tuple[int, int, int]:
    """Tokens over (time, height, width) of a video of shape (N, T, H, W, C).

    Raises ValueError unless the patch divides the video.
    """
    if len(shape) != 5:
        raise ValueError(f"the video has shape {tuple(shape)}, expected (N, T, H, W, C)")
    size = tuple(shape[1:4])
    if any(n == 0 or n % p for n, p in zip(size, patch, strict=True)):
        fitting = tuple(max(p, n // p * p) for n, p in zip(size, patch, strict=True))
        raise ValueError(
            f"the video has (T, H, W) = {size}, expected multiples of the patch {tuple(patch)}; "
            f"crop or resample it, to {fitting} for instance"
        )
    return tuple(n // p for n, p in zip(size, patch, strict=True))


def patchify(video: jax.Array, patch: Patch) -> jax.Array:
    """(N, T, H, W, C) -> (N, tokens, t·p·p·C). Raises ValueError as `token_grid`."""
    t, h, w = token_grid(video.shape, patch)
    n, channels = video.shape[0], video.shape[-1]
    pt, ph, pw = patch
    x = video.reshape(n, t, pt, h, ph, w, pw, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)  # (N, t, h, w, pt, ph, pw, C)
    return x.reshape(n, t * h * w, pt * ph * pw * channels)


def unpatchify(patches: jax.Array, grid: tuple[int, int, int], patch: Patch) -> jax.Array:
    """(N, tokens, t·p·p·C) -> (N, T, H, W, C), the way back from `patchify`.

    Raises ValueError when the patches do not fill the grid.
    """
    n, tokens, numbers = patches.shape
    (t, h, w), (pt, ph, pw) = grid, patch
    if tokens != t * h * w or numbers % (pt * ph * pw):
        raise ValueError(
            f"patches have shape {patches.shape}; a grid of {tuple(grid)} patches {tuple(patch)} "
            f"needs (N, {t * h * w}, a multiple of {pt * ph * pw})"
        )
    x = patches.reshape(n, t, h, w, pt, ph, pw, numbers // (pt * ph * pw))
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)  # (N, t, pt, h, ph, w, pw, C)
    return x.reshape(n, t * pt, h * ph, w * pw, -1)


class TubeletEmbed(nn.Module):
    """A 3D convolution whose stride is its kernel, as one matrix product over patches.

    Parameters: kernel (t, p, p, C, features) and, with use_bias, bias (features,). The default start is
    PyTorch's for convolutions, which VideoMAE keeps: uniform within ±1/sqrt(t·p·p·C), the bias too.
    """

    features: int
    patch: Patch
    channels: int = 3
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer | None = None
    use_bias: bool = True
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        """(N, tokens, t·p·p·C) of `patchify`, all tokens or some -> (N, tokens, features)."""
        numbers = math.prod(self.patch) * self.channels
        if patches.shape[-1] != numbers:
            raise ValueError(
                f"patches have {patches.shape[-1]} numbers, expected {numbers}: "
                f"{tuple(self.patch)} with {self.channels} channels"
            )
        start = torch_uniform(numbers)
        kernel = self.param(
            "kernel",
            self.kernel_init or start,
            (*self.patch, self.channels, self.features),
            jnp.float32,
        )
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init or start, (self.features,), jnp.float32)
        return dense(patches, kernel.reshape(numbers, self.features), bias, self.dtype)


def torch_uniform(fan_in: int) -> Initializer:
    """Uniform within ±1/sqrt(fan_in): how PyTorch starts weights and biases of linear layers."""

    def init(rng, shape, dtype=jnp.float32):
        bound = 1.0 / math.sqrt(fan_in)
        return jax.random.uniform(rng, shape, dtype, -bound, bound)

    return init


@functools.lru_cache(maxsize=16)
def sincos_table(tokens: int, width: int) -> np.ndarray:
    """Fixed positions of VideoMAE: float32 (tokens, width), not a parameter.

    Token i, channel j: i / 10000^(2·(j // 2) / width), its sine where j is even, cosine where odd;
    i counts all tokens in raster order. In float64 until the end, as the published models have it.
    """
    exponent = 2 * (np.arange(width) // 2) / width
    angle = np.arange(tokens, dtype=np.float64)[:, None] / np.power(10000.0, exponent)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
    table.flags.writeable = False  # it is shared by all who ask
    return table
