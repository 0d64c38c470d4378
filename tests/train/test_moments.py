"""Moments as optax has them, kept where a step is skipped, and written over the old ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvid.objectives import classify
from jaxvid.train.moments import nesterov, scale_by_adam
from jaxvid.train.optim import make_optimizer
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step

PAIRS = {
    "adam": (scale_by_adam(0.9, 0.99, 1e-6), optax.scale_by_adam(0.9, 0.99, eps=1e-6)),
    "nesterov": (nesterov(0.9), optax.trace(0.9, nesterov=True)),
}


def gradients(step):
    rng = np.random.default_rng(step)
    return {"w": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32), "b": jnp.full(2, 1.0 / step)}


@pytest.mark.parametrize("name", PAIRS)
def test_states_and_updates_are_those_of_optax(name):
    ours, theirs = PAIRS[name]
    state, want = ours.init(gradients(1)), theirs.init(gradients(1))
    for step in range(1, 5):
        updates, state = ours.update(gradients(step), state, use=jnp.asarray(True))
        right, want = theirs.update(gradients(step), want)
        assert jax.tree.structure((updates, state)) == jax.tree.structure((right, want))
        jax.tree.map(np.testing.assert_array_equal, (updates, state), (right, want))


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_that_is_not_used_leaves_them(name):
    tx, _ = PAIRS[name]
    _, state = tx.update(gradients(1), tx.init(gradients(1)))
    broken = jax.tree.map(lambda g: g * jnp.nan, gradients(2))
    _, kept = tx.update(broken, state, use=jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, kept, state)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9}, {"frozen": ("w0",)}])
def test_the_step_copies_no_weights_and_no_moments(name, more):
    """Chosen after the update XLA's CPU backend copies the old ones."""
    weights = {f"w{i}": jnp.ones((256, 256)) for i in range(4)}
    frozen = more.get("frozen", ())

    def apply(variables, inputs, rng):
        x = inputs["video"]
        for i in range(4):
            x = jnp.tanh(x @ variables["params"][f"w{i}"])
        return {"logits": x[:, :3]}, {}

    def prepare(rng, batch):
        return {"video": batch}, {"target": jnp.eye(3)[:2], "weight": jnp.ones(2)}

    tx = make_optimizer(name, frozen=frozen, clip_norm=1.0)
    init = make_init(lambda rng: {"params": weights}, tx, ema="ema_decay" in more)
    state = jax.eval_shape(init, jax.random.key(0))
    step = make_train_step(apply, classify.build(), tx, prepare, lambda step: 0.1, **more)
    compiled = jax.jit(step, donate_argnums=0).lower(state, jnp.ones((2, 256))).compile()
    copies = [line for line in compiled.as_text().splitlines() if " copy(" in line]
    assert not [line for line in copies if "f32[256,256]" in line]
