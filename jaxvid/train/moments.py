"""optax's moments, for steps that may be skipped: where `use` is False they stay as they were.

The choice between new and old stands before the update is made of them, not after: then a compiler can
write the new ones over the old. After it XLA's CPU backend computes the new ones twice, the second time
inside the update of the weights, and copies all old ones for that: two thirds of the weights' own memory
and the gradients' together.
"""

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """optax.scale_by_adam, its state and its numbers. update(…, use=scalar bool)."""

    def update(updates, state, params=None, *, use=True, **_):
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        state = chosen(use, optax.ScaleByAdamState(state.count + 1, mu, nu), state)
        mean = optax.tree.bias_correction(state.mu, b1, state.count)
        square = optax.tree.bias_correction(state.nu, b2, state.count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
        return updates, state

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def nesterov(decay: float) -> optax.GradientTransformationExtraArgs:
    """optax.trace(decay, nesterov=True), its state and its numbers. update(…, use=scalar bool)."""

    def update(updates, state, params=None, *, use=True, **_):
        trace = jax.tree.map(lambda g, t: g + decay * t, updates, state.trace)
        state = chosen(use, optax.TraceState(trace), state)
        return jax.tree.map(lambda g, t: g + decay * t, updates, state.trace), state

    return optax.GradientTransformationExtraArgs(optax.trace(decay).init, update)


def chosen(use: jax.Array, new, old):
    """The tree `new` where `use`, else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(use, n, o), new, old)
