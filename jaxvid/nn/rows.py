"""Keeps each device at its own rows of a batch, where the compiler might divide activations otherwise.

With parameters divided over fsdp it must choose: gather the weights of a layer, or divide channels and
sum activations over devices. Unasked it takes the second inside loops over layers (scan_layers), at
hundreds of times the bytes.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_DIVIDED: ContextVar[jax.sharding.Sharding | None] = ContextVar("rows_divided", default=None)


@contextlib.contextmanager
def rows_divided(sharding: jax.sharding.Sharding | None) -> Iterator[None]:
    """Within it `keep_rows` holds arrays to `sharding`, that of batches (sharding/mesh.py); None: to
    nothing. To be entered while a step is traced."""
    before = _DIVIDED.set(sharding)
    try:
        yield
    finally:
        _DIVIDED.reset(before)


def keep_rows(x: jax.Array) -> jax.Array:
    """x (N, …) itself, its first axis divided as the batch is; so are its gradients."""
    sharding = _DIVIDED.get()
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)
