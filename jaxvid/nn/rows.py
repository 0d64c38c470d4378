"""Keeps each device at its own rows of a batch, where the compiler might divide activations otherwise.

With parameters divided over fsdp it must choose: gather the weights of a layer, or divide channels and
sum activations over devices. Unasked it takes the second inside loops over layers (scan_layers), at
hundreds of times the bytes. And a loop within a layer that sums over the batch it makes sum over all
devices in each turn: hence `map_rows` and `sum_rows`, whose loops run on each device for itself.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import jax
from jax.sharding import PartitionSpec

_DIVIDED: ContextVar[jax.sharding.NamedSharding | None] = ContextVar("rows_divided", default=None)


@contextlib.contextmanager
def rows_divided(sharding: jax.sharding.NamedSharding | None) -> Iterator[None]:
    """Within it rows are divided by `sharding`, that of batches (sharding/mesh.py), of which the first
    axis counts; None: by what the compiler likes. To be entered while a step is traced."""
    before = _DIVIDED.set(sharding)
    try:
        yield
    finally:
        _DIVIDED.reset(before)


def division() -> jax.sharding.NamedSharding | None:
    """What `rows_divided` was given. Gradients are traced when it has been left: what is called for
    them, or under a jit of its own, is to be handed this as a static argument."""
    return _DIVIDED.get()


def keep_rows(x: jax.Array) -> jax.Array:
    """x (N, …) itself, its first axis divided as the batch is; so are its gradients."""
    sharding = _DIVIDED.get()
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


def map_rows(
    function: Callable,
    rows: Sequence[jax.Array],
    *whole: jax.Array,
    by: jax.sharding.NamedSharding | None,
    axis: int = 0,
):
    """function(*rows, *whole) -> one array or several, of whose rows each follows from the same one of
    `rows` and from all of `whole`; every device computes its own. by: see `division`. axis: along which
    the rows of all these arrays lie."""
    return _on_own_rows(function, rows, whole, by, axis, summed=False)


def sum_rows(
    function: Callable,
    rows: Sequence[jax.Array],
    *whole: jax.Array,
    by: jax.sharding.NamedSharding | None,
) -> jax.Array:
    """function(*rows, *whole), a sum over the rows: every device makes that of its own, and these are
    added up, once."""
    return _on_own_rows(function, rows, whole, by, 0, summed=True)


def _on_own_rows(function, rows, whole, by, axis, *, summed):
    axes = _axes(by)
    shards = math.prod(by.mesh.shape[name] for name in axes)
    if shards == 1 or any(x.shape[axis] % shards for x in rows):
        return function(*rows, *whole)
    divided = PartitionSpec(*(None,) * axis, axes)

    @functools.partial(
        jax.shard_map,
        mesh=by.mesh,
        in_specs=(divided,) * len(rows) + (PartitionSpec(),) * len(whole),
        out_specs=PartitionSpec() if summed else divided,
        check_vma=False,  # loops inside start at zeros that are the same on all devices
    )
    def on_own(*arrays):
        result = function(*arrays)
        return jax.lax.psum(result, axes) if summed else result

    return on_own(*rows, *whole)


def _axes(by: jax.sharding.NamedSharding | None) -> tuple[str, ...]:
    """Of the mesh, those that divide rows."""
    first = by.spec[0] if by is not None and len(by.spec) else None
    return (first,) if isinstance(first, str) else tuple(first or ())
