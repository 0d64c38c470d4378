"""Random erasing (Zhong et al. 2017, arXiv 1708.04896): a tube, a cube, or a box in each frame.

The numbers are those of timm, with which VideoMAE is fine-tuned: the area is uniform, the aspect
ratio log-uniform, and what replaces the pixels is drawn anew for every frame. Drawn from the four
parts of the key: which clips, their boxes, the noise, and for cubes the stretch of time.
"""

import math

import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown
from jaxvid.ops.box import inside_box, inside_stretch
from jaxvid.ops.chance import chosen
from jaxvid.ops.pixels import check_float_video

# A box that does not fit is drawn again. All draws are made at once and the first that fits is
# taken; with the default area and aspect fewer than one in a hundred draws does not fit.
_TRIES = 10

SHAPES = ("tube", "cube", "frame")

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
    shape: str = "tube",
) -> jax.Array:
    """Float (N, T, H, W, 3), already normalised -> the same with a box of some clips erased.

    shape: "tube" is one box through all frames of a clip; "cube" the same in a stretch of 1 to T
    frames, each length and place equally likely; "frame" decides on and draws a box for each frame.

    area: smallest and largest share of the frame; aspect: smallest and largest height / width;
    fill: "pixel" is standard normal noise, "constant" is 0, the mean of normalised pixels.
    Boxes are smaller than the frame both ways; a clip for which none is found keeps its pixels.
    """
    check_float_video(video, "random_erasing")
    if fill not in FILLS:
        raise unknown("erasing fill", fill, FILLS)
    if shape not in SHAPES:
        raise unknown("erasing shape", shape, SHAPES)
    if not (0 < area[0] <= area[1] < 1 and 0 < aspect[0] <= aspect[1]):
        raise ValueError(
            f"random_erasing has {area=}, {aspect=}; expected areas (low, high) as shares "
            "between 0 and 1, aspects (low, high) above 0"
        )
    chosen_rng, box_rng, fill_rng, time_rng = jax.random.split(rng, 4)
    n, frames, height, width, _ = video.shape
    boxes = n * frames if shape == "frame" else n
    erased = _boxes(box_rng, (boxes, height, width), area, aspect)
    erased &= chosen(chosen_rng, boxes, probability)[:, None, None]
    erased = erased.reshape(n, -1, height, width)  # (N, 1 or T, H, W)
    if shape == "cube":
        erased = erased & _stretches(time_rng, n, frames)[:, :, None, None]
    return jnp.where(erased[..., None], FILLS[fill](fill_rng, video), video)


def _stretches(rng: jax.Array, n: int, frames: int) -> jax.Array:
    """bool (N, T): in each row a run of True, of any length from 1 to T, anywhere."""
    length_rng, place_rng = jax.random.split(rng)
    length = jax.random.randint(length_rng, (n,), 1, frames + 1)
    start = jnp.floor(jax.random.uniform(place_rng, (n,)) * (frames - length + 1))
    return inside_stretch(start, start + length, frames)


def _boxes(rng: jax.Array, shape: tuple, area: tuple, aspect: tuple) -> jax.Array:
    n, height, width = shape
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
