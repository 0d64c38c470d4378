"""Rows of blocks: their rates, their numbers, and what remat leaves as it is."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvid.nn.rows import rows_divided
from jaxvid.nn.stage import Stage, stage_rates


class Scale(nn.Module):
    """Times a parameter and the number of the block; plus the rate, to see it."""

    number: int

    @nn.compact
    def __call__(self, x, drop_path, *, train):
        scale = self.param("scale", nn.initializers.constant(0.5), (1,))
        return jnp.tanh(x * scale) * (self.number + 1) + (drop_path if train else 0.0)


def made(remat):
    return Stage(lambda i: Scale(i, name=f"block_{i}"), (0.0, 0.25), remat)


@pytest.mark.parametrize("train", [False, True])
def test_blocks_follow_one_another_with_their_rates(train):
    x = np.float32([[1.0, -2.0]])
    variables = made(False).init(jax.random.key(0), x, train=False)
    assert variables["params"].keys() == {"block_0", "block_1"}
    expected = 2 * np.tanh(0.5 * np.tanh(0.5 * x)) + (0.25 if train else 0.0)
    np.testing.assert_allclose(made(False).apply(variables, x, train=train), expected, rtol=1e-6)


def test_remat_changes_nothing_but_what_is_kept():
    x = np.float32([[1.0, -2.0]])
    variables = made(False).init(jax.random.key(0), x, train=False)

    def gradient(remat):
        loss = functools.partial(made(remat).apply, train=True)
        program = jax.make_jaxpr(jax.grad(lambda v: jnp.sum(loss(v, x))))(variables)
        return jax.grad(lambda v: jnp.sum(loss(v, x)))(variables), str(program)

    (plain, program), (again, remat_program) = gradient(False), gradient(True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, again)
    assert "checkpoint" not in program and (
        "checkpoint" in remat_program or "remat" in remat_program
    )


def test_each_device_keeps_its_rows_between_blocks():
    x = np.float32([[1.0, -2.0]])
    variables = made(False).init(jax.random.key(0), x, train=False)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    with rows_divided(NamedSharding(mesh, PartitionSpec("data"))):
        run = functools.partial(made(False).apply, train=False)
        program = str(jax.make_jaxpr(run)(variables, x))
    assert program.count("sharding_constraint[") == 2 * 2  # before and after each block


def test_rates_rise_over_all_stages():
    rates = stage_rates(0.3, (1, 2, 1))
    assert [len(r) for r in rates] == [1, 2, 1]
    np.testing.assert_allclose(np.concatenate(rates), [0.0, 0.1, 0.2, 0.3], atol=1e-7)
    assert stage_rates(0.0, (2, 1)) == [(0.0, 0.0), (0.0,)]
