"""VideoMAE's video classifier: a plain ViT over tubelets, all tokens attending to all.

Tong et al. 2022, VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised
Video Pre-Training. The model of its fine-tuning; its "encoder" is that of
models/videomae_pretrain.py. Wang et al. 2023, VideoMAE V2: Scaling Video Masked Autoencoders with Dual
Masking, uses the same classifier, up to a billion parameters ("g").

    model = jaxvid.create_model("videomae", variant="B", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with ImageNet's mean and standard deviation. Frames and size are read
from the input: any multiples of tubelet_size and patch_size; the position table follows.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.embed import TubeletEmbed, patchify, sincos_table
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Block, Stack

VARIANTS = {
    "test": {"width": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "patch_size": 8},
    "Ti": {"width": 192, "depth": 12, "num_heads": 3},  # not the paper's: DeiT's, for CPUs
    "S": {"width": 384, "depth": 12, "num_heads": 6},
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 1024, "depth": 24, "num_heads": 16},
    "H": {"width": 1280, "depth": 32, "num_heads": 16},
    # VideoMAE V2's ViT-giant: 6,144 hidden units, 2,048 tokens of 14 × 14 pixels.
    "g": {"width": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11, "patch_size": 14},
}
POOLS = ("mean", "token")
# The original repository's classifier starts its linear layers from a normal of 0.02 (timm's
# truncated one, cut at 100 deviations).
NORMAL = nn.initializers.normal(0.02)


class Encoder(nn.Module):
    """Tubelets, fixed sin-cos positions, blocks and, with final_norm, a last normalisation.

    The fields are those of `VideoMAE`. kernel_init, qkv_init: of the blocks' linear layers.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch_size: int = 16
    tubelet_size: int = 2
    channels: int = 3
    qkv_bias: str = "qv"
    norm_eps: float = 1e-6
    layer_scale: float | None = None
    dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    final_norm: bool = False
    kernel_init: Initializer = NORMAL
    qkv_init: Initializer | None = None
    cosine_attention: bool = False

    def setup(self):
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        self.patch_embed = TubeletEmbed(self.width, patch, self.channels, self.dtype)
        self.stack = block_stack(
            self, self.depth, self.num_heads, self.mlp_ratio, self.cosine_attention
        )
        nn.share_scope(self, self.stack)  # encoder/block_0, not encoder/stack/block_0
        self.embed_dropout = nn.Dropout(self.dropout)
        self.norm = LayerNorm(self.norm_eps, self.dtype) if self.final_norm else None

    def __call__(
        self, video: jax.Array, visible: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        """video: float (N, T, H, W, C) -> tokens (N, L, width) in `dtype`, in raster order.

        visible: int32 (N, L), the only tokens that enter, by their place; None for all. Raises
        ValueError when the patches do not divide the video or its channels are not as expected.
        """
        patches = cut(video, self)
        positions = jnp.asarray(sincos_table(patches.shape[1], self.width), self.dtype)
        if visible is not None:
            patches = jnp.take_along_axis(patches, visible[..., None], axis=1)
            positions = positions[visible]
        x = self.patch_embed(patches) + positions
        x = self.embed_dropout(x, deterministic=not train)
        x = self.stack(x, train=train)
        return x if self.norm is None else self.norm(x)


def cut(video: jax.Array, model: nn.Module) -> jax.Array:
    """(N, T, H, W, C) -> (N, tokens, t·p·p·C) with the patch of a model. Raises ValueError."""
    if video.ndim == 5 and video.shape[-1] != model.channels:
        raise ValueError(
            f"the video has shape {video.shape}: {video.shape[-1]} channels in the last axis, "
            f"expected {model.channels}; give (N, T, H, W, C) or another `channels` to the model"
        )
    return patchify(video, (model.tubelet_size, model.patch_size, model.patch_size))


def block_stack(
    model: nn.Module, depth: int, num_heads: int, mlp_ratio: float, cosine: bool = False
) -> Stack:
    """The blocks of an encoder or a decoder, all else taken from the fields of `model`."""

    def block(name: str) -> Block:
        return Block(
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=model.qkv_bias,
            norm_eps=model.norm_eps,
            layer_scale=model.layer_scale,
            dropout=model.dropout,
            dtype=model.dtype,
            kernel_init=model.kernel_init,
            qkv_init=model.qkv_init,
            cosine=cosine,
            name=name,
        )

    return Stack(block, depth, model.drop_path_rate, model.remat, model.scan_layers)


OPTIONS = ("final_norm", "kernel_init", "qkv_init", "cosine_attention")
ENCODER_FIELDS = tuple(
    name for name in Encoder.__dataclass_fields__ if name not in ("parent", "name", *OPTIONS)
)


def encoder_of(model: nn.Module, **options) -> Encoder:
    """The encoder whose fields a model has under the same names; options: those of OPTIONS."""
    return Encoder(**{name: getattr(model, name) for name in ENCODER_FIELDS}, **options)


class VideoMAE(nn.Module):
    """The classifier.

    pool: "mean" of all tokens, then fc_norm; or "token", the first one after the encoder's norm
    (there is no class token). layer_scale: the number gammas start at, None for none. norm_eps: of
    the blocks and the encoder's norm; fc_norm_eps: 1e-5 in Hugging Face's models. head_init_scale:
    what the head's start is multiplied by, 0.001 as in the original fine-tuning. cosine_attention:
    VideoMAE V2's other form (nn/transformer.py), which its published models do not use.
    """

    num_classes: int
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    patch_size: int = 16
    tubelet_size: int = 2
    channels: int = 3
    qkv_bias: str = "qv"
    pool: str = "mean"
    norm_eps: float = 1e-6
    fc_norm_eps: float = 1e-6
    layer_scale: float | None = None
    cosine_attention: bool = False
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    head_init_scale: float = 0.001
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    def setup(self):
        if self.pool not in POOLS:
            raise unknown("pool", self.pool, POOLS)
        self.encoder = encoder_of(
            self, final_norm=self.pool == "token", cosine_attention=self.cosine_attention
        )
        self.fc_norm = LayerNorm(self.fc_norm_eps) if self.pool == "mean" else None
        self.feature_dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=_scaled(NORMAL, self.head_init_scale))

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, width), tokens (N, L, width) in
        raster order over (T / tubelet_size, H / patch_size, W / patch_size).
        """
        tokens = self.encoder(inputs["video"], train=train)
        if self.pool == "mean":
            features = self.fc_norm(jnp.mean(tokens.astype(jnp.float32), axis=1))
        else:
            features = tokens[:, 0].astype(jnp.float32)
        logits = self.head(self.feature_dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


def _scaled(init: Initializer, factor: float) -> Initializer:
    return lambda rng, shape, dtype=jnp.float32: init(rng, shape, dtype) * factor


MODULE = VideoMAE


def build(num_classes: int, *, variant: str = "S", **overrides) -> VideoMAE:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return VideoMAE(num_classes, **(lookup.variant("videomae", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "S") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (4, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
