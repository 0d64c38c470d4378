"""ViViT: a ViT for clips, in four forms of attention over space and time.

Arnab et al. 2021, ViViT: A Video Vision Transformer (ICCV), section 3.3:

    attention="spacetime"                    model 1: all tokens attend to all
    attention="factorised_encoder"           model 2: a transformer for each frame, then one over time
    attention="factorised_self_attention"    model 3: every block attends over time, then over space
    attention="factorised_dot_product"       model 4: half of the heads over time, half over space

    model = jaxvid.create_model("vivit", variant="B", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 32, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels in [-1, 1] (mean and standard deviation 0.5). Its tables of positions are learned, so
that variables are for one number of frames and one size; loading weights resizes them.

The paper's numbers for B, 32 frames of 224² and 400 classes are 88.9, 115.1, 117.3 and 88.9 million
parameters, and 455.2, 284.4, 372.3 and 277.1 "GFLOPs". The matrix products among these are 451.5,
283.2, 371.1 and 276.2 billion multiply-adds, which is what `jaxvid models` counts; the rest, up to
1 %, is softmax, norms, GELU, biases and sums, of which the authors' tool (XLA's cost analysis,
halved) counts every one as half a multiply-add.
"""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.activation import gelu, gelu_tanh
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.embed import TubeletEmbed, patchify, token_grid
from jaxvid.nn.factorised import FactorisedBlock, factorised_dot_product
from jaxvid.nn.grid_encoder import GridEncoder
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.transformer import Block

ENCODER, SELF_ATTENTION = "factorised_encoder", "factorised_self_attention"
DOT_PRODUCT = "factorised_dot_product"
ATTENTIONS = ("spacetime", ENCODER, SELF_ATTENTION, DOT_PRODUCT)
POOLS = ("token", "mean")
ACTIVATIONS = {"gelu_tanh": gelu_tanh, "gelu": gelu}
EMBED_INITS = ("full", "central_frame", "filter_inflation")
TEMPORAL_INITS = ("xavier", "zeros")

_B = {"width": 768, "depth": 12, "num_heads": 12}
_L = {"width": 1024, "depth": 24, "num_heads": 16}
VARIANTS = {
    "test": {
        "width": 48,
        "depth": 2,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "pool": "mean",
    },
    "S": {"width": 384, "depth": 12, "num_heads": 6},  # not the paper's: DeiT's
    "B": _B,
    "B-fact-encoder": {**_B, "attention": ENCODER, "temporal_depth": 4},
    "B-fact-self-attention": {**_B, "attention": SELF_ATTENTION, "pool": "mean"},
    "B-fact-dot-product": {**_B, "attention": DOT_PRODUCT, "pool": "mean"},
    "L": _L,
    # As deep over time as over space: that of the published checkpoints.
    "L-fact-encoder": {**_L, "attention": ENCODER, "temporal_depth": 24},
}


