"""SlowFast: one pathway sees few frames through many channels, another many frames through few.

Feichtenhofer et al. 2019, SlowFast Networks for Video Recognition (ICCV), section 3 and table 1; as
PyTorchVideo has it. The variants are depth, and slow frames × frames of the video between two of
them: 34.48M, 34.57M, 62.83M and 53.77M parameters for 400 classes.

    model = jaxvid.create_model("slowfast", variant="R50_8x8", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 32, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with mean 0.45 and standard deviation 0.225 in every channel, every
second frame. The clip is what the fast pathway sees; the slow one's frames are taken from it here.
Any multiple of alpha frames, of any size from 32 on.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.nn.clip_shape import check_clip
from jaxvid.nn.conv import Conv
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean, window_mean
from jaxvid.nn.resnet3d import (
    DEPTHS,
    EXPANSION,
    HEAD_INIT,
    Branch,
    Layer,
    Norm,
    Stage,
    Stem,
    bottleneck,
    norm_of,
    per_stage,
    repeat,
)

# In "50_50" only as many blocks of stage 3 see other frames as a network of depth 50 has there.
TIMED_AS_50 = (3,) * DEPTHS[50][2] + (1,) * (DEPTHS[101][2] - DEPTHS[50][2])
VARIANTS = {
    "test": {
        "stage_sizes": (1, 1, 1),
        "width": 16,
        "channel_reduction": 4,
        "fusion_kernel": 5,
        "slow_temporal_kernels": ((1,), (3,), (3,)),
        "fast_temporal_kernels": ((3,), (3,), (3,)),
        "spatial_strides": (1, 2, 1),
        "stem_pool": False,
        "head_dropout": 0.0,
    },
    "R50_4x16": {"alpha": 8, "fusion_kernel": 5, "head_pools": ((4, 7, 7), (32, 7, 7))},
    "R50_8x8": {"head_pools": ((8, 7, 7), (32, 7, 7))},
    "R101_8x8": {
        "stage_sizes": DEPTHS[101],
        "fusion_kernel": 5,
        "head_pools": ((8, 7, 7), (32, 7, 7)),
    },
    "R101_16x8": {
        "stage_sizes": DEPTHS[101],
        "fusion_kernel": 5,
        "slow_temporal_kernels": ((1,), (1,), TIMED_AS_50, (3,)),
        "fast_temporal_kernels": ((3,), (3,), TIMED_AS_50, (3,)),
        "head_pools": ((16, 7, 7), (64, 7, 7)),
    },
}
CLIPS = {
    "test": (8, 32),
    "R50_4x16": (32, 224),
    "R50_8x8": (32, 224),
    "R101_8x8": (32, 224),
    "R101_16x8": (64, 224),
}
STEM_KERNELS = (1, 5)  # frames that the stems of the slow and the fast pathway cover


def slow_frames(frames: int, alpha: int, spread: bool = True) -> np.ndarray:
    """int (frames / alpha,), the fast pathway's frames that the slow one sees.

    spread: the reference's rule, evenly from the first to the last: float32 numbers of torch's
    linspace, which counts from both ends, cut off; otherwise every alpha-th from the first. Raises
    ValueError unless alpha divides frames: the lateral connections could not be laid over the slow
    maps.
    """
    if frames % alpha:
        raise ValueError(
            f"a clip of {frames} frames cannot be shared out: the slow pathway takes one of "
            f"{alpha} (alpha), so give clips of a multiple of {alpha} frames (data.num_frames), as "
            f"{max(frames // alpha, 1) * alpha}"
        )
    if not spread:
        return np.arange(0, frames, alpha)
    count = frames // alpha
    step = np.float32(frames - 1) / np.float32(max(count - 1, 1))
    i = np.arange(count, dtype=np.float32)
    from_start, from_end = step * i, np.float32(frames - 1) - step * i[::-1]
    return np.where(i < count // 2, from_start, from_end if count > 1 else 0).astype(np.int64)


class Pathway(nn.Module):
    """stem, stage_1, stage_2, … of a 3D ResNet, to be called one after the other."""

    stem_layer: Layer
    stages: tuple[tuple[Branch, ...], ...]
    norm: Norm
    stem_pool: bool
    dtype: jnp.dtype

    def setup(self):
        self.stem = Stem(self.stem_layer, self.norm, self.stem_pool, self.dtype)
        for i, branches in enumerate(self.stages, 1):
            setattr(self, f"stage_{i}", Stage(branches, self.norm, True, self.dtype))

    def step(self, i: int, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T, H', W', C'); i: 0 for the stem, or the number of a stage."""
        return (getattr(self, f"stage_{i}") if i else self.stem)(x, train=train)


