"""Gaussian blur, of the same strength in all frames of a clip.

video = gaussian_blur(rng, video, probability=0.5)     # SimCLR's, Chen et al. 2020, arXiv 2002.05709
"""

import jax
import jax.numpy as jnp

from jaxvid.ops.chance import chosen
from jaxvid.ops.pixels import check_float_video


def gaussian_blur(
    rng: jax.Array,
    video: jax.Array,
    *,
    probability: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
) -> jax.Array:
    """Float (N, T, H, W, 3) -> the same, some clips blurred; computed in float32.

    Each clip with `probability`, by a Gaussian of a standard deviation uniform in `sigma` (pixels).
    Drawn from the two halves of rng: which clips, then how much. Raises ValueError.
    """
    check_float_video(video, "gaussian_blur")
    if not 0 < sigma[0] <= sigma[1]:
        raise ValueError(
            f"gaussian_blur has {sigma=}, expected standard deviations (low, high) in pixels above 0"
        )
    chosen_rng, sigma_rng = jax.random.split(rng)
    blurring = chosen(chosen_rng, video.shape[0], probability)
    sigmas = jax.random.uniform(
        sigma_rng, video.shape[:1], minval=float(sigma[0]), maxval=float(sigma[1])
    )
    blurred = blur(video, sigmas).astype(video.dtype)
    return jnp.where(blurring[:, None, None, None, None], blurred, video)


def blur(video: jax.Array, sigmas: jax.Array) -> jax.Array:
    """Float (N, T, H, W, C) blurred by Gaussians of sigmas (N,) pixels -> float32 of that shape.

    Beyond its border the picture goes on as its mirror image, the pixels of the border once
    (torchvision's "reflect"); what lies farther off than one such image weighs nothing.
    """
    # Two products with small matrices: what accelerators do best, whatever the sigma.
    down, across = (_weights(sigmas, size) for size in video.shape[2:4])
    exact = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("nhk,ntkwc->nthwc", down, video.astype(jnp.float32), precision=exact)
    return jnp.einsum("nwk,nthkc->nthwc", across, rows, precision=exact)


def _weights(sigmas: jax.Array, size: int) -> jax.Array:
    """float32 (N, size, size): what pixel k (last) gives to pixel i; each row sums to 1."""
    i, k = jnp.arange(size)[:, None], jnp.arange(size)[None, :]
    width = sigmas.astype(jnp.float32)[:, None, None]

    def bell(distance):
        return jnp.exp(-0.5 * (distance / width) ** 2)

    before = jnp.where(k > 0, bell(i + k), 0.0)  # the mirror image beyond pixel 0
    after = jnp.where(k < size - 1, bell(2 * (size - 1) - i - k), 0.0)
    weights = bell(i - k) + before + after
    return weights / jnp.sum(weights, axis=-1, keepdims=True)
