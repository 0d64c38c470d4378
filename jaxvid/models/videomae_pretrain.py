"""VideoMAE's masked pretraining: the encoder sees the visible tokens, a small decoder paints the
rest.

Tong et al. 2022, VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised
Video Pre-Training, section 3. The trained "encoder" is that of models/videomae.py.

    mask = tube_mask(rng, n, grid=(8, 14, 14), ratio=0.9)  # ops/tube_mask.py
    model = jaxvid.create_model("videomae_pretrain", variant="B", num_visible=160)
    variables = model.init(rng, {"video": x, "tube_mask": mask}, train=False)
    painted = model.apply(variables, {"video": x, "tube_mask": mask}, train=False)["logits"]

It expects pixels normalised with ImageNet's mean and standard deviation; objectives/mae.py compares
what it paints with the clip. Frames and size are read from the input.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.models.videomae import block_stack, encoder_of
from jaxvid.nn.embed import sincos_table, token_grid, torch_uniform
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.rows import keep_rows
from jaxvid.ops.tube_mask import split_tokens

# Decoders: half the encoder's width, heads of 64 (80 for H), as deep as the original pretraining
# scripts have them: 4 blocks for S and B, 12 for L and H.
VARIANTS = {
    "test": {
        "width": 32,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
        "decoder_mlp_ratio": 2.0,
    },
    "Ti": {
        "width": 192,
        "depth": 12,
        "num_heads": 3,
        "decoder_width": 96,
        "decoder_depth": 2,
        "decoder_num_heads": 3,
    },
    "S": {
        "width": 384,
        "depth": 12,
        "num_heads": 6,
        "decoder_width": 192,
        "decoder_depth": 4,
        "decoder_num_heads": 3,
    },
    "B": {
        "width": 768,
        "depth": 12,
        "num_heads": 12,
        "decoder_width": 384,
        "decoder_depth": 4,
        "decoder_num_heads": 6,
    },
    "L": {
        "width": 1024,
        "depth": 24,
        "num_heads": 16,
        "decoder_width": 512,
        "decoder_depth": 12,
        "decoder_num_heads": 8,
    },
    "H": {
        "width": 1280,
        "depth": 32,
        "num_heads": 16,
        "decoder_width": 640,
        "decoder_depth": 12,
        "decoder_num_heads": 8,
    },
}
# The original pretraining starts from Xavier's uniform distribution, that of query, key and value
# over the three as one matrix, which halves its variance.
XAVIER = nn.initializers.xavier_uniform()
XAVIER_QKV = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")


class Decoder(nn.Module):
    """Blocks over all tokens, then norm and head for the last `num_outputs` of them."""

    depth: int
    num_heads: int
    mlp_ratio: float
    outputs: int
    head_bias: bool
    final_norm_eps: float
    qkv_bias: str
    norm_eps: float
    layer_scale: float | None
    dropout: float
    drop_path_rate: float
    dtype: jnp.dtype
    remat: bool
    scan_layers: bool
    kernel_init: Initializer = XAVIER
    qkv_init: Initializer = XAVIER_QKV

    def setup(self):
        self.stack = block_stack(self, self.depth, self.num_heads, self.mlp_ratio)
        nn.share_scope(self, self.stack)
        self.norm = LayerNorm(self.final_norm_eps, self.dtype)
        self.head = Dense(self.outputs, self.head_bias, self.dtype, XAVIER)

    def __call__(self, x: jax.Array, num_outputs: int, *, train: bool) -> jax.Array:
        """(N, L, width) -> (N, num_outputs, outputs)"""
        x = self.stack(x, train=train)
        return self.head(self.norm(x[:, -num_outputs:]))


class VideoMAEPretrain(nn.Module):
    """The autoencoder.

    num_visible: tokens that are not masked in each clip, a number of the program and not of the
    data; needed under jit, counted from the mask when None outside. encoder_norm: whether the
    encoder ends with a norm (Hugging Face's models with use_mean_pooling do not). decoder_norm_eps:
    of decoder/norm alone, 1e-5 in Hugging Face's models; norm_eps is that of all others.
    """

    width: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    patch_size: int = 16
    tubelet_size: int = 2
    channels: int = 3
    decoder_width: int = 192
    decoder_depth: int = 4
    decoder_num_heads: int = 3
    decoder_mlp_ratio: float = 4.0
    decoder_head_bias: bool = True
    decoder_norm_eps: float = 1e-6
    encoder_norm: bool = True
    num_visible: int | None = None
    qkv_bias: str = "qv"
    norm_eps: float = 1e-6
    layer_scale: float | None = None
    dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    def setup(self):
        self.encoder = encoder_of(
            self, final_norm=self.encoder_norm, kernel_init=XAVIER, qkv_init=XAVIER_QKV
        )
        self.encoder_to_decoder = Dense(
            self.decoder_width, False, self.dtype, torch_uniform(self.width)
        )
        start = nn.initializers.truncated_normal(0.02, lower=-1.0, upper=1.0)
        self.mask_token = self.param("mask_token", start, (self.decoder_width,), jnp.float32)
        self.decoder = Decoder(
            depth=self.decoder_depth,
            num_heads=self.decoder_num_heads,
            mlp_ratio=self.decoder_mlp_ratio,
            outputs=self.tubelet_size * self.patch_size**2 * self.channels,
            head_bias=self.decoder_head_bias,
            final_norm_eps=self.decoder_norm_eps,
            qkv_bias=self.qkv_bias,
            norm_eps=self.norm_eps,
            layer_scale=self.layer_scale,
            dropout=self.dropout,
            drop_path_rate=self.drop_path_rate,
            dtype=self.dtype,
            remat=self.remat,
            scan_layers=self.scan_layers,
        )

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised; inputs["tube_mask"]: bool (N,
        tokens), True = masked, the same number in each row, in raster order.

        -> logits float32 (N, masked, t·p·p·C), the painted patches in raster order; tokens (N,
        visible, width), the encoder's; features float32 (N, width), their mean. Raises ValueError
        when mask and video do not fit, or the number of visible tokens is not known.
        """
        video, mask = inputs["video"], inputs["tube_mask"]
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        t, h, w = token_grid(video.shape, patch)
        visible, masked = split_tokens(mask, self._count_visible(mask, (video.shape[0], t * h * w)))
        tokens = self.encoder(video, visible, train=train)
        painted = self.decoder(
            self._with_mask_tokens(tokens, visible, masked), masked.shape[1], train=train
        )
        painted = keep_rows(painted)  # as large as the clip: not to be divided by pixels
        features = jnp.mean(tokens.astype(jnp.float32), axis=1)
        return {"logits": painted.astype(jnp.float32), "features": features, "tokens": tokens}

    def _with_mask_tokens(self, tokens, visible, masked):
        """(N, visible, width) -> (N, tokens, decoder_width): the visible ones, then the masked."""
        places = visible.shape[1] + masked.shape[1]
        positions = jnp.asarray(sincos_table(places, self.decoder_width), self.dtype)
        seen = self.encoder_to_decoder(tokens) + positions[visible]
        hidden = self.mask_token.astype(self.dtype) + positions[masked]
        return jnp.concatenate([seen, hidden], axis=1)

    def _count_visible(self, mask, shape: tuple[int, int]) -> int:
        if mask.shape != shape or mask.dtype != jnp.bool_:
            raise ValueError(
                f"tube_mask is {mask.dtype} of shape {mask.shape}, expected bool of shape {shape}: "
                "one for each token of each clip, True where it is masked"
            )
        if self.is_initializing():  # parameters do not depend on it, and any mask will do
            return self.num_visible or max(1, shape[1] // 2)
        if isinstance(mask, jax.core.Tracer):
            counts = [self.num_visible]
        else:
            counts = np.unique(np.sum(~np.asarray(mask), axis=1)).tolist()
        if counts == [None]:
            raise ValueError(
                "the number of visible tokens must be known when the model is compiled: build it "
                "with num_visible=tokens - ops.tube_mask.num_masked(kind, grid, ratio)"
            )
        if (
            len(counts) > 1
            or not 0 < counts[0] < shape[1]
            or self.num_visible not in (None, *counts)
        ):
            raise ValueError(
                f"tube_mask leaves {counts} of {shape[1]} tokens visible, expected one number for "
                "all clips, some but not all tokens, and the model's "
                f"num_visible={self.num_visible} if that is set"
            )
        return counts[0]


MODULE = VideoMAEPretrain


def build(num_classes: int | None = None, *, variant: str = "S", **overrides) -> VideoMAEPretrain:
    """A row of VARIANTS as a module; overrides: any of its fields. There are no classes here."""
    return VideoMAEPretrain(**(lookup.variant("videomae_pretrain", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "S") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size, tokens = (4, 32, 32) if variant == "test" else (16, 224, 1568)
    return {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32),
        "tube_mask": jax.ShapeDtypeStruct((1, tokens), jnp.bool_),
    }
