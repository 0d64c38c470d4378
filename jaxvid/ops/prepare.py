"""From a uint8 batch to what model and objective take, on the device, inside the jitted step.

`prepare(rng, batch) -> (inputs, targets)`:
    inputs["video"]    (N, T, H, W, 3) normalised, N = B·V views folded
    inputs["flow"]     (N, T, H, W, 2) in [-1, 1], flipped and mixed as the video
    inputs["audio"]    (N, F, M), inputs["features"] (N, T, D): mixed as the video
                       each if the batch has it
    targets["weight"]  (N,) float32, 0 for rows that do not count
    targets["target"]  (N, K) soft labels (classification)
    inputs["tube_mask"] = targets["tube_mask"]  (N, tokens) bool, targets["video"] in [0, 1] (masked)

What is random comes from one key: its three parts are for the look (flips, colours, greying, blur:
four parts again), for erasing and for mixing (masked pretraining: two, the look and the masks).
What is switched off draws nothing and changes nothing of the rest.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core.batch import AUDIO, FEATURES, FLOW, LABEL, MASK, VIDEO
from jaxvid.ops.blur import gaussian_blur
from jaxvid.ops.colour import colour_jitter, greyscale
from jaxvid.ops.erase import random_erasing
from jaxvid.ops.flip import flip_decisions, flip_flow, flip_targets, flip_video
from jaxvid.ops.labels import head_targets, labelled, multi_hot_targets, one_hot_targets
from jaxvid.ops.mix import mixup_or_cutmix
from jaxvid.ops.pixels import normalise, normalise_flow, to_float
from jaxvid.ops.tube_mask import make_mask
from jaxvid.ops.views import each_frame, fold, repeat

Prepare = Callable[[jax.Array, Mapping], tuple[dict, dict]]


def for_classification(
    *,
    num_classes: int,
    statistics: str,
    dtype=jnp.float32,
    label_smoothing: float = 0.0,
    multilabel: bool = False,
    heads: Mapping[str, int] | None = None,
    flip_probability: float = 0.0,
    flip_swap: np.ndarray | None = None,
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    greyscale_probability: float = 0.0,
    blur_probability: float = 0.0,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    colour_per_frame: bool = False,
    erasing_probability: float = 0.0,
    erasing_shape: str = "tube",
    erasing_area: tuple[float, float] = (0.02, 1 / 3),
    erasing_aspect: tuple[float, float] = (0.3, 1 / 0.3),
    erasing_fill: str = "pixel",
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    mix_probability: float = 1.0,
    cutmix_share: float = 0.5,
    cutmix_cut: str = "tube",
) -> Prepare:
    """Augmentation of training; with every number at 0 it is the preparation of evaluation.

    multilabel: targets are 1 at every class of a clip; one without labels shows none of them and
    counts. heads: {"verb": 97, …}, targets are those of all heads in a row (ops/labels.py).
    flip_swap: int (K,), the mirror image of each class (ops/flip.swap_table), for classes that have
    sides. colour_per_frame: jitter, greying and blur are drawn for each frame. erasing_shape:
    "tube", "cube", "frame" (ops/erase.py). cutmix_cut: "tube", "frames", "cube" (ops/mix.py).

    Raises ValueError for settings that contradict each other.
    """
    if multilabel and (heads or label_smoothing):
        raise ValueError(
            f"multilabel targets have neither heads nor label smoothing, got {heads=}, "
            f"{label_smoothing=}"
        )
    look = _Look(
        flip_probability,
        jitter,
        greyscale_probability,
        blur_probability,
        blur_sigma,
        colour_per_frame,
    )

    def prepare(rng, batch):
        look_rng, erase_rng, mix_rng = jax.random.split(rng, 3)
        inputs, flips = {}, None
        if VIDEO in batch:
            video, flips = look(look_rng, batch)
            video = normalise(video, statistics, dtype)
            if erasing_probability:
                video = random_erasing(
                    erase_rng,
                    video,
                    probability=erasing_probability,
                    shape=erasing_shape,
                    area=erasing_area,
                    aspect=erasing_aspect,
                    fill=erasing_fill,
                )
            inputs[VIDEO] = video
        inputs |= other_inputs(batch, flips, dtype)
        views = jax.tree.leaves(inputs)[0].shape[0] // batch[MASK].shape[0]
        target, counted = _targets(batch, num_classes, label_smoothing, multilabel, heads)
        target = repeat(target, views)
        weight = repeat(counted.astype(jnp.float32), views)
        if flips is not None and flip_swap is not None:
            target = flip_targets(target, flips, flip_swap)
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
                cut=cutmix_cut,
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
    blur_probability: float = 0.0,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    colour_per_frame: bool = False,
) -> Prepare:
    """grid: tokens (time, height, width); mask: "tube", "random" or "frame" (ops/tube_mask.py).

    The rest as in for_classification. Only the video is used.
    """
    look = _Look(
        flip_probability,
        jitter,
        greyscale_probability,
        blur_probability,
        blur_sigma,
        colour_per_frame,
    )

    def prepare(rng, batch):
        look_rng, mask_rng = jax.random.split(rng)
        video, _ = look(look_rng, batch)
        masked = make_mask(mask, mask_rng, video.shape[0], grid, mask_ratio)
        weight = repeat(batch[MASK].astype(jnp.float32), batch[VIDEO].shape[1])
        inputs = {VIDEO: normalise(video, statistics, dtype), "tube_mask": masked}
        return inputs, {VIDEO: video, "tube_mask": masked, "weight": weight}

    return prepare


@dataclasses.dataclass(frozen=True)
class _Look:
    """How a video looks before it is normalised; the fields are for_classification's."""

    flip_probability: float
    jitter: tuple[float, float, float, float]
    greyscale_probability: float
    blur_probability: float
    blur_sigma: tuple[float, float]
    per_frame: bool

    def __call__(self, rng: jax.Array, batch: Mapping) -> tuple[jax.Array, jax.Array | None]:
        """uint8 (B, V, T, H, W, 3) -> (float32 (B·V, T, H, W, 3) in [0, 1]; which of them were
        flipped, bool (B·V,), or None where none is)"""
        flip_rng, *rngs = jax.random.split(rng, 4)
        video, flips = fold(batch[VIDEO]), None
        if self.flip_probability:
            flips = flip_decisions(flip_rng, video.shape[0], self.flip_probability)
            video = flip_video(video, flips)
        video = to_float(video)
        if self.per_frame:
            return each_frame(lambda frames: self._coloured(rngs, frames), video), flips
        return self._coloured(rngs, video), flips

    def _coloured(self, rngs: list[jax.Array], video: jax.Array) -> jax.Array:
        colour_rng, grey_rng, blur_rng = rngs
        if any(self.jitter):
            brightness, contrast, saturation, hue = self.jitter
            video = colour_jitter(
                colour_rng,
                video,
                brightness=brightness,
                contrast=contrast,
                saturation=saturation,
                hue=hue,
            )
        if self.greyscale_probability:
            video = greyscale(grey_rng, video, self.greyscale_probability)
        if self.blur_probability:
            video = gaussian_blur(
                blur_rng, video, probability=self.blur_probability, sigma=self.blur_sigma
            )
        return video


def other_inputs(batch: Mapping, flips: jax.Array | None, dtype) -> dict:
    """What there is besides the video, its views folded; flips: bool (B·V,), or None. Colours, blur
    and erasing are the camera's: they leave the motion and the sound as they are."""
    others = {}
    if FLOW in batch:
        flow = fold(batch[FLOW])
        others[FLOW] = normalise_flow(flow if flips is None else flip_flow(flow, flips), dtype)
    for name in (AUDIO, FEATURES):
        if name in batch:
            others[name] = fold(batch[name]).astype(dtype)
    return others


def _targets(
    batch: Mapping,
    num_classes: int,
    smoothing: float,
    multilabel: bool,
    heads: Mapping[str, int] | None,
) -> tuple[jax.Array, jax.Array]:
    """float32 (B, K), and bool (B,): which clips count."""
    if multilabel:
        return multi_hot_targets(batch[LABEL], num_classes), batch[MASK]
    if heads:
        target = head_targets(batch, heads, smoothing)
        return target, batch[MASK] & jnp.any(target > 0, axis=1)
    target = one_hot_targets(batch[LABEL], num_classes, smoothing)
    return target, batch[MASK] & labelled(batch[LABEL])
