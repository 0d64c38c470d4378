"""UniFormer: convolutions where tokens are many, attention over space and time where they are few.

Li et al. 2022, UniFormer: Unified Transformer for Efficient Spatial-Temporal Representation Learning,
section 3. Two stages of local blocks, whose affinity is a depthwise convolution, then two of global
blocks, whose affinity is attention; every block begins with a depthwise convolution that tells
positions. The first patches halve time, height and width are halved between stages.

    model = jaxvid.create_model("uniformer", variant="S", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel. Any number
of frames of any size from 32 on; rows and columns that patches and halving leave over are not seen.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.drop import DropPath, check_rate
from jaxvid.nn.linear import Dense
from jaxvid.nn.mlp_head import TORCH_LINEAR
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.pool import global_mean
from jaxvid.nn.resnet3d import Norm, norm_of
from jaxvid.nn.stage import Stage, stage_rates
from jaxvid.nn.transformer import Attention, Mlp

VARIANTS = {
    "test": {"widths": (16, 32, 48, 64), "depths": (1, 1, 1, 1), "head_dim": 16},
    "S": {"depths": (3, 4, 8, 3)},
    "B": {"depths": (5, 8, 20, 7)},
}
PATCH = 4  # pixels of a side; three frames deep, two frames apart
LOCAL_STAGES = 2  # the others are global
PATCH_EPS = 1e-5  # of the norms after patches; those of the global blocks have 1e-6
NORMAL = nn.initializers.normal(0.02)


class Position(nn.Module):
    """x plus a depthwise 3×3×3 convolution of it: the dynamic position embedding of section 3.3."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> the same shape"""
        width = x.shape[-1]
        conv = Conv(
            width,
            (3, 3, 3),
            groups=width,
            use_bias=True,
            dtype=self.dtype,
            kernel_init=TORCH_LINEAR,
            name="conv",
        )
        return x + conv(x)


class LocalRelations(nn.Module):
    """A token's value from its 5×5×5 neighbours, weighted by where they are (section 3.2.1).

    `value` and `out` are linear, `affinity` is the depthwise convolution between them.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> the same shape"""
        width = x.shape[-1]
        how = {"dtype": self.dtype, "kernel_init": TORCH_LINEAR}
        x = Dense(width, name="value", **how)(x)
        x = Conv(width, (5, 5, 5), groups=width, use_bias=True, name="affinity", **how)(x)
        return Dense(width, name="out", **how)(x)


class LocalBlock(nn.Module):
    """Position, then x + local(norm1(x)), then x + mlp(norm2(x)), with batch normalisation."""

    mlp_ratio: float
    dropout: float
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: float, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> the same shape; drop_path: the rate of stochastic depth here."""
        x = Position(self.dtype, name="position")(x)
        y = self.norm(name="norm1")(x, train=train)
        y = LocalRelations(self.dtype, name="local")(y)
        x = x + DropPath(name="drop_path1")(y, drop_path, train=train)
        y = self.norm(name="norm2")(x, train=train)
        mlp = Mlp(
            hidden=int(x.shape[-1] * self.mlp_ratio),
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=TORCH_LINEAR,
            name="mlp",
        )
        return x + DropPath(name="drop_path2")(mlp(y, train=train), drop_path, train=train)


class GlobalBlock(nn.Module):
    """Position, then attention of all tokens to all, then mlp, as in a pre-norm transformer.

    split: instead attention over time at each place, `time_attention`, then over space in each frame,
    whose branch is added to what was there before either: as the reference has it.
    """

    head_dim: int
    split: bool
    mlp_ratio: float
    norm_eps: float
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: float, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> the same shape; drop_path: the rate of stochastic depth here."""
        shape = n, t, h, w, width = x.shape

        def branch(y: jax.Array, module: nn.Module, norm: str, drop: str) -> jax.Array:
            y = module(LayerNorm(self.norm_eps, self.dtype, name=norm)(y), train=train)
            return DropPath(name=drop)(y, drop_path, train=train)

        x = Position(self.dtype, name="position")(x)
        spatial = self._attention(width, "attention", NORMAL, NORMAL)
        if self.split:
            # It starts as if it were not there, with a way out open.
            ones, zeros = nn.initializers.ones, nn.initializers.zeros
            temporal = self._attention(width, "time_attention", ones, zeros)
            y = x.reshape(n, t, h * w, width).swapaxes(1, 2).reshape(n * h * w, t, width)
            y = y + branch(y, temporal, "time_norm", "drop_path0")
            y = y.reshape(n, h * w, t, width).swapaxes(1, 2).reshape(n * t, h * w, width)
            y = branch(y, spatial, "norm1", "drop_path1")
        else:
            y = branch(x.reshape(n, t * h * w, width), spatial, "norm1", "drop_path1")
        x = x + y.reshape(shape)
        mlp = Mlp(
            hidden=int(width * self.mlp_ratio),
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=NORMAL,
            name="mlp",
        )
        return x + branch(x, mlp, "norm2", "drop_path2")

    def _attention(self, width: int, name: str, kernel_init, qkv_init) -> Attention:
        heads = width // self.head_dim
        if heads * self.head_dim != width:
            raise ValueError(
                f"width {width} of a global stage is not a multiple of head_dim={self.head_dim}; "
                "choose other widths or another head_dim"
            )
        return Attention(
            heads,
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=kernel_init,
            qkv_init=qkv_init,
            name=name,
        )


