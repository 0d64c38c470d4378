"""Hiera: a transformer of four stages with nothing but attention, in mask units first, and max pooling.

Ryali et al. 2023, Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles, section
3; the video models of its section 5.1. The first two stages attend inside mask units of 1×8×8
patches, the others everywhere; three times the queries of four neighbours in a frame become one.
Time is never pooled.

    model = jaxvid.create_model("hiera", variant="B", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel. Frames
must be a multiple of 2, height and width of 32 (of "test": 16). Tables of positions are made for
the clip that initialises the model and fit this one alone; they are resized when weights are loaded
into a model initialised with another.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.drop import check_rate
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.mask_unit import START, MaskUnitBlock, reroll, unroll
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.pooled_attention import table
from jaxvid.nn.rows import keep_rows

VARIANTS = {
    # Two poolings, so that it takes multiples of 16; a head that starts from more learns sooner.
    "test": {
        "width": 24,
        "depths": (1, 1, 2),
        "num_pools": 2,
        "mask_unit_attention": (True, False, False),
        "head_init_scale": 1.0,
    },
    "B": {},
    "B+": {"width": 112, "num_heads": 2},
    "L": {"width": 144, "num_heads": 2, "depths": (2, 6, 36, 4)},
    "H": {"width": 256, "num_heads": 4, "depths": (2, 6, 36, 4)},
}


class Encoder(nn.Module):
    """Patches with positions, unrolled; blocks; the last map. The fields are those of `Hiera`."""

    width: int
    num_heads: int
    depths: Sequence[int]
    num_pools: int
    pool_stride: Sequence[int]
    mask_unit_attention: Sequence[bool]
    mlp_ratio: float
    patch_kernel: Sequence[int]
    patch_size: int
    tubelet_size: int
    norm_eps: float
    dropout: float
    drop_path_rate: float
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, t, h, w, last width)"""
        x = self._placed(self._patches(video))
        x = nn.Dropout(self.dropout, deterministic=not train, name="embed_dropout")(x)
        grid, levels = x.shape[1:4], len(self.depths) - 1
        x = unroll(x, self.pool_stride, levels)
        stages = [stage for stage, depth in enumerate(self.depths) for _ in range(depth)]
        rates = np.linspace(0.0, self.drop_path_rate, len(stages)).tolist()
        for i, (stage, before) in enumerate(zip(stages, [0, *stages], strict=False)):
            x = self._layer(rates[i], train)(self._block(i, stage, stage > before), x)
        grid = [n // s**self.num_pools for n, s in zip(grid, self.pool_stride, strict=True)]
        return reroll(x, grid, self.pool_stride, levels - self.num_pools)

    def _patches(self, video: jax.Array) -> jax.Array:
        """(N, T, H, W, C) -> (N, t, h, w, width)"""
        return Conv(
            self.width,
            tuple(self.patch_kernel),
            strides=(self.tubelet_size, self.patch_size, self.patch_size),
            use_bias=True,
            dtype=self.dtype,
            kernel_init=START["kernel_init"],
            name="patch_embed",
        )(video)

    def _placed(self, x: jax.Array) -> jax.Array:
        """(N, t, h, w, width) plus a table of places in a frame and one of frames."""
        t, h, w = x.shape[1:4]
        in_space = self._table("spatial_position_embedding", (h, w))
        in_time = self._table("temporal_position_embedding", (t,))
        return x + (in_time[:, None, None] + in_space).astype(x.dtype)

    def _table(self, name: str, places: tuple[int, ...]) -> jax.Array:
        found = table(self, name, (*places, self.width))
        if found.shape[:-1] != places:
            there, here = ("×".join(map(str, sizes)) for sizes in (found.shape[:-1], places))
            raise ValueError(
                f"{name} has {there} places, this clip makes {here}: give clips as those that "
                "initialised the model, or initialise it with these and load the weights into it, which "
                "resizes its tables"
            )
        return found

    def _block(self, i: int, stage: int, widens: bool) -> MaskUnitBlock:
        """A block that widens is the first of its stage: it pools queries, as long as num_pools lasts,
        and still attends as the stage before did."""
        return MaskUnitBlock(
            num_heads=self.num_heads * 2**stage,
            features=self.width * 2**stage,
            pool=math.prod(self.pool_stride) if widens and stage <= self.num_pools else 1,
            inside=self.mask_unit_attention[stage - widens],
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            dtype=self.dtype,
            name=f"block_{i}",
        )

    def _layer(self, rate: float, train: bool):
        """(block, x) -> x, computed again for the gradient with remat."""

        def layer(block, x):
            return keep_rows(block(keep_rows(x), rate, train=train))

        return nn.remat(layer) if self.remat else layer


class Hiera(nn.Module):
    """The classifier.

    width, num_heads: of the first stage; every other stage has twice those before it. depths:
    blocks of each stage. num_pools: how many stages after the first begin with pooling;
    pool_stride: what is pooled over (t, h, w), to the power of the stages after the first the size
    of a mask unit in patches. mask_unit_attention: which stages attend inside mask units, the first
    block of each as the stage before. patch_kernel: odd, of the convolution that makes tokens, with
    strides tubelet_size and patch_size. dropout: in the blocks, which the reference has not.
    head_init_scale: what the head's start is multiplied by. remat: activations inside a block are
    computed again for the gradient.
    """

    num_classes: int
    width: int = 96
    num_heads: int = 1
    depths: Sequence[int] = (2, 3, 16, 3)
    num_pools: int = 3
    pool_stride: Sequence[int] = (1, 2, 2)
    mask_unit_attention: Sequence[bool] = (True, True, False, False)
    mlp_ratio: float = 4.0
    patch_kernel: Sequence[int] = (3, 7, 7)
    patch_size: int = 4
    tubelet_size: int = 2
    channels: int = 3
    norm_eps: float = 1e-6
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    head_init_scale: float = 0.001
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes), features float32 (N, D), the mean of tokens (N, L, D),
        normalised; tokens in raster order over the last map, (T / 2, H / 32, W / 32) with the defaults.
        Raises ValueError when the clip has other channels, is not a multiple of a mask unit or does not
        fit the tables of positions, and when fields contradict each other.
        """
        self._check_fields()
        self._check_clip(inputs["video"])
        encoder = Encoder(**{name: getattr(self, name) for name in ENCODER_FIELDS}, name="encoder")
        x = encoder(inputs["video"], train=train)
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])  # (N, t, h, w, D) -> (N, L, D)
        mean = jnp.mean(tokens.astype(jnp.float32), axis=1)
        features = LayerNorm(self.norm_eps, bias_init=START["bias_init"], name="norm")(mean)
        kept = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        start = {name: _scaled(init, self.head_init_scale) for name, init in START.items()}
        logits = Dense(self.num_classes, **start, name="head")(kept)
        return {"logits": logits, "features": features, "tokens": tokens}

    def _check_fields(self) -> None:
        check_rate("drop path", self.drop_path_rate)
        stages = len(self.depths)
        if len(self.mask_unit_attention) != stages:
            raise ValueError(
                f"depths={tuple(self.depths)} and mask_unit_attention="
                f"{tuple(self.mask_unit_attention)}: expected one of each for every stage"
            )
        if not 0 <= self.num_pools < stages:
            raise ValueError(
                f"num_pools={self.num_pools}: expected 0…{stages - 1} of {stages} stages"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads={self.num_heads}")
        if any(k % 2 == 0 for k in self.patch_kernel):
            raise ValueError(f"patch_kernel={tuple(self.patch_kernel)}: expected odd numbers")

    def _check_clip(self, video: jax.Array) -> None:
        check_clip(video, channels=self.channels)
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        unit = tuple(s ** (len(self.depths) - 1) for s in self.pool_stride)
        whole = tuple(p * u for p, u in zip(patch, unit, strict=True))
        if any(n % size for n, size in zip(video.shape[1:4], whole, strict=True)):
            raise ValueError(
                f"inputs['video'] has (T, H, W) = {video.shape[1:4]}: expected multiples of {whole}, a "
                f"mask unit of {'×'.join(map(str, unit))} patches of {'×'.join(map(str, patch))}; give "
                "clips of another data.num_frames or data.size"
            )


ENCODER_FIELDS = tuple(
    name for name in Encoder.__dataclass_fields__ if name not in ("parent", "name")
)


def _scaled(init: Initializer, factor: float) -> Initializer:
    return lambda rng, shape, dtype=jnp.float32: init(rng, shape, dtype) * factor


MODULE = Hiera


def build(num_classes: int, *, variant: str = "B", **overrides) -> Hiera:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return Hiera(num_classes, **(lookup.variant("hiera", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "B") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
