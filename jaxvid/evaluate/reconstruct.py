"""What masked pretraining paints: a few validation clips with their original, masked and painted
frames."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core.batch import MASK, ROW, VIDEO
from jaxvid.nn.embed import Patch, patchify, token_grid, unpatchify
from jaxvid.ops.prepare import Prepare


def make_step(apply: Callable, prepare: Prepare, reconstruct: Callable, patch: Patch) -> Callable:
    """-> step(variables, batch) -> {"row", "mask", "original", "masked", "painted"}, videos float32
    (N, T, H, W, 3) in [0, 1]; masked patches of "masked" are grey.

    apply(variables, inputs) -> outputs; reconstruct(outputs, targets) -> videos, as objectives/mae.py
    has it; patch: (tubelet_size, patch_size, patch_size) of the model.
    """

    def step(variables, batch):
        rng = jax.random.fold_in(jax.random.key(0), batch[ROW][0])
        inputs, targets = prepare(rng, batch)
        video = targets[VIDEO]
        patches = patchify(video, patch)
        hidden = jnp.where(targets["tube_mask"][..., None], 0.5, patches)
        return {
            ROW: batch[ROW],
            MASK: batch[MASK],
            "original": video,
            "masked": unpatchify(hidden, token_grid(video.shape, patch), patch),
            "painted": reconstruct(apply(variables, inputs), targets),
        }

    return step


def collect(
    step: Callable, variables: Any, batches: Iterable, to_device: Callable, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(original, masked, painted), each (n, T, H, W, 3) with n <= count: the first clips that count."""
    parts = []
    for batch in batches:
        out = jax.device_get(step(variables, to_device(batch)))
        keep = out[MASK]
        parts.append([out[name][keep] for name in ("original", "masked", "painted")])
    return tuple(np.concatenate(p)[:count] for p in zip(*parts, strict=True))
