"""CLIP's two towers, as X-CLIP and frame pooling have them: one over frames, one over words.

Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (CLIP),
section 2.4. Pre-norm blocks, with QuickGELU as the authors' or with GELU as OpenCLIP's; the start of
blocks is that of the authors' code.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.activation import Activation, quick_gelu
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.cross_frame import CrossFrameBlock
from jaxvid.nn.embed import Patch, TubeletEmbed, patchify, token_grid
from jaxvid.nn.linear import Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Block, Stack

CAUSAL = functools.partial(dot_product_attention, causal=True)


class ImageTower(nn.Module):
    """A ViT on every frame of a clip: patches without bias, a class token, learned positions, a norm
    before the blocks and one after them for the class token.

    cross_frame: blocks with X-CLIP's message tokens (nn/cross_frame.py), which have QuickGELU and
    without which frames do not see each other; activation: of the other blocks. The tables of positions, class_position_embedding (D,) and position_embedding
    (h, w, D), are made for the size the model is initialised with; the latter starts as a normal of
    position_std, or of width^-1/2, as CLIP's, when that is None.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch_size: int = 16
    channels: int = 3
    norm_eps: float = 1e-5
    drop_path_rate: float = 0.0
    cross_frame: bool = False
    activation: Activation = quick_gelu
    position_std: float | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """video: float (N, T, H, W, C) -> the class token of each frame, normalised, (N, T, width),
        and the patches' tokens as the last block leaves them, (N, T, h·w, width), both in `dtype`.

        Raises ValueError for other channels, patches that do not divide the frames, or a size the
        table of positions was not made for.
        """
        patch = (1, self.patch_size, self.patch_size)
        patches, grid = self._patches(video, patch)
        rows, width = patches.shape[0], self.width
        embed = TubeletEmbed(
            width,
            patch,
            self.channels,
            self.dtype,
            nn.initializers.normal(0.02),
            use_bias=False,
            name="patch_embed",
        )
        start = nn.initializers.normal(width**-0.5)
        token = self.param("class_token", start, (width,), jnp.float32)
        place = self.param("class_position_embedding", start, (width,), jnp.float32)
        spread = start if self.position_std is None else nn.initializers.normal(self.position_std)
        places = table(self, "position_embedding", (*grid, width), spread, "size")
        places = places.reshape(-1, width)  # (h, w, D) -> (h·w, D)
        first = jnp.broadcast_to((token + place).astype(self.dtype), (rows, 1, width))
        x = jnp.concatenate([first, embed(patches) + places.astype(self.dtype)], axis=1)
        x = LayerNorm(self.norm_eps, self.dtype, name="norm_pre")(x)
        x = self._stack(video.shape[1])(x, train=train)
        x = x.reshape(*video.shape[:2], *x.shape[1:])  # (N·T, 1 + h·w, D) -> (N, T, 1 + h·w, D)
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x[:, :, 0]), x[:, :, 1:]

    def _patches(self, video: jax.Array, patch: Patch) -> tuple[jax.Array, tuple[int, int]]:
        """(N·T, h·w, p·p·C) and (h, w)"""
        if video.ndim == 5 and video.shape[-1] != self.channels:
            raise ValueError(
                f"the video has shape {video.shape}: {video.shape[-1]} channels in the last axis, "
                f"expected {self.channels}; give (N, T, H, W, C) or another `channels` to the model"
            )
        t, h, w = token_grid(video.shape, patch)
        patches = patchify(video, patch)
        return patches.reshape(video.shape[0] * t, h * w, patches.shape[-1]), (h, w)

    def _stack(self, num_frames: int) -> Stack:
        common = {
            "mlp_ratio": self.mlp_ratio,
            "norm_eps": self.norm_eps,
            "dtype": self.dtype,
            "kernel_init": clip_init(self.width, self.depth),
            "qkv_init": nn.initializers.normal(self.width**-0.5),
        }
        if self.cross_frame:
            block = functools.partial(CrossFrameBlock, self.num_heads, num_frames, **common)
        else:
            block = functools.partial(Block, self.num_heads, activation=self.activation, **common)
        return _in_scope(
            self, Stack(block, self.depth, self.drop_path_rate, self.remat, self.scan_layers)
        )


class TextTower(nn.Module):
    """A causal transformer over the tokens of a text; its feature is that of the end token.

    end_token: its id, whose first place counts; None: the largest id of a text has that role, as in
    CLIP's own vocabulary. There is no mask for padding: it stands after the end token, and what
    stands there a causal transformer never sees.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    vocab_size: int = 49408
    context_length: int = 77
    norm_eps: float = 1e-5
    end_token: int | None = None
    activation: Activation = quick_gelu
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(self, ids: jax.Array, *, train: bool) -> jax.Array:
        """ids: int (K, L), L up to context_length, padded after the end token -> (K, width) in `dtype`.

        Raises ValueError for longer texts or other than two axes.
        """
        if ids.ndim != 2 or not 0 < ids.shape[1] <= self.context_length:
            raise ValueError(
                f"text_ids have shape {ids.shape}, expected (texts, tokens) with 1 to "
                f"{self.context_length} tokens; truncate longer texts, keeping their end token"
            )
        start = nn.initializers.normal(0.02)
        words = self.param("token_embedding", start, (self.vocab_size, self.width), jnp.float32)
        shape = (self.context_length, self.width)
        places = self.param("position_embedding", nn.initializers.normal(0.01), shape, jnp.float32)
        x = (words[ids] + places[: ids.shape[1]]).astype(self.dtype)
        block = functools.partial(
            Block,
            self.num_heads,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
            activation=self.activation,
            dtype=self.dtype,
            kernel_init=clip_init(self.width, self.depth),
            qkv_init=nn.initializers.normal(self.width**-0.5),
            attend=CAUSAL,
        )
        stack = Stack(block, self.depth, 0.0, self.remat, self.scan_layers)
        x = _in_scope(self, stack)(x, train=train)
        ends = jnp.argmax(ids if self.end_token is None else ids == self.end_token, axis=1)
        x = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]  # (K, L, D) -> (K, D)
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x)


def _in_scope(module: nn.Module, stack: Stack) -> Stack:
    """visual/block_0, not visual/stack/block_0"""
    nn.share_scope(module, stack)
    return stack


def table(module: nn.Module, name: str, shape: tuple, init: Initializer, fixed: str) -> jax.Array:
    """The parameter `name`, float32, of the shape that the clip asks for. Raises ValueError when it was
    made for another one; `fixed` is what had to stay: "size" or "number of frames"."""
    found = module.get_variable("params", name)
    if found is not None and found.shape != shape:
        raise ValueError(
            f"{name} has a table for {found.shape[:-1]} places and the clip has {shape[:-1]}: the "
            f"{fixed} must be that of the weights; load the checkpoint for this one (tables are resized "
            "at load), or give clips of the former"
        )
    return module.param(name, init, shape, jnp.float32)


def clip_init(width: int, depth: int) -> Initializer:
    """The start of a block's linear layers but query, key and value, as CLIP's code has it: a normal of
    (2·width)^-1/2 for the widening layer, of (2·depth·width)^-1/2 for those that end a branch."""

    def init(rng, shape, dtype=jnp.float32):
        widens = shape[0] == width and shape[1] > width
        std = (2 * width) ** -0.5 if widens else (2 * depth * width) ** -0.5
        return std * jax.random.normal(rng, shape, dtype)

    return init
