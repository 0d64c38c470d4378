"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and cutmix (Yun et al. 2019, arXiv 1905.04899).

Clip i is mixed with clip N-1-i: the only operations on the device that look at another row, and
under a sharded batch one exchange between pairs of devices. The share of the own clip is drawn for
each clip (timm's "elem" mode). A clip whose partner has weight 0 (padding, or a clip that could not
be decoded) stays as it is, so that nothing of such a row reaches another.

What is mixed is a video, or a dict of all that shows the same clip, {"video": …, "flow": …}: with the
same partner, share and box.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxvid.ops.box import inside_box
from jaxvid.ops.chance import chosen

Clips = jax.Array | Mapping[str, jax.Array]


def mixup(
    rng: jax.Array,
    clips: Clips,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 0.8,
) -> tuple[Clips, jax.Array]:
    """share * own + (1 - share) * partner, share ~ Beta(alpha, alpha) for each clip.

    clips: floating point (N, T, H, W, C) of any range, or a dict of such arrays; targets: float32
    (N, K); weights: bool or float (N,), None = all count. Returns (clips, targets) of the same
    dtypes.
    """
    shape = _checked_shape("mixup", clips, targets, alpha)
    return _mix(clips, targets, weights, _mixup_shares(rng, shape, alpha))


def cutmix(
    rng: jax.Array,
    clips: Clips,
    targets: jax.Array,
    weights: jax.Array | None = None,
    *,
    alpha: float = 1.0,
) -> tuple[Clips, jax.Array]:
    """The partner's pixels in one box through all frames; arguments and result as mixup's.

    The box has the share 1 - Beta(alpha, alpha) of the frame and its centre anywhere; the targets
    follow the area that it really covers after it is cut off at the border.
    """
    shape = _checked_shape("cutmix", clips, targets, alpha)
    return _mix(clips, targets, weights, _cutmix_shares(rng, shape, alpha))


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
) -> tuple[Clips, jax.Array]:
    """Each clip with `probability` mixed, by cutmix with `switch_probability`, else by mixup.

    An alpha of 0 leaves only the other kind. Arguments and result as mixup's.
    """
    shape = _checked_shape("mixup_or_cutmix", clips, targets, mixup_alpha or cutmix_alpha)
    mixed_rng, switch_rng, mixup_rng, cutmix_rng = jax.random.split(rng, 4)
    n = shape[0]
    if mixup_alpha and cutmix_alpha:
        cut = chosen(switch_rng, n, switch_probability)[:, None, None]
        shares = jnp.where(
            cut,
            _cutmix_shares(cutmix_rng, shape, cutmix_alpha),
            _mixup_shares(mixup_rng, shape, mixup_alpha),
        )
    elif mixup_alpha:
        shares = _mixup_shares(mixup_rng, shape, mixup_alpha)
    else:
        shares = _cutmix_shares(cutmix_rng, shape, cutmix_alpha)
    mixed = chosen(mixed_rng, n, probability)[:, None, None]
    return _mix(clips, targets, weights, jnp.where(mixed, shares, 1.0))


def _checked_shape(caller: str, clips: Clips, targets: jax.Array, alpha: float) -> tuple:
    """(N, T, H, W, C) of a clip; N, H and W are those of all that is mixed."""
    arrays = jax.tree.leaves(clips)
    if any(x.ndim != 5 or not jnp.issubdtype(x.dtype, jnp.floating) for x in arrays):
        given = ", ".join(f"{x.dtype} of shape {x.shape}" for x in arrays)
        raise ValueError(
            f"{caller} was given {given}, expected floating point (N, T, H, W, C); "
            "ops.pixels.to_float makes it from uint8, ops.views.fold from (B, V, T, H, W, C)"
        )
    if len({(x.shape[0], *x.shape[2:4]) for x in arrays}) != 1:
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
    return arrays[0].shape


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
    clips: Clips, targets: jax.Array, weights: jax.Array | None, shares: jax.Array
) -> tuple[Clips, jax.Array]:
    """One formula for both kinds: shares (N, H, W) is how much of a pixel is the clip's own."""
    usable = jnp.ones(targets.shape[:1], bool) if weights is None else weights[::-1] > 0
    shares = jnp.where(usable[:, None, None], shares, 1.0)
    own = shares[:, None, :, :, None]  # (N, 1, H, W, 1)

    def mixed(x: jax.Array) -> jax.Array:
        # Chosen by `where`, not by a factor 0: an infinity in a skipped row must not pass either.
        partner = jnp.where(usable[:, None, None, None, None], x[::-1], x)
        both = own * x.astype(jnp.float32) + (1.0 - own) * partner.astype(jnp.float32)
        return both.astype(x.dtype)

    partner_targets = jnp.where(usable[:, None], targets[::-1], targets)
    share = jnp.mean(shares, axis=(1, 2))[:, None]  # the true area, not the one that was drawn
    mixed_targets = share * targets + (1.0 - share) * partner_targets
    return jax.tree.map(mixed, clips), mixed_targets.astype(targets.dtype)
