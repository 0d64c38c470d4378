"""Blocks in a row that are not all alike, each with its rate of stochastic depth."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import numpy as np

from jaxvid.nn.rows import keep_rows


class Stage(nn.Module):
    """block_0, block_1, …: as many as there are rates.

    block: makes the i-th, named f"block_{i}"; it is called with (x, drop-path rate, train=…). remat:
    activations inside a block are computed again for the gradient.
    """

    block: Callable[[int], nn.Module]
    rates: Sequence[float]
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, …, C) -> the same shape"""
        for i, rate in enumerate(self.rates):
            x = self._layer(rate, train)(self.block(i), x)
        return x

    def _layer(self, rate: float, train: bool):
        def layer(block, x):
            return keep_rows(block(keep_rows(x), rate, train=train))

        return nn.remat(layer) if self.remat else layer


def stage_rates(drop_path_rate: float, depths: Sequence[int]) -> list[tuple[float, ...]]:
    """For each stage the rates of its blocks, rising linearly from 0 to drop_path_rate over all."""
    rates = np.linspace(0.0, drop_path_rate, sum(depths)).tolist()
    ends = np.cumsum(depths).tolist()
    return [tuple(rates[end - depth : end]) for end, depth in zip(ends, depths, strict=True)]
