"""One yes or no for each clip."""

import jax


def chosen(rng: jax.Array, n: int, probability: float) -> jax.Array:
    """bool (n,), each True with `probability`; ValueError when that is outside [0, 1]."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"the probability is {probability}, expected a number in [0, 1]")
    return jax.random.bernoulli(rng, float(probability), (n,))
