"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and cutmix (Yun et al. 2019, arXiv 1905.04899).

Clip i is mixed with clip N-1-i: the only operations on the device that look at another row, and
under a sharded batch one exchange between pairs of devices. The share of the own clip is drawn for
each clip (timm's "elem" mode). A clip whose partner has weight 0 (padding, or a clip that could not
be decoded) stays as it is, so that nothing of such a row reaches another.

What is mixed is a video, or a dict of all that is of the same clip, {"video": …, "flow": …, "audio":
…}: with the same partner, share and box. What has no pixels (sound, features) is mixed by the share.

Cutmix of a video is one of `CUTS` (VideoMix, Yun et al. 2020, arXiv 2012.03457): a box
through all frames ("tube"), whole frames of a stretch of time ("frames"), a box in a stretch of time
("cube").
"""

import logging
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxvid.core.errors import unknown
from jaxvid.core.warn_once import warn_once
from jaxvid.ops.box import inside_box, inside_stretch
from jaxvid.ops.chance import chosen

log = logging.getLogger("jaxvid")
Clips = jax.Array | Mapping[str, jax.Array]

CUTS = ("tube", "frames", "cube")


def mixup(
    rng: jax.Array,
    clips: Clips,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 0.8,
) -> tuple[Clips, jax.Array]:
    """share * own + (1 - share) * partner, share ~ Beta(alpha, alpha) for each clip.

    clips: floating point (N, T, H, W, C) of any range, or a dict of such arrays and of (N, F, M)
    without pixels; targets: float32 (N, K); weights: bool or float (N,), None = all count. Returns
    (clips, targets) of the same dtypes.
    """
    shape = _checked_shape("mixup", clips, targets, alpha)
    return _mix(clips, targets, weights, _mixup_shares(rng, shape, alpha)[:, None])


def cutmix(
    rng: jax.Array,
    clips: Clips,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 1.0,
    cut: str = "tube",
) -> tuple[Clips, jax.Array]:
    """The partner's pixels in a part of the clip, see CUTS; arguments and result as mixup's.

    The part has the share 1 - Beta(alpha, alpha) of the clip, the same share of each side that it
    does not go through, and its centre anywhere; the targets follow what it really covers after it
    is cut off at the border.
    """
    shape = _checked_shape("cutmix", clips, targets, alpha)
    return _mix(clips, targets, weights, _cut_shares(rng, shape, alpha, cut))


def mixup_or_cutmix(
    rng: jax.Array,
    clips: Clips,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    probability: float = 1.0,
    switch_probability: float = 0.5,
    cut: str = "tube",
) -> tuple[Clips, jax.Array]:
    """Each clip with `probability` mixed, by cutmix with `switch_probability`, else by mixup.

    An alpha of 0 leaves only the other kind. Arguments and result as mixup's, `cut` as cutmix's. A
    warning where there is only one clip.
    Drawn from the four parts of the key: which clips, which kind, mixup's shares, cutmix's boxes.
    """
    shape = _checked_shape("mixup_or_cutmix", clips, targets, mixup_alpha or cutmix_alpha)
    mixed_rng, switch_rng, mixup_rng, cutmix_rng = jax.random.split(rng, 4)
    n = shape[0]
    if n == 1:
        warn_once(
            log,
            "mixup and cutmix have one clip at a time, so nothing is mixed: raise data.batch_size or "
            "lower optim.accumulate_steps",
        )
    if mixup_alpha and cutmix_alpha:
        cutting = chosen(switch_rng, n, switch_probability)[:, None, None, None]
        shares = jnp.where(
            cutting,
            _cut_shares(cutmix_rng, shape, cutmix_alpha, cut),
            _mixup_shares(mixup_rng, shape, mixup_alpha)[:, None],
        )
    elif mixup_alpha:
        shares = _mixup_shares(mixup_rng, shape, mixup_alpha)[:, None]
    else:
        shares = _cut_shares(cutmix_rng, shape, cutmix_alpha, cut)
    mixed = chosen(mixed_rng, n, probability)[:, None, None, None]
    return _mix(clips, targets, weights, jnp.where(mixed, shares, 1.0))


def _checked_shape(caller: str, clips: Clips, targets: jax.Array, alpha: float) -> tuple:
    """(N, T, H, W) of a clip, T, H and W 1 where nothing has pixels; N, H and W are those of all."""
    arrays = jax.tree.leaves(clips)
    alone = len(arrays) == 1 and not isinstance(clips, Mapping)
    if any(not _can_be_mixed(x) for x in arrays) or (alone and arrays[0].ndim != 5):
        given = ", ".join(f"{x.dtype} of shape {x.shape}" for x in arrays)
        raise ValueError(
            f"{caller} was given {given}, expected floating point (N, T, H, W, C); "
            "ops.pixels.to_float makes it from uint8, ops.views.fold from (B, V, T, H, W, C)"
        )
    pixels = [x.shape[:4] for x in arrays if x.ndim == 5] or [(arrays[0].shape[0], 1, 1, 1)]
    same = len({(n, height, width) for n, _, height, width in pixels}) == 1
    if not same or {x.shape[0] for x in arrays} != {pixels[0][0]}:
        raise ValueError(
            f"{caller} was given {[x.shape for x in arrays]}, expected the same number of clips, "
            "height and width in each"
        )
    if targets.ndim != 2 or targets.shape[0] != arrays[0].shape[0]:
        raise ValueError(
            f"{caller} was given targets of shape {targets.shape} for {arrays[0].shape[0]} clips, "
            "expected soft targets (N, K); ops.labels makes them from integer labels"
        )
    if alpha <= 0:
        raise ValueError(f"{caller} was given alpha {alpha}, expected a number above 0")
    return pixels[0]


def _can_be_mixed(x: jax.Array) -> bool:
    return x.ndim in (3, 5) and jnp.issubdtype(x.dtype, jnp.floating)


def _mixup_shares(rng: jax.Array, shape: tuple, alpha: float) -> jax.Array:
    n, _, height, width = shape[:4]
    own = jax.random.beta(rng, alpha, alpha, (n,))
    return jnp.broadcast_to(own[:, None, None], (n, height, width))


def _cutmix_shares(rng: jax.Array, shape: tuple, alpha: float) -> jax.Array:
    """float32 (N, H, W): 0 in the box of a tube, 1 around it."""
    n, _, height, width = shape[:4]
    share_rng, place_rng = jax.random.split(rng)
    side = jnp.sqrt(1.0 - jax.random.beta(share_rng, alpha, alpha, (n,)))
    return 1.0 - _boxes(place_rng, side, height, width).astype(jnp.float32)


def _cut_shares(rng: jax.Array, shape: tuple, alpha: float, cut: str) -> jax.Array:
    """float32 (N, 1 or T, H, W): 0 in the part that is the partner's, 1 around it."""
    n, frames, height, width = shape
    if cut not in CUTS:
        raise unknown("cutmix shape", cut, CUTS)
    if height == width == 1:
        raise ValueError(
            "cutmix cuts out pixels and these clips have none; set its alpha to 0 and use mixup"
        )
    if cut == "tube":
        return _cutmix_shares(rng, shape, alpha)[:, None]
    share_rng, place_rng, time_rng = jax.random.split(rng, 3)
    part = 1.0 - jax.random.beta(share_rng, alpha, alpha, (n,))
    side = part if cut == "frames" else jnp.cbrt(part)
    length = jnp.floor(frames * side)
    centre = jnp.floor(jax.random.uniform(time_rng, (n,)) * frames)
    start = centre - jnp.floor(length / 2)
    inside = inside_stretch(start, start + length, frames)[:, :, None, None]
    if cut == "frames":
        inside = jnp.broadcast_to(inside, shape)
    else:
        inside = inside & _boxes(place_rng, side, height, width)[:, None]
    return 1.0 - inside.astype(jnp.float32)


