"""From a uint8 batch to what model and objective take, on the device, inside the jitted step.

`prepare(rng, batch) -> (inputs, targets)`:
    inputs["video"]    (N, T, H, W, 3) normalised, N = B·V views folded
    inputs["flow"]     (N, T, H, W, 2) in [-1, 1], if the batch has it; flipped and mixed as the video
    targets["weight"]  (N,) float32, 0 for rows that do not count
    targets["target"]  (N, K) soft labels (classification)
    inputs["tube_mask"] = targets["tube_mask"]  (N, tokens) bool, targets["video"] in [0, 1] (masked)
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxvid.core.batch import FLOW, LABEL, MASK, VIDEO
from jaxvid.ops.colour import colour_jitter, greyscale
from jaxvid.ops.erase import random_erasing
from jaxvid.ops.flip import flip_decisions, flip_flow, flip_video
from jaxvid.ops.labels import labelled, one_hot_targets
from jaxvid.ops.mix import mixup_or_cutmix
from jaxvid.ops.pixels import normalise, normalise_flow, to_float
from jaxvid.ops.tube_mask import make_mask
from jaxvid.ops.views import fold, repeat

Prepare = Callable[[jax.Array, Mapping], tuple[dict, dict]]


def for_classification(
    *,
    num_classes: int,
    statistics: str,
    dtype=jnp.float32,
    label_smoothing: float = 0.0,
    flip_probability: float = 0.0,
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    greyscale_probability: float = 0.0,
    erasing_probability: float = 0.0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    mix_probability: float = 1.0,
    cutmix_share: float = 0.5,
) -> Prepare:
    """Augmentation of training; with every number at 0 it is the preparation of evaluation."""

    def prepare(rng, batch):
        look_rng, erase_rng, mix_rng = jax.random.split(rng, 3)
        video, flips = _look(look_rng, batch, flip_probability, jitter, greyscale_probability)
        views = batch[VIDEO].shape[1]
        target = one_hot_targets(batch[LABEL], num_classes, label_smoothing)
        counted = batch[MASK] & labelled(batch[LABEL])
        target = repeat(target, views)
        weight = repeat(counted.astype(jnp.float32), views)
        video = normalise(video, statistics, dtype)
        if erasing_probability:
            video = random_erasing(erase_rng, video, probability=erasing_probability)
        inputs = {VIDEO: video, **_flow(batch, flips, dtype)}
        if mixup_alpha or cutmix_alpha:
            inputs, target = mixup_or_cutmix(
                mix_rng,
                inputs,
                target,
                weight,
                mixup_alpha=mixup_alpha,
                cutmix_alpha=cutmix_alpha,
                probability=mix_probability,
                switch_probability=cutmix_share,
            )
        return inputs, {"target": target, "weight": weight}

    return prepare


def for_masked_pretraining(
    *,
    statistics: str,
    grid: tuple[int, int, int],
    mask: str,
    mask_ratio: float,
    dtype=jnp.float32,
    flip_probability: float = 0.0,
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    greyscale_probability: float = 0.0,
) -> Prepare:
    """grid: tokens (time, height, width); mask: "tube", "random" or "frame" (ops/tube_mask.py)."""

    def prepare(rng, batch):
        look_rng, mask_rng = jax.random.split(rng)
        video, _ = _look(look_rng, batch, flip_probability, jitter, greyscale_probability)
        masked = make_mask(mask, mask_rng, video.shape[0], grid, mask_ratio)
        weight = repeat(batch[MASK].astype(jnp.float32), batch[VIDEO].shape[1])
        inputs = {VIDEO: normalise(video, statistics, dtype), "tube_mask": masked}
        return inputs, {VIDEO: video, "tube_mask": masked, "weight": weight}

    return prepare


def _look(rng, batch, flip_probability: float, jitter: tuple, greyscale_probability: float):
    """uint8 (B, V, T, H, W, 3) -> (float32 (B·V, T, H, W, 3) in [0, 1], flipped and coloured; which
    were flipped, bool (B·V,), or None where none is)"""
    flip_rng, colour_rng, grey_rng = jax.random.split(rng, 3)
    video, flips = fold(batch[VIDEO]), None
    if flip_probability:
        flips = flip_decisions(flip_rng, video.shape[0], flip_probability)
        video = flip_video(video, flips)
    video = to_float(video)
    if any(jitter):
        brightness, contrast, saturation, hue = jitter
        video = colour_jitter(
            colour_rng,
            video,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
        )
    if greyscale_probability:
        video = greyscale(grey_rng, video, greyscale_probability)
    return video, flips


def _flow(batch, flips, dtype) -> dict:
    """{} or {"flow": (B·V, T, H, W, 2)}; colours and erasing are the camera's, not of the motion."""
    if FLOW not in batch:
        return {}
    flow = fold(batch[FLOW])
    if flips is not None:
        flow = flip_flow(flow, flips)
    return {FLOW: normalise_flow(flow, dtype)}
