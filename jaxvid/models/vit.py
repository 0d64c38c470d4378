"""ViT: an image classifier on every frame, its logits averaged over the clip.

Dosovitskiy et al. 2021, An Image is Worth 16x16 Words (ICLR). Image weights fit it, and start ViViT.

    model = jaxvid.create_model("vit", variant="B", num_classes=1000)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, T, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 1000)

What pixels it expects differs between checkpoints: [-1, 1] for Google's. Any number of frames; it
does not see their order. The table of positions is learned: variables are for one size, loading
resizes them.
"""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.activation import gelu, gelu_tanh
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.embed import TubeletEmbed, patchify, token_grid
from jaxvid.nn.grid_encoder import GridEncoder
from jaxvid.nn.linear import Dense
from jaxvid.nn.transformer import Block

POOLS = ("token", "mean")
ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh}
VARIANTS = {
    "test": {"width": 48, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0, "patch_size": 8},
    "Ti": {"width": 192, "depth": 12, "num_heads": 3},  # DeiT's, as S
    "S": {"width": 384, "depth": 12, "num_heads": 6},
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 1024, "depth": 24, "num_heads": 16},
}


class FrameViT(nn.Module):
    """The classifier. pool: "token", a class token, or "mean" of all tokens; activation: "gelu" or
    "gelu_tanh"; head_dropout acts on the features."""

    num_classes: int
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    channels: int = 3
    qkv_bias: str = "all"
    pool: str = "token"
    activation: str = "gelu"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    tubelet_size = 1  # frames that a token covers

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, width), averages over the frames;
        tokens (N, T, L, width). Raises ValueError for sizes that the patches do not divide or the
        table of positions was not made for.
        """
        for name, known in (("pool", POOLS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        video = inputs["video"]
        check_clip(video, channels=self.channels)
        patch = (1, self.patch_size, self.patch_size)
        n, (frames, *places) = video.shape[0], token_grid(video.shape, patch)
        embed = TubeletEmbed(self.width, patch, self.channels, self.dtype, name="patch_embed")
        # Every frame is an image of its own: (N, T·h·w, D) -> (N·T, h, w, D).
        x = embed(patchify(video, patch)).reshape(n * frames, *places, self.width)
        tokens = self._encoder()(x, train=train)
        pooled = self._pooled(tokens).reshape(n, frames, self.width)
        kept = nn.Dropout(self.head_dropout, deterministic=not train)(pooled)
        head = Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")
        return {
            "logits": jnp.mean(head(kept), axis=1),
            "features": jnp.mean(pooled, axis=1),
            "tokens": tokens.reshape(n, frames, *tokens.shape[1:]),
        }

    def _encoder(self) -> GridEncoder:
        block = functools.partial(
            Block,
            self.num_heads,
            self.mlp_ratio,
            qkv_bias=self.qkv_bias,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            activation=ACTIVATIONS[self.activation],
            dtype=self.dtype,
        )
        return GridEncoder(
            block,
            self.depth,
            self.pool == "token",
            self.norm_eps,
            self.dropout,
            self.drop_path_rate,
            self.dtype,
            self.remat,
            self.scan_layers,
            name="encoder",
        )

    def _pooled(self, tokens: jax.Array) -> jax.Array:
        """(N, L, D) -> float32 (N, D)"""
        if self.pool == "token":
            return tokens[:, 0].astype(jnp.float32)
        return jnp.mean(tokens.astype(jnp.float32), axis=1)


MODULE = FrameViT


def build(num_classes: int, *, variant: str = "B", **overrides) -> FrameViT:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return FrameViT(num_classes, **(lookup.variant("vit", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "B") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for: one image, a short clip for "test"."""
    frames, size = (8, 32) if variant == "test" else (1, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
