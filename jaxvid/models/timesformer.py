"""TimeSformer: a ViT over the patches of all frames whose attention goes along time and space in turn.

Bertasius et al. 2021, Is Space-Time Attention All You Need for Video Understanding?, section 3;
details that the paper leaves open as in its authors' code. 121.4M parameters and 196 giga
multiply-adds for 8 frames of 224² and 400 classes.

    model = jaxvid.create_model("timesformer", variant="B", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 8, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225. The learned tables of
positions have the size of the clip that the model is initialised with, or of the fields num_frames
and image_size. Clips of other lengths and sizes are taken too: each token then has the entry that lies
nearest in the tables (nn/position_table.py).
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.models.videomae import cut
from jaxvid.nn.drop import DropPath
from jaxvid.nn.embed import TubeletEmbed, token_grid
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.position_table import position_table
from jaxvid.nn.transformer import Attention, Block, Mlp, Stack

VARIANTS = {
    "test": {
        "width": 64,
        "depth": 4,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        # From random codes of the places order is learned within a few epochs.
        "position_init_std": 0.5,
        "time_init_std": 0.5,
    },
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "HR": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 768, "depth": 12, "num_heads": 12},
}
CLIPS = {"test": (8, 32), "B": (8, 224), "HR": (16, 448), "L": (96, 224)}  # frames, pixels
ATTENTION_TYPES = ("divided_space_time", "joint_space_time", "space_only")
FRAME_MEANS = ("tokens", "logits")
NORMAL = nn.initializers.normal(0.02)


class DividedBlock(nn.Module):
    """Attention of each patch along its frames, then of each frame over its patches, then the MLP.

    The paper's section 3.3, equations 11 to 13. The class token takes no part along time; over space
    every frame has a copy of it, and the copies are averaged. temporal_init: of the linear layer
    after the attention along time.
    """

    frames: int
    num_heads: int
    mlp_ratio: float
    qkv_bias: str
    norm_eps: float
    dropout: float
    dtype: jnp.dtype
    temporal_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: jax.Array, drop_path: float | jax.Array = 0.0, *, train: bool
    ) -> jax.Array:
        """(N, 1 + S·T, D), class token first, the rest time-fastest, -> the same, in `dtype`."""
        x = x.astype(self.dtype)
        (n, tokens, width), t = x.shape, self.frames
        s = (tokens - 1) // t

        def attended(x: jax.Array, which: str, norm: str) -> jax.Array:
            """(R, L, D) -> (R, L, D), rows being what drop path drops"""
            attention = Attention(
                self.num_heads,
                qkv_bias=self.qkv_bias,
                dropout=self.dropout,
                dtype=self.dtype,
                kernel_init=NORMAL,
                name=which,
            )
            y = attention(LayerNorm(self.norm_eps, self.dtype, name=norm)(x), train=train)
            return DropPath(name=f"{which}_drop_path")(y, drop_path, train=train)

        first, patches = x[:, :1], x[:, 1:]
        along_time = patches.reshape(n * s, t, width)  # (N, S·T, D) -> (N·S, T, D)
        y = attended(along_time, "temporal_attention", "temporal_norm")
        y = Dense(width, dtype=self.dtype, kernel_init=self.temporal_init, name="temporal_fc")(y)
        patches = patches.reshape(n, s, t, width) + y.reshape(n, s, t, width)
        copies = jnp.broadcast_to(first[:, None], (n, t, 1, width))
        frames = jnp.concatenate([copies, patches.swapaxes(1, 2)], axis=2)  # (N, T, 1 + S, D)
        y = attended(frames.reshape(n * t, 1 + s, width), "attention", "norm1")
        y = y.reshape(n, t, 1 + s, width)
        first = first + jnp.mean(y[:, :, :1], axis=1, dtype=jnp.float32).astype(self.dtype)
        patches = patches + y[:, :, 1:].swapaxes(1, 2)  # (N, S, T, D)
        x = jnp.concatenate([first, patches.reshape(n, s * t, width)], axis=1)
        mlp = Mlp(
            round(width * self.mlp_ratio),
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=NORMAL,
            hidden_dropout=self.dropout,
            name="mlp",
        )
        y = mlp(LayerNorm(self.norm_eps, self.dtype, name="norm2")(x), train=train)
        return x + DropPath(name="mlp_drop_path")(y, drop_path, train=train)


class Encoder(nn.Module):
    """Patches of every frame, tables of places and times, class token, blocks, a last normalisation.

    The fields are those of `TimeSformer`.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float
    patch_size: int
    channels: int
    attention_type: str
    frame_mean: str
    num_frames: int | None
    image_size: int | None
    qkv_bias: str
    norm_eps: float
    dropout: float
    drop_path_rate: float
    position_init_std: float
    time_init_std: float
    dtype: jnp.dtype
    remat: bool
    scan_layers: bool
    tubelet_size = 1  # frames are embedded one by one; not a field

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """video: float (N, T, H, W, C) -> tokens in `dtype`, as `TimeSformer` gives them.

        Raises ValueError when the patches do not divide the video or its channels are not as expected.
        """
        patches = cut(video, self)  # (N, T·S, p·p·C)
        grid = token_grid(video.shape, (1, self.patch_size, self.patch_size))
        (n, t), s, width = (len(video), grid[0]), grid[1] * grid[2], self.width
        patch = (1, self.patch_size, self.patch_size)
        x = TubeletEmbed(width, patch, self.channels, self.dtype, name="patch_embed")(patches)
        x = x.reshape(n, t, s, width) + self._places(grid).reshape(s, width).astype(self.dtype)
        x = self._dropped(x, train)
        first = self._first()
        if self.attention_type == "space_only":
            first = jnp.broadcast_to(first, (n * t, 1, width))
            x = jnp.concatenate([self._dropped(first, train), x.reshape(n * t, s, width)], axis=1)
            return self._of_frames(self._stack(t)(x, train=train), n, t)
        x = self._dropped(x + self._times(t)[:, None].astype(self.dtype), train)
        x = x.swapaxes(1, 2).reshape(n, s * t, width)  # (N, T, S, D) -> (N, S·T, D)
        first = self._dropped(jnp.broadcast_to(first, (n, 1, width)), train)
        x = self._stack(t)(jnp.concatenate([first, x], axis=1), train=train)
        return self._norm(x)

    def _dropped(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dropout(self.dropout, deterministic=not train)(x)

    def _norm(self, x: jax.Array) -> jax.Array:
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x)

    def _first(self) -> jax.Array:
        """The class token with its own place, (D,)"""
        token = self.param("class_token", NORMAL, (self.width,), jnp.float32)
        start = nn.initializers.normal(self.position_init_std)
        place = self.param("class_position_embedding", start, (self.width,), jnp.float32)
        return (token + place).astype(self.dtype)

    def _places(self, grid: tuple[int, int, int]) -> jax.Array:
        """(h, w, D)"""
        side = None if self.image_size is None else self.image_size // self.patch_size
        start = nn.initializers.normal(self.position_init_std)
        return position_table(
            self, "position_embedding", grid[1:], self.width, made_for=(side, side), init=start
        )

    def _times(self, frames: int) -> jax.Array:
        """(T, D)"""
        made_for, start = (self.num_frames,), nn.initializers.normal(self.time_init_std)
        return position_table(
            self, "time_position_embedding", (frames,), self.width, made_for=made_for, init=start
        )

    def _of_frames(self, x: jax.Array, n: int, t: int) -> jax.Array:
        """(N·T, 1 + S, D) -> the mean over frames, normalised, or normalised each (N, T, 1 + S, D)"""
        x = x.reshape(n, t, *x.shape[1:])
        if self.frame_mean == "tokens":
            x = jnp.mean(x, axis=1, dtype=jnp.float32).astype(self.dtype)
        return self._norm(x)

    def _stack(self, frames: int) -> Stack:
        common = {
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "norm_eps": self.norm_eps,
            "dropout": self.dropout,
            "dtype": self.dtype,
        }

        def block(name: str) -> nn.Module:
            if self.attention_type != "divided_space_time":
                return Block(**common, kernel_init=NORMAL, name=name)
            # All but the first begin as blocks of space alone; scanned ones, all.
            start = NORMAL if name == "block_0" else nn.initializers.zeros
            return DividedBlock(frames, **common, temporal_init=start, name=name)

        stack = Stack(block, self.depth, self.drop_path_rate, self.remat, self.scan_layers)
        nn.share_scope(self, stack)  # encoder/block_0, not encoder/stack/block_0
        return stack


