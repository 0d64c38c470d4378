"""Masked autoencoding: mean squared error between painted and true patches, of masked tokens alone.

VideoMAE (Tong et al. 2022); its normalised targets are those of He et al. 2022, Masked Autoencoders
Are Scalable Vision Learners, section 4.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxvid.metrics.sums import weighted_sum
from jaxvid.nn.embed import Patch, patchify, token_grid, unpatchify
from jaxvid.ops.tube_mask import split_tokens

TASK = "masked"
DEVIATION_FLOOR = 1e-6  # added to the standard deviation, not to the variance


def build(*, patch: Patch = (2, 16, 16), normalise_target: bool = True) -> Callable:
    """-> objective(outputs, targets) -> {"loss": (sum, weight)}, each clip's mean over masked
    pixels.

    outputs["logits"]: (N, masked, t·p·p·C); targets["video"]: float (N, T, H, W, C) in [0, 1], not
    normalised; targets["tube_mask"]: bool (N, tokens), True = masked; targets["weight"]: float32
    (N,), 0 for rows that do not count. patch: (tubelet_size, patch_size, patch_size) of the model.
    normalise_target: each patch less its mean over its standard deviation, channel by channel; else
    the pixels as they are, in [0, 1]. Raises ValueError when outputs and targets do not fit.
    """

    def objective(outputs, targets):
        painted, true, _ = _painted_and_true(outputs, targets, patch)
        if normalise_target:
            mean, deviation = _statistics(true)
            true = (true - mean) / deviation
        error = jnp.mean(jnp.square(painted - true), axis=(1, 2, 3))
        return {"loss": weighted_sum(error, targets["weight"])}

    return objective


def reconstruct(
    outputs: Mapping[str, jax.Array],
    targets: Mapping[str, jax.Array],
    *,
    patch: Patch = (2, 16, 16),
    normalise_target: bool = True,
) -> jax.Array:
    """The clips with their masked patches painted: float32 (N, T, H, W, C) in [0, 1], for pictures.

    Takes what `build` takes. Normalised predictions get the mean and deviation of the true patch
    back, which the model cannot know: the picture shows structure, as in VideoMAE's figures.
    """
    painted, true, masked = _painted_and_true(outputs, targets, patch)
    if normalise_target:
        mean, deviation = _statistics(true)
        painted = painted * deviation + mean
    video = targets["video"].astype(jnp.float32)
    rows = jnp.arange(video.shape[0])[:, None]
    patches = patchify(video, patch)
    patches = patches.at[rows, masked].set(painted.reshape(*masked.shape, -1))
    return jnp.clip(unpatchify(patches, token_grid(video.shape, patch), patch), 0.0, 1.0)


def _painted_and_true(outputs, targets, patch: Patch):
    """painted, true: float32 (N, masked, t·p·p, C); masked: int32 (N, masked), their places."""
    painted, video = outputs["logits"].astype(jnp.float32), targets["video"].astype(jnp.float32)
    patches = patchify(video, patch)
    mask, (n, count, numbers) = targets["tube_mask"], painted.shape
    if mask.shape != patches.shape[:2] or (n, numbers) != (patches.shape[0], patches.shape[2]):
        raise ValueError(
            f"video {video.shape} makes patches {patches.shape} of {tuple(patch)}, but the mask is "
            f"{mask.shape} and the model painted {painted.shape}; give objective.options.patch as "
            "the model's (tubelet_size, patch_size, patch_size)"
        )
    _, masked = split_tokens(mask, mask.shape[1] - count)
    true = jnp.take_along_axis(patches, masked[..., None], axis=1)
    by_channel = (n, count, -1, video.shape[-1])
    return painted.reshape(by_channel), true.reshape(by_channel), masked


def _statistics(patches):
    """Mean and (unbiased) standard deviation over the pixels of each patch: (N, masked, 1, C)."""
    mean = jnp.mean(patches, axis=2, keepdims=True)
    return mean, jnp.std(patches, axis=2, ddof=1, keepdims=True) + DEVIATION_FLOOR
