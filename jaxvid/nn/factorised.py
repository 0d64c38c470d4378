"""Attention over time and over space apart, for tokens of a video in raster order (t, h, w).

Arnab et al. 2021, ViViT: A Video Vision Transformer, section 3.3: `FactorisedBlock` is its model 3,
`factorised_dot_product` its model 4. L tokens are `frames` times as many places.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown
from jaxvid.nn.activation import gelu
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.drop import DropPath
from jaxvid.nn.linear import Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Attention, Mlp

ORDERS = {"time_space": ("temporal", "spatial"), "space_time": ("spatial", "temporal")}


def places_first(x: jax.Array, frames: int) -> jax.Array:
    """(N, T·S, *rest) -> (N·S, T, *rest): every place of the frame a sequence over time."""
    n, length, *rest = x.shape
    _check_frames(length, frames)
    x = x.reshape(n, frames, length // frames, *rest)
    return jnp.swapaxes(x, 1, 2).reshape(n * (length // frames), frames, *rest)


def frames_first(x: jax.Array, frames: int) -> jax.Array:
    """(N, T·S, *rest) -> (N·T, S, *rest): every frame a sequence of its own."""
    n, length, *rest = x.shape
    _check_frames(length, frames)
    return x.reshape(n * frames, length // frames, *rest)


def places_last(x: jax.Array, batch: int) -> jax.Array:
    """(N·S, T, *rest) -> (N, T·S, *rest), the way back from `places_first`; batch: N."""
    rows, frames, *rest = x.shape
    x = x.reshape(batch, rows // batch, frames, *rest)
    return jnp.swapaxes(x, 1, 2).reshape(batch, -1, *rest)


def factorised_dot_product(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    frames: int,
    scale: float | None = None,
) -> jax.Array:
    """The first half of the heads attends over time, at its own place; the second half over its own
    frame. query, key, value: (N, L, H, D) -> (N, L, H, D).

    ViViT, section 3.3, model 4. Raises ValueError for an odd number of heads and for lengths that are
    no multiple of `frames`.
    """
    n, _, heads, _ = query.shape
    if heads % 2:
        raise ValueError(
            f"{heads} heads: one half attends over time, the other over space, so their number must "
            "be even"
        )
    arrays = (query, key, value)
    over_time = [places_first(x[:, :, : heads // 2], frames) for x in arrays]
    over_space = [frames_first(x[:, :, heads // 2 :], frames) for x in arrays]
    temporal = places_last(dot_product_attention(*over_time, scale=scale), n)
    spatial = dot_product_attention(*over_space, scale=scale).reshape(temporal.shape)
    return jnp.concatenate([temporal, spatial], axis=2)


class FactorisedBlock(nn.Module):
    """Attention over time, attention over space, then the MLP, each with a norm before and a
    residual connection around.

    Parameters: temporal_norm, norm1, norm2 {scale, bias}; temporal_attention and attention (over
    space) as those of jaxvid.nn.transformer.Attention; mlp {fc1, fc2}. order: "time_space" or
    "space_time". temporal_init: of the projection out of temporal_attention, kernel_init when None;
    with zeros the block starts as one of images. Other fields as in jaxvid.nn.transformer.Block.
    """

    num_heads: int
    frames: int
    order: str = "time_space"
    mlp_ratio: float = 4.0
    qkv_bias: str = "all"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = gelu
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    temporal_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, drop_path: float | jax.Array = 0.0, *, train: bool
    ) -> jax.Array:
        """(N, L, I) -> (N, L, I) in `dtype`; drop_path: the rate of stochastic depth here.

        Raises ValueError when L is no multiple of `frames`.
        """
        if self.order not in ORDERS:
            raise unknown("attention order", self.order, ORDERS)
        x = x.astype(self.dtype)
        for axis in ORDERS[self.order]:
            y = getattr(self, f"_{axis}")(x, train)
            x = x + DropPath(name=f"drop_path_{axis}")(y, drop_path, train=train)
        mlp = Mlp(
            round(x.shape[-1] * self.mlp_ratio),
            self.activation,
            self.dropout,
            self.dtype,
            self.kernel_init,
            name="mlp",
        )
        y = mlp(LayerNorm(self.norm_eps, self.dtype, name="norm2")(x), train=train)
        return x + DropPath(name="drop_path_mlp")(y, drop_path, train=train)

    def _temporal(self, x: jax.Array, train: bool) -> jax.Array:
        y = LayerNorm(self.norm_eps, self.dtype, name="temporal_norm")(x)
        attention = self._attention("temporal_attention", self.temporal_init)
        return places_last(attention(places_first(y, self.frames), train=train), x.shape[0])

    def _spatial(self, x: jax.Array, train: bool) -> jax.Array:
        y = LayerNorm(self.norm_eps, self.dtype, name="norm1")(x)
        y = self._attention("attention")(frames_first(y, self.frames), train=train)
        return y.reshape(x.shape)

    def _attention(self, name: str, out_init: Initializer | None = None) -> Attention:
        return Attention(
            self.num_heads,
            qkv_bias=self.qkv_bias,
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=out_init or self.kernel_init,
            qkv_init=self.kernel_init,
            name=name,
        )


def _check_frames(length: int, frames: int) -> None:
    if length % frames:
        raise ValueError(f"{length} tokens are not a multiple of {frames} frames")
