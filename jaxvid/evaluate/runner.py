"""Runs a jitted evaluation step over every clip of a split, each counted once on any number of hosts.

An evaluation step returns arrays that are whole on every device, so each host ends with all rows and
no second exchange between hosts is needed. The device is kept `AHEAD` batches busy.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxvid.core import progress
from jaxvid.core.batch import MASK, ROW
from jaxvid.metrics.sums import add

AHEAD = 2


def collect_rows(
    step: Callable, variables: Any, batches: Iterable, to_device: Callable, *, what: str, show: bool
) -> dict[str, np.ndarray]:
    """{name: array with one entry a clip, in the order of their rows} of all clips that count.

    step(variables, batch) -> {"row", "mask", …}: arrays whose first axis is the global batch's.
    Padding and skipped clips (mask False) are left out. Raises RuntimeError if a clip came twice.
    """
    parts = []
    for out in _run(step, variables, batches, to_device, what, show):
        keep = np.asarray(out[MASK])
        parts.append({name: np.asarray(x)[keep] for name, x in out.items() if name != MASK})
    rows = np.concatenate([p[ROW] for p in parts])
    order = np.argsort(rows, kind="stable")
    if len(np.unique(rows)) != len(rows):
        raise RuntimeError(f"{what}: {len(rows) - len(np.unique(rows))} clips were counted twice")
    return {name: np.concatenate([p[name] for p in parts])[order] for name in parts[0]}


def collect_sums(
    step: Callable, variables: Any, batches: Iterable, to_device: Callable, *, what: str, show: bool
) -> dict[str, tuple[float, float]]:
    """{name: (sum, weight)} added up over all batches, on the host."""
    total: dict[str, tuple[float, float]] = {}
    for out in _run(step, variables, batches, to_device, what, show):
        sums = {k: (float(s), float(w)) for k, (s, w) in out.items()}
        total = add(total, sums) if total else sums
    return total


def _run(step, variables, batches, to_device, what: str, show: bool) -> Iterator[Any]:
    pending: collections.deque = collections.deque()
    for batch in progress.bar(batches, total=None, what=what, unit="batch", show=show):
        pending.append(step(variables, to_device(batch)))
        if len(pending) > AHEAD:
            yield jax.device_get(pending.popleft())
    while pending:
        yield jax.device_get(pending.popleft())
