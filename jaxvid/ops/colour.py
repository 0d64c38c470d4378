"""Colour jitter and greying, with torchvision's meaning of every number.

The factors are drawn once for each clip and are the same for all its frames. Videos are floating
point (N, T, H, W, 3) in [0, 1], before normalisation; the result is in [0, 1] and of the same
dtype, computed in float32.
"""

import jax
import jax.numpy as jnp

from jaxvid.ops.chance import chosen
from jaxvid.ops.pixels import check_float_video

# ITU-R 601 luma, with the digits of torchvision's rgb_to_grayscale.
_LUMA = (0.2989, 0.587, 0.114)


def colour_jitter(
    rng: jax.Array,
    video: jax.Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    probability: float = 1.0,
) -> jax.Array:
    """Brightness, contrast, saturation and hue changed in this order, each where its number is > 0.

    The factors of the first three are uniform in [max(0, 1 - x), 1 + x]; the hue is turned by a
    share of the colour circle uniform in [-hue, hue], hue <= 0.5. Each clip is changed with
    `probability`. torchvision shuffles the four for each image; here the order is fixed.
    """
    check_float_video(video, "colour_jitter")
    if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
        raise ValueError(
            f"colour_jitter has {brightness=}, {contrast=}, {saturation=}, {hue=}; "
            "expected numbers >= 0, and hue at most 0.5 (half the colour circle)"
        )
    keys = jax.random.split(rng, 5)
    n = video.shape[0]
    changed = video.astype(jnp.float32)
    if brightness:
        changed = adjust_brightness(changed, _factors(keys[0], n, brightness))
    if contrast:
        changed = adjust_contrast(changed, _factors(keys[1], n, contrast))
    if saturation:
        changed = adjust_saturation(changed, _factors(keys[2], n, saturation))
    if hue:
        changed = adjust_hue(changed, jax.random.uniform(keys[3], (n,), minval=-hue, maxval=hue))
    changing = chosen(keys[4], n, probability)
    return jnp.where(_per_clip(changing), changed.astype(video.dtype), video)


def greyscale(rng: jax.Array, video: jax.Array, probability: float = 0.2) -> jax.Array:
    """Each clip with `probability` as its luma, in three equal channels."""
    check_float_video(video, "greyscale")
    changing = chosen(rng, video.shape[0], probability)
    return jnp.where(_per_clip(changing), luma(video).astype(video.dtype), video)


def luma(video: jax.Array) -> jax.Array:
    """Float (…, 3) -> float32 (…, 1)."""
    return jnp.sum(video.astype(jnp.float32) * jnp.asarray(_LUMA), axis=-1, keepdims=True)


def adjust_brightness(video: jax.Array, factors: jax.Array) -> jax.Array:
    """Black at factor 0, unchanged at 1; factors (N,)."""
    return _blend(video, 0.0, factors)


def adjust_contrast(video: jax.Array, factors: jax.Array) -> jax.Array:
    """Each frame's mean luma at factor 0, unchanged at 1; factors (N,)."""
    return _blend(video, jnp.mean(luma(video), axis=(2, 3, 4), keepdims=True), factors)


def adjust_saturation(video: jax.Array, factors: jax.Array) -> jax.Array:
    """Grey at factor 0, unchanged at 1; factors (N,)."""
    return _blend(video, luma(video), factors)


def adjust_hue(video: jax.Array, turns: jax.Array) -> jax.Array:
    """The hue turned by `turns` (N,) of the colour circle; saturation and value (of HSV) stay."""
    high, low = jnp.max(video, -1), jnp.min(video, -1)
    chroma = high - low
    red, green, blue = video[..., 0], video[..., 1], video[..., 2]
    safe = jnp.where(chroma > 0, chroma, 1.0)
    # The hue in sixths of the circle: which channel is the highest, and how far to its neighbours.
    sixths = jnp.where(
        high == red,
        (green - blue) / safe,
        jnp.where(high == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixths = sixths + 6.0 * turns[:, None, None, None]
    # Back to RGB, one channel at a time: value - chroma * clip(min(k, 4 - k), 0, 1).
    k = (jnp.asarray((5.0, 3.0, 1.0)) + sixths[..., None]) % 6.0
    drop = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return jnp.clip(high[..., None] - chroma[..., None] * drop, 0.0, 1.0)


def _factors(rng: jax.Array, n: int, spread: float) -> jax.Array:
    return jax.random.uniform(rng, (n,), minval=max(0.0, 1.0 - spread), maxval=1.0 + spread)


def _blend(video: jax.Array, other: jax.Array | float, factors: jax.Array) -> jax.Array:
    factors = _per_clip(factors)
    return jnp.clip(video * factors + other * (1.0 - factors), 0.0, 1.0)


def _per_clip(values: jax.Array) -> jax.Array:
    return values[:, None, None, None, None]  # (N,) -> (N, 1, 1, 1, 1)
