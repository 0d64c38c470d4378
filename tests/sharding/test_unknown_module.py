"""A module that brings no rules: its weights are divided over fsdp all the same, and learn the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from sharded_steps import QUICKLY_MADE, Training, bytes_a_device, mesh_of

from jaxvid.core.tree import flatten
from jaxvid.objectives import classify
from jaxvid.sharding.mesh import batch_sharding
from jaxvid.train.moments import scale_by_adam
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step


class Strange(nn.Module):
    """Parameters of names and shapes that stand in no rule."""

    @nn.compact
    def __call__(self, x):
        normal = nn.initializers.normal(0.1)
        x = jnp.tanh(x @ self.param("mixing", normal, (40, 128)))
        x = jnp.einsum("nd,kde->ne", x, self.param("basis", normal, (3, 128, 64)))
        x = jnp.tanh(x) @ self.param("half", normal, (64, 67))
        return jnp.tanh(x @ self.param("odd", normal, (67, 63))) @ self.param(
            "few", normal, (63, 8)
        )


def made():
    model, tx = Strange(), scale_by_adam(0.9, 0.999, 1e-8)

    def init(rng):
        return model.init(rng, jnp.zeros((1, 40)))

    def apply(variables, inputs, rng):
        logits = model.apply({"params": variables["params"]}, inputs["x"])
        return {"logits": logits}, variables["batch_stats"]

    def prepare(rng, batch):
        weight = jnp.ones(batch["x"].shape[0])
        return {"x": batch["x"]}, {"target": jax.nn.one_hot(batch["label"], 8), "weight": weight}

    def step(mesh):
        parts = (apply, classify.build(), tx, prepare, lambda step: 1e-2)
        rows = batch_sharding(mesh)
        return make_train_step(*parts, ema_decay=0.9, rows=rows)

    return Training(make_init(init, tx, ema=True), step)


def test_large_weights_are_divided_along_their_largest_axis_that_can_be():
    state = made().abstract(mesh_of(1, 8, 1))
    want = {
        "mixing": P(None, "fsdp"),
        "basis": P(None, "fsdp"),
        "half": P("fsdp"),  # of 64 and 67 the one that can be
        "odd": P(),  # neither 67 nor 63 is a multiple of 8
        "few": P(),  # too small to be worth it
    }
    for tree in (state.params, state.ema["params"], state.opt_state.mu, state.opt_state.nu):
        assert {name: x.sharding.spec for name, x in flatten(tree).items()} == want
    whole = bytes_a_device(made().abstract(mesh_of(8, 1, 1)).params)
    held = 4 * ((40 * 128 + 3 * 128 * 64 + 64 * 67) // 8 + 67 * 63 + 63 * 8)
    assert bytes_a_device(state.params) == held < 0.3 * whole


def test_it_learns_as_on_one_device():
    rng = np.random.default_rng(0)
    batches = [
        {"x": rng.normal(size=(8, 40)).astype(np.float32), "label": rng.integers(0, 8, 8)}
        for _ in range(5)
    ]
    training = made()
    losses = {}
    for shape in ((1, 1, 1), (1, 8, 1), (2, 2, 2)):
        mesh = mesh_of(*shape)
        step = training.compiled(mesh, batches[0], **QUICKLY_MADE)
        losses[shape] = training.run(step, mesh, batches)[1]
    for found in losses.values():
        np.testing.assert_allclose(found, losses[1, 1, 1], rtol=0, atol=1e-5)
