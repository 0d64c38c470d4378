"""Optimisers without their learning rate: the step multiplies by the schedule at `state.step`, so that
the rate in the log is the rate that was used, also after a skipped step."""

import functools
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvid.core.errors import ConfigError, unknown
from jaxvid.sharding.rules import path_name
from jaxvid.train.moments import nesterov, scale_by_adam

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
    weight decay on matrices only, layer-wise rate decay (BEiT, Bao et al. 2022, app. D).

    weight_decay: adamw's is decoupled; sgd's passes through the momentum with the gradient, as in
    torch and so in the papers that train with it: a decoupled one would be 1 / (1 - momentum) times
    weaker. frozen: regular expressions of parameter paths; what one of them finds stays as it is,
    weight decay included, has no moments in the state, and its gradient is no part of the norm that is
    clipped. rate_factors: (regular expression, factor of the learning rate) of parameters that learn
    faster or slower than the rest; the first that finds one counts. Raises ConfigError, when the
    state is made, for an expression that finds nothing, at once for a factor below 0.
    """
    if name not in OPTIMISERS:
        raise unknown("optim.name", name, OPTIMISERS)
    if not 0.0 < layer_decay <= 1.0:
        raise ConfigError(f"optim.layer_decay={layer_decay}, expected in (0, 1]; 1 turns it off")
    parts = []
    if clip_norm > 0:
        parts.append(optax.clip_by_global_norm(clip_norm))
    decaying = optax.add_decayed_weights(weight_decay, mask=decay_mask)
    if name == "adamw":
        parts += [scale_by_adam(b1, b2, eps), decaying]
    else:
        parts += [decaying, nesterov(momentum)]
    if frozen:
        mask = functools.partial(learning_mask, frozen=frozen)
        parts = [optax.masked(optax.chain(*parts), mask)]
    if layer_decay < 1.0:
        parts.append(_scale_by_layer(layer_decay))
    if any(not factor >= 0 for _, factor in rate_factors):
        raise ConfigError(f"optim.rate_factors={rate_factors}, expected factors from 0")
    if rate_factors:
        parts.append(_scale_by_path(dict(rate_factors), "optim.rate_factors"))
    if frozen:
        parts.append(_scale_by_path(dict.fromkeys(frozen, 0.0), "optim.frozen"))
    return optax.chain(*parts)


def learning_mask(params, frozen: Sequence[str]) -> dict:
    """False where one of the regular expressions `frozen` finds the parameter's path."""

    def one(path, _):
        return not any(re.search(pattern, path_name(path)) for pattern in frozen)

    return jax.tree_util.tree_map_with_path(one, params)


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
BELOW = (
    r"patch_(embed|norm)|norm_pre|pos_embed|position|(cls|class|bottleneck)_token|conv_embed|"
    r"token_embed|/stem"
)


def layer_scales(params, decay: float) -> dict:
    """For each leaf decay^(layers above it): embeddings and stems the lowest, heads and final norms 1.

    A layer is a block, counted through the stages. Towers of blocks that stand beside or upon each
    other (pictures and text, encoder and decoder, a network and the blocks over its features) are
    each counted from their own top. Stacked (scanned) blocks get a vector along their layer axis.
    """
    paths = [(_rooted(p), leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(params)]
    depths, number = _towers(paths)
    if not depths:
        raise ConfigError(
            "optim.layer_decay needs a model of blocks; this one has none to decay over"
        )
    deepest = max(depths, key=depths.get)

    def one(path, leaf):
        path = _rooted(path)
        around = [tower for tower in depths if path.startswith(f"{tower}/")]
        tower = max(around, key=len, default=deepest)
        if "/blocks/" in path:
            powers = depths[tower] - np.arange(leaf.shape[0])
            return (decay**powers).astype(np.float32).reshape((-1,) + (1,) * (leaf.ndim - 1))
        block = _block(path)
        if between := re.search(r"/(?:merge|fusion)_(\d+)/", path.replace("audio_", "")):
            block = tower, int(between[1]) + 1, 0  # two stages: with the first block after
        if block:
            return np.float32(decay ** (depths[tower] - number[block]))
        below = re.search(BELOW, path)
        return np.float32(decay ** (depths[tower] + 1) if below else 1.0)

    return jax.tree_util.tree_map_with_path(one, params)


def _rooted(path) -> str:
    """ "/encoder/block_0/…": also the first name stands behind a slash."""
    return f"/{path_name(path)}"


def _towers(paths) -> tuple[dict[str, int], dict[tuple, int]]:
    """({tower: its blocks}, {(tower, stage, block): its number within the tower}); a tower is the path
    before its stages and blocks."""
    depths = {
        path.split("/blocks/")[0]: leaf.shape[0] for path, leaf in paths if "/blocks/" in path
    }
    number = {}
    for block in sorted({block for path, _ in paths if (block := _block(path))}):
        number[block] = depths.get(block[0], 0)
        depths[block[0]] = number[block] + 1
    return depths, number


def _block(path: str) -> tuple[str, int, int] | None:
    """(tower, stage, block) of ".../stage_3/block_1/..."; stage 0 where a model has none."""
    found = re.search(r"^(.*?)/(?:stage_(\d+)/)?block_(\d+)/", path)
    return (found[1], int(found[2] or 0), int(found[3])) if found else None


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
