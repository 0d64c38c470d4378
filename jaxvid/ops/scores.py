"""From logits to probabilities, as the kind of training has them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np


def scores(kind: str, heads: Sequence[int] = ()) -> Callable[[jax.Array], jax.Array]:
    """Function of logits (N, K) that returns probabilities float32 (N, K).

    kind: "multilabel": a sigmoid of each class; others: softmax over all classes, or over those of each
    head, `heads` being their numbers of classes in a row.
    """
    if kind == "multilabel":
        return lambda logits: jax.nn.sigmoid(logits.astype(jnp.float32))
    ends = np.cumsum(heads)[:-1].tolist()

    def of_heads(logits: jax.Array) -> jax.Array:
        parts = jnp.split(logits.astype(jnp.float32), ends, axis=1)
        return jnp.concatenate([jax.nn.softmax(part, axis=1) for part in parts], axis=1)

    return of_heads
