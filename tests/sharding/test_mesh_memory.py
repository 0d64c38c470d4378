"""What a device holds for a training step, as compiled: it falls with fsdp, and with parts of a batch."""

import importlib.util

import jax
import numpy as np
import pytest
from sharded_steps import QUICKLY_MADE, batch_of, bytes_a_device, config_of, mesh_of, training

from jaxvid.compile.program import compile_program
from jaxvid.core.batch import ROW
from jaxvid.sharding.mesh import batch_sharding, make_mesh, replicated
from jaxvid.sharding.topology import absent_devices

# Weights beside which the clips are small, for shards to show.
WIDE = {"width": 256, "depth": 1, "num_heads": 4, "mlp_ratio": 4.0}


def made(shape, size, parts=1, **overrides):
    """-> (abstract state, batch, compiled step, what is trained, mesh)."""
    c = config_of("videomae", **overrides)
    c.optim.accumulate_steps = parts
    c.data.flip_probability = 0.0  # drawn anew for each part
    trained, mesh = training(c), mesh_of(*shape)
    batch = batch_of(c, size)
    step = trained.compiled(mesh, batch, **QUICKLY_MADE)
    return trained.abstract(mesh), batch, step, trained, mesh


def test_memory_falls_with_fsdp_as_the_shards_say():
    arguments = {}
    for shape in ((8, 1, 1), (2, 4, 1), (1, 8, 1)):
        state, batch, step, *_ = made(shape, 8, **WIDE)
        rows = sum(x.nbytes for name, x in batch.items() if name != ROW) // 8  # rows are not read
        arguments[shape] = step.memory_analysis().argument_size_in_bytes
        assert arguments[shape] == bytes_a_device(state) + rows
    whole, four, eight = arguments.values()
    assert four < 0.27 * whole and eight < 0.15 * whole


def test_weights_over_fsdp_are_gathered_anew_for_each_part():
    """Few clips, large weights: kept from the first part to the last they would double this."""
    state, *_, whole, _, _ = made((1, 8, 1), 32, **WIDE | {"depth": 4})
    *_, step, _, _ = made((1, 8, 1), 32, parts=4, **WIDE | {"depth": 4})
    weights = sum(x.size * 4 for x in jax.tree.leaves(state.params))
    more = step.memory_analysis().temp_size_in_bytes - whole.memory_analysis().temp_size_in_bytes
    # The sum of gradients, divided as the weights are, and the loop's own weights come on top.
    assert more < 0.6 * weights


@pytest.mark.slow
def test_parts_of_a_batch_take_less_memory_than_the_whole():
    """Where activations are what fills it."""
    sizes, losses = [], []
    for parts in (1, 4):
        _, batch, step, trained, mesh = made((1, 8, 1), 64, parts)
        sizes.append(step.memory_analysis())
        losses.append(trained.run(step, mesh, [batch] * 3)[1])
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
    assert sizes[1].argument_size_in_bytes == sizes[0].argument_size_in_bytes
    assert sizes[1].temp_size_in_bytes < 0.6 * sizes[0].temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed (extra tpu): nothing is compiled for TPU slices",
)
@pytest.mark.parametrize("fsdp", [1, 8])
def test_on_tpus_parts_keep_no_gathered_weights_and_data_alone_sums_once(fsdp):
    c = config_of("videomae", **WIDE | {"depth": 4})
    trained, batch = training(c), batch_of(c, 32)
    mesh = make_mesh(fsdp=fsdp, devices=absent_devices("v5e:2x4"))
    state, divided = trained.abstract(mesh), batch_sharding(mesh)
    shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=divided) for k, x in batch.items()}
    out = (jax.tree.map(lambda x: x.sharding, state), replicated(mesh))
    programs = {}
    for parts in (1, 4):
        c.optim.accumulate_steps = parts
        jitted = jax.jit(trained.step(mesh), out_shardings=out, donate_argnums=0)
        programs[parts] = compile_program(jitted.trace(state, shapes), mesh.size, "tpu")
    whole, sent = sum(x.size * 4 for x in jax.tree.leaves(state.params)), "all-reduce"
    if fsdp > 1:  # the sum of gradients, divided as the weights are, comes on top
        assert programs[4].temporaries - programs[1].temporaries < 0.5 * whole
        sent = "all-gather"
    times = programs[4].collectives[sent].bytes / programs[1].collectives[sent].bytes
    np.testing.assert_allclose(times, 4 if fsdp > 1 else 1, rtol=0.01)
