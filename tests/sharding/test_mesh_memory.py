"""What a device holds for a training step, as compiled: it falls with fsdp, and parts of a batch take
no more than the whole."""

import functools

import numpy as np
from sharded_steps import QUICKLY_MADE, batch_of, bytes_a_device, config_of, mesh_of, training

from jaxvid.core.batch import ROW

# Weights of which a device's part is far below what activations of these clips take, and the whole
# far above.
WIDE = {"width": 256, "depth": 2, "num_heads": 4, "mlp_ratio": 4.0}
SIZE = 32


@functools.cache
def made(shape, parts=1):
    """-> (abstract state, batch, compiled step, five of its losses)."""
    c = config_of("videomae", **WIDE)
    c.optim.accumulate_steps = parts
    c.data.flip_probability = 0.0  # drawn anew for each part
    trained, mesh = training(c), mesh_of(*shape)
    batch = batch_of(c, SIZE)
    step = trained.compiled(mesh, batch, **QUICKLY_MADE)
    losses = trained.run(step, mesh, [batch] * 3)[1] if shape == (1, 8, 1) else []
    return trained.abstract(mesh), batch, step, losses


def test_memory_falls_with_fsdp_as_the_shards_say():
    arguments = {}
    for shape in ((8, 1, 1), (2, 4, 1), (1, 8, 1)):
        state, batch, step, _ = made(shape)
        rows = sum(x.nbytes for name, x in batch.items() if name != ROW) // 8  # rows are not read
        arguments[shape] = step.memory_analysis().argument_size_in_bytes
        assert arguments[shape] == bytes_a_device(state) + rows
    whole, four, eight = arguments.values()
    assert four < 0.27 * whole and eight < 0.15 * whole


def test_parts_of_a_batch_take_no_more_memory_than_the_whole():
    """With weights divided the sums of gradients must be, and no weight is held whole over the parts."""
    *_, whole, losses = made((1, 8, 1))
    *_, parts, losses_of_parts = made((1, 8, 1), parts=4)
    np.testing.assert_allclose(losses_of_parts, losses, rtol=0, atol=1e-5)
    sizes = [step.memory_analysis() for step in (whole, parts)]
    assert sizes[1].argument_size_in_bytes == sizes[0].argument_size_in_bytes
    assert sizes[1].temp_size_in_bytes <= sizes[0].temp_size_in_bytes
