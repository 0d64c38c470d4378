"""From uint8 frames to what a model sees: scaling to [0, 1] and normalisation by named statistics.

video = normalise(to_float(batch["video"]), "imagenet", dtype=jnp.bfloat16)
flow = normalise_flow(batch["flow"], dtype=jnp.bfloat16)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown

FLOW_BOUND = 20.0  # pixels a frame; I3D's, and what two-stream networks are commonly trained with


class Statistics(NamedTuple):
    """Mean and standard deviation of R, G, B for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


STATISTICS = {
    # ImageNet's training set: VideoMAE and most image-pretrained models.
    "imagenet": Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # [0, 1] -> [-1, 1]: ViViT, I3D, Inception-style models.
    "half": Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # SlowFast, X3D, MViT and TimeSformer as their authors trained them on Kinetics.
    "kinetics": Statistics((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    # CLIP's pairs of images and texts.
    "clip": Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    # torchvision's R3D, MC3, R(2+1)D and S3D (Kinetics-400).
    "torchvision_video": Statistics((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
}


def statistics(name: str | Statistics | tuple) -> Statistics:
    """The statistics of that name; a (mean, std) pair of three numbers each is taken as it is.

    Raises UnknownNameError for a name that is not in STATISTICS, ValueError for a wrong pair.
    """
    if isinstance(name, str):
        if name not in STATISTICS:
            raise unknown("pixel statistics", name, STATISTICS)
        return STATISTICS[name]
    try:
        pair = Statistics(*(tuple(float(x) for x in values) for values in name))
    except (TypeError, ValueError):
        pair = Statistics((), ())
    if len(pair.mean) != 3 or len(pair.std) != 3 or min(pair.std) <= 0:
        raise ValueError(
            f"pixel statistics are {name!r}, expected a name ({', '.join(sorted(STATISTICS))}) or "
            "((mean R, G, B), (std R, G, B)) for pixels in [0, 1] with every std above 0"
        )
    return pair


def to_float(video: jax.Array) -> jax.Array:
    """uint8 (…, 3) in 0..255 -> float32 in [0, 1]. Raises ValueError for another dtype."""
    if video.dtype != jnp.uint8:
        raise ValueError(
            f"to_float was given {video.dtype} of shape {video.shape}, expected uint8 in 0..255; "
            "a float video is scaled already"
        )
    return video.astype(jnp.float32) / 255.0


def normalise(
    video: jax.Array, statistics_name: str | Statistics | tuple, dtype=jnp.float32
) -> jax.Array:
    """Float (…, 3) in [0, 1] -> (video - mean) / std in `dtype`, computed in float32."""
    check_float_rgb(video, "normalise")
    mean, std = (jnp.asarray(x, jnp.float32) for x in statistics(statistics_name))
    return ((video.astype(jnp.float32) - mean) / std).astype(dtype)


def denormalise(video: jax.Array, statistics_name: str | Statistics | tuple) -> jax.Array:
    """The way back: normalised float (…, 3) -> float32, in [0, 1] where the video came from there.

    Not clipped: reconstructions may leave [0, 1].
    """
    check_float_rgb(video, "denormalise")
    mean, std = (jnp.asarray(x, jnp.float32) for x in statistics(statistics_name))
    return video.astype(jnp.float32) * std + mean


def normalise_flow(flow: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Pixels a frame, float (…, 2) -> [-1, 1] in `dtype`: cut off at ±FLOW_BOUND and divided by it.

    As the flow that I3D was published for (Carreira and Zisserman 2017, its repository). Raises
    ValueError for what is no flow.
    """
    if not jnp.issubdtype(flow.dtype, jnp.floating) or flow.shape[-1:] != (2,):
        raise ValueError(
            f"normalise_flow was given {flow.dtype} of shape {flow.shape}, expected floating point "
            "with 2 channels (right, down) as the last axis"
        )
    bounded = jnp.clip(flow.astype(jnp.float32), -FLOW_BOUND, FLOW_BOUND)
    return (bounded / FLOW_BOUND).astype(dtype)


def check_float_rgb(video: jax.Array, caller: str) -> None:
    """Raises ValueError unless the video is floating point with RGB as its last axis."""
    if not jnp.issubdtype(video.dtype, jnp.floating) or video.shape[-1:] != (3,):
        raise ValueError(
            f"{caller} was given {video.dtype} of shape {video.shape}, expected floating point "
            "with 3 channels (RGB) as the last axis; ops.pixels.to_float makes it from uint8"
        )


def check_float_video(video: jax.Array, caller: str) -> None:
    """Raises ValueError unless the video is floating point of shape (N, T, H, W, 3)."""
    check_float_rgb(video, caller)
    if video.ndim != 5:
        raise ValueError(
            f"{caller} was given shape {video.shape}, expected (N, T, H, W, 3); "
            "ops.views.fold makes it from (B, V, T, H, W, 3)"
        )