class ViViT(nn.Module):
    """The classifier.

    attention: see the module. temporal_depth, temporal_num_heads and temporal_mlp_ratio: of the
    transformer over time of model 2; the latter two as in space when None. attention_order: of model
    3, "time_space" or "space_time". pool: "token", a class token (models 1 and 2 only), or "mean" of
    all tokens. tubelet_size 1 embeds frames one by one; sampled_frames: so many of the clip's frames
    enter, at equal distances (section 3.2, "uniform frame sampling"), all when None.

    embed_init: of the tubelets' kernel: "full", all of it random; "central_frame", all but the frame
    tubelet_size // 2 zero; "filter_inflation", the same for every frame (section 3.4). temporal_init:
    of model 3's attention over time, "xavier" or "zeros", which is zero in the projection out alone:
    the paper has all its weights at zero, where no gradient reaches any. activation: "gelu_tanh" or
    "gelu". head_dropout acts on the features. scan_layers: the blocks of a stack as one compiled loop.
    """

    num_classes: int
    attention: str = "spacetime"
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    temporal_depth: int = 4
    temporal_num_heads: int | None = None
    temporal_mlp_ratio: float | None = None
    attention_order: str = "time_space"
    patch_size: int = 16
    tubelet_size: int = 2
    sampled_frames: int | None = None
    channels: int = 3
    qkv_bias: str = "all"
    pool: str = "token"
    activation: str = "gelu_tanh"
    embed_init: str = "full"
    temporal_init: str = "xavier"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, width), tokens (N, L, width): the
        class token if there is one, then raster order over (T / tubelet_size, H / patch_size, W /
        patch_size); of model 2 over T / tubelet_size alone. Raises ValueError for clips that the
        patches do not divide or the tables of positions were not made for.
        """
        self._check_fields()
        grid = self._embed(inputs["video"])  # (N, t, h, w, width)
        if self.attention == ENCODER:
            tokens = self._factorised_encoder(grid, train)
        else:
            tokens = self._encoder("encoder", self._block(grid.shape[1]), self.depth)(
                grid, train=train
            )
        features = self._pooled(tokens)
        kept = nn.Dropout(self.head_dropout, deterministic=not train, name="feature_dropout")
        head = Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")
        return {"logits": head(kept(features)), "features": features, "tokens": tokens}

    def _embed(self, video: jax.Array) -> jax.Array:
        check_clip(video, channels=self.channels)
        video = _uniform_frames(video, self.sampled_frames)
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        grid = token_grid(video.shape, patch)
        start = _tubelet_start(self.embed_init)
        embed = TubeletEmbed(
            self.width, patch, self.channels, self.dtype, start, name="patch_embed"
        )
        return embed(patchify(video, patch)).reshape(video.shape[0], *grid, self.width)

    def _factorised_encoder(self, grid: jax.Array, train: bool) -> jax.Array:
        """(N, t, h, w, D) -> (N, L, D), L: t and the class token."""
        n, frames, *places = grid.shape
        spatial = self._encoder("spatial_encoder", self._block(frames), self.depth)
        # One sequence for each frame: (N, t, h, w, D) -> (N·t, h, w, D).
        tokens = spatial(grid.reshape(n * frames, *places), train=train)
        of_frames = self._pooled(tokens).reshape(n, frames, self.width)
        block = functools.partial(
            self._block(frames),
            num_heads=self.temporal_num_heads or self.num_heads,
            mlp_ratio=self.temporal_mlp_ratio or self.mlp_ratio,
        )
        return self._encoder("temporal_encoder", block, self.temporal_depth)(of_frames, train=train)

    def _pooled(self, tokens: jax.Array) -> jax.Array:
        """(N, L, D) -> float32 (N, D)"""
        if self.pool == "token":
            return tokens[:, 0].astype(jnp.float32)
        return jnp.mean(tokens.astype(jnp.float32), axis=1)

    def _encoder(self, name: str, block, depth: int) -> GridEncoder:
        return GridEncoder(
            block,
            depth,
            self.pool == "token",
            self.norm_eps,
            self.dropout,
            self.drop_path_rate,
            self.dtype,
            self.remat,
            self.scan_layers,
            name=name,
        )

    def _block(self, frames: int):
        """Makes a block, given its name."""
        common = {
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "norm_eps": self.norm_eps,
            "dropout": self.dropout,
            "activation": ACTIVATIONS[self.activation],
            "dtype": self.dtype,
        }
        if self.attention == SELF_ATTENTION:
            zeros = nn.initializers.zeros if self.temporal_init == "zeros" else None
            return functools.partial(
                FactorisedBlock,
                frames=frames,
                order=self.attention_order,
                temporal_init=zeros,
                **common,
            )
        attend = dot_product_attention
        if self.attention == DOT_PRODUCT:
            attend = functools.partial(factorised_dot_product, frames=frames)
        return functools.partial(Block, attend=attend, **common)

    def _check_fields(self) -> None:
        for name, known in (
            ("attention", ATTENTIONS),
            ("pool", POOLS),
            ("activation", ACTIVATIONS),
            ("embed_init", EMBED_INITS),
            ("temporal_init", TEMPORAL_INITS),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if self.pool == "token" and self.attention in (SELF_ATTENTION, DOT_PRODUCT):
            raise ValueError(
                f"attention={self.attention!r} has no class token, which would belong to no frame and "
                'to no place; give pool="mean"'
            )


def _uniform_frames(video: jax.Array, count: int | None) -> jax.Array:
    """(N, T, H, W, C) -> (N, count, H, W, C): the frames i·T // count. Raises ValueError."""
    frames = video.shape[1]
    if count is None or count == frames:
        return video
    if count > frames:
        raise ValueError(
            f"the video has {frames} frames, fewer than sampled_frames={count}; give longer clips "
            "(data.num_frames) or a smaller sampled_frames"
        )
    if frames % count == 0:
        return video[:, :: frames // count]
    return video[:, jnp.asarray([i * frames // count for i in range(count)])]


def _tubelet_start(name: str) -> Initializer | None:
    """The start of a kernel (t, p, p, C, D); None for that of a linear layer."""
    return {
        "full": None,
        "central_frame": central_frame_init(nn.initializers.lecun_normal()),
        "filter_inflation": filter_inflation_init(nn.initializers.lecun_normal()),
    }[name]


def central_frame_init(init: Initializer) -> Initializer:
    """A 2D kernel (p, p, C, D) by `init` in the frame t // 2, zeros in the others: tubelets start as
    patches of one frame. ViViT, section 3.4, equation 9."""

    def started(rng, shape, dtype=jnp.float32):
        flat = init(rng, shape[1:], dtype)
        return jnp.zeros(shape, dtype).at[shape[0] // 2].set(flat)

    return started


def filter_inflation_init(init: Initializer) -> Initializer:
    """A 2D kernel (p, p, C, D) by `init`, divided by t, in every frame: tubelets start as patches of
    their mean frame. ViViT, section 3.4, equation 8."""

    def started(rng, shape, dtype=jnp.float32):
        flat = init(rng, shape[1:], dtype) / shape[0]
        return jnp.broadcast_to(flat, shape)

    return started


MODULE = ViViT


def build(num_classes: int, *, variant: str = "B", **overrides) -> ViViT:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return ViViT(num_classes, **(lookup.variant("vivit", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "B") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (32, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
