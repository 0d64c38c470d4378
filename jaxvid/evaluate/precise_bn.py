"""Statistics of batch normalisation measured again before an evaluation, over many training batches.

The moving averages of training lag behind the weights and, for small batches, are noisy. Wu and
Johnson 2021, Rethinking "Batch" in BatchNorm, section 3: the weights stay, the statistics become those
of the population: the mean of the batches' means, and the variance within and between them.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvid.core import progress


def make_step(statistics: Callable, prepare: Callable) -> Callable:
    """-> step(variables, batch, rng, sums) -> sums, for `estimate`.

    statistics: (variables, inputs, rng) -> batch_stats of these inputs alone. prepare: that of
    training (ops/prepare.py), so that the pixels are distributed as in training.
    """

    def step(variables, batch, rng, sums):
        prepare_rng, apply_rng = jax.random.split(rng)
        inputs, _ = prepare(prepare_rng, batch)
        means, squares = _moments(statistics(variables, inputs, apply_rng))
        return jax.tree.map(jnp.add, sums, (means, squares))

    return step


def estimate(
    step: Callable,
    variables: Any,
    batches: Iterable,
    to_device: Callable,
    *,
    count: int,
    seed: int,
    show: bool,
) -> dict:
    """The variables with the statistics of `count` training batches in batch_stats.

    step: of `make_step`, jitted.
    """
    sums = jax.tree.map(jnp.zeros_like, _moments(variables["batch_stats"]))
    key = jax.random.key(seed)
    some = itertools.islice(batches, count)
    bar = progress.bar(some, total=count, what="precise BN", unit="batch", show=show)
    for number, batch in enumerate(bar):
        sums = step(variables, to_device(batch), jax.random.fold_in(key, number), sums)
        jax.block_until_ready(sums)  # at most one batch ahead: no pile of clips on the device
    return {**variables, "batch_stats": _statistics(sums, count)}


def _moments(batch_stats):
    """{"mean", "var"} of every norm -> a tree of means and one of squares' means."""
    if "mean" in batch_stats and "var" in batch_stats:
        mean, var = batch_stats["mean"], batch_stats["var"]
        return {"mean": mean}, {"square": var + mean * mean}
    parts = {name: _moments(node) for name, node in batch_stats.items()}
    return {n: p[0] for n, p in parts.items()}, {n: p[1] for n, p in parts.items()}


def _statistics(sums, count: int):
    """The way back from the sums of `_moments`."""
    means, squares = sums
    if "mean" in means and "square" in squares:
        mean = means["mean"] / count
        # A frozen norm's own statistics come back as they are, but for rounding.
        return {"mean": mean, "var": jnp.maximum(squares["square"] / count - mean * mean, 0.0)}
    return {name: _statistics((means[name], squares[name]), count) for name in means}
