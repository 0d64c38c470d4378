"""Random erasing (Zhong et al. 2017, arXiv 1708.04896), one box through all frames of a clip.

The numbers are those of timm, with which VideoMAE is fine-tuned: the area is uniform, the aspect
ratio log-uniform, and what replaces the pixels is drawn anew for every frame.
"""

import math

import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown
from jaxvid.ops.box import inside_box
from jaxvid.ops.chance import chosen
from jaxvid.ops.pixels import check_float_video

# A box that does not fit is drawn again. All draws are made at once and the first that fits is
# taken; with the default area and aspect fewer than one in a hundred draws does not fit.
_TRIES = 10

FILLS = {
    # One field for all clips of a batch: each clip sees fresh noise in every frame and step, and
    # drawing a field a clip costs more than the rest of the augmentation together.
    "pixel": lambda rng, video: jax.random.normal(rng, video.shape[1:], video.dtype)[None],
    "constant": lambda rng, video: jnp.zeros((), video.dtype),
}


def random_erasing(
    rng: jax.Array,
    video: jax.Array,
    *,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    fill: str = "pixel",
) -> jax.Array:
    """Float (N, T, H, W, 3), already normalised -> the same with a box of some clips erased.

    area: smallest and largest share of the frame; aspect: smallest and largest height / width;
    fill: "pixel" is standard normal noise, "constant" is 0, the mean of normalised pixels.
    Boxes are smaller than the frame both ways; a clip for which none is found keeps its pixels.
    """
    check_float_video(video, "random_erasing")
    if fill not in FILLS:
        raise unknown("erasing fill", fill, FILLS)
    if not (0 < area[0] <= area[1] < 1 and 0 < aspect[0] <= aspect[1]):
        raise ValueError(
            f"random_erasing has {area=}, {aspect=}; expected areas (low, high) as shares "
            "between 0 and 1, aspects (low, high) above 0"
        )
    chosen_rng, box_rng, fill_rng = jax.random.split(rng, 3)
    erasing = chosen(chosen_rng, video.shape[0], probability)
    erased = erasing[:, None, None] & _boxes(box_rng, video.shape, area, aspect)  # (N, H, W)
    return jnp.where(erased[:, None, :, :, None], FILLS[fill](fill_rng, video), video)


def _boxes(rng: jax.Array, shape: tuple, area: tuple, aspect: tuple) -> jax.Array:
    n, _, height, width, _ = shape
    area_rng, aspect_rng, place_rng = jax.random.split(rng, 3)
    shares = jax.random.uniform(area_rng, (n, _TRIES), minval=area[0], maxval=area[1])
    low, high = (math.log(x) for x in aspect)
    ratios = jnp.exp(jax.random.uniform(aspect_rng, (n, _TRIES), minval=low, maxval=high))
    pixels = height * width * shares
    tall = jnp.round(jnp.sqrt(pixels * ratios))
    wide = jnp.round(jnp.sqrt(pixels / ratios))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    found, tall, wide = (jnp.take_along_axis(x, first, 1)[:, 0] for x in (fits, tall, wide))
    place = jax.random.uniform(place_rng, (n, 2))
    top = jnp.floor(place[:, 0] * (height - tall + 1))
    left = jnp.floor(place[:, 1] * (width - wide + 1))
    boxes = inside_box(top, left, top + tall, left + wide, height, width)
    return boxes & found[:, None, None]
