"""What a device holds for a training step, as compiled: it falls with fsdp, and with parts of a batch."""

import numpy as np
from sharded_steps import QUICKLY_MADE, batch_of, bytes_a_device, config_of, mesh_of, training

from jaxvid.core.batch import ROW

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


def test_parts_of_a_batch_take_less_memory_than_the_whole():
    """Where activations are what fills it. Of weights divided over fsdp XLA's CPU backend keeps the
    gathered ones from the first part to the last, so that large ones of few clips take more."""
    sizes, losses = [], []
    for parts in (1, 4):
        _, batch, step, trained, mesh = made((1, 8, 1), 64, parts)
        sizes.append(step.memory_analysis())
        losses.append(trained.run(step, mesh, [batch] * 3)[1])
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
    assert sizes[1].argument_size_in_bytes == sizes[0].argument_size_in_bytes
    assert sizes[1].temp_size_in_bytes < 0.6 * sizes[0].temp_size_in_bytes
