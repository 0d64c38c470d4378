"""Which row of a split is shown when, and with which random numbers: functions of the seed alone."""

import functools

import numpy as np

from jaxvid.core.errors import ConfigError

_ORDER, _CLIP = 0, 1  # two families of random streams under one seed


class Order:
    """The row at each position of training, the n positions of an epoch after those of the one before.

    num_rows: n. seed: an integer from 0. shuffle: a new order each epoch; False: the rows in their own
    order. weights: float (n,), how often each row is shown beside the others; None: each once an
    epoch. Raises ConfigError for settings that cannot be.
    """

    def __init__(
        self, num_rows: int, seed: int, *, shuffle: bool = True, weights: np.ndarray | None = None
    ):
        if not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"the seed of the data is {seed!r}, expected an integer from 0")
        self.num_rows, self.seed, self.shuffle = num_rows, seed, shuffle
        self._shares = None if weights is None else _shares(weights, num_rows, shuffle)

    def row(self, position: int) -> int:
        """The row at a position from 0."""
        epoch, place = divmod(position, self.num_rows)
        return int(_epoch(self, epoch)[place]) if self.shuffle else place

    def epoch(self, number: int) -> np.ndarray:
        """The rows of a shuffled epoch, int64 (n,), read-only.

        Without weights a permutation of 0..n-1. With them a draw of n rows in random order, in which a
        row comes n · weight / (sum of weights) times in the mean, and never one or more off it
        (systematic sampling, Madow 1949): an epoch keeps its length, a class its share.
        """
        rng = _rng(self.seed, _ORDER, number)
        rows = rng.permutation(self.num_rows)
        if self._shares is not None:
            expected = self.num_rows * np.cumsum(self._shares[rows])
            expected[-1] = self.num_rows  # not a rounding error less
            times = np.diff(np.floor(expected + rng.random()), prepend=0.0).astype(np.int64)
            rows = rng.permutation(np.repeat(rows, times))
        rows.flags.writeable = False  # it is shared by all threads
        return rows


@functools.lru_cache(maxsize=4)
def _epoch(order: Order, number: int) -> np.ndarray:
    return order.epoch(number)


def _shares(weights: np.ndarray, num_rows: int, shuffle: bool) -> np.ndarray:
    """The weights divided by their sum."""
    if not shuffle:
        raise ConfigError("weights draw the rows of an epoch anew, which shuffle=False forbids")
    weights = np.asarray(weights, np.float64)
    if weights.shape != (num_rows,):
        raise ConfigError(
            f"weights have shape {weights.shape}, expected one for each of {num_rows} rows"
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum() > 0:
        raise ConfigError(
            f"weights lie in {weights.min()}..{weights.max()}, expected finite numbers from 0, not all 0"
        )
    return weights / weights.sum()


def clip_rng(seed: int, position: int) -> np.random.Generator:
    """The random numbers of the clip at a position of the training sequence."""
    return _rng(seed, _CLIP, position)


def _rng(seed: int, family: int, number: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence(seed, spawn_key=(family, number)))
    )
