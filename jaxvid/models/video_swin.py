"""Video Swin Transformer: attention inside 3D windows that shift from block to block.

Liu et al. 2022, Video Swin Transformer, section 3. Time keeps its length after the patches; height
and width are halved, and the width of the tokens doubled, between stages.

    model = jaxvid.create_model("video_swin", variant="T", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 32, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with ImageNet's mean and standard deviation. Any number of frames of any
size: what patches, windows and halving do not divide is padded with zeros at the end.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.drop import DropPath, check_rate
from jaxvid.nn.embed import TubeletEmbed, patchify, token_grid
from jaxvid.nn.linear import Dense
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.pool import global_mean
from jaxvid.nn.stage import Stage, stage_rates
from jaxvid.nn.transformer import Mlp
from jaxvid.nn.window import WindowAttention

VARIANTS = {
    "test": {"width": 32, "depths": (2, 2), "num_heads": (2, 4), "window": (4, 4, 4)},
    "T": {"width": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "S": {"width": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "B": {"width": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
}
# Every linear layer starts from the references' normal (truncated, but at 100 deviations).
NORMAL = nn.initializers.normal(0.02)


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); shifted: whether the windows are."""

    num_heads: int
    window: Sequence[int]
    shifted: bool
    mlp_ratio: float
    norm_eps: float
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: float, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> the same shape in `dtype`; drop_path: the rate of stochastic depth."""
        attention = WindowAttention(
            self.num_heads,
            self.window,
            self.shifted,
            self.dropout,
            self.dtype,
            NORMAL,
            name="attention",
        )
        mlp = Mlp(
            hidden=int(x.shape[-1] * self.mlp_ratio),
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=NORMAL,
            name="mlp",
        )
        for branch, i in ((attention, 1), (mlp, 2)):
            y = branch(LayerNorm(self.norm_eps, self.dtype, name=f"norm{i}")(x), train=train)
            x = x + DropPath(name=f"drop_path{i}")(y, drop_path, train=train)
        return x


class Merge(nn.Module):
    """Patch merging: four neighbours in space side by side, normalised, projected to half of that."""

    norm_eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, ⌈H / 2⌉, ⌈W / 2⌉, 2·C)"""
        n, t, h, w, width = x.shape
        x = jnp.pad(x, ((0, 0), (0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        h, w = (h + 1) // 2, (w + 1) // 2
        x = x.reshape(n, t, h, 2, w, 2, width)
        # The order of the four is down before right.
        x = x.transpose(0, 1, 2, 4, 5, 3, 6).reshape(n, t, h, w, 4 * width)
        x = LayerNorm(self.norm_eps, self.dtype, name="norm")(x)
        return Dense(2 * width, False, self.dtype, NORMAL, name="reduction")(x)


class Encoder(nn.Module):
    """Patches and their norm, stages with merging between them, a last norm.

    The fields are those of `VideoSwin`.
    """

    width: int
    depths: Sequence[int]
    num_heads: Sequence[int]
    window: Sequence[int]
    mlp_ratio: float
    patch_size: int
    tubelet_size: int
    channels: int
    norm_eps: float
    dropout: float
    drop_path_rate: float
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """video: float (N, T, H, W, C) -> tokens (N, T', H', W', width of the last stage)"""
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        pads = [(0, -n % p) for n, p in zip(video.shape[1:4], patch, strict=True)]
        video = jnp.pad(video, ((0, 0), *pads, (0, 0)))
        embed = TubeletEmbed(self.width, patch, self.channels, self.dtype, name="patch_embed")
        x = embed(patchify(video, patch))
        x = x.reshape(x.shape[0], *token_grid(video.shape, patch), self.width)
        x = LayerNorm(self.norm_eps, self.dtype, name="patch_norm")(x)
        x = nn.Dropout(self.dropout, name="embed_dropout")(x, deterministic=not train)
        rates = stage_rates(self.drop_path_rate, self.depths)
        for i, (heads, each) in enumerate(zip(self.num_heads, rates, strict=True), 1):
            if i > 1:
                x = Merge(self.norm_eps, self.dtype, name=f"merge_{i - 1}")(x)
            stage = Stage(_blocks(self, heads), each, self.remat, name=f"stage_{i}")
            x = stage(x, train=train)
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x)


def _blocks(encoder: Encoder, num_heads: int) -> Callable[[int], Block]:
    """Makes the i-th block of a stage; every second one is shifted."""

    def block(i: int) -> Block:
        return Block(
            num_heads=num_heads,
            window=encoder.window,
            shifted=i % 2 == 1,
            mlp_ratio=encoder.mlp_ratio,
            norm_eps=encoder.norm_eps,
            dropout=encoder.dropout,
            dtype=encoder.dtype,
            name=f"block_{i}",
        )

    return block


class VideoSwin(nn.Module):
    """The classifier.

    width: of the first stage's tokens, doubled in each next one; depths, num_heads: of the stages.
    window: (t, h, w) in tokens, smaller where the map is. patch_size, tubelet_size: pixels and frames
    of a patch. remat: activations inside a block are computed again for the gradient.
    drop_path_rate: of the last block, rising linearly from 0; the paper has 0.1, 0.2, 0.3 for T, S,
    B. head_dropout: 0.5 in the paper.
    """

    num_classes: int
    width: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    window: Sequence[int] = (8, 7, 7)
    mlp_ratio: float = 4.0
    patch_size: int = 4
    tubelet_size: int = 2
    channels: int = 3
    norm_eps: float = 1e-5
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    pads = True  # clips that patches do not divide

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), the mean of tokens (N, L, D) in
        raster order over (T / tubelet_size, H / (patch_size·2^(stages - 1)), the same of W), each
        rounded up. Raises ValueError when the clip has no five axes, other channels or no frames, and
        when depths and num_heads differ in length.
        """
        check_clip(inputs["video"], channels=self.channels)
        check_rate("drop path", self.drop_path_rate)
        if len(self.depths) != len(self.num_heads):
            raise ValueError(
                f"depths={tuple(self.depths)} and num_heads={tuple(self.num_heads)}: expected one "
                "number of each for every stage"
            )
        encoder = Encoder(
            width=self.width,
            depths=self.depths,
            num_heads=self.num_heads,
            window=tuple(self.window),
            mlp_ratio=self.mlp_ratio,
            patch_size=self.patch_size,
            tubelet_size=self.tubelet_size,
            channels=self.channels,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            drop_path_rate=self.drop_path_rate,
            dtype=self.dtype,
            remat=self.remat,
            name="encoder",
        )
        x = encoder(inputs["video"], train=train)
        features = global_mean(x)
        kept = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        logits = Dense(self.num_classes, kernel_init=NORMAL, name="head")(kept)
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])  # (N, T', H', W', D) -> (N, L, D)
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = VideoSwin


def build(num_classes: int, *, variant: str = "T", **overrides) -> VideoSwin:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return VideoSwin(num_classes, **(lookup.variant("video_swin", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "T") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (32, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