class TimeSformer(nn.Module):
    """The classifier: a linear layer on the class token.

    attention_type: "divided_space_time", "joint_space_time" (all patches of all frames attend to each
    other) or "space_only" (frames on their own, blind to their order); the paper's figure 1.
    frame_mean: of "space_only", what is averaged over frames: the "tokens", before the last
    normalisation, as the authors have it; or the "logits", for checkpoints that classify every frame.
    num_frames, image_size: of the clips the tables are made for; None: of the one the model is
    initialised with. dropout: after the tables, attention and MLPs. position_init_std,
    time_init_std: of the tables' start; the reference's start for times is zero.
    """

    num_classes: int
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    channels: int = 3
    attention_type: str = "divided_space_time"
    frame_mean: str = "tokens"
    num_frames: int | None = None
    image_size: int | None = None
    qkv_bias: str = "all"
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    position_init_std: float = 0.02
    time_init_std: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    tubelet_size = 1  # a constant that whoever counts tokens reads; not a field

    def setup(self):
        if self.attention_type not in ATTENTION_TYPES:
            raise unknown("attention_type", self.attention_type, ATTENTION_TYPES)
        if self.frame_mean not in FRAME_MEANS:
            raise unknown("frame_mean", self.frame_mean, FRAME_MEANS)
        if self.image_size is not None and self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}, so "
                "no table of positions can be made for it; choose another, or None for that of the clip"
            )
        names = [n for n in Encoder.__dataclass_fields__ if n not in ("parent", "name")]
        self.encoder = Encoder(**{name: getattr(self, name) for name in names})
        self.feature_dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=NORMAL)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes); features float32 (N, width), the class token; tokens
        (N, 1 + S·T, width), class token first, then S places in raster order, each with its T times.
        With "space_only" tokens are (N, 1 + S, width), or (N, T, 1 + S, width) of frame_mean="logits".
        """
        tokens = self.encoder(inputs["video"], train=train)
        features = tokens[..., 0, :].astype(jnp.float32)
        if features.ndim == 3:  # the head is linear: its mean over frames is that of the mean
            features = jnp.mean(features, axis=1)
        logits = self.head(self.feature_dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = TimeSformer


def build(num_classes: int, *, variant: str = "B", **overrides) -> TimeSformer:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return TimeSformer(
        num_classes, **(lookup.variant("timesformer", VARIANTS, variant) | overrides)
    )


def example_inputs(variant: str = "B") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS[variant]
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