class Lateral(nn.Module):
    """What the slow pathway gets of the fast one: a convolution over time with stride alpha."""

    ratio: int
    kernel: int
    alpha: int
    norm: Norm | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, fast: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> (N, T / alpha, H, W, ratio · C)"""
        width = self.ratio * fast.shape[-1]
        strides = (self.alpha, 1, 1)
        x = Conv(width, (self.kernel, 1, 1), strides, dtype=self.dtype, name="conv")(fast)
        return x if self.norm is None else nn.relu(self.norm(name="norm")(x, train=train))


class Backbone(nn.Module):
    """The pathways slow and fast, and fusion_0, fusion_1, … after the stem and each stage but the
    last. The fields are those of `SlowFast`."""

    stage_sizes: Sequence[int]
    width: int
    alpha: int
    channel_reduction: int
    fusion_ratio: int
    fusion_kernel: int
    fusion_norm: bool
    slow_spread: bool
    slow_temporal_kernels: Sequence[Sequence[int]]
    fast_temporal_kernels: Sequence[Sequence[int]]
    spatial_strides: Sequence[int]
    stem_pool: bool
    norm: Norm
    dtype: jnp.dtype

    def setup(self):
        frames = (self.slow_temporal_kernels, self.fast_temporal_kernels)
        widths = (self.width, self.width // self.channel_reduction)
        self.slow, self.fast = (
            Pathway(
                Layer(width, (stem, 7, 7), (1, 2, 2)),
                tuple(
                    repeat(
                        depth,
                        bottleneck,
                        width * 2**i,
                        EXPANSION * width * 2**i,
                        temporal=temporal[i],
                        strides=(1, space, space),
                    )
                    for i, (depth, space) in enumerate(
                        zip(self.stage_sizes, self.spatial_strides, strict=True)
                    )
                ),
                self.norm,
                self.stem_pool,
                self.dtype,
            )
            for width, stem, temporal in zip(widths, STEM_KERNELS, frames, strict=True)
        )
        norm = self.norm if self.fusion_norm else None
        for i in range(len(self.stage_sizes)):
            lateral = Lateral(self.fusion_ratio, self.fusion_kernel, self.alpha, norm, self.dtype)
            setattr(self, f"fusion_{i}", lateral)

    def step(
        self, i: int, slow: jax.Array, fast: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Stem (0) or stage i of both pathways, then the lateral connection after it, if any."""
        slow, fast = self.slow.step(i, slow, train=train), self.fast.step(i, fast, train=train)
        if i < len(self.stage_sizes):
            lateral = getattr(self, f"fusion_{i}")(fast, train=train)
            slow = jnp.concatenate([slow, lateral], axis=-1)
        return slow, fast

    def shared_out(self, video: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(N, T, H, W, C) -> what the slow pathway sees of it (N, T / alpha, H, W, C), and the fast"""
        return video[:, slow_frames(video.shape[1], self.alpha, self.slow_spread)], video

    def __call__(self, video: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """(N, T, H, W, C) -> maps (N, T / alpha, H', W', D) and (N, T, H', W', D') in `dtype`"""
        slow, fast = self.shared_out(video)
        for i in range(len(self.stage_sizes) + 1):
            slow, fast = self.step(i, slow, fast, train=train)
        return slow, fast


def fields_of(model: nn.Module) -> dict:
    """What a `Backbone` takes from the model whose submodule it is. Raises ValueError when fields
    that have one value a stage have more or fewer."""
    per_stage(model, "slow_temporal_kernels", "fast_temporal_kernels", "spatial_strides")
    own = [n for n in Backbone.__dataclass_fields__ if n not in ("norm", "parent", "name")]
    return {**{name: getattr(model, name) for name in own}, "norm": norm_of(model)}


def check_video(model: nn.Module, video: jax.Array) -> None:
    """Raises ValueError for a clip of other channels, or shorter or smaller than kernels and strides,
    or of a number of frames that is no multiple of alpha."""
    kernels = (*model.slow_temporal_kernels, *model.fast_temporal_kernels)
    frames = max(model.alpha, *STEM_KERNELS, *(max(kernel) for kernel in kernels))
    size = 4 if model.stem_pool else 2
    for stride in model.spatial_strides:
        size *= stride
    check_clip(video, channels=model.channels, frames=frames, size=max(size, 7))
    slow_frames(video.shape[1], model.alpha)


def pooled(maps: Sequence[jax.Array], windows: Sequence[Sequence[int]] | None) -> jax.Array:
    """Maps of the pathways (N, T, H, W, C) -> features float32 (N, sum of C).

    The windows' means over all their places, then the mean of those: the head is linear.
    """
    windows = [None] * len(maps) if windows is None else windows
    means = [global_mean(window_mean(x, w)) for x, w in zip(maps, windows, strict=True)]
    return jnp.concatenate(means, axis=-1)


class SlowFast(nn.Module):
    """The classifier.

    stage_sizes: blocks of each stage. width: channels of the slow stem, and inner ones of its stage
    1, doubled from stage to stage; the fast pathway has a channel_reduction-th of them, and alpha
    times the frames. fusion_ratio: channels of a lateral connection to those of the fast pathway;
    fusion_kernel: frames that it covers; fusion_norm: with BatchNorm and ReLU, which MMAction2 leaves
    out. slow_spread: the slow frames are spread from the first to the last, otherwise every alpha-th,
    as in MMAction2. slow_temporal_kernels, fast_temporal_kernels: for each
    stage the frames that the first convolutions of its blocks cover, in turn. spatial_strides: of
    each stage; the stems halve height and width before, and again with stem_pool. head_pools:
    (t, h, w) of the slow and of the fast pathway, the window that is averaged at every place, None
    for the whole maps. frozen_bn: running statistics in training too, for fine-tuning with small
    batches. bn_momentum: what stays of them at a step.
    """

    num_classes: int
    stage_sizes: Sequence[int] = DEPTHS[50]
    width: int = 64
    alpha: int = 4
    channel_reduction: int = 8
    fusion_ratio: int = 2
    fusion_kernel: int = 7
    fusion_norm: bool = True
    slow_spread: bool = True
    slow_temporal_kernels: Sequence[Sequence[int]] = ((1,), (1,), (3,), (3,))
    fast_temporal_kernels: Sequence[Sequence[int]] = ((3,), (3,), (3,), (3,))
    spatial_strides: Sequence[int] = (1, 2, 2, 2)
    stem_pool: bool = True
    head_pools: Sequence[Sequence[int]] | None = None
    channels: int = 3
    head_dropout: float = 0.5
    frozen_bn: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, channels), normalised, T a multiple of alpha.

        -> logits float32 (N, num_classes), features float32 (N, D), slow before fast. Raises
        ValueError for clips that `check_video` refuses.
        """
        video, fields = inputs["video"], fields_of(self)
        check_video(self, video)
        maps = Backbone(**fields, name="backbone")(video, train=train)
        features = pooled(maps, self.head_pools)
        x = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        logits = Dense(self.num_classes, kernel_init=HEAD_INIT, name="head")(x)
        return {"logits": logits, "features": features}


MODULE = SlowFast


def build(num_classes: int, *, variant: str = "R50_8x8", **overrides) -> SlowFast:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return SlowFast(num_classes, **(lookup.variant("slowfast", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "R50_8x8") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS[variant]
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
