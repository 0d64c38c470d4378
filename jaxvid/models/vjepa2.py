"""V-JEPA 2's video classifier: a ViT with rotary positions, an attentive pooler and a linear layer.

Assran et al. 2025, V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and
Planning, sections 2.1 and 4. The encoder is pretrained by predicting features of masked tubelets; a
classifier is an attentive probe on the frozen encoder (freeze_encoder, configs/vjepa2_rwf.py), or
all of it fine-tuned.

    model = jaxvid.create_model("vjepa2", variant="L", num_classes=174)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 256, 256, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 174)

It expects pixels normalised with ImageNet's mean and standard deviation. Frames and size are read
from the input: any multiples of tubelet_size and patch_size, there are no tables of positions.
Published encoders were trained with 16 and then 64 frames of 256² (a "g" also of 384²).
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.models.videomae import cut
from jaxvid.nn.attentive_pool import AttentivePool
from jaxvid.nn.embed import TubeletEmbed, token_grid
from jaxvid.nn.linear import Dense
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.rotary import rotary_attention
from jaxvid.nn.transformer import Block, Stack

VARIANTS = {
    "test": {
        "width": 48,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "pooler_depth": 1,
    },
    "L": {"width": 1024, "depth": 24, "num_heads": 16},
    "H": {"width": 1280, "depth": 32, "num_heads": 16},
    # 6,144 hidden units.
    "g": {"width": 1408, "depth": 40, "num_heads": 22, "mlp_ratio": 48 / 11},
}
NORMAL = nn.initializers.normal(0.02)


class Encoder(nn.Module):
    """Tubelets, blocks whose attention knows positions (nn/rotary.py), a last normalisation.

    The fields are those of `VJEPA2`.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float
    patch_size: int
    tubelet_size: int
    channels: int
    qkv_bias: str
    norm_eps: float
    drop_path_rate: float
    dtype: jnp.dtype
    remat: bool
    scan_layers: bool

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """video: float (N, T, H, W, C) -> tokens (N, L, width) in `dtype`, in raster order.

        Raises ValueError when the patches do not divide the video, its channels are not as expected, or
        heads are too small for positions.
        """
        patches = cut(video, self)
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        embed = TubeletEmbed(
            self.width,
            patch,
            self.channels,
            self.dtype,
            kernel_init=NORMAL,
            bias_init=nn.initializers.zeros,
            name="patch_embed",
        )
        attend = rotary_attention(token_grid(video.shape, patch), self.width // self.num_heads)

        def block(name: str) -> Block:
            return Block(
                self.num_heads,
                self.mlp_ratio,
                qkv_bias=self.qkv_bias,
                norm_eps=self.norm_eps,
                dtype=self.dtype,
                kernel_init=NORMAL,
                attend=attend,
                name=name,
            )

        stack = Stack(block, self.depth, self.drop_path_rate, self.remat, self.scan_layers)
        nn.share_scope(self, stack)  # encoder/block_0, not encoder/stack/block_0
        x = stack(embed(patches), train=train)
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x)


class VJEPA2(nn.Module):
    """The classifier.

    qkv_bias: of the encoder, "all" or "none". pooler_depth, pooler_mlp_ratio: of the blocks before the
    pooler's query (nn/attentive_pool.py), which have the encoder's number of heads. freeze_encoder: the
    encoder is not trained, no gradient is computed for it, and no branches are dropped in it.
    """

    num_classes: int
    width: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    patch_size: int = 16
    tubelet_size: int = 2
    channels: int = 3
    qkv_bias: str = "all"
    norm_eps: float = 1e-6
    pooler_depth: int = 3
    pooler_mlp_ratio: float = 4.0
    freeze_encoder: bool = False
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @property
    def frozen_paths(self) -> tuple[str, ...]:
        """Regular expressions of parameters that an optimiser must leave alone."""
        return ("^encoder/",) if self.freeze_encoder else ()

    def setup(self):
        names = [n for n in Encoder.__dataclass_fields__ if n not in ("parent", "name")]
        self.encoder = Encoder(**{name: getattr(self, name) for name in names})
        self.pooler = AttentivePool(
            self.num_heads,
            self.pooler_depth,
            self.pooler_mlp_ratio,
            self.norm_eps,
            self.dtype,
            self.remat,
        )
        self.feature_dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=NORMAL)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, width), what the pooler makes of the
        tokens, and tokens (N, L, width) in raster order over (T / tubelet_size, H / patch_size,
        W / patch_size), the encoder's.
        """
        tokens = self.encoder(inputs["video"], train=train and not self.freeze_encoder)
        if self.freeze_encoder:
            tokens = jax.lax.stop_gradient(tokens)
        features = self.pooler(tokens, train=train).astype(jnp.float32)
        logits = self.head(self.feature_dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = VJEPA2


def build(num_classes: int, *, variant: str = "L", **overrides) -> VJEPA2:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return VJEPA2(num_classes, **(lookup.variant("vjepa2", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "L") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs of the paper's probes, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 256)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