class Merge(nn.Module):
    """Two by two neighbours in space to one token of another width, by a convolution and a norm."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, H // 2, W // 2, width)"""
        conv = Conv(
            self.width,
            (1, 2, 2),
            (1, 2, 2),
            "VALID",
            use_bias=True,
            dtype=self.dtype,
            kernel_init=TORCH_LINEAR,
            name="reduction",
        )
        return LayerNorm(PATCH_EPS, self.dtype, name="norm")(conv(x))


class Encoder(nn.Module):
    """Patches, four stages with merging between them, a last batch normalisation.

    The fields are those of `UniFormer`.
    """

    widths: Sequence[int]
    depths: Sequence[int]
    head_dim: int
    split: bool
    mlp_ratio: float
    norm_eps: float
    dropout: float
    drop_path_rate: float
    norm: Norm
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, ⌈T / 2⌉, H', W', last width)"""
        patches = Conv(
            self.widths[0],
            (3, PATCH, PATCH),
            (2, PATCH, PATCH),
            (1, 0, 0),
            use_bias=True,
            dtype=self.dtype,
            kernel_init=TORCH_LINEAR,
            name="patch_embed",
        )
        x = LayerNorm(PATCH_EPS, self.dtype, name="patch_norm")(patches(x))
        x = nn.Dropout(self.dropout, name="embed_dropout")(x, deterministic=not train)
        rates = stage_rates(self.drop_path_rate, self.depths)
        for i, (width, each) in enumerate(zip(self.widths, rates, strict=True), 1):
            if i > 1:
                x = Merge(width, self.dtype, name=f"merge_{i - 1}")(x)
            blocks = _local(self) if i <= LOCAL_STAGES else _global(self)
            x = Stage(blocks, each, self.remat, name=f"stage_{i}")(x, train=train)
        return self.norm(name="norm")(x, train=train)


def _local(encoder: Encoder) -> Callable[[int], LocalBlock]:
    """Makes the i-th block of a local stage."""
    fields = (encoder.mlp_ratio, encoder.dropout, encoder.norm, encoder.dtype)
    return lambda i: LocalBlock(*fields, name=f"block_{i}")


def _global(encoder: Encoder) -> Callable[[int], GlobalBlock]:
    """Makes the i-th block of a global stage."""
    names = ("head_dim", "split", "mlp_ratio", "norm_eps", "dropout", "dtype")
    fields = {name: getattr(encoder, name) for name in names}
    return lambda i: GlobalBlock(**fields, name=f"block_{i}")


class UniFormer(nn.Module):
    """The classifier.

    widths, depths: of the four stages. head_dim: numbers of a token that one head of attention sees.
    split: time and space attended one after the other in global blocks. norm_eps: of the global
    blocks. remat: activations inside a block are computed again for the gradient. drop_path_rate: of
    the last block, rising linearly from 0; 0.1 in the published training.
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 320, 512)
    depths: Sequence[int] = (3, 4, 8, 3)
    head_dim: int = 64
    split: bool = False
    mlp_ratio: float = 4.0
    channels: int = 3
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), the mean of tokens (N, L, D) in
        raster order over (⌈T / 2⌉, H // 32, W // 32). Raises ValueError when the clip has no five
        axes, other channels or fewer pixels than one token needs, and when widths and depths differ in
        length.
        """
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"widths={tuple(self.widths)} and depths={tuple(self.depths)}: expected one number of "
                "each for every stage"
            )
        smallest = PATCH * 2 ** (len(self.widths) - 1)
        check_clip(inputs["video"], channels=self.channels, size=smallest)
        check_rate("drop path", self.drop_path_rate)
        encoder = Encoder(
            widths=self.widths,
            depths=self.depths,
            head_dim=self.head_dim,
            split=self.split,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            drop_path_rate=self.drop_path_rate,
            norm=norm_of(self),
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


MODULE = UniFormer


def build(num_classes: int, *, variant: str = "S", **overrides) -> UniFormer:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return UniFormer(num_classes, **(lookup.variant("uniformer", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "S") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
