"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and cutmix (Yun et al. 2019, arXiv 1905.04899).

Clip i is mixed with clip N-1-i: the only operations on the device that look at another row, and
under a sharded batch one exchange between pairs of devices. The share of the own clip is drawn for
each clip (timm's "elem" mode). A clip whose partner has weight 0 (padding, or a clip that could not
be decoded) stays as it is, so that nothing of such a row reaches another.
"""

import jax
import jax.numpy as jnp

from jaxvid.ops.box import inside_box
from jaxvid.ops.chance import chosen
from jaxvid.ops.pixels import check_float_video


def mixup(
    rng: jax.Array,
    video: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 0.8,
) -> tuple[jax.Array, jax.Array]:
    """share * own + (1 - share) * partner, share ~ Beta(alpha, alpha) for each clip.

    video: floating point (N, T, H, W, 3) of any range; targets: float32 (N, K);
    weights: bool or float (N,), None = all count. Returns (video, targets) of the same dtypes.
    """
    _check("mixup", video, targets, alpha)
    return _mix(video, targets, weights, _mixup_shares(rng, video.shape, alpha))


def cutmix(
    rng: jax.Array,
    video: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The partner's pixels in one box through all frames; arguments and result as mixup's.

    The box has the share 1 - Beta(alpha, alpha) of the frame and its centre anywhere; the targets
    follow the area that it really covers after it is cut off at the border.
    """
    _check("cutmix", video, targets, alpha)
    return _mix(video, targets, weights, _cutmix_shares(rng, video.shape, alpha))


def mixup_or_cutmix(
    rng: jax.Array,
    video: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    probability: float = 1.0,
    switch_probability: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Each clip with `probability` mixed, by cutmix with `switch_probability`, else by mixup.

    An alpha of 0 leaves only the other kind. Arguments and result as mixup's.
    """
    _check("mixup_or_cutmix", video, targets, mixup_alpha or cutmix_alpha)
    mixed_rng, switch_rng, mixup_rng, cutmix_rng = jax.random.split(rng, 4)
    n = video.shape[0]
    if mixup_alpha and cutmix_alpha:
        cut = chosen(switch_rng, n, switch_probability)[:, None, None]
        shares = jnp.where(
            cut,
            _cutmix_shares(cutmix_rng, video.shape, cutmix_alpha),
            _mixup_shares(mixup_rng, video.shape, mixup_alpha),
        )
    elif mixup_alpha:
        shares = _mixup_shares(mixup_rng, video.shape, mixup_alpha)
    else:
        shares = _cutmix_shares(cutmix_rng, video.shape, cutmix_alpha)
    mixed = chosen(mixed_rng, n, probability)[:, None, None]
    return _mix(video, targets, weights, jnp.where(mixed, shares, 1.0))


def _check(caller: str, video: jax.Array, targets: jax.Array, alpha: float) -> None:
    check_float_video(video, caller)
    if targets.ndim != 2 or targets.shape[0] != video.shape[0]:
        raise ValueError(
            f"{caller} was given targets of shape {targets.shape} for {video.shape[0]} clips, "
            "expected soft targets (N, K); ops.labels makes them from integer labels"
        )
    if alpha <= 0:
        raise ValueError(f"{caller} was given alpha {alpha}, expected a number above 0")


def _mixup_shares(rng: jax.Array, shape: tuple, alpha: float) -> jax.Array:
    n, _, height, width, _ = shape
    own = jax.random.beta(rng, alpha, alpha, (n,))
    return jnp.broadcast_to(own[:, None, None], (n, height, width))


def _cutmix_shares(rng: jax.Array, shape: tuple, alpha: float) -> jax.Array:
    """float32 (N, H, W): 0 in the box, 1 around it."""
    n, _, height, width, _ = shape
    share_rng, place_rng = jax.random.split(rng)
    side = jnp.sqrt(1.0 - jax.random.beta(share_rng, alpha, alpha, (n,)))
    tall, wide = jnp.floor(height * side), jnp.floor(width * side)
    centre = jax.random.uniform(place_rng, (n, 2))
    top = jnp.floor(centre[:, 0] * height) - jnp.floor(tall / 2)
    left = jnp.floor(centre[:, 1] * width) - jnp.floor(wide / 2)
    box = inside_box(top, left, top + tall, left + wide, height, width)
    return 1.0 - box.astype(jnp.float32)


def _mix(
    video: jax.Array, targets: jax.Array, weights: jax.Array | None, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One formula for both kinds: shares (N, H, W) is how much of a pixel is the clip's own."""
    partner, partner_targets = video[::-1], targets[::-1]
    if weights is not None:
        # Chosen by `where`, not by a factor 0: an infinity in a skipped row must not pass either.
        usable = weights[::-1] > 0
        shares = jnp.where(usable[:, None, None], shares, 1.0)
        partner = jnp.where(usable[:, None, None, None, None], partner, video)
        partner_targets = jnp.where(usable[:, None], partner_targets, targets)
    own = shares[:, None, :, :, None]  # (N, 1, H, W, 1)
    mixed = own * video.astype(jnp.float32) + (1.0 - own) * partner.astype(jnp.float32)
    share = jnp.mean(shares, axis=(1, 2))[:, None]  # the true area, not the one that was drawn
    mixed_targets = share * targets + (1.0 - share) * partner_targets
    return mixed.astype(video.dtype), mixed_targets.astype(targets.dtype)
