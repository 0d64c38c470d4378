"""Metrics on their way: {name: (sum, weight)}, added over batches and hosts, divided once.

`add` works on jax arrays inside jit and on plain floats alike, so nothing waits for the device
until `finish` is called on the host.
"""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

Sums = Mapping[str, tuple]


def weighted_sum(values: jax.Array, weights: jax.Array | None = None) -> tuple:
    """(N,) values and bool or float (N,) weights -> (sum of value·weight, sum of weight), float32.

    A row of weight 0 counts nothing, whatever its value, NaN included.
    """
    values = values.astype(jnp.float32)
    weights = jnp.ones_like(values) if weights is None else weights.astype(jnp.float32)
    return jnp.sum(jnp.where(weights > 0, values * weights, 0.0)), jnp.sum(weights)


def add(one: Sums, other: Sums) -> dict[str, tuple]:
    """The sums of both; a name that only one of them has is kept, so {} is the neutral element."""
    total = dict(one)
    for name, (value, weight) in other.items():
        if name in total:
            value, weight = total[name][0] + value, total[name][1] + weight
        total[name] = (value, weight)
    return total


def total(many: Iterable[Sums]) -> dict[str, tuple[float, float]]:
    """Adds the sums of many batches on the host in float64; waits for the device."""
    result: dict[str, tuple] = {}
    for sums in jax.device_get(list(many)):
        result = add(result, {k: (np.float64(v), np.float64(w)) for k, (v, w) in sums.items()})
    return {name: (float(value), float(weight)) for name, (value, weight) in result.items()}


def finish(sums: Sums) -> dict[str, float]:
    """{name: sum / weight} as floats, on the host; waits for the device.

    A metric of weight 0 was never measured and is left out: absent, not 0 and not NaN.
    """
    host = jax.device_get(dict(sums))
    return {name: float(value) / float(weight) for name, (value, weight) in host.items() if weight}