def _boxes(rng: jax.Array, side: jax.Array, height: int, width: int) -> jax.Array:
    """bool (N, H, W): boxes of that share (N,) of both sides, their centres anywhere."""
    tall, wide = jnp.floor(height * side), jnp.floor(width * side)
    centre = jax.random.uniform(rng, (side.shape[0], 2))
    top = jnp.floor(centre[:, 0] * height) - jnp.floor(tall / 2)
    left = jnp.floor(centre[:, 1] * width) - jnp.floor(wide / 2)
    return inside_box(top, left, top + tall, left + wide, height, width)


def _mix(
    clips: Clips, targets: jax.Array, weights: jax.Array | None, shares: jax.Array
) -> tuple[Clips, jax.Array]:
    """One formula for all kinds: shares (N, 1 or T, H, W) is how much of a pixel is the clip's own."""
    usable = jnp.ones(targets.shape[:1], bool) if weights is None else weights[::-1] > 0
    shares = jnp.where(usable[:, None, None, None], shares, 1.0)
    share = jnp.mean(shares, axis=(1, 2, 3))[:, None]  # the true part, not the one that was drawn

    def mixed(x: jax.Array) -> jax.Array:
        own = shares[..., None] if x.ndim == 5 else share[..., None]
        # Chosen by `where`, not by a factor 0: an infinity in a skipped row must not pass either.
        partner = jnp.where(usable.reshape(-1, *[1] * (x.ndim - 1)), x[::-1], x)
        both = own * x.astype(jnp.float32) + (1.0 - own) * partner.astype(jnp.float32)
        return both.astype(x.dtype)

    partner_targets = jnp.where(usable[:, None], targets[::-1], targets)
    mixed_targets = share * targets + (1.0 - share) * partner_targets
    return jax.tree.map(mixed, clips), mixed_targets.astype(targets.dtype)
