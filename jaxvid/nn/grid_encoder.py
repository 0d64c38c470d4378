"""A transformer over a grid of tokens, with a learned table of positions and, if asked, a class token.

Dosovitskiy et al. 2021, An Image is Worth 16x16 Words (ViT); ViViT has two of them or one.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Stack

# How references start their tables.
POSITIONS = nn.initializers.normal(0.02)


class GridEncoder(nn.Module):
    """Positions, dropout, a stack of blocks, a last norm.

    Parameters: position_embedding (*grid, I); with class_token also class_token (I,) and its own
    class_position_embedding (I,); the blocks of jaxvid.nn.transformer.Stack; norm. block: makes one,
    given its name.
    """

    block: Callable[..., nn.Module]
    depth: int
    class_token: bool = False
    norm_eps: float = 1e-6
    dropout: float = 0.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, *grid, I) -> (N, L, I) in `dtype`: the class token if there is one, then the grid in
        raster order.

        Raises ValueError when the table of positions was made for another grid.
        """
        n, *grid, width = x.shape
        x = x.astype(self.dtype) + self._positions(tuple(grid), width).astype(self.dtype)
        x = x.reshape(n, -1, width)  # (N, *grid, I) -> (N, L, I)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (width,), jnp.float32)
            place = self.param("class_position_embedding", POSITIONS, (width,), jnp.float32)
            first = jnp.broadcast_to((token + place).astype(self.dtype), (n, 1, width))
            x = jnp.concatenate([first, x], axis=1)
        x = nn.Dropout(self.dropout, deterministic=not train, name="embed_dropout")(x)
        stack = Stack(
            self.block, self.depth, self.drop_path_rate, self.remat, self.scan_layers, name="stack"
        )
        nn.share_scope(self, stack)  # block_0, not stack/block_0
        x = stack(x, train=train)
        return LayerNorm(self.norm_eps, self.dtype, name="norm")(x)

    def _positions(self, grid: tuple[int, ...], width: int) -> jax.Array:
        name = "position_embedding"
        if self.has_variable("params", name):
            made_for = self.get_variable("params", name).shape[:-1]
            if made_for != grid:
                raise ValueError(
                    f"{'/'.join((*self.path, name))} was made for a grid of {made_for} patches, this "
                    f"input has {grid}: give clips of the frames and size the weights are for, or "
                    "load them into a model of this input, which resizes the table (init.checkpoint, "
                    "jaxvid.pretrained.load_into)"
                )
        return self.param(name, POSITIONS, (*grid, width), jnp.float32)
