"""MViT: a transformer that halves its maps and doubles its width stage by stage; versions 1 and 2.

Fan et al. 2021, Multiscale Vision Transformers: section 3. Li et al. 2022, MViTv2: Improved
Multiscale Vision Transformers for Classification and Detection: section 4. The second version has
relative positions in place of tables of places, adds pooled queries to the attention's output and
widens inside the attention.

    model = jaxvid.create_model("mvit", variant="v2-S", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel. Frames and
size are read from the input. Tables of positions are made for the clip that initialises the model:
those of version 1 fit this clip alone and are resized when weights are loaded into a model
initialised with another one; relative ones (version 2) serve any clip, resized as it comes.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.drop import check_rate
from jaxvid.nn.embed import torch_uniform
from jaxvid.nn.linear import Dense
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.pooled_attention import (
    NORMAL,
    BlockPlan,
    Grid,
    PoolingBlock,
    block_plans,
    pooled_grid,
    table,
)
from jaxvid.nn.rows import keep_rows

_V2 = {
    "pool_every_query": True,
    "positions": "relative",
    "residual_pooling": True,
    "project_in_attention": True,
}
VARIANTS = {
    # Without a class token: the mean of all tokens learns from few clips.
    "test": {
        **_V2,
        "width": 32,
        "depth": 3,
        "stage_starts": (1, 2),
        "key_stride": (1, 4, 4),
        "class_token": False,
        "head_dropout": 0.0,
    },
    "v1-B 16x4": {},
    "v1-B 32x3": {},
    "v1-B-24 32x3": {"depth": 24, "stage_starts": (2, 5, 21)},
    # Of the images' paper, with the keys of the video models; the paper has no video T.
    "v2-T": {**_V2, "depth": 10, "stage_starts": (1, 3, 8)},
    "v2-S": _V2,
    "v2-B": {**_V2, "depth": 24, "stage_starts": (2, 5, 21)},
    "v2-L": {**_V2, "width": 144, "num_heads": 2, "depth": 48, "stage_starts": (2, 8, 44)},
}
CLIPS = {"test": (8, 32), "v1-B 32x3": (32, 224), "v1-B-24 32x3": (32, 224), "v2-B": (32, 224)}
CLIPS["v2-L"] = (40, 312)
POSITIONS = ("separable", "joint", "relative")


class MViT(nn.Module):
    """The classifier.

    width, num_heads: of the first block; both double at every block of stage_starts, where queries
    are pooled by stage_stride (t, h, w). key_stride: the pooling of keys and values in the first
    block, divided by stage_stride at each stage. pool_kernel: odd, of all pooling convolutions;
    pool_every_query: queries are convolved in all blocks, not only where they stride. positions:
    "separable" tables of space and time that are added, one "joint" table, or "relative".
    residual_pooling: queries are added to the attention's output, that of the class token only with
    residual_class_token. project_in_attention: where the width doubles, the block's attention does
    it; otherwise the MLP of the block before. class_token: what is classified; without it the mean
    of all tokens. patch_kernel: of the convolution that makes tokens, with strides tubelet_size and
    patch_size. dropout: in the blocks; head_dropout: before the head, 0.5 as in the papers.
    """

    num_classes: int
    width: int = 96
    depth: int = 16
    num_heads: int = 1
    stage_starts: Sequence[int] = (1, 3, 14)
    stage_stride: Sequence[int] = (1, 2, 2)
    key_stride: Sequence[int] = (1, 8, 8)
    pool_kernel: Sequence[int] = (3, 3, 3)
    pool_every_query: bool = False
    positions: str = "separable"
    residual_pooling: bool = False
    residual_class_token: bool = False
    project_in_attention: bool = False
    class_token: bool = True
    mlp_ratio: float = 4.0
    qkv_bias: str = "all"
    patch_kernel: Sequence[int] = (3, 7, 7)
    patch_size: int = 4
    tubelet_size: int = 2
    channels: int = 3
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.5
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    pads = True  # clips that patches do not divide

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), tokens (N, L, D) of the last
        map in raster order, normalised, without the class token. Raises ValueError when the clip has
        other channels, is smaller than the strides, or does not fit the tables of positions.
        """
        video = inputs["video"]
        check_rate("drop path", self.drop_path_rate)
        self._check(video)
        plans = self._plans()
        x = self._patches(video)
        grid = x.shape[1:4]
        x = self._placed(x.reshape(x.shape[0], -1, self.width), grid)
        x = nn.Dropout(self.dropout, deterministic=not train, name="embed_dropout")(x)
        sizes = self._sizes(video.shape[1:4], plans)
        rates = np.linspace(0.0, self.drop_path_rate, self.depth)
        for i, (plan, rate) in enumerate(zip(plans, rates, strict=True)):
            x = self._layer(grid, float(rate), train)(self._block(i, plan, sizes[i]), x)
            grid = pooled_grid(grid, plan.query_stride)
        x = LayerNorm(self.norm_eps, self.dtype, name="norm")(x)
        tokens = x[:, 1:] if self.class_token else x
        features = x[:, 0] if self.class_token else jnp.mean(x.astype(jnp.float32), axis=1)
        features = features.astype(jnp.float32)
        y = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        logits = Dense(self.num_classes, kernel_init=NORMAL, name="head")(y)
        return {"logits": logits, "features": features, "tokens": tokens}

    # --- tokens -----------------------------------------------------------------------------------

    def _check(self, video: jax.Array) -> None:
        if self.positions not in POSITIONS:
            raise unknown("positions", self.positions, POSITIONS)
        for name in ("pool_kernel", "patch_kernel"):
            if any(k % 2 == 0 for k in getattr(self, name)):
                raise ValueError(f"{name}={tuple(getattr(self, name))}: expected odd numbers")
        times = [s ** len(self.stage_starts) for s in self.stage_stride]
        smallest = max(self.patch_size * s for s in times[1:])
        frames = self.tubelet_size * times[0]
        check_clip(video, channels=self.channels, frames=frames, size=smallest)

    def _patches(self, video: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> (N, t, h, w, width)"""
        return Conv(
            self.width,
            tuple(self.patch_kernel),
            strides=(self.tubelet_size, self.patch_size, self.patch_size),
            use_bias=True,
            dtype=self.dtype,
            kernel_init=torch_uniform(math.prod(self.patch_kernel) * self.channels),
            name="patch_embed",
        )(video)

    def _placed(self, x: jax.Array, grid: Grid) -> jax.Array:
        """(N, t·h·w, width) with positions and the class token: (N, [1 +] t·h·w, width)"""
        t, h, w = grid
        alone = int(self.class_token)
        if alone:
            token = self.param("class_token", NORMAL, (self.width,), jnp.float32)
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        if self.positions == "joint":
            places = self._table("position_embedding", (alone + t * h * w,), grid)
        elif self.positions == "separable":
            in_space = self._table("spatial_position_embedding", (h, w), grid)
            in_time = self._table("temporal_position_embedding", (t,), grid)
            places = (in_time[:, None, None] + in_space).reshape(t * h * w, self.width)
            if alone:
                of_token = self.param(
                    "class_position_embedding", NORMAL, (self.width,), jnp.float32
                )
                places = jnp.concatenate([of_token[None], places])
        else:
            return x
        return x + places.astype(x.dtype)

    def _table(self, name: str, places: tuple[int, ...], grid: Grid) -> jax.Array:
        found = table(self, name, (*places, self.width))
        if found.shape[:-1] != places:
            there, here = ("×".join(map(str, sizes)) for sizes in (found.shape[:-1], places))
            raise ValueError(
                f"{name} has {there} places, this clip makes {here} (a map of t×h×w = "
                f"{'×'.join(map(str, grid))}): give clips as those that initialised the model, or "
                "initialise it with these and load the weights into it, which resizes its tables"
            )
        return found

    # --- blocks -----------------------------------------------------------------------------------

    def _plans(self) -> tuple[BlockPlan, ...]:
        return block_plans(
            width=self.width,
            num_heads=self.num_heads,
            depth=self.depth,
            stage_starts=self.stage_starts,
            stage_stride=self.stage_stride,
            key_stride=self.key_stride,
            project_in_attention=self.project_in_attention,
        )

    def _block(self, i: int, plan: BlockPlan, rows: Sequence[int]) -> PoolingBlock:
        attention = {
            "pool_kernel": tuple(self.pool_kernel),
            "key_stride": plan.key_stride,
            "pool_queries": self.pool_every_query,
            "table_rows": rows if self.positions == "relative" else None,
            "residual": self.residual_pooling,
            "residual_class_token": self.residual_class_token,
            "qkv_bias": self.qkv_bias,
        }
        return PoolingBlock(
            num_heads=plan.num_heads,
            inner=plan.inner,
            features=plan.features,
            query_stride=plan.query_stride,
            project_in_attention=self.project_in_attention,
            attention=attention,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            dtype=self.dtype,
            name=f"block_{i}",
        )

    def _sizes(self, clip: Sequence[int], plans: Sequence[BlockPlan]) -> list[Grid]:
        """Rows of each block's tables of relative positions. As the reference counts them: strides
        divide the larger side, rounded down, and tables of height and width are alike."""
        frames = clip[0] // self.tubelet_size
        size = max(clip[1:]) // self.patch_size
        found = []
        for plan in plans:
            strides = [max(plan.query_stride[1:]), max(plan.key_stride[1:])]
            side = 2 * max(max(size // s for s in strides), 1) - 1
            found.append((2 * frames - 1, side, side))
            frames //= plan.query_stride[0]
            size //= max(plan.query_stride[1:])
        return found

    def _layer(self, grid: Grid, rate: float, train: bool):
        """(block, x) -> x, computed again for the gradient with remat."""

        def layer(block, x):
            return keep_rows(block(keep_rows(x), grid, rate, train=train))

        return nn.remat(layer) if self.remat else layer


MODULE = MViT


def build(num_classes: int, *, variant: str = "v2-S", **overrides) -> MViT:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return MViT(num_classes, **(lookup.variant("mvit", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "v2-S") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS.get(variant, (16, 224))
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
