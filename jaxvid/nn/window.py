"""Self-attention inside the windows of a clip, and windows shifted by half across their borders.

Liu et al. 2022, Video Swin Transformer, section 3.2. A map of any size is cut into windows of t × h × w
tokens, padded at the end with zeros, which take part. Where the map is no longer than the window, the
window is as long as the map and is not shifted along that axis. Shifting rolls the map: the last window
of an axis then holds tokens of both ends, which must not see each other. Only the last windows have
such tokens, so they are worked off apart from the others, and no mask of all windows is ever made.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.linear import HeadMerge, HeadSplit, Initializer
from jaxvid.nn.rows import division, map_rows

APART = -100.0  # what the references add to scores between tokens that must not see each other
Size = tuple[int, int, int]  # frames, rows, columns


def fit_window(window: Sequence[int], size: Sequence[int], shifted: bool) -> tuple[Size, Size]:
    """(window, shift) on a map of `size`, both (t, h, w): see the module; without `shifted` no
    shift."""
    fitted = tuple(min(w, n) for w, n in zip(window, size, strict=True))
    shift = tuple(w // 2 if shifted and n > w else 0 for w, n in zip(window, size, strict=True))
    return fitted, shift


def cut_windows(x: jax.Array, window: Size) -> jax.Array:
    """(N, T, H, W, C) -> (N, T / t, H / h, W / w, t·h·w, C), tokens in raster order.

    The window divides the map.
    """
    n, *size, width = x.shape
    (a, t), (b, h), (c, w) = ((m // k, k) for m, k in zip(size, window, strict=True))
    x = x.reshape(n, a, t, b, h, c, w, width)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, a, b, c, t * h * w, width)


def join_windows(x: jax.Array, window: Size) -> jax.Array:
    """The way back from `cut_windows`."""
    n, a, b, c, _, width = x.shape
    t, h, w = window
    x = x.reshape(n, a, b, c, t, h, w, width).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(n, a * t, b * h, c * w, width)


def relative_bias(table: jax.Array, tokens: int) -> jax.Array:
    """table (2t-1, 2h-1, 2w-1, H) -> (H, tokens, tokens): what its heads add to each score.

    Row i, column j holds the table's entry for the offset from token j to token i of the window
    (t, h, w). Fewer tokens than the window has are its first ones in raster order, whatever smaller
    window they come from. That is the offsets' meaning where a window is shorter in time only, and
    not where it is smaller in space: the references have it so, and weights are trained with it.
    """
    t, h, w = ((n + 1) // 2 for n in table.shape[:3])
    planes = -(-tokens // (h * w))
    x = table[t - planes : t + planes - 1]
    for axis in (2, 1, 0):
        x = _offsets(x, axis)  # in the end (t, t, h, h, w, w, H)
    x = x.transpose(6, 0, 2, 4, 1, 3, 5).reshape(table.shape[3], planes * h * w, planes * h * w)
    return x[:, :tokens, :tokens]


def _offsets(x: jax.Array, axis: int) -> jax.Array:
    """(…, 2n-1, …) -> (…, n, n, …), [i, j] of it being x[i - j + n - 1]: slices, no gather."""
    n = (x.shape[axis] + 1) // 2
    columns = [lax.slice_in_dim(x, n - 1 - j, 2 * n - 1 - j, axis=axis) for j in range(n)]
    return jnp.stack(columns, axis + 1)


def borders(window: Size, shift: Size) -> list[np.ndarray]:
    """For each axis float32 (L, L): APART between the tokens of the last window that a roll by `shift`
    brought together from the two ends of the map, 0 elsewhere."""
    places = np.indices(window).reshape(3, -1)
    wrapped = [p >= w - s for p, w, s in zip(places, window, shift, strict=True)]
    return [np.where(x[:, None] == x[None], 0.0, APART).astype(np.float32) for x in wrapped]


def attend_windows(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, window: Size, shift: Size
) -> jax.Array:
    """Attention of each window's tokens to one another: three times (N, a, b, c, L, H, D) -> the same.

    bias: (H, L, L), for every window. shift: by which the map was rolled.
    """
    apart = borders(window, shift)

    def attend(arrays, bias, axis):
        if axis == 4:
            flat = (x.reshape(-1, *x.shape[4:]) for x in arrays)  # (windows, L, H, D)
            return dot_product_attention(*flat, bias=bias[None]).reshape(arrays[0].shape)
        if not shift[axis - 1]:
            return attend(arrays, bias, axis + 1)
        last = arrays[0].shape[axis] - 1
        inner = [lax.slice_in_dim(x, 0, last, axis=axis) for x in arrays]
        outer = [lax.slice_in_dim(x, last, last + 1, axis=axis) for x in arrays]
        parts = attend(inner, bias, axis + 1), attend(outer, bias + apart[axis - 1], axis + 1)
        return jnp.concatenate(parts, axis)

    return attend((query, key, value), bias, 1)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for each offset of two tokens.

    window: (t, h, w); shifted: by half of it. Parameters: those of nn/transformer.py's Attention and
    relative_position_bias (2t-1, 2h-1, 2w-1, H). dropout acts on the output.
    """

    num_heads: int
    window: Size
    shifted: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, T, H, W, C) -> the same shape in `dtype`. Raises ValueError unless heads divide C."""
        width, size = x.shape[-1], x.shape[1:4]
        if width % self.num_heads:
            raise ValueError(
                f"width {width} is not a multiple of num_heads={self.num_heads}; choose another "
                "number of heads"
            )
        window, shift = fit_window(self.window, size, self.shifted)
        pads = [(0, -n % w) for n, w in zip(size, window, strict=True)]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        x = cut_windows(jnp.roll(x, [-s for s in shift], (1, 2, 3)), window)
        query, key, value = (
            HeadSplit(
                self.num_heads,
                width // self.num_heads,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name=name,
            )(x)
            for name in ("query", "key", "value")
        )
        offsets = [2 * w - 1 for w in self.window]
        table = self.param(
            "relative_position_bias",
            nn.initializers.normal(0.02),
            (*offsets, self.num_heads),
            jnp.float32,
        )

        def attend(query, key, value, table):
            bias = relative_bias(table, query.shape[4])
            return attend_windows(query, key, value, bias, window, shift)

        y = map_rows(attend, (query, key, value), table, by=_devices_for_themselves())
        y = HeadMerge(width, self.dtype, self.kernel_init, name="out")(y)
        y = jnp.roll(join_windows(y, window), shift, (1, 2, 3))
        y = y[:, : size[0], : size[1], : size[2]]
        return nn.Dropout(self.dropout, deterministic=not train)(y)


def _devices_for_themselves() -> jax.sharding.NamedSharding | None:
    """How rows are divided where every device has rows of its own; None where some share them, each
    with some of the heads, which `map_rows` would gather.

    A device for itself folds its gradients of the bias, (H, L, L), into the small table; else devices
    add them up first, which for windows of 392 tokens are three quarters of the bytes of Swin-T's weights.
    """
    by = division()
    return by if by is not None and by.shard_shape((by.mesh.size,)) == (1,) else None
