"""On eight CPU devices (tests/conftest.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxvid.core.errors import BatchError, ConfigError
from jaxvid.sharding import hosts
from jaxvid.sharding.mesh import batch_shards, check_batch_size, make_mesh
from jaxvid.sharding.rules import partition_spec, path_name, tree_shardings
from jaxvid.train.state import TrainState


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=2, tensor=2)


def test_data_takes_what_is_left(mesh):
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert batch_shards(mesh) == 4
    with pytest.raises(ConfigError, match="mesh.fsdp=3 × mesh.tensor=1 does not divide the 8"):
        make_mesh(fsdp=3)


def test_a_batch_the_mesh_does_not_divide(mesh):
    check_batch_size(8, mesh, accumulate=2, name="data.batch_size")
    with pytest.raises(ConfigError, match=r"data.batch_size=6 .* by 4 = 2 .* use 4 or 8"):
        check_batch_size(6, mesh, name="data.batch_size")
    with pytest.raises(ConfigError, match="use 8"):
        check_batch_size(4, mesh, accumulate=2, name="data.batch_size")


@pytest.mark.parametrize(
    "path, shape, want",
    [
        ("encoder/block_0/attention/query/kernel", (64, 4, 16), P("fsdp", "tensor")),
        ("encoder/blocks/attention/query/kernel", (2, 64, 4, 16), P(None, "fsdp", "tensor")),
        ("encoder/block_0/attention/out/kernel", (4, 16, 64), P("tensor", None, "fsdp")),
        ("encoder/block_0/mlp/fc2/kernel", (256, 64), P("tensor", "fsdp")),
        ("encoder/block_0/attention/query/kernel", (64, 3, 16), P("fsdp")),
        ("encoder/patch_embed/kernel", (2, 16, 16, 3, 64), P(None, None, None, None, "fsdp")),
        ("head/bias", (400,), P()),
        ("head/kernel", (63, 401), P()),
        ("step", (), P()),
    ],
)
def test_rules_by_hand(mesh, path, shape, want):
    assert partition_spec(path, shape, mesh) == want


def test_optimiser_state_follows_its_parameter(mesh):
    kernel = jax.ShapeDtypeStruct((64, 4, 16), jnp.float32)
    params = {"encoder": {"block_0": {"attention": {"query": {"kernel": kernel}}}}}
    state = TrainState(
        jax.ShapeDtypeStruct((), jnp.int32), params, ({"mu": params},), {}, {}, kernel
    )
    specs = {
        path_name(p): s.spec
        for p, s in jax.tree_util.tree_leaves_with_path(tree_shardings(state, mesh))
    }
    query = "encoder/block_0/attention/query/kernel"
    assert specs[f"params/{query}"] == specs[f"opt_state/0/mu/{query}"] == P("fsdp", "tensor")


def test_one_process_reads_everything(mesh):
    assert hosts.data_host(mesh) == (0, 1)


def test_to_global_divides_the_batch_over_data_and_fsdp(mesh):
    batch = {
        "video": np.arange(8 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 1, 2, 4, 4, 3),
        "label": np.zeros((8, 1), np.int32),
        "mask": np.ones(8, bool),
        "row": np.arange(8, dtype=np.int32),
    }
    video = hosts.to_global(batch, mesh)["video"]
    np.testing.assert_array_equal(video, batch["video"])
    assert video.sharding.spec == P(("data", "fsdp"))
    assert {s.data.shape[0] for s in video.addressable_shards} == {2}
    with pytest.raises(BatchError, match="'mask' is missing"):
        hosts.to_global({k: v for k, v in batch.items() if k != "mask"}, mesh)


def test_half_of_the_addresses_is_an_error():
    with pytest.raises(ConfigError, match="belong together.*num_processes=2"):
        hosts.initialize(None, 2, None)
    hosts.initialize(None, None, None)
