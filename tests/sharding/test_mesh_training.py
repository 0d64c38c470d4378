"""Five real training steps of every family on meshes of eight devices: numbers, places and memory.

Losses must equal those of one device within 1e-5, five to ten times what sums of another order
change in float32 (up to 1e-6 was seen). Dropout, drop path, flips and masks stay on: random numbers
follow the seed alone, not the mesh. Weights are not compared: Adam divides each gradient by its own
size, so that gradients that are zero but for rounding (of a bias before a norm) move by whole steps
in any direction, and the loss does not see it.
"""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from sharded_steps import (
    QUICKLY_MADE,
    batch_of,
    bytes_a_device,
    config_of,
    mesh_of,
    training,
)

from jaxvid.core.batch import LABEL, ROW, VIDEO
from jaxvid.core.tree import flatten
from jaxvid.metrics.collectives import traffic
from jaxvid.sharding.mesh import batch_sharding
from jaxvid.sharding.rules import MIN_ELEMENTS_TO_DIVIDE, path_name

STEPS, BATCH = 5, 8
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2)]
ONE_BLOCK = {"stage_sizes": (1,), "width": 32}
# One of each kind, small enough for every run of the tests but on LONGER meshes.
QUICK = {
    "videomae": {"drop_path_rate": 0.1},
    "r2plus1d": ONE_BLOCK | {"temporal_strides": (1,), "spatial_strides": (1,)},
    "cnn_lstm": ONE_BLOCK,
}
# Without loops over pieces of a layer, as convolutions on CPUs have them, that sum in each piece.
PLAIN = ("videomae", "videomae_pretrain")
# As their test variants are.
SLOW = ["videomae_pretrain", "mvit", "video_swin", "uniformer", "xclip", "audio_visual"]
SLOW += ["x3d", "slowfast", "cnn_mamba"]
LONGER = {("r2plus1d", (1, 8, 1)), ("r2plus1d", (2, 2, 2)), ("r2plus1d", (4, 1, 2))}
LONGER |= {("cnn_lstm", (8, 1, 1)), ("cnn_lstm", (4, 1, 2))}
# Where no ReLU and no maximum is within rounding of turning: X3D's losses moved by 6e-5, MViT's by 1.6e-5, when
# the last bits of their weights did, on one device too.
NOISE = {"x3d": 2, "mvit": 2}
CASES = [
    pytest.param(
        *(name, mesh),
        id=f"{name} {mesh}",
        marks=[pytest.mark.slow] * (name in SLOW or (name, mesh) in LONGER),
    )
    for name in (*QUICK, *SLOW)
    for mesh in MESHES
]


def config_for(name):
    c = config_of(name, **QUICK.get(name, {}))
    if name in ("r2plus1d", "cnn_lstm"):
        c.data.num_frames, c.data.size = 4, 16
    return c


def batches(c):
    made = [batch_of(c, BATCH, seed) for seed in range(STEPS)]
    if c.model.name != "videomae":
        return made
    # Repeated augmentation: views are divided with their clips.
    return [{**x, VIDEO: np.concatenate([x[VIDEO], x[VIDEO][:, :, ::-1]], 1)} for x in made]


@functools.lru_cache(1)
def on_one_device(name):
    """-> (what is trained, batches, losses)."""
    c = config_for(name)
    made, several, mesh = training(c, NOISE.get(name, 1)), batches(c), mesh_of(1, 1, 1)
    step = made.compiled(mesh, several[0], **QUICKLY_MADE)
    return made, several, made.run(step, mesh, several)[1]


@pytest.mark.parametrize("name, shape", CASES)
def test_five_steps_equal_those_of_one_device(name, shape):
    made, several, expected = on_one_device(name)
    mesh = mesh_of(*shape)
    step = made.compiled(mesh, several[0], **QUICKLY_MADE)
    state, losses = made.run(step, mesh, several)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert max(expected) - min(expected) > 1e-3, "nothing is learned"

    before = made.abstract(mesh)
    assert_divided(before, shape)
    assert_same_shardings(state, before)
    of_batch = step.input_shardings[0][1]
    assert of_batch[VIDEO].is_equivalent_to(batch_sharding(mesh), several[0][VIDEO].ndim)
    assert_memory(step, before, several[0], shape, masked=name == "videomae_pretrain")
    if name in PLAIN and shape[2] == 1:
        assert_sent(step, before, shape)


def assert_divided(state, shape):
    """Weights by the rules; the optimiser's state and the moving average as their weights."""
    _, fsdp, tensor = shape
    params = flatten(state.params)
    specs = {path: x.sharding.spec for path, x in params.items()}
    divided = {path for path, spec in specs.items() if any(spec)}
    assert bool(divided) == (fsdp > 1 or tensor > 1 and uses_tensor(params))
    for path, x in params.items():
        could = any(n % fsdp == 0 for n in x.shape) and x.size >= MIN_ELEMENTS_TO_DIVIDE
        if fsdp > 1 and could and "tensor" not in specs[path]:
            assert "fsdp" in specs[path], f"{path} {x.shape}: {specs[path]}"
    assert {path: x.sharding.spec for path, x in flatten(state.ema["params"]).items()} == specs
    followed = 0
    for path, x in jax.tree_util.tree_leaves_with_path(state.opt_state):
        own = next((p for p in specs if path_name(path).endswith("/" + p)), None)
        assert x.sharding.spec == (PartitionSpec() if own is None else specs[own]), path
        followed += own is not None
    assert followed == 2 * len(params)  # Adam's two moments


def uses_tensor(params) -> bool:
    return any("attention/query/kernel" in path for path in params)


def assert_same_shardings(after, before):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(before), strict=True
    ):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim), path_name(path)
        assert x.addressable_shards[0].data.shape == y.sharding.shard_shape(y.shape)


def assert_memory(step, state, batch, shape, *, masked):
    """A device's arguments are its shards of the state and of what the step reads of the batch."""
    names = set(batch) - {ROW} - ({LABEL} if masked else set())
    held = sum(batch[name].nbytes for name in names) // (shape[0] * shape[1])
    assert step.memory_analysis().argument_size_in_bytes == bytes_a_device(state) + held


def assert_sent(step, state, shape):
    """Gradients are summed once, divided weights are gathered; activations would be more."""
    sent = traffic(step.as_text(), int(np.prod(shape)))
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    kinds = {"all-reduce"} if shape[1] == 1 else {"all-reduce", "all-gather"}
    assert set(sent) == kinds
    assert sum(x.bytes for x in sent.values()) < 3 * weights
