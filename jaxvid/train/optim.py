"""Optimisers without their learning rate: the step multiplies by the schedule at `state.step`, so that
the rate in the log is the rate that was used, also after a skipped step."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvid.core.errors import ConfigError, unknown
from jaxvid.sharding.rules import path_name

OPTIMISERS = ("adamw", "sgd")


def make_optimizer(
    name: str = "adamw",
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.9,
    weight_decay: float = 0.05,
    clip_norm: float = 0.0,
    layer_decay: float = 1.0,
    frozen: Sequence[str] = (),
    rate_factors: Sequence[tuple[str, float]] = (),
) -> optax.GradientTransformation:
    """Clip by global norm (0 = off), "adamw" (Loshchilov & Hutter 2019) or "sgd" (Nesterov momentum),
    decoupled weight decay on matrices only, layer-wise rate decay (BEiT, Bao et al. 2022, app. D).

    frozen: regular expressions of parameter paths; what one of them finds stays as it is, weight decay
    included. rate_factors: (regular expression, factor of the learning rate) of parameters that learn
    faster or slower than the rest; the first that finds one counts. Raises ConfigError, when the state
    is made, for an expression that finds nothing, at once for a factor below 0.
    """
    if name not in OPTIMISERS:
        raise unknown("optim.name", name, OPTIMISERS)
    if not 0.0 < layer_decay <= 1.0:
        raise ConfigError(f"optim.layer_decay={layer_decay}, expected in (0, 1]; 1 turns it off")
    if name == "adamw":
        core = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
    else:
        core = optax.trace(decay=momentum, nesterov=True)
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    parts += [core, optax.add_decayed_weights(weight_decay, mask=decay_mask)]
    if layer_decay < 1.0:
        parts.append(_scale_by_layer(layer_decay))
    if any(not factor >= 0 for _, factor in rate_factors):
        raise ConfigError(f"optim.rate_factors={rate_factors}, expected factors from 0")
    if rate_factors:
        parts.append(_scale_by_path(dict(rate_factors), "optim.rate_factors"))
    if frozen:
        parts.append(_scale_by_path(dict.fromkeys(frozen, 0.0), "optim.frozen"))
    return optax.chain(*parts)


def decay_mask(params) -> dict:
    """True where weight decay applies: not on biases, norms' scales, layer scale, tokens and
    tables, nor on a state space's A_log and D (Gu and Dao's own training leaves them out).

    Decided by name, not by rank alone: the bias of a head-split projection has two axes.
    """

    def one(path, leaf):
        last = path_name(path).rsplit("/", 1)[-1]
        plain = re.fullmatch(
            r"bias|scale|gamma_\d|A_log|D|.*token.*|.*pos_embed.*|.*position.*", last
        )
        scanned = "/blocks/" in _rooted(path)
        return not plain and leaf.ndim - scanned > 1

    return jax.tree_util.tree_map_with_path(one, params)


# What comes before the first block.
BELOW = r"patch_embed|pos_embed|position|(cls|class|bottleneck)_token|conv_embed|token_embed|/stem"


def layer_scales(params, decay: float) -> dict:
    """For each leaf decay^(layers above it): embeddings and stems the lowest, heads and final norms 1.

    A layer is a block, counted through the stages. Stacked (scanned) blocks get a vector along their
    layer axis.
    """
    paths = [(_rooted(p), leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(params)]
    blocks = sorted({block for path, _ in paths if (block := _block(path))})
    number = {block: i for i, block in enumerate(blocks)}
    stacked = (leaf.shape[0] for path, leaf in paths if "/blocks/" in path)
    depth = max([len(blocks), *stacked])
    if not depth:
        raise ConfigError(
            "optim.layer_decay needs a model of blocks; this one has none to decay over"
        )

    def one(path, leaf):
        path = _rooted(path)
        if "/blocks/" in path:
            powers = depth - np.arange(leaf.shape[0])
            return (decay**powers).astype(np.float32).reshape((-1,) + (1,) * (leaf.ndim - 1))
        if merge := re.search(r"/merge_(\d+)/", path):
            # Between two stages: with the first block after.
            path = path.replace(merge[0], f"/stage_{int(merge[1]) + 1}/block_0/")
        if block := _block(path):
            return np.float32(decay ** (depth - number[block]))
        below = re.search(BELOW, path)
        return np.float32(decay ** (depth + 1) if below else 1.0)

    return jax.tree_util.tree_map_with_path(one, params)


def _rooted(path) -> str:
    """ "/encoder/block_0/…": also the first name stands behind a slash."""
    return f"/{path_name(path)}"


def _block(path: str) -> tuple[int, int] | None:
    """(stage, block) of ".../stage_3/block_1/..."; stage 0 where a model has none."""
    found = re.search(r"/(?:stage_(\d+)/)?block_(\d+)/", path)
    return (int(found[1] or 0), int(found[2])) if found else None


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        scales = layer_scales(updates, decay)
        return jax.tree.map(lambda u, s: u * jnp.asarray(s, u.dtype), updates, scales), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale_by_path(factors: dict[str, float], field: str) -> optax.GradientTransformation:
    """Multiplies by the factor of the first regular expression that finds the parameter's path."""

    def init(params):
        paths = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern in factors:
            if not any(re.search(pattern, path) for path in paths):
                raise ConfigError(
                    f"{field}: {pattern!r} finds no parameter; there are, for example, "
                    f"{', '.join(paths[:3])}"
                )
        return optax.EmptyState()

    def update(updates, state, params=None):
        def one(path, leaf):
            found = (f for pattern, f in factors.items() if re.search(pattern, path_name(path)))
            factor = next(found, 1.0)
            return leaf * jnp.asarray(factor, leaf.dtype) if factor else jnp.zeros_like(leaf)

        return jax.tree_util.tree_map_with_path(one, updates), state

    return optax.GradientTransformation(init, update)
