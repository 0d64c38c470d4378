"""VideoMamba: a ViT whose blocks are selective scans of all tokens, in both directions.

Li et al. 2024, VideoMamba: State Space Model for Efficient Video Understanding (ECCV), section 3.2 and
figure 3; details that the paper leaves open as in its authors' code. A class token stands first, then
the patches of the first frame in raster order, then those of the second ("spatial-first", figure 4a).
The work grows linearly with the tokens; sums over the blocks are float32.

    model = jaxvid.create_model("videomamba", variant="small", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)  # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # (N, 400)

It expects pixels normalised with ImageNet's mean and standard deviation. The learned tables of
positions have the size of the clip that the model is initialised with, or of the fields num_frames
and image_size. Clips of other lengths and sizes are taken too, their tables resized as the authors
resize theirs at load: bicubically over space, linearly over time (nn/position_table.py).

tiny, small and middle have 7.0, 25.6 and 73.9 million parameters with 400 classes. For 16 frames of
224² the paper gives 17, 68 and 202 "GFLOPs", which are the multiply-adds of patches, in_proj and
out_proj; `jaxvid models` counts the two small products in front of each scan as well: 20.4, 76.8
and 225.3.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.models.videomae import cut
from jaxvid.nn.embed import TubeletEmbed, token_grid
from jaxvid.nn.linear import Dense
from jaxvid.nn.pooled_attention import linear_weights
from jaxvid.nn.position_table import cubic_weights, position_table, resize_weighted
from jaxvid.nn.ssm import Mamba

VARIANTS = {
    "test": {
        "width": 64,
        "depth": 3,
        "patch_size": 8,
        "tubelet_size": 2,
        "d_state": 8,
        "start": "mamba",
        # From random codes of the places order is learned within a few epochs.
        "position_init_std": 0.5,
        "time_init_std": 0.5,
    },
    "tiny": {"width": 192, "depth": 24},
    "small": {"width": 384, "depth": 24},
    "middle": {"width": 576, "depth": 32},
}
STARTS = ("videomamba", "mamba")
NORMAL = nn.initializers.normal(0.02)


class Encoder(nn.Module):
    """Tubelets, class token, tables of places and times, blocks, a last normalisation.

    Parameters: patch_embed, class_token (D,), class_position_embedding (D,), spatial_position_embedding
    (h, w, D), temporal_position_embedding (t, D), and those of jaxvid.nn.ssm.Mamba: block_0, …, norm.
    The fields are those of `VideoMamba`.
    """

    width: int
    depth: int
    patch_size: int
    tubelet_size: int
    channels: int
    num_frames: int | None
    image_size: int | None
    d_state: int
    d_conv: int
    expand: int
    dt_rank: int | None
    chunk: int | None
    start: str
    norm_eps: float
    dropout: float
    drop_path_rate: float
    position_init_std: float
    time_init_std: float
    dtype: jnp.dtype
    remat: bool
    scan_layers: bool

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """video: float (N, T, H, W, C) -> float32 (N, 1 + t·h·w, D), as `VideoMamba` gives them.

        Raises ValueError when the patches do not divide the video or its channels are not as expected.
        """
        patches = cut(video, self)  # (N, t·h·w, p)
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        t, h, w = token_grid(video.shape, patch)
        n, width = len(video), self.width
        x = TubeletEmbed(width, patch, self.channels, self.dtype, name="patch_embed")(patches)
        places = self._places((h, w)).reshape(h * w, width) + self._times(t)[:, None]  # (t, h·w, D)
        x = x.astype(jnp.float32) + places.reshape(t * h * w, width)
        first = jnp.broadcast_to(self._first(), (n, 1, width))
        x = jnp.concatenate([first, x], axis=1)
        x = nn.Dropout(self.dropout, deterministic=not train, name="embed_dropout")(x)
        blocks = Mamba(
            self.depth,
            self.d_state,
            self.d_conv,
            self.expand,
            self.dt_rank,
            bidirectional=True,
            chunk=self.chunk,
            norm_eps=self.norm_eps,
            drop_path_rate=self.drop_path_rate,
            remat=self.remat,
            scan_layers=self.scan_layers,
            dtype=self.dtype,
            linear_init=NORMAL if self.start == "videomamba" else None,
        )
        nn.share_scope(self, blocks)  # encoder/block_0, not encoder/mamba/block_0
        return blocks(x, train=train)

    def _first(self) -> jax.Array:
        """The class token with its own place, (D,)"""
        token = self.param("class_token", nn.initializers.zeros, (self.width,), jnp.float32)
        start = nn.initializers.normal(self.position_init_std)
        return token + self.param("class_position_embedding", start, (self.width,), jnp.float32)

    def _places(self, grid: tuple[int, int]) -> jax.Array:
        """(h, w, D)"""
        side = None if self.image_size is None else self.image_size // self.patch_size
        return position_table(
            self,
            "spatial_position_embedding",
            grid,
            self.width,
            made_for=(side, side),
            init=nn.initializers.normal(self.position_init_std),
            resize=resize_places,
        )

    def _times(self, frames: int) -> jax.Array:
        """(t, D)"""
        rows = None if self.num_frames is None else self.num_frames // self.tubelet_size
        return position_table(
            self,
            "temporal_position_embedding",
            (frames,),
            self.width,
            made_for=(rows,),
            init=nn.initializers.normal(self.time_init_std),
            resize=resize_times,
        )


def resize_places(table, grid: tuple[int, int]):
    """(h, w, D) -> (*grid, D), bicubically."""
    return resize_weighted(table, grid, cubic_weights)


def resize_times(table, frames: tuple[int]):
    """(t, D) -> (*frames, D), linearly."""
    return resize_weighted(table, frames, linear_weights)


class VideoMamba(nn.Module):
    """The classifier: a linear layer on the class token.

    num_frames, image_size: of the clips the tables are made for; None: of the one the model is
    initialised with. d_state, d_conv, expand, dt_rank: see jaxvid.nn.ssm.Mixer. chunk: so many
    tokens are scanned in parallel, the chunks one after the other, which bounds the memory of long
    clips; None: all at once. dropout: after the tables. position_init_std, time_init_std: of the
    tables' start.

    start: of the linear layers in the blocks. "videomamba" is what the authors' code does:
    normal(0.02), biases zero, those of the step sizes too, so that a state begins by forgetting
    half of itself at every token. "mamba": Mamba's own, with steps from 0.001 to 0.1, over which
    hundreds of tokens are remembered; for training from nothing.
    """

    num_classes: int
    width: int = 384
    depth: int = 24
    patch_size: int = 16
    tubelet_size: int = 1
    channels: int = 3
    num_frames: int | None = None
    image_size: int | None = None
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    chunk: int | None = 256
    start: str = "videomamba"
    norm_eps: float = 1e-5
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    position_init_std: float = 0.02
    time_init_std: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    def setup(self):
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        for size, part in (("num_frames", "tubelet_size"), ("image_size", "patch_size")):
            made_for, by = getattr(self, size), getattr(self, part)
            if made_for is not None and made_for % by:
                raise ValueError(
                    f"{size}={made_for} is not a multiple of {part}={by}, so no table of positions can "
                    "be made for it; choose another, or None for that of the clip"
                )
        names = [n for n in Encoder.__dataclass_fields__ if n not in ("parent", "name")]
        self.encoder = Encoder(**{name: getattr(self, name) for name in names})
        self.feature_dropout = nn.Dropout(self.head_dropout)
        self.head = Dense(self.num_classes, kernel_init=NORMAL)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised.

        -> logits float32 (N, num_classes); features float32 (N, width), the class token; tokens float32
        (N, 1 + t·h·w, width), normalised: class token first, then raster order over (T / tubelet_size,
        H / patch_size, W / patch_size).
        """
        tokens = self.encoder(inputs["video"], train=train)
        features = tokens[:, 0]
        logits = self.head(self.feature_dropout(features, deterministic=not train))
        return {"logits": logits, "features": features, "tokens": tokens}


MODULE = VideoMamba


def build(num_classes: int, *, variant: str = "small", **overrides) -> VideoMamba:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return VideoMamba(num_classes, **(lookup.variant("videomamba", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "small") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
